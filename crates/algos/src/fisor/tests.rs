//! What the parts learn together, on data whose answer is known.

use super::*;
use drcorl_data::Columns;
use std::sync::Arc;
use tch::Device;

fn small() -> FisorConfig {
    FisorConfig {
        critic_hidden: vec![32, 32],
        critic_lr: 3e-3,
        value_lr: 3e-3,
        target_rate: 0.05,
        denoiser_hidden: 32,
        denoiser_blocks: 1,
        denoiser_expansion: 2,
        time_features: 8,
        time_width: 16,
        dropout: 0.0,
        actor_lr: 3e-3,
        actor_target_rate: 0.02,
        margin_hidden: vec![16, 16],
        margin_lr: 1e-2,
        ..FisorConfig::default()
    }
}

/// Logged actions of two kinds, -0.6 and 0.6: the policy plays those that have a weight.
#[test]
fn the_denoiser_learns_the_weighted_actions() {
    let mut rng = Rng::new(5, 0);
    let mut denoiser = Denoiser::new(&small(), 2, 1, Device::Cpu, &mut rng);
    for _ in 0..600 {
        let observation = rng.normal(&[128, 2], Device::Cpu);
        let side = rng.uniform(&[128, 1], Device::Cpu).gt(0.5).to_kind(Kind::Float);
        let draws = denoiser.draw(128, 1, Device::Cpu, &mut rng);
        denoiser.step(&observation, &(&side * 1.2 - 0.6), &side, &draws);
    }
    let policy = denoiser.freeze(&small(), 0);
    let action = policy.act(&rng.normal(&[200, 2], Device::Cpu));
    assert!((mean(&action) - 0.6).abs() < 0.1, "{}", mean(&action));
    assert!(mean(&(action - 0.6).abs()) < 0.15);
}

/// A line from 0 to 1 where any move is logged; beyond 0.8 everything slides to 1, and at 1 it costs.
fn slide() -> Arc<Columns> {
    let mut rng = Rng::new(6, 0);
    let mut columns = Columns { obs_dim: 1, act_dim: 1, source: "slide".into(), ..Columns::default() };
    for row in 0..4000 {
        let (x, action) = (rng.unit(), 2.0 * rng.unit() - 1.0);
        let next = if x > 0.8 { (x + 0.15).min(1.0) } else { (x + 0.1 * action).clamp(0.0, 1.0) };
        columns.observations.push(x);
        columns.actions.push(action);
        columns.next_observations.push(next);
        columns.rewards.push(action);
        columns.costs.push(f32::from(u8::from(next >= 0.95)));
        columns.terminals.push(false);
        columns.timeouts.push(row % 100 == 99);
    }
    Arc::new(columns)
}

/// The boundary of the feasible set lies where the slide begins, not where it costs; with both margins.
#[test]
fn feasibility_sees_a_violation_before_it_happens() {
    let data = Dataset::new(slide(), None, Device::Cpu).unwrap();
    for margin in [Margin::Sparse, Margin::Dense] {
        let config = FisorConfig { margin, gamma: 0.9, ..small() };
        let mut rng = Rng::new(7, 0);
        let mut fisor = Fisor {
            classifier: (margin == Margin::Dense).then(|| config.classifier(1, Device::Cpu, &mut rng)),
            learner: Learner::new(config, (1, 1), 0.0, Device::Cpu, &mut rng),
            reward_factor: 1.0,
            seed: 0,
        };
        if let Some(classifier) = &mut fisor.classifier {
            for _ in 0..400 {
                let batch = data.sample(256, &mut rng);
                classifier.step(&batch.next_observation().contiguous(), &costly(&batch, 0));
            }
        }
        for _ in 0..1500 {
            let batch = fisor.transition(&data.sample(256, &mut rng));
            fisor.learner.critic_step(&batch).unwrap();
        }
        let at = |x: &[f32]| Tensor::from_slice(&data.normalizer.observations(x).collect::<Vec<f32>>()).unsqueeze(1);
        let values = fisor.learner.feasibility.v.evaluate(&at(&[0.1, 0.5, 0.7, 0.85, 0.9, 0.99]));
        let feasible = Vec::<bool>::try_from(values.le(0.0).view([-1])).unwrap();
        assert_eq!(feasible, [true, true, true, false, false, false], "{margin:?}: {values:?}");
    }
}
