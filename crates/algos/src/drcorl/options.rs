//! The named choices of DRCORL: one enum a parameter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which offline estimate opens and closes the branches of Safe Adaptation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The paper's: mean over states of (mean + k deviations over members) of the cost critics.
    CriticUcb,
    /// Rollouts of the dynamics ensemble, if it passed its test on held-out episodes; the critics otherwise.
    ModelRollout,
    /// The higher of both.
    Max,
}

/// States the critics' gate is averaged over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateStates {
    /// All logged states: the paper's; has a floor from unsafe data.
    Dataset,
    /// First states of episodes: optimistic.
    Initial,
    /// States of episodes within the limit.
    Safe,
}

/// Episodes the behavior model learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BehaviorData {
    /// Every logged episode.
    All,
    /// Episodes within the limit only.
    Safe,
}

/// Scale of the guidance, the gradient of a critic with respect to the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuidanceScale {
    /// As it is.
    Raw,
    /// Each row divided by its root mean square over action dimensions.
    RowRms,
    /// Divided by a running root mean square over batches, which gives beta a meaning that travels between tasks.
    BatchRms,
}

/// How beta goes from its first to its last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// `beta_final` throughout.
    Constant,
    /// With the square root of progress.
    Sqrt,
    /// Linearly.
    Linear,
}

/// How rewards are scaled before the critic sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardScaling {
    /// r / (mean |r| + standard deviation of r).
    Magnitude,
    /// 1000 r / (highest - lowest episode return), episodes ended by terminals and timeouts.
    ReturnRange,
}

/// Unit of the critics' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueUnit {
    /// (1 - gamma) times the discounted sum: an average a step.
    PerStep,
    /// The discounted sum.
    Discounted,
}

/// What Safe Adaptation does near the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adaptation {
    /// Algorithm 2: between the slacks, both objectives combined by gradient manipulation.
    Band,
    /// No band: reward up to the upper slack, cost beyond (CRPO).
    Crpo,
}

/// What a step above the limit follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostStep {
    /// The cost objective alone (20).
    Cost,
    /// Reward minus a fixed multiple of cost.
    LagrangianFixed,
    /// Reward minus a PID-controlled multiple of cost, with the set point in the critics' unit.
    LagrangianPid,
}
