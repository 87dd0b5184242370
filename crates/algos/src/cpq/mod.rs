//! CPQ: constraints-penalised Q-learning (Xu et al. 2022, arXiv 2107.09003), as in OSRL.
//!
//! Actions unlike the data are made to look costly, and actions that look costly are worth nothing. With l the cost
//! value that stands for the limit, a step updates, in this order:
//!
//! 1. a VAE of the logged actions: `mean (a_hat - a)^2 + beta KL`;
//! 2. the reward critics: `y = r + gamma (1 - d) 1{Qc'(s', a') <= l} Q'(s', a')` with `a'` from the policy;
//! 3. the cost critics: `y = c + gamma Qc'(s', a')`, less `alpha (E[Qc(s, u)] - scale l)` over sampled actions u whose
//!    latent code is far from the prior (KL above a threshold), then alpha by dual ascent on `scale l - E[Qc(s, u)]`;
//! 4. the policy: `min -E[1{Qc <= l} Q]`;
//! 5. the targets of the critics.
//!
//! What `fixed` repairs in the published implementation is numbered in docs/algorithms/cpq.md.

use crate::critics::{bound, join, mean, Bound, Critics};
use crate::frame::{normals, parts, ActorCritic, Parts, Task, Transition};
use crate::lagrange::LogMultiplier;
use crate::losses::{feasible_value, mean_value, squared_errors, through_tanh};
use crate::metrics::{CRITIC_LOSS, VAE_LOSS};
use drcorl_core::algorithm::Context;
use drcorl_core::dataset::Batch;
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::policy::{FrozenMlp, FrozenPolicy};
use drcorl_nn::rng::Rng;
use drcorl_nn::vae::VaeStep;
use drcorl_nn::{probe, SquashedActor, Vae};
use tch::{Kind, Tensor};

pub use config::{CpqConfig, Infeasible, OodRule, OodTerm};

mod config;

/// The networks and the weight of the penalty.
pub struct Cpq {
    pub config: CpqConfig,
    pub vae: Vae,
    pub actor: SquashedActor,
    pub reward: Critics,
    pub cost: Critics,
    pub alpha: LogMultiplier,
    task: Task,
}

/// Standard normal draws of one step: `[B,L]`, `[B,A]`, `[B,A]`, `[n,B,A]`, `[B,A]`.
pub struct CpqDraws {
    pub vae: Tensor,
    pub reward: Tensor,
    pub cost: Tensor,
    pub ood: Tensor,
    pub actor: Tensor,
}

/// What one step did.
pub struct CpqStep {
    pub vae: VaeStep,
    /// Of the reward critics.
    pub reward_loss: f64,
    /// Of the cost critics, with the penalty.
    pub cost_loss: f64,
    pub actor_loss: f64,
    pub ood: OodStep,
}

/// The penalty's part of a step.
pub struct OodStep {
    /// The average the dual ascent sees.
    pub mean: f64,
    /// Share of samples that count as unlike the data.
    pub share: f64,
}

impl Cpq {
    /// Regression towards `target [B,1]` with the penalty on samples unlike the data.
    fn cost_step(&mut self, batch: &Transition, target: &Tensor, noise: &Tensor) -> (f64, OodStep) {
        let (lr, weight) = (self.config.critic.critic_lr, self.alpha.value());
        let level = self.config.ood_scale * self.task.threshold;
        let gaussian = self.actor.evaluate(&batch.observation);
        let raw = (&gaussian.std * noise + &gaussian.mu).view([-1, batch.actions()]);
        let states = batch.observation.repeat([noise.size()[0], 1]);
        let sampled = match self.config.ood_term {
            OodTerm::DetachedRaw => join(&raw, &states),
            OodTerm::LiveSquashed => join(&raw.tanh(), &states),
        };
        let flagged = self.flag(&sampled, batch);
        let share = mean(&flagged);
        let (loss, mean) = match self.config.ood_term {
            OodTerm::DetachedRaw => {
                let values = self.cost.target(&sampled);
                probe::see("ood_values", &values);
                let mean = self.average(&(values * &flagged), share);
                (self.cost.regress(&batch.state_action, target, lr), mean)
            }
            OodTerm::LiveSquashed => {
                let rows = flagged.squeeze_dim(1).nonzero().squeeze_dim(1);
                self.live_penalty(batch, target, &sampled, &rows, weight)
            }
        };
        // Where nothing is unlike the data there is nothing to weigh.
        if share > 0.0 || self.config.ood_rule == OodRule::SampleQuantile {
            self.alpha.ascend(level - mean, self.config.alpha_lr);
        }
        (loss - weight * (mean - level), OodStep { mean, share })
    }

    /// 1 where a sample's latent code is far from the prior, `[n*B,A+S]` to `[n*B,1]`. Row `j*B+b` is sample j at
    /// state b.
    fn flag(&mut self, sampled: &Tensor, batch: &Transition) -> Tensor {
        let samples = self.vae.encode(sampled).kl();
        let reference = match self.config.ood_rule {
            OodRule::SampleQuantile => samples.shallow_clone(),
            OodRule::DataQuantile => self.vae.encode(&batch.state_action).kl(),
        };
        let threshold = reference.quantile_scalar(self.config.ood_quantile, None, false, "linear").double_value(&[]);
        let flagged = match self.config.ood_rule {
            OodRule::SampleQuantile => samples.ge(threshold),
            OodRule::DataQuantile => samples.gt(threshold),
        };
        probe::see("ood_kl", &samples);
        probe::see_with("ood_threshold", || Tensor::from(threshold));
        flagged.to_kind(Kind::Float)
    }

    /// The mean of `masked` values over all samples, or over the flagged `share` of them.
    fn average(&self, masked: &Tensor, share: f64) -> f64 {
        match self.config.ood_rule {
            OodRule::SampleQuantile => mean(masked),
            OodRule::DataQuantile if share > 0.0 => mean(masked) / share,
            OodRule::DataQuantile => 0.0,
        }
    }

    /// One step of the cost critics on the regression and `- weight E[Qc]` over the flagged `rows` of `sampled`, for
    /// each member alike. Returns the regression's part and that average.
    fn live_penalty(
        &mut self,
        batch: &Transition,
        target: &Tensor,
        sampled: &Tensor,
        rows: &Tensor,
        weight: f64,
    ) -> (f64, f64) {
        let (count, logged, lr) = (rows.size()[0], batch.rows(), self.config.critic.critic_lr);
        if count == 0 {
            return (self.cost.regress(&batch.state_action, target, lr), 0.0);
        }
        let total = match self.config.ood_rule {
            OodRule::SampleQuantile => sampled.size()[0],
            OodRule::DataQuantile => count,
        } as f64;
        let input = Tensor::cat(&[&batch.state_action, &sampled.index_select(0, rows)], 0);
        let outputs = self.cost.head.forward(&input).copy();
        let (loss, regression) = squared_errors(&outputs.narrow(0, 0, logged), target);
        let (average, raise) = mean_value(&outputs.narrow(0, logged, count), -weight, total);
        self.cost.head.descend(&input, &Tensor::cat(&[regression, raise], 0), lr);
        (loss, average)
    }

    /// One step of the policy; the loss.
    fn actor_step(&mut self, batch: &Transition, noise: &Tensor) -> f64 {
        let gaussian = self.actor.forward(&batch.observation);
        let action = gaussian.sample(noise).tanh_();
        let state_action = join(&action, &batch.observation);
        let reward = self.reward.pull(&state_action, batch.actions());
        let (qc, pull) = match self.config.infeasible {
            Infeasible::Ignore => (bound(&self.cost.head.evaluate(&state_action), self.config.cost_ensemble), None),
            Infeasible::LowerCost => {
                let (qc, pull) = self.cost.pull(&state_action, batch.actions());
                (qc, Some(pull))
            }
        };
        probe::see("actor_cost", &qc);
        let (loss, grad) = feasible_value(&reward, (&qc, pull.as_ref()), self.task.threshold);
        let grad = through_tanh(&action, &grad);
        self.actor.descend_samples(&batch.observation, &gaussian, noise, &grad, self.config.actor.actor_lr);
        loss
    }
}

impl ActorCritic for Cpq {
    type Config = CpqConfig;
    type Draws = CpqDraws;
    type Step = CpqStep;
    const NAME: &'static str = "cpq";
    const LABEL: &'static str = "CPQ";
    const SUMMARY: &'static str =
        "Constraints-penalised Q-learning: actions unlike the data look costly, costly actions are worth nothing.";
    const METRICS: &'static [Metric] = &[
        VAE_LOSS,
        CRITIC_LOSS,
        Metric::loss(
            "cost_critic_loss",
            "squared value",
            "Cost critics: squared temporal-difference errors, less alpha times what the penalised actions cost beyond their level.",
        ),
        Metric::loss(
            "actor_loss",
            "value",
            "Policy: mean of -1{Qc <= l} Q, and of Qc where it is above l if it lowers the cost there.",
        ),
        Metric::multiplier(
            "alpha",
            "1",
            "Weight of the penalty on actions unlike the data, by dual ascent on ood_scale l - ood_cost.",
        ),
        Metric::diagnostic("ood_share", "1", "Share of the sampled actions that count as unlike the data."),
        Metric::diagnostic(
            "ood_cost",
            "cost value",
            "Mean cost value of those actions; over all samples by the rule sample_quantile.",
        ),
    ];

    fn new(config: CpqConfig, task: Task, rng: &mut Rng) -> Self {
        Cpq {
            vae: config.vae.build(&task, rng),
            actor: config.actor.squashed(false, &task, rng),
            reward: config.critic.build("reward", 1, Bound::Min, &task, rng),
            cost: config.critic.build("cost", 1, config.cost_ensemble, &task, rng),
            alpha: LogMultiplier::default(),
            task,
            config,
        }
    }

    fn config(&self) -> &CpqConfig {
        &self.config
    }

    fn draw(&self, batch: &Batch, context: &mut Context<'_>) -> CpqDraws {
        let (rows, actions, latents) = (batch.len(), context.data.actions(), self.vae.latents());
        let mut normal = normals(context);
        CpqDraws {
            vae: normal(&[rows, latents]),
            reward: normal(&[rows, actions]),
            cost: normal(&[rows, actions]),
            ood: normal(&[self.config.ood_samples as i64, rows, actions]),
            actor: normal(&[rows, actions]),
        }
    }

    fn learn(&mut self, batch: &Transition, draws: &CpqDraws) -> Result<CpqStep> {
        batch.check()?;
        let values = self.config.values;
        let (lr, rate) = (self.config.critic.critic_lr, self.config.critic.target_rate);
        let vae = self.config.vae.step(&mut self.vae, batch, &draws.vae);

        let gaussian = self.actor.evaluate(&batch.next_observation);
        let next = |noise: &Tensor| join(&gaussian.sample(noise).tanh_(), &batch.next_observation);
        let sampled = next(&draws.reward);
        let next_cost = self.cost.target(&sampled);
        let feasible = next_cost.le(self.task.threshold).to_kind(Kind::Float);
        let value = self.reward.target(&sampled) * feasible;
        probe::see("next_cost", &next_cost);
        let reward_loss = self.reward.regress(&batch.state_action, &values.reward_target(batch, &value), lr);

        let next_cost = self.cost.target(&next(&draws.cost));
        probe::see("next_cost", &next_cost);
        let target = values.cost_target(batch, &next_cost);
        let (cost_loss, ood) = self.cost_step(batch, &target, &draws.ood);

        let actor_loss = self.actor_step(batch, &draws.actor);
        [&mut self.reward, &mut self.cost].into_iter().for_each(|critics| critics.head.follow(rate));
        Ok(CpqStep { vae, reward_loss, cost_loss, actor_loss, ood })
    }

    fn metrics(&self, step: &CpqStep) -> Vec<f64> {
        let CpqStep { vae, reward_loss, cost_loss, actor_loss, ood } = step;
        vec![vae.loss, *reward_loss, *cost_loss, *actor_loss, self.alpha.value(), ood.share, ood.mean]
    }

    fn policy(&self) -> Box<dyn FrozenPolicy> {
        Box::new(FrozenMlp::mean_of(&self.actor))
    }

    fn cost_critics(&mut self) -> Option<&mut Critics> {
        Some(&mut self.cost)
    }

    fn parts(&mut self) -> Parts<'_> {
        parts!(self: vae, actor, reward, cost, alpha)
    }
}

#[cfg(test)]
mod tests;
