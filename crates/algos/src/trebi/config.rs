//! Parameters of TREBI; where the published implementation and its repair differ, the choice is a named value.

use drcorl_core::error::Result;
use drcorl_core::run::require;
use drcorl_core::schema::most;
use drcorl_nn::unet::GROUPS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands in a window behind the end of its episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Zeros in the environment's units; no window begins in the last `horizon` steps of the longest episodes.
    Zeros,
    /// The last observation, with the mean action; a window begins at every step.
    Last,
}

/// What the value nets are fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueScale {
    /// Sums as they are; guidance follows their gradients.
    Raw,
    /// Sums with mean 0 and deviation 1 over the data; guidance follows the gradients of these.
    Standardized,
}

/// How the budget that is left of the cost limit is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanBudgetUnit {
    /// The limit is taken for a discounted sum: `kappa_{t+1} = (kappa_t - c_t) / gamma` from the limit itself.
    Limit,
    /// The same recursion from the discounted sum of an even spending of the limit.
    Even,
    /// What is left of the limit, spent evenly over the steps that are left.
    Remaining,
}

/// How the weight of the cost's gradient depends on how far a plan is above its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostWeightBy {
    /// Not at all.
    Constant,
    /// It grows to e times as much with the excess as a share of the budget, which may be negative.
    Relative,
    /// The same, the budget being at least one deviation of the costs to come.
    Guarded,
}

/// Which entries of a plan are led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuideEntries {
    /// All.
    All,
    /// Actions alone.
    Actions,
}

/// Which values choose among the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// Those of the last guidance, before the last denoising step.
    Stale,
    /// Those of the plans that are chosen from.
    Final,
}

/// Parameters of TREBI. The defaults are the preset `fixed`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrebiConfig {
    /// Steps of a plan, a multiple of 2 to the number of `denoiser_hidden` widths less one.
    #[schemars(range(min = 1, max = 1024))]
    pub horizon: usize,
    /// Widths of the denoiser, multiples of 8, from the plan's own number of steps downward; each halves it.
    #[schemars(length(min = 1, max = 8), inner(range(min = 8, max = 2048)))]
    pub denoiser_hidden: Vec<i64>,
    /// Widths of the value nets, multiples of 8.
    #[schemars(length(min = 1, max = 8), inner(range(min = 8, max = 2048)))]
    pub value_hidden: Vec<i64>,
    /// Noise levels of the diffusion, and denoising steps of a plan.
    #[schemars(range(min = 1, max = 1000))]
    pub noise_levels: usize,
    /// Windows in a batch.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub batch_size: usize,
    /// Batches whose gradients are averaged for one step.
    #[schemars(range(min = 1, max = 64))]
    pub accumulate: usize,
    /// Gradient steps of the denoiser.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub denoiser_steps: u64,
    /// Gradient steps of both value nets.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub value_steps: u64,
    /// Learning rate of the denoiser.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub denoiser_lr: f64,
    /// Learning rate of the value nets.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub value_lr: f64,
    /// Share of the averaged weights, which plan, that is kept at each update of the average.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub average_decay: f64,
    /// Steps between two updates of the average.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub average_interval: u64,
    /// Step before which an update copies the weights.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub average_start: u64,
    /// Weight of the error in a plan's first action; that of every other entry is 1.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub action_weight: f64,
    /// Discount of the rewards and costs to come.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub gamma: f64,
    /// Taken from the last reward and added to the last cost of an episode that the environment ended.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub terminal_penalty: f64,
    /// What stands in a window behind the end of its episode.
    pub padding: Padding,
    /// What the value nets are fitted to.
    pub value_scale: ValueScale,
    /// How the budget that is left of the cost limit is counted.
    pub budget: PlanBudgetUnit,
    /// Plans a decision chooses from; 1 plans without choice. An evaluation can ask for others.
    #[schemars(range(min = 1, max = 4096))]
    pub plans: usize,
    /// Actions that are taken of a plan before another is made. An evaluation can ask for others.
    #[schemars(range(min = 1, max = 1024))]
    pub replan_interval: usize,
    /// Step along the value nets' gradients, times the variance of a denoising step; 0 plans unguided. An evaluation
    /// can ask for others.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub guide_scale: f64,
    /// Weight of the cost's gradient where a plan is above its budget. An evaluation can ask for others.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub cost_weight: f64,
    /// How that weight depends on the excess.
    pub cost_weight_by: CostWeightBy,
    /// Steps along the gradients a noise level.
    #[schemars(range(min = 1, max = 64))]
    pub guide_repeats: usize,
    /// Noise levels, the lowest ones, at which plans are not led.
    #[schemars(range(min = 0, max = 1000))]
    pub guide_stop: usize,
    /// Which entries of a plan are led.
    pub guide_entries: GuideEntries,
    /// Which values choose among the candidates.
    pub ranking: Ranking,
}

impl Default for TrebiConfig {
    fn default() -> Self {
        TrebiConfig {
            horizon: 32,
            denoiser_hidden: vec![32, 64, 128, 256],
            value_hidden: vec![32, 64, 128, 256],
            noise_levels: 20,
            batch_size: 64,
            accumulate: 1,
            denoiser_steps: 1_000_000,
            value_steps: 200_000,
            denoiser_lr: 2e-4,
            value_lr: 2e-4,
            average_decay: 0.995,
            average_interval: 10,
            average_start: 2000,
            action_weight: 10.0,
            gamma: 0.99,
            terminal_penalty: 0.0,
            padding: Padding::Last,
            value_scale: ValueScale::Standardized,
            budget: PlanBudgetUnit::Remaining,
            plans: 64,
            replan_interval: 1,
            guide_scale: 1.0,
            cost_weight: 5.0,
            cost_weight_by: CostWeightBy::Guarded,
            guide_repeats: 2,
            guide_stop: 0,
            guide_entries: GuideEntries::All,
            ranking: Ranking::Final,
        }
    }
}

impl TrebiConfig {
    /// The published behavior.
    pub fn published() -> Self {
        TrebiConfig {
            batch_size: 32,
            accumulate: 2,
            gamma: 0.997,
            terminal_penalty: 100.0,
            padding: Padding::Zeros,
            value_scale: ValueScale::Raw,
            budget: PlanBudgetUnit::Even,
            guide_scale: 0.1,
            cost_weight_by: CostWeightBy::Relative,
            guide_stop: 2,
            ranking: Ranking::Stale,
            ..TrebiConfig::default()
        }
    }

    /// Small networks, few plans.
    pub fn quick() -> Self {
        TrebiConfig {
            horizon: 8,
            denoiser_hidden: vec![32, 64],
            value_hidden: vec![32, 64],
            noise_levels: 10,
            denoiser_steps: 5000,
            value_steps: 2000,
            denoiser_lr: 1e-3,
            value_lr: 1e-3,
            average_start: 500,
            plans: 8,
            replan_interval: 4,
            guide_repeats: 1,
            ..TrebiConfig::default()
        }
    }

    /// Refuses what no field can refuse alone.
    pub fn check(&self) -> Result<()> {
        for (key, widths) in [("denoiser_hidden", &self.denoiser_hidden), ("value_hidden", &self.value_hidden)] {
            let whole = widths.iter().all(|width| width % GROUPS == 0);
            require(whole, key, format!("{widths:?}"), &format!("give multiples of {GROUPS}"))?;
        }
        let parts = 1usize << (self.denoiser_hidden.len() - 1);
        require(
            self.horizon.is_multiple_of(parts),
            "horizon",
            self.horizon,
            &format!("give a multiple of {parts}, or fewer widths in denoiser_hidden"),
        )?;
        let remedy = format!("give at most horizon ({})", self.horizon);
        require(self.replan_interval <= self.horizon, "replan_interval", self.replan_interval, &remedy)
    }
}
