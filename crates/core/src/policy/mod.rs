//! What a policy is to the rest of the house ([`FrozenPolicy`]), and the commonest one:
//! `a = tanh(MLP(s))` in the normalised box.
//!
//! A policy lives twice: as tensors here, where training and the offline judges need it in batches on the device, and
//! as a file for the crate `drcorl-actor`, which needs no tensor library. Both compute the same function.

mod diffusion;
mod gaussian;
mod latent;
mod loaded;
mod mixture;
mod played;

pub use diffusion::{Chain, Choice, DiffusionLevels, FrozenDiffusion};
pub use gaussian::{Drawn, Spread, LOG_STD};
pub use latent::{FrozenLatent, Perturbation};
pub use loaded::LoadedPolicy;
pub use mixture::mixture;
pub use played::PlayedFile;

use crate::error::Result;
use drcorl_actor::PolicyFile;
use drcorl_nn::checkpoint::State;
use drcorl_nn::losses::through_tanh;
use drcorl_nn::matmul;
use drcorl_nn::optim::soft_update;
use drcorl_nn::rng::Rng;
use drcorl_nn::{Arena, Ensemble, Head, Hidden, SquashedActor};
use tch::{Device, Kind, Tensor};

/// What the environment, or a model of it, shows `B` rows.
pub struct Turn<'a> {
    /// `[B,S]`, normalised.
    pub observation: &'a Tensor,
    /// `[B,1]`, raw reward of the previous step; 0 at an episode's first.
    pub reward: &'a Tensor,
    /// `[B,1]`, raw cost of the previous step, likewise.
    pub cost: &'a Tensor,
}

/// A policy during `B` episodes side by side.
pub trait Player {
    /// Actions `[B,A]` in [-1,1] for the next step.
    fn act(&mut self, turn: &Turn<'_>) -> Tensor;
}

/// A policy without memory is a function of the observation.
impl<F: FnMut(&Tensor) -> Tensor> Player for F {
    fn act(&mut self, turn: &Turn<'_>) -> Tensor {
        self(turn.observation)
    }
}

/// Actions that a policy drew, of which it takes the one with the highest score.
pub struct Candidates {
    /// `[B,N,A]` in [-1,1].
    pub actions: Tensor,
    /// `[B,N]`
    pub scores: Tensor,
}

impl Candidates {
    /// The chosen actions `[B,A]`; the first of equals.
    pub fn best(&self) -> Tensor {
        let width = self.actions.size()[2];
        let index = self.scores.argmax(1, true).unsqueeze(2).expand([-1, 1, width], false);
        self.actions.gather(1, &index, false).squeeze_dim(1)
    }
}

/// A policy at one moment of training: what is judged and what ships.
pub trait FrozenPolicy: Send {
    /// The policy at the start of `rows` episodes.
    fn start(&self, rows: i64) -> Box<dyn Player + '_>;

    /// True if an action depends on more than the observation and chance.
    /// Estimators that look at single transitions then do not apply.
    fn remembers(&self) -> bool {
        false
    }

    /// Products of two numbers an action takes on average, for a policy whose actions may take long; 0 for others.
    fn work(&self) -> f64 {
        0.0
    }

    /// Actions `[B,A]` for normalised observations `[B,S]` at the first step of an episode,
    /// which for a policy without memory is any.
    fn act(&self, observation: &Tensor) -> Tensor {
        let rows = observation.size()[0];
        let zero = Tensor::zeros([rows, 1], (Kind::Float, observation.device()));
        self.start(rows).act(&Turn { observation, reward: &zero, cost: &zero })
    }

    /// What an action at the first step of an episode is chosen from, for normalised observations `[B,S]`; none for a
    /// policy that does not choose.
    fn candidates(&self, _observation: &Tensor) -> Option<Candidates> {
        None
    }

    /// The policy as a file, without what the trainer adds: normaliser, action box, origin.
    fn file(&self) -> Result<PolicyFile>;
}

/// A tanh policy with its optimiser and, if wanted, a running average of its weights. It is deterministic, or the mean
/// of a Gaussian ([`Policy::spread`]).
pub struct Policy {
    head: Head,
    average: Option<Arena>,
    spread: Spread,
}

impl Policy {
    /// `[S, hidden.., A]`; with `averaged`, an exponential average of the weights is kept beside the live ones.
    pub fn new(observations: i64, actions: i64, hidden: &[i64], averaged: bool, device: Device, rng: &mut Rng) -> Self {
        Policy::spread(observations, actions, hidden, Spread::None, averaged, device, rng)
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

    /// Live actions `[B,A]`, of a Gaussian its mean, leaving the activations of [`Policy::forward`] alone.
    pub fn act(&mut self, observation: &Tensor) -> Tensor {
        let outputs = self.head.evaluate(observation);
        self.spread.mean(&outputs).tanh()
    }

    /// Gradient `[P]` of a loss with `dloss/daction = grad_action [B,A]` at `action` from the last [`Policy::forward`];
    /// a copy.
    pub fn backward(&mut self, observation: &Tensor, action: &Tensor, grad_action: &Tensor) -> Tensor {
        self.head.backward(observation, &through_tanh(action, grad_action));
        self.head.online().gradients().copy()
    }

    /// One Adam step along `gradient [P]`; the average follows by `1 - keep`.
    pub fn apply(&mut self, gradient: &Tensor, lr: f64, keep: f64) {
        self.step(gradient, lr);
        self.follow(keep);
    }

    fn step(&mut self, gradient: &Tensor, lr: f64) {
        self.head.online().gradients().shallow_clone().copy_(gradient);
        self.head.step(lr);
    }

    /// One Adam step along `dloss/daction = gradient(live actions [B,A]) [B,A]`; the average follows by `1 - keep`.
    pub fn descend(&mut self, observation: &Tensor, lr: f64, keep: f64, gradient: impl FnOnce(&Tensor) -> Tensor) {
        self.head.descend_alone(observation, lr, |outputs| {
            let action = outputs.tanh();
            through_tanh(&action, &gradient(&action))
        });
        self.follow(keep);
    }

    fn follow(&mut self, keep: f64) {
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

    /// A frozen copy of the live weights.
    pub fn live(&self) -> FrozenMlp {
        FrozenMlp::copy(self.head.net(), self.head.online()).spread(self.spread)
    }

    /// As [`Policy::live`], with `values [P]` in the place of the live weights.
    pub fn at(&self, values: &Tensor) -> FrozenMlp {
        let arena = self.head.online().duplicate();
        arena.values().shallow_clone().copy_(values);
        FrozenMlp::copy(self.head.net(), &arena).spread(self.spread)
    }

    /// A frozen copy of the averaged weights (the live ones where no average is kept).
    pub fn averaged(&self) -> FrozenMlp {
        let arena = self.average.as_ref().unwrap_or(self.head.online());
        FrozenMlp::copy(self.head.net(), arena).spread(self.spread)
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("head", |state| self.head.persist(state))?;
        match &mut self.average {
            Some(average) => state.group("average", |state| average.persist(state)),
            None => Ok(()),
        }
    }
}

/// A `[..]` tensor as host numbers, row-major.
pub fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::<f32>::try_from(&tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]))?)
}

/// `(weight [out,in], bias [out])` of every layer of one member of an ensemble, copied.
pub fn copy_layers(net: &Ensemble, arena: &Arena, member: i64) -> Vec<(Tensor, Tensor)> {
    net.layers(arena).map(|(w, b)| (w.select(0, member).copy(), b.select(0, member).copy())).collect()
}

/// The network of `layers` on `input [B,in]`.
fn run_layers(layers: &[(Tensor, Tensor)], input: &Tensor, hidden: Hidden) -> Tensor {
    let last = layers.len() - 1;
    layers.iter().enumerate().fold(input.shallow_clone(), |x, (i, (weight, bias))| {
        let mut x = matmul::affine(&x, weight, bias);
        match hidden {
            _ if i == last => x,
            Hidden::Relu => x.relu_(),
            Hidden::Tanh => x.tanh_(),
            Hidden::Mish => x.mish_(),
        }
    })
}

/// Adds the layers of a network to a policy file under `name`.
pub fn insert_layers(file: &mut PolicyFile, name: &str, layers: &[(Tensor, Tensor)]) -> Result<()> {
    for (index, (weight, bias)) in layers.iter().enumerate() {
        file.insert_layer(name, index, host(weight)?, host(bias)?);
    }
    Ok(())
}

/// An input of a [`FrozenMlp`] that is no observation: a number the user may change before the policy plays.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Name of the setting.
    pub name: &'static str,
    pub value: f64,
    /// The network reads `(value - mean) / std` after the observation.
    pub mean: f64,
    pub std: f64,
}

/// How outputs of a network become actions in [-1,1].
#[derive(Clone, Copy, PartialEq)]
enum Squash {
    Tanh,
    Clamp,
}

/// A ReLU network of the observation, at one moment, whose outputs are squashed into [-1,1]:
/// by tanh unless said otherwise.
pub struct FrozenMlp {
    layers: Vec<(Tensor, Tensor)>,
    squash: Squash,
    condition: Option<Condition>,
    /// Of a Gaussian, whose mean the network is.
    deviation: Option<gaussian::Deviation>,
}

impl FrozenMlp {
    /// A copy of member 0 of `net`.
    pub fn copy(net: &Ensemble, arena: &Arena) -> Self {
        FrozenMlp { layers: copy_layers(net, arena, 0), squash: Squash::Tanh, condition: None, deviation: None }
    }

    /// The policy that always takes the squashed mean of a stochastic actor.
    pub fn mean_of(actor: &SquashedActor) -> Self {
        let mut layers = copy_layers(actor.head.net(), actor.head.online(), 0);
        halve(&mut layers);
        FrozenMlp { layers, squash: Squash::Tanh, condition: None, deviation: None }
    }

    /// The same network with its outputs clipped instead of squashed.
    pub fn clamped(self) -> Self {
        FrozenMlp { squash: Squash::Clamp, ..self }
    }

    /// The same network with its last input taken by a condition.
    pub fn conditioned(self, condition: Condition) -> Self {
        FrozenMlp { condition: Some(condition), ..self }
    }

    /// An independent copy.
    pub fn duplicate(&self) -> FrozenMlp {
        let layers = self.layers.iter().map(|(weight, bias)| (weight.copy(), bias.copy())).collect();
        let deviation = self.deviation.as_ref().map(gaussian::Deviation::duplicate);
        FrozenMlp { layers, condition: self.condition.clone(), deviation, ..*self }
    }

    fn actions(&self, observation: &Tensor) -> Tensor {
        let input = match &self.condition {
            None => observation.shallow_clone(),
            Some(Condition { value, mean, std, .. }) => {
                let scaled = observation.narrow(1, 0, 1).full_like((value - mean) / std);
                Tensor::cat(&[observation, &scaled], 1)
            }
        };
        let outputs = run_layers(&self.layers, &input, Hidden::Relu);
        match self.squash {
            Squash::Tanh => outputs.tanh(),
            Squash::Clamp => outputs.clamp(-1.0, 1.0),
        }
    }

    /// Saves or restores a frozen policy of known shape.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        for (i, (weight, bias)) in self.layers.iter_mut().enumerate() {
            state.tensor(&format!("{i}.weight"), weight)?;
            state.tensor(&format!("{i}.bias"), bias)?;
        }
        self.deviation.as_mut().map_or(Ok(()), |deviation| deviation.persist(state))
    }
}

/// Leaves of a last layer that gives `[mean | log deviation]` the mean, and returns weight and bias of the other half.
fn halve(layers: &mut [(Tensor, Tensor)]) -> Option<(Tensor, Tensor)> {
    let (weight, bias) = layers.last_mut()?;
    let actions = bias.size()[0] / 2;
    let half = |from: i64| (weight.narrow(0, from, actions).copy(), bias.narrow(0, from, actions).copy());
    let (mean, deviation) = (half(0), half(actions));
    (*weight, *bias) = mean;
    Some(deviation)
}

impl FrozenPolicy for FrozenMlp {
    fn start(&self, _rows: i64) -> Box<dyn Player + '_> {
        Box::new(|observation: &Tensor| self.actions(observation))
    }

    fn file(&self) -> Result<PolicyFile> {
        let mut file = PolicyFile::new("mlp");
        file.set("hidden_activation", "relu");
        let squash = match self.squash {
            Squash::Tanh => "tanh",
            Squash::Clamp => "clamp",
        };
        file.set("output_activation", squash);
        if let Some(condition) = &self.condition {
            file.set("condition", condition.name);
            file.set_setting(condition.name, condition.value);
            file.insert("condition.scale", &[2], vec![condition.mean as f32, condition.std as f32]);
        }
        insert_layers(&mut file, "actor", &self.layers)?;
        if let Some(deviation) = &self.deviation {
            deviation.describe(&mut file)?;
        }
        Ok(file)
    }
}
