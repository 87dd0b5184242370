//! The switching kind against its formula, and what its choice depends on.

use super::*;
use crate::actor::Actor;
use crate::draws::Draws;
use crate::file::PolicyFile;

const S: usize = 3;
const A: usize = 2;
const L: u64 = 6;
const GAMMA: f64 = 0.9;

fn network(file: &mut PolicyFile, name: &str, widths: &[usize]) {
    for (index, pair) in widths.windows(2).enumerate() {
        let mut draws = Draws::new(name.len() as u64, index as u64, &[f32::from(name.as_bytes()[0])]);
        let weight = (0..pair[0] * pair[1]).map(|_| draws.normal() / (pair[0] as f32).sqrt()).collect();
        file.insert_layer(name, index, weight, (0..pair[1]).map(|_| 0.3 * draws.normal()).collect());
    }
}

fn file(heads: usize, threshold: &str, floor: &str) -> PolicyFile {
    let mut file = PolicyFile::new("switching");
    file.set("heads", heads);
    file.set("gamma", GAMMA);
    file.set("episode_length", L);
    file.set("cost_threshold", threshold);
    file.set("cost_scale", 1.0);
    file.set("cost_floor", floor);
    file.set_setting("cost_limit", 2.0);
    for (name, size, value) in
        [("observation.mean", S, 0.5), ("observation.std", S, 2.0), ("action.low", A, -1.0), ("action.high", A, 3.0)]
    {
        file.insert(name, &[size], vec![value; size]);
    }
    network(&mut file, "actor", &[S, 9, 7, heads * A]);
    for name in ["reward_critic.0", "reward_critic.1", "cost_critic.0", "cost_critic.1"] {
        network(&mut file, name, &[A + S, 6, 1]);
    }
    file
}

fn observations(rows: usize) -> Vec<f32> {
    let mut draws = Draws::new(1, 1, &[]);
    (0..rows * S).map(|_| draws.normal()).collect()
}

fn run(file: &PolicyFile, name: &str, input: &[f64]) -> Vec<f64> {
    let layers = (0..).take_while(|i| file.tensors.contains_key(&format!("{name}.{i}.weight"))).count();
    (0..layers).fold(input.to_vec(), |x, i| {
        let (weight, bias) = (&file.tensors[&format!("{name}.{i}.weight")], &file.tensors[&format!("{name}.{i}.bias")]);
        let rows = weight.values.chunks(x.len()).zip(&bias.values);
        let affine =
            rows.map(|(row, &b)| f64::from(b) + row.iter().zip(&x).map(|(&w, x)| f64::from(w) * x).sum::<f64>());
        affine.map(|v| if i + 1 == layers { v } else { v.max(0.0) }).collect()
    })
}

/// The type's formula in f64: the head chosen for a limit in the critics' unit, and the action.
fn reference(file: &PolicyFile, limit: f64, observation: &[f32]) -> (usize, Vec<f64>) {
    let state: Vec<f64> = observation.iter().map(|&x| f64::from((x - 0.5) / 2.0)).collect();
    let outputs: Vec<f64> = run(file, "actor", &state).iter().map(|x| x.tanh()).collect();
    let zero = file.metadata["cost_floor"] == "zero";
    let judged: Vec<(f64, f64)> = outputs
        .chunks(A)
        .map(|action| {
            let input: Vec<f64> = action.iter().chain(&state).copied().collect();
            let value = |name: &str| run(file, name, &input)[0];
            let cost = value("cost_critic.0").max(value("cost_critic.1"));
            (value("reward_critic.0").min(value("reward_critic.1")), if zero { cost.max(0.0) } else { cost })
        })
        .collect();
    let mut order: Vec<usize> = (0..judged.len()).filter(|&k| judged[k].1 < limit).collect();
    if order.is_empty() {
        order = (0..judged.len()).collect();
        order.sort_by(|&a, &b| judged[a].1.total_cmp(&judged[b].1));
    } else {
        order.sort_by(|&a, &b| judged[b].0.total_cmp(&judged[a].0));
    }
    let action = outputs[order[0] * A..][..A].iter().map(|a| -1.0 + (a + 1.0) / 2.0 * 4.0).collect();
    (order[0], action)
}

/// The value of `budget` with `left` steps to go, written out once more.
fn value(threshold: &str, budget: f64, left: f64) -> f64 {
    let end = if threshold == "finite_horizon" { 1.0 - GAMMA.powf(left) } else { 1.0 };
    budget.max(0.0) * end / ((1.0 - GAMMA) * left)
}

#[test]
fn choices_on_hand_arrays() {
    let (rewards, costs) = ([3.0, 2.0, 1.0], [0.875, 0.5, 0.125]);
    for (limit, head) in [(1.0, 0), (0.875, 1), (0.75, 1), (0.5, 2), (0.125, 2), (-1.0, 2)] {
        assert_eq!(choose(&rewards, &costs, limit), head, "{limit}");
    }
    assert_eq!(choose(&[1.0, 1.0], &[0.0, 0.0], 1.0), 0);
    assert_eq!(choose(&[1.0, 1.0], &[2.0, 2.0], 1.0), 0);
    assert_eq!(choose(&[1.0, 2.0], &[-1.0, 5.0], 0.0), 0);
}

#[test]
fn actions_equal_the_formula_along_an_episode() {
    for (heads, threshold, floor) in
        [(2, "finite_horizon", "none"), (5, "infinite_horizon", "zero"), (40, "finite_horizon", "zero")]
    {
        let file = file(heads, threshold, floor);
        let mut player = Actor::new(&file).unwrap().play();
        let observations = observations(45);
        let costs: Vec<f32> = (0..45).map(|row| row as f32 * 0.03).collect();
        let mut chosen = std::collections::BTreeSet::new();
        // Two steps more than an episode has.
        for step in 0..L + 2 {
            let mut out = vec![0.0; 45 * A];
            player.act(Turn { observations: &observations, rewards: &[], costs: &costs }, &mut out).unwrap();
            for (row, (observation, action)) in observations.chunks(S).zip(out.chunks(A)).enumerate() {
                let budget = 2.0 - step as f64 * f64::from(costs[row]);
                let left = (L as f64 - step as f64).max(1.0);
                let (head, expected) = reference(&file, value(threshold, budget, left), observation);
                chosen.insert(head);
                for (found, expected) in action.iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{heads} heads, step {step}, row {row}");
                }
            }
        }
        assert!(chosen.len() > 1, "{chosen:?}");
    }
}

#[test]
fn a_row_acts_the_same_alone_and_in_any_batch() {
    let actor = Actor::new(&file(5, "finite_horizon", "none")).unwrap();
    let (observations, costs) = (observations(33), (0..33).map(|row| row as f32 * 0.05).collect::<Vec<f32>>());
    let act = |rows: &[f32], costs: &[f32]| {
        let (mut player, mut out) = (actor.play(), vec![0.0; rows.len() / S * A]);
        for _ in 0..4 {
            player.act(Turn { observations: rows, rewards: &[], costs }, &mut out).unwrap();
        }
        out
    };
    let alone: Vec<f32> = observations.chunks(S).zip(&costs).flat_map(|(row, &cost)| act(row, &[cost])).collect();
    assert_eq!(act(&observations, &costs), alone);
}

/// Reward critics that overflow harm where a choice is left, and nowhere else.
#[test]
fn rewards_are_asked_for_where_several_heads_are_allowed() {
    let mut file = file(3, "finite_horizon", "zero");
    let plain = file.clone();
    for member in ["reward_critic.0.1", "reward_critic.1.1"] {
        file.insert(&format!("{member}.weight"), &[1, 6], vec![f32::MAX; 6]);
    }
    let play = |file: &PolicyFile, limit: f64| {
        let mut actor = Actor::new(file).unwrap();
        actor.set("cost_limit", limit).unwrap();
        let mut out = vec![0.0; 40 * A];
        actor.play().act(Turn::first(&observations(40)), &mut out).map(|()| out)
    };
    assert_eq!(play(&file, 0.0).unwrap(), play(&plain, 0.0).unwrap());
    assert!(play(&file, 1e6).is_err());
}

#[test]
fn a_reset_gives_a_row_its_whole_budget_back() {
    let actor = Actor::new(&file(5, "finite_horizon", "none")).unwrap();
    let observations = observations(20);
    let mut player = actor.play();
    let mut step = |cost: f32| {
        let mut out = vec![0.0; 20 * A];
        player.act(Turn { observations: &observations, rewards: &[], costs: &[cost; 20] }, &mut out).unwrap();
        out
    };
    let first = step(0.0);
    let poor = step(100.0);
    assert_ne!(first, poor);
    player.reset(&[3, 7, 99]);
    // The cost told at an episode's first step is no part of it.
    let mut out = vec![0.0; 20 * A];
    player.act(Turn { observations: &observations, rewards: &[], costs: &[100.0; 20] }, &mut out).unwrap();
    for row in 0..20 {
        let expected = if [3, 7].contains(&row) { &first } else { &poor };
        assert_eq!(out[row * A..][..A], expected[row * A..][..A], "{row}");
    }
}

/// With values that go on for ever and gamma near 1, the value of a budget is the budget.
#[test]
fn an_undiscounted_budget_is_its_own_value() {
    let mut file = file(2, "finite_horizon", "none");
    file.set("gamma", 1.0 - 1e-9);
    let exchange = Exchange::read(&Fields::of(&file)).unwrap();
    for (budget, step) in [(2.0, 0), (1.5, 3), (0.25, 5), (0.25, 50)] {
        assert!((exchange.value(budget, step) - budget).abs() < 1e-6);
    }
    assert_eq!(exchange.value(-1.0, 2), 0.0);
}

#[test]
fn one_file_serves_every_limit() {
    let mut actor = Actor::new(&file(5, "finite_horizon", "none")).unwrap();
    let observations = observations(40);
    let mut act = |limit: f64| {
        actor.set("cost_limit", limit).unwrap();
        let mut out = vec![0.0; 40 * A];
        actor.play().act(Turn::first(&observations), &mut out).unwrap();
        out
    };
    let (strict, loose) = (act(0.0), act(50.0));
    assert_ne!(strict, loose);
    assert_eq!(strict, act(0.0));
}

#[test]
fn what_is_missing_is_named() {
    for (change, text) in [
        (("gamma", "1"), "between 0 and 1"),
        (("heads", "1"), "at least 2"),
        (("episode_length", "0"), "at least one step"),
        (("cost_floor", "one"), "cost_floor"),
        (("setting.cost_limit", "none"), "setting.cost_limit"),
    ] {
        let mut file = file(3, "finite_horizon", "none");
        file.set(change.0, change.1);
        let message = Actor::new(&file).unwrap_err().message;
        assert!(message.contains(text), "{message}");
    }
    let mut file = file(3, "finite_horizon", "none");
    file.tensors.retain(|name, _| !name.starts_with("cost_critic"));
    assert!(Actor::new(&file).unwrap_err().message.contains("cost_critic.0.0"));
}
