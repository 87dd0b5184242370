//! An ensemble with its parameters, optimiser, and optional target copy: what every critic and every policy is made of.

use super::{ops, Arena, ArenaBuilder, Cache, Ensemble, Hidden, Traced};
use crate::checkpoint::State;
use crate::error::Result;
use crate::optim::{soft_update, Adam, AdamConfig};
use crate::rng::Rng;
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor};

/// A trainable ensemble.
pub struct Head {
    net: Ensemble,
    online: Arena,
    target: Option<Arena>,
    adam: Adam,
    cache: Cache,
    other_cache: Cache,
    /// Where buffers wait while another head works; None for a head that keeps its own.
    turns: Option<Turns>,
}

/// Buffers of the passes of heads that learn one after the other: who is at work finds those of the last one near.
#[derive(Clone, Default)]
struct Turns(Arc<Mutex<(Cache, Cache)>>);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, (Cache, Cache)> {
        // Poisoned buffers are as good as any: they hold no state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        Head { net, online, target, adam, cache: Cache::default(), other_cache: Cache::default(), turns: None }
    }

    /// As [`Head::new`], one head a name, that learn one after the other: from one's [`Head::forward`] to its
    /// [`Head::step`] no other passes anything. They share the buffers of their passes, which so stay in the cache of
    /// the processor.
    pub fn in_turn<const N: usize>(
        names: [&str; N],
        members: usize,
        widths: &[i64],
        device: Device,
        rng: &mut Rng,
    ) -> [Head; N] {
        let turns = Turns::default();
        names.map(|name| Head { turns: Some(turns.clone()), ..Head::new(name, members, widths, false, device, rng) })
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
        if let Some(turns) = self.turns.as_ref().filter(|_| self.cache.output().is_none()) {
            self.cache = std::mem::take(&mut turns.lock().0);
        }
        self.net.forward(&self.online, input, &mut self.cache)
    }

    /// Live outputs `[B,E*out]` that leave the activations of [`Head::forward`] alone.
    pub fn evaluate(&mut self, input: &Tensor) -> Tensor {
        if let Some(turns) = &self.turns {
            return self.net.evaluate(&self.online, input, &mut turns.lock().1);
        }
        self.net.evaluate(&self.online, input, &mut self.other_cache)
    }

    /// Lagged outputs `[B,E*out]`.
    pub fn evaluate_target(&mut self, input: &Tensor) -> Tensor {
        let arena = self.target.as_ref().unwrap_or(&self.online);
        self.net.evaluate(arena, input, &mut self.other_cache)
    }

    /// The value of a term of the lagged outputs `[B,E]`, and its gradient for the input, `[B,in]`; `term` answers with
    /// the value and its derivative for the outputs.
    pub fn target_input_gradient(&mut self, input: &Tensor, term: impl FnOnce(&Tensor) -> Term) -> Term {
        let arena = self.target.as_ref().unwrap_or(&self.online);
        input_gradient(&self.net, arena, &mut self.other_cache, input, term)
    }

    /// As [`Head::target_input_gradient`], of the live parameters.
    pub fn input_gradient(&mut self, input: &Tensor, term: impl FnOnce(&Tensor) -> Term) -> Term {
        input_gradient(&self.net, &self.online, &mut self.other_cache, input, term)
    }

    /// Live outputs `[B,E*out]` that leave their activations in `cache`, for [`Head::gradient_from`].
    pub fn forward_into(&self, input: &Tensor, cache: &mut Cache) -> Tensor {
        self.net.forward(&self.online, input, cache).copy()
    }

    /// The gradient `[B,E*in]` of `sum(slope * outputs)` for the `input [B,E*in]`, own rows a member, that
    /// [`Head::forward_into`] saw.
    pub fn gradient_from(&self, input: &Tensor, slope: &Tensor, cache: &mut Cache) -> Tensor {
        self.net.own_input_gradient(&self.online, input, slope, cache)
    }

    /// The lagged networks as they are, for gradients through them and others.
    pub fn traced_target(&self) -> Traced {
        Traced::of(&self.net, self.target())
    }

    /// The live networks as they are, likewise.
    pub fn traced(&self) -> Traced {
        Traced::of(&self.net, &self.online)
    }

    /// Gradients of the last [`Head::forward`] with the same input, left in the live arena; `grad_out [B,E*out]`.
    pub fn backward(&mut self, input: &Tensor, grad_out: &Tensor) {
        self.net.backward(&self.online, input, grad_out, &mut self.cache);
    }

    /// One Adam step along the gradients in the live arena.
    pub fn step(&mut self, lr: f64) {
        self.adam.step(&mut self.online, lr);
        if let Some(turns) = &self.turns {
            turns.lock().0 = std::mem::take(&mut self.cache);
        }
    }

    /// [`Head::backward`] and [`Head::step`].
    pub fn descend(&mut self, input: &Tensor, grad_out: &Tensor, lr: f64) {
        self.backward(input, grad_out);
        self.step(lr);
    }

    /// One Adam step of every member along its own gradient: `gradient(member, live outputs [B,E*out], given)` is it,
    /// `[B,out]`, and something that is told to the caller, member by member. Of the outputs it reads that member's
    /// columns. The lagged copy follows by `rate` (0: not). See [`Ensemble::sweep`].
    pub fn descend_each<T: Send>(
        &mut self,
        input: &Tensor,
        given: &Tensor,
        lr: f64,
        rate: f64,
        gradient: impl Fn(i64, &Tensor, &Tensor) -> (Tensor, T) + Sync,
    ) -> Vec<T> {
        let Head { net, online, target, adam, cache, .. } = self;
        let scalars = adam.begin(lr);
        let (adam, target) = (&*adam, target.as_ref().filter(|_| rate != 0.0));
        let step = |online: &Arena, member: i64| {
            let spans = net.spans(online, member);
            adam.apply_beside(online, scalars, &spans);
            if let Some(target) = target {
                ops::ema(target.values(), online.values(), &spans, rate);
            }
        };
        // SAFETY: a step writes the member's parameters, moments and lagged parameters; `given` is read only.
        unsafe { net.sweep(online, input, cache, |member, outputs| gradient(member, outputs, given), step) }
    }

    /// [`Head::descend_each`] of one network.
    ///
    /// # Panics
    /// If there are more.
    pub fn descend_alone(&mut self, input: &Tensor, lr: f64, gradient: impl FnOnce(&Tensor) -> Tensor) {
        let Head { net, online, adam, cache, .. } = self;
        assert_eq!(net.members(), 1, "one network");
        let (scalars, gradient) = (adam.begin(lr), Cell::new(Some(gradient)));
        let gradient = |_, outputs: &Tensor| (gradient.take().expect("one network")(outputs), ());
        let step = |online: &Arena, member| adam.apply_beside(online, scalars, &net.spans(online, member));
        // SAFETY: the only member has no other beside it.
        unsafe { net.sweep(online, input, cache, gradient, step) };
    }

    /// [`Head::descend_each`] of scalar outputs along `scale` times the error against `target [B,1]` or `[B,E]`.
    /// Returns the sum of all squared errors.
    pub fn regress(&mut self, input: &Tensor, target: &Tensor, scale: f64, lr: f64, rate: f64) -> f64 {
        let error = |member, outputs: &Tensor, target: &Tensor| {
            let grad = Tensor::empty([outputs.size()[0], 1], (Kind::Float, outputs.device()));
            let squares = ops::squared_error(outputs, target, member, scale, &grad);
            (grad, squares)
        };
        self.descend_each(input, target, lr, rate, error).into_iter().sum()
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

/// A value, and a gradient.
type Term = (Tensor, Tensor);

fn input_gradient(
    net: &Ensemble,
    arena: &Arena,
    cache: &mut Cache,
    input: &Tensor,
    term: impl FnOnce(&Tensor) -> Term,
) -> Term {
    let outputs = net.forward(arena, input, cache).copy();
    let (value, slope) = term(&outputs);
    (value, net.input_gradient(arena, input, &slope, cache))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads in turn learn what heads with buffers of their own learn, and leave their buffers to the next one.
    #[test]
    fn heads_in_turn_share_nothing_but_buffers() {
        let (names, widths) = (["nu", "chi"], [3, 8, 8, 1]);
        let mut sharing = Head::in_turn(names, 2, &widths, Device::Cpu, &mut Rng::new(4, 0));
        let mut rng = Rng::new(4, 0);
        let mut alone = names.map(|name| Head::new(name, 2, &widths, false, Device::Cpu, &mut rng));
        let input = rng.normal(&[20, 3], Device::Cpu);
        let mut places = Vec::new();
        for _ in 0..3 {
            for (one, other) in sharing.iter_mut().zip(&mut alone) {
                for head in [&mut *one, other] {
                    let grad = head.forward(&input) - 1.0;
                    head.descend(&input, &grad, 1e-2);
                }
                assert_eq!(one.evaluate(&input), other.evaluate(&input));
                places.push(one.turns.as_ref().unwrap().lock().0.output().unwrap().data_ptr());
                assert!(one.cache.output().is_none());
            }
        }
        assert!(places.iter().all(|place| *place == places[0]));
    }
}
