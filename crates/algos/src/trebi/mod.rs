//! TREBI, trajectory diffusion with a real-time budget (Lin et al. 2023,
//! [arXiv 2306.00603](https://arxiv.org/abs/2306.00603)): plans are denoised from noise, led by value nets towards
//! reward, and away from cost where they would exceed what is left of the limit.
//!
//! ```text
//! plan:      x = [a_0 s_0, .., a_{H-1} s_{H-1}], s_0 given;  x_i = sqrt(c_i) x + sqrt(1 - c_i) z at noise level i
//! denoiser:  min E[w |f(x_i, i) - x|^2],  w = 10 for a_0, 1 elsewhere         (the plan itself, not the noise)
//! values:    min E[(V(x_i, i) - sum_{k>=t} gamma^{k-t} r_k)^2], to the end of the episode;  V_c of costs likewise
//! planning:  for i = T-1 .. 0:  twice x += scale var_i (grad V - w_c 1[V_c > kappa] grad V_c);
//!                               x = mean of q(x_{i-1} | x_i, f(x_i, i)) + noise;  s_0 = the observation
//!            of the candidates with V_c <= kappa the one of the highest V; none: of the lowest V_c
//! budget:    kappa_0 from the limit;  kappa_{t+1} = (kappa_t - c_t) / gamma
//! ```
//!
//! Deviations from the published code, each a value of the configuration unless it says so; the preset `published`
//! takes the published one:
//! 1. `ranking`: candidates are chosen by the values of the plans that are chosen from. Published, by those before the
//!    last denoising step.
//! 2. `budget`: what is left of the limit, spent evenly over the steps that are left, in the value net's unit.
//!    Published, the recursion above divides by gamma at every step, and explodes in long episodes.
//! 3. `guide_stop`: every noise level is led. Published, the last two are not.
//! 4. `cost_weight_by`: the excess is measured by a budget of at least one deviation of the costs to come. Published,
//!    by the budget itself, whose sign then decides whether an excess raises the weight.
//! 5. `terminal_penalty`: 0. Published, 100 is taken from the last reward and added to the last cost of an episode that
//!    the environment ended, and to the latter again each time it is read, which no preset does.
//! 6. `padding`: windows begin at every step and end in the last observation. Published, they end in zeros, and begin
//!    at no step less than `horizon` before the length of the longest episode.
//! 7. `value_scale`: sums to come are standardised, and guidance follows the gradients of these, so that `guide_scale`
//!    and `cost_weight` mean the same for every task. Published, both are raw, and the weight is chosen by task, 5 to
//!    1000.
//! 8. `gamma`: 0.99. Published, 0.997, 0.99 or 1 by task; the time that is left is no part of an observation, and a sum
//!    to the end of an episode is fitted the better the less it depends on it.
//! 9. Costs are those of the dataset (no option). Published, the velocity of one family of tasks.
//! 10. Episodes are usable if they end, by a terminal or a time limit (no option). Published, a last one without a
//!     terminal is dropped.
//! 11. The value nets plan by averaged weights too (no option).
//! 12. The linear attention of one family of tasks (plans of 4 steps) is left out.

pub mod config;
pub mod learner;
pub mod loss;
pub mod policy;
pub mod windows;

pub use config::TrebiConfig;
pub use learner::{Diffusion, Draws, Learner};

use crate::frame::presets::{fixed, published, quick, FAULTS};
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::dataset::Dataset;
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::run::RunConfig;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::{PlanValue, TemporalUnet};
use learner::{denoise, mean, value, Averaging};
use windows::Windows;

/// Trajectory diffusion with a real-time budget.
pub struct Trebi {
    config: TrebiConfig,
    windows: Windows,
    diffusion: Diffusion,
    denoiser: Learner<TemporalUnet>,
    /// Of rewards and costs.
    values: [Learner<PlanValue>; 2],
    /// Limit, steps of an episode, seed: what the policy file begins with.
    play: (f64, usize, u64),
    sizes: [usize; 2],
}

impl Trebi {
    fn new(config: TrebiConfig, data: &Dataset, run: &RunConfig, rng: &mut Rng) -> Trebi {
        let (device, actions) = (data.device(), data.actions());
        let entries = actions + data.observations();
        let averaging =
            Averaging { decay: config.average_decay, interval: config.average_interval, start: config.average_start };
        let denoiser = TemporalUnet::build(entries, &config.denoiser_hidden, device, rng);
        let mut value = || {
            let size = [config.horizon as i64, entries];
            Learner::new(PlanValue::build(size, &config.value_hidden, device, rng), averaging)
        };
        let values = [value(), value()];
        Trebi {
            windows: Windows::new(data, &config),
            diffusion: Diffusion::new(
                config.noise_levels,
                config.horizon,
                [actions, entries],
                config.action_weight,
                device,
            ),
            denoiser: Learner::new(denoiser, averaging),
            values,
            play: (run.cost_limit, data.episode_length, run.seed),
            sizes: [data.observations(), actions].map(|size| size as usize),
            config,
        }
    }

    fn denoiser_step(&mut self, rng: &mut Rng) -> Metrics {
        let batches: Vec<_> = (0..self.config.accumulate)
            .map(|_| {
                let plans = self.windows.sample(self.config.batch_size, rng).plans;
                let draws = self.diffusion.draw(&plans, rng);
                (plans, draws)
            })
            .collect();
        let found = denoise(&mut self.denoiser, &self.diffusion, &batches, self.config.denoiser_lr);
        let part = |i: usize| mean(found.iter().map(|losses| losses[i]));
        vec![("denoiser_loss", part(0)), ("first_action_loss", part(1))]
    }

    fn value_step(&mut self, rng: &mut Rng) -> Metrics {
        let batches: Vec<_> =
            (0..self.config.accumulate).map(|_| self.windows.sample(self.config.batch_size, rng)).collect();
        let mut step = |signal: usize| {
            let drawn = |batch: &windows::Batch, rng: &mut Rng| self.diffusion.draw(&batch.plans, rng);
            let batches: Vec<_> =
                batches.iter().map(|batch| (&batch.plans, &batch.values[signal], drawn(batch, rng))).collect();
            let losses = value(&mut self.values[signal], &self.diffusion, &batches, self.config.value_lr);
            mean(losses.into_iter())
        };
        vec![("reward_value_loss", step(0)), ("cost_value_loss", step(1))]
    }
}

impl Define for Trebi {
    type Config = TrebiConfig;
    const NAME: &'static str = "trebi";
    const LABEL: &'static str = "TREBI";
    const SUMMARY: &'static str =
        "A diffusion model of plans, led by value nets within what is left of the cost limit.";
    const TAKES_LIMIT: bool = true;
    const METRICS: &'static [Metric] = &[
        Metric::loss(
            "denoiser_loss",
            "squared deviation",
            "Squared error of predicted plans, the first action's weighted by action_weight.",
        ),
        Metric::loss("first_action_loss", "squared deviation", "Squared error of the first action of predicted plans."),
        Metric::loss(
            "reward_value_loss",
            "squared return, by value_scale standardised",
            "Squared error of the value net of the rewards to come, at all noise levels.",
        ),
        Metric::loss(
            "cost_value_loss",
            "squared cost, by value_scale standardised",
            "Squared error of the value net of the costs to come, at all noise levels.",
        ),
    ];

    fn defaults() -> TrebiConfig {
        TrebiConfig::default()
    }

    fn presets() -> Vec<Preset<TrebiConfig>> {
        // The released code standardises observations and actions too.
        let published = published("published", FAULTS, TrebiConfig::published());
        let published = Preset { run: RunConfig::default(), ..published };
        vec![fixed(TrebiConfig::default()), published, quick(TrebiConfig::quick())]
    }

    fn check(config: &TrebiConfig, _run: &RunConfig) -> Result<()> {
        config.check()
    }

    fn build(config: TrebiConfig, context: &mut Context<'_>) -> Result<Self> {
        Ok(Trebi::new(config, context.data, context.run, context.rng))
    }
}

impl Algorithm for Trebi {
    fn phases(&self) -> Vec<Phase> {
        vec![
            Phase { name: "denoiser", steps: self.config.denoiser_steps },
            Phase { name: "values", steps: self.config.value_steps },
        ]
    }

    fn step(&mut self, phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        Ok(match phase {
            0 => self.denoiser_step(context.rng),
            _ => self.value_step(context.rng),
        })
    }

    fn policies(&self) -> Result<Vec<NamedPolicy>> {
        let [reward, cost] = &self.values;
        let arenas = [self.denoiser.average(), reward.average(), cost.average()];
        let policy = policy::freeze(arenas, &self.config, &self.windows, self.play, self.sizes)?;
        Ok(vec![NamedPolicy::new("averaged", policy)])
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("denoiser", |state| self.denoiser.persist(state))?;
        let [reward, cost] = &mut self.values;
        state.group("reward_value", |state| reward.persist(state))?;
        state.group("cost_value", |state| cost.persist(state))
    }
}

#[cfg(test)]
mod tests;
