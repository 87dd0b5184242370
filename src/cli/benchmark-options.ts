/** What the commands of many runs have in common: options of which runs, and how a benchmark ended. */
import { availableParallelism } from 'node:os'
import type { Argv } from 'yargs'
import { DrcorlError } from '../base/errors.js'
import type { BenchmarkResult, RunBenchmarkOptions } from '../benchmark/benchmark.js'
import { type Arguments, optionalNumber, optionalString } from './command.js'

/** Declares the options that say which runs. */
export const declareRuns = (yargs: Argv, episodes: number): Argv =>
  yargs
    .option('tasks', { requiresArg: true, describe: 'Tasks with an environment, separated by commas' })
    .option('algorithms', { requiresArg: true, describe: 'Default: all (see: drcorl list algorithms)' })
    .option('preset', {
      requiresArg: true,
      describe: 'NAME,..: the first that an algorithm has (default its own first)',
    })
    .option('cost-limits', { requiresArg: true, describe: "Default the limits of each task's protocol" })
    .option('seeds', { requiresArg: true, describe: 'Default 0,1,2' })
    // The parser keeps the last of repeated options; here all of them count.
    .option('set', { requiresArg: true, array: true, describe: 'NAME=VALUE or ALGORITHM.NAME=VALUE, a parameter' })
    .option('episodes', { requiresArg: true, describe: `Evaluation episodes of each policy (default ${episodes})` })
    .option('jobs', { requiresArg: true, describe: 'Runs side by side (default the number of cores)' })

/** The runs that these options ask for. */
export const readRuns = (
  args: Arguments,
  episodes: number,
): Pick<RunBenchmarkOptions, 'algorithms' | 'preset' | 'cost_limits' | 'seeds' | 'set' | 'judging' | 'jobs'> => ({
  algorithms: list(args, 'algorithms'),
  preset: optionalString(args, 'preset'),
  cost_limits: costLimits(args),
  seeds: wholes('seeds', list(args, 'seeds') ?? ['0', '1', '2']),
  set: (args['set'] as string[] | undefined) ?? [],
  judging: { episodes: whole(args, 'episodes', episodes), seed: 0 },
  jobs: whole(args, 'jobs', availableParallelism()),
})

/** The options that decide the numbers of a table. */
export const RUN_FLAGS = ['tasks', 'dataset', 'env', 'algorithms', 'preset', 'cost-limits', 'seeds', 'set', 'episodes']

/** Which runs of a benchmark failed, how it ended where it did not end well, and its exit status. */
export function ending({ outcomes, cells }: Pick<BenchmarkResult, 'outcomes' | 'cells'>, interrupted: boolean) {
  const failed = outcomes.filter(({ error, status }) => status === 'failed' && error !== null)
  const failures = failed.map(({ cell, error }) => ({
    run_dir: cell.folder,
    code: error!.code,
    message: error!.message,
  }))
  const done = outcomes.filter(({ status }) => status === 'done').length
  const lines = failures.map(({ run_dir, code, message }) => `failed: ${run_dir}: ${code}: ${message}`)
  if (interrupted) {
    const message = `interrupted with ${done} of ${cells} runs done; the same command goes on`
    return { done, failures, lines: [...lines, message], error: { code: 'Cancelled', message }, status: 130 }
  }
  const [first] = failed
  if (first === undefined) return { done, failures, lines, error: undefined, status: 0 }
  const message = `${failed.length} of ${cells} runs failed`
  const status = done === 0 ? first.error!.exitStatus : 1
  return { done, failures, lines: [...lines, message], error: { code: first.error!.code, message }, status }
}

/** Limits asked for; those of the targets where none are. */
function costLimits(args: Arguments): number[] | undefined {
  const texts = list(args, 'cost-limits')
  if (texts !== undefined) return texts.map((text) => number('cost-limits', text, 0))
  if (args['dataset'] === undefined) return undefined
  throw new DrcorlError('Usage', '--dataset names no task whose limits are known: give --cost-limits')
}

/** Words separated by commas, each once. */
export function list(args: Arguments, name: string): string[] | undefined {
  const items = optionalString(args, name)?.split(',')
  if (items === undefined) return undefined
  if (items.some((item) => item.trim() === '')) throw new DrcorlError('Usage', `--${name}: an entry is empty`)
  return [...new Set(items.map((item) => item.trim()))]
}

/** Whole numbers, 0 or more. */
const wholes = (name: string, texts: readonly string[]): number[] =>
  texts.map((text) => {
    const value = number(name, text, 0)
    if (Number.isSafeInteger(value)) return value
    throw new DrcorlError('Usage', `--${name}: ${text} is not a whole number`)
  })

function number(name: string, text: string, least: number): number {
  const value = text === '' ? Number.NaN : Number(text)
  if (Number.isFinite(value) && value >= least) return value
  throw new DrcorlError('Usage', `--${name}: "${text}" is not a number, ${least} or more`)
}

/** A whole number, 1 or more. */
export function whole(args: Arguments, name: string, otherwise: number): number {
  const value = optionalNumber(args, name) ?? otherwise
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new DrcorlError('Usage', `--${name} ${value} must be a whole number, 1 or more`)
}
