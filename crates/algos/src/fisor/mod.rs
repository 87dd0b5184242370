//! FISOR, feasibility-guided safe offline RL (Zheng et al. 2024, [arXiv 2401.10700](https://arxiv.org/abs/2401.10700)):
//! a diffusion policy of the logged actions, weighted by whether they keep, or bring back, a state that can be kept
//! free of violations.
//!
//! ```text
//! h = violation_scale where a transition costs anything, -safety_scale elsewhere
//! reward:       V_r: expectile tau_r of min Q_r' - V_r        Q_r <- r + gamma (1 - d) V_r(s')
//! feasibility:  V_h: reversed expectile tau_h of max Q_h' - V_h
//!               Q_h <- (1 - d) [(1 - gamma) h + gamma max(h, V_h(s'))] + d h;    a state is feasible if V_h <= 0
//! weights:      V_h > 0: min(exp(t_h (V_h - Q_h')), cap_h);
//!               V_h <= 0 and Q_h' <= 0: min(exp(t_r (Q_r' - V_r)), cap_r);   else 0
//! denoiser:     min E[w |e(sqrt(abar_i) a + sqrt(1 - abar_i) z, s, i) - z|^2],   i ~ U{0..T-1}, z ~ N(0, I)
//! acting:       N chains from N(0, I): x <- clip((x - beta_i/sqrt(1 - abar_i) e)/sqrt(1 - beta_i) + sqrt(beta_i) z);
//!               of the N actions the one that critics choose
//! ```
//!
//! A step makes two updates of the denoiser, each on half a batch, then one of V_r, Q_r, V_h, Q_h. **The cost limit has
//! no say**: a transition either violates or does not, and no violation is traded for reward. A limit above 0 only says
//! how the result is judged. (`feasibility: discounted_cost` learns the discounted cost instead, and
//! does read the limit.)
//!
//! Deviations from the published code, each a value of the configuration unless it says so;
//! the preset `published` takes the published one:
//! 1. `done`: time limits are bootstrapped through. Published, they end both values.
//! 2. `violation_scale`: 1, as much as `safety_scale`. Published, 25: one violation outweighs everything, and the
//!    temperatures of the weights mean different things on both sides of the boundary.
//! 3. `critic_rows`: critics draw rows of their own. Published, they get the first rows of the actor's batch.
//! 4. `choice`: of the actions whose Q_h is feasible the one with the highest Q_r. Published, the one with the lowest
//!    Q_h, whatever it earns.
//! 5. `scaling`, a parameter of the run: observations are standardised and actions taken in the box of the data;
//!    published, both are raw.
//! 6. Dropout masks are hashes of an element's place, so that a step repeats (no option).
//! 7. The published code's other samplers, its task with a signed distance in its data and its options that were off
//!    are left out. `margin: dense` gives any task a graded violation, learnt from its data.

mod config;
mod denoiser;
mod learner;
pub mod losses;

pub use config::{CriticRows, FisorConfig, Margin};
pub use denoiser::{Denoiser, DenoiserDraws};
pub use learner::Learner;

use crate::critics::mean;
use crate::feasibility::margin::{costly, Classifier};
use crate::feasibility::Feasibility;
use crate::frame::presets::{fixed, published, quick, FAULTS};
use crate::frame::{Done, Transition};
use crate::lagrange::finite_horizon_threshold;
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::dataset::{Batch, Dataset};
use drcorl_core::error::{Error, Result};
use drcorl_core::metrics::Metric;
use drcorl_core::policy::FrozenPolicy;
use drcorl_core::results::schema_of;
use drcorl_core::run::RunConfig;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::Arena;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

/// Updates of the denoiser in a step.
pub const ACTOR_UPDATES: usize = 2;

/// Feasibility-guided safe offline RL.
pub struct Fisor {
    learner: Learner,
    /// With a dense margin, what knows it.
    classifier: Option<Classifier>,
    /// Factor on rewards.
    reward_factor: f64,
    seed: u64,
}

/// Weights from U(-sqrt(6/(in+out)), sqrt(6/(in+out))), those inside residual blocks with variance 1/in; biases 0.
fn xavier(arena: &Arena, rng: &mut Rng) {
    for name in arena.names().filter(|name| !name.contains("norm.") && name.contains('.')) {
        let value = arena.named(name).expect("a name of the arena").0;
        let size = value.size();
        let (device, mut value) = (value.device(), value.shallow_clone());
        if name.ends_with(".bias") {
            let _ = value.zero_();
        } else if let [.., fan_out, fan_in] = size[..] {
            let fans = if name.starts_with("blocks.") { 2 * fan_in } else { fan_in + fan_out };
            let bound = (6.0 / fans as f64).sqrt();
            value.copy_(&(rng.uniform(&size, device) * (2.0 * bound) - bound));
        }
    }
}

/// `L / (R_max - R_min)` over logged returns R; 1 where they do not differ.
fn reward_factor(data: &Dataset) -> f64 {
    let returns = || data.episodes.iter().map(|episode| episode.ret);
    let range = returns().fold(f64::NEG_INFINITY, f64::max) - returns().fold(f64::INFINITY, f64::min);
    if range > 0.0 {
        data.episode_length as f64 / range
    } else {
        1.0
    }
}

/// What a certificate says about feasibility.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FisorDiagnostics")]
pub struct FisorReport {
    /// True if training never read the cost limit: the policy avoids every violation it can, whatever the limit allows.
    pub ignores_cost_limit: bool,
    /// Share of logged states from which violations can be avoided, by the feasibility value.
    pub feasible_states: f64,
    /// The same of initial states; null without any.
    pub feasible_starts: Option<f64>,
}

impl Fisor {
    fn config(&self) -> &FisorConfig {
        &self.learner.config
    }

    /// A batch as the learning rules see it.
    fn transition(&mut self, batch: &Batch) -> Transition {
        let FisorConfig { feasibility, done, violation_scale, safety_scale, .. } = *self.config();
        let stop = match done {
            Done::Terminals => batch.terminal(),
            Done::TerminalsAndTimeouts => batch.end(),
        };
        let next_observation = batch.next_observation().contiguous();
        let cost = match (feasibility, &mut self.classifier) {
            (Feasibility::DiscountedCost, _) => costly(batch, 0),
            (_, None) => costly(batch, 0) * (violation_scale + safety_scale) - safety_scale,
            (_, Some(classifier)) => {
                let margin = classifier.margin(&next_observation);
                margin.relu() * violation_scale - (-margin).relu() * safety_scale
            }
        };
        Transition {
            state_action: batch.state_action(),
            observation: batch.observation().contiguous(),
            next_observation,
            reward: batch.reward() * self.reward_factor,
            cost,
            cost_stop: stop.shallow_clone(),
            reward_stop: stop,
        }
    }

    /// Share of feasible states among `rows`.
    fn feasible(&mut self, rows: &Tensor, context: &mut Context<'_>) -> Option<f64> {
        const MOST: usize = 4096;
        if rows.numel() == 0 {
            return None;
        }
        let picks = context.rng.rows(MOST.min(rows.numel()), rows.size()[0], context.data.device());
        let observation = context.data.gather(&rows.index_select(0, &picks)).observation().contiguous();
        let values = self.learner.feasibility.v.evaluate(&observation);
        Some(mean(&values.le(self.learner.feasibility.rates.threshold).to_kind(Kind::Float)))
    }
}

impl Define for Fisor {
    type Config = FisorConfig;
    const NAME: &'static str = "fisor";
    const LABEL: &'static str = "FISOR";
    const SUMMARY: &'static str =
        "A diffusion policy that avoids every violation it can, by feasibility values; it ignores the cost limit.";
    const METRICS: &'static [Metric] = &[
        Metric::loss(
            "margin_loss",
            "nats",
            "Classifier of next states: cross entropy of whether a transition costs anything; only with a dense margin.",
        ),
        Metric::loss(
            "actor_loss",
            "1",
            "Denoiser: squared error of the predicted noise, summed over entries, times the weight of the logged action.",
        ),
        Metric::loss("value_loss", "squared value", "Reward value: expectile loss against the lower target critic."),
        Metric::loss(
            "critic_loss",
            "squared value",
            "Reward critics: squared temporal-difference error, mean over the critics.",
        ),
        Metric::loss(
            "feasibility_value_loss",
            "squared violation",
            "Feasibility value: reversed expectile loss against the higher target critic.",
        ),
        Metric::loss(
            "feasibility_critic_loss",
            "squared violation",
            "Feasibility critics: squared error against the largest violation to come, mean over the critics.",
        ),
        Metric::diagnostic("weight", "1", "Mean weight of a logged action in the denoiser's loss."),
        Metric::diagnostic("feasible_share", "1", "Share of the batch's states that are feasible by the value."),
    ];
    const DIAGNOSTICS: Option<fn() -> Schema> = Some(schema_of::<FisorReport>);

    fn defaults() -> FisorConfig {
        FisorConfig::default()
    }

    fn presets() -> Vec<Preset<FisorConfig>> {
        vec![
            fixed(FisorConfig::default()),
            published("published", FAULTS, FisorConfig::published()),
            quick(FisorConfig::quick()),
        ]
    }

    fn check(config: &FisorConfig, _run: &RunConfig) -> Result<()> {
        let refuse = |text: String| Err(Error::Config(text));
        if config.time_features % 2 != 0 {
            return refuse(format!("time_features is {}; give an even number", config.time_features));
        }
        if config.schedule.batch_size < ACTOR_UPDATES {
            let text = format!("batch_size is {}; give at least {ACTOR_UPDATES}", config.schedule.batch_size);
            return refuse(format!("{text}, the actor's updates of a step"));
        }
        if config.critic_rows == CriticRows::Shared && config.critic_batch_size > config.schedule.batch_size {
            let (critics, actor) = (config.critic_batch_size, config.schedule.batch_size);
            return refuse(format!(
                "critic_batch_size is {critics}, but critic_rows is shared and batch_size {actor}; give at most {actor}"
            ));
        }
        Ok(())
    }

    fn build(config: FisorConfig, context: &mut Context<'_>) -> Result<Self> {
        let data = context.data;
        let (sizes, device) = ((data.observations(), data.actions()), data.device());
        let threshold = match config.feasibility {
            Feasibility::Reachability => 0.0,
            Feasibility::DiscountedCost => {
                finite_horizon_threshold(context.run.cost_limit, config.gamma, data.episode_length)
            }
        };
        let dense = config.feasibility == Feasibility::Reachability && config.margin == Margin::Dense;
        let classifier = dense.then(|| config.classifier(sizes.0, device, context.rng));
        let learner = Learner::new(config, sizes, threshold, device, context.rng);
        Ok(Fisor { learner, classifier, reward_factor: reward_factor(data), seed: context.run.seed })
    }
}

impl Algorithm for Fisor {
    fn phases(&self) -> Vec<Phase> {
        let margin = Phase { name: "margin", steps: self.config().margin_steps };
        let learning = Phase { name: "learning", steps: self.config().schedule.update_steps };
        self.classifier.iter().map(|_| margin.clone()).chain([learning]).collect()
    }

    fn step(&mut self, phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let FisorConfig { critic_rows, critic_batch_size, schedule, .. } = *self.config();
        if let Some(classifier) = self.classifier.as_mut().filter(|_| phase == 0) {
            let batch = context.data.sample(schedule.batch_size, context.rng);
            return Ok(vec![(
                "margin_loss",
                classifier.step(&batch.next_observation().contiguous(), &costly(&batch, 0)),
            )]);
        }
        let rows = context.data.sample(schedule.batch_size, context.rng).rows;
        let part = rows.numel() as i64 / ACTOR_UPDATES as i64;
        let mut actor = [0.0; 3];
        for update in 0..ACTOR_UPDATES as i64 {
            let batch = self.transition(&context.data.gather(&rows.narrow(0, update * part, part)));
            let draws = self.learner.denoiser.draw(part, context.data.actions(), context.data.device(), context.rng);
            let step = self.learner.actor_step(&batch, &draws)?;
            for (sum, value) in actor.iter_mut().zip([step.loss, step.weight, step.feasible]) {
                *sum += value / ACTOR_UPDATES as f64;
            }
        }
        let batch = match critic_rows {
            CriticRows::Own => context.data.sample(critic_batch_size, context.rng),
            CriticRows::Shared => context.data.gather(&rows.narrow(0, 0, critic_batch_size as i64)),
        };
        let batch = self.transition(&batch);
        let critics = self.learner.critic_step(&batch)?;
        let [actor_loss, weight, feasible_share] = actor;
        Ok(vec![
            ("actor_loss", actor_loss),
            ("value_loss", critics.value_loss),
            ("critic_loss", critics.critic_loss),
            ("feasibility_value_loss", critics.feasibility_value_loss),
            ("feasibility_critic_loss", critics.feasibility_critic_loss),
            ("weight", weight),
            ("feasible_share", feasible_share),
        ])
    }

    fn policies(&self) -> Result<Vec<NamedPolicy>> {
        Ok(vec![NamedPolicy::new("last", self.learner.policy(self.seed))])
    }

    fn diagnostics(&mut self, _policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Map<String, Value> {
        let (all, starts) = (context.data.rows_where(|_| true), context.data.starts());
        let report = FisorReport {
            ignores_cost_limit: self.config().feasibility == Feasibility::Reachability,
            feasible_states: self.feasible(&all, context).unwrap_or_default(),
            feasible_starts: self.feasible(&starts, context),
        };
        serde_json::to_value(report).ok().and_then(|report| report.as_object().cloned()).unwrap_or_default()
    }

    fn notes(&self) -> Vec<String> {
        let ignores = self.config().feasibility == Feasibility::Reachability;
        let note =
            "FISOR ignored the cost limit in training: it avoids every violation it can, whatever the limit allows";
        ignores.then(|| note.to_string()).into_iter().collect()
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        if let Some(classifier) = &mut self.classifier {
            state.group("margin", |state| classifier.head.persist(state))?;
        }
        state.group("learner", |state| self.learner.persist(state))
    }
}

#[cfg(test)]
mod tests;
