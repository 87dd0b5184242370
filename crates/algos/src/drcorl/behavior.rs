//! The behavior model (5): a denoiser of the logged actions, whose score keeps the policy near the data.

use super::diffusion::{diffuse, Draws, TRAIN_TIME_MIN};
use crate::losses::squared_errors;
use drcorl_nn::checkpoint::State;
use drcorl_nn::dropout::{self, Dropout};
use drcorl_nn::optim::{Adam, AdamConfig};
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::{probe, Arena, ArenaBuilder, ScoreNet};
use tch::{Device, Tensor};

/// The diffusion model of the behavior policy: a denoiser trained on the logged actions.
pub struct BehaviorModel {
    net: ScoreNet,
    arena: Arena,
    adam: Adam,
    dropout: f64,
    blocks: usize,
}

impl BehaviorModel {
    /// A fresh model. `dropout` acts before the layer norm of each block; `weight_decay` is AdamW's.
    pub fn new(shape: ScoreNetShape, dropout: f64, weight_decay: f64, device: Device, rng: &mut Rng) -> Self {
        let mut builder = ArenaBuilder::default();
        let net = ScoreNet::new(&mut builder, shape, device, rng);
        let arena = builder.build(device);
        let adam = Adam::new(&arena, AdamConfig { weight_decay, ..AdamConfig::default() });
        BehaviorModel { net, arena, adam, dropout, blocks: shape.blocks }
    }

    /// Parameters by name.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Parameters by name, for loading.
    pub fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// Frozen frequencies `[32]`, for loading.
    pub fn frequencies_mut(&mut self) -> &mut Tensor {
        self.net.frequencies_mut()
    }

    /// Dropout for a training batch, one a block.
    pub fn draw_dropout(&self, rng: &mut Rng) -> Vec<Dropout> {
        (0..self.blocks).map(|_| dropout::draw(self.dropout, rng)).collect()
    }

    /// One AdamW step of (5) on `observation [B,S]`, `action [B,A]`. Returns the loss: the mean over
    /// rows of the squared error summed over action dimensions.
    pub fn step(&mut self, observation: &Tensor, action: &Tensor, draws: &Draws, dropout: &[Dropout], lr: f64) -> f64 {
        let diffused = diffuse(action, draws, (TRAIN_TIME_MIN, 1.0));
        let (predicted, cache) = self.net.forward(&self.arena, &diffused.noisy, observation, &diffused.time, dropout);
        probe::see("predicted", &predicted);
        let (loss, gradient) = squared_errors(&predicted, &draws.noise);
        let _ = self.arena.gradients().shallow_clone().zero_();
        self.net.backward(&self.arena, &gradient, &cache);
        self.adam.step(&mut self.arena, lr);
        loss
    }

    /// Predicted noise `[B,A]` in evaluation mode.
    pub fn predict(&self, noisy: &Tensor, observation: &Tensor, time: &Tensor) -> Tensor {
        let predicted = self.net.forward(&self.arena, noisy, observation, time, &[]).0;
        probe::see("predicted", &predicted);
        predicted
    }

    /// Saves or restores parameters and moments.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("net", |state| self.net.persist(state))?;
        state.group("arena", |state| self.arena.persist(state))?;
        state.group("adam", |state| self.adam.persist(state))
    }
}
