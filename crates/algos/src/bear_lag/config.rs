//! Parameters of BEAR-Lag: the repaired values, and those of the published implementation.

use crate::critics::{Bound, Reduce};
use crate::frame::presets::{fixed, osrl, quick};
use crate::frame::{help, ActorGroup, CandidateDraws, CriticGroup, Parameters, PidGroup, Schedule, VaeGroup, Values};
use crate::losses::mmd::Kernel;
use drcorl_core::algorithm::Preset;
use drcorl_core::schema::most;
use schemars::{JsonSchema, Schema};
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
#[schemars(transform = words)]
pub struct BearLagConfig {
    #[serde(flatten)]
    pub values: Values,
    /// Which member speaks for the cost critics.
    pub cost_ensemble: Bound,
    /// How the cost values of the samples become one.
    pub cost_action_reduce: Reduce,
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
    #[serde(flatten)]
    pub pid: PidGroup,
    #[serde(flatten)]
    pub actor: ActorGroup,
    #[serde(flatten)]
    pub critic: CriticGroup,
    #[serde(flatten)]
    pub vae: VaeGroup,
    #[serde(flatten)]
    pub schedule: Schedule,
}

/// What the shared parameters mean here.
fn words(schema: &mut Schema) {
    help(
        schema,
        &[
            ("pid", "Gains KP, KI, KD of the multiplier of costs."),
            ("multiplier_cap", "Upper bound of that multiplier and of its integral part; null for none."),
            ("critics", "Critics in each of the two groups of a signal."),
        ],
    );
}

impl Default for BearLagConfig {
    fn default() -> Self {
        BearLagConfig {
            values: Values::default(),
            cost_ensemble: Bound::Max,
            cost_action_reduce: Reduce::Mean,
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
            pid: PidGroup::default(),
            actor: ActorGroup::default(),
            critic: CriticGroup::default(),
            vae: VaeGroup::default(),
            schedule: Schedule { update_steps: 300_000, ..Schedule::default() },
        }
    }
}

impl BearLagConfig {
    /// OSRL's implementation, faults included.
    pub fn osrl() -> Self {
        BearLagConfig {
            values: Values::osrl(),
            cost_ensemble: Bound::Min,
            cost_action_reduce: Reduce::Max,
            candidate_draws: CandidateDraws::Separate,
            mmd_space: MmdSpace::Raw,
            pid: PidGroup { multiplier_cap: None, ..PidGroup::default() },
            ..BearLagConfig::default()
        }
    }

    /// `fixed` with small networks and fewer steps.
    pub fn quick() -> Self {
        BearLagConfig {
            alpha_lr: 1e-2,
            actor: ActorGroup::quick(),
            critic: CriticGroup::quick(),
            vae: VaeGroup::quick(),
            schedule: Schedule::quick(10_000),
            ..BearLagConfig::default()
        }
    }
}

impl Parameters for BearLagConfig {
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
