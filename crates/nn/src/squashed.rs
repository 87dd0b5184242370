//! The stochastic actor of the SAC family: `u ~ N(mu(s), sigma(s))`, `a = tanh(u)`, with hand-written gradients.

use super::{ops, Gaussian, Head};
use crate::checkpoint::State;
use crate::error::Result;
use crate::rng::Rng;
use tch::{Device, Tensor};

/// Range of the logarithm of the standard deviation.
pub const LOG_STD: (f64, f64) = (-20.0, 2.0);

/// An actor `[S, hidden.., 2A]`; its outputs are [mu | log sigma].
pub struct SquashedActor {
    pub head: Head,
}

/// The Gaussian before its tanh, a row a state.
fn gaussian(output: &Tensor) -> Gaussian {
    Gaussian::of(output, LOG_STD)
}

impl SquashedActor {
    /// A fresh actor; `target` keeps a lagged copy.
    pub fn new(observations: i64, actions: i64, hidden: &[i64], target: bool, device: Device, rng: &mut Rng) -> Self {
        let widths: Vec<i64> =
            std::iter::once(observations).chain(hidden.iter().copied()).chain([2 * actions]).collect();
        SquashedActor { head: Head::new("actor", 1, &widths, target, device, rng) }
    }

    /// The live Gaussian at `observation [B,S]`, kept for [`SquashedActor::descend_samples`].
    pub fn forward(&mut self, observation: &Tensor) -> Gaussian {
        gaussian(&self.head.forward(observation).copy())
    }

    /// The live Gaussian, leaving what [`SquashedActor::forward`] kept alone.
    pub fn evaluate(&mut self, observation: &Tensor) -> Gaussian {
        gaussian(&self.head.evaluate(observation))
    }

    /// The lagged Gaussian.
    pub fn evaluate_target(&mut self, observation: &Tensor) -> Gaussian {
        gaussian(&self.head.evaluate_target(observation))
    }

    /// One Adam step of weighted maximum likelihood, with `loss = -mean(weight log N(u; mu(s), sigma(s)))` for
    /// `u [B,A]`, `weight [B,1]`. Returns the loss.
    pub fn fit(&mut self, observation: &Tensor, u: &Tensor, weight: &Tensor, lr: f64) -> f64 {
        let mut loss = 0.0;
        self.head.descend_alone(observation, lr, |outputs| {
            let grad = outputs.empty_like();
            loss = ops::gaussian_fit(outputs, &u.contiguous(), &weight.contiguous(), LOG_STD, &grad);
            grad
        });
        loss
    }

    /// One Adam step along the gradient `dloss/du = grad [B,A]` or `[B,N,A]` of a loss of samples
    /// `u = mu + sigma noise` from the Gaussian of the last [`SquashedActor::forward`].
    pub fn descend_samples(
        &mut self,
        observation: &Tensor,
        gaussian: &Gaussian,
        noise: &Tensor,
        grad: &Tensor,
        lr: f64,
    ) {
        self.head.descend(observation, &gaussian.through(gaussian.through_sample(noise, grad)), lr);
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> Result<()> {
        self.head.persist(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// An actor whose second log sigma is above its clamp, states, and its Gaussian there, tracked through its
    /// parameters.
    fn setting(rng: &mut Rng) -> (SquashedActor, Tensor, Vec<Tensor>, Gaussian) {
        let actor = SquashedActor::new(3, 2, &[8, 8], false, Device::Cpu, rng);
        let bias = actor.head.online().named("actor.2.bias").unwrap().0.shallow_clone();
        let _ = bias.view([-1]).get(3).fill_(5.0);
        let observation = rng.normal(&[7, 3], Device::Cpu);
        let parameters: Vec<Tensor> = actor
            .head
            .net()
            .layers(actor.head.online())
            .flat_map(|(w, b)| [w, b])
            .map(|t| t.copy().set_requires_grad(true))
            .collect();
        let output = parameters.chunks(2).enumerate().fold(observation.shallow_clone(), |x, (i, pair)| {
            let y = x.linear(&pair[0].squeeze_dim(0), Some(&pair[1].squeeze_dim(0)));
            if i < 2 {
                y.relu()
            } else {
                y
            }
        });
        (actor, observation, parameters, gaussian(&output))
    }

    fn compare(actor: &SquashedActor, parameters: &[Tensor]) {
        for (name, parameter) in actor.head.online().names().zip(parameters) {
            let gradient = actor.head.online().named(name).unwrap().1;
            assert!((gradient - parameter.grad()).abs().max().double_value(&[]) < 2e-4, "{name}");
        }
    }

    /// Samples and their gradients against autograd; the clamp stops the gradient.
    #[test]
    fn gradients_of_samples_equal_autograd() {
        let mut rng = Rng::new(2, 0);
        let (mut actor, observation, parameters, expected) = setting(&mut rng);
        let (noise, weights) = (rng.normal(&[7, 4, 2], Device::Cpu), rng.normal(&[7, 4, 2], Device::Cpu));
        let samples = expected.sample(&noise);
        (&samples * &weights).sum(Kind::Float).backward();
        tch::no_grad(|| {
            let gaussian = actor.forward(&observation);
            assert!((gaussian.sample(&noise) - &samples).abs().max().double_value(&[]) < 1e-5);
            actor.descend_samples(&observation, &gaussian, &noise, &weights, 1e-3);
        });
        compare(&actor, &parameters);
    }

    /// The weighted density of a Gaussian, written out once more.
    #[test]
    fn gradients_of_a_fit_equal_autograd() {
        let mut rng = Rng::new(4, 0);
        let (mut actor, observation, parameters, expected) = setting(&mut rng);
        let (u, weight) = (rng.normal(&[7, 2], Device::Cpu), rng.normal(&[7, 1], Device::Cpu).abs());
        let variance = (&expected.log_std * 2.0).exp();
        let density: Tensor =
            ((&u - &expected.mu).square() / &variance + (variance * 2.0 * std::f64::consts::PI).log()) * -0.5;
        let loss = -(density.sum_dim_intlist(1i64, true, Kind::Float) * &weight).mean(Kind::Float);
        loss.backward();
        let found = tch::no_grad(|| actor.fit(&observation, &u, &weight, 1e-3));
        assert!((found - loss.double_value(&[])).abs() < 1e-5);
        compare(&actor, &parameters);
    }
}
