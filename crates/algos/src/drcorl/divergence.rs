//! The divergence of the policy from the behavior model, and its gradient at a drawn action and at the logarithm of the
//! policy's standard deviation: (6) to (8), with the score of the denoiser, (9).

use super::diffusion::{diffuse, schedule, Draws, ScoreWeight, POLICY_TIME};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Which divergence keeps the policy near the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PolicyDivergence")]
pub enum Divergence {
    /// Of the diffused laws, `E_t[w(t) sigma/alpha KL(pi_t || mu_t)]` with `score_weight` as w: what the score term of
    /// (21) descends. The entropy of a Gaussian has the same weight over time.
    Diffused,
    /// `KL(pi || mu)`, (8): the score at the smallest time of the policy's, 0.02, and an entropy of weight 1.
    Plain,
}

/// How [`slopes`] weighs.
#[derive(Clone, Copy, Debug)]
pub struct Weighing {
    pub divergence: Divergence,
    pub weight: ScoreWeight,
    pub control_variate: bool,
}

/// The gradient of the divergence, unbiased for one draw of action, time and noise.
pub struct Slopes {
    /// At the drawn action, `[B,A]`.
    pub sample: Tensor,
    /// What the entropy adds at the logarithm of the standard deviation, `[B,A]`; of a Gaussian only.
    pub log_std: Option<Tensor>,
}

/// Gradients at `sample [B,A]` of a policy with standard deviation `std`, if it has one;
/// `predict` is the denoiser, of noisy actions `[B,A]` at times `[B]`.
///
/// Entropy is to grow: with the behavior held, `-H` falls by 1 a unit of each logarithm in (6), and by
/// `alpha^2 sd^2 / (alpha^2 sd^2 + sigma^2)` for the law diffused to a time.
pub fn slopes(
    sample: &Tensor,
    std: Option<&Tensor>,
    draws: &Draws,
    how: Weighing,
    predict: impl FnOnce(&Tensor, &Tensor) -> Tensor,
) -> Slopes {
    match how.divergence {
        Divergence::Diffused => {
            let diffused = diffuse(sample, draws, POLICY_TIME);
            let predicted = predict(&diffused.noisy, &diffused.time);
            let residual = if how.control_variate { predicted - &draws.noise } else { predicted };
            let (alpha, sigma) = (&diffused.alpha, &diffused.sigma);
            let weight = how.weight.at(alpha, sigma);
            let log_std = std.map(|std| {
                let variance = std.square();
                -(&weight * alpha * sigma * &variance) / (alpha.square() * &variance + sigma.square())
            });
            Slopes { sample: residual * weight, log_std }
        }
        Divergence::Plain => {
            let time = Tensor::full([sample.size()[0]], POLICY_TIME.0, (sample.kind(), sample.device()));
            let (alpha, sigma) = schedule(&time.unsqueeze(1));
            // The score at the diffused mean: no noise is drawn, so there is none to subtract.
            let predicted = predict(&(sample * &alpha), &time);
            Slopes { sample: predicted * alpha / sigma, log_std: std.map(|std| std.ones_like().neg()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;
    use tch::{Device, Kind};

    /// Policy N(a, v) and behavior N(m, s^2), of one dimension.
    struct Laws {
        mean: f64,
        std: f64,
        behavior_mean: f64,
        behavior_std: f64,
    }

    const COUNT: i64 = 400_000;

    impl Laws {
        /// The mean gradients for mean and logarithm of the deviation, with the exact denoiser.
        fn estimated(&self, how: Weighing) -> [f64; 2] {
            let mut rng = Rng::new(31, 0);
            let [eps, noise] = [0; 2].map(|_| rng.normal(&[COUNT, 1], Device::Cpu));
            let sample = &eps * self.std + self.mean;
            let std = Tensor::full([COUNT, 1], self.std, (Kind::Float, Device::Cpu));
            let draws = Draws { unit: rng.uniform(&[COUNT], Device::Cpu), noise, action: None };
            let exact = |noisy: &Tensor, time: &Tensor| {
                let (alpha, sigma) = schedule(&time.unsqueeze(1));
                let variance = alpha.square() * self.behavior_std.powi(2) + sigma.square();
                sigma * (noisy - alpha * self.behavior_mean) / variance
            };
            let found = slopes(&sample, Some(&std), &draws, how, exact);
            let mean = |x: Tensor| x.mean(Kind::Double).double_value(&[]);
            // The sample is mean + sd eps: its logarithmic derivative is sd eps.
            let deviation = &found.sample * eps * self.std + found.log_std.unwrap();
            [mean(found.sample), mean(deviation)]
        }

        /// `KL(N(alpha a, alpha^2 v + sigma^2) || N(alpha m, alpha^2 s^2 + sigma^2))` at one time, or the plain one.
        fn divergence(&self, mean: &Tensor, log_std: &Tensor, (alpha, sigma): (f64, f64)) -> Tensor {
            let own: Tensor = (log_std * 2.0).exp() * (alpha * alpha) + sigma * sigma;
            let other = alpha * alpha * self.behavior_std.powi(2) + sigma * sigma;
            let moved = (mean - self.behavior_mean).square() * (alpha * alpha);
            ((&own + moved) / other - 1.0 - (own / other).log()) * 0.5
        }

        /// Autograd of `weighted`, the divergence as a function of mean and logarithm of the deviation.
        fn exact(&self, weighted: impl Fn(&Tensor, &Tensor) -> Tensor) -> [f64; 2] {
            let leaf = |value: f64| Tensor::from(value).set_requires_grad(true);
            let (mean, log_std) = (leaf(self.mean), leaf(self.std.ln()));
            weighted(&mean, &log_std).backward();
            [mean.grad(), log_std.grad()].map(|grad| grad.double_value(&[]))
        }
    }

    const LAWS: [Laws; 3] = [
        Laws { mean: 0.3, std: 0.2, behavior_mean: 0.0, behavior_std: 0.5 },
        Laws { mean: -0.4, std: 0.6, behavior_mean: 0.1, behavior_std: 0.3 },
        Laws { mean: 0.2, std: 0.4, behavior_mean: 0.2, behavior_std: 0.4 },
    ];

    fn scalars(time: f64) -> (f64, f64) {
        let (alpha, sigma) = schedule(&Tensor::from(time).view([1, 1]));
        (alpha.double_value(&[0, 0]), sigma.double_value(&[0, 0]))
    }

    fn close(found: [f64; 2], exact: [f64; 2], tolerance: f64, what: &str) {
        for (found, exact) in found.into_iter().zip(exact) {
            assert!((found - exact).abs() < tolerance * (1.0 + exact.abs()), "{what}: {found}, exact {exact}");
        }
    }

    /// The gradient with weight w is autograd's of `E_t[w sigma/alpha KL(pi_t || mu_t)]`, with and without the control
    /// variate; where policy and behavior agree it is 0.
    #[test]
    fn the_diffused_divergence_is_descended() {
        const STEPS: usize = 400;
        for weight in [ScoreWeight::Vds, ScoreWeight::Stable, ScoreWeight::Score] {
            for (i, laws) in LAWS.iter().enumerate() {
                let exact = laws.exact(|mean, log_std| {
                    let at = |step: usize| {
                        let (low, high) = POLICY_TIME;
                        let (alpha, sigma) = scalars(low + (high - low) * (step as f64 + 0.5) / STEPS as f64);
                        let w = weight.at(&Tensor::from(alpha), &Tensor::from(sigma)).double_value(&[]);
                        laws.divergence(mean, log_std, (alpha, sigma)) * (w * sigma / alpha / STEPS as f64)
                    };
                    (0..STEPS).map(at).reduce(|sum, term| sum + term).unwrap()
                });
                for control_variate in [true, false] {
                    let how = Weighing { divergence: Divergence::Diffused, weight, control_variate };
                    close(laws.estimated(how), exact, 2e-2, &format!("{weight:?} {control_variate} {i}"));
                }
                if i == 2 {
                    close(exact, [0.0, 0.0], 1e-9, "no divergence");
                }
            }
        }
    }

    /// The plain gradient is that of the closed form, `(a - m)/u` and `v/u - 1`, of the behavior at the smallest time.
    #[test]
    fn the_plain_divergence_is_descended() {
        for (i, laws) in LAWS.iter().enumerate() {
            let how = Weighing { divergence: Divergence::Plain, weight: ScoreWeight::Stable, control_variate: true };
            let (alpha, sigma) = scalars(POLICY_TIME.0);
            // In the units of the action the diffused behavior is N(m, s^2 + (sigma/alpha)^2).
            let u = laws.behavior_std.powi(2) + (sigma / alpha).powi(2);
            let closed = [(laws.mean - laws.behavior_mean) / u, laws.std.powi(2) / u - 1.0];
            close(laws.estimated(how), closed, 1e-2, &format!("{i}"));
            let plain = laws.exact(|mean, log_std| laws.divergence(mean, log_std, (1.0, 0.0)));
            let printed = [
                (laws.mean - laws.behavior_mean) / laws.behavior_std.powi(2),
                (laws.std / laws.behavior_std).powi(2) - 1.0,
            ];
            close(plain, printed, 1e-9, "autograd of the closed form");
            // Smoothing by the smallest time is all that lies between the two.
            close(closed, plain, 0.08, "time 0.02");
        }
    }

    /// Descending raises a deviation far below the data's and lowers one far above it.
    #[test]
    fn entropy_has_the_right_sign() {
        for divergence in [Divergence::Diffused, Divergence::Plain] {
            let how = Weighing { divergence, weight: ScoreWeight::Score, control_variate: true };
            let narrow = Laws { mean: 0.0, std: 0.02, behavior_mean: 0.0, behavior_std: 0.5 };
            let wide = Laws { std: 1.5, ..narrow };
            assert!(narrow.estimated(how)[1] < 0.0, "{divergence:?}");
            assert!(wide.estimated(how)[1] > 0.0, "{divergence:?}");
        }
    }
}
