//! The variance-preserving diffusion of actions: schedule, behaviour model, score residual, samplers (spec 1.3, 1.5).

use drcorl_nn::checkpoint::State;
use drcorl_nn::dropout::{self, Dropout};
use drcorl_nn::optim::{Adam, AdamConfig};
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::{Arena, ArenaBuilder, ScoreCache, ScoreNet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

const BETA_0: f64 = 0.1;
const BETA_1: f64 = 20.0;
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

/// Diffuses `action [B,A]` with uniform draws `unit [B]` mapped to `[low, high]` and normal draws `noise [B,A]`.
pub fn diffuse(action: &Tensor, unit: &Tensor, noise: &Tensor, (low, high): (f64, f64)) -> Diffused {
    let time = unit * (high - low) + low;
    let (alpha, sigma) = schedule(&time.unsqueeze(1));
    let noisy = action * &alpha + noise * &sigma;
    Diffused { time, alpha, sigma, noisy }
}

/// Weight of the score term at time t (spec 1.5).
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

    /// The strength kappa of the pull `kappa (a - m)` towards data N(m, s^2): E_t[w sigma alpha / (alpha^2 s^2 + sigma^2)], t ~ U(.02,.98).
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

/// The diffusion model of the behaviour policy: a denoiser trained on the logged actions.
pub struct BehaviorModel {
    net: ScoreNet,
    arena: Arena,
    adam: Adam,
    dropout: f64,
    blocks: usize,
}

/// What one update of the behaviour model saw.
pub struct DenoiseStep {
    /// Mean over rows of the summed squared error over action dimensions.
    pub loss: f64,
    pub diffused: Diffused,
    /// `[B,A]`
    pub predicted: Tensor,
}

impl BehaviorModel {
    /// A fresh model. `dropout` acts before the layer norm of each block; `weight_decay` is AdamW's.
    pub fn new(shape: ScoreNetShape, dropout: f64, weight_decay: f64, device: Device, rng: &mut Rng) -> Self {
        let mut builder = ArenaBuilder::default();
        let net = ScoreNet::new(&mut builder, shape, device, rng);
        let arena = builder.build(device);
        let adam = Adam::new(&arena, AdamConfig { weight_decay, ..AdamConfig::default() });
        BehaviorModel { net, arena, adam, dropout, blocks: shape.blocks }
    }

    /// Parameters by name.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Parameters by name, for loading.
    pub fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// Frozen frequencies `[32]`, for loading.
    pub fn frequencies_mut(&mut self) -> &mut Tensor {
        self.net.frequencies_mut()
    }

    /// Dropout for a training batch, one a block.
    pub fn draw_dropout(&self, rng: &mut Rng) -> Vec<Dropout> {
        (0..self.blocks).map(|_| dropout::draw(self.dropout, rng)).collect()
    }

    /// One AdamW step of (5) on `observation [B,S]`, `action [B,A]` with draws `unit [B]` and `noise [B,A]`.
    pub fn step(
        &mut self,
        observation: &Tensor,
        action: &Tensor,
        unit: &Tensor,
        noise: &Tensor,
        dropout: &[Dropout],
        lr: f64,
    ) -> DenoiseStep {
        let diffused = diffuse(action, unit, noise, (TRAIN_TIME_MIN, 1.0));
        let rows = action.size()[0] as f64;
        let (predicted, cache) = self.net.forward(&self.arena, &diffused.noisy, observation, &diffused.time, dropout);
        let error = &predicted - noise;
        let loss = error.square().sum(Kind::Float).double_value(&[]) / rows;
        let _ = self.arena.gradients().shallow_clone().zero_();
        self.net.backward(&self.arena, &(error * (2.0 / rows)), &cache);
        self.adam.step(&mut self.arena, lr);
        DenoiseStep { loss, diffused, predicted }
    }

    /// Predicted noise `[B,A]` in evaluation mode.
    pub fn predict(&self, noisy: &Tensor, observation: &Tensor, time: &Tensor) -> Tensor {
        self.inspect(noisy, observation, time).0
    }

    /// As [`BehaviorModel::predict`], with the intermediate values.
    pub fn inspect(&self, noisy: &Tensor, observation: &Tensor, time: &Tensor) -> (Tensor, ScoreCache) {
        self.net.forward(&self.arena, noisy, observation, time, &[])
    }

    /// Saves or restores parameters and moments.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("net", |state| self.net.persist(state))?;
        state.group("arena", |state| self.arena.persist(state))?;
        state.group("adam", |state| self.adam.persist(state))
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

/// Deterministic second-order sampling (DPM-Solver++ 2M) from `start ~ N(0, I) [B,A]` with a noise predictor `eps(x [B,A], t [B])`.
///
/// Steps are uniform in log signal-to-noise ratio. A clean action is extrapolated from the last two predictions; unlike the published
/// sampler, every step goes back to the noise level of its own time (D13).
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
