//! The deterministic policy every actor-only algorithm here trains: `a = tanh(MLP(s))` in the normalised box.

use crate::checkpoint::State;
use crate::dataset::Normalizer;
use crate::error::{Error, Result};
use crate::nn::{Arena, Head};
use crate::optim::soft_update;
use crate::rng::Rng;
use drcorl_actor::{Actor, LayerParts, Parts};
use tch::{Device, Kind, Tensor};

/// A tanh policy with its optimiser and, if wanted, a running average of its weights.
pub struct Policy {
    head: Head,
    average: Option<Arena>,
}

impl Policy {
    /// `[S, hidden.., A]`; with `averaged`, an exponential average of the weights is kept beside the live ones.
    pub fn new(observations: i64, actions: i64, hidden: &[i64], averaged: bool, device: Device, rng: &mut Rng) -> Self {
        let widths: Vec<i64> = std::iter::once(observations).chain(hidden.iter().copied()).chain([actions]).collect();
        let head = Head::new("policy", 1, &widths, false, device, rng);
        let average = averaged.then(|| head.online().duplicate());
        Policy { head, average }
    }

    /// Live parameters, for loading.
    pub fn arena_mut(&mut self) -> &mut Arena {
        self.head.online_mut()
    }

    /// Live parameters.
    pub fn arena(&self) -> &Arena {
        self.head.online()
    }

    /// Live actions `[B,A]` for normalised observations `[B,S]`, kept for [`Policy::backward`].
    pub fn forward(&mut self, observation: &Tensor) -> Tensor {
        self.head.forward(observation).tanh()
    }

    /// Live actions `[B,A]`, leaving the activations of [`Policy::forward`] alone.
    pub fn act(&mut self, observation: &Tensor) -> Tensor {
        self.head.evaluate(observation).tanh()
    }

    /// Gradient `[P]` of a loss with `dloss/daction = grad_action [B,A]` at `action` from the last [`Policy::forward`]; a copy.
    pub fn backward(&mut self, observation: &Tensor, action: &Tensor, grad_action: &Tensor) -> Tensor {
        let grad_out = grad_action * (1.0 - action.square());
        self.head.backward(observation, &grad_out);
        self.head.online().gradients().copy()
    }

    /// One Adam step along `gradient [P]`; the average follows by `1 - keep`.
    pub fn apply(&mut self, gradient: &Tensor, lr: f64, keep: f64) {
        self.head.online().gradients().shallow_clone().copy_(gradient);
        self.head.step(lr);
        if let Some(average) = &mut self.average {
            soft_update(average, self.head.online(), 1.0 - keep);
        }
    }

    /// Starts the average again from the live weights.
    pub fn restart_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.copy_from(self.head.online());
        }
    }

    /// A frozen copy of the averaged weights (the live ones where no average is kept).
    pub fn averaged(&self) -> FrozenPolicy {
        FrozenPolicy::copy(&self.head, self.average.as_ref().unwrap_or(self.head.online()))
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> Result<()> {
        state.group("head", |state| self.head.persist(state))?;
        match &mut self.average {
            Some(average) => state.group("average", |state| average.persist(state)),
            None => Ok(()),
        }
    }
}

/// Weights of a policy at one moment: `(weight [out,in], bias [out])` a layer.
pub struct FrozenPolicy {
    layers: Vec<(Tensor, Tensor)>,
}

impl FrozenPolicy {
    fn copy(head: &Head, arena: &Arena) -> Self {
        let layers = head.net().layers(arena).map(|(w, b)| (w.select(0, 0).copy(), b.select(0, 0).copy())).collect();
        FrozenPolicy { layers }
    }

    /// An independent copy.
    pub fn duplicate(&self) -> FrozenPolicy {
        FrozenPolicy { layers: self.layers.iter().map(|(weight, bias)| (weight.copy(), bias.copy())).collect() }
    }

    /// Actions `[B,A]` for normalised observations `[B,S]`.
    pub fn act(&self, observation: &Tensor) -> Tensor {
        let last = self.layers.len() - 1;
        let mut x = observation.shallow_clone();
        for (i, (weight, bias)) in self.layers.iter().enumerate() {
            x = bias.addmm(&x, &weight.tr());
            x = if i < last { x.relu() } else { x.tanh() };
        }
        x
    }

    /// The actor file's content: weights, normaliser and action box.
    pub fn actor(&self, normalizer: &Normalizer) -> Result<Actor> {
        let flat = |tensor: &Tensor| -> Result<Vec<f32>> {
            let host = tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
            Ok(Vec::<f32>::try_from(&host)?)
        };
        let layers = self
            .layers
            .iter()
            .map(|(weight, bias)| Ok(LayerParts { weight: flat(weight)?, bias: flat(bias)? }))
            .collect::<Result<_>>()?;
        Actor::new(Parts {
            layers,
            observation_mean: normalizer.observation_mean.clone(),
            observation_std: normalizer.observation_std.clone(),
            action_low: normalizer.action_low.clone(),
            action_high: normalizer.action_high.clone(),
        })
        .map_err(|error| Error::Data(error.to_string()))
    }

    /// Saves or restores a frozen policy of known shape.
    pub fn persist(&mut self, state: &mut State) -> Result<()> {
        for (i, (weight, bias)) in self.layers.iter_mut().enumerate() {
            state.tensor(&format!("{i}.weight"), weight)?;
            state.tensor(&format!("{i}.bias"), bias)?;
        }
        Ok(())
    }
}
