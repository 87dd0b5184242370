import { writeAtomic } from '../../base/files.js'
import { DrcorlError } from '../../base/errors.js'
import { theoryPage } from '../../theory/page.js'
import { type TheoryOptions, type TheoryResult, DEFAULTS, checkTheory } from '../../theory/theory.js'
import {
  type Arguments,
  type Command,
  commandLine,
  optionalNumber,
  optionalNumbers,
  optionalString,
} from '../command.js'
import { Meter } from '../meter.js'
import { table } from '../table.js'

/** What decides the numbers of a page. */
const FLAGS = ['sizes', 'instances', 'gamma', 'iterations', 'critic-error', 'pairs', 'seed']

export const theoryCommand: Command = {
  command: 'theory',
  describe: "Check the paper's theory by number, on finite decision processes",
  interruptible: true,
  builder: (yargs) =>
    yargs
      .usage('$0 theory [--sizes 4x3,10x4] [--iterations 100,1000] [--out theory.html]')
      .option('sizes', {
        requiresArg: true,
        describe: 'States x actions of the random processes (default 4x3,10x4,20x5)',
      })
      .option('instances', { requiresArg: true, describe: `Processes of each size (default ${DEFAULTS.instances})` })
      .option('gamma', { requiresArg: true, describe: `Discount (default ${DEFAULTS.gamma})` })
      .option('iterations', { requiresArg: true, describe: 'Of Algorithm 2, increasing (default 100,1000,10000)' })
      .option('critic-error', { requiresArg: true, describe: 'Errors of the critics (default 0,0.01,0.03,0.1)' })
      .option('pairs', {
        requiresArg: true,
        describe: `Pairs of policies for Proposition 3.1 (default ${DEFAULTS.pairs})`,
      })
      .option('seed', { requiresArg: true, describe: 'Seed of every draw (default 0)' })
      .option('out', { requiresArg: true, describe: 'Page with the figures (default: none is written)' }),

  async run(args, context) {
    const options = read(args)
    const meter = new Meter(context.stderr, 'theory', (share) => `${(100 * share).toFixed(0)} %`)
    let result: TheoryResult
    try {
      result = await checkTheory(options, (share) => meter.update(share, 1), context.signal)
    } finally {
      meter.close()
    }
    const out = optionalString(args, 'out')
    if (out !== undefined) await writeAtomic(out, theoryPage(result, `npx ${commandLine('theory', args, FLAGS)}`))
    const { statements, infeasible } = result
    const rows = statements.map(({ name, verdict, found }) => [name, verdict, found])
    const text = [
      table(['statement', 'verdict', 'found'], rows),
      ...statements.filter(({ remark }) => remark !== '').map(({ name, remark }) => `${name}: ${remark}`),
      ...(infeasible.length > 0 ? [`left out, no policy is within the limit: ${infeasible.join(', ')}`] : []),
      ...(out === undefined ? [] : [`page: ${out}`]),
    ]
    return {
      json: { options, statements, infeasible, ...(out === undefined ? {} : { page: out }) },
      text: text.join('\n'),
    }
  },
}

function read(args: Arguments): TheoryOptions {
  const iterations = numbers(args, 'iterations', DEFAULTS.iterations, { least: 2, most: 1e6, whole: true })
  if (iterations.some((count, k) => k > 0 && count <= iterations[k - 1]!)) {
    throw new DrcorlError('Usage', `--iterations ${iterations.join(',')} must increase`)
  }
  const errors = numbers(args, 'critic-error', DEFAULTS.critic_errors, { least: 0, most: 1e3 })
  return {
    sizes: sizes(optionalString(args, 'sizes')),
    instances: one(args, 'instances', DEFAULTS.instances, { least: 1, most: 100, whole: true }),
    gamma: one(args, 'gamma', DEFAULTS.gamma, { least: 0.1, most: 0.99 }),
    iterations,
    critic_errors: errors.includes(0) ? errors : [0, ...errors],
    pairs: one(args, 'pairs', DEFAULTS.pairs, { least: 1, most: 1e6, whole: true }),
    seed: one(args, 'seed', DEFAULTS.seed, { least: 0, most: Number.MAX_SAFE_INTEGER, whole: true }),
  }
}

interface Range {
  least: number
  most: number
  whole?: boolean
}

function checked(name: string, value: number, { least, most, whole }: Range): number {
  if (value >= least && value <= most && (!whole || Number.isInteger(value))) return value
  throw new DrcorlError(
    'Usage',
    `--${name} ${value}: give ${whole ? 'a whole number' : 'a number'} from ${least} to ${most}`,
  )
}

function one(args: Arguments, name: string, fallback: number, range: Range): number {
  return checked(name, optionalNumber(args, name) ?? fallback, range)
}

function numbers(args: Arguments, name: string, fallback: readonly number[], range: Range): number[] {
  return optionalNumbers(args, name)?.map((value) => checked(name, value, range)) ?? [...fallback]
}

/** `4x3,10x4` as pairs; more states would make an exact evaluation slow. */
function sizes(given: string | undefined): TheoryOptions['sizes'] {
  if (given === undefined) return DEFAULTS.sizes
  return given.split(',').map((part) => {
    const [, states, actions] = /^(\d+)x(\d+)$/.exec(part.trim()) ?? []
    if (states === undefined) throw new DrcorlError('Usage', `--sizes "${part}" is not of the form STATESxACTIONS`)
    const range = { least: 2, most: 100, whole: true }
    return [checked('sizes', Number(states), range), checked('sizes', Number(actions), { ...range, most: 20 })] as const
  })
}
