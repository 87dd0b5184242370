/**
 * Training as a generator of events.
 *
 * Words used here: a *step* is one gradient step of the algorithm as its phase defines it; a *phase* is a stage of the
 * algorithm with its own number of steps; a *call* is one native task of some steps, whose number never changes a result;
 * a *row* is one line of metrics.csv.
 */
import { join } from 'node:path'
import { readConfigFile, resolveConfig } from '../config/load.js'
import type { AlgorithmName, Parameters, RunConfig } from '../config/types.js'
import { type Dataset, loadDataset } from '../data/dataset.js'
import { environmentOfVisits } from '../data/environments.js'
import type { EnvFactory } from '../envs/env.js'
import { environmentSteps } from '../envs/ledger.js'
import { DrcorlError } from '../errors.js'
import { writeJson } from '../files.js'
import type { NativeColumns } from '../native/dataset.js'
import type { ChosenDevice } from '../native/device.js'
import { type Certificate, Trainer, type TrainerStatus } from '../native/trainer.js'
import { MetricsLog, MetricsMean } from './metrics.js'
import { Pace } from './pace.js'
import { resumeSession } from './resume.js'
import {
  RUN_FILES,
  type RunRecord,
  type RunResult,
  createRunFolder,
  defaultRunFolder,
  makeRecord,
  statedEpisodeLength,
  writeDatasetEpisodes,
  writeRecord,
} from './run-folder.js'
import { type VisitResult, Visitor } from './visits.js'

/** Parameters of every run and of one algorithm, by their snake_case names. */
export type ParameterValues = {
  [Name in AlgorithmName]: Partial<RunConfig & Parameters['algorithms'][Name]>
}[AlgorithmName]

/** What to train on, with which parameters, and where to. */
export interface TrainOptions {
  /** HDF5 path, `task:NAME`, `env:NAME`, columns, or a loaded dataset. May be left out with `resume`: config.json names it. */
  dataset?: string | NativeColumns | Dataset | undefined
  /** Default `drcorl`; any name is checked against the registry when training starts. */
  algorithm?: AlgorithmName | (string & {}) | undefined
  /** Default `quick` where the algorithm has it; `none` for the defaults alone. */
  preset?: string | undefined
  /** Path of a YAML or JSON file of parameters. */
  configFile?: string | undefined
  /**
   * Environment of the hybrid modes: a name (embedded, DSRL task, `module:Id`) or a factory; default that of the data. Mode offline
   * opens none.
   */
  environment?: string | EnvFactory | undefined
  /** Parameters by their names, e.g. `{ cost_limit: 10, seed: 0 }`; they win over file and preset. */
  config?: ParameterValues | undefined
  /** Run folder; default `runs/<algorithm>-<dataset>-l<limit>-s<seed>-<time>`. */
  out?: string | undefined
  /** Go on with the run in `out`. */
  resume?: boolean | undefined
  /** Replace the run in `out`. */
  overwrite?: boolean | undefined
  /** Aborting writes a checkpoint and ends the generator with an `end` event of status `interrupted`. */
  signal?: AbortSignal | undefined
  /** Seconds between checkpoints, default 30; one is also written at the end of every phase. */
  checkpointSeconds?: number | undefined
  /** How error messages name a parameter of `config`. */
  configOrigin?: ((key: string) => string) | undefined
}

export interface StartEvent {
  type: 'start'
  run_dir: string
  algorithm: string
  preset: string | null
  run: Record<string, unknown>
  config: Record<string, unknown>
  dataset: RunRecord['dataset']
  /** What it computes on, and why. */
  device: ChosenDevice
  resumed: boolean
  step: number
  steps: number
  phases: { name: string; steps: number }[]
}

export interface ProgressEvent {
  type: 'progress'
  phase: string
  phase_step: number
  phase_steps: number
  step: number
  steps: number
  steps_per_second: number
  eta_seconds: number | null
  /** Means over the steps since the last event. */
  metrics: Record<string, number | null>
}

export interface CheckpointEvent {
  type: 'checkpoint'
  path: string
  step: number
}

/** The policy under training has met the environment (hybrid modes). */
export interface VisitEvent extends VisitResult {
  type: 'visit'
  /** Step of the run before which it was made. */
  step: number
}

export interface CertificateEvent {
  type: 'certificate'
  certificate: Certificate
}

export interface EndEvent {
  type: 'end'
  status: 'done' | 'interrupted'
  /** `Cancelled` when interrupted. */
  code: 'Cancelled' | null
  run_dir: string
  /** `cpu` or `cuda:N`. */
  device: string
  step: number
  steps: number
  certificate: Certificate | null
  /** Environment steps from the first step to the last, by the counter of `envs/ledger.ts`; 0 in mode offline. */
  environment_steps: number
  wall_seconds: number
}

export type TrainEvent = StartEvent | ProgressEvent | VisitEvent | CheckpointEvent | CertificateEvent | EndEvent

/** An open run: its folder, its trainer and where its log stands. */
export interface Session {
  folder: string
  record: RunRecord
  trainer: Trainer
  log: MetricsLog
  resumed: boolean
  /** Null in mode offline. */
  visits: EnvFactory | null
}

const CHECKPOINT_SECONDS = 30
/** Rows of metrics.csv: about this many a phase, and never further apart than that many steps. */
const ROWS_PER_PHASE = 200
const LARGEST_ROW = 1000

/**
 * Trains and reports as it goes; everything is in the run folder when the generator ends.
 *
 * Ending the loop early (`break`, or aborting the signal) leaves a checkpoint from which `resume: true` goes on to
 * bit-identical parameters.
 *
 * @throws DrcorlError `Config`, `Data`, `Io`, `Usage` before anything is written; `Diverged` naming loss and step, with
 *   the last good checkpoint kept.
 */
export async function* train(options: TrainOptions): AsyncGenerator<TrainEvent, void, void> {
  const session = options.resume ? await resumeSession(options) : await startSession(options)
  const run = new Run(session, options)
  try {
    yield* run.events()
  } finally {
    await run.close()
  }
}

async function startSession(options: TrainOptions): Promise<Session> {
  if (options.dataset === undefined) {
    throw new DrcorlError('Usage', 'no dataset is given', {
      hint: 'name one with --dataset FILE.hdf5, --task NAME or --env NAME',
    })
  }
  const file = options.configFile === undefined ? undefined : await readConfigFile(options.configFile)
  const resolved = resolveConfig({
    algorithm: options.algorithm,
    preset: options.preset,
    file,
    flags: { ...options.config },
    flagOrigin: options.configOrigin ?? ((key) => `config.${key}`),
  })
  const dataset = await loadDataset(options.dataset, { episodeLength: statedEpisodeLength(resolved.run) })
  const visits = environmentOfVisits(options.environment, resolved.run, dataset.task)
  const trainer = await Trainer.create(dataset.native, resolved).catch((error: unknown) => {
    throw withOrigin(error, resolved.origins)
  })
  try {
    const folder = options.out ?? defaultRunFolder(resolved, dataset)
    await createRunFolder(folder, options.overwrite ?? false)
    const record = makeRecord(resolved, dataset, visits?.name ?? null)
    await writeRecord(folder, record)
    await writeDatasetEpisodes(folder, dataset)
    const log = new MetricsLog(join(folder, RUN_FILES.metrics))
    return { folder, record, trainer, log, resumed: false, visits: visits?.make ?? null }
  } catch (error) {
    trainer.dispose()
    throw error
  }
}

/** The core refuses values the schema cannot; it names the key, and only this side knows where the value came from. */
function withOrigin(error: unknown, origins: Record<string, string>): unknown {
  if (!(error instanceof DrcorlError) || error.code !== 'Config') return error
  const origin = origins[/^\w+/.exec(error.message)?.[0] ?? '']
  return origin === undefined ? error : new DrcorlError('Config', `${error.message} (from ${origin})`, { cause: error })
}

class Run {
  private readonly pace = new Pace()
  private readonly mean = new MetricsMean()
  private readonly started = performance.now()
  private readonly stepsBefore = environmentSteps()
  private readonly visitor: Visitor | undefined
  private readonly earlierSeconds: number
  private earlierEnvironmentSteps = 0
  private readonly checkpointSeconds: number
  private readonly signal: AbortSignal | undefined
  private lastSave = performance.now()
  private savedStep = -1
  /** False once a call has failed: the state in memory may be broken and must not replace a good checkpoint. */
  private healthy = true

  constructor(
    private readonly session: Session,
    options: TrainOptions,
  ) {
    this.earlierSeconds = session.log.seconds
    this.checkpointSeconds = options.checkpointSeconds ?? CHECKPOINT_SECONDS
    this.signal = options.signal
    if (session.visits !== null) this.visitor = new Visitor(session.visits, session.folder, options.signal)
  }

  async *events(): AsyncGenerator<TrainEvent, void, void> {
    const { record, folder, trainer, resumed } = this.session
    let status = await trainer.status()
    if (resumed) this.savedStep = status.step
    this.earlierEnvironmentSteps = status.environment_steps
    const { algorithm, preset, run, config, dataset } = record
    const { step, steps, phases } = status
    const { device } = trainer
    yield {
      type: 'start',
      run_dir: folder,
      algorithm,
      preset,
      run,
      config,
      dataset,
      device,
      resumed,
      step,
      steps,
      phases,
    }

    while (!status.done && !this.signal?.aborted) {
      if (status.visit !== null) {
        const visited = await this.visit(status)
        if (visited === undefined) break
        yield visited
        status = await trainer.status()
        continue
      }
      const before = status
      status = await this.call(before)
      yield this.progress(status)
      if (status.phase_step >= status.phase_steps || this.saveIsDue()) yield await this.checkpoint(status.step)
    }
    yield* status.done ? this.finish(status) : this.interrupted(status)
  }

  /** Saves what a consumer that left early would lose, and frees native memory. */
  async close(): Promise<void> {
    try {
      if (this.healthy) {
        const { step } = await this.session.trainer.status()
        if (step > 0 && step !== this.savedStep) await this.checkpoint(step)
      }
    } finally {
      this.session.trainer.dispose()
      await this.visitor?.close()
    }
  }

  /** The visit that is due; undefined when the signal cut it short, and it is still due then. */
  private async visit(status: TrainerStatus): Promise<VisitEvent | undefined> {
    if (this.visitor === undefined) throw new DrcorlError('Internal', 'a visit is due, but no environment is known')
    try {
      const result = await this.visitor.visit(this.session.trainer, status.visit!)
      return { type: 'visit', step: status.step, ...result }
    } catch (error) {
      if (this.signal?.aborted) return undefined
      throw error
    }
  }

  /** One native call; aborting the signal makes it return within a step. */
  private async call(before: TrainerStatus): Promise<TrainerStatus> {
    const { trainer, log } = this.session
    const next = upcoming(before)
    const steps = Math.min(this.pace.next(next.phase), stepsToRow(next))
    const cancel = (): void => trainer.cancel()
    this.signal?.addEventListener('abort', cancel, { once: true })
    const start = performance.now()
    try {
      const after = await trainer.run(steps)
      this.pace.measured(after.step - before.step, (performance.now() - start) / 1000)
      this.log(before, after)
      return after
    } catch (error) {
      this.healthy = false
      await log.flush()
      throw this.withCheckpoint(error)
    } finally {
      this.signal?.removeEventListener('abort', cancel)
    }
  }

  private log(before: TrainerStatus, after: TrainerStatus): void {
    const { step, phase, phase_step, phase_steps } = after
    this.mean.add(after.metrics, step - before.step)
    if (phase_step % rowSteps(phase_steps) !== 0 && phase_step < phase_steps && !after.cancelled) return
    const metrics = this.mean.take()
    // A call that was cancelled before its first step has nothing to tell.
    if (step === before.step && Object.keys(metrics).length === 0) return
    this.session.log.add({ step, phase, phase_step, seconds: this.seconds(), metrics })
  }

  private progress(status: TrainerStatus): ProgressEvent {
    const { phase, phase_step, phase_steps, step, steps, metrics } = status
    const left = phase_steps - phase_step
    return {
      type: 'progress',
      phase,
      phase_step,
      phase_steps,
      step,
      steps,
      steps_per_second: this.pace.rate,
      eta_seconds: this.pace.eta(left, steps - step - left),
      metrics,
    }
  }

  private saveIsDue(): boolean {
    return performance.now() - this.lastSave >= this.checkpointSeconds * 1000
  }

  /** The log goes first: a checkpoint never stands for steps whose rows are lost. */
  private async checkpoint(step: number): Promise<CheckpointEvent> {
    const path = join(this.session.folder, RUN_FILES.checkpoint)
    await this.session.log.flush()
    await this.session.trainer.save(path)
    this.lastSave = performance.now()
    this.savedStep = step
    return { type: 'checkpoint', path, step }
  }

  private async *finish(status: TrainerStatus): AsyncGenerator<TrainEvent, void, void> {
    const { folder, trainer, record, log } = this.session
    await log.flush()
    const policies = await trainer.writePolicies(folder)
    const certificate = await trainer.certificate()
    if (certificate !== null) {
      await writeJson(join(folder, RUN_FILES.certificate), certificate)
      yield { type: 'certificate', certificate }
    }
    const result: RunResult = {
      status: 'done',
      algorithm: record.algorithm,
      steps: status.step,
      phases: status.phases,
      wall_seconds: this.seconds(),
      environment_steps: { training: this.environmentSteps() },
      verdict: certificate?.verdict ?? null,
      policies,
      finished: new Date().toISOString(),
    }
    await writeJson(join(folder, RUN_FILES.result), result)
    yield this.end(status, 'done', certificate)
  }

  private async *interrupted(status: TrainerStatus): AsyncGenerator<TrainEvent, void, void> {
    if (status.step > 0 && status.step !== this.savedStep) yield await this.checkpoint(status.step)
    yield this.end(status, 'interrupted', null)
  }

  private end(status: TrainerStatus, how: EndEvent['status'], certificate: Certificate | null): EndEvent {
    return {
      type: 'end',
      status: how,
      code: how === 'interrupted' ? 'Cancelled' : null,
      run_dir: this.session.folder,
      device: this.session.trainer.device.device,
      step: status.step,
      steps: status.steps,
      certificate,
      environment_steps: this.environmentSteps(),
      wall_seconds: this.seconds(),
    }
  }

  private environmentSteps(): number {
    // The ledger counts for the whole process, which is what "none" has to mean; visits are counted each for itself.
    return this.visitor === undefined
      ? environmentSteps() - this.stepsBefore
      : this.earlierEnvironmentSteps + this.visitor.environmentSteps
  }

  /** Seconds of training so far, those before a resume included. */
  private seconds(): number {
    return this.earlierSeconds + (performance.now() - this.started) / 1000
  }

  private withCheckpoint(error: unknown): unknown {
    if (!(error instanceof DrcorlError)) return error
    const kept =
      this.savedStep < 0
        ? 'no checkpoint had been written'
        : `the checkpoint of step ${this.savedStep} is kept in ${this.session.folder}`
    return new DrcorlError(error.code, `${error.message} (${kept})`, { cause: error })
  }
}

/** Steps between two rows of metrics.csv in a phase; a function of the phase alone, so every run logs the same rows. */
function rowSteps(phaseSteps: number): number {
  return Math.min(LARGEST_ROW, Math.max(1, Math.ceil(phaseSteps / ROWS_PER_PHASE)))
}

interface Position {
  phase: number
  step: number
  steps: number
}

/** Where the next call starts: a phase that has just ended is reported as complete, not as the next one's beginning. */
function upcoming({ phase_index, phase_step, phase_steps, phases }: TrainerStatus): Position {
  const next = phases[phase_index + 1]
  if (phase_step >= phase_steps && next !== undefined) return { phase: phase_index + 1, step: 0, steps: next.steps }
  return { phase: phase_index, step: phase_step, steps: phase_steps }
}

/** Steps up to the next row, so that no call crosses one. */
function stepsToRow({ step, steps }: Position): number {
  const every = rowSteps(steps)
  return every - (step % every)
}
