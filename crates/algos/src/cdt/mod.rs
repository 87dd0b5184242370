//! CDT, the Constrained Decision Transformer (Liu et al. 2023, [arXiv 2302.07351](https://arxiv.org/abs/2302.07351)):
//! behavior cloning of sequences, told the return and the cost that were still to come.
//!
//! ```text
//! tokens of step t:  R_t = sum_{k>=t} r_k,  50 - C_t with C_t = sum_{k>=t} c_k,  s_t,  a_t
//! actor:  a_t ~ N(mu, sigma)(R, C, s up to t; a before t)      L_act  = -(E[log pi(a_t)] + temp E[H(pi)])
//! cost:   p(c_t > 0)(.., a_t)                                  L_cost = cross entropy,   L = L_act + 0.02 L_cost
//! temp:   min temp (E[H] - target),  target = -A
//! acting: R_0, C_0 := the targets;  R_{t+1} = R_t - r_t,  C_{t+1} = C_t - c_t;  a_t = clamp(mu)
//! ```
//!
//! The data are the logged episodes and [relabelled](augment) ones, drawn the more often the less they cost.
//!
//! Deviations from the published code (OSRL), each a value of the configuration unless it says so;
//! the preset `osrl` takes the published one:
//! 1. `augment_pairing`: an augmented episode gets the target it was found for. Published, episodes and targets are
//!    paired in different orders, and an episode can be relabelled with a return that has nothing to do with it.
//! 2. An evaluation is judged by the limit the policy was asked to keep (no option); published, always by 10.
//! 3. `sample_cost_offset`: episodes up to max(70, limit + 30) can be drawn, not only those below a cost of 70.
//! 4. `entropy_scale`: likelihood and entropy are sums over action entries, like the target entropy -A.
//! 5. `cost_class`: a step's class is whether it costs anything; fractions are no longer cut to 0.
//! 6. `loss_mean`: masked means divide by what is not masked, and no state of padding is a target.
//! 7. `log_std_clamp`: the logarithm of sigma stays in [-5, 2].
//! 8. `augment_distance`, `augment_max_return`, `augment_max_decrease`, `augment_beta`: distances in units of the
//!    data's range, and targets up to the best logged return, so that no number of one task is a default for all.
//! 9. `scaling`, a parameter of the run: observations are standardised and actions taken in the box of the data;
//!    published, both are raw.
//! 10. The temperature is part of the checkpoint (no option). Published, it is lost on reload.
//! 11. Acting keeps keys and values between steps (no option); the actions are those of the full window.
//! 12. The published code's options that were off (`pf_sample`, `start_sampling`, `random_aug`, `pf_only`,
//!     `cost_reverse`) are left out.

pub mod augment;
pub mod config;
pub mod learner;
pub mod loss;
pub mod model;
pub mod policy;
pub mod sampler;
pub mod sequences;

pub use config::CdtConfig;
pub use learner::Learner;

use crate::frame::presets::{fixed, osrl, quick};
use config::ActionHead;
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::error::{Error, Result};
use drcorl_core::metrics::Metric;
use drcorl_core::run::RunConfig;
use drcorl_data::Episode;
use drcorl_nn::checkpoint::State;
use policy::{freeze, Targets};
use sampler::{usable, Sampler};

/// The Constrained Decision Transformer.
pub struct Cdt {
    config: CdtConfig,
    learner: Learner,
    sampler: Sampler,
    targets: Targets,
}

/// What the policy is asked for by default: the cost limit, and the best logged return among the episodes that cost no
/// more (among the cheapest ones, where none does).
fn targets(config: &CdtConfig, run: &RunConfig, episodes: &[Episode]) -> Targets {
    let cost = run.cost_limit;
    let cheapest = episodes.iter().map(|episode| episode.cost).fold(f64::INFINITY, f64::min);
    let within = episodes.iter().filter(|episode| episode.cost <= cost.max(cheapest));
    let best = within.map(|episode| episode.ret).fold(f64::NEG_INFINITY, f64::max);
    Targets { ret: config.target_return.unwrap_or(best), cost }
}

impl Define for Cdt {
    type Config = CdtConfig;
    const NAME: &'static str = "cdt";
    const LABEL: &'static str = "CDT";
    const SUMMARY: &'static str = "A transformer that clones behavior given the return and the cost still to come.";
    const TAKES_LIMIT: bool = true;
    const METRICS: &'static [Metric] = &[
        Metric::loss(
            "action_loss",
            "nats",
            "Negative log-likelihood of the logged actions, by entropy_scale a sum or a mean over entries; squared error of a \
             deterministic head.",
        ),
        Metric::loss("cost_loss", "nats", "Cross entropy of whether a step costs anything."),
        Metric::loss(
            "state_loss",
            "squared observation",
            "Squared error of the predicted next observation; only with a state_weight.",
        ),
        Metric::temperature(
            "temperature",
            "1",
            "Weight of the entropy, learnt so that the entropy is -A; only of a stochastic head.",
        ),
        Metric::diagnostic("entropy", "nats", "Entropy of the predicted actions; only of a stochastic head."),
        Metric::diagnostic("cost_accuracy", "1", "Share of steps whose cost class is predicted rightly."),
        Metric::diagnostic("gradient_norm", "1", "Norm of the gradient before it is clipped to clip_norm."),
    ];

    fn defaults() -> CdtConfig {
        CdtConfig::default()
    }

    fn presets() -> Vec<Preset<CdtConfig>> {
        vec![fixed(CdtConfig::default()), osrl(CdtConfig::osrl()), quick(CdtConfig::quick())]
    }

    fn check(config: &CdtConfig, _run: &RunConfig) -> Result<()> {
        config.check()
    }

    fn build(config: CdtConfig, context: &mut Context<'_>) -> Result<Self> {
        let data = context.data;
        let sampler = Sampler::new(data, &config, context.run.cost_limit, context.rng)?;
        let (states, actions) = (data.observations(), data.actions());
        let learner = Learner::new(&config, states, actions, data.episode_length, data.device(), context.rng);
        let targets = targets(&config, context.run, &usable(&data.episodes));
        if !targets.ret.is_finite() {
            return Err(Error::Data(format!("{}: no episode to take a target return from", data.columns.source)));
        }
        Ok(Cdt { config, learner, sampler, targets })
    }
}

impl Algorithm for Cdt {
    fn phases(&self) -> Vec<Phase> {
        vec![Phase { name: "sequences", steps: self.config.update_steps }]
    }

    fn step(&mut self, _phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let before = context.rng.clone();
        let batch = self.sampler.sample(context.data, self.config.batch_size, context.rng);
        // A cancelled step is made again, with the same draws.
        let step = self.learner.step(&batch, context.rng, context.cancel).inspect_err(|_| *context.rng = before)?;
        let losses = step.losses;
        let mut metrics = vec![("action_loss", losses.action), ("cost_loss", losses.cost)];
        if self.config.state_weight > 0.0 {
            metrics.push(("state_loss", losses.state));
        }
        if self.config.action_head == ActionHead::Stochastic {
            metrics.extend([("temperature", step.temperature), ("entropy", losses.entropy)]);
        }
        metrics.extend([("cost_accuracy", losses.cost_accuracy), ("gradient_norm", step.gradient_norm)]);
        Ok(metrics)
    }

    fn policies(&self) -> Result<Vec<NamedPolicy>> {
        let policy = freeze(self.learner.arena(), &self.config, self.targets)?;
        Ok(vec![NamedPolicy::new("last", policy)])
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("learner", |state| self.learner.persist(state))
    }
}

#[cfg(test)]
mod tests;
