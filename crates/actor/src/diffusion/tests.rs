//! The diffusion kind against its formula, and what its draws depend on.

use crate::actor::{Actor, Turn};
use crate::draws::Draws;
use crate::file::PolicyFile;

const S: usize = 3;
const A: usize = 2;
const W: usize = 4;
const H: usize = 18;
const BETA: [f32; 3] = [0.2, 0.5, 0.8];

fn network(file: &mut PolicyFile, name: &str, widths: &[usize]) {
    for (index, pair) in widths.windows(2).enumerate() {
        let mut draws = Draws::new(name.len() as u64, index as u64, &[name.bytes().map(f32::from).sum()]);
        let weight = (0..pair[0] * pair[1]).map(|_| draws.normal() / (pair[0] as f32).sqrt()).collect();
        file.insert_layer(name, index, weight, (0..pair[1]).map(|_| 0.3 * draws.normal()).collect());
    }
}

/// One layer of [`network`] under its own name.
fn layer(file: &mut PolicyFile, name: &str, widths: [usize; 2]) {
    network(file, name, &widths);
    for part in ["weight", "bias"] {
        let tensor = file.tensors.remove(&format!("{name}.0.{part}")).unwrap();
        file.tensors.insert(format!("{name}.{part}"), tensor);
    }
}

fn file(candidates: usize, choice: &str, clip: bool) -> PolicyFile {
    let mut file = PolicyFile::new("diffusion");
    for (key, value) in [
        ("blocks", 2.0),
        ("norm_eps", 1e-6),
        ("noise_temperature", 0.9),
        ("candidates", candidates as f64),
        ("threshold", 0.1),
        ("seed", 5.0),
    ] {
        file.set(key, value);
    }
    file.set("clip_levels", clip);
    file.set("choice", choice);
    for (name, size, value) in
        [("observation.mean", S, 0.5), ("observation.std", S, 2.0), ("action.low", A, -1.0), ("action.high", A, 3.0)]
    {
        file.insert(name, &[size], vec![value; size]);
    }
    file.insert("level.beta", &[3], BETA.to_vec());
    file.insert("level.embedding", &[3, W], (0..3 * W).map(|i| (i as f32).sin()).collect());
    layer(&mut file, "input", [A + S + W, H]);
    layer(&mut file, "output", [H, A]);
    for i in 0..2 {
        layer(&mut file, &format!("blocks.{i}.inner"), [H, 20]);
        layer(&mut file, &format!("blocks.{i}.outer"), [20, H]);
        file.insert(&format!("blocks.{i}.norm.weight"), &[H], (0..H).map(|j| 1.0 + 0.1 * j as f32).collect());
        file.insert(&format!("blocks.{i}.norm.bias"), &[H], (0..H).map(|j| 0.05 * j as f32 - 0.3).collect());
    }
    for name in ["reward_critic.0", "reward_critic.1", "feasibility_critic.0", "feasibility_critic.1"] {
        network(&mut file, name, &[A + S, 6, 1]);
    }
    file
}

fn observations(rows: usize) -> Vec<f32> {
    let mut draws = Draws::new(1, 1, &[]);
    (0..rows * S).map(|_| draws.normal()).collect()
}

fn apply(file: &PolicyFile, name: &str, x: &[f64]) -> Vec<f64> {
    let (weight, bias) = (&file.tensors[&format!("{name}.weight")], &file.tensors[&format!("{name}.bias")]);
    let rows = weight.values.chunks(x.len()).zip(&bias.values);
    rows.map(|(row, &b)| f64::from(b) + row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>()).collect()
}

fn mish(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x * x.exp().ln_1p().tanh()).collect()
}

fn norm(file: &PolicyFile, name: &str, x: &[f64]) -> Vec<f64> {
    let part = |part: &str| file.tensors[&format!("{name}.{part}")].values.clone();
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
    let affine = part("weight").into_iter().zip(part("bias"));
    x.iter()
        .zip(affine)
        .map(|(x, (w, b))| (x - mean) / (variance + 1e-6).sqrt() * f64::from(w) + f64::from(b))
        .collect()
}

fn predict(file: &PolicyFile, action: &[f64], state: &[f64], level: usize) -> Vec<f64> {
    let embedding = file.tensors["level.embedding"].values[level * W..][..W].iter().map(|&x| f64::from(x));
    let input: Vec<f64> = action.iter().copied().chain(state.iter().copied()).chain(embedding).collect();
    let mut trunk = apply(file, "input", &input);
    for i in 0..2 {
        let name = |part: &str| format!("blocks.{i}.{part}");
        let wide = mish(&apply(file, &name("inner"), &norm(file, &name("norm"), &trunk)));
        let change = apply(file, &name("outer"), &wide);
        trunk.iter_mut().zip(change).for_each(|(x, change)| *x += change);
    }
    apply(file, "output", &mish(&trunk))
}

fn critic(file: &PolicyFile, name: &str, action: &[f64], state: &[f64]) -> [f64; 2] {
    let input: Vec<f64> = action.iter().chain(state).copied().collect();
    [0, 1].map(|member| {
        let hidden: Vec<f64> = apply(file, &format!("{name}.{member}.0"), &input).iter().map(|x| x.max(0.0)).collect();
        apply(file, &format!("{name}.{member}.1"), &hidden)[0]
    })
}

/// The module's formula in f64, one candidate after the other; also how many were feasible.
fn reference(file: &PolicyFile, candidates: usize, step: u64, observation: &[f32]) -> (Vec<f64>, usize) {
    let normal: Vec<f32> = observation.iter().map(|x| (x - 0.5) / 2.0).collect();
    let state: Vec<f64> = normal.iter().map(|&x| f64::from(x)).collect();
    let (clip, choice) = (file.metadata["clip_levels"] == "true", file.metadata["choice"].as_str());
    let mut draws = Draws::new(5, step, &normal);
    let mut found: Vec<(Vec<f64>, f64, f64)> = Vec::new();
    for _ in 0..candidates {
        let mut chain =
            (0..3).map(|_| (0..A).map(|_| f64::from(draws.normal())).collect::<Vec<f64>>()).collect::<Vec<_>>();
        let mut action = chain.remove(0);
        for level in (0..3).rev() {
            let beta = f64::from(BETA[level]);
            let kept: f64 = BETA[..=level].iter().map(|&beta| 1.0 - f64::from(beta)).product();
            let predicted = predict(file, &action, &state, level);
            for (i, x) in action.iter_mut().enumerate() {
                *x = (*x - beta / (1.0 - kept).sqrt() * predicted[i]) / (1.0 - beta).sqrt();
                if level > 0 {
                    *x += 0.9 * beta.sqrt() * chain[2 - level][i];
                }
                if clip || level == 0 {
                    *x = x.clamp(-1.0, 1.0);
                }
            }
        }
        let reward = critic(file, "reward_critic", &action, &state);
        let violation = critic(file, "feasibility_critic", &action, &state);
        found.push((action, reward[0].min(reward[1]), violation[0].max(violation[1])));
    }
    let feasible = found.iter().filter(|(_, _, violation)| *violation <= 0.1).count();
    let by_reward = choice == "best" || choice == "feasible" && feasible > 0;
    let allowed =
        found.into_iter().filter(|(_, _, violation)| choice != "feasible" || feasible == 0 || *violation <= 0.1);
    let score = |(_, reward, violation): &(Vec<f64>, f64, f64)| if by_reward { *reward } else { -violation };
    let best = allowed.max_by(|one, other| score(one).total_cmp(&score(other))).unwrap();
    // From [-1, 1] to [-1, 3].
    (best.0.iter().map(|x| -1.0 + (x + 1.0) * 2.0).collect(), feasible)
}

#[test]
fn actions_are_those_of_the_formula() {
    let mut met = [0; 3];
    for (candidates, choice, clip) in
        [(1, "safest", true), (40, "safest", true), (7, "best", false), (40, "feasible", true), (3, "feasible", false)]
    {
        let file = file(candidates, choice, clip);
        let read = if candidates > 1 { file.clone() } else { without_critics(&file) };
        let (mut player, observations) = (Actor::new(&read).unwrap().play(), observations(5));
        for step in 0..2 {
            let mut out = vec![0.0; 5 * A];
            player.act(Turn::first(&observations), &mut out).unwrap();
            for (action, observation) in out.chunks(A).zip(observations.chunks(S)) {
                let (expected, feasible) = reference(&file, candidates, step, observation);
                met[if feasible == 0 { 0 } else { 1 + usize::from(feasible == candidates) }] += 1;
                for (found, expected) in action.iter().zip(expected) {
                    let text = format!("{choice} of {candidates}, step {step}: {found} against {expected}");
                    assert!((f64::from(*found) - expected).abs() < 2e-4, "{text}");
                }
            }
        }
    }
    assert!(met[1] > 0, "some rows have feasible and infeasible candidates: {met:?}");
}

fn without_critics(file: &PolicyFile) -> PolicyFile {
    let mut file = file.clone();
    file.tensors.retain(|name, _| !name.contains("critic"));
    file
}

#[test]
fn a_row_draws_the_same_alone_and_in_any_batch_and_anew_at_every_step() {
    let actor = Actor::new(&file(7, "feasible", true)).unwrap();
    let observations = observations(33);
    let act = |rows: &[f32], steps: usize| {
        let (mut player, mut out) = (actor.play(), vec![0.0; rows.len() / S * A]);
        for _ in 0..steps {
            player.act(Turn::first(rows), &mut out).unwrap();
        }
        out
    };
    for steps in [1, 2] {
        let alone: Vec<f32> = observations.chunks(S).flat_map(|row| act(row, steps)).collect();
        assert_eq!(act(&observations, steps), alone);
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
fn what_cannot_be_played_is_refused_by_name() {
    let refused = |change: fn(&mut PolicyFile)| {
        let mut file = file(2, "safest", true);
        change(&mut file);
        Actor::new(&file).unwrap_err().to_string()
    };
    let missing = refused(|file| file.tensors.retain(|name, _| !name.starts_with("feasibility_critic")));
    assert!(missing.contains("feasibility_critic.0.0.weight") && missing.contains("needs both critics"), "{missing}");
    let rate = refused(|file| file.insert("level.beta", &[3], vec![0.1, 1.0, 0.2]));
    assert!(rate.contains("level.beta") && rate.contains("value 1 is 1"), "{rate}");
    let rows = refused(|file| file.insert("level.beta", &[2], vec![0.1, 0.2]));
    assert!(rows.contains("level.embedding"), "{rows}");
    let shape = refused(|file| file.insert("blocks.1.outer.weight", &[18, 19], vec![0.0; 18 * 19]));
    assert!(shape.contains("blocks.1.outer.weight") && shape.contains("[18, 20]"), "{shape}");
}
