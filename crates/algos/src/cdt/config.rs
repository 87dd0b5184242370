//! Parameters of CDT; where the published implementation and its repair differ, the choice is a named value of an enum.

use drcorl_core::error::Result;
use drcorl_core::run::require;
use drcorl_core::schema::most;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the action head predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionHead {
    /// A normal distribution; the policy acts by its mean.
    Stochastic,
    /// The action itself.
    Deterministic,
}

/// How the action head reads the embedded cost to go beside the state's feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostFeature {
    /// Not at all.
    None,
    /// Added.
    Add,
    /// As a factor.
    Multiply,
    /// Beside it, in a head twice as wide.
    Concatenate,
}

/// What stands for the cost to go C in its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostTransform {
    /// 50 - C, so that more is better, as with returns.
    FiftyMinus,
    /// C.
    None,
}

/// The scale of likelihood and entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntropyScale {
    /// Means over action entries, against a target of -A that is meant for sums:
    /// the temperature decays whatever the policy does.
    Mean,
    /// Sums over action entries, as the target is.
    Sum,
}

/// Bounds of the logarithm of the standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStdClamp {
    /// None: one action that repeats in the data can drive it to minus infinity.
    None,
    /// [-5, 2].
    Bounded,
}

/// What a masked mean divides by, and which mask the predicted states have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossMean {
    /// All positions, padding included; the last step of an episode is asked for a state of zeros.
    Padded,
    /// The steps that are no padding; a next state counts if it was logged.
    Valid,
}

/// The class of a step's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostClass {
    /// Its integer part: fractional costs are no cost.
    Truncated,
    /// 1 if it is positive.
    Positive,
}

/// How often an episode is drawn, given its cost C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostSampling {
    /// In proportion to max(0, offset - C), the offset by `sample_cost_offset`.
    Linear,
    /// In proportion to 1 / (C + 10).
    Inverse,
    /// All alike.
    Uniform,
}

/// The cost from which `linear` sampling never draws an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampleCostOffset {
    /// 70, though tasks are evaluated at limits up to 80.
    Seventy,
    /// max(70, cost limit + 30).
    Limit,
}

/// Which target an augmented episode gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AugmentPairing {
    /// Episodes grouped by their first occurrence against targets in the order of their costs: after the first repeat
    /// that is not adjacent an episode gets another's target.
    /// Its cost is not below the true one (targets ascend), but its return can be any.
    Regrouped,
    /// The target it was found for.
    Positional,
}

/// The plane in which the episode nearest to a target is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AugmentDistance {
    /// Costs and returns as they are: the larger of both scales decides alone.
    Raw,
    /// Each divided by its range over the data.
    Scaled,
}

/// Parameters of CDT. The defaults are the preset `fixed`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CdtConfig {
    /// Width of a token, a multiple of `heads`.
    #[schemars(range(min = 1, max = 4096))]
    pub embedding_hidden: i64,
    /// Heads of the attention.
    #[schemars(range(min = 1, max = 64))]
    pub heads: usize,
    /// Blocks of the transformer.
    #[schemars(range(min = 1, max = 32))]
    pub blocks: usize,
    /// Rate of every dropout.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub dropout: f64,
    /// Steps the policy looks back on, the present one included.
    #[schemars(range(min = 1, max = 256))]
    pub context_length: usize,
    /// A distribution of actions or the action itself.
    pub action_head: ActionHead,
    /// Linear layers of the action head, with GELU between.
    #[schemars(range(min = 1, max = 8))]
    pub action_layers: usize,
    /// How the action head reads the embedded cost to go.
    pub cost_feature: CostFeature,
    /// Puts a token with the cost of the whole episode before the sequence.
    pub cost_prefix: bool,
    /// What stands for the cost to go in its token.
    pub cost_transform: CostTransform,
    /// Sequences in a batch.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub batch_size: usize,
    /// Gradient steps.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub update_steps: u64,
    /// Learning rate after the warm-up.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub actor_lr: f64,
    /// Steps over which the learning rate rises from 0 in a straight line.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub warmup_steps: u64,
    /// Decoupled weight decay on all parameters.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// Largest norm of the gradient.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub clip_norm: f64,
    /// Weight of the loss of the predicted cost class.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub cost_weight: f64,
    /// Weight of the loss of the predicted next state.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub state_weight: f64,
    /// First value of the entropy's weight.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub temperature: f64,
    /// Learning rate of the entropy's weight.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub temperature_lr: f64,
    /// The scale of likelihood and entropy.
    pub entropy_scale: EntropyScale,
    /// Bounds of the logarithm of the standard deviation.
    pub log_std_clamp: LogStdClamp,
    /// What masked means divide by.
    pub loss_mean: LossMean,
    /// The class of a step's cost.
    pub cost_class: CostClass,
    /// Factor on rewards, and so on returns to go.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub reward_scale: f64,
    /// Factor on costs to go.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub cost_scale: f64,
    /// How often an episode is drawn, given its cost.
    pub cost_sampling: CostSampling,
    /// The cost from which `linear` sampling never draws an episode.
    pub sample_cost_offset: SampleCostOffset,
    /// Relabelled episodes as a share of the logged ones (after thinning by a grid); 0 makes none.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub augment_fraction: f64,
    /// Degree of the polynomial of return on cost through the Pareto front.
    #[schemars(range(min = 0, max = 8))]
    pub augment_degree: usize,
    /// Smallest distance of a relabelled return above the polynomial.
    #[schemars(range(min = -most::FACTOR, max = most::FACTOR))]
    pub augment_min_return: f64,
    /// Largest relabelled return; null takes the best logged one,
    /// or the polynomial's lower bound where that is above it.
    #[schemars(range(min = -most::FACTOR, max = most::FACTOR))]
    pub augment_max_return: Option<f64>,
    /// How much less than its neighbour's an episode's return may be that takes its neighbour's place;
    /// null takes an eighth of the range of logged returns.
    #[schemars(range(min = -most::FACTOR, max = most::FACTOR))]
    pub augment_max_decrease: Option<f64>,
    /// Added to distances when neighbours are drawn in inverse proportion to them.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub augment_beta: f64,
    /// Which target an augmented episode gets.
    pub augment_pairing: AugmentPairing,
    /// The plane in which the nearest episode is looked for.
    pub augment_distance: AugmentDistance,
    /// Return the policy is asked for; null takes the best logged return within the cost limit. The cost it is asked
    /// for is the limit. An evaluation can ask for others.
    #[schemars(range(min = -most::FACTOR, max = most::FACTOR))]
    pub target_return: Option<f64>,
}

impl Default for CdtConfig {
    fn default() -> Self {
        CdtConfig {
            embedding_hidden: 128,
            heads: 8,
            blocks: 3,
            dropout: 0.1,
            context_length: 10,
            action_head: ActionHead::Stochastic,
            action_layers: 1,
            cost_feature: CostFeature::None,
            cost_prefix: false,
            cost_transform: CostTransform::FiftyMinus,
            batch_size: 2048,
            update_steps: 100_000,
            actor_lr: 1e-4,
            warmup_steps: 500,
            weight_decay: 1e-4,
            clip_norm: 0.25,
            cost_weight: 0.02,
            state_weight: 0.0,
            temperature: 0.1,
            temperature_lr: 1e-4,
            entropy_scale: EntropyScale::Sum,
            log_std_clamp: LogStdClamp::Bounded,
            loss_mean: LossMean::Valid,
            cost_class: CostClass::Positive,
            reward_scale: 0.1,
            cost_scale: 1.0,
            cost_sampling: CostSampling::Linear,
            sample_cost_offset: SampleCostOffset::Limit,
            augment_fraction: 0.2,
            augment_degree: 4,
            augment_min_return: 1.0,
            augment_max_return: None,
            augment_max_decrease: None,
            augment_beta: 0.01,
            augment_pairing: AugmentPairing::Positional,
            augment_distance: AugmentDistance::Scaled,
            target_return: None,
        }
    }
}

impl CdtConfig {
    /// The published behavior.
    pub fn osrl() -> Self {
        CdtConfig {
            entropy_scale: EntropyScale::Mean,
            log_std_clamp: LogStdClamp::None,
            loss_mean: LossMean::Padded,
            cost_class: CostClass::Truncated,
            sample_cost_offset: SampleCostOffset::Seventy,
            augment_max_return: Some(600.0),
            augment_max_decrease: Some(100.0),
            augment_beta: 1.0,
            augment_pairing: AugmentPairing::Regrouped,
            augment_distance: AugmentDistance::Raw,
            ..CdtConfig::default()
        }
    }

    /// A small network and batch.
    pub fn quick() -> Self {
        CdtConfig {
            embedding_hidden: 64,
            heads: 4,
            blocks: 2,
            batch_size: 64,
            update_steps: 6000,
            actor_lr: 1e-3,
            warmup_steps: 200,
            augment_degree: 2,
            ..CdtConfig::default()
        }
    }

    /// Refuses what no field can refuse alone.
    pub fn check(&self) -> Result<()> {
        require(
            self.embedding_hidden % self.heads as i64 == 0,
            "embedding_hidden",
            self.embedding_hidden,
            &format!("give a multiple of heads ({})", self.heads),
        )
    }
}
