//! Parameters of BCQ-Lag: the repaired values, and those of the published implementation.

use crate::shared::{Bound, CandidateDraws, CostDone, CostThreshold, Done, Reduce, Values};
use drcorl_core::schema::most;
use drcorl_nn::Hidden;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which action of several candidates is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Of `candidates` the one with the highest `Q - multiplier Qc`.
    ArgmaxN,
    /// The only one drawn.
    Single,
}

/// Parameters of BCQ-Lag.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BcqLagConfig {
    /// Discount gamma of both values.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub gamma: f64,
    /// What ends the value of rewards.
    pub done: Done,
    /// Whether the value of costs ends there too.
    pub cost_done: CostDone,
    /// Which member speaks for the cost critics.
    pub cost_ensemble: Bound,
    /// How the cost values of the candidates become one.
    pub cost_action_reduce: Reduce,
    /// The cost value that stands for the limit.
    pub cost_threshold: CostThreshold,
    /// Which candidate is taken when acting.
    pub act: Act,
    /// Candidates the targets look at.
    pub candidate_draws: CandidateDraws,
    /// Activation between the layers of the perturbation network.
    pub perturbation_activation: Hidden,
    /// Candidates n drawn for a state, in targets and when acting.
    #[schemars(range(min = 1, max = 1000))]
    pub candidates: usize,
    /// Largest change phi of a decoded action.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub phi: f64,
    /// Weight lambda of the pessimistic one of two groups of critics.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: f64,
    /// Gains KP, KI, KD of the multiplier.
    #[schemars(inner(range(min = 0.0, max = most::FACTOR)))]
    pub pid: [f64; 3],
    /// Upper bound of the multiplier and of its integral; null for none.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub multiplier_cap: Option<f64>,
    /// Factor on rewards before the critics.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub reward_scale: f64,
    /// Factor on costs, and on the limit, before the critics.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub cost_scale: f64,
    /// Hidden layer widths of the perturbation network.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub actor_hidden: Vec<i64>,
    /// Hidden layer widths of the critics.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub critic_hidden: Vec<i64>,
    /// Critics in each of the two groups of a signal.
    #[schemars(range(min = 1, max = 16))]
    pub critics: usize,
    /// Width of the VAE's hidden layers.
    #[schemars(range(min = 1, max = most::WIDTH))]
    pub vae_hidden: i64,
    /// Weight beta of the KL in the VAE's loss.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub vae_beta: f64,
    /// Learning rate of the perturbation network.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub actor_lr: f64,
    /// Learning rate of the critics.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub critic_lr: f64,
    /// Learning rate of the VAE.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub vae_lr: f64,
    /// Rate at which targets follow.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub target_rate: f64,
    /// Rows in a batch.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub batch_size: usize,
    /// Gradient steps.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub update_steps: u64,
}

impl Default for BcqLagConfig {
    fn default() -> Self {
        BcqLagConfig {
            gamma: 0.99,
            done: Done::Terminals,
            cost_done: CostDone::Respected,
            cost_ensemble: Bound::Max,
            cost_action_reduce: Reduce::Mean,
            cost_threshold: CostThreshold::InfiniteHorizon,
            act: Act::ArgmaxN,
            candidate_draws: CandidateDraws::Shared,
            perturbation_activation: Hidden::Relu,
            candidates: 10,
            phi: 0.05,
            lambda: 0.75,
            pid: [0.1, 0.003, 0.001],
            multiplier_cap: Some(100.0),
            reward_scale: 0.1,
            cost_scale: 1.0,
            actor_hidden: vec![256, 256],
            critic_hidden: vec![256, 256],
            critics: 2,
            vae_hidden: 400,
            vae_beta: 0.5,
            actor_lr: 1e-3,
            critic_lr: 1e-3,
            vae_lr: 1e-3,
            target_rate: 0.005,
            batch_size: 512,
            update_steps: 100_000,
        }
    }
}

impl BcqLagConfig {
    /// How its critics value rewards and costs.
    pub fn values(&self) -> Values {
        Values {
            gamma: self.gamma,
            done: self.done,
            cost_done: self.cost_done,
            reward_scale: self.reward_scale,
            cost_scale: self.cost_scale,
            cost_threshold: self.cost_threshold,
        }
    }

    /// The published implementation, faults included.
    pub fn osrl() -> Self {
        BcqLagConfig {
            done: Done::TerminalsAndTimeouts,
            cost_done: CostDone::Ignored,
            cost_ensemble: Bound::Min,
            cost_action_reduce: Reduce::Max,
            cost_threshold: CostThreshold::FiniteHorizon,
            act: Act::Single,
            candidate_draws: CandidateDraws::Separate,
            perturbation_activation: Hidden::Tanh,
            multiplier_cap: None,
            ..BcqLagConfig::default()
        }
    }
}
