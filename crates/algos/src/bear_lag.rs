//! BEAR-Lag: bootstrapping error accumulation reduction (Kumar et al. 2019, arXiv 1906.00949) under a PID-controlled Lagrange
//! multiplier, as in OSRL.
//!
//! A squashed Gaussian policy follows the critics while the maximum mean discrepancy between its samples and those of a VAE of the
//! logged actions stays below a threshold. A step updates, in this order:
//!
//! 1. the VAE: `mean (a_hat - a)^2 + beta KL`;
//! 2. the reward critics: `y = r + gamma (1 - d) max_j [lambda min(Q1', Q2') + (1 - lambda) max(Q1', Q2')](s', a_j)` over n samples of the
//!    lagged policy;
//! 3. the cost critics, alike, by the choices `cost_ensemble`, `cost_action_reduce` and `cost_done`;
//! 4. the policy: `min E[-Q + alpha (mmd - eps)] + multiplier E[Qc - q*]`, then alpha by dual ascent on `mmd - eps`;
//! 5. the targets.
//!
//! What `fixed` repairs in the published implementation is numbered in docs/algorithms/bear_lag.md.

use super::shared::{self, join, mean, repeat, Bound, CandidateDraws, CriticStep, Critics, Reduce, Transition};
use crate::lagrange::{LogMultiplier, Pid};
use crate::metrics::{COST_CRITIC_LOSS, CRITIC_LOSS, MULTIPLIER, VAE_LOSS};
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::offline::CriticEstimates;
use drcorl_core::policy::{FrozenMlp, FrozenPolicy};
use drcorl_nn::checkpoint::State;
use drcorl_nn::mmd::mmd;
use drcorl_nn::rng::Rng;
use drcorl_nn::vae::{clip_latents, VaeStep};
use drcorl_nn::{SquashedActor, Vae};
use tch::{Device, Tensor};

pub use config::{BearLagConfig, MmdSpace};

mod config;

/// The networks and both multipliers.
pub struct BearLag {
    pub config: BearLagConfig,
    pub vae: Vae,
    pub actor: SquashedActor,
    pub reward: Critics,
    pub cost: Critics,
    pub pid: Pid,
    /// Multiplier alpha of the discrepancy.
    pub alpha: LogMultiplier,
    /// Steps made.
    pub steps: u64,
    threshold: f64,
}

/// Standard normal draws of one step: `[B,L]`, `[B,n,A]`, `[B,n,A]` or none to share the former, `[B,N,L]`, `[B,N,A]`.
pub struct BearDraws {
    pub vae: Tensor,
    pub reward: Tensor,
    pub cost: Option<Tensor>,
    pub latents: Tensor,
    pub policy: Tensor,
}

/// What one step did.
pub struct BearStep {
    pub vae: VaeStep,
    pub reward: CriticStep,
    pub cost: CriticStep,
    pub actor: ActorStep,
}

/// The policy's part of a step.
pub struct ActorStep {
    pub loss: f64,
    /// `multiplier * E[Qc - q*]`
    pub penalty: f64,
    /// `[B,1]`
    pub mmd: Tensor,
    /// Samples before the tanh, `[B,N,A]`: the VAE's and the policy's.
    pub vae_raw: Tensor,
    pub policy_raw: Tensor,
}

impl BearLag {
    /// Fresh networks; `threshold` is the cost value that stands for the limit.
    pub fn new(
        config: BearLagConfig,
        (observations, actions): (i64, i64),
        threshold: f64,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let inputs = actions + observations;
        let shape = (2, config.critics);
        BearLag {
            vae: Vae::new(observations, actions, config.vae_hidden, device, rng),
            actor: SquashedActor::new(observations, actions, &config.actor_hidden, true, device, rng),
            reward: Critics::new("reward", inputs, shape, &config.critic_hidden, Bound::Min, device, rng),
            cost: Critics::new("cost", inputs, shape, &config.critic_hidden, config.cost_ensemble, device, rng),
            pid: Pid::new(config.pid, threshold, config.multiplier_cap),
            alpha: LogMultiplier::default(),
            steps: 0,
            threshold,
            config,
        }
    }

    /// One step of all networks.
    pub fn learn(&mut self, batch: &Transition, draws: &BearDraws) -> Result<BearStep> {
        batch.check()?;
        let config = &self.config;
        let (values, n, lambda, reduce) =
            (config.values(), config.candidates as i64, config.lambda, config.cost_action_reduce);
        let (critic_lr, rate) = (config.critic_lr, config.target_rate);
        let vae = self.vae.step(&batch.state_action, &draws.vae, config.vae_beta, config.vae_lr);

        // The Gaussian is the same for all samples of a state, so it is computed once.
        let gaussian = self.actor.evaluate_target(&batch.next_observation);
        let next = repeat(&batch.next_observation, n);
        let actions = batch.actions();
        let candidates = |noise: &Tensor| join(&gaussian.sample(noise).tanh_().view([-1, actions]), &next);
        let sampled = candidates(&draws.reward);
        let value = self.reward.soft_target(&sampled, n, lambda, Reduce::Max);
        let target = values.reward_target(batch, &value);
        let reward = self.reward.regress(&batch.state_action, target, critic_lr);

        let sampled = draws.cost.as_ref().map_or(sampled, candidates);
        let value = self.cost.soft_target(&sampled, n, lambda, reduce);
        let target = values.cost_target(batch, &value);
        let cost = self.cost.regress(&batch.state_action, target, critic_lr);

        let actor = self.actor_step(batch, &draws.latents, &draws.policy);
        self.reward.head.follow(rate);
        self.cost.head.follow(rate);
        self.actor.head.follow(rate);
        self.steps += 1;
        Ok(BearStep { vae, reward, cost, actor })
    }

    fn actor_step(&mut self, batch: &Transition, latents: &Tensor, noise: &Tensor) -> ActorStep {
        let config = &self.config;
        let (rows, actions, samples) = (batch.rows() as f64, batch.actions(), noise.size()[1]);
        let latents = clip_latents(&latents.view([-1, self.vae.latents()]));
        let vae_raw = self.vae.decode_raw(&latents, &repeat(&batch.observation, samples)).view([-1, samples, actions]);
        let gaussian = self.actor.forward(&batch.observation);
        let policy_raw = gaussian.sample(noise);
        let action = policy_raw.tanh();
        let through_tanh: Tensor = 1.0 - action.square();
        let (distance, slope) = match config.mmd_space {
            MmdSpace::Raw => mmd(&vae_raw, &policy_raw, config.mmd_kernel, config.mmd_sigma),
            MmdSpace::Squashed => {
                let (distance, slope) = mmd(&vae_raw.tanh(), &action, config.mmd_kernel, config.mmd_sigma);
                (distance, slope * &through_tanh)
            }
        };
        let first = action.select(1, 0).contiguous();
        let state_action = join(&first, &batch.observation);
        let (q, q_pull) = self.reward.pull(&state_action, actions);
        let (qc, qc_pull) = self.cost.pull(&state_action, actions);
        let multiplier = self.pid.update(mean(&qc));
        let penalty = multiplier * (mean(&qc) - self.threshold);
        let follow = if self.steps >= config.imitation_steps { 1.0 } else { 0.0 };
        let violation = mean(&distance) - config.mmd_threshold;
        let loss = self.alpha.value() * violation - follow * mean(&q) + penalty;

        let grad = slope * self.alpha.value();
        let pull = (qc_pull * multiplier - q_pull * follow) * through_tanh.select(1, 0);
        grad.select(1, 0).copy_(&(grad.select(1, 0) + pull));
        self.actor.descend_samples(&batch.observation, &gaussian, noise, &(grad / rows), config.actor_lr);
        self.alpha.ascend(violation, config.alpha_lr);
        ActorStep { loss, penalty, mmd: distance, vae_raw, policy_raw }
    }
}

impl Define for BearLag {
    type Config = BearLagConfig;
    const NAME: &'static str = "bear_lag";
    const LABEL: &'static str = "BEAR-Lag";
    const SUMMARY: &'static str =
        "Actor-critic kept near the data by a discrepancy to a VAE's samples, with a PID Lagrange multiplier.";
    const METRICS: &'static [Metric] = &[
        VAE_LOSS,
        CRITIC_LOSS,
        COST_CRITIC_LOSS,
        Metric::loss(
            "actor_loss",
            "value",
            "Policy: mean of -Q + alpha (mmd - mmd_threshold) + multiplier (Qc - q*) at its actions.",
        ),
        Metric::multiplier(
            "alpha",
            "value",
            "Weight of the distance to the data, by dual ascent on mmd - mmd_threshold.",
        ),
        MULTIPLIER,
        Metric::diagnostic(
            "mmd",
            "1",
            "Maximum mean discrepancy between samples of the policy and of the VAE, mean over states.",
        ),
    ];

    fn defaults() -> BearLagConfig {
        BearLagConfig::default()
    }

    fn presets() -> Vec<Preset<BearLagConfig>> {
        let quick = BearLagConfig {
            actor_hidden: vec![128, 128],
            critic_hidden: vec![128, 128],
            vae_hidden: 128,
            batch_size: 256,
            target_rate: 0.01,
            alpha_lr: 1e-2,
            update_steps: 10_000,
            ..BearLagConfig::default()
        };
        shared::presets(BearLagConfig::default(), BearLagConfig::osrl(), quick)
    }

    fn build(config: BearLagConfig, context: &mut Context<'_>) -> Result<Self> {
        let (data, run) = (context.data, context.run);
        let threshold = config.values().threshold(run.cost_limit, data.episode_length);
        Ok(BearLag::new(config, (data.observations(), data.actions()), threshold, data.device(), context.rng))
    }
}

impl Algorithm for BearLag {
    fn phases(&self) -> Vec<Phase> {
        vec![Phase { name: "learning", steps: self.config.update_steps }]
    }

    fn step(&mut self, _phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let config = &self.config;
        let batch = context.data.sample(config.batch_size, context.rng);
        let transition = config.values().transition(&batch);
        let (rows, actions, latents) = (batch.len(), context.data.actions(), self.vae.latents());
        let (n, samples) = (config.candidates as i64, config.mmd_samples as i64);
        let mut draw = |shape: &[i64]| context.rng.normal(shape, context.data.device());
        let draws = BearDraws {
            vae: draw(&[rows, latents]),
            reward: draw(&[rows, n, actions]),
            cost: (config.candidate_draws == CandidateDraws::Separate).then(|| draw(&[rows, n, actions])),
            latents: draw(&[rows, samples, latents]),
            policy: draw(&[rows, samples, actions]),
        };
        let step = self.learn(&transition, &draws)?;
        Ok(vec![
            ("vae_loss", step.vae.loss),
            ("critic_loss", step.reward.loss),
            ("cost_critic_loss", step.cost.loss),
            ("actor_loss", step.actor.loss),
            ("alpha", self.alpha.value()),
            ("multiplier", self.pid.multiplier),
            ("mmd", mean(&step.actor.mmd)),
        ])
    }

    fn policies(&self) -> Vec<NamedPolicy> {
        vec![NamedPolicy::new("last", FrozenMlp::mean_of(&self.actor))]
    }

    fn critic_estimates(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Option<CriticEstimates> {
        Some(shared::critic_estimates(&mut self.cost, self.config.values(), policy, context))
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("vae", |state| self.vae.persist(state))?;
        state.group("actor", |state| self.actor.persist(state))?;
        state.group("reward", |state| self.reward.head.persist(state))?;
        state.group("cost", |state| self.cost.head.persist(state))?;
        state.group("pid", |state| self.pid.persist(state))?;
        state.value("alpha", &mut self.alpha)?;
        state.value("steps", &mut self.steps)
    }
}
