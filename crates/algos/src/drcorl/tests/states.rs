//! `adaptation: state`: every state switched by itself, the threshold moved by Algorithm 2.

use super::*;

/// A walk on [0, 1] in episodes of 20: action a moves by 0.2 a, reward is the place it leads to, and beyond 0.7 it
/// costs. Logged actions are random.
fn walk(episodes: usize) -> Arc<Columns> {
    let mut rng = Rng::new(21, 0);
    let mut columns = Columns { obs_dim: 1, act_dim: 1, source: "walk".into(), ..Columns::default() };
    for _ in 0..episodes {
        let mut place = rng.unit();
        for t in 0..20 {
            let action = 2.0 * rng.unit() - 1.0;
            let next = step(place, action);
            columns.observations.push(place);
            columns.actions.push(action);
            columns.next_observations.push(next);
            columns.rewards.push(next);
            columns.costs.push(violation(next));
            columns.terminals.push(false);
            columns.timeouts.push(t == 19);
            place = next;
        }
    }
    Arc::new(columns.validate().unwrap())
}

fn step(place: f32, action: f32) -> f32 {
    (place + 0.2 * action).clamp(0.0, 1.0)
}

fn violation(place: f32) -> f32 {
    f32::from(u8::from(place > 0.7))
}

fn small_states(change: Value) -> Value {
    let mut config = small(json!({
        "gate": "critic_ucb", "adaptation": "state", "gamma": 0.9, "feasibility_gamma": 0.9, "margin_steps": 400, "feasibility_steps": 1500,
        "adaptation_steps": 800, "threshold_rate": 0.0
    }));
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    config
}

/// Mean place and cost of an episode of the shipped policy from 50 places.
fn played(trainer: &mut Trainer) -> (f64, f64, Value) {
    let actor = shipped(trainer);
    let (mut place, mut cost) = (0.0, 0.0);
    for begin in 0..50 {
        let mut at = begin as f32 / 50.0;
        for _ in 0..20 {
            let mut action = [0f32];
            actor.play().act(drcorl_actor::Turn::first(&[at]), &mut action).unwrap();
            at = step(at, action[0]);
            place += f64::from(at) / 1000.0;
            cost += f64::from(violation(at)) / 50.0;
        }
    }
    (place, cost, serde_json::to_value(trainer.certificate()).unwrap())
}

/// With the threshold at 0 the policy goes to where it costs and stays clear of it; who may cost more goes on.
#[test]
fn states_keep_clear_of_violations_as_far_as_the_threshold_asks() {
    let (place, cost, certificate) = played(&mut unjudged(walk(200), 5.0, small_states(json!({}))));
    // Half of what begins beyond 0.7 needs a step or two to leave.
    assert!(place > 0.5 && cost < 1.5, "place {place}, cost {cost}");
    let feasibility = &certificate["feasibility"];
    assert_eq!(feasibility["threshold"], 0.0);
    let share = |name: &str| feasibility[name].as_f64().unwrap();
    assert!(share("policy_actions") > share("logged_actions"), "{feasibility}");
    let branches = &certificate["branches"];
    let states: u64 = ["reward", "band", "cost"].iter().map(|name| branches[name].as_u64().unwrap()).sum();
    assert_eq!(states, 800 * 128, "{branches}");
    let limitless = small_states(json!({ "threshold_rate": 0.01 }));
    let (far, dear, certificate) = played(&mut unjudged(walk(200), 1e6, limitless));
    assert!(far > place + 0.1 && dear > 10.0, "place {far}, cost {dear}");
    assert!(certificate["feasibility"]["threshold"].as_f64().unwrap() > 1.0);
}

/// With a critic that follows the policy likewise, and with other steps.
#[test]
fn feasibility_may_follow_the_policy() {
    let change = json!({ "feasibility_updates_per_step": 2, "adaptation_target_rate": 0.1 });
    let (place, cost, certificate) = played(&mut unjudged(walk(200), 5.0, small_states(change)));
    assert!(place > 0.5 && cost < 1.5, "place {place}, cost {cost}");
    let resting = json!({ "feasibility_updates_per_step": 0, "adaptation_target_rate": 0.1 });
    let (.., rested) = played(&mut unjudged(walk(200), 5.0, small_states(resting)));
    assert_ne!(certificate["branches"], rested["branches"]);
}

/// Models that may not steer leave the threshold where it is, and no estimate is told.
#[test]
fn without_a_gate_the_threshold_stays() {
    let change = json!({ "gate": "model_rollout", "model_gate_correlation": 1.0, "threshold_rate": 0.1, "adaptation_steps": 30 });
    let mut trainer = unjudged(walk(100), 5.0, small_states(change));
    let never = AtomicBool::new(false);
    loop {
        let report = trainer.run(1000, &never).unwrap();
        if report.phase == "adaptation" {
            let told: Vec<&str> = report.metrics.iter().map(|(name, _)| *name).collect();
            assert!(told.contains(&"feasible_share") && !told.contains(&"cost_estimate"), "{told:?}");
        }
        if report.done {
            break;
        }
    }
    let certificate = serde_json::to_value(trainer.certificate()).unwrap();
    assert_eq!(certificate["feasibility"]["threshold"], 0.0);
    assert_eq!(certificate["gate"]["used"], Value::Null);
    assert!(certificate["gate"]["fallback_reason"].is_string() && certificate["selected"].is_null());
}

/// In every bit `auto` is `state` where models do not order what was held out, and `band` where they do.
#[test]
fn auto_is_one_of_both() {
    let policy = |adaptation: &str, correlation: f64| {
        let change = json!({
            "adaptation": adaptation, "gate": "model_rollout", "model_gate_correlation": correlation,
            "behavior_steps": 50, "warmup_steps": 50, "critic_steps": 20, "critic_init_steps": 20, "margin_steps": 200, "feasibility_steps": 20,
            "adaptation_steps": 20
        });
        let mut config = small_states(change);
        config["mixture_iterates"] = json!(0);
        let mut trainer = trainer_on("drcorl", walk(300), 5.0, config);
        let never = AtomicBool::new(false);
        while !trainer.run(1000, &never).unwrap().done {}
        let certificate = serde_json::to_value(trainer.certificate()).unwrap();
        (certificate["estimates"].clone(), certificate["feasibility"].clone())
    };
    let (unordered, ordered) = (policy("auto", 1.0), policy("auto", -1.0));
    assert_eq!(unordered, policy("state", 1.0));
    assert_eq!(ordered, policy("band", -1.0));
    assert!(!unordered.1.is_null() && ordered.1.is_null());
}

/// Costs that are always there, never there, or drawn by lot are no events that a state could keep clear of.
#[test]
fn costs_that_are_no_events_leave_one_switch_for_all() {
    let mut rng = Rng::new(3, 0);
    for kind in ["always", "never", "by lot"] {
        let mut columns = Arc::unwrap_or_clone(walk(100));
        for logged in &mut columns.costs {
            *logged = match kind {
                "always" => 0.5,
                "never" => 0.0,
                _ => f32::from(u8::from(rng.unit() > 0.7)),
            };
        }
        let brief = json!({ "behavior_steps": 50, "warmup_steps": 50, "critic_steps": 20, "critic_init_steps": 20, "adaptation_steps": 40 });
        let (.., certificate) = played(&mut unjudged(Arc::new(columns), 5.0, small_states(brief)));
        assert!(certificate["feasibility"].is_null(), "{kind}: {}", certificate["feasibility"]);
        let branches = &certificate["branches"];
        let steps: u64 = ["reward", "band", "cost"].iter().map(|name| branches[name].as_u64().unwrap()).sum();
        assert_eq!(steps, 40, "{kind}: {branches}");
    }
}
