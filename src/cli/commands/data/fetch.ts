import { fetchDataset } from '../../../data/fetch.js'
import { optionalNumber, optionalString } from '../../command.js'
import { Meter, formatBytes } from '../../meter.js'
import { facts } from '../../table.js'
import type { DataAction } from '../data.js'

export const fetchAction: DataAction = {
  usage: 'fetch TASK [--dir DIR] [--from URL]',
  words: ['TASK'],
  describe: 'Download the dataset of a DSRL task, or check the one that is there; goes on where it was interrupted',
  options: {
    dir: { requiresArg: true, describe: 'fetch: folder (default $DRCORL_DATA, $DSRL_DATASET_DIR or the cache)' },
    from: { requiresArg: true, describe: "fetch: address of the file (default the catalogue's)" },
    sha256: { requiresArg: true, describe: 'fetch: checksum the file must have' },
    'max-bytes': { requiresArg: true, describe: 'fetch: bytes the file may have (default by the task, or 4 GiB)' },
    overwrite: { boolean: true, describe: 'Replace a file that is there' },
  },

  async run(args, context) {
    const meter = new Meter(context.stderr, String(args['source']), formatBytes)
    try {
      const result = await fetchDataset(String(args['source']), {
        dir: optionalString(args, 'dir'),
        from: optionalString(args, 'from'),
        sha256: optionalString(args, 'sha256'),
        mostBytes: optionalNumber(args, 'max-bytes'),
        overwrite: args['overwrite'] === true,
        signal: context.signal,
        onProgress: (bytes, total) => meter.update(bytes, total),
        onRetry: (note) => meter.note(note),
      })
      const text = facts([
        ['task', result.task],
        ['file', `${result.path}${result.status === 'present' ? ' (was there already)' : ''}`],
        ['size', formatBytes(result.bytes)],
        ['sha256', `${result.sha256} (compared with: ${result.checked})`],
        ['from', result.url],
        ['next', `drcorl train --task ${result.task} --cost-limit 10`],
      ])
      return { json: { ...result }, text }
    } finally {
      meter.close()
    }
  },
}
