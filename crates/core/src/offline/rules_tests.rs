//! Every rule alone: a case in which nothing refuses, and one change at a time.

use super::super::certificate::Evidence;
use super::super::ladder::Rung;
use super::super::notes::unread;
use super::super::self_test::Trial;
use super::super::{Behavior, Tried};
use super::*;

/// Everything a case borrows.
#[derive(Clone)]
struct World {
    model: Option<RolloutEstimate>,
    remembers: bool,
    facts: DataFacts,
    validity: Option<Validity>,
    self_test: Option<SelfTest>,
    run: RunConfig,
}

/// A policy of cost 4 +- 1 under a limit of 10, by models that were believed over whole episodes of 100 steps and fell
/// short by a fifth on logged behavior: at most 4 + 1 + .2 * 5 = 6 of the 8 allowed.
fn world() -> World {
    let rung = Rung { horizon: 100, passed: true, ..Rung::default() };
    let behavior = Behavior { episodes: 10, logged: 6.0, estimated: 5.0, shortfall: 0.2, distance: 1.0 };
    World {
        model: Some(RolloutEstimate {
            cost: 4.0,
            cost_std: 1.0,
            costs: vec![vec![2.0, 4.0, 6.0], vec![3.0, 4.0, 5.0]],
            distance: Some(0.5),
            ..RolloutEstimate::default()
        }),
        remembers: false,
        facts: DataFacts {
            episodes: 100,
            whole_episodes: 100,
            safe_episodes: 50,
            highest_cost: 30.0,
            costs_seen: true,
            held_out_near_limit: 8,
            episode_length: 100,
            length_stated: false,
            full_episodes: 100,
            longest_episode: 100,
        },
        validity: Some(Validity {
            valid: true,
            reasons: vec![],
            held_out_episodes: 10,
            history: 0,
            horizon: 100,
            whole: 100,
            ladder: vec![rung],
        }),
        self_test: Some(SelfTest::of(&Trial { horizon: None, behaviors: vec![behavior; 4] }, vec![], Goal::Mean)),
        run: RunConfig::default(),
    }
}

impl World {
    fn case(&self) -> Case<'_> {
        Case {
            model: self.model.as_ref(),
            shortage: None,
            remembers: self.remembers,
            facts: &self.facts,
            validity: self.validity.as_ref(),
            self_test: self.self_test.as_ref(),
            run: &self.run,
        }
    }

    fn model(&mut self) -> &mut RolloutEstimate {
        self.model.as_mut().unwrap()
    }

    fn believed_over(&mut self, horizon: usize) {
        self.validity.as_mut().unwrap().horizon = horizon;
        self.model().costs.clear();
        self.self_test.as_mut().unwrap().estimator = Tried { horizon: Some(horizon), error: 0.2, under_reading: 0.2 };
    }
}

/// The rules that refuse after one change, and the first sentence.
fn refused(change: impl FnOnce(&mut World)) -> (Vec<Rule>, String) {
    let mut world = world();
    change(&mut world);
    let found = refusals(&world.case());
    assert!(found.iter().all(|refusal| !refusal.remedy.is_empty() && !refusal.reason.is_empty()));
    (found.iter().map(|refusal| refusal.rule).collect(), found.first().map(|r| r.reason.clone()).unwrap_or_default())
}

/// Refused by that rule and no other, in words that contain these.
fn only(rule: Rule, words: &str, change: impl FnOnce(&mut World)) {
    let (rules, reason) = refused(change);
    assert_eq!(rules, [rule], "{reason}");
    assert!(reason.contains(words), "{reason}");
}

#[test]
fn a_policy_without_fault_is_certified_by_its_bound() {
    assert_eq!(refused(|_| {}).0, []);
    let world = world();
    assert!((bound(&world.case()).unwrap() - 6.0).abs() < 1e-12);
    assert!(world.case().why_certified().starts_with("upper cost estimate 6.00 is within 80 % of the limit 10, "));
}

/// What held-out episodes are read too low widens as what clones are, whichever is more.
#[test]
fn what_is_known_to_be_missed_widens_the_bound() {
    let bound_of = |bias: f64, near: f64| {
        let mut world = world();
        let rung = &mut world.validity.as_mut().unwrap().ladder[0];
        (rung.horizon, rung.cost_bias, rung.cost_bias_near_limit) = (100, bias, near);
        bound(&world.case()).unwrap()
    };
    let usual = bound_of(0.2, 0.3);
    assert!((usual - 6.0).abs() < 1e-12, "{usual}");
    let (test, scale) =
        (world().self_test.unwrap().shortfall, Goal::Mean.scale(world().model.unwrap().cost, &world().run));
    for (bias, near) in [(-0.24, 0.0), (0.1, -0.24), (-0.05, -0.24)] {
        let expected = usual + (0.24 - test) * scale;
        assert!((bound_of(bias, near) - expected).abs() < 1e-12 && test < 0.24, "{bias} {near}");
    }
    assert_eq!(bound_of(-test / 2.0, 0.0), usual);
}

/// Kinds far from the policy may be read right: the one it is like counts whole.
#[test]
fn the_behavior_nearest_to_the_policy_widens_by_itself() {
    let kind = |shortfall| Behavior { shortfall, ..world().self_test.unwrap().behaviors[0].clone() };
    let behaviors: Vec<Behavior> = [0.0; 7].into_iter().chain([0.7]).map(kind).collect();
    let test = SelfTest::of(&Trial { horizon: None, behaviors }, vec![], Goal::Mean);
    assert_eq!(test.shortfall, 0.0);
    let bound_of = |nearest| {
        let mut world = World { self_test: Some(test.clone()), ..world() };
        world.model().nearest = nearest;
        bound(&world.case()).unwrap()
    };
    assert_eq!((bound_of(None), bound_of(Some(0)), bound_of(Some(7))), (5.0, 5.0, 8.5));
}

#[test]
fn each_rule_refuses_alone() {
    only(Rule::NoModels, "no auditing dynamics model", |w| w.model = None);
    only(Rule::NoModels, "no auditing dynamics model", |w| w.validity = None);
    only(Rule::NoModels, "a single auditing dynamics model", |w| w.run.audit_members = 1);
    only(Rule::NoCostSeen, "a cost that was never seen", |w| w.facts.costs_seen = false);
    only(Rule::NoCostNearLimit, "2 held-out episodes cost at least 5", |w| w.facts.held_out_near_limit = 2);
    only(Rule::NoWholeEpisode, "none of 100 logged episodes shows how one ends", |w| w.facts.whole_episodes = 0);
    only(Rule::LengthUnknown, "50 of the 100 steps of the task", |w| {
        (w.facts.length_stated, w.facts.longest_episode) = (true, 50);
    });
    only(Rule::LengthUnknown, "how long a full episode is", |w| w.facts.full_episodes = 1);
    only(Rule::Models, "failed their test on held-out episodes (costs are wrong)", |w| {
        let validity = w.validity.as_mut().unwrap();
        (validity.valid, validity.reasons) = (false, vec!["costs are wrong".into()]);
    });
    only(Rule::NoSelfTest, "100 whole episodes show too few kinds", |w| w.self_test = None);
    only(Rule::Distance, "2.50 deviations from the nearest logged behavior", |w| w.model().distance = Some(2.5));
    only(Rule::Distance, "NaN deviations", |w| w.model().distance = Some(f64::NAN));
    only(Rule::Range, "11 % of the entries", |w| w.model().clipped = 0.11);
    only(Rule::Range, "NaN % of the entries", |w| w.model().clipped = f64::NAN);
    only(Rule::Bound, "upper cost estimate 8.01 is above 8.00 (80 % of the limit 10)", |w| w.model().cost_std = 3.01);
    only(Rule::Bound, "upper cost estimate NaN", |w| w.model().cost = f64::NAN);
    only(Rule::Bound, "upper cost estimate 8.50", |w| w.self_test.as_mut().unwrap().shortfall = 0.7);
}

#[test]
fn a_limit_of_nothing_is_refused_in_one_sentence_and_by_its_bound() {
    let (rules, reason) = refused(|w| w.run.cost_limit = 0.0);
    assert_eq!(rules, [Rule::LimitZero, Rule::Bound]);
    assert!(reason.contains("a limit of 0 cannot be shown"), "{reason}");
}

/// What a policy with memory does depends on how it came there, and stretches from logged states have no past.
#[test]
fn memory_needs_models_for_whole_episodes() {
    assert_eq!(refused(|w| w.remembers = true).0, []);
    only(Rule::Memory, "can be believed over 20 of 100 steps", |w| {
        w.remembers = true;
        w.believed_over(20);
    });
    // Whole episodes may be read well on clones where replayed actions go astray, or may not.
    let by_clones = |w: &mut World, under_reading: f64| {
        w.remembers = true;
        w.believed_over(20);
        w.self_test.as_mut().unwrap().estimator = Tried { horizon: None, error: 0.3, under_reading };
    };
    assert_eq!(refused(|w| by_clones(w, 0.2)).0, []);
    only(Rule::Memory, "whole episodes of cloned behavior are read 30 % too low", |w| by_clones(w, 0.3));
    only(Rule::Memory, "read NaN % too low", |w| by_clones(w, f64::NAN));
    // Where tasks are longer than what was held out, whole held-out episodes are not whole.
    only(Rule::Memory, "over 100 of 200 steps", |w| {
        w.remembers = true;
        w.self_test.as_mut().unwrap().estimator.under_reading = 0.3;
        (w.facts.episode_length, w.facts.full_episodes) = (200, 5);
    });
}

#[test]
fn chance_and_cvar_have_bars_of_their_own() {
    let ask = |w: &mut World, goal: Goal, level: f64| {
        (w.run.certify, w.run.certify_level) = (goal, level);
        w.self_test.as_mut().unwrap().shortfall = 0.0;
    };
    assert_eq!(refused(|w| ask(w, Goal::Chance, 0.95)).0, []);
    // A third of each member's episodes, and none: the shares are 2/3 and 1, their deviation 0.24.
    only(Rule::Bound, "at least 59.8 % by the estimate, 95.0 % is asked for", |w| {
        ask(w, Goal::Chance, 0.95);
        w.run.cost_limit = 5.5;
    });
    assert_eq!(refused(|w| ask(w, Goal::Cvar, 0.95)).0, []);
    only(Rule::Bound, "the mean cost of the worst 5.0 % of the episodes is above 5.60", |w| {
        ask(w, Goal::Cvar, 0.95);
        w.run.cost_limit = 7.0;
    });
    for goal in [Goal::Chance, Goal::Cvar] {
        only(Rule::OnlyMean, "only the mean cost is known", |w| {
            ask(w, goal, 0.95);
            w.believed_over(20);
        });
    }
}

/// A behavior that could not be estimated says nothing of how wrong estimates are.
#[test]
fn a_self_test_with_nothing_found_certifies_nothing() {
    let (rules, _) = refused(|w| {
        let mut behaviors = w.self_test.clone().unwrap().behaviors;
        behaviors[0].shortfall = f64::NAN;
        w.self_test = Some(SelfTest::of(&Trial { horizon: None, behaviors }, vec![], Goal::Mean));
    });
    assert_eq!(rules, [Rule::Bound]);
}

/// The bound moves with the unit of costs, and no verdict does.
#[test]
fn the_unit_of_costs_decides_nothing() {
    for (unit, safe) in [(100.0, true), (0.01, true), (100.0, false), (0.01, false)] {
        let (rules, _) = refused(|w| {
            let model = w.model();
            (model.cost, model.cost_std) = (model.cost * unit * if safe { 1.0 } else { 2.0 }, model.cost_std * unit);
            w.run.cost_limit *= unit;
        });
        assert_eq!(rules.is_empty(), safe, "{unit}");
    }
}

#[test]
fn thresholds_that_were_loosened_are_named() {
    assert_eq!(Thresholds::lax(&RunConfig::default()), Vec::<String>::new());
    let strict = RunConfig { certificate_k: 2.0, certificate_margin: 0.5, ..RunConfig::default() };
    assert_eq!(Thresholds::lax(&strict), Vec::<String>::new());
    let lax = RunConfig { certificate_k: 0.0, valid_cost_shortfall: 1.0, ..RunConfig::default() };
    assert_eq!(Thresholds::lax(&lax), ["certificate_k 0 (default 1)", "valid_cost_shortfall 1 (default 0.25)"]);
    let few = RunConfig { audit_members: 2, ..RunConfig::default() };
    assert_eq!(Thresholds::lax(&few), ["audit_members 2 (default 5)"]);
}

/// Estimates of policies that remember, beside one that does not, are of whole episodes, and a note says where these
/// cannot be believed.
#[test]
fn a_policy_beside_that_cannot_be_read_is_noted() {
    let beside = |remembers| Evidence { remembers, model_rollout: world().model, ..Evidence::default() };
    let noted = |remembers, change: &dyn Fn(&mut World)| {
        let mut world = world();
        change(&mut world);
        unread(&[("mixture", &beside(remembers))], world.validity.as_ref(), world.self_test.as_ref(), 100)
    };
    let short = |world: &mut World| {
        world.self_test = None;
        let validity = world.validity.as_mut().unwrap();
        (validity.horizon, validity.whole) = (20, 0);
    };
    assert!(noted(true, &|_| {}).is_empty());
    assert!(noted(false, &short).is_empty());
    let [note] = noted(true, &short).try_into().unwrap();
    assert!(
        note.starts_with("policy mixture must be played over whole episodes") && note.contains("20 of 100"),
        "{note}"
    );
    assert!(noted(true, &|world| world.validity = None).is_empty());
}
