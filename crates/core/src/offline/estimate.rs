//! The estimate of one policy: whole episodes in the models, or stretches of them with a learnt tail.

use super::dynamics::Dynamics;
use super::goal::Goal;
use super::play::per_member;
use super::rules::widening;
use super::stats::{larger, mean, sample_deviation};
use super::tail::{Basis, Stretches};
use super::{SelfTest, Validity};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::policy::Player;
use crate::run::RunConfig;
use drcorl_nn::rng::Rng;
use std::sync::atomic::AtomicBool;
use tch::{Kind, Tensor};

/// Moments of a play at which states and actions are kept, to ask how far they are from the data.
const MOMENTS: usize = 10;

/// Predicted episodes by one of the costs that are bounded: means over members and their spread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutEstimate {
    /// Mean episodic cost over members and starts; no predicted end lowers it.
    pub cost: f64,
    /// Its deviation: between models, and by which initial states were drawn.
    pub cost_std: f64,
    /// Mean undiscounted return.
    pub ret: f64,
    /// The same of the members' mean returns.
    pub return_std: f64,
    /// See [`Dynamics::pseudo`].
    pub pseudo: Option<f64>,
    /// Share of predicted entries of states that had to be clipped to the data's range.
    pub clipped: f64,
    /// Steps a policy was rolled out before the learnt tail took over; None for whole episodes.
    pub horizon: Option<usize>,
    /// Cost of every episode by member, `[E][N]`, flags drawn; empty where a tail was learnt, which knows means only.
    pub costs: Vec<Vec<f64>>,
    /// Distance of the policy's actions to those of the nearest logged behavior; None without a self-test.
    pub distance: Option<f64>,
    /// Which behavior that is in most states.
    pub nearest: Option<usize>,
}

impl RolloutEstimate {
    /// Mean cost plus `k` standard deviations over members.
    pub fn upper(&self, k: f64) -> f64 {
        self.cost + k * self.cost_std
    }

    /// The one whose bound on the mean cost is higher, of estimates with what clones say about each; what speaks
    /// against the policy in any of them does in that one.
    pub(super) fn higher(
        read: impl Iterator<Item = (Self, Option<SelfTest>)>,
        validity: Option<&Validity>,
        run: &RunConfig,
    ) -> Option<Self> {
        let bounded = |(found, test): (Self, Option<SelfTest>)| {
            let wider = widening(test.as_ref(), validity, found.nearest) * Goal::Mean.scale(found.cost, run);
            (found.upper(run.certificate_k) + wider, found)
        };
        let joined = |(bound, one): (f64, Self), (other_bound, other): (f64, Self)| {
            let clipped = larger(one.clipped, other.clipped);
            let distance = one.distance.zip(other.distance).map(|(a, b)| larger(a, b));
            // A bound of NaN is the highest.
            let higher = if other_bound.is_nan() || other_bound > bound { other } else { one };
            (larger(bound, other_bound), RolloutEstimate { clipped, distance, ..higher })
        };
        read.map(bounded).reduce(joined).map(|(_, found)| found)
    }

    /// Of the sums of every member, `[E][N]`.
    fn of(costs: &[Vec<f64>], returns: &[Vec<f64>], pseudo: Option<f64>, clipped: f64) -> Self {
        let ((cost, cost_std), (ret, return_std)) = (over(costs, pseudo, mean), over(returns, pseudo, mean));
        RolloutEstimate {
            cost,
            cost_std,
            ret,
            return_std,
            pseudo,
            clipped,
            horizon: None,
            costs: Vec::new(),
            distance: None,
            nearest: None,
        }
    }

    /// Mean and deviation over members of what is certified; None where only the mean cost is known.
    pub fn value(&self, goal: Goal, run: &RunConfig) -> Option<(f64, f64)> {
        if goal == Goal::Mean {
            return Some((self.cost, self.cost_std));
        }
        (!self.costs.is_empty()).then(|| over(&self.costs, self.pseudo, |costs| goal.of(costs, run)))
    }
}

/// Groups of episodes of which one is left out at a time.
const GROUPS: usize = 10;

/// The mean over members of a `statistic` of their episodes `[E][N]`, and how far it may be off: the sample deviation
/// between members. Committees all play the same episodes: of theirs what chance in the episodes tells apart is taken
/// off, as an analysis of variance does, the rest is multiplied by `pseudo`, and what chance does to the mean comes to
/// it. Both are errors of the jackknife over tenths of the episodes.
fn over(episodes: &[Vec<f64>], pseudo: Option<f64>, statistic: impl Fn(&[f64]) -> f64) -> (f64, f64) {
    let members: Vec<f64> = episodes.iter().map(|member| statistic(member)).collect();
    let (found, between) = (mean(&members), sample_deviation(&members));
    let Some(pseudo) = pseudo else { return (found, between) };
    let groups = GROUPS.min(episodes.first().map_or(0, Vec::len));
    if groups < 2 {
        return (found, pseudo * between);
    }
    let without = |group: usize| -> Vec<f64> {
        let kept = |member: &Vec<f64>| {
            let others = member.iter().enumerate().filter(|(n, _)| n % groups != group).map(|(_, &sum)| sum);
            statistic(&others.collect::<Vec<f64>>())
        };
        episodes.iter().map(kept).collect()
    };
    let tenths: Vec<Vec<f64>> = (0..groups).map(without).collect();
    let error = |of: &dyn Fn(&Vec<f64>) -> f64| {
        let values: Vec<f64> = tenths.iter().map(of).collect();
        sample_deviation(&values) * (groups - 1) as f64 / (groups as f64).sqrt()
    };
    let by_chance = (0..members.len()).map(|e| error(&|members| members[e] - mean(members)).powi(2));
    let own = between.powi(2) - by_chance.sum::<f64>() / (members.len() as f64 - 1.0);
    // Of NaN the larger is not 0.
    let own = if own < 0.0 { 0.0 } else { own.sqrt() };
    (found, (pseudo * own).hypot(error(&|members| mean(members))))
}

/// Where a policy was in a play, what it did, `[M,S]` and `[M,A]`, and how likely it came there, `[M]`.
pub(super) struct Visited {
    pub observation: Tensor,
    pub action: Tensor,
    pub weight: Tensor,
}

/// Keeps some moments of a play.
struct Moments {
    every: usize,
    kept: Vec<Visited>,
}

impl Moments {
    fn over(length: usize) -> Self {
        Moments { every: length.div_ceil(MOMENTS).max(1), kept: Vec::new() }
    }

    fn see(&mut self, time: usize, observation: &Tensor, action: &Tensor, alive: &Tensor) {
        if time.is_multiple_of(self.every) {
            let weight = alive.flatten(0, 1).copy();
            self.kept.push(Visited { observation: observation.copy(), action: action.copy(), weight });
        }
    }

    fn visited(self) -> Visited {
        let all = |of: fn(&Visited) -> &Tensor| Tensor::cat(&self.kept.iter().map(of).collect::<Vec<_>>(), 0);
        Visited { observation: all(|at| &at.observation), action: all(|at| &at.action), weight: all(|at| &at.weight) }
    }
}

impl Dynamics {
    /// Episodes of `length` steps from the observations of rows `starts [N*E]`, row n*E+e in member e; one estimate a
    /// cost.
    pub(super) fn whole_episodes(
        &mut self,
        data: &Dataset,
        starts: &Tensor,
        (length, draws): (usize, Option<Rng>),
        cancel: &AtomicBool,
        player: &mut dyn Player,
    ) -> Result<(Vec<RolloutEstimate>, Visited)> {
        let mut moments = Moments::over(length);
        let played = self.play(data, starts, length, draws, cancel, &mut |turn, time, alive| {
            let action = player.act(turn);
            moments.see(time, turn.observation, &action, alive);
            (action, None)
        })?;
        let members = self.members();
        let returns = per_member(&played.returns, members)?;
        let estimates = (0..self.frame.costs.len()).map(|k| {
            let of = |sums: &Tensor| per_member(&sums.narrow(1, k as i64, 1), members);
            let found = RolloutEstimate::of(&of(&played.costs)?, &returns, self.pseudo(), played.clipped);
            Ok(RolloutEstimate { costs: played.drawn.as_ref().map_or(Ok(Vec::new()), of)?, ..found })
        });
        Ok((estimates.collect::<Result<_>>()?, moments.visited()))
    }

    /// Episodes of `length` steps from the rows `starts [N*E]`: a stretch of at most `horizon` steps in the models, and
    /// what follows by a value learnt on such stretches from the rows `logged [M*E]`. For policies without memory.
    pub(super) fn stretches(
        &mut self,
        data: &Dataset,
        (starts, logged): (&Tensor, &Tensor),
        (length, horizon, draws): (usize, usize, Rng),
        cancel: &AtomicBool,
        player: &mut dyn Player,
    ) -> Result<(Vec<RolloutEstimate>, Visited)> {
        let count = length.div_ceil(horizon);
        let horizon = length.div_ceil(count);
        let rows = Tensor::cat(&[starts, logged], 0);
        let mut moments = Moments::over(horizon);
        let played = self.play(data, &rows, horizon, Some(draws), cancel, &mut |turn, time, alive| {
            let action = player.act(turn);
            moments.see(time, turn.observation, &action, alive);
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
            let mut stretches = Stretches {
                begin: basis.features(&of(&begin, member)),
                end: basis.features(&of(&played.last, member)),
                alive: of(&played.alive, member),
                charged: true,
            };
            let episodes = |stretches: &Stretches, sums: Tensor, range: (f64, f64)| -> Result<Vec<f64>> {
                let weights = stretches.value(&sums, count - 1, range);
                let tail = stretches.following(&weights, &sums, count - 1, range);
                let total = (sums + tail).narrow(0, 0, first) * (length as f64 / (count * horizon) as f64);
                Ok(Vec::<f64>::try_from(&total.view([-1]).to_device(tch::Device::Cpu))?)
            };
            let rewards = of(&played.returns, member);
            let bounds = (rewards.min().double_value(&[]), rewards.max().double_value(&[]));
            for (k, cost) in self.frame.costs.iter().enumerate() {
                let (low, high) = cost.range();
                let range = (low * horizon as f64, high * horizon as f64);
                costs[k].push(episodes(&stretches, of(&played.costs.narrow(1, k as i64, 1), member), range)?);
            }
            stretches.charged = false;
            returns.push(episodes(&stretches, rewards, (bounds.0.min(0.0), bounds.1.max(0.0)))?);
        }
        let estimate = |costs: &Vec<Vec<f64>>| RolloutEstimate {
            horizon: Some(horizon),
            ..RolloutEstimate::of(costs, &returns, self.pseudo(), played.clipped)
        };
        Ok((costs.iter().map(estimate).collect(), moments.visited()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of means: the deviation between members as it is scaled, and the standard error over episodes.
    #[test]
    fn an_estimate_is_off_by_models_and_by_episodes() {
        let same: Vec<f64> = (0..10).map(|n| f64::from(n * n)).collect();
        let shifted: Vec<f64> = same.iter().map(|cost| cost + 3.0).collect();
        let error = sample_deviation(&same) / 10f64.sqrt();
        let alike = over(&[same.clone(), same.clone()], Some(4.0), mean).1;
        assert!((alike - error).abs() < 1e-9, "{alike} {error}");
        let apart = |pseudo| over(&[same.clone(), shifted.clone()], pseudo, mean).1;
        assert!((apart(Some(4.0)) - (4.0 * 3.0 / 2f64.sqrt()).hypot(error)).abs() < 1e-9);
        assert!((apart(None) - 3.0 / 2f64.sqrt()).abs() < 1e-9, "of models that play episodes of their own");
        assert_eq!(over(&[vec![7.0], vec![7.0]], Some(4.0), mean).1, 0.0, "one episode says nothing of others");
    }

    /// Members that differ by what chance did to their episodes alone are not apart.
    #[test]
    fn what_chance_tells_apart_is_no_disagreement() {
        let mut rng = Rng::new(5, 0);
        let mut members = |apart: f64| -> Vec<Vec<f64>> {
            (0..5)
                .map(|e| (0..120).map(|_| f64::from(e) * apart + 10.0 * f64::from(rng.normal_unit())).collect())
                .collect()
        };
        let mut mean_of = |apart: f64| {
            let spreads: Vec<f64> = (0..40).map(|_| over(&members(apart), Some(4.0), mean).1).collect();
            mean(&spreads)
        };
        // The standard error of 600 episodes is 0.4, that of the 120 of a member 0.9: four times that was 3.7.
        let alike = mean_of(0.0);
        assert!(alike < 1.9, "{alike}");
        let apart = mean_of(3.0);
        assert!((apart - 4.0 * 3.0 * 2.5f64.sqrt()).abs() < 1.5, "{apart}");
        assert!(over(&[vec![f64::NAN; 20], vec![1.0; 20]], Some(4.0), mean).1.is_nan());
    }

    #[test]
    fn the_higher_bound_decides() {
        let run = RunConfig { cost_limit: 10.0, certificate_k: 1.0, ..RunConfig::default() };
        let read = |cost: f64, cost_std: f64| RolloutEstimate { cost, cost_std, ..RolloutEstimate::default() };
        let test = |shortfall: f64| SelfTest { shortfall, ..SelfTest::default() };
        let higher = |a: RolloutEstimate, b: RolloutEstimate, shortfall: f64| {
            let read = [(a, Some(test(shortfall))), (b, Some(test(0.0)))];
            RolloutEstimate::higher(read.into_iter(), None, &run).unwrap()
        };
        assert_eq!(higher(read(4.0, 1.0), read(3.0, 3.0), 0.0).cost, 3.0, "its spread counts");
        assert_eq!(higher(read(4.0, 1.0), read(3.0, 3.0), 0.5).cost, 4.0, "and what widens it");
        assert!(higher(read(-f64::NAN, 0.0), read(3.0, 3.0), 0.0).cost.is_nan());
        assert!(higher(read(3.0, 3.0), read(-f64::NAN, 0.0), 0.0).cost.is_nan());
        // What held-out episodes are read too low widens both.
        let validity = Validity::short(0.24);
        let read_both = [(read(4.0, 0.0), Some(test(0.5))), (read(6.49, 0.0), Some(test(0.0)))];
        let found = RolloutEstimate::higher(read_both.into_iter(), Some(&validity), &run).unwrap();
        assert_eq!(found.cost, 6.49);
        // The estimate that is not taken still speaks against the policy.
        let left = RolloutEstimate { clipped: 0.6, distance: Some(3.0), ..read(0.0, 0.0) };
        let taken = RolloutEstimate { distance: Some(0.1), ..read(3.0, 0.0) };
        let found = higher(taken, left, 0.0);
        assert_eq!((found.cost, found.clipped, found.distance), (3.0, 0.6, Some(3.0)));
        assert_eq!(RolloutEstimate::higher(std::iter::empty(), None, &run), None);
    }
}
