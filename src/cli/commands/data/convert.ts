import { DrcorlError } from '../../../base/errors.js'
import { describeFinding } from '../../../data/checks.js'
import { type ConvertReport, convertDataset } from '../../../data/operations.js'
import { type Arguments, optionalNumber, optionalString } from '../../command.js'
import { Meter, formatBytes, formatCount } from '../../meter.js'
import { facts } from '../../table.js'
import { MAX_MEMORY_HELP, optionalBytes, optionalDuration } from '../../units.js'
import type { DataAction } from '../data.js'

export const convertAction: DataAction = {
  usage:
    'convert FILE OUTPUT.hdf5 [--map costs=infos/cost timeouts=truncated] [--shift] [--episode COLUMN] [--time COLUMN --max-gap 5m]',
  words: ['FILE', 'OUTPUT.hdf5'],
  describe: 'Minari, other HDF5, .npz, .csv, .tsv or .parquet to a DSRL file; env:NAME writes scripted data',
  options: {
    map: {
      array: true,
      string: true,
      requiresArg: true,
      describe: 'convert: FIELD=NAME in the file; a list (x,y), a * for a number (obs_*), or a number for all rows',
    },
    keep: {
      array: true,
      string: true,
      requiresArg: true,
      describe: 'convert: further columns of one number a step to keep, for limits on other costs',
    },
    shift: { boolean: true, describe: 'convert: successors are the observations of the next row' },
    episode: {
      requiresArg: true,
      describe: 'convert: column that tells episodes (or environments) apart; rows in any order',
    },
    time: { requiresArg: true, describe: 'convert: column of times (seconds, Unix time or ISO 8601)' },
    'max-gap': { requiresArg: true, describe: 'convert: longest step of --time inside an episode, e.g. 5m' },
    'missing-cost': { requiresArg: true, describe: 'convert: cost of the steps that have none' },
    strict: { boolean: true, describe: 'Warnings of the data checks are errors: exit status 2' },
    'max-memory': { requiresArg: true, describe: MAX_MEMORY_HELP },
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
        keep: args['keep'] as string[] | undefined,
        shift: args['shift'] === true,
        episode: optionalString(args, 'episode'),
        time: optionalString(args, 'time'),
        maxGap: optionalDuration(args, 'max-gap'),
        missingCost: optionalNumber(args, 'missing-cost'),
        strict: args['strict'] === true,
        maxMemory: optionalBytes(args, 'max-memory'),
        overwrite: args['overwrite'] === true,
        signal: context.signal,
        // Nothing done is nothing to show: input that is refused at once gets its error alone.
        onProgress: (done, total) => done > 0 && meter.update(done, total),
      })
      return { json: { output, ...report }, text: describe(output, report) }
    } finally {
      meter.close()
    }
  },
}

function readMap(args: Arguments): Record<string, string> {
  const map = new Map<string, string>()
  for (const entry of (args['map'] ?? []) as string[]) {
    const [, field, name] = /^(\w+)=(.+)$/.exec(entry) ?? []
    if (field === undefined || name === undefined) {
      throw new DrcorlError('Usage', `--map "${entry}" is not FIELD=NAME`, { hint: 'for example --map rewards=rew' })
    }
    if (map.has(field)) throw new DrcorlError('Usage', `--map gives ${field} twice: ${map.get(field)} and ${name}`)
    map.set(field, name)
  }
  return Object.fromEntries(map)
}

function describe(output: string, report: ConvertReport): string {
  const { format, episodes, transitions, dropped, ended, gaps, tail, columns, findings } = report
  const parts: [string, string | number][] = [
    ['output', output],
    ['format', format],
    ['episodes', episodes],
    ['transitions', transitions],
    ...Object.entries(columns).map(([field, name]): [string, string] => [field, `from ${name}`]),
  ]
  if (dropped > 0) parts.push(['left out', `${dropped} rows without a successor`])
  if (ended > 0) parts.push(['ended', `${ended} episodes had no end flag and were given a timeout`])
  if (gaps > 0) parts.push(['gaps', `${gaps} episodes were ended at a gap in time`])
  if (tail > 0) parts.push(['cut off', `the last ${tail} rows carry no end flag`])
  const text = facts([...parts, ['next', `drcorl data info ${output}`]])
  return findings.length === 0 ? text : `${text}\n\n${findings.map(describeFinding).join('\n')}`
}
