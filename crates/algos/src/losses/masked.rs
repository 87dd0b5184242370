//! Terms of sequences that are padded: rows `[N,..]` of which some count nothing, and totals that a caller divides by.

use tch::{Kind, Tensor};

/// Half the logarithm of 2 pi.
const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_7;

fn sum(x: &Tensor) -> f64 {
    x.sum(Kind::Double).double_value(&[])
}

/// `sum mask (values - target)^2 / total`, and the gradient of `weight` times it for `values`; `mask` is 0 or 1.
pub fn squares(values: &Tensor, target: &Tensor, mask: &Tensor, total: f64, weight: f64) -> (f64, Tensor) {
    let error = (values - target) * mask;
    (sum(&error.square()) / total, error * (2.0 * weight / total))
}

/// `-sum share <target, log softmax(logits)>` for `logits` and `target [N,C]`, `share [N,1]`, and the gradient of
/// `weight` times it for `logits`.
pub fn cross_entropy(logits: &Tensor, target: &Tensor, share: &Tensor, weight: f64) -> (f64, Tensor) {
    let log_probability = logits.log_softmax(1, Kind::Float);
    let loss = -sum(&(&log_probability * target * share));
    (loss, (log_probability.exp() - target) * share * weight)
}

/// See [`normal`].
pub struct Normal {
    /// `-sum share log N(target; mean, std)`
    pub unlikelihood: f64,
    /// `sum share H(N(mean, std))`, in nats.
    pub entropy: f64,
    /// Of `unlikelihood - temperature * entropy`, for the mean.
    pub mean: Tensor,
    /// Of the same, for the logarithm of the deviation.
    pub log_std: Tensor,
}

/// `unlikelihood - temperature * entropy` of a normal distribution an entry, all `[N,A]`, `share [N,1]`.
pub fn normal(mean: &Tensor, log_std: &Tensor, target: &Tensor, share: &Tensor, temperature: f64) -> Normal {
    let deviation = log_std.exp();
    let z = (mean - target) / &deviation;
    Normal {
        unlikelihood: sum(&((z.square() * 0.5 + log_std + HALF_LOG_TAU) * share)),
        entropy: sum(&((log_std + (0.5 + HALF_LOG_TAU)) * share)),
        mean: &z / deviation * share,
        log_std: (1.0 - z.square() - temperature) * share,
    }
}

/// `exp(x) (entropy - wanted)`, and its derivative for x, the logarithm of a temperature: the temperature rises where
/// the entropy is less than wanted.
pub fn temperature(log: f64, entropy: f64, wanted: f64) -> (f64, f64) {
    let loss = log.exp() * (entropy - wanted);
    (loss, loss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;
    use tch::Device;

    /// Rows `[6,3]`, a mask that leaves out two.
    fn rows() -> (Rng, Tensor) {
        let mask = Tensor::from_slice(&[1.0f32, 1.0, 0.0, 1.0, 0.0, 1.0]).view([6, 1]);
        (Rng::new(4, 0), mask)
    }

    fn agree(loss: &Tensor, leaf: &Tensor, (found, gradient): (f64, &Tensor)) {
        loss.backward();
        assert!((found - loss.double_value(&[])).abs() < 1e-5);
        assert!((gradient - leaf.grad()).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn masked_squares_and_cross_entropy_equal_autograd() {
        let (mut rng, mask) = rows();
        let mut normal = || rng.normal(&[6, 3], Device::Cpu);
        let (values, target) = (normal().set_requires_grad(true), normal());
        let (loss, gradient) = squares(&values.detach(), &target, &mask, 7.0, 0.3);
        let written = ((&values - &target).square() * &mask).sum(Kind::Float) * (0.3 / 7.0);
        agree(&written, &values, (loss * 0.3, &gradient));

        let (logits, classes) = (normal().set_requires_grad(true), normal().softmax(1, Kind::Float));
        let (loss, gradient) = cross_entropy(&logits.detach(), &classes, &(&mask / 4.0), 0.3);
        let rows = (&logits.exp() / logits.exp().sum_dim_intlist(1i64, true, Kind::Float)).log() * &classes;
        agree(&((rows * &mask).sum(Kind::Float) * (-0.3 / 4.0)), &logits, (loss * 0.3, &gradient));
    }

    #[test]
    fn the_likelihood_equals_autograd() {
        let (mut rng, mask) = rows();
        let mut draw = || rng.normal(&[6, 3], Device::Cpu);
        let (mean, log_std, target) = (draw().set_requires_grad(true), draw().set_requires_grad(true), draw());
        let found = normal(&mean.detach(), &log_std.detach(), &target, &mask, 0.2);
        let variance = (&log_std * 2.0).exp();
        let density =
            ((&target - &mean).square() / (&variance * -2.0)).exp() / (&variance * std::f64::consts::TAU).sqrt();
        let entropy =
            ((&variance * (std::f64::consts::TAU * std::f64::consts::E)).log() * 0.5 * &mask).sum(Kind::Float);
        let unlikelihood = -(density.log() * &mask).sum(Kind::Float);
        assert!((found.unlikelihood - unlikelihood.double_value(&[])).abs() < 1e-3);
        assert!((found.entropy - entropy.double_value(&[])).abs() < 1e-4);
        (unlikelihood - entropy * 0.2).backward();
        for (gradient, leaf) in [(&found.mean, &mean), (&found.log_std, &log_std)] {
            let scale = leaf.grad().abs().max().double_value(&[]);
            assert!((gradient - leaf.grad()).abs().max().double_value(&[]) < 1e-4 * (1.0 + scale));
        }
    }

    #[test]
    fn the_temperature_equals_finite_differences() {
        let at = |x: f64| temperature(x, 0.4, -2.0).0;
        let slope = (at(0.3 + 1e-6) - at(0.3 - 1e-6)) / 2e-6;
        assert!((temperature(0.3, 0.4, -2.0).1 - slope).abs() < 1e-6);
    }
}
