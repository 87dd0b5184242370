import { join } from 'node:path'
import { type CalibrationResult, calibrate, calibrateFolders } from '../../benchmark/calibrate.js'
import { CALIBRATION_LEGEND, countTable, skippedWords } from '../../benchmark/calibration-page.js'
import { BenchmarkProgress } from '../../benchmark/progress.js'
import { taskTargets } from '../../benchmark/targets.js'
import { DrcorlError } from '../../base/errors.js'
import { RUN_FLAGS, declareRuns, ending, list, readRuns } from '../benchmark-options.js'
import { type Arguments, type Command, type Context, type Output, optionalString, commandLine } from '../command.js'
import { table } from '../table.js'

/** Evaluation episodes of a policy, unless asked otherwise: a mean of fewer seldom settles who was right. */
const EPISODES = 100

/** Options that say which runs to train; folders have theirs already. */
const OF_TRAINING = ['tasks', 'algorithms', 'preset', 'cost-limits', 'seeds', 'set', 'episodes', 'jobs']

export const calibrateCommand: Command = {
  command: 'calibrate [folders..]',
  describe: 'Put what certificates estimated beside what the environment measured, over many runs',
  interruptible: true,
  builder: (yargs) =>
    declareRuns(
      yargs
        .usage('$0 calibrate --tasks point-circle [--algorithms NAME,..] [--seeds 0,1,2]\n$0 calibrate DIR..')
        .positional('folders', {
          type: 'string',
          describe: 'Folders of runs that were trained and evaluated, such as that of a benchmark',
        }),
      EPISODES,
    )
      .option('certifications', {
        type: 'string',
        array: true,
        requiresArg: true,
        describe:
          'FILE..: what certify --out has said of policies of the folders, in the place of their own certificates',
      })
      .option('out', { requiresArg: true, describe: 'Folder of runs and tables (default runs/calibration)' }),

  async run(args, context) {
    const out = optionalString(args, 'out') ?? join('runs', 'calibration')
    const folders = ([] as string[]).concat((args['folders'] as string[] | undefined) ?? [])
    const certifications = (args['certifications'] as string[] | undefined) ?? []
    if (folders.length === 0 && certifications.length > 0) {
      throw new DrcorlError('Usage', '--certifications speak of runs: name the folders that hold them')
    }
    if (folders.length === 0) return fresh(args, out, context)
    const given = OF_TRAINING.find((name) => args[name] !== undefined)
    if (given !== undefined) {
      throw new DrcorlError('Usage', `--${given} is for training, and ${folders[0]} holds what was trained`)
    }
    const command = [
      'drcorl calibrate',
      ...folders,
      ...(certifications.length > 0 ? ['--certifications', ...certifications] : []),
    ]
    const result = await calibrateFolders(folders, certifications, command.join(' '), out)
    return { json: jsonOf(result), text: describe(result).join('\n\n') }
  },
}

async function fresh(args: Arguments, out: string, { stderr, signal }: Context): Promise<Output> {
  const tasks = list(args, 'tasks')
  if (tasks === undefined) {
    throw new DrcorlError('Usage', 'calibrate needs --tasks, or folders of runs', {
      hint: 'for example: drcorl calibrate --tasks point-circle',
    })
  }
  const progress = new BenchmarkProgress(stderr)
  try {
    const result = await calibrate({
      targets: await taskTargets(tasks),
      ...readRuns(args, EPISODES),
      out,
      signal,
      report: (event) => progress.show(event),
      command: commandLine('calibrate', args, RUN_FLAGS),
    })
    const { done, failures, lines, error, status } = ending(result.benchmark!, signal.aborted)
    const { cells } = result.benchmark!
    const json = { ...jsonOf(result), cells, done, failures, ...(error === undefined ? {} : { error }) }
    return { json, text: [...describe(result), ...lines].join('\n\n'), status }
  } finally {
    progress.close()
  }
}

const jsonOf = ({ counts, rows, skipped, files }: CalibrationResult) => ({ counts, rows, skipped, files })

function describe({ counts, rows, skipped, files }: CalibrationResult): string[] {
  const { header, rows: counted } = countTable(counts)
  const left =
    skipped.length === 0
      ? []
      : [`${skipped.length} ${skipped.length === 1 ? 'run' : 'runs'} left out: ${skippedWords(skipped)}`]
  if (files === null) return [...left, 'no run was both judged and played']
  const written = Object.entries(files).map(([kind, path]) => `${kind.padEnd(9)} ${path}`)
  const wrong = rows.filter(({ outcome }) => outcome === 'false_certified').map(({ run_dir }) => `false: ${run_dir}`)
  return [table(header, counted), CALIBRATION_LEGEND, ...wrong, ...left, written.join('\n')]
}
