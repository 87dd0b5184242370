//! The soft policy loss of a head, as gradients for its samples and for its log deviations.

use drcorl_nn::Gaussian;
use std::f64::consts::{LN_2, PI};
use tch::{Kind, Tensor};

/// `log pi(a | s)` of `a = tanh(u)`, `u = mu + sigma noise [N,A]`, as `[N,1]`.
pub fn log_density(gaussian: &Gaussian, noise: &Tensor) -> Tensor {
    let sample = gaussian.sample(noise);
    // log(1 - tanh^2 u) without cancellation.
    let softplus = (&sample * -2.0).softplus();
    let volume: Tensor = (LN_2 - &sample - softplus) * 2.0;
    let entries = noise.square() * -0.5 - &gaussian.log_std - 0.5 * (2.0 * PI).ln() - volume;
    entries.sum_dim_intlist(1i64, true, Kind::Float)
}

/// The gradients of the sum over rows of [`log_density`] for samples u `[N,A]` at `action = tanh(u)`,
/// and for log sigma beside what comes through the sample.
pub fn log_density_slopes(action: &Tensor) -> (Tensor, Tensor) {
    (action * 2.0, -action.ones_like())
}

#[cfg(test)]
mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;
    use drcorl_nn::squashed::LOG_STD;
    use tch::Device;

    /// Value against the density of a transformed normal, gradients against autograd.
    #[test]
    fn the_density_and_its_gradients() {
        let mut rng = Rng::new(7, 0);
        // Far from where tanh is flat to float32.
        let output = (rng.normal(&[9, 4], Device::Cpu) * 0.3).set_requires_grad(true);
        let noise = rng.normal(&[9, 2], Device::Cpu);
        let tracked = Gaussian::of(&output, LOG_STD);
        let action = tracked.sample(&noise).tanh();
        let volume: Tensor = 1.0 - action.square();
        let plain = (noise.square() * -0.5 - &tracked.log_std - 0.5 * (2.0 * PI).ln()) - volume.log();
        let plain = plain.sum_dim_intlist(1i64, true, Kind::Float);
        assert!((&plain - log_density(&tracked, &noise)).abs().max().double_value(&[]) < 1e-3);
        plain.sum(Kind::Float).backward();
        let gaussian = Gaussian::of(&output.detach(), LOG_STD);
        let (sample, own) = log_density_slopes(&gaussian.sample(&noise).tanh());
        let [mu, log_std] = gaussian.through_sample(&noise, &sample);
        let found = gaussian.through([mu, log_std + own]);
        assert!((found - output.grad()).abs().max().double_value(&[]) < 1e-4);
    }
}
