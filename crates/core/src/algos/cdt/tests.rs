//! CDT.

use super::config::{CostFeature, CostTransform};
use super::sequences::Sequences;
use super::*;
use crate::policy::{FrozenPolicy, Turn};
use crate::rng::Rng;
use tch::{Device, Kind, Tensor};

const STATES: i64 = 5;
const ACTIONS: i64 = 2;

fn small(context: usize) -> CdtConfig {
    CdtConfig { embedding_hidden: 24, heads: 3, blocks: 3, context_length: context, dropout: 0.0, ..CdtConfig::default() }
}

/// A learner whose weights are large enough that every part of the network shows in its outputs.
fn learner(config: &CdtConfig, length: usize) -> Learner {
    let mut rng = Rng::new(3, 0);
    let mut learner = Learner::new(config, STATES, ACTIONS, length, Device::Cpu, &mut rng);
    let noise = rng.normal(&[learner.arena().len()], Device::Cpu) * 0.15;
    let _ = learner.arena_mut().values().shallow_clone().g_add_(&noise);
    learner
}

/// The policy file's actions over a whole scripted episode are those of the network on the window of the last steps, without a cache.
fn plays_like_the_network(config: &CdtConfig) {
    let _no_grad = tch::no_grad_guard();
    let (steps, context) = (27, config.context_length);
    // Shorter than the episode: the table of step embeddings ends before it does.
    let mut learner = learner(config, steps + 3);
    let mut rng = Rng::new(4, 0);
    let targets = Targets { ret: 30.0, cost: 7.0 };
    let frozen = FrozenCdt::copy(learner.arena(), config, targets).unwrap();
    let mut player = frozen.start(1);
    let observations = rng.normal(&[steps as i64, STATES], Device::Cpu);
    let (mut returns, mut costs) = (vec![30.0f32 * config.reward_scale as f32], vec![7.0f32 * config.cost_scale as f32]);
    let (mut reward, mut cost) = (0.0, 0.0);
    let mut actions: Vec<Tensor> = Vec::new();
    for step in 0..steps {
        let turn = |x: f32| Tensor::from_slice(&[x]).view([1, 1]);
        let observation = observations.narrow(0, step as i64, 1);
        let action = player.act(&Turn { observation: &observation, reward: &turn(reward), cost: &turn(cost) });
        let from = (step + 1).saturating_sub(context);
        let length = step + 1 - from;
        let padded = |x: Tensor| {
            let mut shape = x.size();
            shape[0] = (context - length) as i64;
            Tensor::cat(&[&x, &Tensor::zeros(&shape, (x.kind(), Device::Cpu))], 0).unsqueeze(0)
        };
        let zero = Tensor::zeros([1, ACTIONS], (Kind::Float, Device::Cpu));
        let taken: Vec<&Tensor> = actions[from..].iter().chain([&zero]).collect();
        let batch = Sequences {
            states: padded(observations.narrow(0, from as i64, length as i64)),
            actions: padded(Tensor::cat(&taken, 0)),
            returns: padded(Tensor::from_slice(&returns[from..])),
            costs_to_go: padded(Tensor::from_slice(&costs[from..])),
            time_steps: padded(Tensor::arange_start(from as i64, step as i64 + 1, (Kind::Int64, Device::Cpu))),
            costs: Tensor::zeros([1, context as i64], (Kind::Float, Device::Cpu)),
            episode_cost: Tensor::from_slice(&costs[..1]),
            lengths: vec![length],
        };
        let wanted = learner.evaluate(&batch).0.action.narrow(0, length as i64 - 1, 1).clamp(-1.0, 1.0);
        let error = (&action - wanted).abs().max().double_value(&[]);
        assert!(error < 1e-5, "step {step}: {error}");
        actions.push(action);
        (reward, cost) = (rng.unit(), f32::from(u8::from(rng.unit() < 0.3)));
        returns.push(returns[step] - reward * config.reward_scale as f32);
        costs.push(costs[step] - cost * config.cost_scale as f32);
    }
}

#[test]
fn the_policy_file_plays_like_the_network() {
    plays_like_the_network(&small(10));
    plays_like_the_network(&CdtConfig { cost_prefix: true, cost_feature: CostFeature::Concatenate, ..small(4) });
    plays_like_the_network(&CdtConfig {
        action_head: ActionHead::Deterministic,
        action_layers: 2,
        cost_feature: CostFeature::Multiply,
        cost_transform: CostTransform::None,
        ..small(1)
    });
    plays_like_the_network(&CdtConfig { action_layers: 3, cost_feature: CostFeature::Add, blocks: 1, ..small(3) });
}
