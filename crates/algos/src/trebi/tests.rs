//! TREBI: the actor's networks are libtorch's, and parameters that cannot be are refused.

use super::learner::predict;
use super::*;
use drcorl_actor::planner::PlanReplay;
use drcorl_actor::PolicyFile;
use drcorl_core::policy::host;
use tch::{Device, Kind, Tensor};

/// Predictions, values and gradients of a policy file's networks against libtorch and its autograd.
#[test]
fn the_actor_computes_what_was_trained() {
    let _no_grad = tch::no_grad_guard();
    let mut rng = Rng::new(5, 0);
    let (actions, states, horizon) = (2, 5, 8);
    let entries = actions + states;
    let (unet, denoiser) = TemporalUnet::build(entries, &[16, 24, 32], Device::Cpu, &mut rng);
    let mut value = || PlanValue::build([horizon, entries], &[16, 48], Device::Cpu, &mut rng);
    let ((value_net, reward), (_, cost)) = (value(), value());
    let mut file = PolicyFile::new("planner");
    for (name, arena) in [("denoiser", &denoiser), ("reward_value", &reward), ("cost_value", &cost)] {
        policy::insert(&mut file, name, arena).unwrap();
    }
    for (key, number) in [("plan_length", horizon), ("noise_levels", 20), ("denoiser_levels", 3), ("value_levels", 2)] {
        file.set(key, number);
    }
    let mut replay = PlanReplay::new(&file, [actions as usize, states as usize]).unwrap();
    let x = rng.normal(&[4, horizon, entries], Device::Cpu);
    let close = |found: &[f32], wanted: &Tensor| {
        for (i, (found, wanted)) in found.iter().zip(host(wanted).unwrap()).enumerate() {
            assert!((found - wanted).abs() < 2e-4 * (1.0 + wanted.abs()), "{i}: {found} {wanted}");
        }
    };
    let numbers = host(&x).unwrap();
    for level in [0, 7, 19] {
        let levels = Tensor::full([4], level as i64, (Kind::Int64, Device::Cpu));
        close(&replay.denoise(&numbers, level), &predict(&unet, &denoiser, &x, &levels));
        let found = replay.values(&numbers, level).unwrap();
        for (arena, (values, gradient)) in [&reward, &cost].into_iter().zip(found) {
            let (wanted, slope) = tch::with_grad(|| {
                let x = x.copy().set_requires_grad(true);
                let out = drcorl_nn::PlanNet::run(&value_net, &arena.leaf(false), &x, &levels);
                let slope = Tensor::run_backward(&[out.sum(Kind::Float)], &[&x], false, false);
                (out, slope)
            });
            close(&values, &wanted.detach());
            close(&gradient, &slope[0]);
        }
    }
}

#[test]
fn impossible_shapes_are_refused_by_name() {
    for (word, config) in [
        ("denoiser_hidden", TrebiConfig { denoiser_hidden: vec![12], ..TrebiConfig::default() }),
        ("horizon", TrebiConfig { horizon: 12, ..TrebiConfig::default() }),
        ("replan_interval", TrebiConfig { replan_interval: 33, ..TrebiConfig::default() }),
    ] {
        assert!(config.check().unwrap_err().to_string().starts_with(word));
    }
    for config in [TrebiConfig::default(), TrebiConfig::published(), TrebiConfig::quick()] {
        config.check().unwrap();
    }
}
