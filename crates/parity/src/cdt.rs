//! Fixture `cdt`: one optimisation step on raw states and actions, the heads on a second batch, and a scripted rollout.

use super::{Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::cdt::config::{ActionHead, CdtConfig, CostFeature, CostTransform};
use drcorl_algos::cdt::model::STEP_TOKENS;
use drcorl_algos::cdt::policy::{freeze, Targets};
use drcorl_algos::cdt::sequences::Sequences;
use drcorl_algos::cdt::Learner;
use drcorl_core::error::{Error, Result};
use drcorl_core::policy::{FrozenPolicy, Turn};
use drcorl_nn::rng::Rng;
use std::sync::atomic::AtomicBool;
use tch::{Device, Kind, Tensor};

struct Cdt {
    learner: Learner,
    config: CdtConfig,
    rng: Rng,
}

/// The options of a variant, read from its parameters' names and shapes as far as they show there.
fn options(fixture: &Fixture, init: &Tensors) -> Result<CdtConfig> {
    let number = |key: &str| fixture.hyper(&[key]);
    let embedding = number("embedding")? as i64;
    let stochastic = init.iter().any(|(name, _)| name.starts_with("action_head") && name.contains("log_std"));
    let layers = init
        .iter()
        .filter(|(name, _)| name.starts_with("action_head") && name.ends_with(".weight") && !name.contains("log_std"));
    let layers: Vec<_> = layers.map(|(_, weight)| weight.size()[1]).collect();
    let wide = layers.contains(&(2 * embedding));
    Ok(CdtConfig {
        embedding_hidden: embedding,
        heads: number("heads")? as usize,
        blocks: number("layers")? as usize,
        dropout: number("dropout")?,
        context_length: fixture.dim("seq_len")? as usize,
        action_head: if stochastic { ActionHead::Stochastic } else { ActionHead::Deterministic },
        action_layers: layers.len(),
        cost_feature: if wide { CostFeature::Concatenate } else { CostFeature::None },
        cost_prefix: init.has("prefix_emb.weight"),
        cost_transform: if stochastic { CostTransform::FiftyMinus } else { CostTransform::None },
        actor_lr: number("learning_rate")?,
        warmup_steps: number("lr_warmup_steps")? as u64,
        weight_decay: number("weight_decay")?,
        clip_norm: number("clip_grad")?,
        cost_weight: number("cost_loss_weight")?,
        state_weight: number("state_loss_weight")?,
        // Rewards and costs of the fixture are scaled already.
        reward_scale: 1.0,
        cost_scale: 1.0,
        temperature: number("init_temperature")?,
        temperature_lr: number("temperature_lr")?,
        ..CdtConfig::osrl()
    })
}

pub fn bind(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let config = options(fixture, init)?;
    let length = fixture.hyper(&["episode_len"])? as usize;
    let (states, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    let mut rng = Rng::new(0, 0);
    let mut learner = Learner::new(&config, states, actions, length, device, &mut rng);
    for (name, value) in init.iter() {
        match name {
            "log_temperature" => learner.set_log_temperature(value.double_value(&[])),
            _ => learner.arena_mut().set(name, value)?,
        }
    }
    Ok(Plan::Run(Box::new(Cdt { learner, config, rng })))
}

/// A batch of the fixture. Without a mask no step is padding.
fn sequences(batch: &Tensors) -> Result<Sequences> {
    let states = batch.get("states")?.shallow_clone();
    let (sequences, context) = (states.size()[0], states.size()[1]);
    let lengths = match batch.has("mask") {
        true => {
            let mask = batch.get("mask")?;
            let counts = Vec::<i64>::try_from(&mask.sum_dim_intlist(1i64, false, Kind::Int64))?;
            let first = |count: i64| (0..context).map(move |step| if step < count { 1.0 } else { 0.0 });
            let padded: Vec<f32> = counts.iter().flat_map(|&count| first(count)).collect();
            if Vec::<f32>::try_from(&mask.to_device(Device::Cpu).contiguous().view([-1]))? != padded {
                return Err(Error::Data("the fixture's mask is not padded at the end".into()));
            }
            counts.iter().map(|&count| count as usize).collect()
        }
        false => vec![context as usize; sequences as usize],
    };
    let costs = if batch.has("costs") { batch.get("costs")?.shallow_clone() } else { states.select(2, 0).zeros_like() };
    Ok(Sequences {
        actions: batch.get("actions")?.shallow_clone(),
        returns: batch.get("returns")?.shallow_clone(),
        costs_to_go: batch.get("costs_to_go")?.shallow_clone(),
        time_steps: batch.get("time_steps")?.shallow_clone(),
        episode_cost: batch.get("episode_cost")?.shallow_clone(),
        costs,
        states,
        lengths,
    })
}

impl Cdt {
    fn stochastic(&self) -> bool {
        self.config.action_head == ActionHead::Stochastic
    }

    /// Tokens and heads of the network before the step, under the fixture's names.
    fn activations(&mut self, batch: &Sequences) -> Record {
        let (outputs, cache) = self.learner.evaluate(batch);
        let (sequences, context) = (batch.lengths.len() as i64, self.config.context_length as i64);
        let steps = |x: &Tensor| x.view([sequences, context, -1]);
        let tokens = STEP_TOKENS as i64 * context + i64::from(self.config.cost_prefix);
        let mut record: Record = vec![
            ("aux/cost_logprob".into(), steps(&outputs.cost_logits.log_softmax(1, Kind::Float))),
            ("aux/state_pred".into(), steps(&outputs.next_state)),
            ("aux/out_norm".into(), cache.features().view([sequences, tokens, -1])),
        ];
        for (i, state) in cache.states().into_iter().enumerate() {
            let name = if i == 0 { "aux/emb_norm".into() } else { format!("aux/block{}", i - 1) };
            record.push((name, state.view([sequences, tokens, -1])));
        }
        match outputs.log_std {
            Some(log_std) => {
                record.push(("aux/mu".into(), steps(&outputs.action)));
                record.push(("aux/sigma".into(), steps(&log_std.exp())));
            }
            None => record.push(("aux/action".into(), steps(&outputs.action))),
        }
        record
    }

    /// Actions `[T,A]` of the policy file in a scripted environment whose answers do not depend on them.
    fn rollout(&self, inputs: &Tensors) -> Result<Tensor> {
        let target = |name: &str| -> Result<f64> { Ok(inputs.get(name)?.double_value(&[])) };
        let targets = Targets { ret: target("rollout_target_return")?, cost: target("rollout_target_cost")? };
        let policy = freeze(self.learner.arena(), &self.config, targets)?;
        let mut player = policy.start(1);
        let (rewards, costs) = (inputs.get("rollout_rew")?, inputs.get("rollout_cost")?);
        let observations = inputs.get("rollout_obs")?;
        let steps = rewards.size()[0];
        // What the environment answered to the previous action; nothing at the first step.
        let answer = |of: &Tensor, step: i64| match step {
            0 => Tensor::zeros([1, 1], (Kind::Float, of.device())),
            _ => of.narrow(0, step - 1, 1).view([1, 1]),
        };
        let actions: Vec<Tensor> = (0..steps)
            .map(|step| {
                let (reward, cost) = (answer(rewards, step), answer(costs, step));
                player.act(&Turn { observation: &observations.narrow(0, step, 1), reward: &reward, cost: &cost })
            })
            .collect();
        Ok(Tensor::cat(&actions, 0))
    }
}

impl Binding for Cdt {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let batch = sequences(batch)?;
        let mut record = self.activations(&batch);
        let step = self.learner.step(&batch, &mut self.rng, &AtomicBool::new(false))?;
        let losses = step.losses;
        let mut add = |name: &str, value: f64| record.push((name.into(), Tensor::from(value)));
        add("aux/grad_norm_before_clip", step.gradient_norm);
        add("loss/all_loss", self.learner.total(&step));
        add("loss/act_loss", losses.action - step.temperature * losses.entropy);
        add("loss/cost_loss", losses.cost);
        add("loss/cost_acc", losses.cost_accuracy);
        add("loss/state_loss", losses.state);
        add("loss/lr_next", self.learner.rate());
        if self.stochastic() {
            add("loss/nll", losses.action);
            add("loss/ent", losses.entropy);
            add("loss/ent_reg", step.temperature);
            add("grad/log_temperature", step.temperature_gradient);
        }
        let arena = self.learner.arena();
        let gradients = arena.names().filter_map(|name| Some((format!("grad/{name}"), arena.named(name)?.1.copy())));
        record.extend(gradients);
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let arena = self.learner.arena();
        let values = arena.names().filter_map(|name| Some((name.to_string(), arena.named(name)?.0.copy())));
        let temperature = ("log_temperature".to_string(), Tensor::from(self.learner.log_temperature()));
        values.chain([temperature]).collect()
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let batch = sequences(inputs)?;
        let (outputs, _) = self.learner.evaluate(&batch);
        let sum = |name: &str| -> Result<Tensor> { Ok(inputs.get(name)?.sum(Kind::Double)) };
        Ok(vec![
            ("action".into(), outputs.action.clamp(-1.0, 1.0)),
            ("cost_logprob".into(), outputs.cost_logits.log_softmax(1, Kind::Float)),
            ("state_pred".into(), outputs.next_state),
            ("rollout_action".into(), self.rollout(inputs)?),
            ("rollout_return".into(), sum("rollout_rew")?),
            ("rollout_cost_sum".into(), sum("rollout_cost")?),
        ])
    }
}
