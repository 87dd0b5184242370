//! Certificates in small worlds whose truth is known: what must be certified,
//! what must be refused and for which reason.

use drcorl_core::dataset::Dataset;
use drcorl_core::offline::{certify, Certificate, Evidence, Goal, Judge, Rule, Verdict};
use drcorl_core::policy::{FrozenPolicy, Player};
use drcorl_core::run::RunConfig;
use drcorl_core::Result;
use drcorl_data::Columns;
use drcorl_nn::rng::Rng;
use serde_json::Map;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use tch::{Device, Tensor};

/// Steps of an episode.
const LENGTH: usize = 30;

/// A point that is pushed: x' = 0.8 x + 0.4 a + noise, reward x', cost 1 where x' is above 0.6.
/// Under a constant push a it comes to 2 a, so that pushes above 0.3 cost.
#[derive(Clone)]
struct World {
    episodes: usize,
    /// Pushes of the logged episodes lie around a mean drawn from this range.
    pushes: (f32, f32),
    /// Cost of a step: of x', the push, and what no observation shows.
    cost: fn(f32, f32, bool) -> f32,
    /// Where given, the cost of a step is 1 with this probability at x' instead.
    odds: Option<fn(f32) -> f32>,
    /// Probability that the environment ends the episode at x'.
    ends: fn(f32) -> f32,
    /// Steps after which logs stop, and whether they say so.
    logged: (usize, bool),
}

impl Default for World {
    fn default() -> Self {
        World {
            episodes: 160,
            pushes: (-0.6, 0.8),
            cost: |x, _, _| f32::from(u8::from(x > 0.6)),
            odds: None,
            ends: |_| 0.0,
            logged: (LENGTH, true),
        }
    }
}

impl World {
    fn log(&self) -> Columns {
        let mut rng = Rng::new(3, 0);
        let mut columns = Columns { obs_dim: 2, act_dim: 1, source: "line".into(), ..Columns::default() };
        for _ in 0..self.episodes {
            let mean = self.pushes.0 + (self.pushes.1 - self.pushes.0) * rng.unit();
            let hidden = rng.unit() < 0.5;
            let (mut x, mut last) = (0.4 * (rng.unit() - 0.5), 0.0);
            for step in 0..self.logged.0 {
                let push = (mean + 0.1 * rng.normal_unit()).clamp(-1.0, 1.0);
                let next = 0.8 * x + 0.4 * push + 0.02 * rng.normal_unit();
                columns.observations.extend([x, last]);
                columns.next_observations.extend([next, push]);
                columns.actions.push(push);
                columns.rewards.push(next);
                columns.costs.push(match self.odds {
                    Some(odds) => f32::from(u8::from(rng.unit() < odds(next))),
                    None => (self.cost)(next, push, hidden),
                });
                let ended = rng.unit() < (self.ends)(next);
                columns.terminals.push(ended);
                columns.timeouts.push(self.logged.1 && step + 1 == self.logged.0 && !ended);
                (x, last) = (next, push);
                if ended {
                    break;
                }
            }
        }
        columns
    }
}

/// Always the same push, in the box of the logged actions.
struct Push(f32, f32, f32);

impl Push {
    /// The push `a` in data whose pushes have the range of `columns`.
    fn of(a: f32, columns: &Columns) -> Self {
        let (low, high) = columns.actions.iter().fold((f32::MAX, f32::MIN), |(l, h), &a| (l.min(a), h.max(a)));
        Push(a, low, high)
    }
}

impl FrozenPolicy for Push {
    fn start(&self, _rows: i64) -> Box<dyn Player + '_> {
        let unit = f64::from(2.0 * (self.0 - self.1) / (self.2 - self.1) - 1.0).clamp(-1.0, 1.0);
        Box::new(move |observation: &Tensor| observation.narrow(1, 0, 1).full_like(unit))
    }

    fn file(&self) -> Result<drcorl_actor::PolicyFile> {
        Ok(drcorl_actor::PolicyFile::new("mlp"))
    }
}

fn small(limit: f64) -> RunConfig {
    RunConfig {
        cost_limit: limit,
        audit_members: 2,
        model_hidden: vec![32, 32],
        model_steps: 700,
        model_lr: 3e-3,
        model_batch: 128,
        model_rollouts: 40,
        holdout_fraction: 0.2,
        self_test_steps: 200,
        ..RunConfig::default()
    }
}

fn certificate(columns: Columns, push: f32, run: &RunConfig) -> Certificate {
    let _no_grad = tch::no_grad_guard();
    tch::set_num_threads(1);
    let policy = Push::of(push, &columns);
    let data = Dataset::new(Arc::new(columns.validate().unwrap()), run.episode_length, Device::Cpu).unwrap();
    let never = AtomicBool::new(false);
    let mut rng = Rng::new(run.seed, 1);
    let mut auditor = Judge::auditor(&data, run, &mut rng);
    auditor.train(&data, run, &mut rng, &never).unwrap();
    let rollouts = auditor.estimate(&data, run, &policy, &never).unwrap().estimates;
    let mut rollouts = rollouts.into_iter();
    let evidence = (0..run.costs()).map(|_| Evidence { model_rollout: rollouts.next(), ..Evidence::default() });
    certify(&[("last", evidence.collect())], &auditor, &data, run, Map::new(), &[])
}

fn certified(found: &Certificate) {
    assert_eq!(found.verdict, Verdict::Certified, "{}", serde_json::to_string_pretty(found).unwrap());
    assert!(found.refusals.is_empty() && found.reasons.len() == 1);
}

/// Refused, and for that rule among others.
fn refused(found: &Certificate, rule: Rule) {
    assert_eq!(found.verdict, Verdict::NotCertified, "{}", serde_json::to_string_pretty(found).unwrap());
    assert!(found.refusals.iter().any(|refusal| refusal.rule == rule), "{rule:?}: {:?}", found.refusals);
    assert_eq!(found.reasons.len(), found.refusals.len());
}

/// What the auditors read for the mean cost.
fn cost(found: &Certificate) -> f64 {
    found.estimates.model_rollout.as_ref().unwrap().cost.mean
}

/// A world that also wears: |push| a step, so that a constant push a comes to 30 |a|.
fn wearing() -> Columns {
    let columns = World::default().log();
    let wear = columns.actions.iter().map(|push| push.abs()).collect();
    Columns { further: vec![("wear".into(), wear)], ..columns }
}

fn two_limits(costs: f64, wear: f64) -> RunConfig {
    RunConfig { limits: vec![("costs".into(), costs), ("wear".into(), wear)], ..small(costs) }
}

const SAFE: f32 = 0.1;
/// Costs about 25 of 30 steps.
const UNSAFE: f32 = 0.6;

#[test]
fn every_one_of_several_limits_must_be_kept() {
    let found = certificate(wearing(), SAFE, &two_limits(10.0, 10.0));
    assert_eq!(found.verdict, Verdict::Certified, "{}", serde_json::to_string_pretty(&found).unwrap());
    assert!(found.reasons[0].starts_with("costs: upper cost estimate"), "{:?}", found.reasons);
    assert!(found.reasons[1].starts_with("wear: upper cost estimate"), "{:?}", found.reasons);
    let wear = &found.costs[1];
    assert_eq!((wear.name.as_str(), wear.cost_limit, wear.data.costs_seen), ("wear", 10.0, true));
    let read = wear.estimates.model_rollout.as_ref().unwrap().cost.mean;
    assert!((read - 3.0).abs() < 0.6, "{read}");
    assert_eq!(found.costs[0].estimates, found.estimates);
    assert!(found.notes.iter().any(|note| note.ends_with("whole episodes are within all limits")), "{:?}", found.notes);

    // Each limit refuses for itself, and the refusal says which.
    for (push, limits, refusing, kept) in [(SAFE, (10.0, 2.5), "wear", 0), (0.4, (10.0, 24.0), "costs", 1)] {
        let found = certificate(wearing(), push, &two_limits(limits.0, limits.1));
        refused(&found, Rule::Bound);
        for refusal in &found.refusals {
            assert_eq!(refusal.cost.as_deref(), Some(refusing), "{refusal:?}");
            assert!(refusal.reason.starts_with(&format!("{refusing}: ")), "{refusal:?}");
        }
        assert_eq!(found.costs[kept].verdict, Verdict::Certified, "{:?}", found.costs[kept].refusals);
        assert_eq!(found.costs[1 - kept].verdict, Verdict::NotCertified);
    }
    // What refuses whatever the cost is told once.
    let few = Columns {
        further: vec![("wear".into(), vec![1.0; 2 * LENGTH])],
        ..World { episodes: 2, ..World::default() }.log()
    };
    let found = certificate(few, SAFE, &two_limits(10.0, 10.0));
    assert!(found.costs.iter().all(|cost| cost.verdict == Verdict::NotCertified));
    let told = |reason: &String| found.refusals.iter().filter(|other| other.reason == *reason).count();
    assert!(!found.refusals.is_empty() && found.refusals.iter().all(|refusal| told(&refusal.reason) == 1), "{found:?}");
    assert!(found.refusals.iter().any(|refusal| refusal.cost.is_none()), "{:?}", found.refusals);
}

/// One limit by its name is no other run than that of a cost limit, and says nothing more.
#[test]
fn one_named_limit_changes_nothing() {
    let named = RunConfig { limits: vec![("costs".into(), 10.0)], ..small(10.0) };
    let (one, plain) = (certificate(World::default().log(), SAFE, &named), certificate(wearing(), SAFE, &small(10.0)));
    assert_eq!(one, plain);
    let json = serde_json::to_value(&one).unwrap();
    assert!(json.get("costs").is_none());
    let refused = certificate(World::default().log(), UNSAFE, &named);
    assert!(serde_json::to_value(&refused).unwrap()["refusals"][0].get("cost").is_none());
}

#[test]
fn a_safe_policy_is_certified_and_an_unsafe_one_is_not() {
    certified(&certificate(World::default().log(), SAFE, &small(10.0)));
    let found = certificate(World::default().log(), UNSAFE, &small(10.0));
    refused(&found, Rule::Bound);
    assert!((cost(&found) - 26.0).abs() < 4.0, "{}", cost(&found));
}

#[test]
fn costs_that_were_never_seen_certify_nothing() {
    let world = World { cost: |_, _, _| 0.0, ..World::default() };
    refused(&certificate(world.log(), SAFE, &small(10.0)), Rule::NoCostSeen);
    // Or never near the limit.
    let world = World { cost: |x, _, _| f32::from(u8::from(x > 1.55)), ..World::default() };
    refused(&certificate(world.log(), SAFE, &small(29.0)), Rule::NoCostNearLimit);
}

#[test]
fn a_limit_of_nothing_is_refused() {
    refused(&certificate(World::default().log(), SAFE, &small(0.0)), Rule::LimitZero);
}

/// Columns that say nothing new change no verdict.
#[test]
fn constant_doubled_and_swapped_columns_decide_nothing() {
    type Row = fn(&[f32]) -> Vec<f32>;
    let changes: [Row; 3] = [
        |row| vec![row[0], 3.25, row[1], 0.0, -1e6],
        |row| vec![row[0], row[1], row[0], row[1]],
        |row| vec![row[1], row[0]],
    ];
    for change in changes {
        let mut columns = World::default().log();
        let width = change(&[0.0, 0.0]).len();
        columns.observations = columns.observations.chunks(2).flat_map(change).collect();
        columns.next_observations = columns.next_observations.chunks(2).flat_map(change).collect();
        columns.obs_dim = width;
        certified(&certificate(columns.clone(), SAFE, &small(10.0)));
        refused(&certificate(columns, UNSAFE, &small(10.0)), Rule::Bound);
    }
}

#[test]
fn units_of_rewards_and_costs_decide_nothing() {
    let usual = certificate(World::default().log(), SAFE, &small(10.0));
    let mut columns = World::default().log();
    columns.rewards.iter_mut().for_each(|reward| *reward *= 1e6);
    certified(&certificate(columns, SAFE, &small(10.0)));
    for unit in [100.0f32, 0.01] {
        let mut columns = World::default().log();
        columns.costs.iter_mut().for_each(|cost| *cost *= unit);
        let limit = 10.0 * f64::from(unit);
        let found = certificate(columns.clone(), SAFE, &small(limit));
        certified(&found);
        assert!((cost(&found) / f64::from(unit) - cost(&usual)).abs() < 1e-3);
        refused(&certificate(columns, UNSAFE, &small(limit)), Rule::Bound);
    }
}

/// The cost of a step is where it leads, of either sign.
#[test]
fn continuous_and_signed_costs_keep_their_sign() {
    let world = World { cost: |x, _, _| x, ..World::default() };
    // Under the push 0.1 an episode costs 0.2 a step in the end, about 5 in all; under -0.3 about -15.
    let found = certificate(world.log(), SAFE, &small(10.0));
    certified(&found);
    assert!((cost(&found) - 5.2).abs() < 1.0, "{}", cost(&found));
    let found = certificate(world.log(), -0.3, &small(10.0));
    certified(&found);
    assert!((cost(&found) + 15.6).abs() < 2.0, "{}", cost(&found));
    refused(&certificate(world.log(), UNSAFE, &small(10.0)), Rule::Bound);
    // A constant cost on every step is nothing a network has to learn.
    let world = World { cost: |x, _, _| 0.5 + f32::from(u8::from(x > 0.6)), ..World::default() };
    certified(&certificate(world.log(), SAFE, &small(25.0)));
    refused(&certificate(world.log(), UNSAFE, &small(25.0)), Rule::Bound);
}

/// Episodes that end by chance are no safety: where the policy lasts it costs as much as ever.
#[test]
fn predicted_ends_lower_no_cost() {
    let world = World { ends: |_| 0.02, ..World::default() };
    let found = certificate(world.log(), UNSAFE, &small(10.0));
    refused(&found, Rule::Bound);
    assert!(cost(&found) > 22.0, "{}", cost(&found));
}

/// Nor are ends that come where it costs: what was costly until then goes on.
#[test]
fn ends_where_it_costs_hide_no_cost() {
    let world = World { ends: |x| if x > 0.6 { 0.2 } else { 0.0 }, ..World::default() };
    let found = certificate(world.log(), UNSAFE, &small(10.0));
    refused(&found, Rule::Bound);
    assert!(cost(&found) > 20.0, "{}", cost(&found));
    certified(&certificate(world.log(), SAFE, &small(10.0)));
}

/// What decides the cost is in no observation: the models cannot tell whom they judge.
#[test]
fn a_hidden_cause_of_costs_is_refused() {
    let world = World { cost: |_, _, hidden| f32::from(u8::from(hidden)), ..World::default() };
    refused(&certificate(world.log(), SAFE, &small(20.0)), Rule::Models);
}

/// Nothing like it was ever logged, and it is unsafe: high costs were seen at pushes of another sign only.
#[test]
fn a_policy_far_from_the_data_is_refused() {
    let world = World {
        pushes: (-0.8, -0.2),
        cost: |x, push, _| f32::from(u8::from(x < -1.2 || push > 0.5)),
        ..World::default()
    };
    let mut columns = world.log();
    // One push, so that the box of actions contains it.
    columns.actions[0] = 1.0;
    let found = certificate(columns, 0.9, &small(10.0));
    assert_eq!(found.verdict, Verdict::NotCertified);
    // Clones that follow the state wherever it goes leave it to the range of the states.
    let far = |rule: Rule| rule == Rule::Distance || rule == Rule::Range;
    assert!(found.refusals.iter().any(|refusal| far(refusal.rule)), "{:?}", found.refusals);
}

#[test]
fn logs_shorter_than_the_task_are_refused() {
    let short = World { logged: (10, true), ..World::default() };
    let run = RunConfig { episode_length: Some(LENGTH), ..small(10.0) };
    let found = certificate(short.log(), SAFE, &run);
    refused(&found, Rule::NoWholeEpisode);
    assert_eq!(found.data.whole_episodes, 0);
    // Without end flags all is one episode, and none.
    let endless = World { logged: (LENGTH, false), ..World::default() };
    refused(&certificate(endless.log(), SAFE, &small(10.0)), Rule::NoWholeEpisode);
}

/// A tail that was cut off has no known cost: it is neither a safe episode nor a test.
#[test]
fn cut_off_tails_are_not_counted() {
    let mut columns = World::default().log();
    let cut = columns.len() - 20;
    columns.rewards.truncate(cut);
    columns.costs.truncate(cut);
    columns.actions.truncate(cut);
    columns.terminals.truncate(cut);
    columns.timeouts.truncate(cut);
    columns.observations.truncate(2 * cut);
    columns.next_observations.truncate(2 * cut);
    let found = certificate(columns, SAFE, &small(10.0));
    certified(&found);
    assert_eq!((found.data.episodes, found.data.whole_episodes), (160, 159));
    assert!(found.notes.iter().any(|note| note.contains("1 of 160 episodes were cut off")), "{:?}", found.notes);
}

#[test]
fn few_episodes_are_refused() {
    let few = World { episodes: 20, ..World::default() };
    let found = certificate(few.log(), SAFE, &small(10.0));
    refused(&found, Rule::Models);
    assert!(found.reasons.iter().any(|reason| reason.contains("only 4 held-out episodes")), "{:?}", found.reasons);
}

#[test]
fn no_models_and_no_self_test_certify_nothing() {
    let run = RunConfig { audit_members: 0, ..small(10.0) };
    refused(&certificate(World::default().log(), SAFE, &run), Rule::NoModels);
    let run = RunConfig { self_test_steps: 0, ..small(10.0) };
    refused(&certificate(World::default().log(), SAFE, &run), Rule::NoSelfTest);
}

#[test]
fn shares_and_worst_episodes_can_be_asked_for() {
    for goal in [Goal::Chance, Goal::Cvar] {
        // A tenth of the episodes of kinds near the limit is read to be within it and is not.
        let run = RunConfig { certify: goal, certify_level: 0.8, ..small(10.0) };
        let found = certificate(World::default().log(), SAFE, &run);
        assert_eq!((found.decision.certify, found.decision.level), (goal, Some(0.8)));
        let model = found.estimates.model_rollout.as_ref().unwrap();
        assert!(model.within_limit.unwrap() > 0.99 && model.worst.unwrap() < 2.0, "{model:?}");
        certified(&found);
        refused(&certificate(World::default().log(), UNSAFE, &run), Rule::Bound);
    }
}

/// Costs are a matter of chance: 8.6 of 30 steps under the safe push, with a deviation of 2.5, so that a fifth of the
/// episodes is above 10 all the same. The mean of an episode says nothing of that.
#[test]
fn shares_count_the_chance_in_costs() {
    let world = World { odds: Some(|x| 0.2 + 0.5 * x), episodes: 300, ..World::default() };
    let run = RunConfig { certify: Goal::Chance, certify_level: 0.9, model_rollouts: 200, ..small(10.0) };
    let found = certificate(world.log(), SAFE, &run);
    let share = found.estimates.model_rollout.as_ref().unwrap().within_limit.unwrap();
    assert!((share - 0.78).abs() < 0.15, "{share}, mean {}", cost(&found));
    refused(&found, Rule::Bound);
}

/// A push that comes to rest just inside the border: chance alone takes the point across, in 2.6 of 30 steps. The mean
/// of what comes next never crosses it.
#[test]
fn what_chance_takes_across_a_border_is_counted() {
    let found = certificate(World::default().log(), 0.28, &small(2.0));
    assert!((cost(&found) - 2.6).abs() < 1.3, "{}", cost(&found));
    refused(&found, Rule::Bound);
}

/// Models that steer read it as low; those that choose among candidates as the auditors do.
#[test]
fn candidates_are_read_as_the_certificate_is() {
    let (_no_grad, run, never) = (tch::no_grad_guard(), small(2.0), AtomicBool::new(false));
    let columns = World::default().log();
    let policy = Push::of(0.28, &columns);
    let data = Dataset::new(Arc::new(columns.validate().unwrap()), run.episode_length, Device::Cpu).unwrap();
    let mut rng = Rng::new(3, 1);
    let read = |judge: &mut Judge| {
        let mut player = policy.start(40 * 3);
        judge.rollout(&data, None, &never, player.as_mut()).unwrap().unwrap()[0].cost
    };
    let mut judges = [Judge::new(&data, &run, 3, &mut rng), Judge::reader(&data, &run, &mut rng)];
    let [steers, reads] = judges.each_mut().map(|judge| {
        judge.train(&data, &run, &mut rng, &never).unwrap();
        assert_eq!(read(judge), read(judge), "the same draws every time");
        read(judge)
    });
    assert!(steers < 1.0 && (reads - 2.6).abs() < 1.3, "{steers} {reads}");
}

/// The same seed, the same certificate.
#[test]
fn a_certificate_repeats() {
    let run = small(10.0);
    assert_eq!(certificate(World::default().log(), SAFE, &run), certificate(World::default().log(), SAFE, &run));
}
