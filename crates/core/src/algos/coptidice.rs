//! COptiDICE: offline constrained RL by stationary distribution correction (Lee et al. 2022, arXiv 2204.08957), as in OSRL.
//!
//! With `e = r - lambda c + gamma (1-d) nu(s') - nu(s)` and `w = relu(f'^-1(e / alpha))`, the ratio of the optimal state-action
//! distribution to the data's, a step updates, in this order:
//!
//! 1. chi and tau, which bound the cost of w from above: with `l = (1-gamma) chi(s0) + w (c + gamma (1-d) chi(s') - chi(s))` and
//!    `W = softmax(l / tau)` over the batch, `min_chi E[W l]`, `min_tau tau (eps - KL(W))`; the bound is `E[W w c]`;
//! 2. nu: `min (1-gamma) E[nu(s0)] + E[w e - alpha f(w)]`;
//! 3. lambda: `min lambda (limit - bound)`;
//! 4. the policy by weighted regression: `min -E[w log pi(a | s)]`, with a little noise on both.
//!
//! What `fixed` repairs in the published implementation is numbered in docs/algorithms/coptidice.md.

use super::shared::{self, check_counts, check_gamma, check_not_negative, check_positive, mean, Transition};
use crate::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use crate::checkpoint::State;
use crate::error::{Error, Result};
use crate::nn::{Head, SquashedActor};
use crate::optim::ScalarAdam;
use crate::policy::FrozenMlp;
use crate::rng::Rng;
use crate::run::{check_widths, RunConfig};
use tch::{Device, Kind, Tensor};

pub use config::{CoptidiceConfig, InitialStates, LimitUnit, PolicyFit};

mod config;
pub mod divergence;

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
    /// Before its softplus.
    pub raw_tau: ScalarAdam,
    /// Before its softplus.
    pub raw_lambda: ScalarAdam,
    scales: Scales,
}

/// What the data say once and for all.
pub struct Scales {
    /// The number the bound on the cost is compared with.
    pub limit: f64,
    /// Share of initial rows in the data.
    pub initial_share: f64,
    /// Standard deviations `[1,S]`, `[1,A]`.
    pub observation_std: Tensor,
    pub action_std: Tensor,
}

/// Initial states of one step.
pub enum Initial {
    /// `[B,1]`, 1 where a row of the batch is initial.
    Flags(Tensor),
    /// `[M,S]`
    States(Tensor),
}

/// Standard normal draws of one step: `[B,S]`, `[B,A]`.
pub struct CoptidiceDraws {
    pub observation: Tensor,
    pub action: Tensor,
}

/// `nu`, `nu'`, `e`, `w`, all `[B,1]`.
pub struct Ratio {
    pub nu: Tensor,
    pub nu_next: Tensor,
    pub e: Tensor,
    pub w: Tensor,
}

/// What one step did.
pub struct CoptidiceStep {
    /// Before and after the step of nu.
    pub ratios: [Ratio; 2],
    /// softplus of both scalars before their steps.
    pub lambda: f64,
    pub tau: f64,
    pub chi_loss: f64,
    pub tau_loss: f64,
    pub nu_loss: f64,
    pub lambda_loss: f64,
    pub actor_loss: f64,
    /// KL of the weights of the cost bound from uniform ones.
    pub kl: f64,
    /// `E[f(w)]`
    pub divergence: f64,
    pub cost_bound: f64,
}

/// Network outputs at several groups of states from one forward pass.
struct Values {
    input: Tensor,
    /// `[N,E]`
    outputs: Tensor,
    /// The lowest member, `[N,1]`
    lowest: Tensor,
}

impl Values {
    /// Live values at the rows of `states`, one group after the other; kept for [`Values::descend`].
    fn forward(head: &mut Head, states: &[&Tensor]) -> Self {
        let input = Tensor::cat(states, 0);
        let outputs = head.forward(&input).copy();
        Values { input, lowest: outputs.amin(1i64, true), outputs }
    }

    fn rows(&self, from: i64, count: i64) -> Tensor {
        self.lowest.narrow(0, from, count)
    }

    /// One Adam step along the gradient `[N,1]` of a loss in the lowest members.
    fn descend(&self, head: &mut Head, grad: &Tensor, lr: f64) {
        let lowest = self.outputs.argmin(1, true);
        head.descend(&self.input, &self.outputs.zeros_like().scatter(1, &lowest, grad), lr);
    }
}

fn softplus(raw: f64) -> f64 {
    raw.max(0.0) + (-raw.abs()).exp().ln_1p()
}

/// Derivative of [`softplus`].
fn sigmoid(raw: f64) -> f64 {
    1.0 / (1.0 + (-raw).exp())
}

impl Coptidice {
    /// Fresh networks; both scalars start at 1 before their softplus.
    pub fn new(
        config: CoptidiceConfig,
        (observations, actions): (i64, i64),
        scales: Scales,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let widths: Vec<i64> =
            std::iter::once(observations).chain(config.critic_hidden.iter().copied()).chain([1]).collect();
        Coptidice {
            nu: Head::new("nu", config.critics, &widths, false, device, rng),
            chi: Head::new("chi", config.critics, &widths, false, device, rng),
            actor: SquashedActor::new(observations, actions, &config.actor_hidden, false, device, rng),
            raw_tau: ScalarAdam::new(1.0),
            raw_lambda: ScalarAdam::new(1.0),
            scales,
            config,
        }
    }

    /// The ratio from values `nu`, `nu_next [B,1]`.
    fn ratio(&self, batch: &Transition, lambda: f64, nu: Tensor, nu_next: Tensor) -> Ratio {
        let e: Tensor =
            &batch.reward - &batch.cost * lambda + (1.0 - &batch.reward_stop) * &nu_next * self.config.gamma - &nu;
        let w = self.config.divergence.inverse_derivative(&(&e / self.config.alpha)).relu();
        Ratio { nu, nu_next, e, w }
    }

    /// Weights `[N,1]` over the rows of a pass over [s, s', s0 if separate] by which `E[v(s0)]` is a weighted sum of values.
    fn initial_weights(&self, initial: &Initial, values: &Values) -> Tensor {
        let weights = values.lowest.zeros_like();
        match initial {
            Initial::Flags(flags) => {
                let rows = flags.size()[0];
                weights.narrow(0, 0, rows).copy_(&(flags / (self.scales.initial_share * rows as f64)));
            }
            Initial::States(states) => {
                let count = states.size()[0];
                let _ = weights.narrow(0, weights.size()[0] - count, count).fill_(1.0 / count as f64);
            }
        }
        weights
    }

    /// One step of everything.
    pub fn learn(&mut self, batch: &Transition, initial: &Initial, draws: &CoptidiceDraws) -> Result<CoptidiceStep> {
        batch.check()?;
        let (gamma, alpha, f) = (self.config.gamma, self.config.alpha, self.config.divergence);
        let (rows, count) = (batch.rows(), batch.rows() as f64);
        let (lambda, tau) = (softplus(self.raw_lambda.value), softplus(self.raw_tau.value));
        let mut states = vec![&batch.observation, &batch.next_observation];
        if let Initial::States(own) = initial {
            states.push(own);
        }
        let nu = Values::forward(&mut self.nu, &states);
        let before = self.ratio(batch, lambda, nu.rows(0, rows), nu.rows(rows, rows));
        let alive: Tensor = (1.0 - &batch.reward_stop) * gamma;

        let bound = if self.config.cost_bound_epsilon > 0.0 {
            self.bound_step(batch, initial, &states, &alive, &before.w, tau)
        } else {
            Bound { cost: mean(&(&before.w * &batch.cost)), ..Bound::default() }
        };

        // f'(w) = e / alpha wherever w > 0, so that the derivative of w e - alpha f(w) for e is w.
        let weights = self.initial_weights(initial, &nu);
        let grad = &weights * (1.0 - gamma);
        let (mut here, mut next) = (grad.narrow(0, 0, rows), grad.narrow(0, rows, rows));
        here -= &before.w / count;
        next += &before.w * &alive / count;
        let start = (&nu.lowest * weights).sum(Kind::Double).double_value(&[]);
        let divergence = f.value(&before.w);
        let nu_loss = (1.0 - gamma) * start + mean(&(&before.w * &before.e - &divergence * alpha));
        nu.descend(&mut self.nu, &grad, self.config.nu_lr);

        let slack = self.scales.limit - bound.cost;
        self.raw_lambda.step(sigmoid(self.raw_lambda.value) * slack, self.config.scalar_lr);

        let again = self.nu.evaluate(&Tensor::cat(&states[..2], 0)).amin(1i64, true);
        let after = self.ratio(batch, lambda, again.narrow(0, 0, rows), again.narrow(0, rows, rows));
        let actor_loss = self.actor_step(batch, &after.w, draws);
        Ok(CoptidiceStep {
            lambda,
            tau,
            chi_loss: bound.chi_loss,
            tau_loss: bound.tau_loss,
            nu_loss,
            lambda_loss: lambda * slack,
            actor_loss,
            kl: bound.kl,
            divergence: mean(&divergence),
            cost_bound: bound.cost,
            ratios: [before, after],
        })
    }

    /// One step of chi and tau; `alive [B,1]` is `gamma (1-d)`.
    fn bound_step(
        &mut self,
        batch: &Transition,
        initial: &Initial,
        states: &[&Tensor],
        alive: &Tensor,
        w: &Tensor,
        tau: f64,
    ) -> Bound {
        let gamma = self.config.gamma;
        let (rows, count) = (batch.rows(), batch.rows() as f64);
        let chi = Values::forward(&mut self.chi, states);
        let flow = w * (&batch.cost + alive * chi.rows(rows, rows) - chi.rows(0, rows));
        let weights = self.initial_weights(initial, &chi);
        // A flagged row has its own term; separate initial states enter every row alike, and so cancel in the softmax.
        let residual = match initial {
            Initial::Flags(_) => flow + (&chi.lowest * &weights).narrow(0, 0, rows) * ((1.0 - gamma) * count),
            Initial::States(_) => flow + (&chi.lowest * &weights).sum(Kind::Float) * (1.0 - gamma),
        };
        let log_weight = (&residual / tau).log_softmax(0, Kind::Float) + count.ln();
        let weight = log_weight.exp();
        let chi_loss = mean(&(&weight * &residual));
        let kl = mean(&(&weight * &log_weight - &weight + 1.0));
        let cost = mean(&(&weight * w * &batch.cost));

        // d E[W l] / d l_i = W_i (1 + (l_i - E[W l]) / tau) / B: the published loss differentiates through the weights.
        let slope = &weight * ((&residual - chi_loss) / tau + 1.0) / count;
        let grad = weights * (1.0 - gamma);
        let (mut here, mut next) = (grad.narrow(0, 0, rows), grad.narrow(0, rows, rows));
        if let Initial::Flags(_) = initial {
            // The slopes of all rows sum to 1, which is all that separate initial states see of them.
            here *= &slope * count;
        }
        here -= &slope * w;
        next += &slope * w * alive;
        chi.descend(&mut self.chi, &grad, self.config.chi_lr);
        let excess = self.config.cost_bound_epsilon - kl;
        self.raw_tau.step(sigmoid(self.raw_tau.value) * excess, self.config.scalar_lr);
        Bound { chi_loss, tau_loss: tau * excess, kl, cost }
    }

    /// One step of weighted regression with `w [B,1]`.
    fn actor_step(&mut self, batch: &Transition, w: &Tensor, draws: &CoptidiceDraws) -> f64 {
        let (rows, actions) = (batch.rows() as f64, batch.actions());
        let observation = &batch.observation + &draws.observation * &self.scales.observation_std * NOISE;
        let noisy = batch.state_action.narrow(1, 0, actions) + &draws.action * &self.scales.action_std * NOISE;
        let target = match self.config.policy_fit {
            PolicyFit::RawNormal => noisy,
            PolicyFit::Squashed => noisy.clamp(ATANH_MARGIN - 1.0, 1.0 - ATANH_MARGIN).atanh_(),
        };
        let gaussian = self.actor.forward(&observation);
        let loss = -mean(&(w * gaussian.log_density(&target)));
        let normal = (&target - &gaussian.mu) * (-&gaussian.log_std).exp();
        let weight = w * (-1.0 / rows);
        let mu = &weight * &normal * (-&gaussian.log_std).exp();
        let log_std = (normal.square() - 1.0) * weight;
        self.actor.descend(&observation, &gaussian, mu, log_std, self.config.actor_lr);
        loss
    }
}

/// The cost bound's part of a step.
#[derive(Default)]
struct Bound {
    chi_loss: f64,
    tau_loss: f64,
    kl: f64,
    cost: f64,
}

impl Define for Coptidice {
    type Config = CoptidiceConfig;
    const NAME: &'static str = "coptidice";
    const LABEL: &'static str = "COptiDICE";
    const SUMMARY: &'static str =
        "Stationary distribution correction under a cost bound, then weighted regression of the policy.";

    fn defaults() -> CoptidiceConfig {
        CoptidiceConfig::default()
    }

    fn presets() -> Vec<Preset<CoptidiceConfig>> {
        let quick = CoptidiceConfig {
            actor_hidden: vec![128, 128],
            critic_hidden: vec![128, 128],
            batch_size: 256,
            actor_lr: 5e-4,
            nu_lr: 5e-4,
            chi_lr: 5e-4,
            scalar_lr: 1e-3,
            update_steps: 20_000,
            ..CoptidiceConfig::default()
        };
        shared::presets(CoptidiceConfig::default(), CoptidiceConfig::osrl(), quick)
    }

    fn check(config: &CoptidiceConfig, _run: &RunConfig) -> Result<()> {
        check_gamma(config.gamma)?;
        check_positive(&[
            ("alpha", config.alpha),
            ("reward_scale", config.reward_scale),
            ("cost_scale", config.cost_scale),
            ("actor_lr", config.actor_lr),
            ("nu_lr", config.nu_lr),
            ("chi_lr", config.chi_lr),
            ("scalar_lr", config.scalar_lr),
        ])?;
        check_not_negative(&[("cost_bound_epsilon", config.cost_bound_epsilon)])?;
        check_counts(&[
            ("critics", config.critics as u64),
            ("batch_size", config.batch_size as u64),
            ("update_steps", config.update_steps),
        ])?;
        check_widths("actor_hidden", &config.actor_hidden)?;
        check_widths("critic_hidden", &config.critic_hidden)
    }

    fn build(config: CoptidiceConfig, context: &mut Context<'_>) -> Result<Self> {
        let (data, run) = (context.data, context.run);
        let whole = data.gather(&data.rows_where(|_| true));
        if whole.is_empty() {
            return Err(Error::Data("there are no episodes to learn from".into()));
        }
        let spread = |columns: Tensor| columns.std_dim(0i64, false, true);
        let scales = Scales {
            limit: config.limit(run.cost_limit, data.episode_length),
            initial_share: mean(&whole.start()),
            observation_std: spread(whole.observation()),
            action_std: spread(whole.action()),
        };
        Ok(Coptidice::new(config, (data.observations(), data.actions()), scales, data.device(), context.rng))
    }
}

impl Algorithm for Coptidice {
    fn phases(&self) -> Vec<Phase> {
        vec![Phase { name: "learning", steps: self.config.update_steps }]
    }

    fn step(&mut self, _phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let config = &self.config;
        let data = context.data;
        let batch = data.sample(config.batch_size, context.rng);
        let transition = config.values().transition(&batch);
        let initial = match config.initial_states {
            InitialStates::InBatch => Initial::Flags(batch.start()),
            InitialStates::Separate => {
                Initial::States(data.sample_from(&data.starts(), config.batch_size, context.rng).observation())
            }
        };
        let mut draw = |columns: i64| context.rng.normal(&[batch.len(), columns], data.device());
        let draws = CoptidiceDraws { observation: draw(data.observations()), action: draw(data.actions()) };
        let step = self.learn(&transition, &initial, &draws)?;
        Ok(vec![
            ("nu_loss", step.nu_loss),
            ("chi_loss", step.chi_loss),
            ("actor_loss", step.actor_loss),
            ("divergence", step.divergence),
            ("cost_bound", step.cost_bound),
            ("cost_bound_limit", self.scales.limit),
            ("lambda", step.lambda),
            ("tau", step.tau),
        ])
    }

    fn policies(&self) -> Vec<NamedPolicy> {
        vec![NamedPolicy::new("last", FrozenMlp::mean_of(&self.actor))]
    }

    fn persist(&mut self, state: &mut State) -> Result<()> {
        state.group("nu", |state| self.nu.persist(state))?;
        state.group("chi", |state| self.chi.persist(state))?;
        state.group("actor", |state| self.actor.persist(state))?;
        state.value("raw_tau", &mut self.raw_tau)?;
        state.value("raw_lambda", &mut self.raw_lambda)
    }
}

#[cfg(test)]
mod tests;
