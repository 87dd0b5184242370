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

/// The class of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyClass {
    /// One action a state, `tanh(MLP(s))`: the published one.
    Dirac,
    /// A Gaussian around it with standard deviation `policy_std`, clipped to the box.
    GaussianConstant,
    /// A Gaussian whose standard deviations are learnt too, from `policy_std` on, their logarithms in [-5, 2].
    Gaussian,
}

/// What gradient manipulation combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ManipulationSpace {
    /// The gradients of both objectives; one optimiser step follows the combination.
    Gradient,
    /// The moves of two tentative optimiser steps from the same weights: the paper's appendix B.1. Their moments are
    /// shared, as published.
    Update,
}

/// Whose actions the reward critic learns from in adaptation; before it, implicit Q-learning learns from logged ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardCritic {
    /// Implicit Q-learning on logged actions, (16) and (17): the paper's.
    Iql,
    /// Temporal differences on the policy's actions, from the lower of two lagged twins.
    /// Ours: values follow the policy.
    Td,
    /// Two courses of adaptation from the same beginning: in the first the critic rests as the logged actions have made
    /// it, in the second it learns as td. Ours: the candidate ships that dynamics models think best;
    /// where they may not steer, or the environment is met, there is the second course alone.
    Both,
}

/// What the limit bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// The mean cost of an episode, (46).
    Episodic,
    /// The mean cost of every step by `cost_limit / episode_length`, (47): no time of the episode may cost more than
    /// its share.
    Stepwise,
    /// Every cost by 0, (45): with costs that are not negative, a mean cost of 0. `cost_limit` is what the certificate
    /// goes by, and no more.
    Hard,
}

/// What Safe Adaptation does near the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adaptation {
    /// Algorithm 2: between the slacks, both objectives combined by gradient manipulation.
    Band,
    /// No band: reward up to the upper slack, cost beyond (CRPO).
    Crpo,
    /// Ours: every state is switched by itself, by whether its action keeps clear of violations; Algorithm 2 moves the
    /// threshold. Data where no step costs anything, or nearly every one does, have the band.
    State,
    /// Ours: the band, but every state by itself where the gate's dynamics models do not order held-out episodes by
    /// return and cost as they were logged.
    Auto,
}

/// Which running average of the policy ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ships {
    /// That of the last step: the paper's.
    Last,
    /// The selected candidate, where dynamics models that passed their test have estimated it; else that of the last
    /// step. Ours: a run that has become worse ships what it was before.
    Selected,
}

/// How the slacks go over adaptation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlackSchedule {
    /// Linearly to exactly 0 at the last step: the paper's.
    Linear,
    /// Not at all: the published code's.
    Constant,
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
