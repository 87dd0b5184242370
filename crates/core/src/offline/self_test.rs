//! The estimator tried where the truth is known: kinds of logged behavior, each cloned by a small policy, are estimated
//! as the policy will be, closed loop, and compared with what their episodes cost.
//!
//! One-sided split conformal prediction (Vovk, Gammerman and Shafer 2005) on a handful of behaviors: how far estimates
//! fell short there widens the upper estimate of the policy.

use super::clusters::behaviors;
use super::estimate::{RolloutEstimate, Visited};
use super::goal::Goal;
use super::stats::{conformal, mean};
use crate::dataset::Dataset;
use crate::policy::{Player, Turn};
use crate::results::nullable;
use crate::run::RunConfig;
use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::cosine;
use drcorl_nn::rng::Rng;
use drcorl_nn::Head;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

const HIDDEN: [i64; 2] = [64, 64];
const BATCH: usize = 128;
const LR: f64 = 2e-3;
/// Fewest kinds of behavior that say something about the estimator.
pub(super) const LEAST_BEHAVIORS: usize = 4;
/// Share of behaviors whose under-reading stays below what widens the estimate; all of them where an estimator reads
/// them further too low than [`LARGEST_UNDER_READING`]. A tail learnt on CarRun read seven kinds right and the eighth
/// at 5.7 for 25.1, and a policy at 8.3 +- 3.2 whose cost was 20.7.
const LEVEL: f64 = 0.75;
/// Most that the estimator of whole episodes may read the clones too low where the ladder does not reach the end. What
/// it reads too high refuses policies and certifies none.
const LARGEST_UNDER_READING: f64 = 0.25;
/// Stretches judge only where whole episodes read the clones worse by more than this factor: what a learnt tail adds is
/// seen in policies along a boundary, and not in clones that scatter as the logs do.
const TAIL_ALLOWANCE: f64 = 1.5;
/// Largest error on clones, root mean square, at which whole episodes are heard beside stretches that read clones
/// better. A learnt tail read a policy on CarRun at 22 +- 7 for 37, and seven of eight kinds right.
const WITNESS_ERROR: f64 = 0.5;
/// A policy may be this many times as far from the nearest behavior as one behavior is from the next: kinds that differ
/// in their cost may lie close together in their actions. On point-circle a clone of the safe episodes alone is at 1.4.
const ROOM: f64 = 2.0;

/// One kind of logged behavior, and the estimate of its clone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Behavior {
    pub episodes: usize,
    /// What is certified (the mean cost, unless said otherwise) of its episodes, had they all lasted whole: the truth.
    pub logged: f64,
    /// The same of the clone, as estimated.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub estimated: f64,
    /// How much too good the estimate is. Of costs: (logged - estimated), over the larger of the estimate and half the
    /// limit; of shares: (estimated - logged).
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub shortfall: f64,
    /// Distance of the clone's actions to those of the nearest other clone.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub distance: f64,
}

impl Behavior {
    /// Of the episodes of one kind and what their clone was estimated at.
    pub(super) fn of(logged_costs: &[f64], estimate: &RolloutEstimate, distance: f64, run: &RunConfig) -> Self {
        let goal = run.certify;
        let (logged, estimated) = (goal.of(logged_costs, run), estimate.value(goal, run).map_or(f64::NAN, |v| v.0));
        let excess = if goal.is_cost() { logged - estimated } else { estimated - logged };
        let shortfall = excess / goal.scale(estimated, run);
        Behavior { episodes: logged_costs.len(), logged, estimated, shortfall, distance }
    }
}

/// One estimator, and how it read the clones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial {
    /// Steps of a stretch; None for whole episodes.
    pub horizon: Option<usize>,
    pub behaviors: Vec<Behavior>,
}

/// How wrong an estimator was on the clones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tried {
    /// Steps of a stretch before the learnt tail takes over; null for whole episodes.
    pub horizon: Option<usize>,
    /// Root mean square over behaviors of the error either way, in the units of `shortfall`.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub error: f64,
    /// The same of what it read too low alone.
    #[serde(default, with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub under_reading: f64,
}

impl Tried {
    /// True of the estimator of whole episodes where it did not read the clones too low.
    pub(super) fn is_whole_and_right(&self) -> bool {
        self.horizon.is_none() && self.under_reading <= LARGEST_UNDER_READING
    }
}

impl Trial {
    pub fn tried(&self) -> Tried {
        let root_mean_square = |part: fn(f64) -> f64| {
            let squares: Vec<f64> = self.behaviors.iter().map(|behavior| part(behavior.shortfall).powi(2)).collect();
            mean(&squares).sqrt()
        };
        // What could not be estimated stays NaN.
        let too_low = |shortfall: f64| if shortfall < 0.0 { 0.0 } else { shortfall };
        Tried { horizon: self.horizon, error: root_mean_square(|s| s), under_reading: root_mean_square(too_low) }
    }

    /// What widens estimates, see [`SelfTest::shortfall`]. A behavior that could not be estimated leaves nothing to
    /// widen by: NaN, which certifies nothing.
    pub fn shortfall(&self, goal: Goal) -> f64 {
        let shortfalls: Vec<f64> = self.behaviors.iter().map(|behavior| behavior.shortfall).collect();
        if shortfalls.iter().any(|shortfall| shortfall.is_nan()) {
            return f64::NAN;
        }
        // Shares of kinds far from the limit are 0 or 1 by any reader, and tell nothing of the others.
        let right = self.tried().under_reading <= LARGEST_UNDER_READING && goal.is_cost();
        let level = if right { LEVEL } else { 1.0 };
        conformal(&shortfalls, level).max(0.0)
    }
}

/// Which estimators judge a policy, chosen before it is looked at: whole episodes, unless stretches read the clones
/// clearly better. Whole episodes are one only where the ladder reaches their end (`believed`) or the clones' are not
/// read too low; for a policy that remembers they are the only one. Where stretches judge, and whole episodes read the
/// clones within [`WITNESS_ERROR`], both do, and the higher bound decides.
///
/// Open-loop replay is the harsher test: logged actions do not answer to where the models are, a policy's do. On
/// point-circle replayed episodes without cost are read at 1.4 limits, and a policy along the boundary, rolled out
/// closed loop, at its own cost.
pub(super) fn judges(trials: &[Trial], believed: bool, remembers: bool) -> Vec<&Trial> {
    if remembers {
        return trials.iter().filter(|trial| trial.horizon.is_none()).collect();
    }
    let eligible = |trial: &&Trial| trial.horizon.is_some() || believed || trial.tried().is_whole_and_right();
    let error = |trial: &Trial| match trial.horizon {
        Some(_) => trial.tried().error * TAIL_ALLOWANCE,
        None => trial.tried().error,
    };
    // An error of NaN is the largest.
    let Some(best) = trials.iter().filter(eligible).min_by(|a, b| error(a).total_cmp(&error(b))) else {
        return Vec::new();
    };
    let witness = |trial: &&Trial| trial.horizon.is_none() && eligible(trial) && trial.tried().error <= WITNESS_ERROR;
    let witnesses = trials.iter().filter(witness).filter(|_| best.horizon.is_some());
    std::iter::once(best).chain(witnesses).collect()
}

/// What the clones say about the estimator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelfTest {
    /// The estimator that the policy is judged by.
    pub estimator: Tried,
    /// The others that were tried.
    pub others: Vec<Tried>,
    pub behaviors: Vec<Behavior>,
    /// One-sided conformal quantile of the shortfalls, at least 0: what widens the estimate of a policy. The largest of
    /// them where their root mean square (`estimator.under_reading`) is above a quarter, and of shares.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub shortfall: f64,
    /// Twice the largest distance of one behavior to the nearest other: how far a policy may be from the nearest.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub reach: f64,
}

impl SelfTest {
    /// Of the trial of what judges.
    pub(super) fn of(trial: &Trial, others: Vec<Tried>, goal: Goal) -> Self {
        let behaviors = trial.behaviors.clone();
        let reach = ROOM * behaviors.iter().fold(0.0, |most: f64, behavior| most.max(behavior.distance));
        SelfTest { estimator: trial.tried(), others, shortfall: trial.shortfall(goal), reach, behaviors }
    }
}

/// Clones of the kinds of logged behavior: one small network each, side by side.
pub(super) struct Clones {
    head: Head,
    /// Episodes of each kind.
    pub episodes: Vec<Vec<usize>>,
    rows: Vec<Tensor>,
    /// Deviation of the logged actions around the clone's, `[K,A]`.
    noise: Option<Tensor>,
    /// Deviation of logged actions `[1,A]`, the unit of distances.
    unit: Tensor,
}

impl Clones {
    /// Untrained; None where the data hold too few whole episodes to tell behaviors apart, by what they did and by so
    /// many costs.
    pub fn new(data: &Dataset, costs: usize, rng: &mut Rng) -> Option<Self> {
        let episodes = behaviors(data, costs);
        if episodes.len() < LEAST_BEHAVIORS {
            return None;
        }
        let widths: Vec<i64> = [data.observations()].into_iter().chain(HIDDEN).chain([data.actions()]).collect();
        let head = Head::new("clones", episodes.len(), &widths, false, data.device(), rng);
        let rows = episodes.iter().map(|numbers| data.rows_in(numbers)).collect();
        let all = Tensor::arange(data.len(), (Kind::Int64, data.device()));
        let unit = data.gather(&all).action().std_dim(0i64, false, true).clamp_min(1e-3);
        Some(Clones { head, episodes, rows, noise: None, unit })
    }

    /// Number of behaviors K.
    pub fn count(&self) -> usize {
        self.episodes.len()
    }

    /// One Adam step of every clone towards its own logged actions. Returns the mean squared error.
    pub fn step(&mut self, step: u64, steps: u64, data: &Dataset, rng: &mut Rng) -> f64 {
        let drawn: Vec<Tensor> = self
            .rows
            .iter()
            .map(|rows| rows.index_select(0, &rng.rows(BATCH, rows.size()[0], rows.device())))
            .collect();
        let batch = data.gather(&Tensor::stack(&drawn, 1).view([-1]));
        let input = batch.observation().contiguous().view([BATCH as i64, -1]);
        let error = self.head.forward(&input) - batch.action().contiguous().view([BATCH as i64, -1]);
        let loss = error.square().mean(Kind::Double).double_value(&[]);
        self.head.descend(&input, &(error * (2.0 / BATCH as f64)), cosine(LR, 0.1 * LR, step, steps));
        loss
    }

    /// Measures how logged actions scatter around the clones'. Comes after training.
    pub fn measure_noise(&mut self, data: &Dataset) {
        let deviations: Vec<Tensor> = (0..self.count())
            .map(|k| {
                let batch = data.gather(&self.rows[k]);
                (self.actions(&batch.observation()).select(1, k as i64) - batch.action())
                    .square()
                    .mean_dim(0i64, true, Kind::Float)
                    .sqrt()
            })
            .collect();
        self.noise = Some(Tensor::cat(&deviations, 0));
    }

    /// Actions of all clones, `[B,K,A]`.
    fn actions(&mut self, observation: &Tensor) -> Tensor {
        let (rows, clones) = (observation.size()[0], self.count() as i64);
        self.head.evaluate(&observation.contiguous()).view([rows, clones, -1]).clamp(-1.0, 1.0)
    }

    /// First rows of the episodes of behavior `k`, `[N]`.
    pub fn starts(&self, data: &Dataset, k: usize) -> Tensor {
        let starts: Vec<i64> = self.episodes[k].iter().map(|&number| data.episodes[number].start as i64).collect();
        Tensor::from_slice(&starts).to_device(data.device())
    }

    /// Clone `k` with the scatter of its logged actions, which are those of a noisy policy.
    pub fn player<'a>(&'a mut self, k: usize, rng: &'a mut Rng) -> ClonePlayer<'a> {
        ClonePlayer { clones: self, k: k as i64, rng }
    }

    /// How far actions are from the nearest behavior where they were taken: per state the smallest root mean square
    /// difference in deviations of logged actions, averaged over states by how likely they were come to; and the
    /// behavior that is nearest in most of them. Behavior `but` is left out.
    pub fn distance(&mut self, visited: &Visited, but: Option<usize>) -> (f64, usize) {
        let theirs = self.actions(&visited.observation);
        let mine = match but {
            // Of a clone itself what it means to do, not its scatter.
            Some(k) => theirs.select(1, k as i64),
            None => visited.action.shallow_clone(),
        };
        let squares =
            ((mine.unsqueeze(1) - &theirs) / self.unit.unsqueeze(0)).square().mean_dim(2i64, false, Kind::Float);
        if let Some(k) = but {
            let _ = squares.select(1, k as i64).fill_(f64::INFINITY);
        }
        let weight = visited.weight.to_kind(Kind::Double);
        let total = (squares.amin(1i64, false).sqrt() * &weight).sum(Kind::Double).double_value(&[]);
        let distance = total / weight.sum(Kind::Double).double_value(&[]);
        let states = squares.argmin(1i64, false).bincount(Some(&weight), self.count() as i64);
        (distance, states.argmax(None::<i64>, false).int64_value(&[]) as usize)
    }

    /// Saves or restores the clones.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("head", |state| self.head.persist(state))?;
        let width = self.unit.size().last().copied().unwrap_or(0);
        state.optional_rows("noise", &mut self.noise, width, self.unit.device())
    }
}

/// A clone at play.
pub(super) struct ClonePlayer<'a> {
    clones: &'a mut Clones,
    k: i64,
    rng: &'a mut Rng,
}

impl Player for ClonePlayer<'_> {
    fn act(&mut self, turn: &Turn<'_>) -> Tensor {
        let action = self.clones.actions(turn.observation).select(1, self.k);
        match &self.clones.noise {
            Some(noise) => {
                let draw = self.rng.normal(&action.size(), action.device());
                (action + draw * noise.select(0, self.k)).clamp(-1.0, 1.0)
            }
            None => action,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn trial(horizon: Option<usize>, shortfalls: &[f64]) -> Trial {
        let behavior = |&shortfall| Behavior { episodes: 9, logged: 1.0, estimated: 1.0, shortfall, distance: 0.5 };
        Trial { horizon, behaviors: shortfalls.iter().map(behavior).collect() }
    }

    /// What a policy does beyond a predicted end says nothing of it.
    #[test]
    fn distances_are_of_states_that_are_come_to() {
        let clones = || {
            let head = Head::new("clones", 3, &[1, 8, 1], false, Device::Cpu, &mut Rng::new(4, 0));
            let unit = Tensor::from_slice(&[0.5f32]).unsqueeze(0);
            Clones { head, episodes: vec![Vec::new(); 3], rows: Vec::new(), noise: None, unit }
        };
        let column = |values: &[f32]| Tensor::from_slice(values).unsqueeze(1);
        let visited = |rows: &[f32], actions: &[f32], weights: &[f32]| Visited {
            observation: column(rows),
            action: column(actions),
            weight: Tensor::from_slice(weights),
        };
        let alone = clones().distance(&visited(&[0.3], &[0.9], &[1.0]), None);
        let ended = clones().distance(&visited(&[0.3, 0.3, 5.0], &[0.9, 0.9, -0.9], &[1.0, 0.5, 0.0]), None);
        assert!((alone.0 - ended.0).abs() < 1e-6 && alone.1 == ended.1, "{alone:?} {ended:?}");
        let lasted = clones().distance(&visited(&[0.3, 0.3], &[0.9, 0.0], &[1.0, 1.0]), None);
        assert!((lasted.0 - alone.0).abs() > 0.1, "{alone:?} {lasted:?}");
    }

    #[test]
    fn the_worst_clone_widens_where_clones_are_read_far_too_low() {
        let widened = |shortfalls: &[f64]| SelfTest::of(&trial(Some(10), shortfalls), vec![], Goal::Mean).shortfall;
        assert_eq!(widened(&[-0.4, 0.0, 0.1, 0.0, 0.0, 0.2, 0.1, 0.3]), 0.2);
        assert_eq!(widened(&[-0.4, -0.4, 0.06, -0.3, -0.5, -0.6, 3.4, 0.25]), 3.4);
        assert!(widened(&[0.0, f64::NAN, 0.0, 0.0]).is_nan());
        // Of shares the worst kind alone may be near the limit.
        let shares = trial(None, &[0.0, 0.0, 0.0, 0.0, 0.003, 0.2, 0.0, 0.0]);
        assert_eq!((shares.shortfall(Goal::Mean), shares.shortfall(Goal::Chance)), (0.003, 0.2));
    }

    #[test]
    fn the_estimator_that_reads_clones_best_judges() {
        let stretches = trial(Some(20), &[0.1, -0.1]);
        let horizons = |trials: &[Trial], believed, remembers| -> Vec<Option<usize>> {
            judges(trials, believed, remembers).iter().map(|trial| trial.horizon).collect()
        };
        let chosen = |whole: &[f64], believed, remembers| {
            horizons(&[stretches.clone(), trial(None, whole)], believed, remembers)
        };
        assert_eq!(chosen(&[0.05, 0.05], false, false), [None]);
        assert_eq!(chosen(&[-0.2, 0.0], false, false), [None], "a little worse, but without a learnt tail");
        assert_eq!(chosen(&[-0.3, 0.0], false, false), [Some(20), None], "worse, but a witness");
        assert_eq!(chosen(&[-0.9, 0.0], false, false), [Some(20)], "an error either way is one");
        assert_eq!(chosen(&[f64::NAN, 0.0], false, false), [Some(20)]);
        assert_eq!(chosen(&[0.9, 0.9], false, true), [None], "a memory needs a past");
        let high = [trial(Some(20), &[-0.9, -0.9]), trial(None, &[-0.3, -0.3])];
        assert_eq!(horizons(&high, false, false), [None], "what is read too high certifies nothing");
        let poor = [trial(Some(20), &[0.9, 0.9]), trial(None, &[0.3, 0.3])];
        assert_eq!(horizons(&poor, false, false), [Some(20)], "neither ladder nor clones believe the other");
        assert_eq!(horizons(&poor, true, false), [None]);
        assert!(horizons(&[], false, false).is_empty());
    }
}
