//! Parameters of BCQ-Lag: the repaired values, and those of the published implementation.

use crate::critics::{Bound, Reduce};
use crate::frame::presets::{fixed, osrl, quick};
use crate::frame::{help, ActorGroup, CandidateDraws, CriticGroup, Parameters, PidGroup, Schedule, VaeGroup, Values};
use drcorl_core::algorithm::Preset;
use drcorl_nn::Hidden;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// Which action of several candidates is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Of `candidates` the one with the highest `Q - multiplier Qc`.
    ArgmaxN,
    /// The only one drawn.
    Single,
}

/// Parameters of BCQ-Lag.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(transform = words)]
pub struct BcqLagConfig {
    #[serde(flatten)]
    pub values: Values,
    /// Which member speaks for the cost critics.
    pub cost_ensemble: Bound,
    /// How the cost values of the candidates become one.
    pub cost_action_reduce: Reduce,
    /// Which candidate is taken when acting.
    pub act: Act,
    /// Candidates the targets look at.
    pub candidate_draws: CandidateDraws,
    /// Activation between the layers of the perturbation network.
    pub perturbation_activation: Hidden,
    /// Candidates n drawn for a state, in targets and when acting.
    #[schemars(range(min = 1, max = 1000))]
    pub candidates: usize,
    /// Largest change phi of a decoded action.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub phi: f64,
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
            ("actor_hidden", "Hidden layer widths of the perturbation network."),
            ("actor_lr", "Learning rate of the perturbation network."),
            ("critics", "Critics in each of the two groups of a signal."),
        ],
    );
}

impl Default for BcqLagConfig {
    fn default() -> Self {
        BcqLagConfig {
            values: Values::default(),
            cost_ensemble: Bound::Max,
            cost_action_reduce: Reduce::Mean,
            act: Act::ArgmaxN,
            candidate_draws: CandidateDraws::Shared,
            perturbation_activation: Hidden::Relu,
            candidates: 10,
            phi: 0.05,
            lambda: 0.75,
            pid: PidGroup::default(),
            actor: ActorGroup::default(),
            critic: CriticGroup::default(),
            vae: VaeGroup::default(),
            schedule: Schedule::default(),
        }
    }
}

impl BcqLagConfig {
    /// OSRL's implementation, faults included.
    pub fn osrl() -> Self {
        BcqLagConfig {
            values: Values::osrl(),
            cost_ensemble: Bound::Min,
            cost_action_reduce: Reduce::Max,
            act: Act::Single,
            candidate_draws: CandidateDraws::Separate,
            perturbation_activation: Hidden::Tanh,
            pid: PidGroup { multiplier_cap: None, ..PidGroup::default() },
            ..BcqLagConfig::default()
        }
    }

    /// `fixed` with small networks and fewer steps.
    pub fn quick() -> Self {
        BcqLagConfig {
            actor: ActorGroup::quick(),
            critic: CriticGroup::quick(),
            vae: VaeGroup::quick(),
            schedule: Schedule::quick(10_000),
            ..BcqLagConfig::default()
        }
    }
}

impl Parameters for BcqLagConfig {
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
