import { DrcorlError } from '../../../base/errors.js'
import { type FilterOptions, type FilterReport, filterDataset } from '../../../data/operations.js'
import type { DensityGrid } from '../../../data/tasks.js'
import { type Arguments, optionalNumber, optionalString } from '../../command.js'
import { Meter, formatCount } from '../../meter.js'
import { facts, table } from '../../table.js'
import { MAX_MEMORY_HELP, optionalBytes } from '../../units.js'
import type { DataAction } from '../data.js'

export const filterAction: DataAction = {
  usage:
    'filter FILE OUTPUT.hdf5 [--density 0.5] [--outliers 0.1] [--inpaint 0,0.3,0.5,1] [--epsilon 50] [--noise 0.1]',
  words: ['FILE', 'OUTPUT.hdf5'],
  describe: "DSRL's pre-processing, in this order: density, outliers, inpaint, epsilon, noise",
  options: {
    density: {
      requiresArg: true,
      describe: "filter: a preset of the task (0.25, 0.5, 0.75), or 'COSTxRETURN:most:least'",
    },
    outliers: { requiresArg: true, describe: 'filter: fraction of episodes to make look safe and good' },
    inpaint: {
      requiresArg: true,
      describe: 'filter: windows to remove, FROM,TO of cost,FROM,TO of return; several by ;',
    },
    epsilon: {
      requiresArg: true,
      describe: 'filter: remove the best safe episodes (above 0) or unsafe ones (below 0)',
    },
    noise: { requiresArg: true, describe: 'filter: noise on observations, in their standard deviations' },
    'cost-limit': { requiresArg: true, describe: 'Episodic cost up to which an episode is safe' },
    seed: { requiresArg: true, describe: 'filter, split: seed of all draws (default 0)' },
    rules: { choices: ['fixed', 'dsrl'], describe: 'filter: dsrl keeps the faults of the published code' },
    task: { requiresArg: true, describe: 'DSRL task of the data (default: what the file name tells)' },
    'max-memory': { requiresArg: true, describe: MAX_MEMORY_HELP },
    overwrite: { boolean: true, describe: 'Replace a file that is there' },
  },

  async run(args, context) {
    const [source, output] = [String(args['source']), String(args['output'])]
    const meter = new Meter(context.stderr, 'rows written', formatCount)
    const options = { ...readOptions(args), signal: context.signal }
    try {
      const report = await filterDataset(source, output, {
        ...options,
        // Nothing done is nothing to show: input that is refused at once gets its error alone.
        onProgress: (done, total) => done > 0 && meter.update(done, total),
      })
      return { json: { output, ...report }, text: describe(output, report) }
    } finally {
      meter.close()
    }
  },
}

function readOptions(args: Arguments): FilterOptions {
  return {
    seed: optionalNumber(args, 'seed'),
    rules: optionalString(args, 'rules') as FilterOptions['rules'],
    cost_limit: optionalNumber(args, 'cost-limit'),
    density: readDensity(optionalString(args, 'density')),
    outliers: optionalNumber(args, 'outliers'),
    inpaint: readWindows(optionalString(args, 'inpaint')),
    epsilon: optionalNumber(args, 'epsilon'),
    noise: optionalNumber(args, 'noise'),
    task: optionalString(args, 'task'),
    maxMemory: optionalBytes(args, 'max-memory'),
    overwrite: args['overwrite'] === true,
  }
}

/** `0.5` or `10x20:5:2`. */
function readDensity(text: string | undefined): number | DensityGrid | undefined {
  if (text === undefined) return undefined
  const grid = /^(\d+)x(\d+):(\d+):(\d+)$/.exec(text)
  if (grid !== null) {
    const [cost_bins = 0, return_bins = 0, most = 0, least = 0] = grid.slice(1).map(Number)
    return { cost_bins, return_bins, most, least }
  }
  if (/^\d*\.?\d+$/.test(text)) return Number(text)
  throw new DrcorlError('Usage', `--density "${text}" is neither a preset nor a grid`, {
    hint: 'for example 0.5, or 10x20:5:2 (cost bins x return bins : most : least)',
  })
}

/** `0,0.3,0.5,1;0.5,1,0,1`. */
function readWindows(text: string | undefined): [number, number, number, number][] | undefined {
  return text?.split(';').map((window) => {
    const [a, b, c, d, ...more] = window.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
    const numbers = [a, b, c, d] as [number, number, number, number]
    if (numbers.every(Number.isFinite) && more.length === 0) return numbers
    throw new DrcorlError('Usage', `--inpaint "${window}" is not four numbers`, {
      hint: 'fractions of 0 to 1: cost from, cost to, return from, return to',
    })
  })
}

function describe(output: string, report: FilterReport): string {
  const { episodes_before, episodes, transitions_before, transitions } = report
  const summary = facts([
    ['output', output],
    ['episodes', `${episodes} of ${episodes_before}`],
    ['transitions', `${transitions} of ${transitions_before}`],
    ['next', `drcorl data info ${output}`],
  ])
  if (report.steps.length === 0) return `${summary}\n\nno step was asked for: this is a copy`
  const steps = table(
    ['step', 'removed', 'changed', 'note'],
    report.steps.map((step) => [step.step, step.removed, step.changed, step.note]),
  )
  return `${summary}\n\n${steps}`
}
