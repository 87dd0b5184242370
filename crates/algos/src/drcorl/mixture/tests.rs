//! What is kept of the iterates, by itself and in whole runs.

use super::*;
use crate::drcorl::tests::{draws, files, logged, small, unjudged};
use crate::drcorl::{Drcorl, Facts};
use drcorl_core::Trainer;
use drcorl_nn::rng::Rng;
use serde_json::{json, Value};
use std::sync::atomic::AtomicBool;
use tch::Device;

/// Iterates whose parameters are the number of their step, in `slots` slots.
fn kept(slots: usize, seed: u64, weights: &[f64]) -> Mixture {
    let policy = Policy::new(1, 1, &[2], false, Device::Cpu, &mut Rng::new(1, 0));
    let mut mixture = Mixture::of(&policy, slots, seed);
    for (step, &weight) in weights.iter().enumerate() {
        mixture.weight = weight;
        let iterate = mixture.iterate(&policy).map(|values| values.full_like(step as f64));
        mixture.offer(step as u64, iterate);
    }
    mixture
}

/// Over many seeds an iterate has the share of the slots that its weight is of all weights;
/// slots hold what they say.
#[test]
fn slots_hold_iterates_by_their_weights() {
    let weights = [1.0, 0.0, 0.5, 2.5, 0.0, 1.0, 0.25, 0.75, 1.0, 3.0, 0.0];
    let total: f64 = weights.iter().sum();
    let seeds = 4000;
    for slots in [1, 3, 8] {
        let mut shares = [0.0; 11];
        for seed in 0..seeds {
            let mixture = kept(slots, seed, &weights);
            assert_eq!(mixture.total, total);
            for (step, slot, share) in mixture.kept() {
                assert_eq!(mixture.slots[slot].double_value(&[0]), step as f64);
                shares[step as usize] += share / seeds as f64;
            }
        }
        for (share, weight) in shares.iter().zip(weights) {
            // Five standard deviations, for one slot; more slots vary less.
            let expected = weight / total;
            let bound = 5.0 * (expected * (1.0 - expected) / seeds as f64).sqrt();
            assert!((share - expected).abs() <= bound, "{slots} slots: {share} for {expected}");
        }
    }
}

/// Late in a run an iterate has a slot of its own.
#[test]
fn slots_differ() {
    let counts: Vec<usize> = (0..50).map(|seed| kept(8, seed, &[1.0; 2000]).kept().len()).collect();
    assert!(counts.iter().all(|&count| count >= 6) && counts.iter().sum::<usize>() > 390, "{counts:?}");
}

#[test]
fn nothing_is_kept_without_weight_or_slots() {
    assert!(kept(4, 0, &[0.0; 5]).kept().is_empty());
    assert!(kept(0, 0, &[1.0; 5]).kept().is_empty());
}

const MIXED: &str = "policy.mixture.safetensors";

/// Few steps of everything, so that whole runs can be compared; `limit` far away makes all of them reward steps.
fn mixing(limit: f64, change: Value) -> Trainer {
    let mut config = json!({
        "behavior_steps": 5, "warmup_steps": 5, "critic_steps": 5, "critic_init_steps": 5, "adaptation_steps": 60, "gate": "critic_ucb",
        "candidate_interval": 20, "behavior_hidden": 8, "actor_hidden": [8], "critic_hidden": [8]
    });
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    unjudged(logged(50), limit, small(config))
}

/// Keeping iterates changes no bit of anything else, and steps on cost leave nothing to keep.
#[test]
fn the_mixture_is_kept_beside_a_run_that_stays_as_it_is() {
    for class in ["dirac", "gaussian"] {
        let run = |iterates: u64| mixing(1e6, json!({ "policy_class": class, "mixture_iterates": iterates }));
        let (mut kept, metrics) = files(&mut run(8), class);
        let (without, metrics_without) = files(&mut run(0), class);
        let actor = drcorl_actor::Actor::from_bytes(&kept.remove(MIXED).unwrap()).unwrap();
        assert_eq!(actor.settings().contains_key("sample"), class == "gaussian");
        assert!(actor.remembers() && kept.contains_key("policy.safetensors"));
        assert_eq!((kept, metrics), (without, metrics_without));
        let (above, _) = files(&mut mixing(1e-3, json!({ "policy_class": class })), class);
        assert!(!above.contains_key(MIXED));
    }
    let (prologue, _) = files(&mut mixing(1e6, json!({ "prologue_steps": 60 })), "prologue");
    assert!(!prologue.contains_key(MIXED));
}

/// A run that was stopped goes on to the same iterates; another seed keeps others.
#[test]
fn a_resumed_run_keeps_the_same_iterates() {
    let never = AtomicBool::new(false);
    let (expected, _) = files(&mut mixing(1e6, json!({})), "whole");
    assert!(expected.contains_key(MIXED));
    let path = std::env::temp_dir().join(format!("drcorl-mixture-{}.safetensors", std::process::id()));
    for stop in [10, 30, 79] {
        let mut first = mixing(1e6, json!({}));
        while first.status().step < stop {
            first.run(1, &never).unwrap();
        }
        first.save(&path).unwrap();
        let mut second = Trainer::resume(crate::REGISTRY, logged(50), &path).unwrap();
        assert_eq!(files(&mut second, "resumed").0, expected, "{stop}");
    }
    std::fs::remove_file(path).unwrap();
}

/// What an iterate counts is what its step was to the reward.
#[test]
fn iterates_count_by_their_branch() {
    let mut run = Drcorl::new(
        serde_json::from_value(small(json!({ "slack_above": 0.5, "slack_below": 0.5, "slack_schedule": "constant" })))
            .unwrap(),
        (2, 1),
        Facts::default(),
        Device::Cpu,
        &mut Rng::new(5, 0),
    );
    let mut rng = Rng::new(6, 0);
    let observation = rng.uniform(&[32, 2], Device::Cpu);
    let mut weight = |cost: f64| {
        let draws = draws(&mut rng, 32, 1);
        tch::no_grad(|| run.policy_step(0, &[cost], &observation, &draws));
        run.mixture.weight
    };
    assert_eq!((weight(0.1), weight(2.0)), (1.0, 0.0));
    assert!((0.5..=10.0).contains(&weight(1.0)));
}
