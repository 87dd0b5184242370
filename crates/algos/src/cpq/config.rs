//! Parameters of CPQ: the repaired values, and those of the published implementation.

use crate::shared::{Bound, CostDone, CostThreshold, Done, Values};
use drcorl_core::schema::most;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the penalty on actions unlike the data acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OodTerm {
    /// The live cost critics at squashed actions, with its gradient.
    LiveSquashed,
    /// The lagged cost critics at samples before their tanh, without a gradient: it moves alpha and the reported loss only.
    DetachedRaw,
}

/// Which sampled actions count as unlike the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OodRule {
    /// Those whose KL is above the quantile of the logged actions' KL; the penalty averages over them.
    DataQuantile,
    /// Those whose KL is above the quantile of the samples' own KL, so always the same share; the penalty averages over all samples.
    SampleQuantile,
}

/// What the policy does where its action looks too costly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Infeasible {
    /// It lowers the cost.
    LowerCost,
    /// Nothing.
    Ignore,
}

/// Parameters of CPQ.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CpqConfig {
    /// Discount gamma of both values.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub gamma: f64,
    /// What ends the value of rewards.
    pub done: Done,
    /// Whether the value of costs ends there too.
    pub cost_done: CostDone,
    /// Which member speaks for the cost critics.
    pub cost_ensemble: Bound,
    /// The cost value that stands for the limit.
    pub cost_threshold: CostThreshold,
    /// What the penalty on actions unlike the data acts on.
    pub ood_term: OodTerm,
    /// Which sampled actions count as unlike the data.
    pub ood_rule: OodRule,
    /// Quantile of that rule.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ood_quantile: f64,
    /// What the policy does where its action looks too costly.
    pub infeasible: Infeasible,
    /// The cost value of actions unlike the data is pushed to this multiple of the threshold.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub ood_scale: f64,
    /// Actions sampled at a state for the penalty.
    #[schemars(range(min = 1, max = 1000))]
    pub ood_samples: usize,
    /// Step rate of log alpha, the weight of the penalty.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub alpha_lr: f64,
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
    /// Critics of each signal.
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

impl Default for CpqConfig {
    fn default() -> Self {
        CpqConfig {
            gamma: 0.99,
            done: Done::Terminals,
            cost_done: CostDone::Respected,
            cost_ensemble: Bound::Max,
            cost_threshold: CostThreshold::InfiniteHorizon,
            ood_term: OodTerm::LiveSquashed,
            ood_rule: OodRule::DataQuantile,
            ood_quantile: 0.95,
            infeasible: Infeasible::LowerCost,
            ood_scale: 1.5,
            ood_samples: 10,
            alpha_lr: 1e-4,
            reward_scale: 0.1,
            cost_scale: 1.0,
            actor_hidden: vec![256, 256],
            critic_hidden: vec![256, 256],
            critics: 2,
            vae_hidden: 400,
            vae_beta: 0.5,
            actor_lr: 1e-4,
            critic_lr: 1e-3,
            vae_lr: 1e-3,
            target_rate: 0.005,
            batch_size: 512,
            update_steps: 100_000,
        }
    }
}

impl CpqConfig {
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
        CpqConfig {
            done: Done::TerminalsAndTimeouts,
            cost_done: CostDone::Ignored,
            cost_ensemble: Bound::Min,
            cost_threshold: CostThreshold::FiniteHorizon,
            ood_term: OodTerm::DetachedRaw,
            ood_rule: OodRule::SampleQuantile,
            ood_quantile: 0.75,
            infeasible: Infeasible::Ignore,
            ..CpqConfig::default()
        }
    }
}
