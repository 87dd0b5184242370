//! COptiDICE: offline constrained RL by stationary distribution correction (Lee et al. 2022, arXiv 2204.08957), as in OSRL.
//!
//! With `e = r - lambda c + gamma (1-d) nu(s') - nu(s)` and `w = relu(f'^-1(e / alpha))`, the ratio of the optimal state-action
//! distribution to the data's, a step updates
//!
//! 1. nu: `min (1-gamma) E[nu(s0)] + E[w e - alpha f(w)]`;
//! 2. chi and tau, which bound the cost of w, as it was before 1, from above: with `l = (1-gamma) chi(s0) + w (c + gamma (1-d) chi(s') - chi(s))`
//!    and `W = softmax(l / tau)` over the batch, `min_chi E[W l]`, `min_tau tau (eps - KL(W))`; the bound is `E[W w c]`;
//! 3. lambda: `min lambda (limit - bound)`;
//! 4. the policy by weighted regression: `min -E[w log pi(a | s)]`, w as after 1, with a little noise on both.
//!
//! What `fixed` repairs in the published implementation is numbered in docs/algorithms/coptidice.md.

use super::shared::{self, mean, Transition};
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::error::{Error, Result};
use drcorl_core::metrics::Metric;
use drcorl_core::policy::FrozenMlp;
use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::ScalarAdam;
use drcorl_nn::rng::Rng;
use drcorl_nn::{Head, SquashedActor};
use tch::{Device, Tensor};

pub use config::{CoptidiceConfig, InitialStates, LimitUnit, PolicyFit};
use rows::{average, column, dot, log_sum_exp, Rows, Values};

mod config;
pub mod divergence;
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

/// `nu`, `nu'`, `e`, `w`, a number a row.
pub struct Ratio {
    pub nu: Vec<f64>,
    pub nu_next: Vec<f64>,
    pub e: Vec<f64>,
    pub w: Vec<f64>,
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

/// max(x, 0); NaN stays NaN.
fn relu(x: f64) -> f64 {
    if x < 0.0 {
        0.0
    } else {
        x
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

    /// One step of everything.
    pub fn learn(&mut self, batch: &Transition, initial: &Initial, draws: &CoptidiceDraws) -> Result<CoptidiceStep> {
        batch.check()?;
        let rows = Rows::of(batch, initial, self.config.gamma, self.scales.initial_share);
        let (lambda, tau) = (softplus(self.raw_lambda.value), softplus(self.raw_tau.value));
        let nu = self.nu_step(&rows, lambda);
        // Nu and chi are of one size and learn one after the other.
        self.nu.hand_buffers_to(&mut self.chi);
        let w = &nu.ratios[0].w;
        let bound = if self.config.cost_bound_epsilon > 0.0 {
            self.bound_step(&rows, w, tau)
        } else {
            Bound { cost: average(rows.count(), |i| w[i] * rows.cost[i]), ..Bound::default() }
        };
        self.chi.hand_buffers_to(&mut self.nu);
        let slack = self.scales.limit - bound.cost;
        self.raw_lambda.step(sigmoid(self.raw_lambda.value) * slack, self.config.scalar_lr);
        let actor_loss = self.actor_step(batch, &nu.ratios[1].w, draws);
        Ok(CoptidiceStep {
            ratios: nu.ratios,
            lambda,
            tau,
            chi_loss: bound.chi_loss,
            tau_loss: bound.tau_loss,
            nu_loss: nu.loss,
            lambda_loss: lambda * slack,
            actor_loss,
            kl: bound.kl,
            divergence: nu.divergence,
            cost_bound: bound.cost,
        })
    }

    /// The ratio from the values `nu` at s and then s'.
    fn ratio(&self, rows: &Rows, lambda: f64, nu: &[f64]) -> Ratio {
        let count = rows.count();
        let (nu, nu_next) = (&nu[..count], &nu[count..2 * count]);
        let e = |i: usize| rows.reward[i] - lambda * rows.cost[i] + rows.alive[i] * nu_next[i] - nu[i];
        let e: Vec<f64> = (0..count).map(e).collect();
        let w = |e: &f64| relu(self.config.divergence.inverse_derivative(e / self.config.alpha));
        Ratio { nu: nu.to_vec(), nu_next: nu_next.to_vec(), w: e.iter().map(w).collect(), e }
    }

    /// One step of nu.
    fn nu_step(&mut self, rows: &Rows, lambda: f64) -> NuStep {
        let CoptidiceConfig { gamma, alpha, divergence: f, nu_lr, .. } = self.config;
        let count = rows.count();
        let nu = Values::forward(&mut self.nu, &rows.states);
        let before = self.ratio(rows, lambda, &nu.lowest);
        let (w, e) = (&before.w, &before.e);
        let divergence: Vec<f64> = w.iter().map(|&w| f.value(w)).collect();
        let start = (1.0 - gamma) * dot(&rows.start, &nu.lowest);
        let loss = start + average(count, |i| w[i] * e[i] - alpha * divergence[i]);

        // f'(w) = e / alpha wherever w > 0, so that the derivative of w e - alpha f(w) for e is w.
        let mut grad: Vec<f64> = rows.start.iter().map(|start| (1.0 - gamma) * start).collect();
        for i in 0..count {
            grad[i] -= w[i] / count as f64;
            grad[count + i] += w[i] * rows.alive[i] / count as f64;
        }
        nu.descend(&mut self.nu, &rows.states, &grad, nu_lr);
        let again = Values::evaluate(&mut self.nu, &rows.states.narrow(0, 0, 2 * count as i64));
        let after = self.ratio(rows, lambda, &again);
        NuStep { loss, divergence: average(count, |i| divergence[i]), ratios: [before, after] }
    }

    /// One step of chi and tau.
    fn bound_step(&mut self, rows: &Rows, w: &[f64], tau: f64) -> Bound {
        let CoptidiceConfig { gamma, cost_bound_epsilon, chi_lr, .. } = self.config;
        let count = rows.count();
        let size = count as f64;
        let chi = Values::forward(&mut self.chi, &rows.states);
        let at = &chi.lowest;
        // A flagged row has its own term; separate initial states enter every row alike, and so cancel in the softmax.
        let everybody = dot(&rows.start, at);
        let start = |i: usize| if rows.flagged { rows.start[i] * at[i] * size } else { everybody };
        let flow = |i: usize| w[i] * (rows.cost[i] + rows.alive[i] * at[count + i] - at[i]);
        let residual: Vec<f64> = (0..count).map(|i| (1.0 - gamma) * start(i) + flow(i)).collect();
        let scaled: Vec<f64> = residual.iter().map(|l| l / tau).collect();
        let level = log_sum_exp(&scaled) - size.ln();
        let weight: Vec<f64> = scaled.iter().map(|l| (l - level).exp()).collect();
        let chi_loss = average(count, |i| weight[i] * residual[i]);
        let kl = average(count, |i| weight[i] * (scaled[i] - level) - weight[i] + 1.0);
        let cost = average(count, |i| weight[i] * w[i] * rows.cost[i]);

        // d E[W l] / d l_i = W_i (1 + (l_i - E[W l]) / tau) / B: the published loss differentiates through the weights.
        let slope = |i: usize| weight[i] * ((residual[i] - chi_loss) / tau + 1.0) / size;
        let mut grad: Vec<f64> = rows.start.iter().map(|start| (1.0 - gamma) * start).collect();
        for i in 0..count {
            if rows.flagged {
                // The slopes of all rows sum to 1, which is all that separate initial states see of them.
                grad[i] *= slope(i) * size;
            }
            grad[i] -= slope(i) * w[i];
            grad[count + i] += slope(i) * w[i] * rows.alive[i];
        }
        chi.descend(&mut self.chi, &rows.states, &grad, chi_lr);
        let excess = cost_bound_epsilon - kl;
        self.raw_tau.step(sigmoid(self.raw_tau.value) * excess, self.config.scalar_lr);
        Bound { chi_loss, tau_loss: tau * excess, kl, cost }
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
        self.actor.fit(&observation, &target, &column(w, batch.observation.device()), self.config.actor_lr)
    }
}

/// What a step of nu did; see [`CoptidiceStep`].
struct NuStep {
    loss: f64,
    divergence: f64,
    ratios: [Ratio; 2],
}

/// What a step of chi and tau did, and the bound on the cost.
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
            ("cost_bound", step.cost_bound / self.config.limit(1.0, data.episode_length)),
            ("lambda", step.lambda),
            ("tau", step.tau),
            ("divergence", step.divergence),
        ])
    }

    fn policies(&self) -> Vec<NamedPolicy> {
        let mean = FrozenMlp::mean_of(&self.actor);
        let policy = if self.config.policy_fit == PolicyFit::Clamped { mean.clamped() } else { mean };
        vec![NamedPolicy::new("last", policy)]
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("nu", |state| self.nu.persist(state))?;
        state.group("chi", |state| self.chi.persist(state))?;
        state.group("actor", |state| self.actor.persist(state))?;
        state.value("raw_tau", &mut self.raw_tau)?;
        state.value("raw_lambda", &mut self.raw_lambda)
    }
}

#[cfg(test)]
mod tests;
