import { basename } from 'node:path'
import { locateDataset } from '../../../data/locate.js'
import { type SplitReport, splitDataset } from '../../../data/operations.js'
import { optionalNumber, optionalString } from '../../command.js'
import { Meter, formatCount } from '../../meter.js'
import { facts } from '../../table.js'
import { MAX_MEMORY_HELP, optionalBytes } from '../../units.js'
import type { DataAction } from '../data.js'

export const splitAction: DataAction = {
  usage: 'split FILE [--by episode] [--share 0.2] [--seed 0] [--out-train A.hdf5] [--out-heldout B.hdf5]',
  words: ['FILE'],
  describe: 'Set whole episodes aside, to judge a policy by what its training has not seen',
  options: {
    by: { choices: ['episode'], describe: 'split: what stays together' },
    share: { requiresArg: true, describe: 'split: share of the episodes to set aside (default 0.2)' },
    seed: { requiresArg: true, describe: 'filter, split: seed of all draws (default 0)' },
    'out-train': { requiresArg: true, describe: 'split: file to learn from (default FILE-train.hdf5, here)' },
    'out-heldout': { requiresArg: true, describe: 'split: file to judge by (default FILE-heldout.hdf5, here)' },
    'max-memory': { requiresArg: true, describe: MAX_MEMORY_HELP },
    overwrite: { boolean: true, describe: 'Replace a file that is there' },
  },

  async run(args, context) {
    const named = String(args['source'])
    const source = named.startsWith('task:') ? await locateDataset(named.slice('task:'.length)) : named
    const stem = basename(source).replace(/\.(hdf5|h5)$/i, '')
    const train = optionalString(args, 'out-train') ?? `${stem}-train.hdf5`
    const held_out = optionalString(args, 'out-heldout') ?? `${stem}-heldout.hdf5`
    const meter = new Meter(context.stderr, 'rows written', formatCount)
    try {
      const report = await splitDataset(
        source,
        { train, held_out },
        {
          share: optionalNumber(args, 'share'),
          seed: optionalNumber(args, 'seed'),
          maxMemory: optionalBytes(args, 'max-memory'),
          overwrite: args['overwrite'] === true,
          signal: context.signal,
          // Nothing done is nothing to show: input that is refused at once gets its error alone.
          onProgress: (done, total) => done > 0 && meter.update(done, total),
        },
      )
      return { json: { out_train: train, out_heldout: held_out, ...report }, text: describe(train, held_out, report) }
    } finally {
      meter.close()
    }
  },
}

function describe(train: string, heldOut: string, report: SplitReport): string {
  const part = ({ episodes, transitions }: SplitReport['train']): string =>
    `${episodes} episodes, ${transitions} transitions`
  return facts([
    ['to learn from', `${train}  ${part(report.train)}`],
    ['to judge by', `${heldOut}  ${part(report.held_out)}`],
    ...(report.tail === 0
      ? []
      : [['tail', `${report.tail} rows after the last end flag, in ${train}`] as [string, string]]),
    ['next', `drcorl train --dataset ${train}; then drcorl certify RUN --dataset ${heldOut}`],
  ])
}
