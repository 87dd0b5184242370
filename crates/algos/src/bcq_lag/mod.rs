//! BCQ-Lag: batch-constrained Q-learning (Fujimoto et al. 2019, arXiv 1812.02900) under a PID-controlled Lagrange
//! multiplier, as in OSRL.
//!
//! A VAE imitates the logged actions. The policy decodes a latent z and moves the result by at most phi:
//! `a = clip(b + phi net([b, s]), -1, 1)`, `b = decode(z, s)`. A step updates, in this order:
//!
//! 1. the VAE: `mean (a_hat - a)^2 + beta KL`;
//! 2. the reward critics: `y = r + gamma (1 - d) max_j [lambda min(Q1', Q2') + (1 - lambda) max(Q1', Q2')](s', a_j)`
//!    over n candidates;
//! 3. the cost critics, alike, by the choices `cost_ensemble`, `cost_action_reduce` and `cost_done`;
//! 4. the perturbation network: `min E[-Q + lambda_pid (Qc - q*)]`, after the multiplier saw `E[Qc]`;
//! 5. the targets.
//!
//! What `fixed` repairs in the published implementation is numbered in docs/algorithms/bcq_lag.md.

use crate::critics::{join, mean, Bound, Critics, Reduce};
use crate::frame::{normals, parts, repeat, ActorCritic, CandidateDraws, Parts, Task, Transition};
use crate::lagrange::Pid;
use crate::losses::{penalised, through_clamp, through_tanh, Penalised};
use crate::metrics::{COST_CRITIC_LOSS, CRITIC_LOSS, MULTIPLIER, VAE_LOSS};
use drcorl_core::algorithm::Context;
use drcorl_core::dataset::Batch;
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::policy::{FrozenLatent, FrozenPolicy, Perturbation};
use drcorl_nn::rng::Rng;
use drcorl_nn::vae::{clip_latents, VaeStep};
use drcorl_nn::{probe, Head, Vae};
use tch::Tensor;

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
    task: Task,
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
    /// Of the reward critics.
    pub reward_loss: f64,
    /// Of the cost critics.
    pub cost_loss: f64,
    pub actor: Penalised,
}

impl BcqLag {
    /// `b + phi shift`, before it is clipped.
    fn moved(&self, decoded: &Tensor, shift: &Tensor) -> Tensor {
        decoded + shift * self.config.phi
    }

    /// Perturbed actions of the lagged network joined with `state [N,S]`, for standard normal `draws [N,L]`.
    fn candidates(&mut self, draws: &Tensor, state: &Tensor) -> Tensor {
        let decoded = self.vae.decode(&clip_latents(draws), state);
        let shift = self.actor.evaluate_target(&join(&decoded, state)).tanh_();
        join(&self.moved(&decoded, &shift).clamp_(-1.0, 1.0), state)
    }

    fn actor_step(&mut self, batch: &Transition, draws: &Tensor) -> Penalised {
        let decoded = self.vae.decode(&clip_latents(draws), &batch.observation);
        let input = join(&decoded, &batch.observation);
        let shift = self.actor.forward(&input).tanh();
        let free = self.moved(&decoded, &shift);
        let state_action = join(&free.clamp(-1.0, 1.0), &batch.observation);
        let reward = self.reward.pull(&state_action, batch.actions());
        let cost = self.cost.pull(&state_action, batch.actions());
        let multiplier = self.pid.update(mean(&cost.0));
        let term = penalised(&reward, 1.0, &cost, multiplier, self.task.threshold);
        let grad = through_clamp(&free, 1.0, &term.gradient) * self.config.phi;
        self.actor.descend(&input, &through_tanh(&shift, &grad), self.config.actor.actor_lr);
        term
    }

    /// Actions `[B,A]` of one draw each.
    pub fn act(&mut self, draws: &Tensor, observation: &Tensor) -> Tensor {
        let decoded = self.vae.decode(&clip_latents(draws), observation);
        probe::see("decoded", &decoded);
        let shift = self.actor.evaluate(&join(&decoded, observation)).tanh_();
        self.moved(&decoded, &shift).clamp_(-1.0, 1.0)
    }
}

impl ActorCritic for BcqLag {
    type Config = BcqLagConfig;
    type Draws = BcqDraws;
    type Step = BcqStep;
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

    fn new(config: BcqLagConfig, task: Task, rng: &mut Rng) -> Self {
        BcqLag {
            vae: config.vae.build(&task, rng),
            actor: config.actor.of_actions(config.perturbation_activation, &task, rng),
            reward: config.critic.build("reward", 2, Bound::Min, &task, rng),
            cost: config.critic.build("cost", 2, config.cost_ensemble, &task, rng),
            pid: config.pid.build(&task),
            task,
            config,
        }
    }

    fn config(&self) -> &BcqLagConfig {
        &self.config
    }

    fn draw(&self, batch: &Batch, context: &mut Context<'_>) -> BcqDraws {
        let (rows, many, latents) = (batch.len(), batch.len() * self.config.candidates as i64, self.vae.latents());
        let mut normal = normals(context);
        BcqDraws {
            vae: normal(&[rows, latents]),
            reward: normal(&[many, latents]),
            cost: (self.config.candidate_draws == CandidateDraws::Separate).then(|| normal(&[many, latents])),
            actor: normal(&[rows, latents]),
        }
    }

    fn learn(&mut self, batch: &Transition, draws: &BcqDraws) -> Result<BcqStep> {
        batch.check()?;
        let BcqLagConfig { values, candidates: n, lambda, cost_action_reduce, .. } = self.config;
        let (n, lr, rate) = (n as i64, self.config.critic.critic_lr, self.config.critic.target_rate);
        let vae = self.config.vae.step(&mut self.vae, batch, &draws.vae);

        let next = repeat(&batch.next_observation, n);
        let candidates = self.candidates(&draws.reward, &next);
        let value = self.reward.soft_target(&candidates, n, lambda, Reduce::Max);
        let reward_loss = self.reward.regress(&batch.state_action, &values.reward_target(batch, &value), lr);

        let candidates = match &draws.cost {
            Some(own) => self.candidates(own, &next),
            None => candidates,
        };
        let value = self.cost.soft_target(&candidates, n, lambda, cost_action_reduce);
        let cost_loss = self.cost.regress(&batch.state_action, &values.cost_target(batch, &value), lr);

        let actor = self.actor_step(batch, &draws.actor);
        [&mut self.reward.head, &mut self.cost.head, &mut self.actor].into_iter().for_each(|head| head.follow(rate));
        Ok(BcqStep { vae, reward_loss, cost_loss, actor })
    }

    fn metrics(&self, step: &BcqStep) -> Vec<f64> {
        vec![step.vae.loss, step.reward_loss, step.cost_loss, step.actor.loss, self.pid.multiplier]
    }

    fn policy(&self) -> Box<dyn FrozenPolicy> {
        let config = &self.config;
        let shape = Perturbation { phi: config.phi, hidden: config.perturbation_activation };
        let single = FrozenLatent::copy(&self.vae, &self.actor, shape, self.task.seed);
        Box::new(match config.act {
            Act::Single => single,
            Act::ArgmaxN => {
                single.with_choice(config.candidates, &self.reward.head, &self.cost.head, self.pid.multiplier)
            }
        })
    }

    fn cost_critics(&mut self) -> Option<&mut Critics> {
        Some(&mut self.cost)
    }

    fn parts(&mut self) -> Parts<'_> {
        parts!(self: vae, actor, reward, cost, pid)
    }
}
