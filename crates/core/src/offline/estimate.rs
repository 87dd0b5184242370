//! The estimate of one policy: whole episodes in the models, or stretches of them with a learnt tail.

use super::dynamics::Dynamics;
use super::goal::Goal;
use super::play::per_member;
use super::stats::{mean, sample_deviation};
use super::tail::{bounded, lasting, Basis, Stretches};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::policy::Player;
use crate::run::RunConfig;
use std::sync::atomic::AtomicBool;
use tch::{Kind, Tensor};

/// Moments of a play at which states and actions are kept, to ask how far they are from the data.
const MOMENTS: usize = 10;

/// Predicted episodes by one of the costs that are bounded: means over members and their spread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutEstimate {
    /// Mean episodic cost over members and starts; no predicted end lowers it.
    pub cost: f64,
    /// Sample standard deviation of the members' mean costs.
    pub cost_std: f64,
    /// Mean undiscounted return.
    pub ret: f64,
    /// Sample standard deviation of the members' mean returns.
    pub return_std: f64,
    /// Share of predicted entries of states that had to be clipped to the data's range.
    pub clipped: f64,
    /// Steps a policy was rolled out before the learnt tail took over; None for whole episodes.
    pub horizon: Option<usize>,
    /// Cost of every episode by member, `[E][N]`; empty where a tail was learnt, which knows means only.
    pub costs: Vec<Vec<f64>>,
    /// Distance of the policy's actions to those of the nearest logged behavior; None without a self-test.
    pub distance: Option<f64>,
}

impl RolloutEstimate {
    /// Mean cost plus `k` standard deviations over members.
    pub fn upper(&self, k: f64) -> f64 {
        self.cost + k * self.cost_std
    }

    /// The one whose bound on the mean cost is higher, of estimates with what widens each.
    pub(super) fn higher(read: impl Iterator<Item = (Self, f64)>, run: &RunConfig) -> Option<Self> {
        let bound = |(found, shortfall): &(Self, f64)| {
            found.upper(run.certificate_k) + shortfall * Goal::Mean.scale(found.cost, run)
        };
        // A bound of NaN is the highest.
        read.max_by(|a, b| bound(a).total_cmp(&bound(b))).map(|(found, _)| found)
    }

    /// Of the sums of every member, `[E][N]`.
    fn of(costs: &[Vec<f64>], returns: &[Vec<f64>], clipped: f64) -> Self {
        let means = |sums: &[Vec<f64>]| sums.iter().map(|member| mean(member)).collect::<Vec<f64>>();
        let (cost_means, return_means) = (means(costs), means(returns));
        RolloutEstimate {
            cost: mean(&cost_means),
            cost_std: sample_deviation(&cost_means),
            ret: mean(&return_means),
            return_std: sample_deviation(&return_means),
            clipped,
            horizon: None,
            costs: Vec::new(),
            distance: None,
        }
    }

    /// Mean and sample deviation over members of what is certified; None where only the mean cost is known.
    pub fn value(&self, goal: Goal, run: &RunConfig) -> Option<(f64, f64)> {
        if goal == Goal::Mean {
            return Some((self.cost, self.cost_std));
        }
        let members: Vec<f64> = self.costs.iter().map(|costs| goal.of(costs, run)).collect();
        (!members.is_empty()).then(|| (mean(&members), sample_deviation(&members)))
    }
}

/// Where a policy was in a play and what it did: `[M,S]` and `[M,A]`.
pub(super) struct Visited {
    pub observation: Tensor,
    pub action: Tensor,
}

/// Keeps some moments of a play.
struct Moments {
    every: usize,
    kept: Vec<(Tensor, Tensor)>,
}

impl Moments {
    fn over(length: usize) -> Self {
        Moments { every: length.div_ceil(MOMENTS).max(1), kept: Vec::new() }
    }

    fn see(&mut self, time: usize, observation: &Tensor, action: &Tensor) {
        if time.is_multiple_of(self.every) {
            self.kept.push((observation.copy(), action.copy()));
        }
    }

    fn visited(self) -> Visited {
        let (observations, actions): (Vec<Tensor>, Vec<Tensor>) = self.kept.into_iter().unzip();
        Visited { observation: Tensor::cat(&observations, 0), action: Tensor::cat(&actions, 0) }
    }
}

impl Dynamics {
    /// Episodes of `length` steps from the observations of rows `starts [N*E]`, row n*E+e in member e; one estimate a
    /// cost.
    pub(super) fn whole_episodes(
        &mut self,
        data: &Dataset,
        starts: &Tensor,
        length: usize,
        cancel: &AtomicBool,
        player: &mut dyn Player,
    ) -> Result<(Vec<RolloutEstimate>, Visited)> {
        let mut moments = Moments::over(length);
        let played = self.play(data, starts, length, cancel, &mut |turn, time| {
            let action = player.act(turn);
            moments.see(time, turn.observation, &action);
            (action, None)
        })?;
        let members = self.members();
        let returns = per_member(&played.returns, members)?;
        let estimates = (0..self.frame.costs.len()).map(|k| {
            let costs = per_member(&played.costs.narrow(1, k as i64, 1), members)?;
            let found = RolloutEstimate::of(&costs, &returns, played.clipped);
            Ok(RolloutEstimate { costs, ..found })
        });
        Ok((estimates.collect::<Result<_>>()?, moments.visited()))
    }

    /// Episodes of `length` steps from the rows `starts [N*E]`: a stretch of at most `horizon` steps in the models, and
    /// what follows by a value learnt on such stretches from the rows `logged [M*E]`. For policies without memory.
    pub(super) fn stretches(
        &mut self,
        data: &Dataset,
        (starts, logged): (&Tensor, &Tensor),
        (length, horizon): (usize, usize),
        cancel: &AtomicBool,
        player: &mut dyn Player,
    ) -> Result<(Vec<RolloutEstimate>, Visited)> {
        let count = length.div_ceil(horizon);
        let horizon = length.div_ceil(count);
        let rows = Tensor::cat(&[starts, logged], 0);
        let mut moments = Moments::over(horizon);
        let played = self.play(data, &rows, horizon, cancel, &mut |turn, time| {
            let action = player.act(turn);
            moments.see(time, turn.observation, &action);
            (action, None)
        })?;
        let members = self.members();
        let begin = self.frame.state(&data.gather(&rows).observation());
        let basis = Basis::of(&begin);
        let of = |column: &Tensor, member: i64| {
            let table = column.reshape([-1, members, column.size()[1]]);
            table.select(1, member).to_kind(Kind::Double)
        };
        let first = starts.size()[0] / members;
        let (mut costs, mut returns) = (vec![Vec::new(); self.frame.costs.len()], Vec::new());
        for member in 0..members {
            let alive = of(&played.alive, member);
            let end = lasting(basis.features(&of(&played.last, member)), &alive);
            let endless = Stretches {
                begin: basis.features(&of(&begin, member)),
                end: end.shallow_clone(),
                alive: alive.ones_like(),
            };
            let ending = Stretches { alive, begin: endless.begin.shallow_clone(), end };
            let episodes = |stretches: &Stretches, sums: Tensor, range: (f64, f64)| -> Result<Vec<f64>> {
                let weights = stretches.value(&sums, count - 1, range);
                let tail = &stretches.alive * bounded(&stretches.end, &weights, count - 1, range);
                let total = (sums + tail).narrow(0, 0, first) * (length as f64 / (count * horizon) as f64);
                Ok(Vec::<f64>::try_from(&total.view([-1]).to_device(tch::Device::Cpu))?)
            };
            let rewards = of(&played.returns, member);
            let bounds = (rewards.min().double_value(&[]), rewards.max().double_value(&[]));
            for (k, cost) in self.frame.costs.iter().enumerate() {
                let (low, high) = cost.range();
                let range = (low * horizon as f64, high * horizon as f64);
                costs[k].push(episodes(&endless, of(&played.costs.narrow(1, k as i64, 1), member), range)?);
            }
            returns.push(episodes(&ending, rewards, (bounds.0.min(0.0), bounds.1.max(0.0)))?);
        }
        let estimate = |costs: &Vec<Vec<f64>>| RolloutEstimate {
            horizon: Some(horizon),
            ..RolloutEstimate::of(costs, &returns, played.clipped)
        };
        Ok((costs.iter().map(estimate).collect(), moments.visited()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_bound_decides() {
        let run = RunConfig { cost_limit: 10.0, certificate_k: 1.0, ..RunConfig::default() };
        let read = |cost: f64, cost_std: f64| RolloutEstimate { cost, cost_std, ..RolloutEstimate::default() };
        let cost = |read: &[(RolloutEstimate, f64)]| RolloutEstimate::higher(read.iter().cloned(), &run).unwrap().cost;
        assert_eq!(cost(&[(read(4.0, 1.0), 0.0), (read(3.0, 3.0), 0.0)]), 3.0, "its spread counts");
        assert_eq!(cost(&[(read(4.0, 1.0), 0.5), (read(3.0, 3.0), 0.0)]), 4.0, "and what widens it");
        assert_eq!(cost(&[(read(f64::NAN, 0.0), 0.0), (read(3.0, 3.0), 0.0)]).to_bits(), f64::NAN.to_bits());
        assert_eq!(RolloutEstimate::higher(std::iter::empty(), &run), None);
    }
}
