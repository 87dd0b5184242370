//! An ensemble of E equal networks, ReLU unless said otherwise; E = 1 is a plain MLP.
//!
//! Activations are kept as `[B, E*width]`, so the first layer of all members is one matrix product and every later layer is
//! one product a member on a strided view; nothing is transposed or gathered.

use super::linear::{self, Activation, Through};
use super::{kernels, Arena, ArenaBuilder, Slot};
use crate::rng::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What follows every layer but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// max(x, 0)
    Relu,
    /// tanh(x)
    Tanh,
}

/// Rows evaluated at a time where nothing is kept for a backward pass: the activations of a block stay in the nearest caches.
const BLOCK: i64 = 512;

/// The layout of an ensemble: weights `[E,out,in]` and biases `[E,out]` a layer.
#[derive(Clone)]
pub struct Ensemble {
    members: i64,
    widths: Vec<i64>,
    layers: Vec<(Slot, Slot)>,
    hidden: Hidden,
}

/// What the forward pass keeps for the backward pass. Buffers are reused while the batch size stays.
#[derive(Default)]
pub struct Cache {
    batch: i64,
    hidden: Vec<Tensor>,
    grads: Vec<Tensor>,
    output: Option<Tensor>,
}

impl Cache {
    fn prepare(&mut self, net: &Ensemble, input: &Tensor) {
        let batch = input.size()[0];
        if self.batch == batch && self.output.is_some() {
            return;
        }
        let buffer = |width: i64| Tensor::empty([batch, net.members * width], (Kind::Float, input.device()));
        let inner = &net.widths[1..net.widths.len() - 1];
        self.hidden = inner.iter().map(|&width| buffer(width)).collect();
        self.grads = inner.iter().map(|&width| buffer(width)).collect();
        self.output = Some(buffer(net.outputs()));
        self.batch = batch;
    }
}

/// How the input relates to the members.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    /// `[B, in]`, the same rows for every member.
    Shared,
    /// `[B, E*in]`, own rows for each member.
    PerMember,
}

impl Ensemble {
    /// Registers an ensemble. `widths` = [in, hidden.., out].
    pub fn new(builder: &mut ArenaBuilder, name: &str, members: usize, widths: &[i64], rng: &mut Rng) -> Self {
        assert!(widths.len() >= 2 && members >= 1, "an ensemble has at least one layer and one member");
        let lead = [members as i64];
        let layers = widths
            .windows(2)
            .enumerate()
            .map(|(i, pair)| builder.add_linear(&format!("{name}.{i}"), &lead, pair[1], pair[0], rng))
            .collect();
        Ensemble { members: members as i64, widths: widths.to_vec(), layers, hidden: Hidden::Relu }
    }

    /// The same layout with another activation between layers.
    pub fn with_hidden(self, hidden: Hidden) -> Self {
        Ensemble { hidden, ..self }
    }

    /// True if the last layer is one number a member behind ReLU, for which there are fused kernels.
    fn scalar_head(&self) -> bool {
        self.layers.len() > 1 && self.outputs() == 1 && self.hidden == Hidden::Relu
    }

    /// Number of members E.
    pub fn members(&self) -> i64 {
        self.members
    }

    /// Width of the input of one member.
    pub fn inputs(&self) -> i64 {
        self.widths[0]
    }

    /// Width of the output of one member.
    pub fn outputs(&self) -> i64 {
        self.widths[self.widths.len() - 1]
    }

    /// Weight `[E,out,in]` and bias `[E,out]` of every layer.
    pub fn layers<'a>(&'a self, arena: &'a Arena) -> impl Iterator<Item = (&'a Tensor, &'a Tensor)> {
        self.layers.iter().map(|&(weight, bias)| (arena.value(weight), arena.value(bias)))
    }

    fn input_kind(&self, input: &Tensor) -> Input {
        let width = input.size()[1];
        if width == self.widths[0] {
            Input::Shared
        } else {
            assert_eq!(width, self.members * self.widths[0], "input width of the ensemble");
            Input::PerMember
        }
    }

    /// Independent products in layer `i`: a shared input meets the weights of all members, stacked, in one.
    fn groups(&self, layer: usize, kind: Input) -> i64 {
        if layer == 0 && kind == Input::Shared {
            1
        } else {
            self.members
        }
    }

    /// Outputs of all members for `input [B,in]` (shared) or `[B,E*in]` (own rows a member): `[B, E*out]`.
    ///
    /// The result lives in the cache and is overwritten by the next call.
    pub fn forward<'c>(&self, arena: &Arena, input: &Tensor, cache: &'c mut Cache) -> &'c Tensor {
        cache.prepare(self, input);
        let kind = self.input_kind(input);
        let Cache { hidden, output, .. } = cache;
        let output = output.as_ref().expect("prepared above");
        let last = self.layers.len() - 1;
        for (i, &(weight, bias)) in self.layers.iter().enumerate() {
            let (weight, bias) = (arena.value(weight), arena.value(bias));
            let source = if i == 0 { input } else { &hidden[i - 1] };
            let out = if i == last { output } else { &hidden[i] };
            if i == last && self.scalar_head() {
                kernels::scalar_head(source, weight, bias, out);
                continue;
            }
            let activation = match self.hidden {
                _ if i == last => Activation::Identity,
                Hidden::Relu => Activation::Relu,
                Hidden::Tanh => Activation::Tanh,
            };
            linear::forward(out, source, weight, bias, self.groups(i, kind), activation);
        }
        output
    }

    /// [`Ensemble::forward`] without a backward pass to follow, block by block; the result is the caller's.
    pub fn evaluate(&self, arena: &Arena, input: &Tensor, cache: &mut Cache) -> Tensor {
        let rows = input.size()[0];
        if rows <= BLOCK {
            return self.forward(arena, input, cache).copy();
        }
        let out = Tensor::empty([rows, self.members * self.outputs()], (Kind::Float, input.device()));
        for start in (0..rows).step_by(BLOCK as usize) {
            let count = BLOCK.min(rows - start);
            out.narrow(0, start, count).copy_(self.forward(arena, &input.narrow(0, start, count), cache));
        }
        out
    }

    /// Backward pass of the last [`Ensemble::forward`] with the same arena, input and cache.
    ///
    /// `grad_out [B,E*out]`. With `parameters`, the gradients of all layers are written to the arena.
    pub fn backward(&self, arena: &Arena, input: &Tensor, grad_out: &Tensor, cache: &mut Cache) {
        self.backward_hidden(arena, grad_out, cache, true);
        let first = if self.layers.len() == 1 { grad_out } else { &cache.grads[0] };
        self.parameter_gradients(arena, 0, first, input, self.groups(0, self.input_kind(input)));
    }

    /// [`Ensemble::backward`], and the gradient with respect to a shared input.
    pub fn backward_to_input(&self, arena: &Arena, input: &Tensor, grad_out: &Tensor, cache: &mut Cache) -> Tensor {
        self.backward(arena, input, grad_out, cache);
        self.first_layer_gradient(arena, grad_out, cache)
    }

    /// Gradient of `sum(grad_out * output)` with respect to a shared input: `[B,in]`, summed over members.
    pub fn input_gradient(&self, arena: &Arena, grad_out: &Tensor, cache: &mut Cache) -> Tensor {
        self.backward_hidden(arena, grad_out, cache, false);
        self.first_layer_gradient(arena, grad_out, cache)
    }

    fn first_layer_gradient(&self, arena: &Arena, grad_out: &Tensor, cache: &Cache) -> Tensor {
        let first = if self.layers.len() == 1 { grad_out } else { &cache.grads[0] };
        let out = Tensor::empty([grad_out.size()[0], self.widths[0]], (Kind::Float, grad_out.device()));
        linear::input_gradient(&out, first, arena.value(self.layers[0].0), 1, Through::Nothing);
        out
    }

    /// Carries the gradient from the output to the pre-activations of the first layer (left in `cache.grads[0]`).
    fn backward_hidden(&self, arena: &Arena, grad_out: &Tensor, cache: &mut Cache, parameters: bool) {
        let Cache { hidden, grads, .. } = cache;
        let last = self.layers.len() - 1;
        for i in (1..=last).rev() {
            let (below, above) = grads.split_at(i);
            let grad = if i == last { grad_out } else { &above[0] };
            let weight = arena.value(self.layers[i].0);
            if parameters {
                self.parameter_gradients(arena, i, grad, &hidden[i - 1], self.members);
            }
            let target = &below[i - 1];
            if i == last && self.scalar_head() {
                kernels::scalar_head_backward(&hidden[i - 1], weight, grad, target);
                continue;
            }
            match self.hidden {
                Hidden::Relu => {
                    linear::input_gradient(target, grad, weight, self.members, Through::Relu(&hidden[i - 1]));
                }
                Hidden::Tanh => {
                    let derivative = 1.0 - hidden[i - 1].square();
                    linear::input_gradient(target, grad, weight, self.members, Through::Derivative(&derivative));
                }
            }
        }
    }

    fn parameter_gradients(&self, arena: &Arena, layer: usize, grad: &Tensor, input: &Tensor, groups: i64) {
        let (weight, bias) = self.layers[layer];
        linear::parameter_gradients(grad, input, arena.gradient(weight), arena.gradient(bias), groups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// The same network by autograd: the reference for values and gradients.
    fn reference(net: &Ensemble, arena: &Arena, input: &Tensor) -> (Tensor, Vec<Tensor>) {
        let parameters: Vec<Tensor> = net
            .layers(arena)
            .flat_map(|(w, b)| [w.copy().set_requires_grad(true), b.copy().set_requires_grad(true)])
            .collect();
        let mut outputs = Vec::new();
        for member in 0..net.members {
            let mut x = if input.size()[1] == net.widths[0] {
                input.shallow_clone()
            } else {
                input.narrow(1, member * net.widths[0], net.widths[0])
            };
            for (i, pair) in parameters.chunks(2).enumerate() {
                x = x.linear(&pair[0].select(0, member), Some(&pair[1].select(0, member)));
                if i + 1 < net.layers.len() {
                    x = if net.hidden == Hidden::Tanh { x.tanh() } else { x.relu() };
                }
            }
            outputs.push(x);
        }
        (Tensor::cat(&outputs, 1), parameters)
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    fn check(members: usize, widths: &[i64], per_member: bool) {
        check_with(Hidden::Relu, members, widths, per_member);
        check_with(Hidden::Tanh, members, widths, per_member);
    }

    fn check_with(hidden: Hidden, members: usize, widths: &[i64], per_member: bool) {
        let mut rng = Rng::new(1, 0);
        let mut builder = ArenaBuilder::default();
        let net = Ensemble::new(&mut builder, "q", members, widths, &mut rng).with_hidden(hidden);
        let arena = builder.build(Device::Cpu);
        let columns = widths[0] * if per_member { members as i64 } else { 1 };
        // A strided view, as batches are.
        let input = rng.normal(&[9, columns + 3], Device::Cpu).narrow(1, 2, columns);
        let input = if per_member { input.contiguous() } else { input };
        let tracked = input.copy().set_requires_grad(true);
        let mut cache = Cache::default();
        let output = net.forward(&arena, &input, &mut cache).copy();
        let (expected, parameters) = reference(&net, &arena, &tracked);
        assert!(distance(&output, &expected) < 1e-5);
        let grad_out = rng.normal(&output.size(), Device::Cpu);
        (&expected * &grad_out).sum(Kind::Float).backward();
        net.backward(&arena, &input, &grad_out, &mut cache);
        for (&(weight, bias), pair) in net.layers.iter().zip(parameters.chunks(2)) {
            assert!(distance(arena.gradient(weight), &pair[0].grad()) < 2e-5);
            assert!(distance(arena.gradient(bias), &pair[1].grad()) < 2e-5);
        }
        if !per_member {
            let gradient = net.input_gradient(&arena, &grad_out, &mut cache);
            assert!(distance(&gradient, &tracked.grad()) < 2e-5);
            let both = net.backward_to_input(&arena, &input, &grad_out, &mut cache);
            assert!(distance(&both, &tracked.grad()) < 2e-5);
        }
    }

    #[test]
    fn evaluation_in_blocks_is_the_forward_pass() {
        let mut rng = Rng::new(3, 0);
        let mut builder = ArenaBuilder::default();
        let net = Ensemble::new(&mut builder, "q", 3, &[5, 16, 16, 2], &mut rng);
        let arena = builder.build(Device::Cpu);
        let input = rng.normal(&[2 * BLOCK + 7, 5], Device::Cpu);
        let (mut cache, mut other) = (Cache::default(), Cache::default());
        let whole = net.forward(&arena, &input, &mut cache);
        assert!(distance(whole, &net.evaluate(&arena, &input, &mut other)) < 1e-6);
    }

    #[test]
    fn values_and_gradients_equal_autograd() {
        check(1, &[5, 16, 16, 2], false);
        check(4, &[5, 33, 16, 1], false);
        check(3, &[6, 8, 7, 5], true);
        check(2, &[6, 8, 1], true);
        check(2, &[4, 3], false);
    }
}
