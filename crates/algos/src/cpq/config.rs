//! Parameters of CPQ: the repaired values, and those of the published implementation.

use crate::critics::Bound;
use crate::frame::presets::{fixed, osrl, quick};
use crate::frame::{ActorGroup, CriticGroup, Parameters, Schedule, VaeGroup, Values};
use drcorl_core::algorithm::Preset;
use drcorl_core::schema::most;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the penalty on actions unlike the data acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OodTerm {
    /// The live cost critics at squashed actions, with its gradient.
    LiveSquashed,
    /// The lagged cost critics at samples before their tanh, without a gradient:
    /// it moves alpha and the reported loss only.
    DetachedRaw,
}

/// Which sampled actions count as unlike the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OodRule {
    /// Those whose KL is above the quantile of the logged actions' KL; the penalty averages over them.
    DataQuantile,
    /// Those whose KL is above the quantile of the samples' own KL, so always the same share;
    /// the penalty averages over all samples.
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
    #[serde(flatten)]
    pub values: Values,
    /// Which member speaks for the cost critics.
    pub cost_ensemble: Bound,
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
    #[serde(flatten)]
    pub actor: ActorGroup,
    #[serde(flatten)]
    pub critic: CriticGroup,
    #[serde(flatten)]
    pub vae: VaeGroup,
    #[serde(flatten)]
    pub schedule: Schedule,
}

impl Default for CpqConfig {
    fn default() -> Self {
        CpqConfig {
            values: Values::default(),
            cost_ensemble: Bound::Max,
            ood_term: OodTerm::LiveSquashed,
            ood_rule: OodRule::DataQuantile,
            ood_quantile: 0.95,
            infeasible: Infeasible::LowerCost,
            ood_scale: 1.5,
            ood_samples: 10,
            alpha_lr: 1e-4,
            actor: ActorGroup { actor_lr: 1e-4, ..ActorGroup::default() },
            critic: CriticGroup::default(),
            vae: VaeGroup::default(),
            schedule: Schedule::default(),
        }
    }
}

impl CpqConfig {
    /// OSRL's implementation, faults included.
    pub fn osrl() -> Self {
        CpqConfig {
            values: Values::osrl(),
            cost_ensemble: Bound::Min,
            ood_term: OodTerm::DetachedRaw,
            ood_rule: OodRule::SampleQuantile,
            ood_quantile: 0.75,
            infeasible: Infeasible::Ignore,
            ..CpqConfig::default()
        }
    }

    /// `fixed` with small networks and fewer steps.
    pub fn quick() -> Self {
        CpqConfig {
            alpha_lr: 1e-3,
            actor: ActorGroup { actor_lr: 3e-4, ..ActorGroup::quick() },
            critic: CriticGroup::quick(),
            vae: VaeGroup::quick(),
            schedule: Schedule::quick(10_000),
            ..CpqConfig::default()
        }
    }
}

impl Parameters for CpqConfig {
    fn presets() -> Vec<Preset<Self>> {
        vec![fixed(Self::default()), osrl(Self::osrl()), quick(Self::quick())]
    }

    fn values(&self) -> Values {
        self.values
    }

    fn schedule(&self) -> Schedule {
        self.schedule
    }
}
