//! The gate of Safe Adaptation: the offline estimate of the policy's cost that opens and closes the branches.
//! No environment is stepped.

use super::options::{Constraint, Gate, GateStates};
use super::Drcorl;
use crate::critics::{join, upper_confidence};
use crate::lagrange::infinite_horizon_episode_cost;
use drcorl_core::algorithm::Context;
use drcorl_core::dataset::Dataset;
use drcorl_core::error::Result;
use drcorl_core::hybrid::Mode;
use drcorl_core::offline::certificate::CriticEstimate;
use drcorl_core::offline::CriticEstimates;
use drcorl_core::policy::FrozenPolicy;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Rows in the averages of the certificate.
pub(super) const REPORT_ROWS: usize = 4096;
/// Smallest target an estimate is divided by, so that a limit of 0 asks for a cost below this.
const TARGET_FLOOR: f64 = 0.1;

/// An estimate of the live policy's episodic cost, and the cost it is steered to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct GateEstimate {
    pub cost: f64,
    pub target: f64,
}

impl GateEstimate {
    /// `Cn` of Algorithm 2: above 1 where the cost is above its target.
    pub fn normalised(self) -> f64 {
        self.cost / self.target.max(TARGET_FLOOR)
    }
}

/// The states asked for, or all where there is no safe one.
pub(super) fn averaged_over(asked: GateStates, any_safe: bool) -> GateStates {
    if asked == GateStates::Safe && !any_safe {
        GateStates::Dataset
    } else {
        asked
    }
}

impl Drcorl {
    /// The episodic cost a candidate may have; for a bound of 0 what estimates can resolve.
    pub(super) fn bound(&self) -> f64 {
        match self.config.constraint {
            Constraint::Hard => TARGET_FLOOR,
            _ => self.facts.cost_limit,
        }
    }

    /// Every `gate_interval` steps: a new estimate.
    pub(super) fn refresh_estimate(&mut self, step: u64, context: &mut Context<'_>) -> Result<()> {
        if step.is_multiple_of(self.config.gate_interval) {
            self.estimate = self.gate_estimate(context)?;
        }
        Ok(())
    }

    /// What the branches go by: the offline estimate, or what the environment said where it is asked.
    pub(super) fn gated(&self, context: &Context<'_>) -> GateEstimate {
        match (context.run.mode, context.visit) {
            (Mode::HybridEval, Some(visit)) => GateEstimate { cost: visit.cost, target: self.facts.cost_limit },
            _ => self.estimate,
        }
    }

    /// Estimates the live policy's episodic cost by the chosen gate. The critics' upper bound is steered to the limit,
    /// as in the paper, the models' to a share of it.
    fn gate_estimate(&mut self, context: &mut Context<'_>) -> Result<GateEstimate> {
        let limit = self.facts.cost_limit;
        let critics = |drcorl: &mut Self, context: &mut Context<'_>| {
            let sets = drcorl.bounded_states(context).into_iter().map(|observation| {
                let action = drcorl.policy.act(&observation);
                drcorl.critic_estimate(&action, &observation, drcorl.config.gate_k, context.data).ucb
            });
            GateEstimate { cost: sets.fold(f64::NEG_INFINITY, f64::max), target: limit }
        };
        if self.config.gate == Gate::CriticUcb || self.models_unfit(context).is_some() {
            return Ok(critics(self, context));
        }
        let policy = &mut self.policy;
        let count = Some(self.config.gate_rollouts);
        let model = context
            .judge
            .rollout(context.data, count, context.cancel, &mut |observation: &Tensor| policy.act(observation))?;
        let cost = model.map_or(f64::MAX, |model| model.upper(context.run.certificate_k));
        let models = GateEstimate { cost, target: self.config.model_gate_margin * limit };
        if self.config.gate == Gate::ModelRollout {
            return Ok(models);
        }
        let critics = critics(self, context);
        Ok(if critics.normalised() > models.normalised() { critics } else { models })
    }

    /// Why the dynamics models cannot be the gate, if they cannot. Models that pass their test may still read far too
    /// much cost, which a certificate survives and a gate does not: it would stay shut.
    pub(super) fn models_unfit(&self, context: &Context<'_>) -> Option<String> {
        let whole = match context.judge.steering(context.run) {
            Ok(whole) => whole,
            Err(reasons) => {
                return Some(format!(
                    "the dynamics models failed their test on held-out episodes: {}",
                    reasons.join("; ")
                ))
            }
        };
        let (found, least) = (whole.cost_correlation, self.config.model_gate_correlation);
        (found < least).then(|| {
            format!("replayed costs of held-out episodes correlate {found:.2} with the logged ones, {least:.2} is needed to steer")
        })
    }

    /// Observations `[B,S]` the critics' gate is averaged over: of each set the mean cost is bounded.
    pub(super) fn bounded_states(&self, context: &mut Context<'_>) -> Vec<Tensor> {
        let (data, count) = (context.data, self.config.gate_batch);
        let stretches = &self.facts.stretches;
        let rows: Vec<Tensor> = match stretches.as_slice() {
            [] => vec![self.states(self.gate_states(), count, context)],
            stretches => {
                let share = count.div_ceil(stretches.len());
                let pick =
                    |rows: &Tensor| rows.index_select(0, &context.rng.rows(share, rows.size()[0], data.device()));
                stretches.iter().map(pick).collect()
            }
        };
        rows.iter().map(|rows| data.gather(rows).observation().contiguous()).collect()
    }

    /// The states that the critics' gate is averaged over.
    pub(super) fn gate_states(&self) -> GateStates {
        averaged_over(self.config.gate_states, self.facts.safe_rows.is_some())
    }

    /// Row numbers of `count` states of one set.
    pub(super) fn states(&self, set: GateStates, count: usize, context: &mut Context<'_>) -> Tensor {
        let data = context.data;
        let candidates = match (set, &self.facts.safe_rows) {
            (GateStates::Initial, _) => data.starts(),
            (GateStates::Safe, Some(rows)) => rows.shallow_clone(),
            _ => return context.rng.rows(count, data.len(), data.device()),
        };
        let picks = context.rng.rows(count, candidates.size()[0], data.device());
        candidates.index_select(0, &picks)
    }

    /// Mean and upper confidence value over members, averaged over states, in cost an episode.
    pub(super) fn critic_estimate(
        &mut self,
        action: &Tensor,
        observation: &Tensor,
        k: f64,
        data: &Dataset,
    ) -> CriticEstimate {
        let values = self.critics.cost.values(&join(action, observation));
        let episodic = |column: Tensor| {
            let discounted = column.mean(Kind::Double).double_value(&[]) / self.config.unit();
            infinite_horizon_episode_cost(discounted, self.config.gamma, data.episode_length)
        };
        CriticEstimate { mean: episodic(upper_confidence(&values, 0.0)), ucb: episodic(upper_confidence(&values, k)) }
    }

    /// The cost critics on all three sets of states.
    pub(super) fn estimates_on_all_sets(
        &mut self,
        policy: &dyn FrozenPolicy,
        context: &mut Context<'_>,
    ) -> CriticEstimates {
        let any_safe = self.facts.safe_rows.is_some();
        let mut on = |set: GateStates| {
            let rows = self.states(set, REPORT_ROWS, context);
            let observation = context.data.gather(&rows).observation().contiguous();
            let action = policy.act(&observation);
            self.critic_estimate(&action, &observation, self.config.gate_k, context.data)
        };
        CriticEstimates {
            dataset: on(GateStates::Dataset),
            initial: on(GateStates::Initial),
            safe: any_safe.then(|| on(GateStates::Safe)),
        }
    }
}
