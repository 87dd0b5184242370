//! Parameters of CAPS with soft actor-critics: the repaired values, and those of the published implementation.

use crate::caps::CostFloor;
use crate::frame::presets::{fixed, quick, released};
use crate::frame::{help, ActorGroup, CostThreshold, CriticGroup, Done, Parameters, Schedule, Values};
use drcorl_core::algorithm::Preset;
use drcorl_core::schema::most;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// The entropy in the targets of the critics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntropyBackup {
    /// Of the next action, discounted with its value, in the critics of rewards alone: a cost is a cost.
    Discounted,
    /// Added as it is, past every end, to the targets of both signals.
    Added,
}

/// Parameters of CAPS with soft actor-critics.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(transform = words)]
pub struct CapsSacConfig {
    #[serde(flatten)]
    pub values: Values,
    /// Heads K of the policy: the first for reward alone, the last for cost alone, the others between.
    #[schemars(range(min = 2, max = 64))]
    pub heads: usize,
    /// Weight of a head's value, in multiples of the mean size of that value, against the squared distance to the
    /// logged action.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub value_weight: f64,
    /// The entropy in the targets of the critics.
    pub entropy_backup: EntropyBackup,
    /// Weight alpha of the entropy at the beginning; it is learnt so that the entropy of a head is -A.
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub temperature: f64,
    /// Learning rate of log alpha.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub temperature_lr: f64,
    /// The least a head's cost is taken for when heads are compared with the remaining budget.
    pub cost_floor: CostFloor,
    #[serde(flatten)]
    pub actor: ActorGroup,
    #[serde(flatten)]
    pub critic: CriticGroup,
    #[serde(flatten)]
    pub schedule: Schedule,
}

fn words(schema: &mut Schema) {
    let threshold = "The cost value that stands for what is left of the limit, at every step of the acting.";
    help(
        schema,
        &[("cost_threshold", threshold), ("actor_hidden", "Hidden layer widths of the trunk the heads share.")],
    );
}

impl Default for CapsSacConfig {
    fn default() -> Self {
        CapsSacConfig {
            values: Values::default(),
            heads: 5,
            value_weight: 2.5,
            entropy_backup: EntropyBackup::Discounted,
            temperature: 0.1,
            temperature_lr: 1e-4,
            cost_floor: CostFloor::Zero,
            actor: ActorGroup { actor_hidden: vec![512, 512], actor_lr: 1e-4 },
            critic: CriticGroup { critic_hidden: vec![512, 512], ..CriticGroup::default() },
            schedule: Schedule::default(),
        }
    }
}

impl CapsSacConfig {
    /// The released code, faults included.
    pub fn published() -> Self {
        CapsSacConfig {
            values: Values {
                done: Done::TerminalsAndTimeouts,
                cost_threshold: CostThreshold::FiniteHorizon,
                ..Values::default()
            },
            heads: 2,
            entropy_backup: EntropyBackup::Added,
            ..CapsSacConfig::default()
        }
    }

    /// `fixed` with small networks and fewer steps.
    pub fn quick() -> Self {
        CapsSacConfig {
            actor: ActorGroup { actor_lr: 3e-4, ..ActorGroup::quick() },
            critic: CriticGroup::quick(),
            temperature_lr: 1e-3,
            schedule: Schedule::quick(10_000),
            ..CapsSacConfig::default()
        }
    }
}

impl Parameters for CapsSacConfig {
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
