//! CPQ: constraints-penalised Q-learning (Xu et al. 2022, arXiv 2107.09003), as in OSRL.
//!
//! Actions unlike the data are made to look costly, and actions that look costly are worth nothing. With l the cost value that stands
//! for the limit, a step updates, in this order:
//!
//! 1. a VAE of the logged actions: `mean (a_hat - a)^2 + beta KL`;
//! 2. the reward critics: `y = r + gamma (1 - d) 1{Qc'(s', a') <= l} Q'(s', a')` with `a'` from the policy;
//! 3. the cost critics: `y = c + gamma Qc'(s', a')`, less `alpha (E[Qc(s, u)] - scale l)` over sampled actions u whose latent code is
//!    far from the prior (KL above a threshold), then alpha by dual ascent on `scale l - E[Qc(s, u)]`;
//! 4. the policy: `min -E[1{Qc <= l} Q]`;
//! 5. the targets of the critics.
//!
//! What `fixed` repairs in the published implementation is numbered in docs/algorithms/cpq.md.

use super::shared::{self, bound, join, mean, Bound, CriticStep, Critics, Transition};
use crate::lagrange::LogMultiplier;
use crate::metrics::{CRITIC_LOSS, VAE_LOSS};
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::offline::CriticEstimates;
use drcorl_core::policy::{FrozenMlp, FrozenPolicy};
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::vae::{kl, VaeStep};
use drcorl_nn::{SquashedActor, Vae};
use tch::{Device, Kind, Tensor};

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
    /// The cost value l that stands for the limit.
    threshold: f64,
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
    pub reward: CriticStep,
    /// The loss includes the penalty.
    pub cost: CriticStep,
    pub actor_loss: f64,
    pub ood: OodStep,
    /// `Qc' [B,1]` at the next actions of steps 2 and 3, and `Qc [B,1]` at the policy's actions in step 4.
    pub cost_values: [Tensor; 3],
}

/// The penalty's part of a step. Row `j*B+b` is sample j at state b.
pub struct OodStep {
    /// `[n*B,1]`
    pub kl: Tensor,
    pub threshold: f64,
    /// Cost value of each sample by the critics the term acts on, `[n*B,1]`; none where the term is live, which looks at flagged samples only.
    pub values: Option<Tensor>,
    /// The average the dual ascent sees.
    pub mean: f64,
    /// Share of samples that count as unlike the data.
    pub share: f64,
}

impl Cpq {
    /// Fresh networks; `threshold` is the cost value that stands for the limit.
    pub fn new(
        config: CpqConfig,
        (observations, actions): (i64, i64),
        threshold: f64,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let inputs = actions + observations;
        let shape = (1, config.critics);
        Cpq {
            vae: Vae::new(observations, actions, config.vae_hidden, device, rng),
            actor: SquashedActor::new(observations, actions, &config.actor_hidden, false, device, rng),
            reward: Critics::new("reward", inputs, shape, &config.critic_hidden, Bound::Min, device, rng),
            cost: Critics::new("cost", inputs, shape, &config.critic_hidden, config.cost_ensemble, device, rng),
            alpha: LogMultiplier::default(),
            threshold,
            config,
        }
    }

    /// One step of all networks.
    pub fn learn(&mut self, batch: &Transition, draws: &CpqDraws) -> Result<CpqStep> {
        batch.check()?;
        let config = &self.config;
        let (values, critic_lr, rate) = (config.values(), config.critic_lr, config.target_rate);
        let vae = self.vae.step(&batch.state_action, &draws.vae, config.vae_beta, config.vae_lr);

        let gaussian = self.actor.evaluate(&batch.next_observation);
        let next = |noise: &Tensor| join(&gaussian.sample(noise).tanh_(), &batch.next_observation);
        let sampled = next(&draws.reward);
        let next_cost = self.cost.target(&sampled);
        let feasible = next_cost.le(self.threshold).to_kind(Kind::Float);
        let value = self.reward.target(&sampled) * feasible;
        let target = values.reward_target(batch, &value);
        let reward = self.reward.regress(&batch.state_action, target, critic_lr);

        let own_next_cost = self.cost.target(&next(&draws.cost));
        let target = values.cost_target(batch, &own_next_cost);
        let (cost, ood) = self.cost_step(batch, target, &draws.ood);

        let (actor_loss, actor_cost) = self.actor_step(batch, &draws.actor);
        self.reward.head.follow(rate);
        self.cost.head.follow(rate);
        Ok(CpqStep { vae, reward, cost, actor_loss, ood, cost_values: [next_cost, own_next_cost, actor_cost] })
    }

    /// Regression towards `target [B,1]` with the penalty on samples unlike the data.
    fn cost_step(&mut self, batch: &Transition, target: Tensor, noise: &Tensor) -> (CriticStep, OodStep) {
        let (lr, weight) = (self.config.critic_lr, self.alpha.value());
        let level = self.config.ood_scale * self.threshold;
        let actions = batch.actions();
        let gaussian = self.actor.evaluate(&batch.observation);
        let raw = (gaussian.log_std.exp() * noise + &gaussian.mu).view([-1, actions]);
        let states = batch.observation.repeat([noise.size()[0], 1]);
        let sampled = match self.config.ood_term {
            OodTerm::DetachedRaw => join(&raw, &states),
            OodTerm::LiveSquashed => join(&raw.tanh(), &states),
        };
        let (kl, threshold, flagged) = self.flag(&sampled, batch);
        let share = mean(&flagged);
        let (mut step, ood) = match self.config.ood_term {
            OodTerm::DetachedRaw => {
                let values = self.cost.target(&sampled);
                let average = self.average(&(&values * &flagged), share);
                let step = self.cost.regress(&batch.state_action, target, lr);
                (step, OodStep { kl, threshold, values: Some(values), mean: average, share })
            }
            OodTerm::LiveSquashed => {
                let rows = flagged.squeeze_dim(1).nonzero().squeeze_dim(1);
                let (step, average) = self.live_penalty(batch, target, &sampled, &rows, weight);
                (step, OodStep { kl, threshold, values: None, mean: average, share })
            }
        };
        step.loss -= weight * (ood.mean - level);
        // Where nothing is unlike the data there is nothing to weigh.
        if share > 0.0 || self.config.ood_rule == OodRule::SampleQuantile {
            self.alpha.ascend(level - ood.mean, self.config.alpha_lr);
        }
        (step, ood)
    }

    /// KL `[n*B,1]` of the samples, the threshold, and 1 where a sample is unlike the data.
    fn flag(&mut self, sampled: &Tensor, batch: &Transition) -> (Tensor, f64, Tensor) {
        let (mu, log_std) = self.vae.encode(sampled);
        let samples = kl(&mu, &log_std);
        let reference = match self.config.ood_rule {
            OodRule::SampleQuantile => samples.shallow_clone(),
            OodRule::DataQuantile => {
                let (mu, log_std) = self.vae.encode(&batch.state_action);
                kl(&mu, &log_std)
            }
        };
        let threshold = reference.quantile_scalar(self.config.ood_quantile, None, false, "linear").double_value(&[]);
        let flagged = match self.config.ood_rule {
            OodRule::SampleQuantile => samples.ge(threshold),
            OodRule::DataQuantile => samples.gt(threshold),
        };
        (samples, threshold, flagged.to_kind(Kind::Float))
    }

    /// The mean of `masked` values over all samples, or over the flagged `share` of them.
    fn average(&self, masked: &Tensor, share: f64) -> f64 {
        match self.config.ood_rule {
            OodRule::SampleQuantile => mean(masked),
            OodRule::DataQuantile if share > 0.0 => mean(masked) / share,
            OodRule::DataQuantile => 0.0,
        }
    }

    /// One step of the cost critics on the regression and `- weight E[Qc]` over the flagged `rows` of `sampled`, for each member alike.
    /// Returns the regression's part and that average.
    fn live_penalty(
        &mut self,
        batch: &Transition,
        target: Tensor,
        sampled: &Tensor,
        rows: &Tensor,
        weight: f64,
    ) -> (CriticStep, f64) {
        let (count, logged) = (rows.size()[0], batch.rows());
        if count == 0 {
            return (self.cost.regress(&batch.state_action, target, self.config.critic_lr), 0.0);
        }
        let total = match self.config.ood_rule {
            OodRule::SampleQuantile => sampled.size()[0],
            OodRule::DataQuantile => count,
        } as f64;
        let input = Tensor::cat(&[&batch.state_action, &sampled.index_select(0, rows)], 0);
        let outputs = self.cost.head.forward(&input).copy();
        let values = outputs.narrow(0, 0, logged).copy();
        let members = values.size()[1] as f64;
        let average = outputs.narrow(0, logged, count).sum(Kind::Double).double_value(&[]) / (members * total);
        let error = &values - &target;
        let loss = error.square().sum(Kind::Double).double_value(&[]) / logged as f64;
        let raise = Tensor::full_like(&outputs.narrow(0, logged, count), -weight / total);
        let grad = Tensor::cat(&[error * (2.0 / logged as f64), raise], 0);
        self.cost.head.descend(&input, &grad, self.config.critic_lr);
        (CriticStep { loss, target, values }, average)
    }

    /// One step of the policy; the loss, and `Qc [B,1]` at its actions.
    fn actor_step(&mut self, batch: &Transition, noise: &Tensor) -> (f64, Tensor) {
        let (rows, actions) = (batch.rows() as f64, batch.actions());
        let gaussian = self.actor.forward(&batch.observation);
        let action = gaussian.sample(noise).tanh_();
        let state_action = join(&action, &batch.observation);
        let (q, q_pull) = self.reward.pull(&state_action, actions);
        let (qc, cost_pull) = match self.config.infeasible {
            Infeasible::Ignore => (bound(&self.cost.head.evaluate(&state_action), self.config.cost_ensemble), None),
            Infeasible::LowerCost => {
                let (qc, pull) = self.cost.pull(&state_action, actions);
                (qc, Some(pull))
            }
        };
        let feasible = qc.le(self.threshold).to_kind(Kind::Float);
        let infeasible: Tensor = 1.0 - &feasible;
        let mut loss = -mean(&(&q * &feasible));
        let mut grad = -q_pull * feasible;
        if let Some(pull) = cost_pull {
            loss += mean(&(&qc * &infeasible));
            grad += pull * infeasible;
        }
        let grad = grad * (1.0 - action.square()) / rows;
        self.actor.descend_samples(&batch.observation, &gaussian, noise, &grad, self.config.actor_lr);
        (loss, qc)
    }
}

impl Define for Cpq {
    type Config = CpqConfig;
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

    fn defaults() -> CpqConfig {
        CpqConfig::default()
    }

    fn presets() -> Vec<Preset<CpqConfig>> {
        let quick = CpqConfig {
            actor_hidden: vec![128, 128],
            critic_hidden: vec![128, 128],
            vae_hidden: 128,
            batch_size: 256,
            actor_lr: 3e-4,
            alpha_lr: 1e-3,
            target_rate: 0.01,
            update_steps: 10_000,
            ..CpqConfig::default()
        };
        shared::presets(CpqConfig::default(), CpqConfig::osrl(), quick)
    }

    fn build(config: CpqConfig, context: &mut Context<'_>) -> Result<Self> {
        let (data, run) = (context.data, context.run);
        let threshold = config.values().threshold(run.cost_limit, data.episode_length);
        Ok(Cpq::new(config, (data.observations(), data.actions()), threshold, data.device(), context.rng))
    }
}

impl Algorithm for Cpq {
    fn phases(&self) -> Vec<Phase> {
        vec![Phase { name: "learning", steps: self.config.update_steps }]
    }

    fn step(&mut self, _phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let config = &self.config;
        let batch = context.data.sample(config.batch_size, context.rng);
        let transition = config.values().transition(&batch);
        let (rows, actions) = (batch.len(), context.data.actions());
        let mut draw = |shape: &[i64]| context.rng.normal(shape, context.data.device());
        let draws = CpqDraws {
            vae: draw(&[rows, self.vae.latents()]),
            reward: draw(&[rows, actions]),
            cost: draw(&[rows, actions]),
            ood: draw(&[config.ood_samples as i64, rows, actions]),
            actor: draw(&[rows, actions]),
        };
        let step = self.learn(&transition, &draws)?;
        Ok(vec![
            ("vae_loss", step.vae.loss),
            ("critic_loss", step.reward.loss),
            ("cost_critic_loss", step.cost.loss),
            ("actor_loss", step.actor_loss),
            ("alpha", self.alpha.value()),
            ("ood_share", step.ood.share),
            ("ood_cost", step.ood.mean),
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
        state.value("alpha", &mut self.alpha)
    }
}

#[cfg(test)]
mod tests;
