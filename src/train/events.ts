/**
 * What training is asked for and what it tells.
 *
 * Words used here: a *step* is one gradient step of the algorithm as its phase defines it; a *phase* is a stage of the
 * algorithm with its own number of steps; a *call* is one native task of some steps, whose number never changes a
 * result; a *row* is one line of metrics.csv.
 */
import type { Certificate, Metric, Reused, RunPhase, RunProfile } from '../config/results.js'
import type { AlgorithmName, Parameters, RunConfig } from '../config/types.js'
import type { Finding } from '../data/checks.js'
import type { Dataset } from '../data/dataset.js'
import type { CostEnv, EnvFactory } from '../envs/env.js'
import type { DatasetColumns } from '../native/dataset.js'
import type { ChosenDevice } from '../native/device.js'
import type { Unlock } from '../native/lock.js'
import type { Trainer } from '../native/trainer.js'
import type { MetricsLog } from './metrics.js'
import type { MonitorPoint } from './monitor-file.js'
import type { Monitor } from './monitor.js'
import type { Stopwatch } from './profile.js'
import type { RunRecord } from './run-folder.js'
import type { VisitResult } from './visits.js'

/** Parameters of every run and of one algorithm, by their snake_case names. */
export type ParameterValues = {
  [Name in AlgorithmName]: Partial<RunConfig & Parameters['algorithms'][Name]>
}[AlgorithmName]

/** What to train on, with which parameters, and where to. */
export interface TrainOptions {
  /**
   * HDF5 path, `task:NAME`, `env:NAME`, columns, or a loaded dataset.
   * May be left out with `resume`: config.json names it.
   */
  dataset?: string | DatasetColumns | Dataset | undefined
  /** Default `drcorl`; any name is checked against the registry when training starts. */
  algorithm?: AlgorithmName | (string & {}) | undefined
  /** Default `quick` where the algorithm has it; `none` for the defaults alone. */
  preset?: string | undefined
  /** Path of a YAML or JSON file of parameters. */
  configFile?: string | undefined
  /**
   * Environment of the hybrid modes and of `evalEvery`: a name (embedded, DSRL task, `module:Id`) or a factory, for
   * mode hybrid-eval also one of a simulator of costs alone; default that of the data. Without either none is opened.
   */
  environment?: string | EnvFactory | EnvFactory<CostEnv> | undefined
  /** Parameters by their names, e.g. `{ cost_limit: 10, seed: 0 }`; they win over file and preset. */
  config?: ParameterValues | undefined
  /** Run folder; default `runs/<algorithm>-<dataset>-l<limit>-s<seed>-<time>`. */
  out?: string | undefined
  /** Go on with the run in `out`. */
  resume?: boolean | undefined
  /**
   * Folder of a run whose pretraining is taken over (`pretraining.safetensors`): of the same algorithm, data and
   * parameters, but for those that matter later, such as the limit. The result is that of a run that makes its own.
   */
  reuse?: string | undefined
  /**
   * Folder in which runs on the same data and with the same seed share the models behind their certificates
   * (`audit-*.safetensors`): this one takes them from there, or leaves its own. The result is that of a run alone.
   */
  auditModels?: string | undefined
  /** Replace the run in `out`. */
  overwrite?: boolean | undefined
  /** Warnings of the data checks are errors. */
  strict?: boolean | undefined
  /** Bytes that the file of the dataset may take in memory, see `loadDataset`. */
  maxMemory?: number | undefined
  /** Aborting writes a checkpoint and ends the generator with an `end` event of status `interrupted`. */
  signal?: AbortSignal | undefined
  /** Seconds between checkpoints, default 30; one is also written at the end of every phase. */
  checkpointSeconds?: number | undefined
  /**
   * Also write event files for TensorBoard: tags `ROLE/METRIC`, `time/*`, and `eval/*` at the visits of the hybrid
   * modes, over gradient steps. A resumed run that has some goes on with them unasked.
   */
  tensorboard?: boolean | undefined
  /**
   * Play the policy in the environment after every so many updates (below 1: that share of all updates) and after the
   * last, as a monitor: `monitor.json` and `monitor` events, which training never reads. Its steps are counted apart
   * from those of training. A resumed run goes on with its monitor unasked.
   */
  evalEvery?: number | undefined
  /** Episodes of the monitor, the same at every point; default 10. */
  evalEpisodes?: number | undefined
  /** Keep policy and checkpoint of every point of the monitor, in `monitor/update-N/`. */
  keepCheckpoints?: boolean | undefined
  /**
   * Record where the time goes: `profile.json`, and `profile` of the `end` event. The run's bits are those of a run
   * without it. Of a resumed run it is that of the steps since. On the CPU only.
   */
  profile?: boolean | undefined
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
  /** Warnings about the data; empty for a resumed run, which has had them. */
  findings: readonly Finding[]
  /** What it computes on, and why. */
  device: ChosenDevice
  resumed: boolean
  /** Whose pretraining it went on from; null for a run that made its own. */
  reused: Reused | null
  step: number
  steps: number
  phases: RunPhase[]
  /** Every metric the run may report, in the order in which they are told. */
  metrics: readonly Metric[]
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
  /** Means over the steps since the last event, in the order of the start event's `metrics`. */
  metrics: Record<string, number | null>
}

export interface CheckpointEvent {
  type: 'checkpoint'
  path: string
  step: number
}

/** What runs of other parameters may take over (`reuse`) has been made and written. */
export interface PretrainingEvent {
  type: 'pretraining'
  path: string
  step: number
}

/** The policy under training has met the environment (hybrid modes). */
export interface VisitEvent extends VisitResult {
  type: 'visit'
  /** Step of the run before which it was made. */
  step: number
}

/** The policy under training was watched in the environment (`evalEvery`). */
export interface MonitorEvent extends MonitorPoint {
  type: 'monitor'
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
  /** Environment steps of the monitor, which are none of these: training never read them. */
  monitor_steps: number
  wall_seconds: number
  /** Where the time went, where that was asked; null otherwise. */
  profile: RunProfile | null
}

export type TrainEvent =
  | StartEvent
  | ProgressEvent
  | VisitEvent
  | MonitorEvent
  | CheckpointEvent
  | PretrainingEvent
  | CertificateEvent
  | EndEvent

/** An open run: its folder, its trainer and where its log stands. */
export interface Session {
  folder: string
  record: RunRecord
  trainer: Trainer
  log: MetricsLog
  resumed: boolean
  /** Null in mode offline. */
  visits: EnvFactory | null
  /** Null where nobody watches. */
  monitor: Monitor | null
  /** Lets other processes write into the folder again. */
  unlock: Unlock
  /** Warnings about the data. */
  findings: readonly Finding[]
  /** Null where nobody asked where the time goes. */
  watch: Stopwatch | null
}
