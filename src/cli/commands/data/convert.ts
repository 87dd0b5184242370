import { DrcorlError } from '../../../base/errors.js'
import { type ConvertReport, convertDataset } from '../../../data/operations.js'
import type { Arguments } from '../../command.js'
import { Meter, formatBytes, formatCount } from '../../meter.js'
import { facts } from '../../table.js'
import type { DataAction } from '../data.js'

export const convertAction: DataAction = {
  usage: 'convert FILE OUTPUT.hdf5 [--map costs=infos/cost timeouts=truncated]',
  words: ['FILE', 'OUTPUT.hdf5'],
  describe: 'Minari, other HDF5, .npz, .csv, .tsv or .parquet to a DSRL file; env:NAME writes scripted data',
  options: {
    map: {
      array: true,
      string: true,
      requiresArg: true,
      describe: 'convert: FIELD=NAME in the file; a list (x,y), a * for a number (obs_*), or a number for all rows',
    },
    shift: { boolean: true, describe: 'convert: successors are the observations of the next row' },
    overwrite: { boolean: true, describe: 'Replace a file that is there' },
  },

  async run(args, context) {
    const [source, output] = [String(args['source']), String(args['output'])]
    const meter = source.startsWith('env:')
      ? new Meter(context.stderr, 'rows written', formatCount)
      : new Meter(context.stderr, 'read', formatBytes)
    try {
      const report = await convertDataset(source, output, {
        map: readMap(args),
        shift: args['shift'] === true,
        overwrite: args['overwrite'] === true,
        signal: context.signal,
        onProgress: (done, total) => total > 0 && meter.update(done, total),
      })
      return { json: { output, ...report }, text: describe(output, report) }
    } finally {
      meter.close()
    }
  },
}

function readMap(args: Arguments): Record<string, string> {
  const map: Record<string, string> = {}
  for (const entry of (args['map'] ?? []) as string[]) {
    const [, field, name] = /^(\w+)=(.+)$/.exec(entry) ?? []
    if (field === undefined || name === undefined) {
      throw new DrcorlError('Usage', `--map "${entry}" is not FIELD=NAME`, { hint: 'for example --map rewards=rew' })
    }
    if (field in map) throw new DrcorlError('Usage', `--map gives ${field} twice: ${map[field]} and ${name}`)
    map[field] = name
  }
  return map
}

function describe(output: string, report: ConvertReport): string {
  const { format, episodes, transitions, dropped, ended, tail, columns } = report
  const parts: [string, string | number][] = [
    ['output', output],
    ['format', format],
    ['episodes', episodes],
    ['transitions', transitions],
    ...Object.entries(columns).map(([field, name]): [string, string] => [field, `from ${name}`]),
  ]
  if (dropped > 0) parts.push(['left out', `${dropped} rows without a successor`])
  if (ended > 0) parts.push(['ended', `${ended} episodes had no end flag and were given a timeout`])
  if (tail > 0) parts.push(['cut off', `the last ${tail} rows carry no end flag`])
  return facts([...parts, ['next', `drcorl data info ${output}`]])
}
