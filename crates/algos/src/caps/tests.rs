//! CAPS as a whole: what it learns on a problem with a known answer, and the file against its networks.

use super::heads::judged;
use super::problem::{batch, TASK};
use super::*;
use crate::frame::{ActorGroup, Schedule};
use drcorl_core::policy::Turn;
use tch::{Device, Kind};

fn config(deviation: HeadDeviation) -> CapsConfig {
    CapsConfig {
        heads: 3,
        head_deviation: deviation,
        actor: ActorGroup { actor_hidden: vec![16, 16], actor_lr: 3e-3 },
        critic_hidden: vec![16, 16],
        critic_lr: 3e-3,
        value_lr: 3e-3,
        schedule: Schedule { batch_size: 128, update_steps: 100_000 },
        ..CapsConfig::default()
    }
}

/// The first head goes for reward, the last one avoids cost, and the policy takes the one or the other by its limit.
#[test]
fn heads_differ_and_the_limit_switches_among_them() {
    let _no_grad = tch::no_grad_guard();
    let mut rng = Rng::new(1, 0);
    let mut caps = Caps::new(config(HeadDeviation::Learnt), TASK, &mut rng);
    for _ in 0..600 {
        caps.learn(&batch(&mut rng, 128), &()).unwrap();
    }
    let observation = rng.normal(&[64, 3], Device::Cpu);
    let outputs = caps.actor.evaluate(&observation).tanh();
    let head = |k: i64| crate::critics::mean(&outputs.narrow(1, 2 * k, 1));
    assert!(head(0) > 0.5 && head(2) < -0.3 && head(1) < head(0), "{} {} {}", head(0), head(1), head(2));
    let policy = caps.policy();
    let first = |limit: f64| {
        let mut file = policy.file().unwrap();
        file.set_setting("cost_limit", limit);
        let policy = drcorl_core::policy::PlayedFile::new(file, 3, 2);
        crate::critics::mean(&policy.act(&observation).narrow(1, 0, 1))
    };
    // A value of 1 is one cost now: more than a limit of 0 buys, less than 50 costs in 50 steps.
    assert!(first(0.0) < -0.3 && first(50.0) > 0.5, "{} {}", first(0.0), first(50.0));
}

/// Published, deviations stay 1 whatever is learnt.
#[test]
fn deviations_are_learnt_or_stay_one() {
    let _no_grad = tch::no_grad_guard();
    for (kind, moves) in [(HeadDeviation::Learnt, true), (HeadDeviation::One, false)] {
        let mut rng = Rng::new(2, 0);
        let mut caps = Caps::new(config(kind), TASK, &mut rng);
        for _ in 0..50 {
            caps.learn(&batch(&mut rng, 128), &()).unwrap();
        }
        let largest = caps.deviations.logarithms().abs().max().double_value(&[]);
        assert_eq!(largest > 0.01, moves, "{kind:?}: {largest}");
    }
}

/// The file chooses what networks and rule say, as costs come in.
#[test]
fn the_file_plays_what_the_networks_say() {
    let _no_grad = tch::no_grad_guard();
    let mut rng = Rng::new(3, 0);
    let mut caps = Caps::new(config(HeadDeviation::Learnt), TASK, &mut rng);
    for _ in 0..100 {
        caps.learn(&batch(&mut rng, 128), &()).unwrap();
    }
    let observation = rng.normal(&[40, 3], Device::Cpu);
    let outputs = caps.actor.evaluate(&observation);
    let (actions, rewards) = judged(&outputs, &mut caps.reward.q, &observation, 3);
    let (_, costs) = judged(&outputs, &mut caps.cost.q, &observation, 3);
    let policy = caps.policy();
    assert!(policy.remembers());
    let mut player = policy.start(40);
    let zero = Tensor::zeros([40, 1], (Kind::Float, Device::Cpu));
    for step in 0..20 {
        let cost = &zero + 0.3;
        let played = player.act(&Turn { observation: &observation, reward: &zero, cost: &cost });
        let (kappa, left) = ((5.0 - 0.3 * f64::from(step)).max(0.0), f64::from(50 - step));
        let limit = kappa / ((1.0 - 0.99) * left);
        for row in 0..40 {
            let values = |of: &Tensor| Vec::<f32>::try_from(of.select(0, row)).unwrap();
            let costs: Vec<f32> = values(&costs).iter().map(|q| (-q).max(0.0)).collect();
            let head = drcorl_actor::choose(&values(&rewards), &costs, limit);
            let error = played.select(0, row) - actions.select(0, row).select(0, head as i64);
            assert!(error.abs().max().double_value(&[]) < 1e-5, "row {row}, step {step}");
        }
    }
}
