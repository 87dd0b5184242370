//! Parameters of CAPS: the repaired values, and those of the published implementation.

use crate::frame::presets::{fixed, quick, released};
use crate::frame::{help, ActorGroup, CostThreshold, Done, Parameters, Schedule, Values};
use drcorl_core::algorithm::Preset;
use drcorl_core::schema::most;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The deviations of the heads' Gaussians.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadDeviation {
    /// Of every head and action entry one, learnt with the means.
    Learnt,
    /// 1, for ever.
    One,
}

/// The least a head's cost is taken for when heads are compared with the remaining budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostFloor {
    /// Whatever the critics say, below 0 too.
    None,
    /// 0, as costs are.
    Zero,
}

impl CostFloor {
    /// As policy files spell it.
    pub fn name(self) -> &'static str {
        match self {
            CostFloor::None => "none",
            CostFloor::Zero => "zero",
        }
    }
}

/// Parameters of CAPS with implicit Q-learning.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(transform = words)]
pub struct CapsConfig {
    #[serde(flatten)]
    pub values: Values,
    /// Heads K of the policy: the first for reward alone, the last for cost alone, the others between.
    #[schemars(range(min = 2, max = 64))]
    pub heads: usize,
    /// Factor on the reward advantage in the weight `exp(factor A)` of a logged action.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub reward_temperature: f64,
    /// Factor on the cost advantage likewise.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub cost_temperature: f64,
    /// Upper bound of each of the two weights.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub weight_cap: f64,
    /// Expectile of the value of rewards.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub reward_expectile: f64,
    /// Expectile of the value of (negative) costs.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub cost_expectile: f64,
    /// The deviations of the heads' Gaussians.
    pub head_deviation: HeadDeviation,
    /// The least a head's cost is taken for when heads are compared with the remaining budget.
    pub cost_floor: CostFloor,
    #[serde(flatten)]
    pub actor: ActorGroup,
    /// Steps in which the actor's learning rate falls to 0 along a cosine; null: those of the training.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub actor_decay_steps: Option<u64>,
    /// Hidden layer widths of Q and V.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub critic_hidden: Vec<i64>,
    /// Learning rate of Q.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub critic_lr: f64,
    /// Learning rate of V.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub value_lr: f64,
    /// Rate at which targets follow.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub target_rate: f64,
    #[serde(flatten)]
    pub schedule: Schedule,
}

fn words(schema: &mut schemars::Schema) {
    let threshold = "The cost value that stands for what is left of the limit, at every step of the acting.";
    help(
        schema,
        &[("cost_threshold", threshold), ("actor_hidden", "Hidden layer widths of the trunk the heads share.")],
    );
}

impl Default for CapsConfig {
    fn default() -> Self {
        CapsConfig {
            values: Values::default(),
            heads: 5,
            reward_temperature: 3.0,
            cost_temperature: 3.0,
            weight_cap: 100.0,
            reward_expectile: 0.7,
            cost_expectile: 0.7,
            head_deviation: HeadDeviation::Learnt,
            cost_floor: CostFloor::Zero,
            actor: ActorGroup { actor_hidden: vec![512, 512], actor_lr: 3e-4 },
            actor_decay_steps: None,
            critic_hidden: vec![512, 512],
            critic_lr: 3e-4,
            value_lr: 3e-4,
            target_rate: 0.005,
            schedule: Schedule::default(),
        }
    }
}

impl CapsConfig {
    /// The released code, faults included.
    pub fn published() -> Self {
        CapsConfig {
            // Both values end with the episode, and so does what the budget is converted to.
            values: Values {
                done: Done::TerminalsAndTimeouts,
                cost_threshold: CostThreshold::FiniteHorizon,
                ..Values::default()
            },
            heads: 2,
            head_deviation: HeadDeviation::One,
            cost_floor: CostFloor::None,
            actor_decay_steps: Some(1_000_000),
            ..CapsConfig::default()
        }
    }

    /// `fixed` with small networks and fewer steps.
    pub fn quick() -> Self {
        CapsConfig {
            actor: ActorGroup { actor_lr: 1e-3, ..ActorGroup::quick() },
            critic_hidden: vec![128, 128],
            critic_lr: 1e-3,
            value_lr: 1e-3,
            target_rate: 0.01,
            schedule: Schedule::quick(10_000),
            ..CapsConfig::default()
        }
    }
}

impl Parameters for CapsConfig {
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
