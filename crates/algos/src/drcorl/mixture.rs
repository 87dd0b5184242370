//! The weighted policy of the theory, (41): a mixture of the iterates of adaptation, of which one, drawn by weight,
//! plays a whole episode.
//!
//! The iterate before a step counts with the weight of the reward in that step, as in `drcorl theory`:
//!
//! - 1 before a reward step, and before one in the band that follows the reward alone,
//!   because both gradients cancelled;
//! - x_r of (12), as capped, before any other step in the band;
//! - 0 before a cost step, also one that stands for a cancelled band, and in the prologue, whose steps follow the
//!   reward whatever the estimate says: the bound on the mixture's cost needs that every iterate that counts was
//!   estimated below the limit and its slack.
//!
//! An iterate is the live policy, not the running average that ships.

use super::adaptation::Branch;
use super::Drcorl;
use drcorl_core::error::Result;
use drcorl_core::policy::{mixture, FrozenPolicy, PlayedFile, Policy};
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use tch::Tensor;

/// Separates the mixture's draws from all others of the seed.
const STREAM: u64 = 0x6d69_7874;

/// Iterates in bounded memory, by weighted reservoir sampling: K slots, each of which holds iterate t with probability
/// w_t / sum w at any time, so that the mixture of the slots is that of all iterates in expectation over the seed.
///
/// Thinning to every n-th iterate would need the number of steps that count, which nobody knows before, and would meet
/// oscillations of the switch at one phase. An iterate takes slot k where `frac(u + k/K) < w_t / (w_0 + .. + w_t)`, for
/// one uniform draw u a step. The shift leaves each slot its probability and makes the slots differ: an iterate of less
/// than a K-th of the weight takes one of them at most.
pub(super) struct Mixture {
    /// Parameters of the policy, `[P]` each.
    slots: Vec<Tensor>,
    /// Of the adaptation, before which a slot's iterate was the policy.
    steps: Vec<u64>,
    /// Of all iterates that counted.
    total: f64,
    /// A generator of its own: the draws of everything else are those of a run that keeps no mixture.
    rng: Rng,
    /// What the iterate before the present step counts.
    pub weight: f64,
}

impl Mixture {
    /// `slots` empty ones for the parameters of `policy`.
    pub fn of(policy: &Policy, slots: usize, seed: u64) -> Self {
        let empty = || policy.arena().values().zeros_like();
        Mixture {
            slots: (0..slots).map(|_| empty()).collect(),
            steps: vec![0; slots],
            total: 0.0,
            rng: Rng::new(seed, STREAM),
            weight: 0.0,
        }
    }

    /// Forgets all iterates: those of two courses are none of one another's.
    pub fn restart(&mut self) {
        self.total = 0.0;
    }

    /// The policy before a step, a copy; none where nothing is kept.
    pub fn iterate(&self, policy: &Policy) -> Option<Tensor> {
        (!self.slots.is_empty()).then(|| policy.arena().values().copy())
    }

    /// What a step counts as far as its branch decides it; the combination of the band says the rest.
    pub fn weigh(&mut self, branch: Branch, prologue: bool) {
        self.weight = if branch == Branch::Reward && !prologue { 1.0 } else { 0.0 };
    }

    /// Puts the iterate before step `step` into the slots that it is drawn for.
    pub fn offer(&mut self, step: u64, iterate: Option<Tensor>) {
        let Some(iterate) = iterate.filter(|_| self.weight > 0.0) else { return };
        self.total += self.weight;
        let count = self.slots.len();
        let draw = (self.rng.below(1 << 26) as f64 + f64::from(self.rng.unit())) / f64::from(1 << 26);
        for (k, (slot, at)) in self.slots.iter_mut().zip(&mut self.steps).enumerate() {
            if (draw + k as f64 / count as f64).fract() * self.total < self.weight {
                slot.copy_(&iterate);
                *at = step;
            }
        }
    }

    /// Iterates in the slots by their steps, each with one of its slots and the share of the slots that it has.
    fn kept(&self) -> Vec<(u64, usize, f64)> {
        let mut kept: Vec<(u64, usize, f64)> = Vec::new();
        for (slot, &step) in self.steps.iter().enumerate().filter(|_| self.total > 0.0) {
            match kept.iter_mut().find(|(found, _, _)| *found == step) {
                Some((_, _, share)) => *share += 1.0 / self.steps.len() as f64,
                None => kept.push((step, slot, 1.0 / self.steps.len() as f64)),
            }
        }
        kept.sort_by_key(|&(step, _, _)| step);
        kept
    }

    /// The mixture as a policy, its iterates of the shape of `policy`; none where none was kept.
    pub fn policy(&self, policy: &Policy, sizes: [i64; 2]) -> Result<Option<PlayedFile>> {
        let kept = self.kept();
        if kept.is_empty() {
            return Ok(None);
        }
        let iterates: Vec<_> = kept.iter().map(|&(_, slot, share)| (share, policy.at(&self.slots[slot]))).collect();
        let members: Vec<(f64, &dyn FrozenPolicy)> =
            iterates.iter().map(|(share, policy)| (*share, policy as &dyn FrozenPolicy)).collect();
        mixture(&members, 0, sizes).map(Some)
    }

    /// Saves or restores everything; nothing where nothing is kept.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        let count = self.slots.len();
        if count == 0 {
            return Ok(());
        }
        state.value("draws", &mut self.rng)?;
        state.value("weight", &mut self.total)?;
        if !(self.total.is_finite() && self.total >= 0.0) {
            return Err(state.refuse("weight", format!("is {}, below 0", self.total)));
        }
        state.value("steps", &mut self.steps)?;
        if self.steps.len() != count {
            return Err(state.refuse("steps", format!("has {} entries, the run keeps {count}", self.steps.len())));
        }
        self.slots.iter_mut().enumerate().try_for_each(|(k, slot)| state.tensor(&format!("{k}"), slot))
    }
}

impl Drcorl {
    /// The mixture as far as it goes.
    pub(super) fn mixed(&self) -> Result<Option<PlayedFile>> {
        self.mixture.policy(&self.policy, self.sizes)
    }
}

#[cfg(test)]
mod tests;
