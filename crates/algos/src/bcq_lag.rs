//! BCQ-Lag: batch-constrained Q-learning (Fujimoto et al. 2019, arXiv 1812.02900) under a PID-controlled Lagrange multiplier, as in OSRL.
//!
//! A VAE imitates the logged actions. The policy decodes a latent z and moves the result by at most phi:
//! `a = clip(b + phi net([b, s]), -1, 1)`, `b = decode(z, s)`. A step updates, in this order:
//!
//! 1. the VAE: `mean (a_hat - a)^2 + beta KL`;
//! 2. the reward critics: `y = r + gamma (1 - d) max_j [lambda min(Q1', Q2') + (1 - lambda) max(Q1', Q2')](s', a_j)` over n candidates;
//! 3. the cost critics, alike, by the choices `cost_ensemble`, `cost_action_reduce` and `cost_done`;
//! 4. the perturbation network: `min E[-Q + lambda_pid (Qc - q*)]`, after the multiplier saw `E[Qc]`;
//! 5. the targets.
//!
//! What `fixed` repairs in the published implementation is numbered in docs/algorithms/bcq_lag.md.

use super::shared::{self, join, mean, repeat, Bound, CandidateDraws, CriticStep, Critics, Reduce, Transition};
use crate::lagrange::Pid;
use crate::metrics::{COST_CRITIC_LOSS, CRITIC_LOSS, MULTIPLIER, VAE_LOSS};
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::offline::CriticEstimates;
use drcorl_core::policy::{FrozenLatent, FrozenPolicy, Perturbation};
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::vae::{clip_latents, VaeStep};
use drcorl_nn::{Head, Vae};
use tch::{Device, Tensor};

pub use config::{Act, BcqLagConfig};

mod config;

/// The networks and the multiplier.
pub struct BcqLag {
    pub config: BcqLagConfig,
    pub vae: Vae,
    /// The perturbation network `[A+S, hidden.., A]`.
    pub actor: Head,
    pub reward: Critics,
    pub cost: Critics,
    pub pid: Pid,
    threshold: f64,
    seed: u64,
}

/// Standard normal draws of one step: `[B,L]`, `[B*n,L]`, `[B*n,L]` or none to share the former, `[B,L]`.
pub struct BcqDraws {
    pub vae: Tensor,
    pub reward: Tensor,
    pub cost: Option<Tensor>,
    pub actor: Tensor,
}

/// What one step did.
pub struct BcqStep {
    pub vae: VaeStep,
    pub reward: CriticStep,
    pub cost: CriticStep,
    pub actor_loss: f64,
    /// `multiplier * E[Qc - q*]`
    pub penalty: f64,
}

impl BcqLag {
    /// Fresh networks; `threshold` is the cost value that stands for the limit.
    pub fn new(
        config: BcqLagConfig,
        (observations, actions): (i64, i64),
        threshold: f64,
        seed: u64,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let inputs = actions + observations;
        let widths: Vec<i64> =
            std::iter::once(inputs).chain(config.actor_hidden.iter().copied()).chain([actions]).collect();
        let shape = (2, config.critics);
        BcqLag {
            vae: Vae::new(observations, actions, config.vae_hidden, device, rng),
            actor: Head::with_hidden("actor", 1, &widths, config.perturbation_activation, true, device, rng),
            reward: Critics::new("reward", inputs, shape, &config.critic_hidden, Bound::Min, device, rng),
            cost: Critics::new("cost", inputs, shape, &config.critic_hidden, config.cost_ensemble, device, rng),
            pid: Pid::new(config.pid, threshold, config.multiplier_cap),
            threshold,
            seed,
            config,
        }
    }

    /// `clip(b + phi shift, -1, 1)`.
    fn perturb(&self, decoded: &Tensor, shift: &Tensor) -> Tensor {
        (decoded + shift * self.config.phi).clamp(-1.0, 1.0)
    }

    /// Perturbed actions of the lagged network joined with `state [N,S]`, for standard normal `draws [N,L]`.
    fn candidates(&mut self, draws: &Tensor, state: &Tensor) -> Tensor {
        let decoded = self.vae.decode(&clip_latents(draws), state);
        let shift = self.actor.evaluate_target(&join(&decoded, state)).tanh_();
        join(&self.perturb(&decoded, &shift), state)
    }

    /// One step of all networks.
    pub fn learn(&mut self, batch: &Transition, draws: &BcqDraws) -> Result<BcqStep> {
        batch.check()?;
        let config = &self.config;
        let (values, n, lambda, reduce) =
            (config.values(), config.candidates as i64, config.lambda, config.cost_action_reduce);
        let (critic_lr, rate) = (config.critic_lr, config.target_rate);
        let vae = self.vae.step(&batch.state_action, &draws.vae, config.vae_beta, config.vae_lr);

        let next = repeat(&batch.next_observation, n);
        let candidates = self.candidates(&draws.reward, &next);
        let value = self.reward.soft_target(&candidates, n, lambda, Reduce::Max);
        let target = values.reward_target(batch, &value);
        let reward = self.reward.regress(&batch.state_action, target, critic_lr);

        let candidates = match &draws.cost {
            Some(own) => self.candidates(own, &next),
            None => candidates,
        };
        let value = self.cost.soft_target(&candidates, n, lambda, reduce);
        let target = values.cost_target(batch, &value);
        let cost = self.cost.regress(&batch.state_action, target, critic_lr);

        let (actor_loss, penalty) = self.actor_step(batch, &draws.actor);
        self.reward.head.follow(rate);
        self.cost.head.follow(rate);
        self.actor.follow(rate);
        Ok(BcqStep { vae, reward, cost, actor_loss, penalty })
    }

    fn actor_step(&mut self, batch: &Transition, draws: &Tensor) -> (f64, f64) {
        let (rows, actions) = (batch.rows() as f64, batch.actions());
        let decoded = self.vae.decode(&clip_latents(draws), &batch.observation);
        let input = join(&decoded, &batch.observation);
        let shift = self.actor.forward(&input).tanh();
        let free = &decoded + &shift * self.config.phi;
        let state_action = join(&free.clamp(-1.0, 1.0), &batch.observation);
        let (q, q_pull) = self.reward.pull(&state_action, actions);
        let (qc, qc_pull) = self.cost.pull(&state_action, actions);
        let multiplier = self.pid.update(mean(&qc));
        let penalty = multiplier * (mean(&qc) - self.threshold);
        let inside = free.abs().le(1.0).to_kind(q.kind());
        let grad_action = (qc_pull * multiplier - q_pull) * inside / rows;
        let grad_out = grad_action * self.config.phi * (1.0 - shift.square());
        self.actor.descend(&input, &grad_out, self.config.actor_lr);
        (penalty - mean(&q), penalty)
    }

    /// Actions `[B,A]` of one draw each.
    pub fn act(&mut self, draws: &Tensor, observation: &Tensor) -> (Tensor, Tensor) {
        let decoded = self.vae.decode(&clip_latents(draws), observation);
        let shift = self.actor.evaluate(&join(&decoded, observation)).tanh_();
        (self.perturb(&decoded, &shift), decoded)
    }

    fn frozen(&self) -> FrozenLatent {
        let config = &self.config;
        let shape = Perturbation { phi: config.phi, hidden: config.perturbation_activation };
        let single = FrozenLatent::copy(&self.vae, &self.actor, shape, self.seed);
        match config.act {
            Act::Single => single,
            Act::ArgmaxN => {
                single.with_choice(config.candidates, &self.reward.head, &self.cost.head, self.pid.multiplier)
            }
        }
    }
}

impl Define for BcqLag {
    type Config = BcqLagConfig;
    const NAME: &'static str = "bcq_lag";
    const LABEL: &'static str = "BCQ-Lag";
    const SUMMARY: &'static str =
        "Batch-constrained Q-learning with a PID Lagrange multiplier: perturbed actions of a VAE, ranked by critics.";
    const METRICS: &'static [Metric] = &[
        VAE_LOSS,
        CRITIC_LOSS,
        COST_CRITIC_LOSS,
        Metric::loss("actor_loss", "value", "Perturbation network: mean of -Q + multiplier (Qc - q*) at its actions."),
        MULTIPLIER,
    ];

    fn defaults() -> BcqLagConfig {
        BcqLagConfig::default()
    }

    fn presets() -> Vec<Preset<BcqLagConfig>> {
        let quick = BcqLagConfig {
            actor_hidden: vec![128, 128],
            critic_hidden: vec![128, 128],
            vae_hidden: 128,
            batch_size: 256,
            target_rate: 0.01,
            update_steps: 10_000,
            ..BcqLagConfig::default()
        };
        shared::presets(BcqLagConfig::default(), BcqLagConfig::osrl(), quick)
    }

    fn build(config: BcqLagConfig, context: &mut Context<'_>) -> Result<Self> {
        let (data, run) = (context.data, context.run);
        let threshold = config.values().threshold(run.cost_limit, data.episode_length);
        let dims = (data.observations(), data.actions());
        Ok(BcqLag::new(config, dims, threshold, run.seed, data.device(), context.rng))
    }
}

impl Algorithm for BcqLag {
    fn phases(&self) -> Vec<Phase> {
        vec![Phase { name: "learning", steps: self.config.update_steps }]
    }

    fn step(&mut self, _phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let config = &self.config;
        let batch = context.data.sample(config.batch_size, context.rng);
        let transition = config.values().transition(&batch);
        let (rows, many) = (batch.len(), batch.len() * config.candidates as i64);
        let latents = self.vae.latents();
        let mut draw = |rows: i64| context.rng.normal(&[rows, latents], context.data.device());
        let draws = BcqDraws {
            vae: draw(rows),
            reward: draw(many),
            cost: (config.candidate_draws == CandidateDraws::Separate).then(|| draw(many)),
            actor: draw(rows),
        };
        let step = self.learn(&transition, &draws)?;
        Ok(vec![
            ("vae_loss", step.vae.loss),
            ("critic_loss", step.reward.loss),
            ("cost_critic_loss", step.cost.loss),
            ("actor_loss", step.actor_loss),
            ("multiplier", self.pid.multiplier),
        ])
    }

    fn policies(&self) -> Vec<NamedPolicy> {
        vec![NamedPolicy::new("last", self.frozen())]
    }

    fn critic_estimates(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Option<CriticEstimates> {
        Some(shared::critic_estimates(&mut self.cost, self.config.values(), policy, context))
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("vae", |state| self.vae.persist(state))?;
        state.group("actor", |state| self.actor.persist(state))?;
        state.group("reward", |state| self.reward.head.persist(state))?;
        state.group("cost", |state| self.cost.head.persist(state))?;
        state.group("pid", |state| self.pid.persist(state))
    }
}
