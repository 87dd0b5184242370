//! Parameters of COptiDICE: the repaired values, and those of the published implementation.

use super::divergence::Divergence;
use crate::frame::presets::{fixed, osrl, quick};
use crate::frame::{ActorGroup, CostDone, CostThreshold, Done, Parameters, Schedule, Values};
use drcorl_core::algorithm::Preset;
use drcorl_core::schema::most;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Unit of the limit the bound on the cost is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitUnit {
    /// Cost a step, as the bound is: `limit / L`, times the share `1 - gamma^L` of the discounted visits that come
    /// before a time limit that ends them.
    PerStep,
    /// Discounted cost of an episode: `limit (1 - gamma^L) / ((1 - gamma) L)`, which the bound practically never
    /// reaches.
    Discounted,
}

/// What the policy's Gaussian is fitted to, and how it acts by its mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyFit {
    /// The logged action; the mean is clipped to [-1, 1].
    Clamped,
    /// The logged action before a tanh, which the mean goes through: a logged 1 counts as 6.1.
    Squashed,
    /// The logged action, but the mean goes through a tanh, which shrinks it: 1 becomes 0.76.
    RawNormal,
}

/// Where initial states come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitialStates {
    /// A batch of their own.
    Separate,
    /// The rows of the batch that happen to be initial, weighted up: a handful.
    InBatch,
}

/// Parameters of COptiDICE.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CoptidiceConfig {
    /// Discount gamma.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub gamma: f64,
    /// What ends the values.
    pub done: Done,
    /// Unit of the limit.
    pub limit_unit: LimitUnit,
    /// What the policy is fitted to.
    pub policy_fit: PolicyFit,
    /// Where initial states come from.
    pub initial_states: InitialStates,
    /// The f-divergence from the data's distribution.
    pub divergence: Divergence,
    /// Weight alpha of the divergence.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub alpha: f64,
    /// Radius eps of the cost bound's ball around the data, in KL; 0 uses the plain estimate.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub cost_bound_epsilon: f64,
    /// Factor on rewards.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub reward_scale: f64,
    /// Factor on costs and on the limit.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub cost_scale: f64,
    /// Hidden layer widths of nu and chi.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub critic_hidden: Vec<i64>,
    /// Networks behind each of nu and chi; the lowest speaks for them.
    #[schemars(range(min = 1, max = 16))]
    pub critics: usize,
    /// Learning rate of nu.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub nu_lr: f64,
    /// Learning rate of chi.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub chi_lr: f64,
    /// Learning rate of lambda and tau, before their softplus.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub scalar_lr: f64,
    #[serde(flatten)]
    pub actor: ActorGroup,
    #[serde(flatten)]
    pub schedule: Schedule,
}

impl Default for CoptidiceConfig {
    fn default() -> Self {
        CoptidiceConfig {
            gamma: 0.99,
            done: Done::TerminalsAndTimeouts,
            limit_unit: LimitUnit::PerStep,
            policy_fit: PolicyFit::Clamped,
            initial_states: InitialStates::Separate,
            divergence: Divergence::Softchi,
            alpha: 0.5,
            cost_bound_epsilon: 0.01,
            reward_scale: 0.1,
            cost_scale: 1.0,
            critic_hidden: vec![256, 256],
            critics: 2,
            nu_lr: 1e-4,
            chi_lr: 1e-4,
            scalar_lr: 1e-4,
            actor: ActorGroup { actor_lr: 1e-4, ..ActorGroup::default() },
            schedule: Schedule::default(),
        }
    }
}

impl CoptidiceConfig {
    /// OSRL's implementation, faults included.
    pub fn osrl() -> Self {
        CoptidiceConfig {
            limit_unit: LimitUnit::Discounted,
            policy_fit: PolicyFit::RawNormal,
            initial_states: InitialStates::InBatch,
            ..CoptidiceConfig::default()
        }
    }

    /// `fixed` with small networks and fewer steps.
    pub fn quick() -> Self {
        CoptidiceConfig {
            critic_hidden: vec![128, 128],
            nu_lr: 5e-4,
            chi_lr: 5e-4,
            scalar_lr: 1e-3,
            actor: ActorGroup { actor_lr: 5e-4, ..ActorGroup::quick() },
            schedule: Schedule::quick(20_000),
            ..CoptidiceConfig::default()
        }
    }
}

impl Parameters for CoptidiceConfig {
    fn presets() -> Vec<Preset<Self>> {
        vec![fixed(Self::default()), osrl(Self::osrl()), quick(Self::quick())]
    }

    fn values(&self) -> Values {
        let &CoptidiceConfig { gamma, done, reward_scale, cost_scale, .. } = self;
        let (cost_done, cost_threshold) = (CostDone::Respected, CostThreshold::FiniteHorizon);
        Values { gamma, done, cost_done, cost_threshold, reward_scale, cost_scale }
    }

    fn schedule(&self) -> Schedule {
        self.schedule
    }
}

impl CoptidiceConfig {
    /// The number the bound on the cost is compared with.
    pub fn limit(&self, cost_limit: f64, episode_length: usize) -> f64 {
        let discounted = self.values().threshold(cost_limit, episode_length);
        match (self.limit_unit, self.done) {
            (LimitUnit::PerStep, Done::Terminals) => cost_limit * self.cost_scale / episode_length as f64,
            (LimitUnit::PerStep, Done::TerminalsAndTimeouts) => (1.0 - self.gamma) * discounted,
            (LimitUnit::Discounted, _) => discounted,
        }
    }
}
