import { join } from 'node:path'
import { type BenchmarkResult, runBenchmark } from '../../benchmark/benchmark.js'
import { BenchmarkProgress } from '../../benchmark/progress.js'
import type { Target } from '../../benchmark/plan.js'
import { table1Protocol } from '../../benchmark/protocol.js'
import { terminalTables } from '../../benchmark/tables.js'
import { fileTarget, taskTargets } from '../../benchmark/targets.js'
import { DrcorlError } from '../../base/errors.js'
import { RUN_FLAGS, declareRuns, ending, list, readRuns } from '../benchmark-options.js'
import { type Arguments, type Command, type Output, commandLine, optionalNumber, optionalString } from '../command.js'

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
      .option('protocol', {
        choices: ['table1'],
        describe: "The paper's Table 1: its tasks whose data are present, its limits and seeds, full sizes",
      })
      .option('budget', {
        requiresArg: true,
        describe: 'Multiplies every count of updates of every algorithm (default 1)',
      })
      .option('beside', { choices: ['paper'], describe: "Lay the paper's own table beside the result" })
      .option('out', { requiresArg: true, describe: 'Folder of runs and tables (default runs/benchmark)' })
      .conflicts('tasks', ['dataset', 'env'])
      .conflicts('protocol', ['dataset', 'env']),

  async run(args, context) {
    const out = optionalString(args, 'out') ?? join('runs', 'benchmark')
    const progress = new BenchmarkProgress(context.stderr)
    try {
      const protocol = args['protocol'] === undefined ? null : await table1Protocol(list(args, 'tasks'))
      const runs = readRuns(args, EPISODES)
      if (protocol !== null && protocol.absent.length > 0) progress.note(absentText(protocol.absent))
      const result = await runBenchmark({
        ...runs,
        targets: protocol?.targets ?? (await targets(args)),
        seeds: args['seeds'] === undefined ? (protocol?.seeds ?? runs.seeds) : runs.seeds,
        preset: runs.preset ?? protocol?.preset,
        budget: budget(args),
        beside_paper: args['beside'] !== undefined,
        out,
        signal: context.signal,
        report: (event) => progress.show(event),
        command: commandLine('benchmark', args, [...RUN_FLAGS, 'protocol', 'budget', 'beside']),
      })
      return output(result, protocol?.absent ?? [], context.signal.aborted)
    } finally {
      progress.close()
    }
  },
}

const absentText = (absent: readonly string[]): string =>
  `left out, their data are not on this machine: ${absent.join(', ')}`

function budget(args: Arguments): number | undefined {
  const value = optionalNumber(args, 'budget')
  if (value === undefined || (value > 0 && value <= 100)) return value
  throw new DrcorlError('Usage', `--budget ${value}: give a number above 0 and at most 100`)
}

function output(result: BenchmarkResult, absent: readonly string[], interrupted: boolean): Output {
  const { cells, scores, measurements, ledger, files } = result
  const { done, failures, lines, error, status } = ending(result, interrupted)
  const json = {
    cells,
    done,
    failures,
    absent,
    scores,
    measurements,
    ledger,
    files,
    ...(error === undefined ? {} : { error }),
  }
  const written = Object.entries(files ?? {}).map(([kind, path]) => `${kind.padEnd(9)} ${path}`)
  const left = absent.length === 0 ? [] : [absentText(absent)]
  const parts = [...(scores.length === 0 ? [] : [terminalTables(scores)]), written.join('\n'), ...left, ...lines]
  return { json, text: parts.filter((part) => part !== '').join('\n\n'), status }
}

async function targets(args: Arguments): Promise<Target[]> {
  const dataset = optionalString(args, 'dataset')
  const tasks = list(args, 'tasks')
  if (dataset !== undefined) return [await fileTarget(dataset, optionalString(args, 'env'))]
  if (tasks !== undefined) return taskTargets(tasks)
  throw new DrcorlError('Usage', 'benchmark needs --tasks or --dataset, or --protocol table1')
}
