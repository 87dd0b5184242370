//! Denoisers of actions: a residual MLP on noisy action, observation and a Fourier embedding of time.
//!
//! [`ScoreNet::new`] is that of SRPO (arXiv:2310.07297), whose frequencies are frozen. The published network holds a
//! projection in every block that no output depends on; it is left out, which leaves
//! 1,643,526 trainable and frozen parameters at 17 observations and 6 actions.
//! [`ScoreNet::with_time`] makes others of the family: FISOR's (arXiv:2401.10700) learns its frequencies.

use super::buffers::Buffers;
use super::dropout::{self, Dropout};
use super::linear::{self, Activation, Through};
use super::matmul::{self, After};
use super::{ops, Arena, ArenaBuilder, Slot};
use crate::checkpoint::State;
use crate::error::Result;
use crate::probe;
use crate::rng::Rng;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Sizes of a [`ScoreNet`].
#[derive(Clone, Copy, Debug)]
pub struct ScoreNetShape {
    pub observations: i64,
    pub actions: i64,
    pub hidden: i64,
    pub blocks: usize,
    /// Width of the inner layer of a block as a multiple of `hidden`.
    pub expansion: i64,
}

/// How time enters a [`ScoreNet`]: `f = 2 pi t w`, the sines and cosines of f, then two layers with a Mish between.
#[derive(Clone, Copy, Debug)]
pub struct TimeEmbedding {
    /// Number of frequencies w; features are the sine and cosine of each.
    pub frequencies: i64,
    /// Standard deviation of the frequencies before training.
    pub scale: f64,
    /// Width of both layers, and so of the embedding.
    pub width: i64,
    /// Whether the frequencies are trained; they then are the parameter `frequencies` of the arena.
    pub learnt: bool,
    /// Whether the cosines come before the sines.
    pub cosine_first: bool,
    /// Added to the variance by the layer norms of the blocks.
    pub norm_eps: f64,
}

impl TimeEmbedding {
    /// That of SRPO.
    pub const FROZEN: TimeEmbedding =
        TimeEmbedding { frequencies: 32, scale: 30.0, width: 128, learnt: false, cosine_first: false, norm_eps: 1e-5 };
}

/// Frequencies `[F]`, frozen or in the arena.
enum Frequencies {
    Frozen(Tensor),
    Learnt(Slot),
}

struct Linear(Slot, Slot);

struct Block {
    norm: (Slot, Slot),
    inner: Linear,
    outer: Linear,
}

/// The layout of the denoiser plus its frozen frequencies.
pub struct ScoreNet {
    shape: ScoreNetShape,
    embedding: TimeEmbedding,
    frequencies: Frequencies,
    time: [Linear; 2],
    input: Linear,
    blocks: Vec<Block>,
    output: Linear,
    buffers: Arc<Buffers>,
}

struct BlockCache {
    /// Input of the layer norm, after dropout.
    normalised_from: Tensor,
    mean: Tensor,
    rstd: Tensor,
    normalised: Tensor,
    /// Of the Mish between the two layers.
    derivative: Tensor,
    active: Tensor,
    dropout: Dropout,
    buffers: Arc<Buffers>,
}

impl Drop for BlockCache {
    fn drop(&mut self) {
        self.buffers.give([self.derivative.shallow_clone(), self.active.shallow_clone()]);
    }
}

/// What a forward pass keeps for the backward pass.
pub struct ScoreCache {
    /// `2 pi t [B,1]`, where the frequencies are learnt.
    turns: Option<Tensor>,
    fourier: Tensor,
    time_derivative: Tensor,
    time_active: Tensor,
    joined: Tensor,
    blocks: Vec<BlockCache>,
    trunk_derivative: Tensor,
    trunk_active: Tensor,
}

fn linear(arena: &Arena, layer: &Linear, input: &Tensor) -> Tensor {
    let weight = arena.value(layer.0);
    let out = Tensor::empty([input.size()[0], weight.size()[0]], (Kind::Float, input.device()));
    linear::forward(&out, input, weight, arena.value(layer.1), Activation::Identity);
    out
}

/// Mish of `input`, which becomes the derivative.
fn mish(input: &mut Tensor) -> Tensor {
    let out = input.empty_like();
    ops::mish(input, &out);
    out
}

/// Adds the gradients of a layer's parameters.
fn gradients(arena: &Arena, layer: &Linear, grad_out: &Tensor, input: &Tensor) {
    linear::add_parameter_gradients(grad_out, input, arena.gradient(layer.0), arena.gradient(layer.1));
}

fn input_gradient(arena: &Arena, layer: &Linear, grad_out: &Tensor, through: Through) -> Tensor {
    let weight = arena.value(layer.0);
    let out = Tensor::empty([grad_out.size()[0], weight.size()[1]], (Kind::Float, grad_out.device()));
    linear::input_gradient(&out, grad_out, weight, through);
    out
}

impl ScoreNet {
    /// Registers the network in `builder`; the frequencies are drawn from N(0, 30^2) and never trained.
    pub fn new(builder: &mut ArenaBuilder, shape: ScoreNetShape, device: Device, rng: &mut Rng) -> Self {
        ScoreNet::with_time(builder, shape, TimeEmbedding::FROZEN, device, rng)
    }

    /// Registers the network in `builder`, with this embedding of time.
    pub fn with_time(
        builder: &mut ArenaBuilder,
        shape: ScoreNetShape,
        embedding: TimeEmbedding,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let ScoreNetShape { observations, actions, hidden, blocks, expansion } = shape;
        let TimeEmbedding { frequencies, scale, width, learnt, .. } = embedding;
        let mut dense = |builder: &mut ArenaBuilder, name: &str, out: i64, input: i64| {
            let (weight, bias) = builder.add_linear(name, out, input, rng);
            Linear(weight, bias)
        };
        let time = [dense(builder, "time.0", width, 2 * frequencies), dense(builder, "time.1", width, width)];
        let input = dense(builder, "input", hidden, actions + observations + width);
        let blocks = (0..blocks)
            .map(|i| Block {
                norm: (
                    builder.add(&format!("blocks.{i}.norm.weight"), &[hidden], || 1.0),
                    builder.add(&format!("blocks.{i}.norm.bias"), &[hidden], || 0.0),
                ),
                inner: dense(builder, &format!("blocks.{i}.inner"), expansion * hidden, hidden),
                outer: dense(builder, &format!("blocks.{i}.outer"), hidden, expansion * hidden),
            })
            .collect();
        let output = dense(builder, "output", actions, hidden);
        let frequencies = if learnt {
            let scale = scale as f32;
            Frequencies::Learnt(builder.add("frequencies", &[frequencies], || rng.normal_unit() * scale))
        } else {
            Frequencies::Frozen(rng.normal(&[frequencies], device) * scale)
        };
        ScoreNet { shape, embedding, frequencies, time, input, blocks, output, buffers: Arc::default() }
    }

    /// Frozen frequencies `[F]`, for loading.
    ///
    /// # Panics
    /// If they are learnt: then they are in the arena.
    pub fn frequencies_mut(&mut self) -> &mut Tensor {
        match &mut self.frequencies {
            Frequencies::Frozen(frequencies) => frequencies,
            Frequencies::Learnt(_) => panic!("learnt frequencies are in the arena"),
        }
    }

    /// Number of residual blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// What the layer norms add to the variance.
    pub fn norm_eps(&self) -> f64 {
        self.embedding.norm_eps
    }

    /// Number of action dimensions A.
    pub fn actions(&self) -> i64 {
        self.shape.actions
    }

    /// Saves or restores what is not in the arena.
    pub fn persist(&mut self, state: &mut State) -> Result<()> {
        match &mut self.frequencies {
            Frequencies::Frozen(frequencies) => state.tensor("frequencies", frequencies),
            Frequencies::Learnt(_) => Ok(()),
        }
    }

    /// Sines and cosines `[B,2F]` of `time [B]`, and `2 pi t [B,1]` where the frequencies are learnt.
    fn fourier(&self, arena: &Arena, time: &Tensor) -> (Tensor, Option<Tensor>) {
        let turn = 2.0 * std::f64::consts::PI;
        let (angle, turns) = match &self.frequencies {
            // The order of the products is that of the reference:
            // at arguments of several hundred, float32 rounding shows.
            Frequencies::Frozen(frequencies) => (time.unsqueeze(1) * frequencies * turn, None),
            Frequencies::Learnt(slot) => {
                let turns = time.unsqueeze(1) * turn;
                (&turns * arena.value(*slot), Some(turns))
            }
        };
        let (sine, cosine) = (angle.sin(), angle.cos());
        let parts = if self.embedding.cosine_first { [cosine, sine] } else { [sine, cosine] };
        (Tensor::cat(&parts, 1), turns)
    }

    /// The embedding `[B,width]` of `time [B]`, as it enters [`ScoreNet::forward`].
    pub fn embed(&self, arena: &Arena, time: &Tensor) -> Tensor {
        let mut hidden = linear(arena, &self.time[0], &self.fourier(arena, time).0);
        linear(arena, &self.time[1], &mish(&mut hidden))
    }

    /// Predicted noise `[B,A]` for `noisy_action [B,A]`, `observation [B,S]`, `time [B]`.
    ///
    /// `dropout` is one a block, or empty for evaluation.
    pub fn forward(
        &self,
        arena: &Arena,
        noisy_action: &Tensor,
        observation: &Tensor,
        time: &Tensor,
        dropout: &[Dropout],
    ) -> (Tensor, ScoreCache) {
        let (fourier, turns) = self.fourier(arena, time);
        let mut time_derivative = linear(arena, &self.time[0], &fourier);
        let time_active = mish(&mut time_derivative);
        let embedding = linear(arena, &self.time[1], &time_active);
        let joined = Tensor::cat(&[noisy_action, observation, &embedding], 1);
        let mut trunk = linear(arena, &self.input, &joined);
        probe::see("fourier", &fourier);
        probe::see("time_embedding", &embedding);
        probe::see("trunk", &trunk);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let dropout = dropout.get(i).copied().unwrap_or(Dropout::NONE);
            let (next, cache) = self.block_forward(arena, block, trunk, dropout);
            trunk = next;
            probe::see("trunk", &trunk);
            blocks.push(cache);
        }
        let mut trunk_derivative = trunk;
        let trunk_active = mish(&mut trunk_derivative);
        let output = linear(arena, &self.output, &trunk_active);
        let cache =
            ScoreCache { turns, fourier, time_derivative, time_active, joined, blocks, trunk_derivative, trunk_active };
        (output, cache)
    }

    fn block_forward(&self, arena: &Arena, block: &Block, input: Tensor, dropout: Dropout) -> (Tensor, BlockCache) {
        let normalised_from = if dropout.is_none() {
            input.shallow_clone()
        } else {
            let out = input.empty_like();
            dropout::apply(&input, &out, dropout);
            out
        };
        let column = || Tensor::empty([input.size()[0], 1], (Kind::Float, input.device()));
        let (normalised, mean, rstd) = (input.empty_like(), column(), column());
        let (weight, bias) = (arena.value(block.norm.0), arena.value(block.norm.1));
        ops::layer_norm(&normalised_from, weight, bias, self.embedding.norm_eps, &normalised, &mean, &rstd);
        let (rows, wide) = (input.size()[0], self.shape.expansion * self.shape.hidden);
        let [mut derivative, active] = [(); 2].map(|()| self.buffers.take(rows, wide, input.device()));
        matmul::forward(&derivative, &normalised, arena.value(block.inner.0), After::Nothing);
        ops::bias_mish(&mut derivative, arena.value(block.inner.1), &active);
        let out = input.empty_like();
        matmul::forward(&out, &active, arena.value(block.outer.0), After::Nothing);
        ops::bias_residual(&out, arena.value(block.outer.1), &input);
        let buffers = self.buffers.clone();
        (out, BlockCache { normalised_from, mean, rstd, normalised, derivative, active, dropout, buffers })
    }

    /// Backward pass: adds the gradients of all parameters for `grad_out [B,A]` to the arena's.
    pub fn backward(&self, arena: &Arena, grad_out: &Tensor, cache: &ScoreCache) {
        gradients(arena, &self.output, grad_out, &cache.trunk_active);
        let mut grad = input_gradient(arena, &self.output, grad_out, Through::Derivative(&cache.trunk_derivative));
        for (block, cache) in self.blocks.iter().zip(&cache.blocks).rev() {
            grad = self.block_backward(arena, block, grad, cache);
        }
        gradients(arena, &self.input, &grad, &cache.joined);
        let columns = self.shape.actions + self.shape.observations;
        let embedding_grad =
            input_gradient(arena, &self.input, &grad, Through::Nothing).narrow(1, columns, self.embedding.width);
        gradients(arena, &self.time[1], &embedding_grad, &cache.time_active);
        let time_grad =
            input_gradient(arena, &self.time[1], &embedding_grad, Through::Derivative(&cache.time_derivative));
        gradients(arena, &self.time[0], &time_grad, &cache.fourier);
        if let (Frequencies::Learnt(slot), Some(turns)) = (&self.frequencies, &cache.turns) {
            let grad = input_gradient(arena, &self.time[0], &time_grad, Through::Nothing);
            // The derivative of the sine is the cosine, that of the cosine minus the sine.
            let halves = |x: &Tensor| {
                (
                    x.narrow(1, 0, self.embedding.frequencies),
                    x.narrow(1, self.embedding.frequencies, self.embedding.frequencies),
                )
            };
            let ((first, second), (grad_first, grad_second)) = (halves(&cache.fourier), halves(&grad));
            let sign = if self.embedding.cosine_first { -1.0 } else { 1.0 };
            let angle = (grad_first * second - grad_second * first) * sign;
            let _ = arena.gradient(*slot).shallow_clone().g_add_(&(angle * turns).sum_dim_intlist(
                0i64,
                false,
                Kind::Float,
            ));
        }
    }

    fn block_backward(&self, arena: &Arena, block: &Block, grad: Tensor, cache: &BlockCache) -> Tensor {
        gradients(arena, &block.outer, &grad, &cache.active);
        let inner = self.buffers.take(grad.size()[0], self.shape.expansion * self.shape.hidden, grad.device());
        matmul::input_gradient(&inner, &grad, arena.value(block.outer.0), After::Nothing);
        ops::derivative_backward(&inner, &cache.derivative, arena.gradient(block.inner.1));
        matmul::weight_gradient(arena.gradient(block.inner.0), &inner, &cache.normalised, After::Add);
        let mut from_norm = input_gradient(arena, &block.inner, &inner, Through::Nothing);
        self.buffers.give([inner]);
        ops::layer_norm_backward(
            &cache.normalised_from,
            &cache.mean,
            &cache.rstd,
            arena.value(block.norm.0),
            &mut from_norm,
            arena.gradient(block.norm.0),
            arena.gradient(block.norm.1),
        );
        dropout::add(&grad, &from_norm, cache.dropout);
        grad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(shape: ScoreNetShape) -> (ScoreNet, Arena, Rng) {
        let mut rng = Rng::new(5, 0);
        let mut builder = ArenaBuilder::default();
        let net = ScoreNet::new(&mut builder, shape, Device::Cpu, &mut rng);
        (net, builder.build(Device::Cpu), rng)
    }

    /// Without the dead projections; the frozen frequencies count as parameters of the published network.
    #[test]
    fn the_published_size_has_1_643_526_parameters() {
        let (_, arena, _) = build(ScoreNetShape { observations: 17, actions: 6, hidden: 256, blocks: 3, expansion: 4 });
        assert_eq!(arena.len(), 1_643_526);
    }

    fn small() -> ScoreNetShape {
        ScoreNetShape { observations: 4, actions: 2, hidden: 16, blocks: 2, expansion: 2 }
    }

    /// An evaluation draws nothing.
    #[test]
    fn two_evaluations_are_equal() {
        let (net, arena, mut rng) = build(small());
        let (x, s, t) =
            (rng.normal(&[3, 2], Device::Cpu), rng.normal(&[3, 4], Device::Cpu), rng.uniform(&[3], Device::Cpu));
        let first = net.forward(&arena, &x, &s, &t, &[]).0;
        assert_eq!(first, net.forward(&arena, &x, &s, &t, &[]).0);
    }

    /// Central differences of sum(weights * output) against the written gradients, with dropout.
    #[test]
    fn gradients_equal_finite_differences() {
        compare_with_differences(build(small()));
        for cosine_first in [false, true] {
            let time =
                TimeEmbedding { frequencies: 5, scale: 0.2, width: 12, learnt: true, cosine_first, norm_eps: 1e-6 };
            let (mut rng, mut builder) = (Rng::new(6, 0), ArenaBuilder::default());
            let net = ScoreNet::with_time(&mut builder, small(), time, Device::Cpu, &mut rng);
            let arena = builder.build(Device::Cpu);
            assert!(arena.named("frequencies").is_some());
            compare_with_differences((net, arena, rng));
        }
    }

    fn compare_with_differences((net, mut arena, mut rng): (ScoreNet, Arena, Rng)) {
        let (x, s, t) =
            (rng.normal(&[5, 2], Device::Cpu), rng.normal(&[5, 4], Device::Cpu), rng.uniform(&[5], Device::Cpu));
        let dropout = [dropout::draw(0.3, &mut rng), dropout::draw(0.3, &mut rng)];
        let weights = rng.normal(&[5, 2], Device::Cpu);
        let (_, cache) = net.forward(&arena, &x, &s, &t, &dropout);
        net.backward(&arena, &weights, &cache);
        let names: Vec<String> = arena.names().map(str::to_string).collect();
        for name in names {
            let (value, _) = arena.named(&name).unwrap();
            let original = value.copy();
            let direction = rng.normal(&original.size(), Device::Cpu);
            let mut at = |step: f64| {
                arena.set(&name, &(&original + &direction * step)).unwrap();
                let output = net.forward(&arena, &x, &s, &t, &dropout).0;
                (output * &weights).sum(Kind::Double).double_value(&[])
            };
            let numeric = (at(3e-3) - at(-3e-3)) / 6e-3;
            arena.set(&name, &original).unwrap();
            let written = (arena.named(&name).unwrap().1 * &direction).sum(Kind::Double).double_value(&[]);
            assert!((numeric - written).abs() < 2e-2 * (1.0 + written.abs()), "{name}: {numeric} against {written}");
        }
    }
}
