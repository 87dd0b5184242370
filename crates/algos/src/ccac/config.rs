//! Parameters of CCAC: the repaired values, and those of the published implementation.

use crate::critics::Bound;
use crate::frame::presets::{fixed, quick, released};
use crate::frame::{help, ActorGroup, CostThreshold, CriticGroup, Done, Parameters, Schedule, Values};
use drcorl_core::algorithm::Preset;
use drcorl_core::schema::most;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// What the budget beside a state is, in the data and while acting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetUnit {
    /// The discounted cost that was still to come; acting, the cost value of what is left of the limit. The unit of
    /// the critics it is compared with.
    Discounted,
    /// The sum of the costs that were still to come; acting, what is left of the limit. More than the discounted
    /// critics can say, so that a constraint is looser than it looks.
    Undiscounted,
}

/// What a reward critic makes of its last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardOutput {
    /// The value.
    Linear,
    /// Its softplus, which can say no negative value.
    Softplus,
}

/// The budget the classifier is asked about beside a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetQuery {
    /// That of the next row of the batch, another one for every pair.
    Neighbor,
    /// That of the batch's first row for all of them.
    First,
}

/// The gradient of clamped values: decoded pairs, and the logarithms of multipliers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClampGradient {
    /// None where it would lead further out.
    Inward,
    /// As if there were no clamp.
    Straight,
}

/// Parameters of CCAC.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(transform = words)]
pub struct CcacConfig {
    #[serde(flatten)]
    pub values: Values,
    /// What the budget beside a state is, in the data and while acting.
    pub budget_unit: BudgetUnit,
    /// What a reward critic makes of its last layer. Cost critics have a softplus.
    pub reward_output: RewardOutput,
    /// Which member speaks for the cost critics.
    pub cost_ensemble: Bound,
    /// The budget the classifier is asked about beside a pair.
    pub budget_query: BudgetQuery,
    /// The gradient of clamped values: decoded pairs, and the logarithms of multipliers.
    pub clamp_gradient: ClampGradient,
    /// A generated pair is unlike what its budget allows where the classifier says more than this.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ood_threshold: f64,
    /// Upper bound of the logarithm of a multiplier.
    #[schemars(range(min = 0.0, max = 20.0))]
    pub most_log_multiplier: f64,
    /// Weight of the squared parameters of a multiplier network in its loss.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub multiplier_decay: f64,
    /// Learning rate of the multiplier networks.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub multiplier_lr: f64,
    /// Width of the hidden layers of autoencoder, classifier and multiplier networks.
    #[schemars(range(min = 1, max = most::WIDTH))]
    pub encoder_hidden: i64,
    /// Latent dimensions of the autoencoder.
    #[schemars(range(min = 1, max = 4096))]
    pub latents: i64,
    /// Weight of the KL in the autoencoder's loss.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub encoder_beta: f64,
    /// Learning rate of autoencoder and classifier.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub encoder_lr: f64,
    /// Steps of autoencoder and classifier alone, before the others begin.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub encoder_steps: u64,
    #[serde(flatten)]
    pub actor: ActorGroup,
    #[serde(flatten)]
    pub critic: CriticGroup,
    #[serde(flatten)]
    pub schedule: Schedule,
}

fn words(schema: &mut Schema) {
    help(
        schema,
        &[
            ("cost_threshold", "The cost value of what is left of the limit, with a discounted budget, at every step."),
            ("update_steps", "Gradient steps after those of autoencoder and classifier alone."),
        ],
    );
}

impl Default for CcacConfig {
    fn default() -> Self {
        CcacConfig {
            // A budget is what a logged episode still costs, and an episode ends with its time.
            values: Values {
                done: Done::TerminalsAndTimeouts,
                cost_threshold: CostThreshold::FiniteHorizon,
                ..Values::default()
            },
            budget_unit: BudgetUnit::Discounted,
            reward_output: RewardOutput::Linear,
            cost_ensemble: Bound::Max,
            budget_query: BudgetQuery::Neighbor,
            clamp_gradient: ClampGradient::Inward,
            ood_threshold: 0.5,
            most_log_multiplier: 5.0,
            multiplier_decay: 0.01,
            multiplier_lr: 1e-4,
            encoder_hidden: 512,
            latents: 64,
            encoder_beta: 0.5,
            encoder_lr: 1e-3,
            encoder_steps: 200_000,
            actor: ActorGroup { actor_lr: 1e-4, ..ActorGroup::default() },
            critic: CriticGroup { critics: 4, ..CriticGroup::default() },
            schedule: Schedule { update_steps: 200_000, ..Schedule::default() },
        }
    }
}

impl CcacConfig {
    /// The released code, faults included.
    pub fn published() -> Self {
        CcacConfig {
            budget_unit: BudgetUnit::Undiscounted,
            reward_output: RewardOutput::Softplus,
            cost_ensemble: Bound::Min,
            budget_query: BudgetQuery::First,
            clamp_gradient: ClampGradient::Straight,
            ..CcacConfig::default()
        }
    }

    /// `fixed` with small networks and fewer steps.
    pub fn quick() -> Self {
        CcacConfig {
            // Larger ones drown the rewards in so few steps: CarRun returned -553 at a cost of 77, so 435 at 38.
            most_log_multiplier: 2.0,
            multiplier_lr: 3e-4,
            encoder_hidden: 128,
            latents: 16,
            encoder_steps: 5_000,
            actor: ActorGroup { actor_lr: 3e-4, ..ActorGroup::quick() },
            critic: CriticGroup { critics: 4, ..CriticGroup::quick() },
            schedule: Schedule::quick(10_000),
            ..CcacConfig::default()
        }
    }
}

impl Parameters for CcacConfig {
    fn presets() -> Vec<Preset<Self>> {
        vec![fixed(Self::default()), released(Self::published()), quick(Self::quick())]
    }

    fn values(&self) -> Values {
        self.values
    }

    fn schedule(&self) -> Schedule {
        self.schedule
    }
}
