//! One optimisation step: the batch in parts, the clipped gradient, AdamW, and the temperature.

use super::config::{ActionHead, CdtConfig};
use super::loss::{losses, Counts, Losses};
use super::model::{self, Cache, Model, Outputs};
use super::sequences::Sequences;
use crate::losses::masked;
use drcorl_core::error::{Error, Result};
use drcorl_nn::buffers::Buffers;
use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::{Adam, AdamConfig, ScalarAdam};
use drcorl_nn::rng::Rng;
use drcorl_nn::Arena;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Device, Kind};

/// Sequences a part holds: 2,560 tokens of the published size, whose activations are 60 MB.
const PART: usize = 64;

/// Network, optimiser and temperature.
pub struct Learner {
    config: CdtConfig,
    actions: i64,
    model: Model,
    arena: Arena,
    adam: Adam,
    /// Logarithm of the entropy's weight; in double precision, as published.
    log_temperature: ScalarAdam,
    steps: u64,
    buffers: Buffers,
}

/// What a step says about itself.
pub struct Step {
    pub losses: Losses,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// The entropy's weight in this step's loss.
    pub temperature: f64,
    /// Gradient of the logarithm of that weight.
    pub temperature_gradient: f64,
}

impl Learner {
    /// A fresh one.
    pub fn new(config: &CdtConfig, states: i64, actions: i64, length: usize, device: Device, rng: &mut Rng) -> Learner {
        let (model, arena) = model::build(config, states, actions, length, device, rng);
        let adam = Adam::new(&arena, AdamConfig { weight_decay: config.weight_decay, ..AdamConfig::default() });
        Learner {
            config: config.clone(),
            actions,
            model,
            arena,
            adam,
            log_temperature: ScalarAdam::new(config.temperature.ln()),
            steps: 0,
            buffers: Buffers::default(),
        }
    }

    /// The parameters.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The parameters, for loading.
    pub fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// Buffers kept for the next step.
    #[cfg(test)]
    pub fn buffers(&self) -> usize {
        self.buffers.count()
    }

    /// Logarithm of the entropy's weight.
    pub fn log_temperature(&self) -> f64 {
        self.log_temperature.value
    }

    /// Sets the logarithm of the entropy's weight.
    pub fn set_log_temperature(&mut self, value: f64) {
        self.log_temperature.value = value;
    }

    /// The learning rate of the next step.
    pub fn rate(&self) -> f64 {
        let warm = (self.steps + 1) as f64 / self.config.warmup_steps.max(1) as f64;
        self.config.actor_lr * warm.min(1.0)
    }

    /// Outputs without dropout; the cache holds the features of all tokens.
    pub fn evaluate(&mut self, batch: &Sequences) -> (Outputs, Cache) {
        self.model.forward(&self.arena, batch, None, true, &self.buffers)
    }

    /// Losses of `batch`, and in the arena their gradient; `Cancelled` between two parts.
    pub fn gradient(&mut self, batch: &Sequences, rng: &mut Rng, cancel: &AtomicBool) -> Result<Losses> {
        let counts = Counts::new(&batch.lengths, self.model.context);
        let temperature = self.log_temperature.value.exp();
        let _ = self.arena.gradients().shallow_clone().zero_();
        let mut total = Losses::default();
        for from in (0..batch.lengths.len()).step_by(PART) {
            // The published batch takes seconds.
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let part = batch.part(from, PART.min(batch.lengths.len() - from));
            let (outputs, cache) = self.model.forward(&self.arena, &part, Some(rng), false, &self.buffers);
            let (share, gradients) = losses(&self.config, &outputs, &part, &counts, temperature);
            self.model.backward(&self.arena, &part, &gradients, cache, &self.buffers);
            total += share;
        }
        Ok(total)
    }

    /// One step on `batch`; `rng` decides what is dropped. A cancelled one has changed nothing but `rng`.
    pub fn step(&mut self, batch: &Sequences, rng: &mut Rng, cancel: &AtomicBool) -> Result<Step> {
        let temperature = self.log_temperature.value.exp();
        let losses = self.gradient(batch, rng, cancel)?;
        let gradients = self.arena.gradients();
        let gradient_norm = gradients.square().sum(Kind::Double).sqrt().double_value(&[]);
        let scale = self.config.clip_norm / (gradient_norm + 1e-6);
        if scale < 1.0 {
            let _ = gradients.shallow_clone().g_mul_scalar_(scale);
        }
        let rate = self.rate();
        self.adam.step(&mut self.arena, rate);
        self.steps += 1;
        // A deterministic head has no entropy.
        let temperature_gradient = match self.config.action_head {
            ActionHead::Stochastic => {
                masked::temperature(self.log_temperature.value, losses.entropy, -(self.actions as f64)).1
            }
            ActionHead::Deterministic => 0.0,
        };
        self.log_temperature.step(temperature_gradient, self.config.temperature_lr);
        Ok(Step { losses, gradient_norm, temperature, temperature_gradient })
    }

    /// The loss that was descended.
    pub fn total(&self, step: &Step) -> f64 {
        let Losses { action, entropy, cost, state, .. } = step.losses;
        action - step.temperature * entropy + self.config.cost_weight * cost + self.config.state_weight * state
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("network", |state| self.arena.persist(state))?;
        state.group("adam", |state| self.adam.persist(state))?;
        state.value("log_temperature", &mut self.log_temperature)?;
        state.value("steps", &mut self.steps)
    }
}
