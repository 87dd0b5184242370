//! Judging a policy without an environment: a dynamics ensemble with a validity test, fitted Q evaluation,
//! and the certificate.

pub mod certificate;
pub mod dynamics;
pub mod fqe;
pub mod held_out;

pub use certificate::{certify, Certificate, CriticEstimate, CriticEstimates, Evidence, Verdict};
pub use dynamics::{Dynamics, RolloutEstimate, Validity};
pub use fqe::{Fqe, FqeEstimate};
pub use held_out::HeldOut;

use crate::dataset::Dataset;
use crate::error::Result;
use crate::policy::{FrozenPolicy, Player};
use crate::run::RunConfig;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use std::sync::atomic::AtomicBool;
use tch::Tensor;

/// A dynamics ensemble and what held-out episodes say about it.
///
/// A run has two that share nothing, not even the held-out episodes: one for gate and selection, and the auditor for
/// the certificate. A policy steered by an ensemble exploits that ensemble's errors: measured on point-circle, its own
/// models read a cost of 3.7 for a policy whose true cost was 6.9, where independent models read 6.9 and 7.1.
pub struct Judge {
    dynamics: Option<Dynamics>,
    validity: Option<Validity>,
    starts: Tensor,
}

impl Judge {
    /// An untrained judge of `members` models (none for 0).
    /// Initial states are drawn once, so that all its estimates compare the same episodes.
    pub fn new(data: &Dataset, run: &RunConfig, members: usize, rng: &mut Rng) -> Self {
        let dynamics = (members > 0).then(|| Dynamics::new(data, run, members, rng));
        let starts = data.starts();
        let picks = rng.rows(run.model_rollouts, starts.size()[0], data.device());
        Judge { dynamics, validity: None, starts: starts.index_select(0, &picks) }
    }

    /// Steps its training takes, the test on held-out episodes being the last.
    pub fn steps(&self, run: &RunConfig) -> u64 {
        if self.dynamics.is_some() && run.model_steps > 0 {
            run.model_steps + 1
        } else {
            0
        }
    }

    /// One training step, or after `model_steps` of them the validity test. Returns the loss, if there is one.
    pub fn step(
        &mut self,
        step: u64,
        data: &Dataset,
        run: &RunConfig,
        rng: &mut Rng,
        cancel: &AtomicBool,
    ) -> Result<Option<f64>> {
        let Some(dynamics) = &mut self.dynamics else { return Ok(None) };
        if step < run.model_steps {
            return dynamics.step(step, data, run, rng).map(Some);
        }
        self.validity = Some(dynamics.validate(data, run, cancel)?);
        Ok(None)
    }

    /// The validity test's result; None before the model phase has ended or without a model.
    pub fn validity(&self) -> Option<&Validity> {
        self.validity.as_ref()
    }

    /// True if a dynamics ensemble exists and passed its test.
    pub fn valid(&self) -> bool {
        self.validity.as_ref().is_some_and(|validity| validity.valid)
    }

    /// Rolls a policy out from `count` of the run's initial states (all of them if `None`). The policy plays in every
    /// member of the ensemble: row b*E+e is start b in member e.
    pub fn rollout(
        &mut self,
        data: &Dataset,
        count: Option<usize>,
        cancel: &AtomicBool,
        player: &mut dyn Player,
    ) -> Result<Option<RolloutEstimate>> {
        let total = self.starts.size()[0];
        let starts = self.starts.narrow(0, 0, count.map_or(total, |n| (n as i64).min(total)));
        self.dynamics.as_mut().map(|dynamics| dynamics.rollout(data, &starts, cancel, player)).transpose()
    }

    /// [`Judge::rollout`] of a frozen policy from all initial states.
    pub fn estimate(
        &mut self,
        data: &Dataset,
        policy: &dyn FrozenPolicy,
        cancel: &AtomicBool,
    ) -> Result<Option<RolloutEstimate>> {
        let members = self.dynamics.as_ref().map_or(0, Dynamics::members);
        let mut player = policy.start(self.starts.size()[0] * members);
        self.rollout(data, None, cancel, player.as_mut())
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.tensor("starts", &mut self.starts)?;
        state.value("validity", &mut self.validity)?;
        match &mut self.dynamics {
            Some(dynamics) => state.group("dynamics", |state| dynamics.persist(state)),
            None => Ok(()),
        }
    }
}
