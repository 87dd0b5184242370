/**
 * drcorl: constrained offline reinforcement learning.
 *
 * `loadDataset` checks data, `train` learns from it as a generator of events, `evaluate` plays the policy, `loadPolicy`
 * gives it to your own loop. Names that also stand in files (parameters, events, sizes) are snake_case everywhere;
 * functions and the options of calls are camelCase.
 */
export { type ConfigFile, type ResolvedConfig, readConfigFile, resolveConfig } from './config/load.js'
export { type Parameter, type Schema, allowedValues, loadSchema, parametersFor } from './config/schema.js'
export { type CheckOptions, type Finding, checkDataset, datasetFindings } from './data/checks.js'
export {
  type Dataset,
  type DatasetSummary,
  type KnownTask,
  type LoadDatasetOptions,
  loadDataset,
} from './data/dataset.js'
export { type Environment, type OpenOptions, findEnvironment, openTask } from './data/environments.js'
export { type FetchOptions, type FetchResult, fetchDataset } from './data/fetch.js'
export { locateDataset } from './data/locate.js'
export {
  type ConvertOptions,
  type ConvertReport,
  type FilterOptions,
  type FilterReport,
  type SplitOptions,
  type SplitReport,
  convertDataset,
  filterDataset,
  splitDataset,
} from './data/operations.js'
export { type DensityGrid, type Task, TASKS, recogniseTask } from './data/tasks.js'
export type { CostEnv, EnvFactory, Feedback, Policy, StepResult, VecEnv } from './envs/env.js'
export { type InstallOptions, type InstallResult, installEnvironments } from './envs/install.js'
export { type PythonEnv, type PythonEnvOptions } from './envs/python.js'
export { EMBEDDED_ENVS } from './envs/registry.js'
export { type DatasetOptions, makeDataset } from './envs/scripted.js'
export { DrcorlError, type ErrorCode } from './base/errors.js'
export { type Certification, type CertifyOptions, type PolicyCertification, certify } from './evaluate/certify.js'
export { type EvaluateOptions, type Evaluation, type EvaluationResult, evaluate } from './evaluate/evaluate.js'
export {
  EXPORT_FORMATS,
  type ExportCheck,
  type ExportFormat,
  type ExportOptions,
  type ExportResult,
  exportPolicy,
} from './export/export.js'
export { type OpenPolicyOptions, type Runtime, openPolicy } from './export/open.js'
export type { ExportedRuntime } from './export/play.js'
export { type EpisodeResult, rollout } from './envs/rollout.js'
export { normalizeCost, normalizeReward } from './evaluate/score.js'
export type { DatasetColumns, NativeColumns, NativeDataset, NativeEpisodes, NativeShape } from './native/dataset.js'
export {
  type PolicyShare,
  type RecordOptions,
  type RecordProgress,
  type RecordReport,
  type RecordedEnv,
  type RecordedEpisode,
  type RecordedPolicy,
  recordDataset,
} from './record/record.js'
export { loadPolicy } from './policy/node.js'
export type { LoadedPolicy, LoadPolicyOptions, PolicyRuntime } from './policy/policy.js'
export type {
  CertificateEvent,
  CheckpointEvent,
  PretrainingEvent,
  EndEvent,
  MonitorEvent,
  ParameterValues,
  ProgressEvent,
  StartEvent,
  TrainEvent,
  TrainOptions,
  VisitEvent,
} from './train/events.js'
export { train } from './train/experiment.js'
export type { MonitorPoint, MonitorValue } from './train/monitor-file.js'
export { type RunRecord, readRecord } from './train/run-folder.js'
export { VERSION } from './base/version.js'
// What the signatures above are made of.
export type { Origin } from './config/admit.js'
export type { ResolveOptions } from './config/load.js'
export type { AlgorithmSchema, JsonSchema, Preset, Pretraining } from './config/schema.js'
export type * from './config/results.js'
export type * from './config/types.js'
export type { MaybePromise } from './envs/env.js'
export type { SuiteName } from './envs/recipe.js'
export type { EmbeddedEnv, ScoreRange } from './envs/registry.js'
export type { Rollout, RolloutOptions, RolloutProgress, Transition } from './envs/rollout.js'
export type { Columns } from './envs/scripted.js'
export type { DrcorlErrorOptions } from './base/errors.js'
export type { EvaluationProgress, PolicyEvaluation } from './evaluate/evaluate.js'
export type { Statistics } from './evaluate/statistics.js'
export type { ChosenDevice } from './native/device.js'
export type { OperationProgress } from './native/operation.js'
export type { Provenance } from './policy/provenance.js'
