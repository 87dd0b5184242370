//! The budgeted kind against its formula, along an episode.

use super::*;
use crate::actor::Actor;
use crate::draws::Draws;
use crate::file::PolicyFile;

const S: usize = 3;
const A: usize = 2;
const WIDTHS: [usize; 3] = [S + 1, 7, A];

fn file(budget: &str) -> PolicyFile {
    let mut file = PolicyFile::new("budgeted");
    file.set("budget", budget);
    file.set("gamma", 0.9);
    file.set("episode_length", 6);
    file.set("cost_threshold", "finite_horizon");
    file.set("cost_scale", 0.5);
    file.set_setting("cost_limit", 2.0);
    for (name, size, value) in
        [("observation.mean", S, 0.5), ("observation.std", S, 2.0), ("action.low", A, -1.0), ("action.high", A, 3.0)]
    {
        file.insert(name, &[size], vec![value; size]);
    }
    for (index, pair) in WIDTHS.windows(2).enumerate() {
        let mut draws = Draws::new(5, index as u64, &[]);
        let weight = (0..pair[0] * pair[1]).map(|_| draws.normal() / 2.0).collect();
        file.insert_layer("actor", index, weight, (0..pair[1]).map(|_| 0.3 * draws.normal()).collect());
    }
    file
}

fn reference(file: &PolicyFile, kappa: f64, observation: &[f32]) -> Vec<f64> {
    let mut x: Vec<f64> = observation.iter().map(|&x| f64::from((x - 0.5) / 2.0)).chain([kappa]).collect();
    for index in 0..2 {
        let (weight, bias) =
            (&file.tensors[&format!("actor.{index}.weight")], &file.tensors[&format!("actor.{index}.bias")]);
        let rows = weight.values.chunks(x.len()).zip(&bias.values);
        let sums = rows.map(|(row, &b)| f64::from(b) + row.iter().zip(&x).map(|(&w, x)| f64::from(w) * x).sum::<f64>());
        x = sums.map(|v| if index == 1 { v } else { v.max(0.0) }).collect();
    }
    x.iter().map(|v| -1.0 + (v.tanh() + 1.0) / 2.0 * 4.0).collect()
}

#[test]
fn actions_equal_the_formula_along_an_episode() {
    for budget in ["value", "remaining"] {
        let file = file(budget);
        let mut player = Actor::new(&file).unwrap().play();
        let mut draws = Draws::new(1, 1, &[]);
        let observations: Vec<f32> = (0..45 * S).map(|_| draws.normal()).collect();
        let costs: Vec<f32> = (0..45).map(|row| row as f32 * 0.02).collect();
        // The cost told at an episode's first step is no part of it.
        for step in 0..8 {
            let mut out = vec![0.0; 45 * A];
            player.act(Turn { observations: &observations, rewards: &[], costs: &costs }, &mut out).unwrap();
            for (row, (observation, action)) in observations.chunks(S).zip(out.chunks(A)).enumerate() {
                let left = 0.5 * (2.0 - f64::from(step) * f64::from(costs[row])).max(0.0);
                let steps = (6.0 - f64::from(step)).max(1.0);
                let value = left * (1.0 - 0.9f64.powf(steps)) / (0.1 * steps);
                let expected = reference(&file, if budget == "value" { value } else { left }, observation);
                for (found, expected) in action.iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-5, "{budget}, step {step}, row {row}");
                }
            }
        }
        player.reset(&[44]);
        let mut out = vec![0.0; 45 * A];
        player.act(Turn { observations: &observations, rewards: &[], costs: &costs }, &mut out).unwrap();
        let steps = 6.0;
        let value = (1.0 - 0.9f64.powf(steps)) / (0.1 * steps);
        let expected = reference(&file, if budget == "value" { value } else { 1.0 }, &observations[44 * S..]);
        assert!((f64::from(out[44 * A]) - expected[0]).abs() < 1e-5);
    }
}

#[test]
fn what_is_missing_is_named() {
    for (key, text) in [("budget", "budget"), ("setting.cost_limit", "setting.cost_limit"), ("gamma", "gamma")] {
        let mut file = file("value");
        file.metadata.remove(key);
        assert!(Actor::new(&file).unwrap_err().message.contains(text));
    }
}
