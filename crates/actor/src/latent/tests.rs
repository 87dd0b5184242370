//! The latent kind against its formula, and what its draws depend on.

use super::*;
use crate::actor::Actor;
use crate::file::PolicyFile;

const S: usize = 3;
const A: usize = 2;
const L: usize = 4;

fn network(file: &mut PolicyFile, name: &str, widths: &[usize]) {
    for (index, pair) in widths.windows(2).enumerate() {
        let mut draws = Draws::new(name.len() as u64, index as u64, &[name.as_bytes()[0] as f32]);
        let weight = (0..pair[0] * pair[1]).map(|_| draws.normal() / (pair[0] as f32).sqrt()).collect();
        file.insert_layer(name, index, weight, (0..pair[1]).map(|_| 0.3 * draws.normal()).collect());
    }
}

fn file(candidates: usize) -> PolicyFile {
    let mut file = PolicyFile::new("latent");
    for (key, value) in [
        ("latents", L as f64),
        ("candidates", candidates as f64),
        ("latent_bound", 0.5),
        ("phi", 0.3),
        ("multiplier", 0.7),
        ("seed", 5.0),
    ] {
        file.set(key, value);
    }
    file.set("perturbation_activation", "tanh");
    for (name, size, value) in
        [("observation.mean", S, 0.5), ("observation.std", S, 2.0), ("action.low", A, -1.0), ("action.high", A, 3.0)]
    {
        file.insert(name, &[size], vec![value; size]);
    }
    network(&mut file, "decoder", &[L + S, 9, A]);
    network(&mut file, "perturbation", &[A + S, 7, A]);
    for name in ["reward_critic.0", "reward_critic.1", "cost_critic.0", "cost_critic.1"] {
        network(&mut file, name, &[A + S, 6, 1]);
    }
    file
}

fn observations(rows: usize) -> Vec<f32> {
    let mut draws = Draws::new(1, 1, &[]);
    (0..rows * S).map(|_| draws.normal()).collect()
}

fn run(file: &PolicyFile, name: &str, input: &[f64], hidden: fn(f64) -> f64) -> Vec<f64> {
    let layers = (0..).take_while(|i| file.tensors.contains_key(&format!("{name}.{i}.weight"))).count();
    (0..layers).fold(input.to_vec(), |x, i| {
        let (weight, bias) = (&file.tensors[&format!("{name}.{i}.weight")], &file.tensors[&format!("{name}.{i}.bias")]);
        let rows = weight.values.chunks(x.len()).zip(&bias.values);
        let affine =
            rows.map(|(row, &b)| f64::from(b) + row.iter().zip(&x).map(|(&w, x)| f64::from(w) * x).sum::<f64>());
        affine.map(|v| if i + 1 == layers { v } else { hidden(v) }).collect()
    })
}

/// The type's formula in f64, one candidate after the other.
fn reference(file: &PolicyFile, candidates: usize, step: u64, observation: &[f32]) -> Vec<f64> {
    let normal: Vec<f32> = observation.iter().map(|x| (x - 0.5) / 2.0).collect();
    let state: Vec<f64> = normal.iter().map(|&x| f64::from(x)).collect();
    let mut draws = Draws::new(5, step, &normal);
    let relu = |x: f64| x.max(0.0);
    let mut best: Option<(f64, Vec<f64>)> = None;
    for _ in 0..candidates {
        let latent = (0..L).map(|_| f64::from(draws.normal().clamp(-0.5, 0.5)));
        let input: Vec<f64> = latent.chain(state.iter().copied()).collect();
        let decoded: Vec<f64> = run(file, "decoder", &input, relu).iter().map(|x| x.tanh()).collect();
        let with_state = |action: &[f64]| action.iter().chain(&state).copied().collect::<Vec<f64>>();
        let shift = run(file, "perturbation", &with_state(&decoded), f64::tanh);
        let action: Vec<f64> = decoded.iter().zip(shift).map(|(b, x)| (b + 0.3 * x.tanh()).clamp(-1.0, 1.0)).collect();
        let value = |name: &str| run(file, name, &with_state(&action), relu)[0];
        let score = value("reward_critic.0").min(value("reward_critic.1"))
            - 0.7 * value("cost_critic.0").max(value("cost_critic.1"));
        if best.as_ref().is_none_or(|(top, _)| score > *top) {
            best = Some((score, action));
        }
    }
    best.unwrap().1.iter().map(|a| -1.0 + (a + 1.0) / 2.0 * 4.0).collect()
}

#[test]
fn actions_equal_the_formula_at_every_step() {
    for candidates in [1, 10, 50] {
        let file = file(candidates);
        let mut player = Actor::new(&file).unwrap().play();
        let observations = observations(40);
        for step in 0..3 {
            let mut out = vec![0.0; 40 * A];
            player.act(Turn::first(&observations), &mut out).unwrap();
            for (observation, action) in observations.chunks(S).zip(out.chunks(A)) {
                for (found, expected) in action.iter().zip(reference(&file, candidates, step, observation)) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{candidates} candidates, step {step}");
                }
            }
        }
    }
}

#[test]
fn a_row_draws_the_same_alone_and_in_any_batch_and_anew_at_every_step() {
    let actor = Actor::new(&file(10)).unwrap();
    let observations = observations(33);
    let act = |rows: &[f32], steps: usize| {
        let (mut player, mut out) = (actor.play(), vec![0.0; rows.len() / S * A]);
        for _ in 0..steps {
            player.act(Turn::first(rows), &mut out).unwrap();
        }
        out
    };
    for steps in [1, 2] {
        let together = act(&observations, steps);
        let alone: Vec<f32> = observations.chunks(S).flat_map(|row| act(row, steps)).collect();
        assert_eq!(together, alone);
    }
    assert_ne!(act(&observations, 1), act(&observations, 2));
    let (mut player, mut out) = (actor.play(), vec![0.0; 33 * A]);
    player.act(Turn::first(&observations), &mut out).unwrap();
    player.reset(&[1]);
    player.act(Turn::first(&observations), &mut out).unwrap();
    assert_eq!(out[A..2 * A], act(&observations, 1)[A..2 * A]);
    assert_eq!(out[..A], act(&observations, 2)[..A]);
}

#[test]
fn candidates_without_critics_are_refused() {
    let mut file = file(2);
    file.tensors.retain(|name, _| !name.starts_with("cost_critic"));
    assert!(Actor::new(&file).unwrap_err().message.contains("needs both critics"));
}
