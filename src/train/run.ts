/** A run under way: native calls in turn, the log, checkpoints, visits, and what is told of them. */
import { costsOf } from '../config/limits.js'
import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists, writeJson } from '../base/files.js'
import type { Certificate, Metric, RunProfile, RunResult, TakenModels, TrainerStatus } from '../config/results.js'
import { metricsOf } from '../config/schema.js'
import { environmentSteps } from '../envs/ledger.js'
import type {
  CheckpointEvent,
  EndEvent,
  MonitorEvent,
  PretrainingEvent,
  ProgressEvent,
  Session,
  TrainEvent,
  TrainOptions,
  VisitEvent,
} from './events.js'
import { MetricsMean } from './metrics.js'
import { Pace } from './pace.js'
import { timed } from './profile.js'
import { RUN_FILES, writeRecord } from './run-folder.js'
import { EventFile, descriptionsOf, eventFiles, tagOf } from './tensorboard.js'
import { Visitor } from './visits.js'

const CHECKPOINT_SECONDS = 30
/** Rows of metrics.csv: about this many a phase, and never further apart than that many steps. */
const ROWS_PER_PHASE = 200
const LARGEST_ROW = 1000

export class Run {
  private readonly pace = new Pace()
  private readonly mean = new MetricsMean()
  private readonly started = performance.now()
  private readonly stepsBefore = environmentSteps()
  private readonly visitor: Visitor | undefined
  private readonly earlierSeconds: number
  private earlierEnvironmentSteps = 0
  private readonly monitorBefore: number
  private readonly checkpointSeconds: number
  private readonly signal: AbortSignal | undefined
  private readonly declared: readonly Metric[]
  private scalars: EventFile | undefined
  private lastSave = performance.now()
  private savedStep = -1
  private firstStep = 0
  /** When the profile was asked for: what it takes itself is none of the run. */
  private ended: number | undefined
  /** False once a call has failed: the state in memory may be broken and must not replace a good checkpoint. */
  private healthy = true

  constructor(
    private readonly session: Session,
    options: TrainOptions,
  ) {
    this.earlierSeconds = session.log.seconds
    this.monitorBefore = session.monitor?.environmentSteps ?? 0
    this.checkpointSeconds = options.checkpointSeconds ?? CHECKPOINT_SECONDS
    this.signal = options.signal
    this.declared = metricsOf(session.record.algorithm)
    if (session.visits !== null)
      this.visitor = new Visitor(session.visits, session.folder, options.signal, costsOf(session.record.run))
  }

  /** Starts an event file where one is asked for, or an earlier part of the run has written one. */
  async openScalars(asked: boolean): Promise<void> {
    const { folder, trainer, resumed } = this.session
    if (!asked && (!resumed || (await eventFiles(folder)).length === 0)) return
    const step = resumed ? (await trainer.status()).step : undefined
    this.scalars = await EventFile.create(folder, step, descriptionsOf(this.declared))
  }

  async *events(): AsyncGenerator<TrainEvent, void, void> {
    const { record, folder, trainer, resumed } = this.session
    let status = await trainer.status()
    // A run that took over another's pretraining begins with its checkpoint.
    if (resumed || status.step > 0) this.savedStep = status.step
    this.firstStep = status.step
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
      findings: this.session.findings,
      device,
      resumed,
      reused: record.reused ?? null,
      step,
      steps,
      phases,
      metrics: this.declared,
    }

    while (!status.done && !this.signal?.aborted) {
      if (status.pretrained && (await this.ownPretraining())) yield await this.keepPretraining(status.step)
      if (status.visit !== null) {
        const visited = await this.visit(status)
        if (visited === undefined) break
        yield visited
        status = await trainer.status()
        continue
      }
      if (this.session.monitor?.due(status)) {
        const seen = await this.watch(status)
        if (seen === undefined) break
        yield seen
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
      await this.scalars?.close()
      await this.visitor?.close()
      await this.session.monitor?.close()
    }
  }

  /** The visit that is due; undefined when the signal cut it short, and it is still due then. */
  private async visit(status: TrainerStatus): Promise<VisitEvent | undefined> {
    if (this.visitor === undefined) throw new DrcorlError('Internal', 'a visit is due, but no environment is known')
    try {
      const visitor = this.visitor
      const result = await this.timed('visits', () => visitor.visit(this.session.trainer, status.visit!))
      const { return: reward, cost, environment_steps, episodes } = result
      this.scalars?.add(status.step, {
        'eval/reward': reward,
        'eval/cost': cost,
        'eval/length': environment_steps / episodes,
      })
      return { type: 'visit', step: status.step, ...result }
    } catch (error) {
      if (this.signal?.aborted) return undefined
      throw error
    }
  }

  /** A point of the monitor; undefined when the signal cut it short, and it is still due then. */
  private async watch(status: TrainerStatus): Promise<MonitorEvent | undefined> {
    try {
      const { monitor, trainer } = this.session
      const point = await this.timed('monitor', () => monitor!.play(trainer, status, this.origin()))
      this.scalars?.add(status.step, { 'monitor/reward': point.return.mean, 'monitor/cost': point.cost.mean })
      return { type: 'monitor', ...point }
    } catch (error) {
      if (this.signal?.aborted) return undefined
      throw error
    }
  }

  /** What policy files say they come from. */
  private origin(): { dataset_sha256: string; date: string } {
    const { created, dataset } = this.session.record
    // The day alone: equal runs write equal bytes.
    return { dataset_sha256: dataset.sha256, date: created.slice(0, 'YYYY-MM-DD'.length) }
  }

  /** One native call; aborting the signal makes it return within a step. */
  private async call(before: TrainerStatus): Promise<TrainerStatus> {
    const { trainer, log } = this.session
    const next = upcoming(before)
    const point = this.session.monitor?.stepsToPoint(before) ?? Number.POSITIVE_INFINITY
    const steps = Math.min(this.pace.next(next.phase), stepsToRow(next), point)
    const cancel = (): void => trainer.cancel()
    this.signal?.addEventListener('abort', cancel, { once: true })
    const start = performance.now()
    try {
      const after = await trainer.run(steps)
      this.pace.measured(after.step - before.step, (performance.now() - start) / 1000)
      this.log(before, after)
      if (after.audit_models !== null && before.audit_models === null) await this.took(after.audit_models)
      await this.scalars?.flush()
      return after
    } catch (error) {
      this.healthy = false
      await log.flush()
      throw this.withCheckpoint(error)
    } finally {
      this.signal?.removeEventListener('abort', cancel)
    }
  }

  /** A later resume must not forget whose models it were. */
  private async took(models: TakenModels): Promise<void> {
    const { folder, record } = this.session
    record.audit_models = models
    await writeRecord(folder, record)
  }

  private log(before: TrainerStatus, after: TrainerStatus): void {
    const { step, phase, phase_step, phase_steps } = after
    this.mean.add(after.metrics, step - before.step)
    if (phase_step % rowSteps(phase_steps) !== 0 && phase_step < phase_steps && !after.cancelled) return
    const metrics = this.mean.take()
    // A call that was cancelled before its first step has nothing to tell.
    if (step === before.step && Object.keys(metrics).length === 0) return
    const seconds = this.seconds()
    this.session.log.add({ step, phase, phase_step, seconds, metrics })
    this.scalars?.add(step, {
      ...Object.fromEntries(Object.entries(metrics).map(([name, value]) => [tagOf(name, this.declared), value])),
      'time/seconds': seconds,
      'time/steps_per_second': this.pace.rate,
    })
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
    await this.timed('checkpoints', async () => {
      await this.session.log.flush()
      await this.session.trainer.save(path)
    })
    this.lastSave = performance.now()
    this.savedStep = step
    return { type: 'checkpoint', path, step }
  }

  /** True where what other runs may take over is this run's own, and not yet in its folder. */
  private async ownPretraining(): Promise<boolean> {
    const { folder, record } = this.session
    return !record.reused && !(await exists(join(folder, RUN_FILES.pretraining)))
  }

  private async keepPretraining(step: number): Promise<PretrainingEvent> {
    const path = join(this.session.folder, RUN_FILES.pretraining)
    await this.timed('checkpoints', () => this.session.trainer.save(path))
    return { type: 'pretraining', path, step }
  }

  private async *finish(status: TrainerStatus): AsyncGenerator<TrainEvent, void, void> {
    const { folder, trainer, record, log } = this.session
    await log.flush()
    // Before the certificate, which names their hashes; they hold its verdict.
    const policy_files = await this.timed('policies', () => trainer.writePolicies(folder, this.origin()))
    const certificate = await trainer.certificate()
    if (certificate !== null) {
      await writeJson(join(folder, RUN_FILES.certificate), certificate)
      yield { type: 'certificate', certificate }
    }
    const profile = await this.profile()
    const result: RunResult = {
      status: 'done',
      algorithm: record.algorithm,
      steps: status.step,
      phases: status.phases,
      wall_seconds: this.seconds(),
      environment_steps: { training: this.environmentSteps() },
      verdict: certificate?.verdict ?? null,
      policies: policy_files.map(({ file }) => file),
      policy_files,
      finished: new Date().toISOString(),
    }
    await writeJson(join(folder, RUN_FILES.result), result)
    yield this.end(status, 'done', certificate, profile)
  }

  private async *interrupted(status: TrainerStatus): AsyncGenerator<TrainEvent, void, void> {
    if (status.step > 0 && status.step !== this.savedStep) yield await this.checkpoint(status.step)
    yield this.end(status, 'interrupted', null, await this.profile())
  }

  private end(
    status: TrainerStatus,
    how: EndEvent['status'],
    certificate: Certificate | null,
    profile: RunProfile | null,
  ): EndEvent {
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
      monitor_steps: this.session.monitor?.environmentSteps ?? 0,
      wall_seconds: this.seconds(),
      profile,
    }
  }

  /** Writes where the time went, where that was asked. */
  private async profile(): Promise<RunProfile | null> {
    const { watch, folder, record, trainer } = this.session
    if (watch === null) return null
    this.ended = performance.now()
    return watch.write(folder, record, trainer, this.firstStep)
  }

  private timed<T>(name: string, work: () => Promise<T>): Promise<T> {
    return timed(this.session.watch, name, work)
  }

  private environmentSteps(): number {
    // The ledger counts for the whole process, which is what "none" has to mean; visits are counted each for itself.
    return this.visitor === undefined
      ? environmentSteps() - this.stepsBefore - ((this.session.monitor?.environmentSteps ?? 0) - this.monitorBefore)
      : this.earlierEnvironmentSteps + this.visitor.environmentSteps
  }

  /** Seconds of training so far, those before a resume included. */
  private seconds(): number {
    return this.earlierSeconds + ((this.ended ?? performance.now()) - this.started) / 1000
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

/** A place in a run. */
export interface Position {
  phase: number
  step: number
  steps: number
}

/** Where the next call starts: a phase that has just ended is reported as complete, not as the next one's beginning. */
export function upcoming({ phase_index, phase_step, phase_steps, phases }: TrainerStatus): Position {
  const next = phases[phase_index + 1]
  if (phase_step >= phase_steps && next !== undefined) return { phase: phase_index + 1, step: 0, steps: next.steps }
  return { phase: phase_index, step: phase_step, steps: phase_steps }
}

/** Steps up to the next row, so that no call crosses one. */
function stepsToRow({ step, steps }: Position): number {
  const every = rowSteps(steps)
  return every - (step % every)
}
