//! Parameters of FISOR: the repaired values, and those of the published implementation.

use crate::feasibility::margin::Classifier;
use crate::feasibility::Feasibility;
use crate::frame::{Done, Schedule};
use drcorl_core::policy::Choice;
use drcorl_core::schema::most;
use drcorl_nn::rng::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Device;

/// The violation h of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Margin {
    /// `violation_scale` where the transition costs anything, `-safety_scale` elsewhere.
    Sparse,
    /// Between the two, by a classifier that tells from the next state whether a transition costs anything: its logit
    /// as a share of `margin_logit`, clipped to 1.
    Dense,
}

/// The rows the critics learn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CriticRows {
    /// Drawn for them.
    Own,
    /// The first of the actor's batch.
    Shared,
}

/// Parameters of FISOR.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FisorConfig {
    /// What the feasibility critics learn.
    pub feasibility: Feasibility,
    /// The violation h of a transition.
    pub margin: Margin,
    /// Violation h of a transition that costs anything.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub violation_scale: f64,
    /// -h of a transition that costs nothing.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub safety_scale: f64,
    /// Margin dense: the logit of the classifier that stands for the whole of the scale.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub margin_logit: f64,
    /// Margin dense: hidden layer widths of the classifier.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub margin_hidden: Vec<i64>,
    /// Margin dense: gradient steps of the classifier, before all others.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub margin_steps: u64,
    /// Margin dense: learning rate of the classifier.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub margin_lr: f64,
    /// Discount gamma of all values.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub gamma: f64,
    /// What ends all values.
    pub done: Done,
    /// Expectile of the reward value: the nearer to 1, the nearer to the best action of the data.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub reward_expectile: f64,
    /// Reversed expectile of the feasibility value: the nearer to 1, the nearer to the safest action of the data.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub feasibility_expectile: f64,
    /// Temperature of the reward advantage in the weights of feasible actions.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub reward_temperature: f64,
    /// Temperature of the feasibility advantage in the weights at infeasible states.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub feasibility_temperature: f64,
    /// Largest weight of a feasible action.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub reward_weight_cap: f64,
    /// Largest weight at an infeasible state.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub feasibility_weight_cap: f64,
    /// Hidden layer widths of critics and values.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub critic_hidden: Vec<i64>,
    /// Learning rate of the critics.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub critic_lr: f64,
    /// Learning rate of the values.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub value_lr: f64,
    /// Rate at which the targets of the critics follow.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub target_rate: f64,
    /// The rows the critics learn from.
    pub critic_rows: CriticRows,
    /// Rows in a batch of the critics; at most `batch_size` where they are shared.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub critic_batch_size: usize,
    /// Width of the denoiser's residual blocks.
    #[schemars(range(min = 1, max = most::WIDTH))]
    pub denoiser_hidden: i64,
    /// Residual blocks of the denoiser.
    #[schemars(range(min = 1, max = most::LAYERS))]
    pub denoiser_blocks: usize,
    /// Width inside a block as a multiple of its own.
    #[schemars(range(min = 1, max = 16))]
    pub denoiser_expansion: i64,
    /// Sines and cosines of the time a denoiser sees, an even number.
    #[schemars(range(min = 2, max = most::WIDTH))]
    pub time_features: i64,
    /// Width of the two layers behind them.
    #[schemars(range(min = 1, max = most::WIDTH))]
    pub time_width: i64,
    /// Share of a block's inputs dropped in training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Learning rate of the denoiser at the start; it falls to 0 by a cosine.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub actor_lr: f64,
    /// Length of the cosine as a multiple of the training.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub actor_decay: f64,
    /// Decoupled weight decay of the denoiser, biases excepted.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// Rate at which the averaged denoiser, the one that acts, follows.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub actor_target_rate: f64,
    /// Noise levels T of the diffusion.
    #[schemars(range(min = 1, max = 1000))]
    pub diffusion_levels: usize,
    /// Whether an action is clipped to the box after every level, or only at the end.
    pub clip_levels: bool,
    /// Factor on the noise added between levels when acting.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub noise_temperature: f64,
    /// Actions N drawn when acting, of which one is taken.
    #[schemars(range(min = 1, max = 1000))]
    pub act_candidates: usize,
    /// Which of them is taken.
    pub choice: Choice,
    #[serde(flatten)]
    pub schedule: Schedule,
}

impl Default for FisorConfig {
    fn default() -> Self {
        FisorConfig {
            done: Done::Terminals,
            violation_scale: 1.0,
            critic_rows: CriticRows::Own,
            choice: Choice::Feasible,
            ..FisorConfig::published()
        }
    }
}

impl FisorConfig {
    /// The published implementation, faults included.
    pub fn published() -> Self {
        FisorConfig {
            feasibility: Feasibility::Reachability,
            margin: Margin::Sparse,
            violation_scale: 25.0,
            safety_scale: 1.0,
            margin_logit: 4.0,
            margin_hidden: vec![128, 128],
            margin_steps: 5000,
            margin_lr: 1e-3,
            gamma: 0.99,
            done: Done::TerminalsAndTimeouts,
            reward_expectile: 0.9,
            feasibility_expectile: 0.9,
            reward_temperature: 3.0,
            feasibility_temperature: 5.0,
            reward_weight_cap: 100.0,
            feasibility_weight_cap: 150.0,
            critic_hidden: vec![256, 256],
            critic_lr: 3e-4,
            value_lr: 3e-4,
            target_rate: 0.005,
            critic_rows: CriticRows::Shared,
            critic_batch_size: 256,
            denoiser_hidden: 256,
            denoiser_blocks: 3,
            denoiser_expansion: 4,
            time_features: 64,
            time_width: 128,
            dropout: 0.1,
            actor_lr: 3e-4,
            actor_decay: 1.5,
            weight_decay: 0.0,
            actor_target_rate: 0.001,
            diffusion_levels: 5,
            clip_levels: true,
            noise_temperature: 1.0,
            act_candidates: 16,
            choice: Choice::Safest,
            schedule: Schedule { batch_size: 2048, update_steps: 1_000_000 },
        }
    }

    /// Minutes on one core.
    pub fn quick() -> Self {
        FisorConfig {
            critic_hidden: vec![128, 128],
            critic_lr: 1e-3,
            value_lr: 1e-3,
            target_rate: 0.01,
            denoiser_hidden: 128,
            denoiser_blocks: 2,
            denoiser_expansion: 2,
            time_features: 16,
            time_width: 32,
            actor_lr: 1e-3,
            actor_decay: 1.0,
            actor_target_rate: 0.005,
            margin_steps: 2000,
            schedule: Schedule { batch_size: 512, update_steps: 10_000 },
            ..FisorConfig::default()
        }
    }

    /// The classifier of a dense margin.
    pub fn classifier(&self, observations: i64, device: Device, rng: &mut Rng) -> Classifier {
        Classifier::new(observations, &self.margin_hidden, (self.margin_lr, self.margin_logit), device, rng)
    }

    /// Actor updates of the whole training, after which the cosine of its learning rate would end were it 1 long.
    pub fn actor_updates(&self) -> u64 {
        super::ACTOR_UPDATES as u64 * self.schedule.update_steps
    }
}
