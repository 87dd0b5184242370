//! An ensemble of E equal networks, ReLU unless said otherwise; E = 1 is a plain MLP.
//!
//! Every pass goes member by member, through all layers of one before the next: the weights and activations of one
//! member fit the second-level cache, those of all members do not,
//! and the matrix products of a step are small enough to feel it.

use super::linear::{self, Activation, Through};
use super::ops::{self, Span};
use super::scalar_head::{self, Layers};
use super::{matmul, threads, Arena, ArenaBuilder, Slot};
use crate::rng::Rng;
use drcorl_kernels::gemm::Gates;
use passes::{blocks, rows_of, Activations, Free, Kept, Pass, Plan, Rooms, Rows};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};
use tch::{Kind, Tensor};

pub use passes::Cache;

mod passes;

/// The widths of an MLP's layers, `[inputs, hidden.., outputs]`.
pub fn widths(inputs: i64, hidden: &[i64], outputs: i64) -> Vec<i64> {
    std::iter::once(inputs).chain(hidden.iter().copied()).chain([outputs]).collect()
}

/// What follows every layer but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// max(x, 0)
    Relu,
    /// tanh(x)
    Tanh,
    /// x tanh(log(1 + e^x)), for networks of smooth functions; no configuration names it.
    #[serde(skip)]
    Mish,
}

/// The layout of an ensemble: weights `[E,out,in]` and biases `[E,out]` a layer.
#[derive(Clone)]
pub struct Ensemble {
    members: i64,
    widths: Vec<i64>,
    layers: Vec<(Slot, Slot)>,
    hidden: Hidden,
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

    /// What follows every layer but the last.
    pub fn hidden(&self) -> Hidden {
        self.hidden
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

    /// The gradients of [`Ensemble::values`].
    fn gradients<'a>(&self, arena: &'a Arena, layer: usize, member: i64) -> (&'a Tensor, &'a Tensor) {
        let (weight, bias) = self.layers[layer];
        (arena.member(weight, member).1, arena.member(bias, member).1)
    }

    /// Where the parameters of one member lie in an arena.
    pub fn spans(&self, arena: &Arena, member: i64) -> Vec<Span> {
        let slots = self.layers.iter().flat_map(|&(weight, bias)| [weight, bias]);
        slots.map(|slot| arena.member_span(slot, member)).collect()
    }

    fn hidden_widths(&self) -> &[i64] {
        &self.widths[1..self.widths.len() - 1]
    }

    /// Widths of the hidden layers whose activations are ever in memory.
    fn stored_widths(&self, plan: Plan) -> &[i64] {
        let widths = self.hidden_widths();
        &widths[..widths.len() - usize::from(plan.gated)]
    }

    /// Floating point operations of a pass of all members; a backward pass to all parameters takes two more.
    fn flop(&self, rows: i64) -> i64 {
        let layers = self.widths.windows(2).map(|pair| pair[0] * pair[1]);
        2 * rows * self.members * layers.sum::<i64>()
    }

    /// How the passes of a batch of so many rows go;
    /// `near` says that a member's backward pass comes before the forward pass of the next.
    fn plan(&self, arena: &Arena, rows: i64, near: bool) -> Plan {
        let hidden = self.hidden_widths().len();
        let gated = self.scalar_head() && hidden > 1 && scalar_head::takes(self.values(arena, hidden - 1, 0).0, rows);
        Plan { gated, remade: gated && !near && 4 * self.inputs() <= self.widths[1] }
    }

    /// The last two layers of one member, and the gradients of their parameters.
    fn last_layers<'a>(&self, arena: &'a Arena, member: i64) -> (Layers<'a>, Layers<'a>) {
        let last = self.layers.len() - 1;
        let (inner, head) = (self.gradients(arena, last - 1, member), self.gradients(arena, last, member));
        (
            Layers { inner: self.values(arena, last - 1, member), head: self.values(arena, last, member) },
            Layers { inner, head },
        )
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
        let rows = input.size()[0];
        cache.prepare(self, rows, self.plan(arena, rows, false), self.members, input.device());
        let Cache { plan, kept, rooms, output, .. } = cache;
        let (plan, rooms, output) = (*plan, &*rooms, output.as_ref().expect("prepared above"));
        let kept: Vec<Mutex<&mut Kept>> = kept.iter_mut().map(Mutex::new).collect();
        let pass = |member: usize| {
            let mut kept = kept[member].lock().unwrap_or_else(PoisonError::into_inner);
            self.forward_kept(arena, member as i64, input, plan, &mut kept, rooms, output);
        };
        // SAFETY: a member's pass writes its columns of the output, and what is kept of it.
        unsafe { threads::each_with_tensors(self.members as usize, self.flop(rows), pass) };
        output
    }

    /// [`Ensemble::forward`] without a backward pass to follow, block by block; the result is the caller's.
    pub fn evaluate(&self, arena: &Arena, input: &Tensor, cache: &mut Cache) -> Tensor {
        let (rows, device) = (input.size()[0], input.device());
        let block = blocks(rows, device).next().map_or(0, |(_, count)| count);
        cache.prepare(self, block, self.plan(arena, block, false), 0, device);
        let out = Tensor::empty([rows, self.members * self.outputs()], (Kind::Float, device));
        let blocks: Vec<(i64, i64)> = blocks(rows, device).collect();
        let pass = |task: usize| {
            let (member, (start, count)) = ((task / blocks.len()) as i64, blocks[task % blocks.len()]);
            cache.rooms.lend(device, |room| {
                let room: Vec<Tensor> = room.hidden.iter().map(|buffer| rows_of(buffer, 0, count)).collect();
                let part = |tensor: &Tensor| rows_of(tensor, start, count);
                self.forward_member(arena, member, &part(input), (&room, &[]), None, &part(&out));
            });
        };
        // SAFETY: it writes a block of a member's column of the output.
        unsafe { threads::each_with_tensors(self.members as usize * blocks.len(), self.flop(rows), pass) };
        out
    }

    /// Of one member: its columns of the outputs, and what is kept of it.
    #[allow(clippy::too_many_arguments)]
    fn forward_kept(
        &self,
        arena: &Arena,
        member: i64,
        input: &Tensor,
        plan: Plan,
        kept: &mut Kept,
        rooms: &Rooms,
        output: &Tensor,
    ) {
        for (start, count) in blocks(input.size()[0], input.device()) {
            let part = |tensor: &Tensor| rows_of(tensor, start, count);
            let mut pass = |remade: Option<Tensor>| {
                let hidden: Vec<Tensor> = remade.into_iter().chain(kept.hidden.iter().map(part)).collect();
                let slopes: Vec<Tensor> = kept.slopes.iter().map(part).collect();
                let gates = kept.gates.as_mut().map(|gates| (gates, start as usize));
                self.forward_member(arena, member, &part(input), (&hidden, &slopes), gates, &part(output));
            };
            if plan.remade {
                rooms.lend(input.device(), |room| pass(Some(rows_of(&room.hidden[0], 0, count))));
            } else {
                pass(None);
            }
        }
    }

    /// [`Ensemble::forward_kept`] of one block. Where `hidden` lacks the last hidden layer,
    /// the last two layers are made as one. `slopes` take the derivatives, where they are kept.
    fn forward_member(
        &self,
        arena: &Arena,
        member: i64,
        input: &Tensor,
        (hidden, slopes): (&[Tensor], &[Tensor]),
        gates: Option<(&mut Gates, usize)>,
        output: &Tensor,
    ) {
        let input = self.input_of(member, input);
        let last = self.layers.len() - 1;
        let source = |layer: usize| if layer == 0 { &input } else { &hidden[layer - 1] };
        for (layer, hidden) in hidden.iter().enumerate() {
            self.hidden_layer(arena, layer, member, source(layer), hidden, slopes.get(layer));
        }
        let out = output.narrow(1, member * self.outputs(), self.outputs());
        let (weight, bias) = self.values(arena, last, member);
        if hidden.len() < last {
            scalar_head::forward(&out, source(last - 1), &self.last_layers(arena, member).0, gates);
        } else if self.scalar_head() {
            ops::scalar_head(source(last), weight, bias, output, member);
        } else {
            linear::forward(&out, source(last), weight, bias, Activation::Identity);
        }
    }

    /// Activations `out` of hidden layer `layer` for what that layer sees; `slope` takes their derivatives.
    fn hidden_layer(
        &self,
        arena: &Arena,
        layer: usize,
        member: i64,
        source: &Tensor,
        out: &Tensor,
        slope: Option<&Tensor>,
    ) {
        let (weight, bias) = self.values(arena, layer, member);
        match (self.hidden, slope) {
            (Hidden::Relu, _) => linear::forward(out, source, weight, bias, Activation::Relu),
            (Hidden::Tanh, _) => linear::forward(out, source, weight, bias, Activation::Tanh),
            (Hidden::Mish, None) => linear::forward(out, source, weight, bias, Activation::Mish),
            (Hidden::Mish, Some(slope)) => linear::forward_mish(out, slope, source, weight, bias),
        }
    }

    /// Forward and backward pass of every member by itself: `gradient(member, output [B,E*out])`, in which the columns
    /// of that member are filled, tells `dloss/doutput [B,out]`, and something else;
    /// `after(member)` is called when the gradients of its parameters are in the arena. Returns what was told, member
    /// by member.
    ///
    /// For losses in which no member meets another. Each is done with while its weights and activations are near.
    ///
    /// # Safety
    /// Members may pass side by side: as of [`threads::each_with_tensors`], with `gradient` and `after` of a member
    /// writing what is its own.
    pub unsafe fn sweep<T: Send>(
        &self,
        arena: &mut Arena,
        input: &Tensor,
        cache: &mut Cache,
        gradient: impl Fn(i64, &Tensor) -> (Tensor, T),
        after: impl Fn(&Arena, i64),
    ) -> Vec<T> {
        let (rows, device, arena) = (input.size()[0], input.device(), &*arena);
        let plan = self.plan(arena, rows, true);
        cache.prepare(self, rows, plan, 1, device);
        let free = Free::of(std::mem::take(&mut cache.kept));
        let (rooms, output) = (&cache.rooms, cache.output.as_ref().expect("prepared above"));
        let told: Vec<Mutex<Option<T>>> = (0..self.members).map(|_| Mutex::default()).collect();
        let both = |member: i64, kept: &mut Kept| {
            self.forward_kept(arena, member, input, plan, kept, rooms, output);
            let (grad_out, tells) = gradient(member, output);
            rooms.lend(device, |room| {
                let Kept { hidden, slopes, gates } = &*kept;
                let grads = self.places_of_gradients(arena, hidden, true, &room.hidden);
                let pass = Pass { hidden, slopes, gates: gates.as_ref(), grads: &grads };
                let _ = self.backward_member(arena, member, &self.input_of(member, input), true, &grad_out, &pass);
            });
            after(arena, member);
            tells
        };
        let pass = |member: usize| {
            let tells = free.lend(|| Kept::new(self, rows, plan, device), |kept| both(member as i64, kept));
            *told[member].lock().unwrap_or_else(PoisonError::into_inner) = Some(tells);
        };
        // SAFETY: a member's pass writes its columns of the output and its gradients, and what it has borrowed; of the
        // functions the caller promises it.
        unsafe { threads::each_with_tensors(self.members as usize, 3 * self.flop(rows), pass) };
        cache.kept = free.into_inner();
        let tells = |told: Mutex<Option<T>>| told.into_inner().unwrap_or_else(PoisonError::into_inner);
        told.into_iter().map(|told| tells(told).expect("every member has passed")).collect()
    }

    /// Where the gradients of activations `[N,width]` go: to `room`, or, if nobody asks for the activations again
    /// (`over`) and the passes can do so, to their place, which leaves less memory to keep near.
    fn places_of_gradients(&self, arena: &Arena, hidden: &[Tensor], over: bool, room: &[Tensor]) -> Vec<Tensor> {
        let last = hidden.len();
        let overwrites = |layer: usize, rows: i64| {
            let weight = self.values(arena, layer + 1, 0).0;
            if last < self.hidden_widths().len() && layer + 1 == last {
                scalar_head::overwrites(weight)
            } else {
                matmul::overwrites(weight, rows)
            }
        };
        let place = |(layer, (hidden, room)): (usize, (&Tensor, &Tensor))| {
            let rows = hidden.size()[0];
            if over && overwrites(layer, rows) {
                hidden.shallow_clone()
            } else {
                rows_of(room, 0, rows)
            }
        };
        hidden.iter().zip(room).enumerate().map(place).collect()
    }

    /// Backward pass of the last [`Ensemble::forward`] with the same arena, input and cache.
    ///
    /// `grad_out [B,E*out]`. The gradients of all layers are written to the arena.
    pub fn backward(&self, arena: &Arena, input: &Tensor, grad_out: &Tensor, cache: &mut Cache) {
        self.backward_all(arena, input, true, grad_out, cache, |_, _, _| {});
    }

    /// [`Ensemble::backward`], and the gradient with respect to a shared input.
    pub fn backward_to_input(&self, arena: &Arena, input: &Tensor, grad_out: &Tensor, cache: &mut Cache) -> Tensor {
        self.first_layer_gradient(arena, input, true, grad_out, cache)
    }

    /// Gradient of `sum(grad_out * output)` with respect to a shared input `[B,in]`, summed over members;
    /// those of the parameters are left alone.
    pub fn input_gradient(&self, arena: &Arena, input: &Tensor, grad_out: &Tensor, cache: &mut Cache) -> Tensor {
        self.first_layer_gradient(arena, input, false, grad_out, cache)
    }

    /// As [`Ensemble::input_gradient`], with respect to an input of own rows a member: `[B,E*in]`.
    pub fn own_input_gradient(&self, arena: &Arena, input: &Tensor, grad_out: &Tensor, cache: &mut Cache) -> Tensor {
        let (rows, width) = (grad_out.size()[0], self.widths[0]);
        let out = Tensor::zeros([rows, self.members * width], (Kind::Float, grad_out.device()));
        self.backward_all(arena, input, false, grad_out, cache, |member, grad, live| {
            let weight = self.values(arena, 0, member).0;
            let mut columns = out.narrow(1, member * width, width);
            let Some(live) = live else { return linear::input_gradient(&columns, grad, weight, Through::Nothing) };
            let part = Tensor::empty([grad.size()[0], width], (Kind::Float, grad.device()));
            linear::input_gradient(&part, grad, weight, Through::Nothing);
            let _ = columns.index_copy_(0, live, &part);
        });
        out
    }

    /// As [`Ensemble::backward_all`]; the members' gradients of the first layer meet its stacked weights in one
    /// product.
    fn first_layer_gradient(
        &self,
        arena: &Arena,
        input: &Tensor,
        parameters: bool,
        grad_out: &Tensor,
        cache: &mut Cache,
    ) -> Tensor {
        let (rows, device) = (grad_out.size()[0], grad_out.device());
        let buffer = |width: i64| Tensor::empty([rows, width], (Kind::Float, device));
        let width = self.widths[1];
        let first = buffer(self.members * width);
        self.backward_all(arena, input, parameters, grad_out, cache, |member, grad, rows| {
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

    /// Backward pass of every member; `first(member, grad [N,width], rows [N])` sees the gradient at the first layer's
    /// pre-activations, where it is not 0; without `rows`, everywhere.
    fn backward_all(
        &self,
        arena: &Arena,
        input: &Tensor,
        parameters: bool,
        grad_out: &Tensor,
        cache: &mut Cache,
        first: impl Fn(i64, &Tensor, Option<&Tensor>),
    ) {
        let (rows, device) = (grad_out.size()[0], grad_out.device());
        let Cache { plan, kept, rooms, .. } = &*cache;
        let pass = |task: usize| {
            // The last member's activations are the nearest.
            let member = self.members - 1 - task as i64;
            let grad_out = grad_out.narrow(1, member * self.outputs(), self.outputs());
            // Derivatives are kept of all rows.
            let live = if self.hidden == Hidden::Mish { None } else { Rows::live(&grad_out) };
            let of_rows = |tensor: Tensor| match &live {
                Some(rows) => tensor.index_select(0, &rows.index),
                None => tensor,
            };
            let (input, grad_out) = (of_rows(self.input_of(member, input)), of_rows(grad_out));
            let remake = |out: &Tensor| self.hidden_layer(arena, 0, member, &input, out, None);
            rooms.lend(device, |room| {
                let kept = &kept[member as usize];
                let Activations { hidden, slopes, gates, own } = kept.activations(*plan, room, live.as_ref(), remake);
                let grads = self.places_of_gradients(arena, &hidden, own, &room.hidden);
                let pass = Pass { hidden: &hidden, slopes, gates: gates.as_deref(), grads: &grads };
                let grad = self.backward_member(arena, member, &input, parameters, &grad_out, &pass);
                first(member, &grad, live.as_ref().map(|rows| &rows.index));
            });
        };
        let flop = if parameters { 2 } else { 1 } * self.flop(rows);
        // SAFETY: a member's pass writes its gradients and the activations that were kept of it; `first` writes what is
        // the member's.
        unsafe { threads::each_with_tensors(self.members as usize, flop, pass) };
    }

    /// Carries `grad_out [N,out]` of one member to the pre-activations of its first layer: `[N,width]`. If asked for,
    /// the gradients of its parameters, for its `input [N,in]`, are written to the arena.
    fn backward_member(
        &self,
        arena: &Arena,
        member: i64,
        input: &Tensor,
        parameters: bool,
        grad_out: &Tensor,
        pass: &Pass,
    ) -> Tensor {
        let Pass { hidden, slopes, gates, grads } = pass;
        let mut last = self.layers.len() - 1;
        let mut grad = grad_out.contiguous();
        if let Some(gates) = gates {
            last -= 2;
            let (values, gradients) = self.last_layers(arena, member);
            if parameters {
                scalar_head::parameter_gradients(&grad, &hidden[last], gates, &values, &gradients);
            }
            scalar_head::input_gradient(&grads[last], &grad, gates, &values, &hidden[last]);
            grad = grads[last].shallow_clone();
        } else if self.scalar_head() {
            let (weight, _) = self.values(arena, last, member);
            let gradients = parameters.then(|| self.gradients(arena, last, member));
            last -= 1;
            ops::scalar_head_backward(&hidden[last], weight, &grad, &grads[last], gradients);
            grad = grads[last].shallow_clone();
        }
        for layer in (1..=last).rev() {
            let (weight, _) = self.values(arena, layer, member);
            let (source, target) = (&hidden[layer - 1], &grads[layer - 1]);
            if parameters {
                let (weight_grad, bias_grad) = self.gradients(arena, layer, member);
                linear::parameter_gradients(&grad, source, weight_grad, bias_grad);
            }
            let derivative: Tensor;
            let through = match self.hidden {
                Hidden::Relu => Through::Relu(source),
                Hidden::Tanh => {
                    derivative = 1.0 - source.square();
                    Through::Derivative(&derivative)
                }
                Hidden::Mish => Through::Derivative(&slopes[layer - 1]),
            };
            linear::input_gradient(target, &grad, weight, through);
            grad = target.shallow_clone();
        }
        if parameters {
            let (weight_grad, bias_grad) = self.gradients(arena, 0, member);
            linear::parameter_gradients(&grad, input, weight_grad, bias_grad);
        }
        grad
    }
}

#[cfg(test)]
mod tests;
