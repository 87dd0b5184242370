//! Fixture `cdt`: one optimisation step on raw states and actions, the heads on a second batch, and a scripted rollout.

use super::{Binding, Fixture, Plan, Record, Tensors};
use crate::algos::cdt::config::{ActionHead, CdtConfig, CostFeature, CostTransform};
use crate::algos::cdt::model::STEP_TOKENS;
use crate::algos::cdt::sequences::Sequences;
use crate::algos::cdt::Learner;
use crate::error::{Error, Result};
use crate::rng::Rng;
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
    let layers = init.iter().filter(|(name, _)| {
        name.starts_with("action_head") && name.ends_with(".weight") && !name.contains("log_std")
    });
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
            "log_temperature" => learner.temperature().log = value.double_value(&[]),
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

    /// Actions `[T,A]` in a scripted environment whose answers do not depend on them.
    fn rollout(&mut self, inputs: &Tensors) -> Result<Tensor> {
        let (rewards, costs) = (inputs.get("rollout_rew")?, inputs.get("rollout_cost")?);
        let observations = inputs.get("rollout_obs")?;
        let target = |name: &str| -> Result<f64> { Ok(inputs.get(name)?.double_value(&[])) };
        let (mut to_go, mut cost_to_go) = (target("rollout_target_return")?, target("rollout_target_cost")?);
        let episode_cost = cost_to_go;
        let context = self.config.context_length as i64;
        let device = observations.device();
        let (mut returns, mut costs_to_go, mut actions) = (Vec::new(), Vec::new(), Vec::<Tensor>::new());
        for step in 0..rewards.size()[0] {
            returns.push(to_go as f32);
            costs_to_go.push(cost_to_go as f32);
            let from = (step + 1 - context).max(0);
            let length = step + 1 - from;
            let padded = |x: Tensor| {
                let mut shape = x.size();
                shape[0] = context - length;
                Tensor::cat(&[&x, &Tensor::zeros(&shape, (x.kind(), device))], 0).unsqueeze(0)
            };
            let window = |list: &[f32]| padded(Tensor::from_slice(&list[from as usize..]).to_device(device));
            let zero = Tensor::zeros([1, inputs.get("actions")?.size()[2]], (Kind::Float, device));
            let taken: Vec<&Tensor> = actions[from as usize..].iter().chain([&zero]).collect();
            let batch = Sequences {
                states: padded(observations.narrow(0, from, length)),
                actions: padded(Tensor::cat(&taken, 0)),
                returns: window(&returns),
                costs_to_go: window(&costs_to_go),
                time_steps: padded(Tensor::arange_start(from, step + 1, (Kind::Int64, device))),
                costs: Tensor::zeros([1, context], (Kind::Float, device)),
                episode_cost: Tensor::from_slice(&[episode_cost as f32]).to_device(device),
                lengths: vec![length as usize],
            };
            let (outputs, _) = self.learner.evaluate(&batch);
            actions.push(outputs.action.narrow(0, length - 1, 1).clamp(-1.0, 1.0));
            to_go -= rewards.double_value(&[step]);
            cost_to_go -= costs.double_value(&[step]);
        }
        Ok(Tensor::cat(&actions, 0))
    }
}

impl Binding for Cdt {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let batch = sequences(batch)?;
        let mut record = self.activations(&batch);
        let step = self.learner.step(&batch, &mut self.rng);
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
        let temperature = ("log_temperature".to_string(), Tensor::from(self.learner.temperature_log()));
        values.chain([temperature]).collect()
    }

    fn evaluate(&mut self, inputs: &Tensors) -> Result<Record> {
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
