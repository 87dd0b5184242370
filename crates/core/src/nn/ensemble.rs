//! An ensemble of E equal networks, ReLU unless said otherwise; E = 1 is a plain MLP.
//!
//! Every pass goes member by member, through all layers of one before the next: the weights and activations of one member fit
//! the second-level cache, those of all members do not, and the matrix products of a step are small enough to feel it.

use super::kernels::{self, Span};
use super::linear::{self, Activation, Through};
use super::{matmul, Arena, ArenaBuilder, Slot};
use crate::rng::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// What follows every layer but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// max(x, 0)
    Relu,
    /// tanh(x)
    Tanh,
}

/// Rows of a forward pass that go through all layers before the next: their activations stay in the nearest caches.
const BLOCK: i64 = 512;

/// Begin and number of rows of the blocks of a forward pass.
fn blocks(rows: i64, device: Device) -> impl Iterator<Item = (i64, i64)> {
    let block = if device == Device::Cpu { BLOCK } else { rows.max(1) };
    (0..rows).step_by(block as usize).map(move |start| (start, block.min(rows - start)))
}

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
    /// Activations `[B,width]` a hidden layer, of every member a backward pass is to come for.
    hidden: Vec<Vec<Tensor>>,
    /// Room `[B,width]` a hidden layer for the member at hand: its gradients, or activations nobody asks for again.
    room: Vec<Tensor>,
    /// Room as large for the activations of some rows, where it was ever needed.
    picked: Vec<Tensor>,
    output: Option<Tensor>,
}

impl Cache {
    /// Outputs of the last pass, `[B,E*out]`.
    pub fn output(&self) -> Option<&Tensor> {
        self.output.as_ref()
    }

    /// Buffers for `batch` rows, and the activations of `kept` members.
    fn prepare(&mut self, net: &Ensemble, batch: i64, kept: i64, device: Device) {
        if self.batch != batch || self.output.is_none() {
            let output = Some(Tensor::empty([batch, net.members * net.outputs()], (Kind::Float, device)));
            let room = net.hidden_buffers(batch, device);
            *self = Cache { batch, room, output, ..Cache::default() };
        }
        while (self.hidden.len() as i64) < kept {
            self.hidden.push(net.hidden_buffers(batch, device));
        }
    }
}

/// What a backward pass goes by.
struct Pass<'a> {
    /// Activations `[B,width]` a hidden layer.
    hidden: &'a [Tensor],
    /// Room for the gradients at their pre-activations, of as many rows; may be `hidden`, where [`Ensemble::overwritable`] and all rows are meant.
    grads: &'a [Tensor],
    /// The rows that have a gradient, if not all, and room for their activations.
    live: Option<(&'a Rows, &'a [Tensor])>,
}

impl Pass<'_> {
    fn rows(&self) -> Option<&[i64]> {
        self.live.map(|(rows, _)| &rows.list[..])
    }

    /// The activations of hidden layer `layer` in the rows with a gradient, `[N,width]`.
    fn hidden(&self, layer: usize) -> Tensor {
        let all = &self.hidden[layer];
        let Some((rows, room)) = self.live else {
            return all.shallow_clone();
        };
        let picked = room[layer].narrow(0, 0, rows.len());
        kernels::pick_rows(all, &rows.list, &picked);
        picked
    }

    /// Room for the gradients of hidden layer `layer`, `[N,width]`.
    fn grad(&self, layer: usize) -> Tensor {
        let all = &self.grads[layer];
        self.live.map_or_else(|| all.shallow_clone(), |(rows, _)| all.narrow(0, 0, rows.len()))
    }
}

/// Some rows of a batch.
struct Rows {
    list: Vec<i64>,
    /// The same, `[N]`.
    index: Tensor,
}

impl Rows {
    /// Those of `grad [B,out]` that are not all 0, where they are few enough to be worth picking out: where the loss sees the lowest of several
    /// members, a member has a gradient in some rows only.
    fn live(grad: &Tensor) -> Option<Rows> {
        if grad.device() != Device::Cpu {
            return None;
        }
        let list = kernels::rows_not_zero(grad);
        let few = 8 * list.len() as i64 <= 7 * grad.size()[0];
        few.then(|| Rows { index: Tensor::from_slice(&list), list })
    }

    fn len(&self) -> i64 {
        self.list.len() as i64
    }
}

impl Ensemble {
    /// Registers an ensemble. `widths` = [in, hidden.., out].
    pub fn new(builder: &mut ArenaBuilder, name: &str, members: usize, widths: &[i64], rng: &mut Rng) -> Self {
        assert!(widths.len() >= 2 && members >= 1, "an ensemble has at least one layer and one member");
        let layers = widths
            .windows(2)
            .enumerate()
            .map(|(i, pair)| builder.add_linears(&format!("{name}.{i}"), members as i64, pair[1], pair[0], rng))
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

    /// Weight `[out,in]` and bias `[out]` of one member in layer `layer`.
    fn values<'a>(&self, arena: &'a Arena, layer: usize, member: i64) -> (&'a Tensor, &'a Tensor) {
        let (weight, bias) = self.layers[layer];
        (arena.member(weight, member).0, arena.member(bias, member).0)
    }

    /// Where the parameters of one member lie in an arena.
    pub fn spans(&self, arena: &Arena, member: i64) -> Vec<Span> {
        let slots = self.layers.iter().flat_map(|&(weight, bias)| [weight, bias]);
        slots.map(|slot| arena.member_span(slot, member)).collect()
    }

    fn hidden_buffers(&self, batch: i64, device: Device) -> Vec<Tensor> {
        let inner = &self.widths[1..self.widths.len() - 1];
        inner.iter().map(|&width| Tensor::empty([batch, width], (Kind::Float, device))).collect()
    }

    /// The input of one member: its columns of `input [B,E*in]`, or all of `input [B,in]`, which is everybody's.
    fn input_of(&self, member: i64, input: &Tensor) -> Tensor {
        let (columns, width) = (input.size()[1], self.widths[0]);
        if columns == width {
            return input.shallow_clone();
        }
        assert_eq!(columns, self.members * width, "input width of the ensemble");
        input.narrow(1, member * width, width)
    }

    /// Outputs of all members for `input [B,in]` (shared) or `[B,E*in]` (own rows a member): `[B, E*out]`.
    ///
    /// The result lives in the cache and is overwritten by the next call.
    pub fn forward<'c>(&self, arena: &Arena, input: &Tensor, cache: &'c mut Cache) -> &'c Tensor {
        cache.prepare(self, input.size()[0], self.members, input.device());
        let Cache { hidden, output, .. } = cache;
        let output = output.as_ref().expect("prepared above");
        for (member, hidden) in (0..self.members).zip(hidden) {
            self.forward_kept(arena, member, input, hidden, output);
        }
        output
    }

    /// [`Ensemble::forward`] without a backward pass to follow, block by block; the result is the caller's.
    pub fn evaluate(&self, arena: &Arena, input: &Tensor, cache: &mut Cache) -> Tensor {
        let (rows, device) = (input.size()[0], input.device());
        cache.prepare(self, blocks(rows, device).next().map_or(0, |(_, count)| count), 0, device);
        let out = Tensor::empty([rows, self.members * self.outputs()], (Kind::Float, device));
        for member in 0..self.members {
            for (start, count) in blocks(rows, device) {
                let room: Vec<Tensor> = cache.room.iter().map(|buffer| buffer.narrow(0, 0, count)).collect();
                let part = |tensor: &Tensor| tensor.narrow(0, start, count);
                self.forward_member(arena, member, &part(input), &room, &part(&out));
            }
        }
        out
    }

    /// Of one member: its columns of `output [B,E*out]`, and its activations `hidden`.
    fn forward_kept(&self, arena: &Arena, member: i64, input: &Tensor, hidden: &[Tensor], output: &Tensor) {
        for (start, count) in blocks(input.size()[0], input.device()) {
            let part = |tensor: &Tensor| tensor.narrow(0, start, count);
            let hidden: Vec<Tensor> = hidden.iter().map(part).collect();
            self.forward_member(arena, member, &part(input), &hidden, &part(output));
        }
    }

    /// [`Ensemble::forward_kept`] of one block.
    fn forward_member(&self, arena: &Arena, member: i64, input: &Tensor, hidden: &[Tensor], output: &Tensor) {
        let input = self.input_of(member, input);
        let last = self.layers.len() - 1;
        for layer in 0..=last {
            let (weight, bias) = self.values(arena, layer, member);
            let source = if layer == 0 { &input } else { &hidden[layer - 1] };
            if layer < last {
                let activation = match self.hidden {
                    Hidden::Relu => Activation::Relu,
                    Hidden::Tanh => Activation::Tanh,
                };
                linear::forward(&hidden[layer], source, weight, bias, activation);
            } else if self.scalar_head() {
                kernels::scalar_head(source, weight, bias, output, member as usize);
            } else {
                let out = output.narrow(1, member * self.outputs(), self.outputs());
                linear::forward(&out, source, weight, bias, Activation::Identity);
            }
        }
    }

    /// Forward and backward pass of one member after the other: `gradient(member, output [B,E*out])`, in which the columns of that member and
    /// the ones before are filled, tells `dloss/doutput [B,out]`; `after(member)` is called when the gradients of its parameters are in the arena.
    ///
    /// For losses in which no member meets another. Each is done with while its weights and activations are near.
    pub fn sweep(
        &self,
        arena: &mut Arena,
        input: &Tensor,
        cache: &mut Cache,
        mut gradient: impl FnMut(i64, &Tensor) -> Tensor,
        mut after: impl FnMut(&mut Arena, i64),
    ) {
        cache.prepare(self, input.size()[0], 1, input.device());
        let Cache { hidden, room, output, .. } = cache;
        let output = output.as_ref().expect("prepared above");
        let grads = if self.overwritable(arena, input) { &hidden[0] } else { &*room };
        for member in 0..self.members {
            self.forward_kept(arena, member, input, &hidden[0], output);
            let grad_out = gradient(member, output);
            let pass = Pass { hidden: &hidden[0], grads, live: None };
            let _ = self.backward_member(arena, member, Some(input), &grad_out, &pass);
            after(arena, member);
        }
    }

    /// True if gradients can take the place of the activations they belong to: less memory to keep near.
    fn overwritable(&self, arena: &Arena, input: &Tensor) -> bool {
        let inner = 1..self.layers.len();
        inner.into_iter().all(|layer| matmul::overwrites(self.values(arena, layer, 0).0, input.size()[0]))
    }

    /// Backward pass of the last [`Ensemble::forward`] with the same arena, input and cache.
    ///
    /// `grad_out [B,E*out]`. The gradients of all layers are written to the arena.
    pub fn backward(&self, arena: &Arena, input: &Tensor, grad_out: &Tensor, cache: &mut Cache) {
        self.backward_all(arena, Some(input), grad_out, cache, |_, _, _| {});
    }

    /// [`Ensemble::backward`], and the gradient with respect to a shared input.
    pub fn backward_to_input(&self, arena: &Arena, input: &Tensor, grad_out: &Tensor, cache: &mut Cache) -> Tensor {
        self.first_layer_gradient(arena, Some(input), grad_out, cache)
    }

    /// Gradient of `sum(grad_out * output)` with respect to a shared input: `[B,in]`, summed over members.
    pub fn input_gradient(&self, arena: &Arena, grad_out: &Tensor, cache: &mut Cache) -> Tensor {
        self.first_layer_gradient(arena, None, grad_out, cache)
    }

    /// As [`Ensemble::backward_all`]; the members' gradients of the first layer meet its stacked weights in one product.
    fn first_layer_gradient(
        &self,
        arena: &Arena,
        input: Option<&Tensor>,
        grad_out: &Tensor,
        cache: &mut Cache,
    ) -> Tensor {
        let (rows, device) = (grad_out.size()[0], grad_out.device());
        let buffer = |width: i64| Tensor::empty([rows, width], (Kind::Float, device));
        let width = self.widths[1];
        let first = buffer(self.members * width);
        self.backward_all(arena, input, grad_out, cache, |member, grad, rows| {
            let mut columns = first.narrow(1, member * width, width);
            match rows {
                None => columns.copy_(grad),
                Some(rows) => _ = columns.zero_().index_copy_(0, rows, grad),
            }
        });
        let out = buffer(self.widths[0]);
        let weight = arena.value(self.layers[0].0).view([-1, self.widths[0]]);
        linear::input_gradient(&out, &first, &weight, Through::Nothing);
        out
    }

    /// Backward pass of every member; `first(member, grad [N,width], rows [N])` sees the gradient at the first layer's pre-activations, where it is
    /// not 0; without `rows`, everywhere.
    fn backward_all(
        &self,
        arena: &Arena,
        input: Option<&Tensor>,
        grad_out: &Tensor,
        cache: &mut Cache,
        first: impl Fn(i64, &Tensor, Option<&Tensor>),
    ) {
        let Cache { hidden, room, picked, .. } = cache;
        // The last member's activations are the nearest.
        for member in (0..self.members).rev() {
            let grad_out = grad_out.narrow(1, member * self.outputs(), self.outputs());
            let live = Rows::live(&grad_out);
            if live.is_some() && picked.is_empty() {
                *picked = self.hidden_buffers(grad_out.size()[0], grad_out.device());
            }
            let of_rows = |tensor: Tensor| match &live {
                Some(rows) => tensor.index_select(0, &rows.index),
                None => tensor,
            };
            let input = input.map(|input| of_rows(self.input_of(member, input)));
            let grad_out = of_rows(grad_out);
            let live = live.as_ref().map(|rows| (rows, &picked[..]));
            let pass = Pass { hidden: &hidden[member as usize], grads: room, live };
            let grad = self.backward_member(arena, member, input.as_ref(), &grad_out, &pass);
            first(member, &grad, live.map(|(rows, _)| &rows.index));
        }
    }

    /// Carries `grad_out [N,out]` of one member to the pre-activations of its first layer: `[N,width]`. With `input [N,in]`, the gradients of
    /// its parameters are written to the arena.
    fn backward_member(
        &self,
        arena: &Arena,
        member: i64,
        input: Option<&Tensor>,
        grad_out: &Tensor,
        pass: &Pass,
    ) -> Tensor {
        let last = self.layers.len() - 1;
        let gradients = |layer: usize| {
            let (weight, bias) = self.layers[layer];
            let of = |slot: Slot| arena.member(slot, member).1;
            (of(weight), of(bias))
        };
        let mut grad = grad_out.shallow_clone();
        for layer in (1..=last).rev() {
            let (weight, _) = self.values(arena, layer, member);
            let target = pass.grad(layer - 1);
            if layer == last && self.scalar_head() {
                let parameters = input.map(|_| gradients(layer));
                let hidden = &pass.hidden[layer - 1];
                kernels::scalar_head_backward(hidden, pass.rows(), weight, &grad.contiguous(), &target, parameters);
                grad = target;
                continue;
            }
            let source = pass.hidden(layer - 1);
            if input.is_some() {
                let (weight_grad, bias_grad) = gradients(layer);
                linear::parameter_gradients(&grad, &source, weight_grad, bias_grad);
            }
            let derivative = (self.hidden == Hidden::Tanh).then(|| 1.0 - source.square());
            let through = derivative.as_ref().map_or(Through::Relu(&source), Through::Derivative);
            linear::input_gradient(&target, &grad, weight, through);
            grad = target;
        }
        if let Some(input) = input {
            let (weight_grad, bias_grad) = gradients(0);
            linear::parameter_gradients(&grad, &self.input_of(member, input), weight_grad, bias_grad);
        }
        grad
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
        let mut cache = Cache::default();
        // Of every third row only, as where the loss sees the lowest of three members; of none; of all.
        let third = Tensor::from_slice(&[0f32, 1.0, 0.0]).repeat([3]).view([9, 1]);
        for rows in [&third, &third.zeros_like(), &third.ones_like()] {
            let tracked = input.copy().set_requires_grad(true);
            let output = net.forward(&arena, &input, &mut cache).copy();
            let (expected, parameters) = reference(&net, &arena, &tracked);
            assert!(distance(&output, &expected) < 1e-5);
            let grad_out = rng.normal(&output.size(), Device::Cpu) * rows;
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
