//! COptiDICE: offline constrained RL by stationary distribution correction (Lee et al. 2022, arXiv 2204.08957), as in
//! OSRL.
//!
//! With `e = r - lambda c + gamma (1-d) nu(s') - nu(s)` and `w = relu(f'^-1(e / alpha))`, the ratio of the optimal
//! state-action distribution to the data's, a step updates
//!
//! 1. nu: `min (1-gamma) E[nu(s0)] + E[w e - alpha f(w)]`;
//! 2. chi and tau, which bound the cost of w, as it was before 1, from above: with
//!    `l = (1-gamma) chi(s0) + w (c + gamma (1-d) chi(s') - chi(s))` and `W = softmax(l / tau)` over the batch,
//!    `min_chi E[W l]`, `min_tau tau (eps - KL(W))`; the bound is `E[W w c]`;
//! 3. lambda: `min lambda (limit - bound)`;
//! 4. the policy by weighted regression: `min -E[w log pi(a | s)]`, w as after 1, with a little noise on both.
//!
//! What `fixed` repairs in the published implementation is numbered in docs/algorithms/coptidice.md.

use crate::critics::mean;
use crate::frame::{normals, parts, widths, ActorCritic, Parameters, Parts, Task, Transition};
use crate::lagrange::SoftplusMultiplier;
use crate::losses::average;
use drcorl_core::algorithm::Context;
use drcorl_core::dataset::Batch;
use drcorl_core::error::{Error, Result};
use drcorl_core::metrics::Metric;
use drcorl_core::policy::{FrozenMlp, FrozenPolicy};
use drcorl_nn::rng::Rng;
use drcorl_nn::{Head, SquashedActor};
use tch::{Kind, Tensor};

pub use config::{CoptidiceConfig, InitialStates, LimitUnit, PolicyFit};
use losses::{chi_loss, nu_loss, NuLoss, Ratio};
use rows::{column, Rows, Values};

mod config;
pub mod divergence;
pub mod losses;
pub mod rows;

/// Factor on the data's standard deviations in the noise of the policy's regression.
const NOISE: f64 = 0.1;
/// Squashed actions are kept this far from +-1 before the inverse tanh.
const ATANH_MARGIN: f64 = 1e-5;

/// The networks and both multipliers.
pub struct Coptidice {
    pub config: CoptidiceConfig,
    pub nu: Head,
    pub chi: Head,
    pub actor: SquashedActor,
    pub tau: SoftplusMultiplier,
    pub lambda: SoftplusMultiplier,
    pub scales: Scales,
}

/// What the data say once and for all.
pub struct Scales {
    /// The number the bound on the cost is compared with.
    pub limit: f64,
    /// What stands there for a cost of 1 an episode.
    pub unit: f64,
    /// Share of initial rows in the data.
    pub initial_share: f64,
    /// Standard deviations `[1,S]`, `[1,A]`.
    pub observation_std: Tensor,
    pub action_std: Tensor,
}

impl Scales {
    fn unit(task: &Task) -> Self {
        let ones = |columns: i64| Tensor::ones([1, columns], (Kind::Float, task.device));
        let (observation_std, action_std) = (ones(task.observations), ones(task.actions));
        Scales { limit: task.threshold, unit: 1.0, initial_share: 1.0, observation_std, action_std }
    }

    fn of(context: &Context<'_>, config: &CoptidiceConfig) -> Result<Self> {
        let data = context.data;
        let whole = data.gather(&data.rows_where(|_| true));
        if whole.is_empty() {
            return Err(Error::Data("there are no episodes to learn from".into()));
        }
        let spread = |columns: Tensor| columns.std_dim(0i64, false, true);
        Ok(Scales {
            limit: config.limit(context.run.cost_limit, data.episode_length),
            unit: config.limit(1.0, data.episode_length),
            initial_share: mean(&whole.start()),
            observation_std: spread(whole.observation()),
            action_std: spread(whole.action()),
        })
    }
}

/// Initial states of one step.
pub enum Initial {
    /// `[B,1]`, 1 where a row of the batch is initial.
    Flags(Tensor),
    /// `[M,S]`
    States(Tensor),
}

/// Initial states and standard normal draws of one step: `[B,S]`, `[B,A]`.
pub struct CoptidiceDraws {
    pub initial: Initial,
    pub observation: Tensor,
    pub action: Tensor,
}

/// What one step did.
pub struct CoptidiceStep {
    /// Both multipliers before their steps.
    pub lambda: f64,
    pub tau: f64,
    pub nu_loss: f64,
    pub lambda_loss: f64,
    pub actor_loss: f64,
    /// `E[f(w)]`
    pub divergence: f64,
    pub bound: Bound,
}

/// What a step of chi and tau did, and the bound on the cost.
#[derive(Default)]
pub struct Bound {
    pub chi_loss: f64,
    pub tau_loss: f64,
    /// KL of the weights of the bound from uniform ones.
    pub kl: f64,
    pub cost: f64,
}

impl Coptidice {
    /// One step of nu; the ratios before and after it.
    fn nu_step(&mut self, rows: &Rows, lambda: f64) -> (NuLoss, [Ratio; 2]) {
        let nu = Values::forward(&mut self.nu, &rows.states);
        let before = Ratio::of(rows, &nu.lowest, lambda, &self.config);
        let term = nu_loss(rows, &nu.lowest, &before, &self.config);
        nu.descend(&mut self.nu, &rows.states, &term.gradient, self.config.nu_lr);
        let again = Values::evaluate(&mut self.nu, &rows.states.narrow(0, 0, 2 * rows.count() as i64));
        let after = Ratio::of(rows, &again, lambda, &self.config);
        (term, [before, after])
    }

    /// One step of chi and tau.
    fn bound_step(&mut self, rows: &Rows, w: &[f64], tau: f64) -> Bound {
        let CoptidiceConfig { gamma, cost_bound_epsilon, chi_lr, scalar_lr, .. } = self.config;
        if cost_bound_epsilon == 0.0 {
            return Bound { cost: average(rows.count(), |i| w[i] * rows.cost[i]), ..Bound::default() };
        }
        let chi = Values::forward(&mut self.chi, &rows.states);
        let term = chi_loss(rows, &chi.lowest, w, tau, gamma);
        chi.descend(&mut self.chi, &rows.states, &term.gradient, chi_lr);
        let excess = cost_bound_epsilon - term.kl;
        self.tau.descend(excess, scalar_lr);
        Bound { chi_loss: term.loss, tau_loss: tau * excess, kl: term.kl, cost: term.cost }
    }

    /// One step of weighted regression with a weight a row.
    fn actor_step(&mut self, batch: &Transition, w: &[f64], draws: &CoptidiceDraws) -> f64 {
        let observation = batch.observation.addcmul(&draws.observation, &(&self.scales.observation_std * NOISE));
        let action = batch.state_action.narrow(1, 0, batch.actions());
        let noisy = action.addcmul(&draws.action, &(&self.scales.action_std * NOISE));
        let target = match self.config.policy_fit {
            PolicyFit::Clamped | PolicyFit::RawNormal => noisy,
            PolicyFit::Squashed => noisy.clamp(ATANH_MARGIN - 1.0, 1.0 - ATANH_MARGIN).atanh_(),
        };
        self.actor.fit(&observation, &target, &column(w, batch.observation.device()), self.config.actor.actor_lr)
    }
}

impl ActorCritic for Coptidice {
    type Config = CoptidiceConfig;
    type Draws = CoptidiceDraws;
    type Step = CoptidiceStep;
    const NAME: &'static str = "coptidice";
    const LABEL: &'static str = "COptiDICE";
    const SUMMARY: &'static str =
        "Stationary distribution correction under a cost bound, then weighted regression of the policy.";
    const METRICS: &'static [Metric] = &[
        Metric::loss("nu_loss", "value", "nu: (1 - gamma) nu(s0) + w e - alpha f(w), mean over the batch."),
        Metric::loss(
            "chi_loss",
            "cost a step",
            "chi: mean of l weighted by softmax(l / tau); 0 where cost_bound_epsilon is 0.",
        ),
        Metric::loss("actor_loss", "nats", "Policy: mean of -w log pi(a | s)."),
        Metric::estimate(
            "cost_bound",
            "Upper bound of the cost under the ratio w, as a cost an episode by the unit in which limit_unit compares it with the limit.",
        ),
        Metric::multiplier(
            "lambda",
            "reward a cost",
            "Lagrange multiplier of the cost: rises while the bound is above the limit.",
        ),
        Metric::multiplier(
            "tau",
            "cost",
            "Multiplier of the ball around the data in the bound on the cost; the softmax's temperature.",
        ),
        Metric::diagnostic(
            "divergence",
            "1",
            "Mean f-divergence f(w) of the optimal distribution from the data's.",
        ),
    ];

    /// With the data's scales left at 1.
    fn new(config: CoptidiceConfig, task: Task, rng: &mut Rng) -> Self {
        let widths = widths(task.observations, &config.critic_hidden, 1);
        let [nu, chi] = Head::in_turn(["nu", "chi"], config.critics, &widths, task.device, rng);
        Coptidice {
            nu,
            chi,
            actor: config.actor.squashed(false, &task, rng),
            tau: SoftplusMultiplier::new(1.0),
            lambda: SoftplusMultiplier::new(1.0),
            scales: Scales::unit(&task),
            config,
        }
    }

    fn build(config: CoptidiceConfig, context: &mut Context<'_>) -> Result<Self> {
        let task = Task::of(context, config.values());
        let scales = Scales::of(context, &config)?;
        Ok(Coptidice { scales, ..Coptidice::new(config, task, context.rng) })
    }

    fn config(&self) -> &CoptidiceConfig {
        &self.config
    }

    fn draw(&self, batch: &Batch, context: &mut Context<'_>) -> CoptidiceDraws {
        let data = context.data;
        let initial = match self.config.initial_states {
            InitialStates::InBatch => Initial::Flags(batch.start()),
            InitialStates::Separate => {
                let count = self.config.schedule.batch_size;
                Initial::States(data.sample_from(&data.starts(), count, context.rng).observation())
            }
        };
        let mut normal = normals(context);
        let observation = normal(&[batch.len(), data.observations()]);
        CoptidiceDraws { initial, observation, action: normal(&[batch.len(), data.actions()]) }
    }

    fn learn(&mut self, batch: &Transition, draws: &CoptidiceDraws) -> Result<CoptidiceStep> {
        batch.check()?;
        let rows = Rows::of(batch, &draws.initial, self.config.gamma, self.scales.initial_share);
        let (lambda, tau) = (self.lambda.value(), self.tau.value());
        let (NuLoss { loss: nu_loss, divergence, .. }, [before, after]) = self.nu_step(&rows, lambda);
        let bound = self.bound_step(&rows, &before.w, tau);
        let slack = self.scales.limit - bound.cost;
        self.lambda.descend(slack, self.config.scalar_lr);
        let actor_loss = self.actor_step(batch, &after.w, draws);
        Ok(CoptidiceStep { lambda, tau, nu_loss, lambda_loss: lambda * slack, actor_loss, divergence, bound })
    }

    fn metrics(&self, step: &CoptidiceStep) -> Vec<f64> {
        let &CoptidiceStep { lambda, tau, nu_loss, actor_loss, divergence, ref bound, .. } = step;
        vec![nu_loss, bound.chi_loss, actor_loss, bound.cost / self.scales.unit, lambda, tau, divergence]
    }

    fn policy(&self) -> Box<dyn FrozenPolicy> {
        let mean = FrozenMlp::mean_of(&self.actor);
        Box::new(if self.config.policy_fit == PolicyFit::Clamped { mean.clamped() } else { mean })
    }

    fn parts(&mut self) -> Parts<'_> {
        parts!(self: nu, chi, actor, tau, lambda)
    }
}

#[cfg(test)]
mod tests;
