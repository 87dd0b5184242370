//! BEAR-Lag: bootstrapping error accumulation reduction (Kumar et al. 2019, arXiv 1906.00949) under a PID-controlled
//! Lagrange multiplier, as in OSRL.
//!
//! A squashed Gaussian policy follows the critics while the maximum mean discrepancy between its samples and those of a
//! VAE of the logged actions stays below a threshold. A step updates, in this order:
//!
//! 1. the VAE: `mean (a_hat - a)^2 + beta KL`;
//! 2. the reward critics: `y = r + gamma (1 - d) max_j [lambda min(Q1', Q2') + (1 - lambda) max(Q1', Q2')](s', a_j)`
//!    over n samples of the lagged policy;
//! 3. the cost critics, alike, by the choices `cost_ensemble`, `cost_action_reduce` and `cost_done`;
//! 4. the policy: `min E[-Q + alpha (mmd - eps)] + multiplier E[Qc - q*]`, then alpha by dual ascent on `mmd - eps`;
//! 5. the targets.
//!
//! What `fixed` repairs in the published implementation is numbered in docs/algorithms/bear_lag.md.

use crate::critics::{join, mean, Bound, Critics, Reduce};
use crate::frame::{normals, parts, repeat, ActorCritic, CandidateDraws, Parts, Task, Transition};
use crate::lagrange::{LogMultiplier, Pid};
use crate::losses::{mmd, penalised, through_tanh};
use crate::metrics::{COST_CRITIC_LOSS, CRITIC_LOSS, MULTIPLIER, VAE_LOSS};
use drcorl_core::algorithm::Context;
use drcorl_core::dataset::Batch;
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::policy::{FrozenMlp, FrozenPolicy};
use drcorl_nn::rng::Rng;
use drcorl_nn::vae::{clip_latents, VaeStep};
use drcorl_nn::{probe, SquashedActor, Vae};
use tch::Tensor;

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
    task: Task,
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
    /// Of the reward critics.
    pub reward_loss: f64,
    /// Of the cost critics.
    pub cost_loss: f64,
    pub actor: ActorStep,
}

/// The policy's part of a step.
pub struct ActorStep {
    pub loss: f64,
    /// `multiplier * E[Qc - q*]`
    pub penalty: f64,
    /// Mean over states of the distance from the VAE's samples.
    pub mmd: f64,
}

impl BearLag {
    fn actor_step(&mut self, batch: &Transition, latents: &Tensor, noise: &Tensor) -> ActorStep {
        let config = &self.config;
        let (rows, actions, samples) = (batch.rows() as f64, batch.actions(), noise.size()[1]);
        let latents = clip_latents(&latents.view([-1, self.vae.latents()]));
        let vae_raw = self.vae.decode_raw(&latents, &repeat(&batch.observation, samples)).view([-1, samples, actions]);
        let gaussian = self.actor.forward(&batch.observation);
        let policy_raw = gaussian.sample(noise);
        let action = policy_raw.tanh();
        let (distance, slope) = match config.mmd_space {
            MmdSpace::Raw => mmd(&vae_raw, &policy_raw, config.mmd_kernel, config.mmd_sigma),
            MmdSpace::Squashed => {
                let (distance, slope) = mmd(&vae_raw.tanh(), &action, config.mmd_kernel, config.mmd_sigma);
                (distance, through_tanh(&action, &slope))
            }
        };
        let first = action.select(1, 0).contiguous();
        let state_action = join(&first, &batch.observation);
        let (reward, cost) = (self.reward.pull(&state_action, actions), self.cost.pull(&state_action, actions));
        let multiplier = self.pid.update(mean(&cost.0));
        let follow = if self.steps >= config.imitation_steps { 1.0 } else { 0.0 };
        let term = penalised(&reward, follow, &cost, multiplier, self.task.threshold);
        let mean_distance = mean(&distance);
        let violation = mean_distance - config.mmd_threshold;
        let loss = self.alpha.value() * violation + term.loss;

        let grad = slope * (self.alpha.value() / rows);
        let _ = grad.select(1, 0).g_add_(&through_tanh(&first, &term.gradient));
        self.actor.descend_samples(&batch.observation, &gaussian, noise, &grad, config.actor.actor_lr);
        self.alpha.ascend(violation, config.alpha_lr);
        probe::see("mmd", &distance);
        probe::see("vae_raw", &vae_raw);
        probe::see("policy_raw", &policy_raw);
        ActorStep { loss, penalty: term.penalty, mmd: mean_distance }
    }
}

impl ActorCritic for BearLag {
    type Config = BearLagConfig;
    type Draws = BearDraws;
    type Step = BearStep;
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

    fn new(config: BearLagConfig, task: Task, rng: &mut Rng) -> Self {
        BearLag {
            vae: config.vae.build(&task, rng),
            actor: config.actor.squashed(true, &task, rng),
            reward: config.critic.build("reward", 2, Bound::Min, &task, rng),
            cost: config.critic.build("cost", 2, config.cost_ensemble, &task, rng),
            pid: config.pid.build(&task),
            alpha: LogMultiplier::default(),
            steps: 0,
            task,
            config,
        }
    }

    fn config(&self) -> &BearLagConfig {
        &self.config
    }

    fn draw(&self, batch: &Batch, context: &mut Context<'_>) -> BearDraws {
        let (rows, actions, latents) = (batch.len(), context.data.actions(), self.vae.latents());
        let (n, samples) = (self.config.candidates as i64, self.config.mmd_samples as i64);
        let mut normal = normals(context);
        BearDraws {
            vae: normal(&[rows, latents]),
            reward: normal(&[rows, n, actions]),
            cost: (self.config.candidate_draws == CandidateDraws::Separate).then(|| normal(&[rows, n, actions])),
            latents: normal(&[rows, samples, latents]),
            policy: normal(&[rows, samples, actions]),
        }
    }

    fn learn(&mut self, batch: &Transition, draws: &BearDraws) -> Result<BearStep> {
        batch.check()?;
        let BearLagConfig { values, candidates: n, lambda, cost_action_reduce, .. } = self.config;
        let (n, lr, rate) = (n as i64, self.config.critic.critic_lr, self.config.critic.target_rate);
        let vae = self.config.vae.step(&mut self.vae, batch, &draws.vae);

        // The Gaussian is the same for all samples of a state, so it is computed once.
        let gaussian = self.actor.evaluate_target(&batch.next_observation);
        let next = repeat(&batch.next_observation, n);
        let candidates = |noise: &Tensor| join(&gaussian.sample(noise).tanh_().view([-1, batch.actions()]), &next);
        let sampled = candidates(&draws.reward);
        let value = self.reward.soft_target(&sampled, n, lambda, Reduce::Max);
        let reward_loss = self.reward.regress(&batch.state_action, &values.reward_target(batch, &value), lr);

        let sampled = draws.cost.as_ref().map_or(sampled, candidates);
        let value = self.cost.soft_target(&sampled, n, lambda, cost_action_reduce);
        let cost_loss = self.cost.regress(&batch.state_action, &values.cost_target(batch, &value), lr);

        let actor = self.actor_step(batch, &draws.latents, &draws.policy);
        [&mut self.reward.head, &mut self.cost.head, &mut self.actor.head]
            .into_iter()
            .for_each(|head| head.follow(rate));
        self.steps += 1;
        Ok(BearStep { vae, reward_loss, cost_loss, actor })
    }

    fn metrics(&self, step: &BearStep) -> Vec<f64> {
        let BearStep { vae, reward_loss, cost_loss, actor } = step;
        vec![vae.loss, *reward_loss, *cost_loss, actor.loss, self.alpha.value(), self.pid.multiplier, actor.mmd]
    }

    fn policy(&self) -> Box<dyn FrozenPolicy> {
        Box::new(FrozenMlp::mean_of(&self.actor))
    }

    fn cost_critics(&mut self) -> Option<&mut Critics> {
        Some(&mut self.cost)
    }

    fn parts(&mut self) -> Parts<'_> {
        parts!(self: vae, actor, reward, cost, pid, alpha, steps)
    }
}
