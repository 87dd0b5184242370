//! An ensemble with its parameters, optimiser, and optional target copy: what every critic and every policy is made of.

use super::{ops, Arena, ArenaBuilder, Cache, Ensemble, Hidden};
use crate::checkpoint::State;
use crate::error::Result;
use crate::optim::{soft_update, soft_update_parts, Adam, AdamConfig};
use crate::rng::Rng;
use tch::{Device, Kind, Tensor};

/// A trainable ensemble.
pub struct Head {
    net: Ensemble,
    online: Arena,
    target: Option<Arena>,
    adam: Adam,
    cache: Cache,
    other_cache: Cache,
}

impl Head {
    /// A freshly initialised ensemble of `members` networks with `widths` = [in, hidden.., out];
    /// `target` keeps a lagged copy.
    pub fn new(name: &str, members: usize, widths: &[i64], target: bool, device: Device, rng: &mut Rng) -> Self {
        Head::with_hidden(name, members, widths, Hidden::Relu, target, device, rng)
    }

    /// As [`Head::new`] with another activation between layers.
    pub fn with_hidden(
        name: &str,
        members: usize,
        widths: &[i64],
        hidden: Hidden,
        target: bool,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let mut builder = ArenaBuilder::default();
        let net = Ensemble::new(&mut builder, name, members, widths, rng).with_hidden(hidden);
        let online = builder.build(device);
        let target = target.then(|| online.duplicate());
        let adam = Adam::new(&online, AdamConfig::default());
        Head { net, online, target, adam, cache: Cache::default(), other_cache: Cache::default() }
    }

    /// Number of members E.
    pub fn members(&self) -> i64 {
        self.net.members()
    }

    /// The layout, for readers of single layers.
    pub fn net(&self) -> &Ensemble {
        &self.net
    }

    /// Live parameters.
    pub fn online(&self) -> &Arena {
        &self.online
    }

    /// Live parameters, for loading.
    pub fn online_mut(&mut self) -> &mut Arena {
        &mut self.online
    }

    /// Lagged parameters; the live ones where no copy is kept.
    pub fn target(&self) -> &Arena {
        self.target.as_ref().unwrap_or(&self.online)
    }

    /// Lagged parameters, for loading.
    pub fn target_mut(&mut self) -> Option<&mut Arena> {
        self.target.as_mut()
    }

    /// Live outputs `[B,E*out]`; kept for [`Head::descend`].
    pub fn forward(&mut self, input: &Tensor) -> &Tensor {
        self.net.forward(&self.online, input, &mut self.cache)
    }

    /// Live outputs `[B,E*out]` that leave the activations of [`Head::forward`] alone.
    pub fn evaluate(&mut self, input: &Tensor) -> Tensor {
        self.net.evaluate(&self.online, input, &mut self.other_cache)
    }

    /// Lagged outputs `[B,E*out]`.
    pub fn evaluate_target(&mut self, input: &Tensor) -> Tensor {
        let arena = self.target.as_ref().unwrap_or(&self.online);
        self.net.evaluate(arena, input, &mut self.other_cache)
    }

    /// Lagged outputs `[B,E]` and the gradient with respect to the input `[B,in]` of `sum(weights(outputs) * outputs)`.
    pub fn target_input_gradient(
        &mut self,
        input: &Tensor,
        weights: impl FnOnce(&Tensor) -> Tensor,
    ) -> (Tensor, Tensor) {
        let arena = self.target.as_ref().unwrap_or(&self.online);
        probe(&self.net, arena, &mut self.other_cache, input, weights)
    }

    /// As [`Head::target_input_gradient`], of the live parameters.
    pub fn input_gradient(&mut self, input: &Tensor, weights: impl FnOnce(&Tensor) -> Tensor) -> (Tensor, Tensor) {
        probe(&self.net, &self.online, &mut self.other_cache, input, weights)
    }

    /// Gradients of the last [`Head::forward`] with the same input, left in the live arena; `grad_out [B,E*out]`.
    pub fn backward(&mut self, input: &Tensor, grad_out: &Tensor) {
        self.net.backward(&self.online, input, grad_out, &mut self.cache);
    }

    /// One Adam step along the gradients in the live arena.
    pub fn step(&mut self, lr: f64) {
        self.adam.step(&mut self.online, lr);
    }

    /// [`Head::backward`] and [`Head::step`].
    pub fn descend(&mut self, input: &Tensor, grad_out: &Tensor, lr: f64) {
        self.backward(input, grad_out);
        self.step(lr);
    }

    /// One Adam step of every member along its own gradient: `gradient(member, live outputs [B,E*out]) -> [B,out]`. The
    /// lagged copy follows by `rate` (0: not). Member by member, see [`Ensemble::sweep`].
    pub fn descend_each(&mut self, input: &Tensor, lr: f64, rate: f64, gradient: impl FnMut(i64, &Tensor) -> Tensor) {
        let Head { net, online, target, adam, cache, .. } = self;
        let scalars = adam.begin(lr);
        net.sweep(online, input, cache, gradient, |online, member| {
            let spans = net.spans(online, member);
            adam.apply(online, scalars, &spans);
            if let Some(target) = target.as_mut().filter(|_| rate != 0.0) {
                soft_update_parts(target, online, rate, &spans);
            }
        });
    }

    /// [`Head::descend_each`] of scalar outputs along `scale` times the error against `target [B,1]` or `[B,E]`.
    /// Returns the sum of all squared errors.
    pub fn regress(&mut self, input: &Tensor, target: &Tensor, scale: f64, lr: f64, rate: f64) -> f64 {
        let target = target.contiguous();
        let grad = Tensor::empty([input.size()[0], 1], (Kind::Float, input.device()));
        let mut squares = 0.0;
        self.descend_each(input, lr, rate, |member, outputs| {
            squares += ops::squared_error(outputs, &target, member, scale, &grad);
            grad.shallow_clone()
        });
        squares
    }

    /// Gives the buffers of its passes to a head of the same widths, whose passes then find them near.
    /// What they held is lost.
    pub fn hand_buffers_to(&mut self, other: &mut Head) {
        other.cache = std::mem::take(&mut self.cache);
        other.other_cache = std::mem::take(&mut self.other_cache);
    }

    /// Live outputs `[B,E*out]` that the last [`Head::forward`], [`Head::descend_each`] or [`Head::regress`] saw.
    pub fn outputs(&self) -> Tensor {
        self.cache.output().expect("a forward pass came before").copy()
    }

    /// Moves the lagged parameters by `rate` towards the live ones.
    pub fn follow(&mut self, rate: f64) {
        if let Some(target) = &mut self.target {
            soft_update(target, &self.online, rate);
        }
    }

    /// Saves or restores parameters, lagged parameters and moments.
    pub fn persist(&mut self, state: &mut State) -> Result<()> {
        state.group("online", |state| self.online.persist(state))?;
        if let Some(target) = &mut self.target {
            state.group("target", |state| target.persist(state))?;
        }
        state.group("adam", |state| self.adam.persist(state))
    }
}

fn probe(
    net: &Ensemble,
    arena: &Arena,
    cache: &mut Cache,
    input: &Tensor,
    weights: impl FnOnce(&Tensor) -> Tensor,
) -> (Tensor, Tensor) {
    let outputs = net.forward(arena, input, cache).copy();
    let grad_out = weights(&outputs);
    let gradient = net.input_gradient(arena, input, &grad_out, cache);
    (outputs, gradient)
}
