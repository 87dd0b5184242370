//! Judging a policy without an environment: a dynamics ensemble with a validity test, fitted Q evaluation,
//! and the certificate.

pub mod certificate;
pub mod dynamics;
pub mod fqe;

pub use certificate::{certify, Certificate, CriticEstimate, CriticEstimates, Evidence, Verdict};
pub use dynamics::{Dynamics, RolloutEstimate, Validity};
pub use fqe::{Fqe, FqeEstimate};

use crate::dataset::Dataset;
use crate::error::Result;
use crate::policy::{FrozenPolicy, Player};
use crate::run::RunConfig;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use std::sync::atomic::AtomicBool;
use tch::Tensor;

/// Products of two numbers that the rollouts of one policy may take where its actions take long: a minute or two of
/// a core. The same on every machine, so that a certificate is.
const MOST_WORK: f64 = 1e12;
/// Initial states below which a mean over them is no estimate.
const FEWEST_STARTS: i64 = 8;

/// Of `asked` initial states, `made` were rolled out from: the policy's actions take too long for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub asked: i64,
    pub made: i64,
}

/// How many of `asked` initial states episodes of `length` steps may begin at, in each of `members` models, for a
/// policy whose action takes `work`: all of them where it takes none, and none where too few would be left.
fn affordable(asked: i64, members: i64, length: usize, work: f64) -> i64 {
    if work <= 0.0 {
        return asked;
    }
    let most = (MOST_WORK / (work * members.max(1) as f64 * length.max(1) as f64)) as i64;
    if most < FEWEST_STARTS.min(asked) {
        0
    } else {
        most.min(asked)
    }
}

/// A dynamics ensemble and what held-out episodes say about it.
///
/// A run has two that share nothing, not even the held-out episodes: one for gate and selection, and the auditor for
/// the certificate. A policy steered by an ensemble exploits that ensemble's errors: measured on point-circle, its own
/// models read a cost of 3.7 for a policy whose true cost was 6.9, where independent models read 6.9 and 7.1.
pub struct Judge {
    dynamics: Option<Dynamics>,
    validity: Option<Validity>,
    starts: Tensor,
    shortage: Option<Shortage>,
}

impl Judge {
    /// An untrained judge of `members` models (none for 0).
    /// Initial states are drawn once, so that all its estimates compare the same episodes.
    pub fn new(data: &Dataset, run: &RunConfig, members: usize, rng: &mut Rng) -> Self {
        let dynamics = (members > 0).then(|| Dynamics::new(data, run, members, rng));
        let starts = data.starts();
        let picks = rng.rows(run.model_rollouts, starts.size()[0], data.device());
        Judge { dynamics, validity: None, starts: starts.index_select(0, &picks), shortage: None }
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

    /// What the last [`Judge::estimate`] left out, if anything.
    pub fn shortage(&self) -> Option<Shortage> {
        self.shortage
    }

    /// [`Judge::rollout`] of a frozen policy from all initial states; from fewer, or None, where its actions take so
    /// long that this would not end in some minutes.
    pub fn estimate(
        &mut self,
        data: &Dataset,
        policy: &dyn FrozenPolicy,
        cancel: &AtomicBool,
    ) -> Result<Option<RolloutEstimate>> {
        let members = self.dynamics.as_ref().map_or(0, Dynamics::members);
        let asked = self.starts.size()[0];
        let made = affordable(asked, members, data.episode_length, policy.work());
        self.shortage = (members > 0 && made < asked).then_some(Shortage { asked, made });
        if made == 0 {
            return Ok(None);
        }
        let mut player = policy.start(made * members);
        self.rollout(data, Some(made as usize), cancel, player.as_mut())
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

#[cfg(test)]
mod tests {
    use super::affordable;

    #[test]
    fn long_actions_have_fewer_rollouts_or_none() {
        assert_eq!(affordable(120, 5, 200, 0.0), 120);
        assert_eq!(affordable(120, 5, 200, 1e6), 120);
        assert_eq!(affordable(120, 5, 200, 1e8), 10);
        assert_eq!(affordable(120, 5, 200, 1e9), 0, "fewer than eight");
        assert_eq!(affordable(4, 5, 200, 2e8), 4, "all that were asked for are no shortage");
        assert_eq!(affordable(4, 5, 200, 1e9), 0);
    }
}
