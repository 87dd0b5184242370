//! The step of FISOR: two updates of the denoiser, then every value and critic once, with the draws of the step given.

use crate::plain::{linear, Group};
use crate::{flop, Step, ACTIONS, STATES};
use drcorl_algos::critics::{bound, Bound};
use drcorl_algos::feasibility::losses::reach_target;
use drcorl_algos::fisor::losses::{feasibility_weights, Advice};
use drcorl_algos::fisor::{DenoiserDraws, FisorConfig, Learner, ACTOR_UPDATES};
use drcorl_algos::frame::{widths, Transition};
use drcorl_nn::rng::Rng;
use drcorl_nn::Arena;
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

/// The denoiser as one would write it.
struct PlainDenoiser {
    frequencies: Tensor,
    time: [nn::Linear; 2],
    input: nn::Linear,
    blocks: Vec<(nn::LayerNorm, nn::Linear, nn::Linear)>,
    output: nn::Linear,
}

impl PlainDenoiser {
    fn copy_of(path: &nn::Path, arena: &Arena, config: &FisorConfig) -> Self {
        let named = |name: String| arena.named(&name).unwrap_or_else(|| panic!("no parameter {name}")).0;
        let layer = |name: &str| {
            linear(path / name.replace('.', "_"), named(format!("{name}.weight")), named(format!("{name}.bias")))
        };
        let eps = nn::LayerNormConfig { eps: 1e-6, ..Default::default() };
        let block = |i: usize| {
            let norm = nn::layer_norm(path / format!("norm{i}"), vec![config.denoiser_hidden], eps);
            (norm, layer(&format!("blocks.{i}.inner")), layer(&format!("blocks.{i}.outer")))
        };
        let mut frequencies = path.zeros("frequencies", &[config.time_features / 2]);
        tch::no_grad(|| frequencies.copy_(named("frequencies".into())));
        PlainDenoiser {
            frequencies,
            time: [layer("time.0"), layer("time.1")],
            input: layer("input"),
            blocks: (0..config.denoiser_blocks).map(block).collect(),
            output: layer("output"),
        }
    }

    fn forward(&self, noisy: &Tensor, observation: &Tensor, time: &Tensor, dropout: f64) -> Tensor {
        let angle = time.unsqueeze(1) * 2.0 * std::f64::consts::PI * &self.frequencies;
        let fourier = Tensor::cat(&[angle.cos(), angle.sin()], 1);
        let embedding = self.time[1].forward(&self.time[0].forward(&fourier).mish());
        let mut trunk = self.input.forward(&Tensor::cat(&[noisy, observation, &embedding], 1));
        for (norm, inner, outer) in &self.blocks {
            let dropped = if dropout > 0.0 { trunk.dropout(dropout, true) } else { trunk.shallow_clone() };
            trunk = &trunk + outer.forward(&inner.forward(&norm.forward(&dropped)).mish());
        }
        self.output.forward(&trunk.mish())
    }
}

/// Everything of a step in plain libtorch.
struct Plain {
    config: FisorConfig,
    denoiser: PlainDenoiser,
    store: nn::VarStore,
    average: nn::VarStore,
    optimizer: nn::Optimizer,
    reward: Group,
    value: Group,
    feasibility: Group,
    feasibility_value: Group,
}

impl Plain {
    fn copy_of(learner: &Learner, device: Device) -> Plain {
        let config = learner.config.clone();
        let [store, mut average] = [(); 2].map(|()| nn::VarStore::new(device));
        let denoiser = PlainDenoiser::copy_of(&store.root(), &learner.denoiser.online, &config);
        PlainDenoiser::copy_of(&average.root(), &learner.denoiser.average, &config);
        average.freeze();
        let group = |head: &drcorl_nn::Head, name: &str, lr: f64| {
            Group::copy_of(head.online(), head.target(), name, head.members(), lr, device)
        };
        Plain {
            optimizer: nn::AdamW { wd: 0.0, ..Default::default() }.build(&store, config.actor_lr).expect("variables"),
            reward: group(&learner.reward, "reward", config.critic_lr),
            value: group(&learner.value, "value", config.value_lr),
            feasibility: group(&learner.feasibility.q, "feasibility", config.critic_lr),
            feasibility_value: group(&learner.feasibility.v, "feasibility_value", config.value_lr),
            denoiser,
            store,
            average,
            config,
        }
    }

    fn actor_step(&mut self, batch: &Transition, draws: &DenoiserDraws, scales: &[Tensor; 2]) -> f64 {
        let advice = tch::no_grad(|| Advice {
            reward_q: bound(&self.reward.lagged_values(&batch.state_action), Bound::Min),
            reward_v: self.value.values(&batch.observation),
            violation_q: bound(&self.feasibility.lagged_values(&batch.state_action), Bound::Max),
            violation_v: self.feasibility_value.values(&batch.observation),
        });
        let weights = feasibility_weights(&advice, self.config.weighting());
        let action = batch.state_action.narrow(1, 0, ACTIONS);
        let [signal, noise] = scales.each_ref().map(|scale| scale.index_select(0, &draws.level));
        let noisy = action * signal + &draws.noise * noise;
        let time = draws.level.to_kind(Kind::Float);
        let predicted = self.denoiser.forward(&noisy, &batch.observation, &time, self.config.dropout);
        let error = (predicted - &draws.noise).square().sum_dim_intlist(1i64, true, Kind::Float);
        let loss = (error * weights).mean(Kind::Float);
        self.optimizer.backward_step(&loss);
        tch::no_grad(|| {
            let pairs = self.average.variables().into_iter();
            let mut live = self.store.variables();
            for (name, mut lagged) in pairs {
                let source = live.remove(&name).expect("the same names");
                let _ = lagged.lerp_(&source, self.config.actor_target_rate);
            }
        });
        loss.double_value(&[])
    }

    fn critic_step(&mut self, batch: &Transition) {
        let expectile =
            |u: &Tensor, tau: f64| (u.relu().square() * tau + (-u).relu().square() * (1.0 - tau)).mean(Kind::Float);
        let FisorConfig { gamma, reward_expectile, feasibility_expectile, target_rate, .. } = self.config;
        let target = bound(&self.reward.lagged_values(&batch.state_action), Bound::Min);
        let loss = expectile(&(target - self.value.values(&batch.observation)), reward_expectile);
        self.value.optimizer.backward_step(&loss);
        let ahead = tch::no_grad(|| self.value.values(&batch.next_observation));
        let target: Tensor = &batch.reward + (-&batch.reward_stop + 1.0) * ahead * gamma;
        let loss = (self.reward.values(&batch.state_action) - target).square().mean(Kind::Float);
        self.reward.optimizer.backward_step(&loss);
        self.reward.follow(target_rate);

        let target = bound(&self.feasibility.lagged_values(&batch.state_action), Bound::Max);
        let loss =
            expectile(&(target - self.feasibility_value.values(&batch.observation)), 1.0 - feasibility_expectile);
        self.feasibility_value.optimizer.backward_step(&loss);
        let ahead = tch::no_grad(|| self.feasibility_value.values(&batch.next_observation));
        let target = reach_target(&batch.cost, &ahead, &batch.cost_stop, gamma);
        let loss = (self.feasibility.values(&batch.state_action) - target).square().mean(Kind::Float);
        self.feasibility.optimizer.backward_step(&loss);
        self.feasibility.follow(target_rate);
    }
}

fn transition(rows: i64, device: Device, rng: &mut Rng) -> Transition {
    let action = rng.uniform(&[rows, ACTIONS], device) * 2.0 - 1.0;
    let observation = rng.normal(&[rows, STATES], device);
    let stop = rng.uniform(&[rows, 1], device).lt(0.01).to_kind(Kind::Float);
    Transition {
        state_action: Tensor::cat(&[&action, &observation], 1),
        observation,
        next_observation: rng.normal(&[rows, STATES], device),
        reward: rng.normal(&[rows, 1], device),
        cost: rng.uniform(&[rows, 1], device).lt(0.1).to_kind(Kind::Float) * 2.0 - 1.0,
        cost_stop: stop.copy(),
        reward_stop: stop,
    }
}

/// Operations of the step's matrix products.
fn operations(config: &FisorConfig, rows: i64) -> f64 {
    let hidden = config.denoiser_hidden;
    let input = ACTIONS + STATES + config.time_width;
    let blocks = config.denoiser_blocks as i64 * 2 * hidden * hidden * config.denoiser_expansion;
    let time = config.time_width * (config.time_features + config.time_width);
    let products = time + input * hidden + blocks + hidden * ACTIONS;
    let denoiser = 2.0 * rows as f64 * (3.0 * products as f64 - ((ACTIONS + STATES) * hidden) as f64);
    let (state, pair) = (widths(STATES, &config.critic_hidden, 1), widths(STATES + ACTIONS, &config.critic_hidden, 1));
    let weighing = 2.0 * flop(rows, &state).0 + 4.0 * flop(rows, &pair).0;
    let critic_rows = config.critic_batch_size as i64;
    let (value, critic) = (flop(critic_rows, &state), flop(critic_rows, &pair));
    let critics = 2.0 * (2.0 * critic.0 + value.1 + value.0 + 2.0 * critic.1);
    denoiser + weighing + critics
}

/// Both versions, from the same numbers; the loss is that of the denoiser's two updates.
pub fn step(config: FisorConfig, device: Device) -> Step {
    let mut rng = Rng::new(2, 0);
    let rows = config.schedule.batch_size as i64;
    let half = rows / ACTOR_UPDATES as i64;
    let mut ours = Learner::new(config.clone(), (STATES, ACTIONS), 0.0, device, &mut rng);
    let mut plain = Plain::copy_of(&ours, device);
    let actor = [(); ACTOR_UPDATES].map(|()| transition(half, device, &mut rng));
    let critic = transition(config.critic_batch_size as i64, device, &mut rng);
    let draws = [(); ACTOR_UPDATES].map(|()| ours.denoiser.draw(half, ACTIONS, device, &mut rng));
    let kept = Tensor::from_slice(&ours.denoiser.levels.kept).to_kind(Kind::Float).unsqueeze(1).to_device(device);
    let scales: [Tensor; 2] = [kept.sqrt(), (-&kept + 1.0).sqrt()];
    let copy = |batch: &Transition| Transition {
        state_action: batch.state_action.copy(),
        observation: batch.observation.copy(),
        next_observation: batch.next_observation.copy(),
        reward: batch.reward.copy(),
        cost: batch.cost.copy(),
        reward_stop: batch.reward_stop.copy(),
        cost_stop: batch.cost_stop.copy(),
    };
    let (actor_again, critic_again) = (actor.each_ref().map(copy), copy(&critic));
    let same = draws.each_ref().map(|draws| DenoiserDraws {
        level: draws.level.copy(),
        noise: draws.noise.copy(),
        dropout: vec![],
    });
    Step {
        flop: operations(&config, rows),
        ours: Box::new(move || {
            tch::no_grad(|| {
                let steps = actor.iter().zip(&draws).map(|(batch, draws)| ours.actor_step(batch, draws));
                let loss = steps.map(|step| step.expect("a batch of columns").loss).sum();
                ours.critic_step(&critic).expect("a batch of columns");
                loss
            })
        }),
        plain: Box::new(move || {
            let pairs = actor_again.iter().zip(&same);
            let loss = pairs.map(|(batch, draws)| plain.actor_step(batch, draws, &scales)).sum();
            plain.critic_step(&critic_again);
            loss
        }),
    }
}
