//! Gaussian policies in the box: `a = mean(s) + sd(s) eps` clipped to [-1,1], with the mean `tanh(MLP(s))` and a
//! deviation that is a constant or another output of the network. They act by their mean unless samples are asked for.

use super::{halve, host, FrozenMlp, Policy};
use crate::error::Result;
use drcorl_actor::PolicyFile;
use drcorl_nn::checkpoint::State;
use drcorl_nn::losses::through_tanh;
use drcorl_nn::rng::Rng;
use drcorl_nn::{Gaussian, Head};
use tch::{Device, Tensor};

/// Range of the logarithm of a learnt standard deviation.
pub const LOG_STD: (f64, f64) = (-5.0, 2.0);

/// What stands around the mean of a policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spread {
    /// Nothing: a Dirac policy.
    None,
    /// The same standard deviation everywhere.
    Constant(f64),
    /// Standard deviations of the network, which begin at this one everywhere.
    Learnt(f64),
}

impl Spread {
    /// Outputs of the network for `actions` entries of an action.
    fn outputs(self, actions: i64) -> i64 {
        match self {
            Spread::Learnt(_) => 2 * actions,
            _ => actions,
        }
    }

    /// The part `[B,A]` of the outputs that makes the mean.
    pub(super) fn mean(self, outputs: &Tensor) -> Tensor {
        match self {
            Spread::Learnt(_) => outputs.narrow(1, 0, outputs.size()[1] / 2),
            _ => outputs.shallow_clone(),
        }
    }
}

/// Actions drawn by [`Policy::draw`], and what their gradients need.
pub struct Drawn {
    /// `mean + sd eps`, `[B,A]`: of a Dirac policy the action itself, of a Gaussian not yet clipped.
    pub sample: Tensor,
    /// The sample in the box, `[B,A]`.
    pub action: Tensor,
    /// Standard deviation, `[B,A]` or `[1,1]`; None of a Dirac policy.
    pub std: Option<Tensor>,
    /// `tanh(..)`, `[B,A]`
    mean: Tensor,
    learnt: Option<(Gaussian, Tensor)>,
}

impl Drawn {
    /// A gradient at the action `[B,A]` as one at the sample: none passes where the box clips.
    pub fn through_box(&self, grad: &Tensor) -> Tensor {
        match self.std {
            None => grad.shallow_clone(),
            Some(_) => drcorl_nn::losses::through_clamp(&self.sample, 1.0, grad),
        }
    }

    /// True if [`Policy::backward_drawn`] takes a gradient for the deviations.
    pub fn learns_deviation(&self) -> bool {
        self.learnt.is_some()
    }
}

impl Policy {
    /// As [`Policy::new`], the mean of a Gaussian: with learnt deviations the network is `[S, hidden.., 2A]`.
    pub fn spread(
        observations: i64,
        actions: i64,
        hidden: &[i64],
        spread: Spread,
        averaged: bool,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let outputs = spread.outputs(actions);
        let widths: Vec<i64> = std::iter::once(observations).chain(hidden.iter().copied()).chain([outputs]).collect();
        let head = Head::new("policy", 1, &widths, false, device, rng);
        if let Spread::Learnt(std) = spread {
            if let Some((weight, bias)) = head.net().layers(head.online()).last() {
                let _ = weight.narrow(1, actions, actions).zero_();
                let _ = bias.narrow(1, actions, actions).fill_(std.ln());
            }
        }
        let average = averaged.then(|| head.online().duplicate());
        Policy { head, average, spread }
    }

    /// True if actions are drawn: then [`Policy::draw`] takes noise.
    pub fn draws(&self) -> bool {
        self.spread != Spread::None
    }

    /// Live actions for normalised observations `[B,S]`, kept for [`Policy::backward_drawn`]; `noise [B,A]` is standard
    /// normal, and none gives the mean.
    pub fn draw(&mut self, observation: &Tensor, noise: Option<&Tensor>) -> Drawn {
        let outputs = self.head.forward(observation).copy();
        drawn(self.spread, &outputs, noise)
    }

    /// Actions `[B,A]` in the box as the policy draws them, leaving the activations of [`Policy::draw`] alone.
    pub fn sample(&mut self, observation: &Tensor, rng: &mut Rng) -> Tensor {
        let outputs = self.head.evaluate(observation);
        let mean = self.spread.mean(&outputs);
        let noise = self.draws().then(|| rng.normal(&mean.size(), mean.device()));
        drawn(self.spread, &outputs, noise.as_ref()).action
    }

    /// Gradient `[P]` of a loss with gradients `sample [B,A]` at the sample of the last [`Policy::draw`] and, where
    /// deviations are learnt, `log_std [B,A]` at their logarithms beside what reaches these through the sample; a copy.
    pub fn backward_drawn(
        &mut self,
        observation: &Tensor,
        drawn: &Drawn,
        sample: &Tensor,
        log_std: Option<&Tensor>,
    ) -> Tensor {
        let mean = through_tanh(&drawn.mean, sample);
        let outputs = match &drawn.learnt {
            None => mean,
            Some((gaussian, noise)) => {
                let [_, mut deviation] = gaussian.through_sample(noise, sample);
                if let Some(own) = log_std {
                    deviation += own;
                }
                gaussian.through([mean, deviation])
            }
        };
        self.head.backward(observation, &outputs);
        self.head.online().gradients().copy()
    }

    /// The move `[P]` of one Adam step along `gradient [P]`, taken back again; its moments stay.
    pub fn tentative(&mut self, gradient: &Tensor, lr: f64) -> Tensor {
        let before = self.head.online().values().copy();
        self.step(gradient, lr);
        let values = self.head.online().values().shallow_clone();
        let moved = &values - &before;
        values.shallow_clone().copy_(&before);
        moved
    }

    /// Moves all parameters by `by [P]`; the average follows by `1 - keep`.
    pub fn shift(&mut self, by: &Tensor, keep: f64) {
        let _ = self.head.online().values().shallow_clone().g_add_(by);
        self.follow(keep);
    }
}

fn drawn(spread: Spread, outputs: &Tensor, noise: Option<&Tensor>) -> Drawn {
    let mean = spread.mean(outputs).tanh();
    let (std, learnt) = match spread {
        Spread::None => (None, None),
        Spread::Constant(std) => (Some(Tensor::full([1, 1], std, (mean.kind(), mean.device()))), None),
        Spread::Learnt(_) => {
            let gaussian = Gaussian::of(outputs, LOG_STD);
            let noise = noise.map_or_else(|| mean.zeros_like(), Tensor::shallow_clone);
            (Some(gaussian.std.shallow_clone()), Some((gaussian, noise)))
        }
    };
    let sample = match (&std, noise) {
        (Some(std), Some(noise)) => &mean + std * noise,
        _ => mean.shallow_clone(),
    };
    let action = if std.is_some() { sample.clamp(-1.0, 1.0) } else { sample.shallow_clone() };
    Drawn { sample, action, std, mean, learnt }
}

/// The deviation of a frozen policy.
pub(super) enum Deviation {
    Constant(f64),
    /// Weight `[A,H]` and bias `[A]` of the logarithms, on the last hidden layer.
    Learnt(Tensor, Tensor),
}

impl Deviation {
    pub(super) fn duplicate(&self) -> Self {
        match self {
            Deviation::Constant(std) => Deviation::Constant(*std),
            Deviation::Learnt(weight, bias) => Deviation::Learnt(weight.copy(), bias.copy()),
        }
    }

    pub(super) fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        match self {
            Deviation::Constant(_) => Ok(()),
            Deviation::Learnt(weight, bias) => {
                state.tensor("deviation.weight", weight)?;
                state.tensor("deviation.bias", bias)
            }
        }
    }

    /// Makes the file of the mean one of kind `gaussian`.
    pub(super) fn describe(&self, file: &mut PolicyFile) -> Result<()> {
        file.set("kind", "gaussian");
        file.set("seed", 0);
        file.set_setting("sample", 0.0);
        match self {
            Deviation::Constant(std) => {
                file.insert("deviation.std", &[1], vec![*std as f32]);
            }
            Deviation::Learnt(weight, bias) => {
                let shape: Vec<usize> = weight.size().iter().map(|&n| n as usize).collect();
                file.insert("deviation.weight", &shape, host(weight)?);
                file.insert("deviation.bias", &shape[..1], host(bias)?);
                file.insert("deviation.range", &[2], vec![LOG_STD.0 as f32, LOG_STD.1 as f32]);
            }
        }
        Ok(())
    }
}

impl FrozenMlp {
    /// The same outputs read as those of a policy of this spread.
    pub(super) fn spread(mut self, spread: Spread) -> Self {
        self.deviation = match spread {
            Spread::None => None,
            Spread::Constant(std) => Some(Deviation::Constant(std)),
            Spread::Learnt(_) => halve(&mut self.layers).map(|(weight, bias)| Deviation::Learnt(weight, bias)),
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::FrozenPolicy;
    use tch::Kind;

    /// Gradients of samples and deviations reach the weights as finite differences say, the clamp of the logarithm and
    /// the box included.
    #[test]
    fn gradients_of_drawn_actions_equal_finite_differences() {
        for spread in [Spread::None, Spread::Constant(0.3), Spread::Learnt(0.3)] {
            let mut rng = Rng::new(21, 0);
            let mut policy = Policy::spread(3, 2, &[6], spread, false, Device::Cpu, &mut rng);
            let observation = rng.normal(&[5, 3], Device::Cpu);
            let [noise, weight, deviation] = [0; 3].map(|_| rng.normal(&[5, 2], Device::Cpu));
            let loss = |policy: &mut Policy| {
                let drawn = policy.draw(&observation, Some(&noise));
                let mut loss = (&drawn.action * &weight).sum(Kind::Double);
                if let Some((gaussian, _)) = &drawn.learnt {
                    loss += (&gaussian.log_std * &deviation).sum(Kind::Double);
                }
                loss.double_value(&[])
            };
            let drawn = policy.draw(&observation, Some(&noise));
            let own = drawn.learns_deviation().then_some(&deviation);
            let gradient = policy.backward_drawn(&observation, &drawn, &drawn.through_box(&weight), own);
            for index in 0..gradient.numel() as i64 {
                let at = |policy: &mut Policy, step: f64| {
                    let _ = policy.arena().values().get(index).g_add_scalar_(step);
                    loss(policy)
                };
                let (up, down) = (at(&mut policy, 1e-3), at(&mut policy, -2e-3));
                at(&mut policy, 1e-3);
                let numeric = (up - down) / 2e-3;
                let found = gradient.double_value(&[index]);
                assert!((numeric - found).abs() < 2e-2 * (1.0 + found.abs()), "{spread:?} {index}: {numeric} {found}");
            }
        }
    }

    /// A learnt deviation begins where it is told, stays in its range, and actions stay in the box.
    #[test]
    fn deviations_have_their_range_and_actions_their_box() {
        let mut rng = Rng::new(22, 0);
        let mut policy = Policy::spread(2, 2, &[8], Spread::Learnt(0.2), true, Device::Cpu, &mut rng);
        let observation = rng.normal(&[64, 2], Device::Cpu);
        let noise = rng.normal(&[64, 2], Device::Cpu) * 20.0;
        let drawn = policy.draw(&observation, Some(&noise));
        assert!((drawn.std.as_ref().unwrap() - 0.2).abs().max().double_value(&[]) < 1e-6);
        assert!(drawn.action.abs().max().double_value(&[]) <= 1.0 && drawn.sample.abs().max().double_value(&[]) > 1.0);
        for (shift, bound) in [(50.0, LOG_STD.1), (-50.0, LOG_STD.0)] {
            let (_, bias) = policy.head.net().layers(policy.head.online()).last().unwrap();
            let _ = bias.narrow(1, 2, 2).fill_(shift);
            let std = policy.draw(&observation, None).std.unwrap();
            assert!((std / bound.exp() - 1.0).abs().max().double_value(&[]) < 1e-5);
        }
        let mean = policy.act(&observation);
        assert_eq!(policy.averaged().act(&observation).size(), mean.size());
        // A frozen policy multiplies by libtorch, one that learns by whatever is fastest.
        assert!((policy.live().act(&observation) - mean).abs().max().double_value(&[]) < 1e-6);
    }

    /// A move is what an optimiser step would have been.
    #[test]
    fn a_tentative_step_leaves_the_weights() {
        let mut rng = Rng::new(23, 0);
        let mut policy = Policy::new(2, 1, &[4], false, Device::Cpu, &mut rng);
        let gradient = rng.normal(&[policy.arena().values().size()[0]], Device::Cpu);
        let before = policy.arena().values().copy();
        let moved = policy.tentative(&gradient, 1e-2);
        assert_eq!(policy.arena().values(), &before);
        // The first step of Adam is the sign of the gradient times the rate.
        assert!((&moved + gradient.sign() * 1e-2).abs().max().double_value(&[]) < 1e-4);
        policy.shift(&moved, 0.0);
        assert!((policy.arena().values() - &before - moved).abs().max().double_value(&[]) < 1e-7);
    }
}
