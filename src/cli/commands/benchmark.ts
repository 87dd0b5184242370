import { join } from 'node:path'
import { type BenchmarkResult, runBenchmark } from '../../benchmark/benchmark.js'
import { BenchmarkProgress } from '../../benchmark/progress.js'
import type { Target } from '../../benchmark/plan.js'
import { terminalTables } from '../../benchmark/tables.js'
import { fileTarget, taskTargets } from '../../benchmark/targets.js'
import { DrcorlError } from '../../base/errors.js'
import { RUN_FLAGS, declareRuns, ending, list, readRuns } from '../benchmark-options.js'
import { type Arguments, type Command, type Output, optionalString, commandLine } from '../command.js'

/** Evaluation episodes of a policy, unless asked otherwise. */
const EPISODES = 20

export const benchmarkCommand: Command = {
  command: 'benchmark',
  describe: 'Train and judge algorithms over tasks, limits and seeds, and write the table',
  interruptible: true,
  builder: (yargs) =>
    declareRuns(
      yargs.usage('$0 benchmark --tasks point-circle [--algorithms NAME,..] [--seeds 0,1,2] [--jobs 2]'),
      EPISODES,
    )
      .option('dataset', { requiresArg: true, describe: 'A dataset alone: policies are judged by models, offline' })
      .option('env', { requiresArg: true, describe: 'With --dataset: the environment that judges' })
      .option('out', { requiresArg: true, describe: 'Folder of runs and tables (default runs/benchmark)' })
      .conflicts('tasks', ['dataset', 'env']),

  async run(args, context) {
    const out = optionalString(args, 'out') ?? join('runs', 'benchmark')
    const progress = new BenchmarkProgress(context.stderr)
    try {
      const result = await runBenchmark({
        targets: await targets(args),
        ...readRuns(args, EPISODES),
        out,
        signal: context.signal,
        report: (event) => progress.show(event),
        command: commandLine('benchmark', args, RUN_FLAGS),
      })
      return output(result, context.signal.aborted)
    } finally {
      progress.close()
    }
  },
}

function output(result: BenchmarkResult, interrupted: boolean): Output {
  const { cells, scores, measurements, files } = result
  const { done, failures, lines, error, status } = ending(result, interrupted)
  const json = { cells, done, failures, scores, measurements, files, ...(error === undefined ? {} : { error }) }
  const written = Object.entries(files ?? {}).map(([kind, path]) => `${kind.padEnd(9)} ${path}`)
  const parts = [...(scores.length === 0 ? [] : [terminalTables(scores)]), written.join('\n'), ...lines]
  return { json, text: parts.filter((part) => part !== '').join('\n\n'), status }
}

async function targets(args: Arguments): Promise<Target[]> {
  const dataset = optionalString(args, 'dataset')
  const tasks = list(args, 'tasks')
  if (dataset !== undefined) return [await fileTarget(dataset, optionalString(args, 'env'))]
  if (tasks !== undefined) return taskTargets(tasks)
  throw new DrcorlError('Usage', 'benchmark needs --tasks or --dataset')
}
