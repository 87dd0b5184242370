//! The variance-preserving diffusion of actions (3): schedule, weight of the score term, sampler.

use drcorl_core::algorithm::Context;
use drcorl_nn::probe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Noise a unit of time at its begin and at its end.
pub const BETA_0: f64 = 0.1;
pub const BETA_1: f64 = 20.0;
/// Smallest time the denoiser is trained on.
pub const TRAIN_TIME_MIN: f64 = 1e-3;
/// Times at which the score regularises the policy.
pub const POLICY_TIME: (f64, f64) = (0.02, 0.98);

/// `alpha(t)` and `sigma(t)` for `time [..]`: log alpha = -(beta_1-beta_0) t^2/4 - beta_0 t/2, sigma = sqrt(1-alpha^2).
pub fn schedule(time: &Tensor) -> (Tensor, Tensor) {
    let log_alpha = time.square() * (-(BETA_1 - BETA_0) / 4.0) - time * (BETA_0 / 2.0);
    let alpha = log_alpha.exp();
    // 1 - alpha^2 by expm1: near t = 0 the difference would lose half its digits.
    let sigma = (log_alpha * 2.0).expm1().neg().sqrt();
    (alpha, sigma)
}

/// What chance decides about a batch of diffused actions.
pub struct Draws {
    /// Uniform `[B]`: the times.
    pub unit: Tensor,
    /// Standard normal `[B,A]`.
    pub noise: Tensor,
    /// Standard normal `[B,A]` of the actions themselves, where these are drawn too.
    pub action: Option<Tensor>,
}

impl Draws {
    /// For `rows` actions.
    pub fn take(rows: i64, context: &mut Context<'_>) -> Self {
        let device = context.data.device();
        let unit = context.rng.uniform(&[rows], device);
        Draws { unit, noise: context.rng.normal(&[rows, context.data.actions()], device), action: None }
    }

    /// For `rows` actions that are drawn themselves where `drawn`.
    pub fn of_policy(rows: i64, drawn: bool, context: &mut Context<'_>) -> Self {
        let draws = Draws::take(rows, context);
        let action = drawn.then(|| context.rng.normal(&[rows, context.data.actions()], context.data.device()));
        Draws { action, ..draws }
    }
}

/// A diffused action and what made it.
pub struct Diffused {
    /// `[B]`
    pub time: Tensor,
    /// `[B,1]`
    pub alpha: Tensor,
    /// `[B,1]`
    pub sigma: Tensor,
    /// `alpha a + sigma z`, `[B,A]`
    pub noisy: Tensor,
}

/// Diffuses `action [B,A]` at times in `[low, high]`.
pub fn diffuse(action: &Tensor, draws: &Draws, (low, high): (f64, f64)) -> Diffused {
    let time = &draws.unit * (high - low) + low;
    let (alpha, sigma) = schedule(&time.unsqueeze(1));
    let noisy = action * &alpha + &draws.noise * &sigma;
    probe::see("time", &time);
    probe::see("alpha", &alpha);
    probe::see("sigma", &sigma);
    Diffused { time, alpha, sigma, noisy }
}

/// Weight w(t) of the score term in (21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScoreWeight {
    /// sigma^2: the published default; its pull to the data saturates near 0.23 a unit of distance.
    Vds,
    /// 1
    Stable,
    /// alpha / sigma: closest to the plain KL divergence.
    Score,
}

impl ScoreWeight {
    /// `w(t) [B,1]`.
    pub fn at(self, alpha: &Tensor, sigma: &Tensor) -> Tensor {
        match self {
            ScoreWeight::Vds => sigma.square(),
            ScoreWeight::Stable => sigma.ones_like(),
            ScoreWeight::Score => alpha / sigma,
        }
    }

    /// The strength kappa of the pull `kappa (a - m)` towards data N(m, s^2):
    /// E_t[w sigma alpha / (alpha^2 s^2 + sigma^2)], t ~ U(.02,.98).
    pub fn kappa(self, data_std: f64) -> f64 {
        const STEPS: usize = 20_000;
        let (low, high) = POLICY_TIME;
        let total: f64 = (0..STEPS)
            .map(|i| {
                let t = low + (high - low) * (i as f64 + 0.5) / STEPS as f64;
                let log_alpha = -(BETA_1 - BETA_0) * t * t / 4.0 - BETA_0 * t / 2.0;
                let alpha = log_alpha.exp();
                let sigma = (-(2.0 * log_alpha).exp_m1()).sqrt();
                let weight = match self {
                    ScoreWeight::Vds => sigma * sigma,
                    ScoreWeight::Stable => 1.0,
                    ScoreWeight::Score => alpha / sigma,
                };
                weight * sigma * alpha / (alpha * alpha * data_std * data_std + sigma * sigma)
            })
            .sum();
        total / STEPS as f64
    }
}

/// Time at which `log(alpha/sigma)` has the given value; the inverse of the schedule.
fn time_of(half_log_snr: f64) -> f64 {
    // log alpha = -softplus(-2 lambda) / 2, and log alpha is quadratic in t.
    let log_alpha = -0.5 * (-2.0 * half_log_snr).exp().ln_1p();
    let linear = BETA_0 / 2.0;
    let quadratic = (BETA_1 - BETA_0) / 4.0;
    (-linear + (linear * linear - 4.0 * quadratic * log_alpha).sqrt()) / (2.0 * quadratic)
}

/// Deterministic second-order sampling (DPM-Solver++ 2M) from `start ~ N(0, I) [B,A]` with a noise predictor
/// `eps(x [B,A], t [B])`.
///
/// Steps are uniform in log signal-to-noise ratio. A clean action is extrapolated from the last two predictions; unlike
/// the published sampler, every step goes back to the noise level of its own time.
pub fn sample(start: &Tensor, steps: usize, mut eps: impl FnMut(&Tensor, &Tensor) -> Tensor) -> Tensor {
    let scalars = |time: f64| {
        let log_alpha = -(BETA_1 - BETA_0) * time * time / 4.0 - BETA_0 * time / 2.0;
        (log_alpha.exp(), (-(2.0 * log_alpha).exp_m1()).sqrt())
    };
    let level = |time: f64| scalars(time).0.ln() - scalars(time).1.ln();
    let (first, last) = (level(1.0), level(TRAIN_TIME_MIN));
    let step = (last - first) / steps as f64;
    let mut x = start.shallow_clone();
    let mut previous: Option<Tensor> = None;
    for i in 0..steps {
        let (time, next) = (time_of(first + step * i as f64), time_of(first + step * (i + 1) as f64));
        let ((alpha, sigma), (next_alpha, next_sigma)) = (scalars(time), scalars(next));
        let times = Tensor::full([x.size()[0]], time, (x.kind(), x.device()));
        let clean = (&x - eps(&x, &times) * sigma) / alpha;
        let direction = match &previous {
            Some(previous) => &clean * 1.5 - previous * 0.5,
            None => clean.shallow_clone(),
        };
        x = x * (next_sigma / sigma) - direction * (next_alpha * (-step).exp_m1());
        previous = Some(clean);
    }
    x
}

#[cfg(test)]
mod tests;
