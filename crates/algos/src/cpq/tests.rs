//! The penalty on actions unlike the data, live and detached.

use super::*;
use crate::frame::{ActorGroup, CriticGroup, VaeGroup};
use tch::Device;

fn batch(rng: &mut Rng) -> Transition {
    let (rows, states, actions) = (32, 3, 2);
    let mut normal = |columns: i64| rng.normal(&[rows, columns], Device::Cpu);
    let observation = normal(states);
    let zero = observation.narrow(1, 0, 1).zeros_like();
    Transition {
        state_action: join(&normal(actions).tanh(), &observation),
        next_observation: normal(states),
        reward: normal(1),
        cost: normal(1).gt(0.5).to_kind(Kind::Float),
        reward_stop: zero.shallow_clone(),
        cost_stop: zero,
        observation,
    }
}

/// The gradient the cost critics step along, with the penalty's weight exp(log).
fn cost_gradient(term: OodTerm, log: f64) -> Tensor {
    let mut rng = Rng::new(5, 0);
    let batch = batch(&mut rng);
    let config = CpqConfig {
        ood_term: term,
        ood_quantile: 0.5,
        actor: ActorGroup { actor_hidden: vec![8, 8], actor_lr: 1e-4 },
        critic: CriticGroup { critic_hidden: vec![8, 8], ..CriticGroup::default() },
        vae: VaeGroup { vae_hidden: 8, ..VaeGroup::default() },
        ..CpqConfig::default()
    };
    let task = Task {
        observations: 3,
        actions: 2,
        cost_limit: 1.0,
        episode_length: 100,
        threshold: 1.0,
        seed: 0,
        device: Device::Cpu,
    };
    let mut cpq = Cpq::new(config, task, &mut Rng::new(1, 0));
    cpq.alpha.log = log;
    let mut draw = |shape: &[i64]| rng.normal(shape, Device::Cpu);
    let draws = CpqDraws {
        vae: draw(&[32, 4]),
        reward: draw(&[32, 2]),
        cost: draw(&[32, 2]),
        ood: draw(&[4, 32, 2]),
        actor: draw(&[32, 2]),
    };
    let step = tch::no_grad(|| cpq.learn(&batch, &draws)).unwrap();
    assert!(step.ood.share > 0.0);
    cpq.cost.head.online().gradients().copy()
}

/// The published penalty has no gradient; the repaired one has, and is linear in its weight.
#[test]
fn the_penalty_reaches_the_cost_critics_only_when_it_is_live() {
    let off = f64::NEG_INFINITY;
    assert_eq!(cost_gradient(OodTerm::DetachedRaw, off), cost_gradient(OodTerm::DetachedRaw, 1.0));
    let plain = cost_gradient(OodTerm::LiveSquashed, off);
    let once = cost_gradient(OodTerm::LiveSquashed, 0.0) - &plain;
    let twice = cost_gradient(OodTerm::LiveSquashed, 2f64.ln()) - &plain;
    assert!(once.abs().max().double_value(&[]) > 1e-3);
    assert!((once * 2.0 - twice).abs().max().double_value(&[]) < 1e-5);
    assert!((plain - cost_gradient(OodTerm::DetachedRaw, 1.0)).abs().max().double_value(&[]) < 1e-5);
}
