import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { type BenchmarkResult, runBenchmark } from '../../benchmark/benchmark.js'
import { BenchmarkProgress } from '../../benchmark/progress.js'
import type { Target } from '../../benchmark/plan.js'
import { terminalTables } from '../../benchmark/tables.js'
import { fileTarget, taskTargets } from '../../benchmark/targets.js'
import { DrcorlError } from '../../base/errors.js'
import { type Arguments, type Command, type Output, optionalNumber, optionalString } from '../command.js'

export const benchmarkCommand: Command = {
  command: 'benchmark',
  describe: 'Train and judge algorithms over tasks, limits and seeds, and write the table',
  interruptible: true,
  builder: (yargs) =>
    yargs
      .usage('$0 benchmark --tasks point-circle [--algorithms NAME,..] [--seeds 0,1,2] [--jobs 2]')
      .option('tasks', { requiresArg: true, describe: 'Tasks with an environment, separated by commas' })
      .option('dataset', { requiresArg: true, describe: 'A dataset alone: policies are judged by models, offline' })
      .option('env', { requiresArg: true, describe: 'With --dataset: the environment that judges' })
      .option('algorithms', { requiresArg: true, describe: 'Default: all (see: drcorl list algorithms)' })
      .option('preset', { requiresArg: true, describe: 'For the algorithms that have it (default the first of each)' })
      .option('cost-limits', { requiresArg: true, describe: "Default the limits of each task's protocol" })
      .option('seeds', { requiresArg: true, describe: 'Default 0,1,2' })
      .option('set', { requiresArg: true, array: true, describe: 'NAME=VALUE or ALGORITHM.NAME=VALUE, a parameter' })
      .option('episodes', { requiresArg: true, describe: 'Evaluation episodes of each policy (default 20)' })
      .option('jobs', { requiresArg: true, describe: 'Runs side by side (default the number of cores)' })
      .option('out', { requiresArg: true, describe: 'Folder of runs and tables (default runs/benchmark)' })
      // The parser keeps the last of repeated options; here all of them count.
      .conflicts('tasks', ['dataset', 'env']),

  async run(args, context) {
    const out = optionalString(args, 'out') ?? join('runs', 'benchmark')
    const progress = new BenchmarkProgress(context.stderr)
    try {
      const result = await runBenchmark({
        targets: await targets(args),
        algorithms: list(args, 'algorithms'),
        preset: optionalString(args, 'preset'),
        cost_limits: costLimits(args),
        seeds: wholes('seeds', list(args, 'seeds') ?? ['0', '1', '2']),
        set: (args['set'] as string[] | undefined) ?? [],
        out,
        judging: { episodes: whole(args, 'episodes', 20), seed: 0 },
        jobs: whole(args, 'jobs', availableParallelism()),
        signal: context.signal,
        report: (event) => progress.show(event),
        command: commandLine(args),
      })
      return output(result, context.signal.aborted)
    } finally {
      progress.close()
    }
  },
}

function output(result: BenchmarkResult, interrupted: boolean): Output {
  const { outcomes, cells, scores, measurements, files } = result
  const failed = outcomes.filter(({ error, status }) => status === 'failed' && error !== null)
  const failures = failed.map(({ cell, error }) => ({
    run_dir: cell.folder,
    code: error!.code,
    message: error!.message,
  }))
  const done = outcomes.filter(({ status }) => status === 'done').length
  const json: Record<string, unknown> = { cells, done, failures, scores, measurements, files }
  const parts = [
    ...(scores.length === 0 ? [] : [terminalTables(scores)]),
    ...(files === null
      ? []
      : [
          Object.entries(files)
            .map(([kind, path]) => `${kind.padEnd(9)} ${path}`)
            .join('\n'),
        ]),
    ...failures.map(({ run_dir, code, message }) => `failed: ${run_dir}: ${code}: ${message}`),
  ]
  if (interrupted) {
    const message = `interrupted with ${done} of ${cells} runs done; the same command goes on`
    return {
      json: { ...json, error: { code: 'Cancelled', message } },
      text: [...parts, message].join('\n\n'),
      status: 130,
    }
  }
  if (failed.length === 0) return { json, text: parts.join('\n\n') }
  const message = `${failed.length} of ${cells} runs failed`
  const [first] = failed
  const status = done === 0 ? first!.error!.exitStatus : 1
  return {
    json: { ...json, error: { code: first!.error!.code, message } },
    text: [...parts, message].join('\n\n'),
    status,
  }
}

async function targets(args: Arguments): Promise<Target[]> {
  const dataset = optionalString(args, 'dataset')
  const tasks = list(args, 'tasks')
  if (dataset !== undefined) return [await fileTarget(dataset, optionalString(args, 'env'))]
  if (tasks !== undefined) return taskTargets(tasks)
  throw new DrcorlError('Usage', 'benchmark needs --tasks or --dataset')
}

function costLimits(args: Arguments): number[] | undefined {
  const texts = list(args, 'cost-limits')
  if (texts !== undefined) return texts.map((text) => number('cost-limits', text, 0))
  if (args['dataset'] === undefined) return undefined
  throw new DrcorlError('Usage', '--dataset names no task whose limits are known: give --cost-limits')
}

function list(args: Arguments, name: string): string[] | undefined {
  const items = optionalString(args, name)?.split(',')
  if (items === undefined) return undefined
  if (items.some((item) => item.trim() === '')) throw new DrcorlError('Usage', `--${name}: an entry is empty`)
  return [...new Set(items.map((item) => item.trim()))]
}

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

function whole(args: Arguments, name: string, otherwise: number): number {
  const value = optionalNumber(args, name) ?? otherwise
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new DrcorlError('Usage', `--${name} ${value} must be a whole number, 1 or more`)
}

/** The command as the reader of a table would type it. */
function commandLine(args: Arguments): string {
  const names = ['tasks', 'dataset', 'env', 'algorithms', 'preset', 'cost-limits', 'seeds', 'set', 'episodes']
  const words = names.flatMap((name) => {
    const values = ([] as unknown[]).concat(args[name] ?? [])
    return values.map((value) => `--${name} ${String(value)}`)
  })
  return ['drcorl benchmark', ...words].join(' ')
}
