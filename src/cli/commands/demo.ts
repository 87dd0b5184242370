import { join } from 'node:path'
import { DrcorlError } from '../../base/errors.js'
import { loadSchema, parametersFor } from '../../config/schema.js'
import { type Dataset, loadDataset } from '../../data/dataset.js'
import { environmentSteps } from '../../envs/ledger.js'
import { findEnv } from '../../envs/registry.js'
import { evaluate } from '../../evaluate/evaluate.js'
import { type ComparisonRow, comparisonRow } from '../../report/compare.js'
import { compareReport, writeReport } from '../../report/report.js'
import { readRun } from '../../report/run-data.js'
import { comparisonTable } from '../../report/terminal.js'
import type { EndEvent } from '../../train/events.js'
import { train } from '../../train/experiment.js'
import { Progress, formatSeconds } from '../../train/progress.js'
import { RUN_FILES } from '../../train/run-folder.js'
import { type Command, type Context, optionalNumber, optionalString } from '../command.js'
import { profileText } from '../profile.js'

const ENVIRONMENT = 'point-circle'
/** Two that only imitate, then ours: what the limit costs and what learning under it wins. */
const ALGORITHMS = ['bc', 'bc_safe', 'drcorl']
/** Trained side by side on two cores; ours takes longest and is the one whose progress is shown. */
const LANES = [['bc', 'bc_safe'], ['drcorl']]
const SHOWN = 'drcorl'
const PRESET = 'quick'
/** Of every phase, with --short: enough to pass through all code, not to learn. */
const SHORT_STEPS = 40

const NOTES = [
  'return, cost: mean ± standard deviation over episodes; within limit: episodes with cost at most the limit',
  'norm. reward: (R - Rmin) / (Rmax - Rmin); norm. cost: C / limit; env. steps: environment steps used in training',
]

interface Settings {
  out: string
  seed: number
  episodes: number
  cost_limit: number
  short: boolean
  profile: boolean
}

/** One run, for the table and for `--json`. */
interface Measured {
  row: ComparisonRow
  json: Record<string, unknown>
}

export const demoCommand: Command = {
  command: 'demo',
  describe: 'The whole job on an embedded task: make data, train three algorithms, evaluate, compare',
  interruptible: true,
  builder: (yargs) =>
    yargs
      .usage('$0 demo [--cost-limit 10] [--seed 0] [--out DIR]')
      .option('cost-limit', { requiresArg: true, describe: 'Limit of the episodic cost (default 10)' })
      .option('seed', { requiresArg: true, describe: 'Seed of the training (default 0)' })
      .option('episodes', { requiresArg: true, describe: 'Evaluation episodes of each policy (default 20)' })
      .option('out', { requiresArg: true, describe: 'Folder of the runs and the report (default runs/demo-<time>)' })
      .option('short', {
        boolean: true,
        describe: 'Seconds instead of minutes: does the installation work? Learns nothing',
      })
      .option('profile', {
        boolean: true,
        describe: `Show where the time of ${SHOWN} goes; profile.json in every run folder`,
      }),

  async run(args, context) {
    const started = performance.now()
    const settings: Settings = {
      out: optionalString(args, 'out') ?? defaultFolder(),
      seed: optionalNumber(args, 'seed') ?? 0,
      episodes: optionalNumber(args, 'episodes') ?? 20,
      cost_limit: optionalNumber(args, 'cost-limit') ?? findEnv(ENVIRONMENT)!.default_cost_limit,
      short: args['short'] === true,
      profile: args['profile'] === true,
    }
    // Before the minutes of training, not after them.
    if (!Number.isSafeInteger(settings.episodes) || settings.episodes < 1) {
      throw new DrcorlError('Usage', `--episodes ${settings.episodes} must be a whole number, 1 or more`)
    }
    const dataset = await loadDataset(`env:${ENVIRONMENT}`)
    const ends = await trainAll(dataset, settings, context)
    const stopped = ends.find(({ status }) => status === 'interrupted')
    if (stopped !== undefined) return interrupted(stopped)
    // Only now, so that the ledger of environment steps still reads what training alone has taken.
    const folders = ALGORITHMS.map((algorithm) => join(settings.out, algorithm))
    const measured: Measured[] = []
    for (const folder of folders) measured.push(await measure(folder, settings, context))
    const report = join(settings.out, RUN_FILES.report)
    await compareReport(folders, report)
    const seconds = (performance.now() - started) / 1000
    const profile = ends.find(({ run_dir }) => run_dir === join(settings.out, SHOWN))?.profile ?? null
    const text = [
      ...(profile === null ? [] : [`${SHOWN}, beside the others\n${profileText(profile)}`]),
      `${ENVIRONMENT}, cost limit ${settings.cost_limit}, ${settings.episodes} episodes each, ${formatSeconds(seconds)} in all`,
      comparisonTable(measured.map(({ row }) => row)),
      [
        ...NOTES,
        ...(settings.short ? [`--short: at most ${SHORT_STEPS} steps a phase, the numbers mean nothing`] : []),
      ].join('\n'),
      `run folders  ${folders.join('  ')}\nreport       ${report}`,
    ].join('\n\n')
    const runs = measured.map(({ json }) => json)
    const json = { env: ENVIRONMENT, ...settings, profile, runs, report, wall_seconds: seconds }
    return { json, text }
  },
}

/**
 * Trains the lanes side by side; the first failure stops the others.
 * The ledger proves that none took an environment step.
 */
async function trainAll(dataset: Dataset, settings: Settings, context: Context): Promise<EndEvent[]> {
  const before = environmentSteps()
  const failure = new AbortController()
  const signal = AbortSignal.any([context.signal, failure.signal])
  const progress = new Progress(context.stderr)
  const lanes = LANES.map(async (lane) => {
    const ends: EndEvent[] = []
    for (const algorithm of lane) {
      if (signal.aborted) break
      ends.push(await trainOne(algorithm, dataset, settings, { signal, progress }))
    }
    return ends
  })
  const settled = await Promise.allSettled(
    lanes.map((lane) =>
      lane.catch((error: unknown) => {
        failure.abort()
        throw error
      }),
    ),
  )
  for (const result of settled) if (result.status === 'rejected') throw result.reason
  const steps = environmentSteps() - before
  if (steps !== 0) throw new DrcorlError('Internal', `training took ${steps} environment steps`)
  return settled.flatMap((result) => (result.status === 'fulfilled' ? result.value : []))
}

async function trainOne(
  algorithm: string,
  dataset: Dataset,
  settings: Settings,
  { signal, progress }: { signal: AbortSignal; progress: Progress },
): Promise<EndEvent> {
  const { cost_limit, seed, short, profile } = settings
  const config = { ...(short ? fewSteps(algorithm) : {}), cost_limit, seed }
  const out = join(settings.out, algorithm)
  let end: EndEvent | undefined
  for await (const event of train({ dataset, algorithm, preset: PRESET, config, out, signal, profile })) {
    if (algorithm === SHOWN) progress.show(event)
    if (event.type === 'end') end = event
  }
  if (end === undefined) throw new DrcorlError('Internal', 'training ended without an end event')
  if (algorithm !== SHOWN && end.status === 'done') {
    progress.note(`${algorithm}: done, ${end.steps} steps in ${formatSeconds(end.wall_seconds)}, beside ${SHOWN}`)
  }
  return end
}

/** Numbers of steps end in `_steps`, whatever the algorithm. */
function fewSteps(algorithm: string): Record<string, number> {
  const names = parametersFor(loadSchema(), algorithm).map(({ name }) => name)
  return Object.fromEntries(names.filter((name) => name.endsWith('_steps')).map((name) => [name, SHORT_STEPS]))
}

/** Evaluates a run, writes its report and reads its row of the table back from the folder. */
async function measure(run: string, { episodes }: Settings, { signal }: Context): Promise<Measured> {
  await evaluate({ run, episodes, signal })
  await writeReport(run)
  const data = await readRun(run)
  const { record, evaluation, certificate, result } = data
  return {
    row: comparisonRow(data),
    json: {
      algorithm: record.algorithm,
      run_dir: run,
      verdict: certificate?.verdict ?? null,
      training_environment_steps: result?.environment_steps?.training ?? null,
      training_seconds: result?.wall_seconds ?? null,
      evaluation,
    },
  }
}

function interrupted(end: EndEvent): Awaited<ReturnType<Command['run']>> {
  const message = `interrupted at step ${end.step} of ${end.steps}; go on with: drcorl train --resume ${end.run_dir}`
  return { json: { run_dir: end.run_dir, error: { code: 'Cancelled', message } }, text: message, status: 130 }
}

function defaultFolder(): string {
  const time = new Date().toISOString().replace(/\..*$/, '').replace(/[-:]/g, '').replace('T', '-')
  return join('runs', `demo-${time}`)
}
