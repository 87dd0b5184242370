//! CDT.

use super::config::{CostFeature, CostSampling, CostTransform, SampleCostOffset};
use super::sequences::Sequences;
use super::*;
use drcorl_core::dataset::Dataset;
use drcorl_core::policy::{FrozenPolicy, Turn};
use drcorl_data::Columns;
use drcorl_nn::rng::Rng;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

const STATES: i64 = 5;
const ACTIONS: i64 = 2;

fn small(context: usize) -> CdtConfig {
    CdtConfig {
        embedding_hidden: 24,
        heads: 3,
        blocks: 3,
        context_length: context,
        dropout: 0.0,
        ..CdtConfig::default()
    }
}

/// A learner whose weights are large enough that every part of the network shows in its outputs.
fn learner(config: &CdtConfig, length: usize) -> Learner {
    let mut rng = Rng::new(3, 0);
    let mut learner = Learner::new(config, STATES, ACTIONS, length, Device::Cpu, &mut rng);
    let noise = rng.normal(&[learner.arena().len()], Device::Cpu) * 0.15;
    let _ = learner.arena_mut().values().shallow_clone().g_add_(&noise);
    learner
}

/// The policy file's actions over a whole scripted episode are those of the network on the window of the last steps,
/// without a cache.
fn plays_like_the_network(config: &CdtConfig) {
    let _no_grad = tch::no_grad_guard();
    let (steps, context) = (27, config.context_length);
    // Shorter than the episode: the table of step embeddings ends before it does.
    let mut learner = learner(config, steps + 3);
    let mut rng = Rng::new(4, 0);
    let targets = Targets { ret: 30.0, cost: 7.0 };
    let frozen = freeze(learner.arena(), config, targets).unwrap();
    let mut player = frozen.start(1);
    let observations = rng.normal(&[steps as i64, STATES], Device::Cpu);
    let (mut returns, mut costs) =
        (vec![30.0f32 * config.reward_scale as f32], vec![7.0f32 * config.cost_scale as f32]);
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

/// A batch with padding; everything random but what padding makes zero.
fn batch(lengths: &[usize], context: i64, rng: &mut Rng) -> Sequences {
    let rows = lengths.len() as i64;
    let mask = super::sequences::mask(lengths, context, Device::Cpu);
    let costs = rng.uniform(&[rows, context], Device::Cpu).gt(0.6).to_kind(Kind::Float);
    Sequences {
        states: rng.normal(&[rows, context, STATES], Device::Cpu) * mask.unsqueeze(2),
        actions: (rng.uniform(&[rows, context, ACTIONS], Device::Cpu) * 2.0 - 1.0) * mask.unsqueeze(2),
        returns: rng.normal(&[rows, context], Device::Cpu) * &mask,
        costs_to_go: rng.uniform(&[rows, context], Device::Cpu) * 40.0 * &mask,
        time_steps: rng.rows(lengths.len(), 10, Device::Cpu).unsqueeze(1)
            + Tensor::arange(context, (Kind::Int64, Device::Cpu)),
        costs: costs * &mask,
        episode_cost: rng.uniform(&[rows], Device::Cpu) * 40.0,
        lengths: lengths.to_vec(),
    }
}

/// Central differences of the loss along a random direction in each parameter, with dropout, padding and several parts,
/// against the written gradients.
fn gradients_are_right(config: &CdtConfig) {
    let _no_grad = tch::no_grad_guard();
    let mut learner = learner(config, 20);
    let mut rng = Rng::new(6, 0);
    let lengths: Vec<usize> = (0..70).map(|i| 1 + i % config.context_length).collect();
    let batch = batch(&lengths, config.context_length as i64, &mut rng);
    let never = AtomicBool::new(false);
    let loss = |learner: &mut Learner| {
        let losses = learner.gradient(&batch, &mut Rng::new(8, 0), &never).unwrap();
        let temperature = learner.log_temperature().exp();
        losses.action - temperature * losses.entropy
            + config.cost_weight * losses.cost
            + config.state_weight * losses.state
    };
    loss(&mut learner);
    let names: Vec<String> = learner.arena().names().map(str::to_string).collect();
    let written: Vec<Tensor> = names.iter().map(|name| learner.arena().named(name).unwrap().1.copy()).collect();
    for (name, gradient) in names.iter().zip(&written) {
        let original = learner.arena().named(name).unwrap().0.copy();
        let direction = rng.normal(&original.size(), Device::Cpu);
        let mut at = |step: f64| {
            learner.arena_mut().set(name, &(&original + &direction * step)).unwrap();
            loss(&mut learner)
        };
        let numeric = (at(2e-3) - at(-2e-3)) / 4e-3;
        learner.arena_mut().set(name, &original).unwrap();
        let analytic = (gradient * &direction).sum(Kind::Double).double_value(&[]);
        assert!((numeric - analytic).abs() < 2e-2 * (0.1 + analytic.abs()), "{name}: {numeric} against {analytic}");
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let base = CdtConfig { dropout: 0.2, cost_weight: 0.5, state_weight: 0.3, ..small(3) };
    gradients_are_right(&base);
    gradients_are_right(&CdtConfig {
        action_head: ActionHead::Deterministic,
        action_layers: 2,
        cost_prefix: true,
        loss_mean: super::config::LossMean::Padded,
        ..base
    });
}

/// The part of the network no loss reads is left out of training; what is left says the same.
#[test]
fn outputs_do_not_depend_on_which_tokens_are_computed() {
    let _no_grad = tch::no_grad_guard();
    let config = small(4);
    let (model, arena) = model::build(&config, STATES, ACTIONS, 20, Device::Cpu, &mut Rng::new(1, 0));
    let batch = batch(&[4, 1, 3], 4, &mut Rng::new(2, 0));
    let outputs = |all| model.forward(&arena, &batch, None, all, &drcorl_nn::buffers::Buffers::default()).0;
    let (some, all) = (outputs(false), outputs(true));
    for (a, b) in [(&some.action, &all.action), (&some.cost_logits, &all.cost_logits)] {
        assert!((a - b).abs().max().double_value(&[]) < 1e-6);
    }
}

#[test]
fn a_cancelled_step_is_given_up_without_a_trace() {
    let _no_grad = tch::no_grad_guard();
    let config = CdtConfig { dropout: 0.1, ..small(3) };
    let mut learner = learner(&config, 20);
    let batch = batch(&[3, 2], 3, &mut Rng::new(2, 0));
    let before = learner.arena().values().copy();
    let error = learner.step(&batch, &mut Rng::new(1, 0), &AtomicBool::new(true)).err().unwrap();
    assert_eq!(error.code(), "Cancelled");
    assert_eq!(learner.arena().values(), &before);
    assert_eq!(learner.log_temperature(), 0.1f64.ln());
}

/// Steps reuse their memory: a buffer too many at each would be gigabytes over a run.
#[test]
fn a_step_leaves_as_many_buffers_as_it_found() {
    let _no_grad = tch::no_grad_guard();
    let config = CdtConfig { dropout: 0.1, ..small(4) };
    let (mut learner, mut rng) = (learner(&config, 10), Rng::new(6, 0));
    let mut kept = Vec::new();
    for _ in 0..4 {
        let sequences = batch(&[4, 2, 3], 4, &mut rng);
        learner.step(&sequences, &mut rng, &AtomicBool::new(false)).unwrap();
        kept.push(learner.buffers());
    }
    assert!(kept[0] > 0 && kept.iter().all(|count| *count == kept[0]), "{kept:?}");
}

fn columns() -> Columns {
    let mut rng = Rng::new(5, 0);
    let mut columns = Columns { obs_dim: STATES as usize, act_dim: 2, source: "toy".into(), ..Columns::default() };
    for row in 0..300 {
        let mut draw = |n: usize| (0..n).map(|_| 2.0 * rng.unit() - 1.0).collect::<Vec<f32>>();
        columns.observations.extend(draw(STATES as usize));
        columns.next_observations.extend(draw(STATES as usize));
        columns.actions.extend(draw(2));
        columns.rewards.push((row / 30 + 1) as f32);
        columns.costs.push(f32::from(u8::from(row % 30 < row / 30)));
        columns.terminals.push(false);
        // The last 15 rows are a tail that was cut off.
        columns.timeouts.push(row < 285 && (row % 30 == 29 || row == 284 - 15));
    }
    columns
}

#[test]
fn slices_hold_what_was_logged_and_zeros() {
    let _no_grad = tch::no_grad_guard();
    let data = Dataset::new(Arc::new(columns()), None, Device::Cpu).unwrap();
    let config = CdtConfig { augment_fraction: 0.0, reward_scale: 0.5, cost_scale: 2.0, ..small(10) };
    let mut rng = Rng::new(1, 0);
    let sampler = Sampler::new(&data, &config, 10.0, &mut rng).unwrap();
    let batch = sampler.sample(&data, 500, &mut rng);
    let episodes = usable(&data.episodes);
    assert!(episodes.len() + 1 == data.episodes.len());
    let mut shortest = usize::MAX;
    for (i, &length) in batch.lengths.iter().enumerate() {
        shortest = shortest.min(length);
        let at = |x: &Tensor, step: i64| x.double_value(&[i as i64, step]);
        // An episode is known by its cost; all rewards of one are equal.
        let first = batch.time_steps.int64_value(&[i as i64, 0]) as usize;
        let number = episodes
            .iter()
            .position(|e| {
                let left: f32 = data.columns.costs[(e.start + first).min(e.end - 1)..e.end].iter().sum();
                e.len() > first
                    && f64::from(left) * 2.0 == at(&batch.costs_to_go, 0)
                    && e.cost * 2.0 == batch.episode_cost.double_value(&[i as i64])
            })
            .unwrap();
        let episode = &episodes[number];
        assert_eq!(length, (episode.len() - first).min(10));
        for step in 0..10 {
            let row = episode.start + first + step;
            if step >= length {
                assert_eq!((at(&batch.returns, step as i64), at(&batch.costs, step as i64)), (0.0, 0.0));
                assert_eq!(batch.states.double_value(&[i as i64, step as i64, 1]), 0.0);
                continue;
            }
            let left: f32 = data.columns.rewards[row..episode.end].iter().sum();
            assert!((at(&batch.returns, step as i64) - 0.5 * f64::from(left)).abs() < 1e-3);
            assert_eq!(at(&batch.costs, step as i64), f64::from(data.columns.costs[row]));
            assert_eq!(batch.time_steps.int64_value(&[i as i64, step as i64]) as usize, first + step);
        }
    }
    assert_eq!(shortest, 1);
}

#[test]
fn sums_to_go_and_the_probability_of_an_episode() {
    let data = columns();
    let episodes = data.episodes();
    let sums = sampler::sums_to_go(&data.costs, &episodes);
    for episode in &episodes {
        assert_eq!(f64::from(sums[episode.start]), episode.cost);
        assert_eq!(sums[episode.end - 1], data.costs[episode.end - 1]);
    }
    let of = |sampling, offset, limit| sampler::probabilities(&[0.0, 30.0, 69.0, 75.0], sampling, offset, limit);
    assert_eq!(
        of(CostSampling::Linear, SampleCostOffset::Seventy, 80.0),
        [70.0 / 111.0, 40.0 / 111.0, 1.0 / 111.0, 0.0]
    );
    assert_eq!(of(CostSampling::Linear, SampleCostOffset::Limit, 80.0)[3], 35.0 / 266.0);
    assert_eq!(of(CostSampling::Linear, SampleCostOffset::Limit, 10.0)[3], 0.0);
    assert_eq!(of(CostSampling::Uniform, SampleCostOffset::Seventy, 10.0), [0.25; 4]);
    assert!(of(CostSampling::Inverse, SampleCostOffset::Seventy, 10.0)[0] > 0.5);
}

#[test]
fn what_is_asked_for_is_the_limit_and_the_best_return_within() {
    let episodes = usable(&columns().episodes());
    let ask = |config: CdtConfig, limit: f64| {
        targets(&config, &RunConfig { cost_limit: limit, ..RunConfig::default() }, &episodes)
    };
    let best = |limit: f64| episodes.iter().filter(|e| e.cost <= limit).map(|e| e.ret).fold(f64::MIN, f64::max);
    assert_eq!(ask(CdtConfig::default(), 4.0), Targets { ret: best(4.0), cost: 4.0 });
    let own = CdtConfig { target_return: Some(9.0), ..CdtConfig::default() };
    assert_eq!(ask(own, 4.0), Targets { ret: 9.0, cost: 4.0 });
}
