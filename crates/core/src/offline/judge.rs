//! A dynamics ensemble, what held-out episodes say about it,
//! and what clones of logged behavior say about its estimates.

use super::dynamics::Dynamics;
use super::estimate::{RolloutEstimate, Visited};
use super::foresight::Foresight;
use super::ladder::{Rung, Validity};
use super::play::charged;
use super::self_test::{judges, Behavior, Clones, SelfTest, Trial};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::policy::{FrozenPolicy, Player};
use crate::run::RunConfig;
use drcorl_nn::checkpoint::State;
use drcorl_nn::profile;
use drcorl_nn::rng::Rng;
use std::sync::atomic::AtomicBool;
use tch::Tensor;

/// Logged states that stretches begin at, for the value of what follows them.
const LOGGED: usize = 1000;
/// Initial states a clone is rolled out from.
const CLONE_STARTS: usize = 40;
/// Products of two numbers that the rollouts of one policy may take where its actions take long: a minute or two of
/// a core. The same on every machine, so that a certificate is.
const MOST_WORK: f64 = 1e12;
/// Initial states below which a mean over them is no estimate.
pub(super) const FEWEST_STARTS: i64 = 8;

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

/// What episodes are drawn by, the errors of motion and costs: the same of every policy and clone, part of the
/// definition of an estimate.
fn episode_draws() -> Rng {
    Rng::new(0, 17)
}

/// One estimate a cost, by stretches of `horizon` steps from the rows `starts` and `logged`, or by whole episodes from
/// `starts`; and where these came.
fn read(
    dynamics: &mut Dynamics,
    data: &Dataset,
    (starts, logged): (&Tensor, &Tensor),
    horizon: Option<usize>,
    cancel: &AtomicBool,
    player: &mut dyn Player,
) -> Result<(Vec<RolloutEstimate>, Visited)> {
    let (length, draws) = (data.episode_length, episode_draws());
    match horizon {
        None => dynamics.whole_episodes(data, starts, (length, Some(draws)), cancel, player),
        Some(steps) => dynamics.stretches(data, (starts, logged), (length, steps, draws), cancel, player),
    }
}

/// The first `count` of `starts [N,E]`, as rows of the models `[count*E]`. Committees play the same episodes: what
/// tells their means apart is what they know.
fn first(starts: &Tensor, count: i64, dynamics: &Dynamics) -> Tensor {
    let shared = dynamics.pseudo().map(|_| starts.narrow(1, 0, 1).expand_as(starts));
    shared.as_ref().unwrap_or(starts).narrow(0, 0, count).contiguous().view([-1])
}

/// A run has three that share nothing, not even the held-out episodes: one for the gate, the reader for the choice
/// among candidates, and the auditor for the certificate. A policy steered by an ensemble exploits that ensemble's
/// errors: measured on point-circle, its own models read a cost of 3.7 for a policy whose true cost was 6.9, where
/// independent models read 6.9 and 7.1.
pub struct Judge {
    dynamics: Option<Dynamics>,
    /// The auditor's.
    clones: Option<Clones>,
    /// How each cost that is bounded is read.
    readings: Vec<Reading>,
    /// Rows of initial states `[N,E]`, a bootstrap a member.
    starts: Tensor,
    /// Rows of logged states `[M*E]`.
    logged: Tensor,
}

/// What the models say of a policy.
#[derive(Default)]
pub struct Judgement {
    /// One a cost; none without a model, or where the policy's actions take too long.
    pub estimates: Vec<RolloutEstimate>,
    pub shortage: Option<Shortage>,
}

/// How one cost is read.
#[derive(Clone, Default)]
struct Reading {
    validity: Option<Validity>,
    /// One an estimator.
    trials: Vec<Trial>,
}

impl Judge {
    /// An untrained judge of `members` models (none for 0).
    /// Initial states are drawn once, so that all its estimates compare the same episodes.
    pub fn new(data: &Dataset, run: &RunConfig, members: usize, rng: &mut Rng) -> Self {
        let dynamics = (members > 0).then(|| Dynamics::new(data, run, members, rng));
        let starts = data.starts();
        let members = members.max(1);
        let picks = rng.rows(run.model_rollouts * members, starts.size()[0], data.device());
        Judge {
            dynamics,
            clones: None,
            readings: vec![Reading::default(); run.costs()],
            starts: starts.index_select(0, &picks).view([-1, members as i64]),
            logged: rng.rows(LOGGED * members, data.len(), data.device()),
        }
    }

    /// The same, heard as committees, of `members` models that are trained for `steps`.
    fn committees(data: &Dataset, run: &RunConfig, (members, steps): (usize, u64), rng: &mut Rng) -> Self {
        let judge = Judge::new(data, run, members, rng);
        Judge { dynamics: judge.dynamics.map(|models| models.auditing(steps)), ..judge }
    }

    /// An untrained judge for the choice among candidates: `selection_members` models, heard as the auditor's are.
    pub fn reader(data: &Dataset, run: &RunConfig, rng: &mut Rng) -> Self {
        Judge::committees(data, run, (run.selection_members, run.model_steps), rng)
    }

    /// An untrained judge for the certificate: `audit_members` models, and clones of logged behavior to try them on.
    pub fn auditor(data: &Dataset, run: &RunConfig, rng: &mut Rng) -> Self {
        let steps = run.steps_of_audit(data.episode_length);
        let judge = Judge::committees(data, run, (run.audit_members, steps), rng);
        let trying = judge.steps(run) > 0 && run.self_test_steps > 0;
        Judge { clones: if trying { Clones::new(data, run.costs(), rng) } else { None }, ..judge }
    }

    /// Steps its training takes: the models', the test on held-out episodes, the clones', and one for the estimate of
    /// each clone.
    pub fn steps(&self, run: &RunConfig) -> u64 {
        if self.model_steps() == 0 {
            return 0;
        }
        let clones = self.clones.as_ref().map_or(0, |clones| run.self_test_steps + clones.count() as u64);
        self.model_steps() + 1 + clones
    }

    /// Those of the models.
    pub fn model_steps(&self) -> u64 {
        self.dynamics.as_ref().map_or(0, |models| models.steps)
    }

    /// All its steps, for callers without a trainer.
    pub fn train(&mut self, data: &Dataset, run: &RunConfig, rng: &mut Rng, cancel: &AtomicBool) -> Result<()> {
        (0..self.steps(run)).try_for_each(|step| self.step(step, data, run, rng, cancel).map(|_| ()))
    }

    /// One of [`Judge::steps`]. Returns the loss, if there is one.
    pub fn step(
        &mut self,
        step: u64,
        data: &Dataset,
        run: &RunConfig,
        rng: &mut Rng,
        cancel: &AtomicBool,
    ) -> Result<Option<f64>> {
        let model_steps = self.model_steps();
        let Some(dynamics) = &mut self.dynamics else { return Ok(None) };
        if step < model_steps {
            let _training = profile::open("training");
            return dynamics.step(step, data, run, rng, cancel).map(Some);
        }
        if step == model_steps {
            let _replay = profile::open("replay");
            let validities = dynamics.validate(data, run, cancel)?;
            self.readings.iter_mut().zip(validities).for_each(|(reading, found)| reading.validity = Some(found));
            return Ok(None);
        }
        let step = step - model_steps - 1;
        // Models that failed make no estimates that could be tried.
        let any = (0..self.readings.len()).any(|cost| self.valid(cost));
        let (true, Some(clones)) = (any, &mut self.clones) else { return Ok(None) };
        if step < run.self_test_steps {
            let _clones = profile::open("clones");
            return Ok(Some(clones.step(step, run.self_test_steps, data, rng)));
        }
        let _rollouts = profile::open("clone rollouts");
        self.try_clone((step - run.self_test_steps) as usize, data, run, rng, cancel)?;
        Ok(None)
    }

    /// Tests models that were trained and tested under another run again, by the limit and the thresholds of this one.
    pub fn test_again(&mut self, data: &Dataset, run: &RunConfig, cancel: &AtomicBool) -> Result<()> {
        let tested = self.readings.iter().all(|reading| reading.validity.is_some());
        if let (Some(dynamics), true) = (&mut self.dynamics, tested) {
            let validities = dynamics.validate(data, run, cancel)?;
            self.readings.iter_mut().zip(validities).for_each(|(reading, found)| reading.validity = Some(found));
        }
        Ok(())
    }

    /// Estimates clone `k` as a policy is estimated, by every estimator, and compares it with its episodes.
    fn try_clone(
        &mut self,
        k: usize,
        data: &Dataset,
        run: &RunConfig,
        rng: &mut Rng,
        cancel: &AtomicBool,
    ) -> Result<()> {
        let Some(mut clones) = self.clones.take() else { return Ok(()) };
        if k == 0 {
            clones.measure_noise(data);
            let untried = |horizon| Trial { horizon, behaviors: Vec::new() };
            for cost in 0..self.readings.len() {
                self.readings[cost].trials = self.estimators(data, cost).into_iter().map(untried).collect();
            }
        }
        // A copy, so that a cancelled estimate has drawn nothing.
        let mut draws = rng.clone();
        // Costs that are read in the same way are read in the same play.
        let mut horizons: Vec<Option<usize>> = Vec::new();
        for trial in self.readings.iter().flat_map(|reading| &reading.trials) {
            if !horizons.contains(&trial.horizon) {
                horizons.push(trial.horizon);
            }
        }
        let tried: Result<Vec<Vec<Behavior>>> = horizons
            .iter()
            .map(|&horizon| self.behavior(&mut clones, (k, horizon), data, run, &mut draws, cancel))
            .collect();
        self.clones = Some(clones);
        for (horizon, behaviors) in horizons.iter().zip(tried?) {
            for (reading, behavior) in self.readings.iter_mut().zip(behaviors) {
                let trial = reading.trials.iter_mut().find(|trial| trial.horizon == *horizon);
                trial.into_iter().for_each(|trial| trial.behaviors.push(behavior.clone()));
            }
        }
        *rng = draws;
        Ok(())
    }

    /// Clone `k` by stretches of `horizon` steps, or by whole episodes; as every cost reads it.
    fn behavior(
        &mut self,
        clones: &mut Clones,
        (k, horizon): (usize, Option<usize>),
        data: &Dataset,
        run: &RunConfig,
        draws: &mut Rng,
        cancel: &AtomicBool,
    ) -> Result<Vec<Behavior>> {
        let starts = clones.starts(data, k);
        let members = self.dynamics.as_ref().map_or(1, Dynamics::members);
        let picks = draws.rows(CLONE_STARTS * members as usize, starts.size()[0], data.device());
        let starts = starts.index_select(0, &picks);
        let (logged, length) = (self.logged.shallow_clone(), data.episode_length);
        let Some(dynamics) = &mut self.dynamics else { unreachable!("clones come with models") };
        let mut player = clones.player(k, draws);
        let (estimates, visited) = read(dynamics, data, (&starts, &logged), horizon, cancel, &mut player)?;
        let (distance, _) = clones.distance(&visited, Some(k));
        let behavior = |(cost, estimate): (usize, &RolloutEstimate)| {
            let episodes = data.episodes_of(cost);
            let steps = data.costs_of(cost);
            let logged = clones.episodes[k].iter().map(|&number| &steps[episodes[number].start..episodes[number].end]);
            // As an estimate is made, to which ends are charged.
            let costs = charged(&logged.collect::<Vec<_>>(), length);
            Behavior::of(&costs, estimate, distance, &run.of_cost(cost))
        };
        Ok(estimates.iter().enumerate().map(behavior).collect())
    }

    /// The test on held-out episodes, of cost `cost`; None before it was made or without a model.
    pub fn validity(&self, cost: usize) -> Option<&Validity> {
        self.readings[cost].validity.as_ref()
    }

    /// Numbers of the held-out episodes.
    pub fn held_out(&self) -> &[usize] {
        self.dynamics.as_ref().map_or(&[], |dynamics| &dynamics.split.holdout)
    }

    /// True if a dynamics ensemble exists and passed its test of cost `cost`.
    pub fn valid(&self, cost: usize) -> bool {
        self.validity(cost).is_some_and(|validity| validity.valid)
    }

    /// What says that whole episodes can steer a policy by cost `cost`, or why they cannot: the one predicate of gates
    /// and selections.
    pub fn steering(&self, cost: usize, run: &RunConfig) -> std::result::Result<&Rung, Vec<String>> {
        self.tested(cost)?.steering(run)
    }

    /// See [`Validity::ordering`].
    pub fn ordering(&self, cost: usize, run: &RunConfig) -> std::result::Result<&Rung, Vec<String>> {
        self.tested(cost)?.ordering(run)
    }

    fn tested(&self, cost: usize) -> std::result::Result<&Validity, Vec<String>> {
        self.validity(cost).ok_or_else(|| vec!["no dynamics model was trained".into()])
    }

    /// What the clones say about how cost `cost` is read over whole episodes or by stretches; None before all have
    /// played.
    pub fn self_test(&self, cost: usize, run: &RunConfig, whole: bool) -> Option<SelfTest> {
        let trials = self.trials(cost)?;
        let (of, others): (Vec<&Trial>, Vec<&Trial>) =
            trials.iter().partition(|trial| trial.horizon.is_none() == whole);
        Some(SelfTest::of(of.first()?, others.into_iter().map(Trial::tried).collect(), run.certify))
    }

    /// One an estimator, once all clones have played.
    fn trials(&self, cost: usize) -> Option<&[Trial]> {
        let count = self.clones.as_ref()?.count();
        let trials = &self.readings[cost].trials;
        trials.iter().all(|trial| trial.behaviors.len() == count).then_some(trials)
    }

    /// True where the models passed the test of whole episodes, as long as they are.
    fn believed(&self, data: &Dataset, cost: usize) -> bool {
        self.validity(cost).is_some_and(|validity| validity.covers(data.episode_length))
    }

    /// What can be tried: stretches of the longest horizon that passed, and whole episodes. Where the test of this cost
    /// failed and another's did not, there is no stretch to try.
    fn estimators(&self, data: &Dataset, cost: usize) -> Vec<Option<usize>> {
        let passed = self.validity(cost).filter(|validity| validity.valid && !self.believed(data, cost));
        passed.map(|validity| Some(validity.horizon)).into_iter().chain([None]).collect()
    }

    /// What reads cost `cost` of a policy: steps of a stretch, None for whole episodes. Models that failed, and
    /// policies that remember, play whole episodes: those of failed models decide nothing.
    fn readers(&self, data: &Dataset, cost: usize, remembers: bool) -> Vec<Option<usize>> {
        if remembers || !self.valid(cost) {
            return vec![None];
        }
        let chosen = self.trials(cost).map(|trials| judges(trials, self.believed(data, cost), false));
        match chosen.filter(|trials| !trials.is_empty()) {
            Some(trials) => trials.iter().map(|trial| trial.horizon).collect(),
            None => vec![self.estimators(data, cost)[0]],
        }
    }

    /// Rolls a policy out over whole episodes from `count` of the run's initial states (all of them if `None`). The
    /// policy plays in every member of the ensemble: row b*E+e is start b in member e. Plays of committees err, as
    /// those behind the certificate do. One estimate a cost.
    pub fn rollout(
        &mut self,
        data: &Dataset,
        count: Option<usize>,
        cancel: &AtomicBool,
        player: &mut dyn Player,
    ) -> Result<Option<Vec<RolloutEstimate>>> {
        let _rollouts = profile::open("rollouts");
        let total = self.starts.size()[0];
        let Some(dynamics) = &mut self.dynamics else { return Ok(None) };
        let starts = first(&self.starts, count.map_or(total, |n| (n as i64).min(total)), dynamics);
        let draws = dynamics.pseudo().map(|_| episode_draws());
        Ok(Some(dynamics.whole_episodes(data, &starts, (data.episode_length, draws), cancel, player)?.0))
    }

    /// The models for gradients through them; None without one.
    pub fn foresight(&self) -> Option<Foresight> {
        self.dynamics.as_ref().map(Dynamics::foresight)
    }

    /// The estimate of a policy from all initial states, over the stretches its models can be believed; from fewer
    /// states, or none, where its actions take so long that this would not end in some minutes. Where two estimators
    /// read a cost, the one whose bound is higher.
    pub fn estimate(
        &mut self,
        data: &Dataset,
        run: &RunConfig,
        policy: &dyn FrozenPolicy,
        cancel: &AtomicBool,
    ) -> Result<Judgement> {
        let readers: Vec<_> =
            (0..self.readings.len()).map(|cost| self.readers(data, cost, policy.remembers())).collect();
        let (logged, length) = (self.logged.shallow_clone(), data.episode_length);
        let Some(dynamics) = &mut self.dynamics else { return Ok(Judgement::default()) };
        let asked = self.starts.size()[0];
        let made = affordable(asked, dynamics.members(), length, policy.work());
        let shortage = (made < asked).then_some(Shortage { asked, made });
        if made == 0 {
            return Ok(Judgement { estimates: Vec::new(), shortage });
        }
        let starts = first(&self.starts, made, dynamics);
        // Costs that are read in the same way are read in the same play.
        let mut plays: Vec<(Option<usize>, Vec<RolloutEstimate>)> = Vec::new();
        for &horizon in readers.iter().flatten() {
            if plays.iter().any(|play| play.0 == horizon) {
                continue;
            }
            let rows = starts.size()[0] + horizon.map_or(0, |_| logged.size()[0]);
            let mut player = policy.start(rows);
            let (found, visited) = read(dynamics, data, (&starts, &logged), horizon, cancel, player.as_mut())?;
            let tried = self.readings.iter().any(|reading| !reading.trials.is_empty());
            let distance = self.clones.as_mut().filter(|_| tried).map(|clones| clones.distance(&visited, None));
            let (distance, nearest) = distance.unzip();
            let placed = found.into_iter().map(|one| RolloutEstimate { distance, nearest, ..one });
            plays.push((horizon, placed.collect()));
        }
        let of = |(cost, readers): (usize, &Vec<Option<usize>>)| {
            let run = run.of_cost(cost);
            let read = plays.iter().filter(|(horizon, _)| readers.contains(horizon));
            let tested =
                read.map(|(horizon, found)| (found[cost].clone(), self.self_test(cost, &run, horizon.is_none())));
            RolloutEstimate::higher(tested, self.validity(cost), &run)
        };
        Ok(Judgement { estimates: readers.iter().enumerate().filter_map(of).collect(), shortage })
    }

    /// Saves or restores everything; the draws of starts,
    /// logged states and behaviors follow from the seed and the data.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.tensor("starts", &mut self.starts)?;
        state.tensor("logged", &mut self.logged)?;
        for (cost, Reading { validity, trials }) in self.readings.iter_mut().enumerate() {
            let name = |what: &str| if cost == 0 { what.to_string() } else { format!("{what}.{cost}") };
            state.value(&name("validity"), validity)?;
            state.value(&name("trials"), trials)?;
        }
        if let Some(clones) = &mut self.clones {
            state.group("clones", |state| clones.persist(state))?;
        }
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
