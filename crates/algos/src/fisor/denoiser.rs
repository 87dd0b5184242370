//! The diffusion policy: a denoiser of logged actions in few levels, each action with a weight.

use super::config::FisorConfig;
use super::losses::weighted_denoising;
use drcorl_core::policy::{DiffusionLevels, FrozenDiffusion};
use drcorl_nn::checkpoint::State;
use drcorl_nn::dropout::{self, Dropout};
use drcorl_nn::ops::Span;
use drcorl_nn::optim::{cosine, soft_update, Adam, AdamConfig};
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::{Arena, ArenaBuilder, ScoreNet, TimeEmbedding};
use tch::{Device, Kind, Tensor};

/// What an update of the actor draws.
pub struct DenoiserDraws {
    /// Levels `[B] int64`, from 0 to T-1.
    pub level: Tensor,
    /// Standard normal `[B,A]`.
    pub noise: Tensor,
    /// One a block, or none.
    pub dropout: Vec<Dropout>,
}

/// The denoiser, its average, its optimiser.
pub struct Denoiser {
    net: ScoreNet,
    pub online: Arena,
    pub average: Arena,
    adam: Adam,
    biases: Vec<Span>,
    others: Vec<Span>,
    pub levels: DiffusionLevels,
    /// `sqrt(abar_i)` and `sqrt(1 - abar_i)`, `[T,1]`.
    scales: [Tensor; 2],
    lr: f64,
    horizon: u64,
    rate: f64,
    dropout: f64,
    blocks: usize,
    updates: u64,
}

impl Denoiser {
    pub fn new(config: &FisorConfig, observations: i64, actions: i64, device: Device, rng: &mut Rng) -> Self {
        let shape = ScoreNetShape {
            observations,
            actions,
            hidden: config.denoiser_hidden,
            blocks: config.denoiser_blocks,
            expansion: config.denoiser_expansion,
        };
        let time = TimeEmbedding {
            frequencies: config.time_features / 2,
            scale: 0.2,
            width: config.time_width,
            learnt: true,
            cosine_first: true,
            norm_eps: 1e-6,
        };
        let mut builder = ArenaBuilder::default();
        let net = ScoreNet::with_time(&mut builder, shape, time, device, rng);
        let online = builder.build(device);
        super::xavier(&online, rng);
        let bias = |name: &str| name.ends_with(".bias");
        let levels = DiffusionLevels::variance_preserving(config.diffusion_levels);
        let scale = |of: fn(f64) -> f64| {
            let values: Vec<f32> = levels.kept.iter().map(|&kept| of(kept) as f32).collect();
            Tensor::from_slice(&values).unsqueeze(1).to_device(device)
        };
        Denoiser {
            average: online.duplicate(),
            adam: Adam::new(&online, AdamConfig { weight_decay: config.weight_decay, ..AdamConfig::default() }),
            biases: online.spans(bias),
            others: online.spans(|name| !bias(name)),
            scales: [scale(f64::sqrt), scale(|kept| (1.0 - kept).sqrt())],
            levels,
            lr: config.actor_lr,
            horizon: (config.actor_decay * config.actor_updates() as f64).round() as u64,
            rate: config.actor_target_rate,
            dropout: config.dropout,
            blocks: config.denoiser_blocks,
            updates: 0,
            net,
            online,
        }
    }

    /// What an update on `rows` actions draws.
    pub fn draw(&self, rows: i64, actions: i64, device: Device, rng: &mut Rng) -> DenoiserDraws {
        DenoiserDraws {
            level: rng.rows(rows as usize, self.levels.len() as i64, device),
            noise: rng.normal(&[rows, actions], device),
            dropout: (0..self.blocks).map(|_| dropout::draw(self.dropout, rng)).collect(),
        }
    }

    /// One AdamW step on `observation [B,S]`, `action [B,A]` with `weights [B,1]`; the average follows.
    /// Returns the loss.
    pub fn step(&mut self, observation: &Tensor, action: &Tensor, weights: &Tensor, draws: &DenoiserDraws) -> f64 {
        let [signal, noise] = self.scales.each_ref().map(|scale| scale.index_select(0, &draws.level));
        let noisy = action * signal + &draws.noise * noise;
        let time = draws.level.to_kind(Kind::Float);
        let (predicted, cache) = self.net.forward(&self.online, &noisy, observation, &time, &draws.dropout);
        let (loss, gradient) = weighted_denoising(&predicted, &draws.noise, weights);
        let _ = self.online.gradients().shallow_clone().zero_();
        self.net.backward(&self.online, &gradient, &cache);
        let lr = cosine(self.lr, 0.0, self.updates, self.horizon);
        self.updates += 1;
        self.adam.step_sparing(&mut self.online, lr, &self.biases, &self.others);
        soft_update(&mut self.average, &self.online, self.rate);
        loss
    }

    /// Noise `[B,A]` that the live network predicts at level `time [B]`.
    pub fn predict(&self, noisy: &Tensor, observation: &Tensor, time: &Tensor) -> Tensor {
        self.net.forward(&self.online, noisy, observation, time, &[]).0
    }

    /// The averaged network as a policy that draws with `seed` and takes the first action it draws.
    pub fn freeze(&self, config: &FisorConfig, seed: u64) -> FrozenDiffusion {
        let policy = FrozenDiffusion::copy(&self.net, &self.average, self.levels.clone(), seed);
        policy.sampling(config.noise_temperature, config.clip_levels)
    }

    /// Saves or restores everything that changes with training.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("online", |state| self.online.persist(state))?;
        state.group("average", |state| self.average.persist(state))?;
        state.group("adam", |state| self.adam.persist(state))?;
        state.value("updates", &mut self.updates)
    }
}
