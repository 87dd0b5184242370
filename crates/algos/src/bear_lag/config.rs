//! Parameters of BEAR-Lag: the repaired values, and those of the published implementation.

use crate::shared::{Bound, CandidateDraws, CostDone, CostThreshold, Done, Reduce, Values};
use drcorl_core::schema::most;
use drcorl_nn::mmd::Kernel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where samples are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MmdSpace {
    /// As actions, after the tanh.
    Squashed,
    /// Before the tanh.
    Raw,
}

/// Parameters of BEAR-Lag.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BearLagConfig {
    /// Discount gamma of both values.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub gamma: f64,
    /// What ends the value of rewards.
    pub done: Done,
    /// Whether the value of costs ends there too.
    pub cost_done: CostDone,
    /// Which member speaks for the cost critics.
    pub cost_ensemble: Bound,
    /// How the cost values of the samples become one.
    pub cost_action_reduce: Reduce,
    /// The cost value that stands for the limit.
    pub cost_threshold: CostThreshold,
    /// Samples the targets look at.
    pub candidate_draws: CandidateDraws,
    /// Where the policy's samples are compared with the VAE's.
    pub mmd_space: MmdSpace,
    /// Kernel of the discrepancy.
    pub mmd_kernel: Kernel,
    /// Width sigma of the kernel.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub mmd_sigma: f64,
    /// Largest discrepancy eps.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub mmd_threshold: f64,
    /// Samples of each side in the discrepancy.
    #[schemars(range(min = 1, max = 1000))]
    pub mmd_samples: usize,
    /// Step rate of log alpha, the multiplier of the discrepancy.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub alpha_lr: f64,
    /// Steps before the policy follows the reward critics; until then it only imitates.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub imitation_steps: u64,
    /// Samples n of the lagged policy in a target.
    #[schemars(range(min = 1, max = 1000))]
    pub candidates: usize,
    /// Weight lambda of the pessimistic one of two groups of critics.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: f64,
    /// Gains KP, KI, KD of the multiplier of costs.
    #[schemars(inner(range(min = 0.0, max = most::FACTOR)))]
    pub pid: [f64; 3],
    /// Upper bound of that multiplier and of its integral; null for none.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub multiplier_cap: Option<f64>,
    /// Factor on rewards before the critics.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub reward_scale: f64,
    /// Factor on costs, and on the limit, before the critics.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub cost_scale: f64,
    /// Hidden layer widths of the actor.
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
    /// Learning rate of the actor.
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

impl Default for BearLagConfig {
    fn default() -> Self {
        BearLagConfig {
            gamma: 0.99,
            done: Done::Terminals,
            cost_done: CostDone::Respected,
            cost_ensemble: Bound::Max,
            cost_action_reduce: Reduce::Mean,
            cost_threshold: CostThreshold::InfiniteHorizon,
            candidate_draws: CandidateDraws::Shared,
            mmd_space: MmdSpace::Squashed,
            mmd_kernel: Kernel::Gaussian,
            mmd_sigma: 50.0,
            mmd_threshold: 0.05,
            mmd_samples: 10,
            alpha_lr: 1e-3,
            imitation_steps: 0,
            candidates: 10,
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
            update_steps: 300_000,
        }
    }
}

impl BearLagConfig {
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
        BearLagConfig {
            done: Done::TerminalsAndTimeouts,
            cost_done: CostDone::Ignored,
            cost_ensemble: Bound::Min,
            cost_action_reduce: Reduce::Max,
            cost_threshold: CostThreshold::FiniteHorizon,
            candidate_draws: CandidateDraws::Separate,
            mmd_space: MmdSpace::Raw,
            multiplier_cap: None,
            ..BearLagConfig::default()
        }
    }
}
