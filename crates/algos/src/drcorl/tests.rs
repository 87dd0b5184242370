//! DRCORL on problems whose answer is known, and guards against the published faults.

mod courses;
mod several_costs;
mod states;

use super::diffusion::ScoreWeight;
use super::divergence::Divergence;
use super::facts::reward_factor;
use super::gate::averaged_over;
use super::options::{GateStates, PolicyClass, RewardScaling};
use super::*;
use drcorl_core::dataset::Dataset;
use drcorl_core::hybrid::Played;
use drcorl_core::trainer::{Origin, Trainer};
use drcorl_data::Columns;
use serde_json::json;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use tch::Device;

pub(super) const LENGTH: usize = 10;

/// A contextual problem in episodes: random observation, reward 1 + a, cost max(a, 0);
/// an episode's actions lie around its own mean.
pub(super) fn logged(episodes: usize) -> Arc<Columns> {
    let mut rng = Rng::new(11, 0);
    let mut columns = Columns { obs_dim: 2, act_dim: 1, source: "toy".into(), ..Columns::default() };
    for _ in 0..episodes {
        let mean = 1.6 * rng.unit() - 0.8;
        for t in 0..LENGTH {
            let action = (mean + 0.4 * (rng.unit() - 0.5)).clamp(-1.0, 1.0);
            columns.observations.extend([rng.unit(), rng.unit()]);
            columns.next_observations.extend([rng.unit(), rng.unit()]);
            columns.actions.push(action);
            columns.rewards.push(1.0 + action);
            columns.costs.push(action.max(0.0));
            columns.terminals.push(false);
            columns.timeouts.push(t + 1 == LENGTH);
        }
    }
    Arc::new(columns.validate().unwrap())
}

/// Times before noise, as a step draws them.
pub(super) fn draws(rng: &mut Rng, rows: i64, actions: i64) -> Draws {
    let unit = rng.uniform(&[rows], Device::Cpu);
    Draws { unit, noise: rng.normal(&[rows, actions], Device::Cpu), action: None }
}

pub(super) fn small(change: Value) -> Value {
    let mut config = json!({
        "behavior_hidden": 32, "behavior_blocks": 2, "behavior_expansion": 2, "behavior_dropout": 0.0, "behavior_batch": 128,
        "behavior_steps": 800, "behavior_lr": 2e-3, "behavior_lr_final": 1e-4,
        "actor_hidden": [32, 32], "actor_batch": 128, "warmup_steps": 400, "warmup_lr": 2e-3, "score_weight": "stable",
        "critic_hidden": [32, 32], "critic_batch": 128, "critic_lr": 1e-3, "critic_init_steps": 300, "critic_steps": 500, "gamma": 0.5,
        "value_unit": "per_step", "reward_scaling": "magnitude", "reward_target_rate": 0.05, "cost_target_rate": 0.05,
        "cost_backup": "own", "pessimism": "target_ucb", "pessimism_alpha": 0.05,
        "adaptation_steps": 1200, "actor_lr": 1e-3, "actor_lr_final": 5e-5, "guidance_scale": "batch_rms", "adaptation_target_rate": 0.1,
        "reward_updates_per_step": 0, "beta_initial": 0.3, "beta_final": 0.6, "gate": "model_rollout", "model_gate_margin": 0.75, "gate_interval": 10, "gate_rollouts": 32,
        "candidate_interval": 200
    });
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    config
}

fn trainer(algorithm: &str, limit: f64, config: Value) -> Trainer {
    trainer_on(algorithm, logged(300), limit, config)
}

fn trainer_on(algorithm: &str, columns: Arc<Columns>, limit: f64, config: Value) -> Trainer {
    let run = json!({ "cost_limit": limit, "device": "cpu", "model_steps": 800, "model_hidden": [48, 48], "model_batch": 128, "fqe_steps": 50, "self_test_steps": 50, "model_rollouts": 64 });
    let all = json!({ "algorithm": algorithm, "run": run, "config": config });
    Trainer::new(crate::REGISTRY, columns, &all.to_string()).unwrap()
}

/// As [`trainer`] on given data, without the certificate's models: for tests of training alone.
pub(super) fn unjudged(columns: Arc<Columns>, limit: f64, config: Value) -> Trainer {
    let run = json!({ "cost_limit": limit, "device": "cpu", "model_members": 1, "audit_members": 0, "model_steps": 5, "fqe_steps": 0, "self_test_steps": 0, "model_rollouts": 4 });
    let all = json!({ "algorithm": "drcorl", "run": run, "config": config });
    Trainer::new(crate::REGISTRY, columns, &all.to_string()).unwrap()
}

/// Runs to the end; the shipped policy, as its file plays.
fn shipped(trainer: &mut Trainer) -> drcorl_actor::Actor {
    let never = AtomicBool::new(false);
    while !trainer.run(1000, &never).unwrap().done {}
    let folder =
        std::env::temp_dir().join(format!("drcorl-toy-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&folder).unwrap();
    trainer.write_policies(&folder, &Origin::default()).unwrap();
    let actor = drcorl_actor::Actor::load(&folder.join("policy.safetensors")).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    actor
}

/// Runs to the end and returns the exact return and cost of the shipped policy, and the certificate.
fn outcome(trainer: &mut Trainer) -> (f64, f64, Value) {
    let actor = shipped(trainer);
    let mut rng = Rng::new(99, 0);
    let observations: Vec<f32> = (0..4000).map(|_| rng.unit()).collect();
    let mut actions = vec![0f32; 2000];
    actor.play().act(drcorl_actor::Turn::first(&observations), &mut actions).unwrap();
    let mean = |f: fn(f64) -> f64| actions.iter().map(|&a| f(f64::from(a))).sum::<f64>() / 2000.0 * LENGTH as f64;
    (mean(|a| 1.0 + a), mean(|a| a.max(0.0)), serde_json::to_value(trainer.certificate()).unwrap())
}

/// Within the limit and above BC-Safe; a limit out of the way breaks it; more limit, more return.
#[test]
fn the_toy_problem_is_solved_under_its_limit() {
    let limit = 2.0;
    let (ret, cost, certificate) = outcome(&mut trainer("drcorl", limit, small(json!({}))));
    assert!(cost <= limit, "cost {cost}, {certificate}");
    assert_eq!(certificate["environment_steps"], 0);
    assert_eq!(certificate["validity"]["valid"], true, "{certificate}");
    let branches = &certificate["branches"];
    let counted: u64 = ["reward", "band", "cost"].iter().map(|name| branches[name].as_u64().unwrap()).sum();
    assert_eq!(counted, 1200);
    let cloning = json!({ "actor_hidden": [32, 32], "update_steps": 800, "batch_size": 128 });
    let (safe_return, safe_cost, _) = outcome(&mut trainer("bc_safe", limit, cloning));
    assert!(safe_cost <= limit && ret > safe_return + 1.0, "DRCORL {ret}, BC-Safe {safe_return} at {safe_cost}");
    let (larger_return, larger_cost, _) = outcome(&mut trainer("drcorl", 4.0, small(json!({}))));
    assert!(larger_return > ret && larger_cost <= 4.0, "{larger_return} at {larger_cost}");
    let (_, ungated_cost, _) = outcome(&mut trainer("drcorl", 1e6, small(json!({}))));
    assert!(ungated_cost > 4.0, "{ungated_cost}");
}

/// So it is where the reward critic follows the policy.
#[test]
fn a_reward_critic_that_follows_keeps_the_limit() {
    let change = json!({ "gate": "critic_ucb", "reward_critic": "td", "reward_updates_per_step": 1 });
    let (ret, cost, _) = outcome(&mut unjudged(logged(300), 2.0, small(change)));
    assert!(cost <= 2.0 && ret > 10.0, "return {ret}, cost {cost}");
}

/// The two gates are steered to targets of their own; models that rank costs badly do not steer.
#[test]
fn models_that_rank_costs_badly_leave_the_gate_to_the_critics() {
    let short = json!({ "adaptation_steps": 20, "behavior_steps": 50, "warmup_steps": 50, "critic_steps": 20, "critic_init_steps": 20 });
    let gate = |correlation: f64| {
        let mut config = small(short.clone());
        (config["model_gate_correlation"], config["gate_states"]) = (json!(correlation), json!("safe"));
        outcome(&mut trainer("drcorl", 2.0, config)).2["gate"].clone()
    };
    assert_eq!(averaged_over(GateStates::Safe, false), GateStates::Dataset);
    assert_eq!(averaged_over(GateStates::Initial, false), GateStates::Initial);
    assert_eq!(
        gate(0.6),
        json!({ "requested": "model_rollout", "used": "model_rollout", "fallback_reason": null, "states": "safe" })
    );
    let unfit = gate(1.0);
    assert_eq!(unfit["used"], "critic_ucb");
    assert!(unfit["fallback_reason"].as_str().unwrap().contains("1.00 is needed to steer"), "{unfit}");
    assert_eq!(GateEstimate { cost: 3.0, target: 1.5 }.normalised(), 2.0);
    assert_eq!(GateEstimate { cost: 0.05, target: 0.0 }.normalised(), 0.5);
}

/// What ships is the running average of the last weights, where no candidate may take its place.
#[test]
fn the_shipped_policy_is_the_running_average() {
    let keep = 0.9;
    let mut run = trainer(
        "drcorl",
        2.0,
        small(
            json!({ "ships": "last", "average_keep": keep, "adaptation_steps": 30, "candidate_interval": 1, "behavior_steps": 50, "warmup_steps": 50, "critic_steps": 20, "critic_init_steps": 20 }),
        ),
    );
    let never = AtomicBool::new(false);
    while run.status().phase != "adaptation" {
        run.run(1000, &never).unwrap();
    }
    let folder = std::env::temp_dir().join(format!("drcorl-average-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("c.safetensors");
    let read = |run: &mut Trainer, name: &str| -> Vec<f32> {
        run.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = stored.tensor(name).unwrap();
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let (live, average) = ("algorithm.policy.head.online.values", "algorithm.policy.average.values");
    // The average restarts from the live weights when adaptation begins.
    let mut expected: Vec<f64> = read(&mut run, live).into_iter().map(f64::from).collect();
    while run.status().phase == "adaptation" {
        run.run(1, &never).unwrap();
        for (e, x) in expected.iter_mut().zip(read(&mut run, live)) {
            *e += (f64::from(x) - *e) * (1.0 - keep);
        }
    }
    let shipped = read(&mut run, average);
    assert!(shipped.iter().zip(&expected).all(|(s, e)| (f64::from(*s) - e).abs() < 1e-5));
    while !run.run(1000, &never).unwrap().done {}
    run.write_policies(&folder, &Origin::default()).unwrap();
    let file = drcorl_actor::PolicyFile::load(&folder.join("policy.safetensors")).unwrap();
    assert_eq!(file.metadata.get("name").map(String::as_str), Some("averaged"));
    assert_eq!(file.tensors["actor.0.weight"].values[..8], shipped[..8]);
    std::fs::remove_dir_all(folder).unwrap();
}

/// A denoiser of actions around -0.6 and 0.6, with that deviation around each, and 128 states.
fn two_modes(std: f64, rng: &mut Rng) -> (BehaviorModel, Tensor) {
    let shape = ScoreNetShape { observations: 1, actions: 1, hidden: 48, blocks: 2, expansion: 2 };
    let mut behavior = BehaviorModel::new(shape, 0.0, 0.0, Device::Cpu, rng);
    let state = Tensor::zeros([128, 1], (Kind::Float, Device::Cpu));
    for step in 0..1500 {
        let (action, draws) = (of_two_modes(std, rng), draws(rng, 128, 1));
        behavior.step(&state, &action, &draws, &[], cosine(3e-3, 1e-4, step, 1500));
    }
    (behavior, state)
}

fn of_two_modes(std: f64, rng: &mut Rng) -> Tensor {
    let side = rng.uniform(&[128, 1], Device::Cpu).lt(0.5).to_kind(Kind::Float) * 1.2 - 0.6;
    side + rng.normal(&[128, 1], Device::Cpu) * std
}

/// Between two modes at +-0.6 a Dirac policy under the score term goes to one of them; regression goes to the middle.
#[test]
fn the_score_term_seeks_a_mode() {
    let mut rng = Rng::new(12, 0);
    let (behavior, state) = two_modes(0.08, &mut rng);
    let config = DrcorlConfig { score_weight: ScoreWeight::Score, ..DrcorlConfig::default() };
    let mut policy = Policy::new(1, 1, &[16], false, Device::Cpu, &mut rng);
    let mut cloned = Policy::new(1, 1, &[16], false, Device::Cpu, &mut rng);
    for step in 0..1500 {
        let score = ScoreStep::new(&mut policy, &behavior, &state, &draws(&mut rng, 128, 1), &config);
        let gradient = score.gradient(&mut policy, None).gradient;
        policy.apply(&gradient, cosine(1e-2, 1e-4, step, 1500), 0.0);
        crate::bc::regress(&mut cloned, &state, &of_two_modes(0.08, &mut rng), cosine(1e-2, 1e-4, step, 1500));
    }
    let action = policy.act(&state).double_value(&[0, 0]);
    let middle = cloned.act(&state).double_value(&[0, 0]);
    assert!((action.abs() - 0.6).abs() < 0.12, "{action}");
    assert!(middle.abs() < 0.12, "{middle}");
}

/// So does the mean of a Gaussian; under the plain divergence a learnt deviation becomes about that of the mode,
/// neither nothing nor the distance of the modes.
/// (Laws diffused to late times are one hill, which a learnt deviation covers.)
#[test]
fn gaussian_policies_seek_a_mode() {
    for (class, divergence, std) in
        [(PolicyClass::GaussianConstant, Divergence::Diffused, 0.08), (PolicyClass::Gaussian, Divergence::Plain, 0.15)]
    {
        let mut rng = Rng::new(14, 0);
        let (behavior, state) = two_modes(std, &mut rng);
        let config = DrcorlConfig {
            score_weight: ScoreWeight::Score,
            policy_class: class,
            policy_std: 0.05,
            divergence,
            ..DrcorlConfig::default()
        };
        let mut policy = Policy::spread(1, 1, &[16], config.spread(), false, Device::Cpu, &mut rng);
        for step in 0..1000 {
            let action = Some(rng.normal(&[128, 1], Device::Cpu));
            let draws = Draws { action, ..draws(&mut rng, 128, 1) };
            let score = ScoreStep::new(&mut policy, &behavior, &state, &draws, &config);
            let gradient = score.gradient(&mut policy, None).gradient;
            policy.apply(&gradient, cosine(1e-2, 1e-4, step, 1000), 0.0);
        }
        let mean = policy.act(&state).double_value(&[0, 0]);
        assert!((mean.abs() - 0.6).abs() < 0.12, "{class:?}: {mean}");
        if class == PolicyClass::Gaussian {
            // Of the mode seen at the smallest time: sqrt(0.15^2 + 0.077^2) = 0.17.
            let found = policy.draw(&state, None).std.unwrap().double_value(&[0, 0]);
            assert!((0.1..0.28).contains(&found), "{found}");
        }
    }
}

/// Gaussian policies of either kind solve the toy problem under its limit, by their mean.
#[test]
fn gaussian_policies_keep_the_limit() {
    for (class, critic) in [("gaussian_constant", "td_double"), ("gaussian", "td")] {
        let config = small(json!({ "policy_class": class, "cost_critic": critic }));
        let (ret, cost, certificate) = outcome(&mut trainer("drcorl", 2.0, config));
        assert!(cost <= 2.0 && ret > 8.0, "{class}: return {ret}, cost {cost}, {certificate}");
    }
}

/// With opposite critics and equal temperature, reward and cost step coincide, because they share their noise.
#[test]
fn opposite_critics_give_equal_gradients() {
    let mut rng = Rng::new(13, 0);
    let shape = ScoreNetShape { observations: 2, actions: 2, hidden: 16, blocks: 1, expansion: 2 };
    let behavior = BehaviorModel::new(shape, 0.0, 0.0, Device::Cpu, &mut rng);
    let mut policy = Policy::new(2, 2, &[16], false, Device::Cpu, &mut rng);
    let observation = rng.normal(&[8, 2], Device::Cpu);
    let draws = draws(&mut rng, 8, 2);
    let score = ScoreStep::new(&mut policy, &behavior, &observation, &draws, &DrcorlConfig::default());
    let guidance = rng.normal(&[8, 2], Device::Cpu);
    let reward = score.gradient(&mut policy, Some(&(&guidance * 0.3))).gradient;
    let cost = score.gradient(&mut policy, Some(&(-&guidance * -0.3))).gradient;
    assert_eq!(reward, cost);
    let combined = gradient::manipulate(&reward, &cost, f64::INFINITY);
    assert!((combined.gradient - &reward).abs().max().double_value(&[]) < 1e-6);
}

/// A band step moves by one optimiser step: with fresh moments every weight moves by at most the learning rate.
#[test]
fn a_band_step_is_one_optimiser_step() {
    let lr = 1e-3;
    let config = small(json!({
        "actor_lr": lr, "slack_above": 1e9, "slack_below": 1.0, "behavior_steps": 5, "warmup_steps": 1, "warmup_lr": 1e-12, "critic_steps": 5,
        "critic_init_steps": 5, "adaptation_steps": 2
    }));
    let mut run = trainer("drcorl", 2.0, config);
    let never = AtomicBool::new(false);
    while run.status().phase != "adaptation" {
        run.run(1000, &never).unwrap();
    }
    let folder = std::env::temp_dir().join(format!("drcorl-band-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("c.safetensors");
    let state = |run: &mut Trainer| {
        run.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = stored.tensor("algorithm.policy.head.online.values").unwrap();
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (values, text)
    };
    let (before, _) = state(&mut run);
    run.run(1, &never).unwrap();
    let (after, text) = state(&mut run);
    std::fs::remove_dir_all(folder).unwrap();
    let largest = before.iter().zip(&after).map(|(b, a)| (b - a).abs()).fold(0f32, f32::max);
    // One warm-up step and one band step: a second Adam step in the band would show here and in the distance moved.
    assert!(text.contains(r#"algorithm.policy.head.adam.steps\":\"2\""#), "two optimiser steps in all");
    assert!(text.contains(r#"band\\\":1"#), "the step was a band step");
    assert!(f64::from(largest) <= 1.9 * lr && largest > 0.0, "{largest}");
}

/// In the space of updates too a band step makes one move, of both tentative ones; it differs from that of gradients.
#[test]
fn a_band_step_of_updates_is_one_move() {
    let moved = |space: &str| {
        let config = small(json!({
            "manipulation_space": space, "slack_above": 1e9, "slack_below": 1.0, "behavior_steps": 5, "warmup_steps": 5, "critic_steps": 5,
            "critic_init_steps": 5, "adaptation_steps": 40
        }));
        let mut run = unjudged(logged(50), 2.0, config);
        let never = AtomicBool::new(false);
        while !run.run(1000, &never).unwrap().done {}
        let certificate = serde_json::to_value(run.certificate()).unwrap();
        // The last step has no slack left.
        assert!(certificate["branches"]["band"].as_u64().unwrap() >= 38, "{certificate}");
        let all = tch::Tensor::zeros([1, 2], (Kind::Float, Device::Cpu));
        run.policies().unwrap()[0].policy.act(&all).double_value(&[0, 0])
    };
    let (gradients, updates) = (moved("gradient"), moved("update"));
    assert!((gradients - updates).abs() < 0.2 && gradients != updates, "{gradients} {updates}");
}

/// The published prologue follows the reward whatever the cost; a constant slack does not fall.
#[test]
fn a_prologue_and_a_constant_slack_where_they_are_asked_for() {
    let branches = |change: Value| {
        let mut config = json!({
            "behavior_steps": 5, "warmup_steps": 5, "critic_steps": 5, "critic_init_steps": 5, "adaptation_steps": 20, "gate": "critic_ucb"
        });
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let mut run = unjudged(logged(50), 1e-3, small(config));
        let never = AtomicBool::new(false);
        while !run.run(1000, &never).unwrap().done {}
        serde_json::to_value(run.certificate()).unwrap()["branches"].clone()
    };
    assert_eq!(branches(json!({}))["reward"], 0);
    assert_eq!(branches(json!({ "prologue_steps": 7 }))["reward"], 7);
    let wide = |schedule: &str| branches(json!({ "slack_above": 1e9, "slack_below": 1.0, "slack_schedule": schedule }));
    assert_eq!(wide("constant")["band"], 20);
    assert_eq!(wide("linear")["band"], 19);
}

/// Costs that come at one time of the episode: in the mean over an episode they are within the limit, at their time
/// not. A hard constraint leaves nothing of the limit.
#[test]
fn constraints_bound_episodes_steps_or_everything() {
    let gates = |constraint: &str, limit: f64| {
        let mut columns = (*logged(200)).clone();
        for (row, cost) in columns.costs.iter_mut().enumerate() {
            let last = (row % LENGTH) as f32 / LENGTH as f32 >= 0.8;
            columns.observations[2 * row] = row as f32 % LENGTH as f32 / LENGTH as f32;
            columns.next_observations[2 * row] = (row as f32 % LENGTH as f32 + 1.0) / LENGTH as f32;
            *cost = f32::from(u8::from(last));
        }
        let config = small(json!({
            "constraint": constraint, "gate": "critic_ucb", "gate_states": "dataset", "gamma": 0.05, "behavior_steps": 5, "warmup_steps": 5,
            "critic_init_steps": 500, "critic_steps": 100, "adaptation_steps": 10, "slack_above": 0.0, "slack_below": 0.0
        }));
        let mut run = unjudged(Arc::new(columns), limit, config);
        let never = AtomicBool::new(false);
        while !run.run(1000, &never).unwrap().done {}
        let certificate = serde_json::to_value(run.certificate()).unwrap();
        (certificate["branches"]["reward"].as_u64().unwrap(), certificate["branches"]["cost"].as_u64().unwrap())
    };
    // Two of ten steps cost 1: 2 an episode, 10 if every step were as dear as those.
    assert_eq!(gates("episodic", 4.0), (10, 0));
    assert_eq!(gates("stepwise", 4.0), (0, 10));
    assert_eq!(gates("stepwise", 14.0), (10, 0));
    assert_eq!(gates("hard", 4.0), (0, 10));
}

/// The PID set point is the limit in the critics' unit, and its gains are in that unit too.
#[test]
fn the_pid_set_point_is_the_limit() {
    let data = Dataset::new(logged(20), None, Device::Cpu).unwrap();
    let mut multipliers: Vec<f64> = Vec::new();
    for (unit, expected) in [("per_step", 2.0 / LENGTH as f64), ("discounted", 2.0 / LENGTH as f64 / 0.5)] {
        let config: DrcorlConfig = serde_json::from_value(small(json!({ "value_unit": unit }))).unwrap();
        let run = RunConfig { cost_limit: 2.0, ..RunConfig::default() };
        let mut rng = Rng::new(0, 0);
        let mut judge = drcorl_core::offline::Judge::new(&data, &run, 1, &mut rng);
        let mut reader = drcorl_core::offline::Judge::new(&data, &run, 0, &mut rng);
        let mut built = Drcorl::build(
            config,
            &mut Context {
                data: &data,
                run: &run,
                judge: &mut judge,
                reader: &mut reader,
                rng: &mut rng,
                visit: None,
                cancel: &AtomicBool::new(false),
            },
        )
        .unwrap();
        assert_eq!(built.pid.update(expected), 0.0);
        // The same violation of the limit, in whatever unit, is answered by the same multiplier.
        multipliers.push(built.pid.update(expected * 1.1));
    }
    assert!(multipliers[0] > 0.0 && (multipliers[0] - multipliers[1]).abs() < 1e-9, "{multipliers:?}");
}

/// The reward scale does not depend on the order of episodes, and episodes end at their flags, whatever their length.
#[test]
fn the_reward_scale_follows_flagged_episodes() {
    let episode = |rewards: &[f32], columns: &mut Columns| {
        for (i, &reward) in rewards.iter().enumerate() {
            columns.observations.push(0.0);
            columns.next_observations.push(0.0);
            columns.actions.push(i as f32);
            columns.rewards.push(reward);
            columns.costs.push(0.0);
            columns.terminals.push(false);
            columns.timeouts.push(i + 1 == rewards.len());
        }
    };
    let factor = |order: [&[f32]; 3]| {
        let mut columns = Columns { obs_dim: 1, act_dim: 1, source: "order".into(), ..Columns::default() };
        order.iter().for_each(|rewards| episode(rewards, &mut columns));
        let data = Dataset::new(Arc::new(columns), None, Device::Cpu).unwrap();
        (reward_factor(&data, RewardScaling::ReturnRange), reward_factor(&data, RewardScaling::Magnitude))
    };
    let (a, b, c): (&[f32], &[f32], &[f32]) = (&[1.0, 1.0], &[2.0, 2.0, 2.0], &[0.5]);
    let (range, magnitude) = factor([a, b, c]);
    assert!((range - 1000.0 / 5.5).abs() < 1e-9);
    let (other_range, other_magnitude) = factor([c, b, a]);
    assert!((range - other_range).abs() < 1e-9 && (magnitude - other_magnitude).abs() < 1e-9);
}

/// A cost limit no logged episode meets is learnt under without a panic, and refused a certificate.
#[test]
fn an_impossible_limit_is_not_certified() {
    let brief = json!({ "behavior_steps": 20, "warmup_steps": 20, "critic_steps": 10, "critic_init_steps": 10, "adaptation_steps": 20 });
    let (_, _, certificate) = outcome(&mut trainer("drcorl", 0.0, small(brief)));
    assert_eq!(certificate["verdict"], "not certified");
    assert!(!certificate["reasons"].as_array().unwrap().is_empty());
}

/// Files of a run that has ended, by name, and its metrics.
pub(super) fn files(run: &mut Trainer, name: &str) -> (std::collections::BTreeMap<String, Vec<u8>>, Vec<String>) {
    let never = AtomicBool::new(false);
    let mut metrics = Vec::new();
    while !run.status().done {
        metrics.push(format!("{:?}", run.run(1, &never).unwrap().metrics));
    }
    let folder = std::env::temp_dir().join(format!("drcorl-mixture-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let written = run.write_policies(&folder, &Origin::default()).unwrap();
    let read = |file: &String| (file.clone(), std::fs::read(folder.join(file)).unwrap());
    let files = written.iter().map(|record| read(&record.file)).collect();
    std::fs::remove_dir_all(folder).unwrap();
    (files, metrics)
}

/// Guidance that looks ahead keeps the limit on the toy, changes what is learnt, and goes on exactly after a stop.
#[test]
fn looking_ahead_keeps_the_limit_and_resumes_exactly() {
    let limit = 2.0;
    let (ret, cost, certificate) = outcome(&mut trainer("drcorl", limit, small(json!({ "value_expansion": 3 }))));
    assert!(cost <= limit && ret > 10.0, "return {ret}, cost {cost}, {certificate}");
    let brief = |steps: u64| {
        let few = json!({
            "value_expansion": steps, "behavior_steps": 5, "warmup_steps": 5, "critic_steps": 5, "critic_init_steps": 5,
            "adaptation_steps": 20
        });
        trainer("drcorl", limit, small(few))
    };
    let (expected, _) = files(&mut brief(3), "ahead");
    assert_ne!(files(&mut brief(0), "not-ahead").0, expected);
    let never = AtomicBool::new(false);
    let mut first = brief(3);
    while first.status().phase != "adaptation" || first.status().phase_step < 7 {
        first.run(1, &never).unwrap();
    }
    let path = std::env::temp_dir().join(format!("drcorl-ahead-{}.safetensors", std::process::id()));
    first.save(&path).unwrap();
    let mut second = Trainer::resume(crate::REGISTRY, logged(300), &path).unwrap();
    assert_eq!(files(&mut second, "ahead-resumed").0, expected);
    std::fs::remove_file(path).unwrap();
}

/// What models have estimated ships, if it may; what critics have stays beside the last average.
#[test]
fn the_candidate_of_the_models_ships() {
    let names = |run: &Drcorl| run.policies().unwrap().iter().map(|named| named.name).collect::<Vec<_>>();
    let rng = &mut Rng::new(7, 0);
    let observation = rng.uniform(&[8, 2], Device::Cpu);
    for (ships, by_models, first) in [("selected", true, true), ("selected", false, false), ("last", true, false)] {
        let config = serde_json::from_value(small(json!({ "ships": ships }))).unwrap();
        let mut run = Drcorl::new(config, (2, 1), Facts::default(), Device::Cpu, rng);
        assert_eq!(names(&run), ["averaged"]);
        let other = Policy::new(2, 1, &[8], false, Device::Cpu, rng).averaged();
        let act = |policy: &dyn FrozenPolicy| policy.act(&observation);
        let (expected, last) = (act(&other), act(&run.policy.averaged()));
        run.selected = Selected { policy: other, found: true, step: 3, second: false, ret: 1.0, by_models };
        assert_eq!(names(&run), if first { vec!["averaged"] } else { vec!["averaged", "selected"] });
        assert_eq!(
            act(run.policies().unwrap()[0].policy.as_ref()),
            if first { expected } else { last },
            "{ships} {by_models}"
        );
    }
}
