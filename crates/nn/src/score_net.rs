//! The denoiser of the behaviour model, that of SRPO (arXiv:2310.07297): a residual MLP on noisy action, observation
//! and a Fourier embedding of time.
//!
//! The published network holds a projection in every block that no output depends on; it is left out, which leaves
//! 1,643,526 trainable and frozen parameters at 17 observations and 6 actions.

use super::buffers::Buffers;
use super::dropout::{self, Dropout};
use super::linear::{self, Activation, Through};
use super::matmul::{self, After};
use super::{ops, Arena, ArenaBuilder, Slot};
use crate::checkpoint::State;
use crate::error::Result;
use crate::rng::Rng;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Width of the time embedding.
const EMBEDDING: i64 = 128;
/// Number of frozen frequencies; features are their sine and cosine.
const FREQUENCIES: i64 = 32;
/// Standard deviation of the frequencies.
const FREQUENCY_SCALE: f64 = 30.0;
const LAYER_NORM_EPS: f64 = 1e-5;

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

struct Linear(Slot, Slot);

struct Block {
    norm: (Slot, Slot),
    inner: Linear,
    outer: Linear,
}

/// The layout of the denoiser plus its frozen frequencies.
pub struct ScoreNet {
    shape: ScoreNetShape,
    frequencies: Tensor,
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
    fourier: Tensor,
    time_derivative: Tensor,
    time_active: Tensor,
    joined: Tensor,
    blocks: Vec<BlockCache>,
    trunk: Tensor,
    trunk_derivative: Tensor,
    trunk_active: Tensor,
}

impl ScoreCache {
    /// Fourier features `[B,64]`, time embedding `[B,128]` and the trunk after the input layer and after each block
    /// `[B,hidden]`.
    pub fn inspect(&self) -> (Tensor, Tensor, Vec<Tensor>) {
        let columns = self.joined.size()[1];
        let mut trunk: Vec<Tensor> = self.blocks.iter().map(|block| block.normalised_from.shallow_clone()).collect();
        trunk.push(self.trunk.shallow_clone());
        (self.fourier.shallow_clone(), self.joined.narrow(1, columns - EMBEDDING, EMBEDDING), trunk)
    }
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
        let ScoreNetShape { observations, actions, hidden, blocks, expansion } = shape;
        let mut dense = |builder: &mut ArenaBuilder, name: &str, out: i64, input: i64| {
            let (weight, bias) = builder.add_linear(name, out, input, rng);
            Linear(weight, bias)
        };
        let time =
            [dense(builder, "time.0", EMBEDDING, 2 * FREQUENCIES), dense(builder, "time.1", EMBEDDING, EMBEDDING)];
        let input = dense(builder, "input", hidden, actions + observations + EMBEDDING);
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
        let frequencies = rng.normal(&[FREQUENCIES], device) * FREQUENCY_SCALE;
        ScoreNet { shape, frequencies, time, input, blocks, output, buffers: Arc::default() }
    }

    /// Frozen frequencies `[32]`.
    pub fn frequencies_mut(&mut self) -> &mut Tensor {
        &mut self.frequencies
    }

    /// Number of action dimensions A.
    pub fn actions(&self) -> i64 {
        self.shape.actions
    }

    /// Saves or restores what is not in the arena.
    pub fn persist(&mut self, state: &mut State) -> Result<()> {
        state.tensor("frequencies", &mut self.frequencies)
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
        // The order of the products is that of the reference: at arguments of several hundred, float32 rounding shows.
        let angle = time.unsqueeze(1) * &self.frequencies * 2.0 * std::f64::consts::PI;
        let fourier = Tensor::cat(&[angle.sin(), angle.cos()], 1);
        let mut time_derivative = linear(arena, &self.time[0], &fourier);
        let time_active = mish(&mut time_derivative);
        let embedding = linear(arena, &self.time[1], &time_active);
        let joined = Tensor::cat(&[noisy_action, observation, &embedding], 1);
        let mut trunk = linear(arena, &self.input, &joined);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let dropout = dropout.get(i).copied().unwrap_or(Dropout::NONE);
            let (next, cache) = self.block_forward(arena, block, trunk, dropout);
            trunk = next;
            blocks.push(cache);
        }
        let mut trunk_derivative = trunk.copy();
        let trunk_active = mish(&mut trunk_derivative);
        let output = linear(arena, &self.output, &trunk_active);
        (
            output,
            ScoreCache { fourier, time_derivative, time_active, joined, blocks, trunk, trunk_derivative, trunk_active },
        )
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
        ops::layer_norm(&normalised_from, weight, bias, LAYER_NORM_EPS, &normalised, &mean, &rstd);
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
        let embedding_grad = input_gradient(arena, &self.input, &grad, Through::Nothing).narrow(1, columns, EMBEDDING);
        gradients(arena, &self.time[1], &embedding_grad, &cache.time_active);
        let time_grad =
            input_gradient(arena, &self.time[1], &embedding_grad, Through::Derivative(&cache.time_derivative));
        gradients(arena, &self.time[0], &time_grad, &cache.fourier);
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
        let (net, mut arena, mut rng) = build(small());
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
