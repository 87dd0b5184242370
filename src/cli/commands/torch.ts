import { installLibtorch } from '../../native/torch-install.js'
import { type Command, optionalString } from '../command.js'
import { Meter, formatBytes } from '../meter.js'
import { facts } from '../table.js'

export const torchCommand: Command = {
  command: 'torch <action>',
  describe: 'Install libtorch, which training needs: drcorl torch install',
  interruptible: true,
  builder: (yargs) =>
    yargs
      .usage('$0 torch install [--cuda cu130] [--from FILE|URL] [--sha256 HEX] [--dir DIR]')
      .positional('action', { choices: ['install'], describe: 'What to do' })
      .option('cuda', { requiresArg: true, describe: 'A build for this CUDA, such as cu130 (default the CPU build)' })
      .option('from', { requiresArg: true, describe: 'Archive to take instead: a file, or an http(s) address' })
      .option('sha256', { requiresArg: true, describe: 'Checksum of the archive; an address needs it' })
      .option('dir', { requiresArg: true, describe: 'Folder to install to (default in the cache, where drcorl looks)' })
      .option('overwrite', { boolean: true, describe: 'Replace the libtorch that is there' }),

  async run(args, context) {
    const meters = {
      download: new Meter(context.stderr, 'download', formatBytes),
      unpack: new Meter(context.stderr, 'unpack', formatBytes),
    }
    try {
      const result = await installLibtorch({
        cuda: optionalString(args, 'cuda'),
        from: optionalString(args, 'from'),
        sha256: optionalString(args, 'sha256'),
        dir: optionalString(args, 'dir'),
        overwrite: args['overwrite'] === true,
        signal: context.signal,
        onProgress: (stage, done, total) => meters[stage].update(done, total),
        onRetry: (note) => meters.download.note(note),
      })
      const text = facts([
        ['libtorch', `${result.version}, ${result.cuda ? 'with CUDA' : 'CPU only'}`],
        ['folder', `${result.folder}${result.status === 'present' ? ' (was there already)' : ''}`],
        ['from', result.from ?? 'unknown'],
        ['sha256', result.sha256 ?? (result.from === null ? 'unknown' : 'of each wheel, as pinned')],
        ['next', result.found_by_default ? 'drcorl doctor' : `DRCORL_LIBTORCH=${result.folder} drcorl doctor`],
      ])
      return { json: { ...result }, text }
    } finally {
      meters.download.close()
      meters.unpack.close()
    }
  },
}
