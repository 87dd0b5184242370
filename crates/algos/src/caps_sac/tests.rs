//! CAPS-SAC as a whole: its policy gradient against autograd, and what it learns on a problem with a known answer.

use super::*;
use crate::caps::problem::{batch, TASK};
use crate::frame::{ActorGroup, CriticGroup};
use tch::Device;

fn learner(rng: &mut Rng) -> CapsSac {
    let config = CapsSacConfig {
        heads: 3,
        actor: ActorGroup { actor_hidden: vec![16, 16], actor_lr: 3e-3 },
        critic: CriticGroup { critic_hidden: vec![16, 16], critic_lr: 3e-3, ..CriticGroup::default() },
        ..CapsSacConfig::default()
    };
    CapsSac::new(config, TASK, rng)
}

fn draws(rng: &mut Rng, rows: i64) -> CapsSacDraws {
    let mut normal = || rng.normal(&[rows * 3, 2], Device::Cpu);
    CapsSacDraws { next: normal(), actor: normal() }
}

/// The gradient trunk and heads step along, against finite differences of the loss along random directions, with the
/// sizes of the values held fixed.
#[test]
fn the_policy_gradient_equals_finite_differences() {
    let _no_grad = tch::no_grad_guard();
    let mut rng = Rng::new(5, 0);
    let mut caps = learner(&mut rng);
    caps.config.actor.actor_lr = 0.0;
    caps.config.temperature_lr = 0.0;
    let (batch, noise) = (batch(&mut rng, 16), rng.normal(&[48, 2], Device::Cpu));
    caps.actor_step(&batch, &noise);
    let (gradient, start) = (caps.actor.online().gradients().copy(), caps.actor.online().values().copy());
    // value_weight / mean |Q| at the start, by heads: what the loss treats as constants.
    let value = |caps: &mut CapsSac, scales: Option<&[f64]>| -> (f64, Vec<f64>) {
        let outputs = caps.actor.evaluate(&batch.observation);
        let gaussian = caps.gaussians(&outputs);
        let action = gaussian.sample(&noise).tanh();
        let input = join(&action, &repeat(&batch.observation, 3));
        let least = |critics: &mut Critics| critics.head.evaluate(&input).amin(1i64, true).view([16, 3]);
        let (reward, cost) = (least(&mut caps.reward), least(&mut caps.cost));
        let density = log_density(&gaussian, &noise).view([16, 3]);
        let (mut total, mut found) = (0.0, Vec::new());
        for head in 0..3i64 {
            let mixed = match head {
                2 => cost.select(1, 2),
                head => reward.select(1, head) + cost.select(1, head) * head as f64,
            };
            found.push(2.5 / mean(&mixed.abs()));
            let scale = scales.map_or(found[head as usize], |scales| scales[head as usize]);
            let away = action.view([16, 3, 2]).select(1, head) - batch.state_action.narrow(1, 0, 2);
            total += caps.temperature() * mean(&density.select(1, head)) - scale * mean(&mixed) + mean(&away.square());
        }
        (total, found)
    };
    let (_, scales) = value(&mut caps, None);
    for _ in 0..5 {
        let direction = rng.normal(&start.size(), Device::Cpu);
        let mut at = |step: f64| {
            caps.actor.online().values().shallow_clone().copy_(&(&start + &direction * step));
            value(&mut caps, Some(&scales)).0
        };
        let slope = (at(3e-4) - at(-3e-4)) / 6e-4;
        let expected = (&gradient * &direction).sum(Kind::Double).double_value(&[]);
        assert!((slope - expected).abs() < 0.03 * expected.abs().max(0.5), "{slope} {expected}");
    }
}

/// The first head goes for reward and the last one avoids cost.
#[test]
fn heads_follow_their_mixtures() {
    let _no_grad = tch::no_grad_guard();
    let mut rng = Rng::new(1, 0);
    let mut caps = learner(&mut rng);
    for _ in 0..600 {
        let (batch, draws) = (batch(&mut rng, 128), draws(&mut rng, 128));
        caps.learn(&batch, &draws).unwrap();
    }
    let observation = rng.normal(&[64, 3], Device::Cpu);
    let outputs = caps.actor.evaluate(&observation);
    let means = caps.gaussians(&outputs).mu.tanh().view([64, 3, 2]);
    let head = |k: i64| mean(&means.select(1, k).select(1, 0));
    assert!(head(0) > 0.3 && head(2) < -0.1, "{} {}", head(0), head(2));
    assert!(caps.temperature() > 0.0);
}
