//! The JSON of a run folder that is written around the core and never built in it: types for their schema, by which
//! the files are checked wherever they are read. A key that a later version adds is optional here
//! (`skip_serializing_if`), or the folders of earlier ones could not be read.
#![allow(dead_code)]

use crate::audit_file::TakenModels;
use crate::profile::TrainerProfile;
use drcorl_nn::profile::Part;
use schemars::JsonSchema;
use serde_json::Value;
use std::collections::BTreeMap;

/// `config.json`: all that is needed to repeat, resume or evaluate the run.
#[derive(JsonSchema)]
pub struct RunRecord {
    #[schemars(with = "String", extend("const" = "drcorl-run/1"))]
    format: String,
    /// When, in ISO 8601.
    created: String,
    versions: RunVersions,
    /// Name in the registry.
    algorithm: String,
    preset: Option<String>,
    /// Parameters of the run, all of them.
    run: BTreeMap<String, Value>,
    /// Parameters of the algorithm, all of them.
    config: BTreeMap<String, Value>,
    /// Where each value that is no default came from.
    origins: BTreeMap<String, String>,
    dataset: RecordedDataset,
    task: Option<KnownTask>,
    /// Environment of the hybrid modes; null in mode offline, and for one that was given as code.
    environment: Option<String>,
    /// Whose pretraining it went on from; absent for a run that made its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<Reused>,
    /// The models behind the certificate that another run had made; absent for a run that made its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_models: Option<TakenModels>,
}

/// The pretraining that a run took from another one.
#[derive(JsonSchema)]
pub struct Reused {
    /// Name of that run's folder.
    run: String,
    /// Of the file's bytes.
    sha256: String,
    /// Steps that were not made again.
    step: u64,
    /// Seconds they had taken there; null where its metrics do not say.
    seconds: Option<f64>,
}

/// What the run was started with.
#[derive(JsonSchema)]
pub struct RunVersions {
    drcorl: String,
    node: String,
}

/// The data of a run.
#[derive(JsonSchema)]
pub struct RecordedDataset {
    /// Absolute path, `env:NAME?..`, or the name of columns.
    source: String,
    kind: DatasetKind,
    /// Of the file's bytes, or of the columns.
    sha256: String,
    transitions: u64,
    episodes: u64,
    obs_dim: u64,
    act_dim: u64,
}

/// Where data come from.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum DatasetKind {
    File,
    Env,
    Columns,
}

/// What a dataset's source is known to be: an embedded environment or, by its file name, a DSRL task.
#[derive(JsonSchema)]
pub struct KnownTask {
    task: String,
    /// Embedded environment that can evaluate a policy for this data; null when there is none.
    env: Option<String>,
    /// Steps.
    episode_length: u64,
    obs_dim: u64,
    act_dim: u64,
    min_return: f64,
    max_return: f64,
    min_cost: f64,
    max_cost: f64,
}

/// Returns and costs that normalise a score; DSRL's convention: extremes over the task's dataset.
#[derive(JsonSchema)]
pub struct ScoreRange {
    min_return: f64,
    max_return: f64,
    min_cost: f64,
    max_cost: f64,
}

/// `profile.json`: where the time of a run went, or of the part of it since it was resumed. `wall_seconds` are those of
/// `parts`, of `phases`, and of what is between them.
#[derive(JsonSchema)]
pub struct RunProfile {
    #[schemars(with = "String", extend("const" = "drcorl-profile/1"))]
    format: String,
    /// When, in ISO 8601.
    created: String,
    /// Name in the registry.
    algorithm: String,
    /// Where it began: 0, or the step of the checkpoint that the run went on from.
    first_step: u64,
    /// Where it ended.
    last_step: u64,
    /// From the call that trains until the run has ended or was interrupted, but for `peak` and the report.
    wall_seconds: f64,
    /// On a core in that time, of all threads of the process: with one thread, what falls short of `wall_seconds`
    /// others have taken, or files.
    cpu_seconds: f64,
    /// What is none of the steps: data, setup, files, visits. None of their products are counted.
    parts: Vec<Part>,
    #[schemars(flatten)]
    core: TrainerProfile,
}

/// `evaluation.json`: the policy to use, and beside it the others that the run kept.
#[derive(JsonSchema)]
pub struct Evaluation {
    #[schemars(with = "String", extend("const" = "drcorl-evaluation/1"))]
    format: String,
    /// When, in ISO 8601.
    created: String,
    #[schemars(flatten)]
    main: PolicyEvaluation,
    env: String,
    /// Episode i was reset with seed + i.
    seed: u64,
    cost_limit: Option<f64>,
    /// What the policy was asked for, where that was not what its file says.
    settings: BTreeMap<String, f64>,
    score_range: Option<ScoreRange>,
    /// The offline-selected candidate beside the policy to use, where the run has one; same seeds.
    selected: Option<PolicyEvaluation>,
    /// The mixture of iterates, one of which plays an episode, where the run kept any; same seeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    mixture: Option<PolicyEvaluation>,
    /// At each of several limits, in the order asked for; the first is this evaluation's own. Null where none were.
    by_limit: Option<Vec<LimitEvaluation>>,
    wall_seconds: f64,
}

/// The policy to use when it is asked to keep one of several limits.
#[derive(JsonSchema)]
pub struct LimitEvaluation {
    #[schemars(flatten)]
    main: PolicyEvaluation,
    cost_limit: f64,
}

/// What was measured over the episodes of one policy.
#[derive(JsonSchema)]
pub struct PolicyEvaluation {
    /// File name in the run folder, or the policy's name.
    policy: String,
    /// Of the policy file, which for a layers model is its `model.json`; null for a policy that came as an object.
    sha256: Option<String>,
    /// What computed the actions, for example `native` or `onnxruntime-node`; null for a policy that came as an
    /// object.
    runtime: Option<String>,
    episodes: u64,
    #[schemars(rename = "return")]
    reward: Statistics,
    cost: Statistics,
    /// Steps of an episode.
    length: Statistics,
    /// Of the mean return; null where no score range is known.
    normalized_reward: Option<f64>,
    /// Of the mean cost; null without a limit.
    normalized_cost: Option<NormalizedCost>,
    /// Episodes with cost <= limit; null without a limit.
    within_limit: Option<WithinLimit>,
    /// Mean cost <= limit; null without a limit.
    safe: Option<bool>,
    /// Every cost for itself, where several have a limit; what stands above is about the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    costs: Option<Vec<CostEvaluation>>,
    environment_steps: u64,
    /// Environment steps a second while playing, the policy's time included and the opening of the environment not.
    steps_per_second: f64,
}

/// One of several costs, over the same episodes.
#[derive(JsonSchema)]
pub struct CostEvaluation {
    /// As in `limits`.
    name: String,
    cost_limit: f64,
    cost: Statistics,
    /// Episodes with cost <= limit.
    within_limit: WithinLimit,
    /// Mean cost <= limit.
    safe: bool,
}

/// A cost by each convention of the field.
#[derive(JsonSchema)]
pub struct NormalizedCost {
    dsrl: f64,
    paper: f64,
    release: f64,
}

/// Episodes within the limit, and their share.
#[derive(JsonSchema)]
pub struct WithinLimit {
    episodes: u64,
    share: f64,
}

/// Summary of one number over episodes.
#[derive(JsonSchema)]
pub struct Statistics {
    mean: f64,
    /// Sample standard deviation (n - 1); null for one episode.
    std: Option<f64>,
    /// 95 % interval of the mean by Student's t; null for one episode.
    ci95: Option<[f64; 2]>,
    median: f64,
    min: f64,
    max: f64,
}
