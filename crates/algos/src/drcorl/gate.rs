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
use drcorl_core::offline::{CriticEstimates, Judge, Rung};
use drcorl_core::policy::FrozenPolicy;
use drcorl_core::run::RunConfig;
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
    /// Number of costs that are bounded.
    pub(super) fn costs(&self) -> usize {
        self.facts.costs.len()
    }

    /// The episodic cost `k` a candidate may have; for a bound of 0 what estimates can resolve.
    pub(super) fn bound(&self, k: usize) -> f64 {
        match self.config.constraint {
            Constraint::Hard => TARGET_FLOOR,
            _ => self.facts.costs[k].limit,
        }
    }

    /// Every `gate_interval` steps: new estimates.
    pub(super) fn refresh_estimate(&mut self, step: u64, context: &mut Context<'_>) -> Result<()> {
        if step.is_multiple_of(self.config.gate_interval) {
            self.estimates = self.gate_estimates(context)?;
        }
        Ok(())
    }

    /// What the branches go by: the offline estimates, or what the environment said where it is asked.
    pub(super) fn gated(&self, context: &Context<'_>) -> Vec<GateEstimate> {
        match (context.run.mode, context.visit) {
            (Mode::HybridEval, Some(visit)) => {
                let measured = |k| GateEstimate {
                    cost: visit.cost_of(context.run.cost_name(k)),
                    target: self.facts.costs[k].limit,
                };
                (0..self.costs()).map(measured).collect()
            }
            _ => self.estimates.clone(),
        }
    }

    /// Estimates every episodic cost of the live policy by the chosen gate. The critics' upper bound is steered to the
    /// limit, as in the paper, the models' to a share of it.
    fn gate_estimates(&mut self, context: &mut Context<'_>) -> Result<Vec<GateEstimate>> {
        let fit = |k| self.config.gate != Gate::CriticUcb && self.models_unfit(k, context).is_none();
        let fit: Vec<bool> = (0..self.costs()).map(fit).collect();
        let mut models = Vec::new();
        if fit.contains(&true) {
            let policy = &mut self.policy;
            let count = Some(self.config.gate_rollouts);
            let rollouts =
                context.judge.rollout(context.data, count, context.cancel, &mut |observation: &Tensor| {
                    policy.act(observation)
                })?;
            models = rollouts.unwrap_or_default();
        }
        let mut critics = Vec::new();
        if fit.contains(&false) || self.config.gate == Gate::Max {
            for observation in self.bounded_states(context) {
                let action = self.policy.act(&observation);
                let k = self.config.gate_k;
                let of = |cost| self.critic_estimate(cost, &action, &observation, k, context.data).ucb;
                critics.push((0..fit.len()).map(of).collect::<Vec<f64>>());
            }
        }
        let of = |k: usize| {
            let limit = self.facts.costs[k].limit;
            let by_critics = || {
                let cost = critics.iter().map(|costs| costs[k]).fold(f64::NEG_INFINITY, f64::max);
                GateEstimate { cost, target: limit }
            };
            if !fit[k] {
                return by_critics();
            }
            let cost = models.get(k).map_or(f64::MAX, |model| model.upper(context.run.certificate_k));
            let by_models = GateEstimate { cost, target: self.config.model_gate_margin * limit };
            match self.config.gate {
                Gate::Max if by_critics().normalised() > by_models.normalised() => by_critics(),
                _ => by_models,
            }
        };
        Ok((0..fit.len()).map(of).collect())
    }

    /// Why the dynamics models cannot be the gate of cost `k`, if they cannot. Models that pass their test may still
    /// read far too much cost, which a certificate survives and a gate does not: it would stay shut.
    pub(super) fn models_unfit(&self, k: usize, context: &Context<'_>) -> Option<String> {
        self.unfit(context.judge.steering(k, context.run))
    }

    /// Why models of that test cannot be the gate, if they cannot.
    fn unfit(&self, test: std::result::Result<&Rung, Vec<String>>) -> Option<String> {
        let whole = match test {
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

    /// True where dynamics models are the gate of every cost.
    pub(super) fn models_steer(&self, context: &Context<'_>) -> bool {
        self.config.gate != Gate::CriticUcb && self.reads(context.judge, context.run)
    }

    /// True where the models of that judge may steer by every cost.
    pub(super) fn reads(&self, judge: &Judge, run: &RunConfig) -> bool {
        (0..self.costs()).all(|k| self.unfit(judge.steering(k, run)).is_none())
    }

    /// True where dynamics models order held-out episodes by return and by every cost, whatever the limit.
    pub(super) fn models_order(&self, context: &Context<'_>) -> bool {
        (0..self.costs()).all(|k| self.unfit(context.judge.ordering(k, context.run)).is_none())
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

    /// Mean and upper confidence value over members of cost `cost`, averaged over states, in cost an episode.
    pub(super) fn critic_estimate(
        &mut self,
        cost: usize,
        action: &Tensor,
        observation: &Tensor,
        k: f64,
        data: &Dataset,
    ) -> CriticEstimate {
        let values = self.critics.costs[cost].critic.values(&join(action, observation));
        let episodic = |column: Tensor| {
            let discounted = column.mean(Kind::Double).double_value(&[]) / self.config.unit();
            infinite_horizon_episode_cost(discounted, self.config.gamma, data.episode_length)
        };
        CriticEstimate { mean: episodic(upper_confidence(&values, 0.0)), ucb: episodic(upper_confidence(&values, k)) }
    }

    /// The critics of cost `cost` on all three sets of states.
    pub(super) fn estimates_on_all_sets(
        &mut self,
        cost: usize,
        policy: &dyn FrozenPolicy,
        context: &mut Context<'_>,
    ) -> CriticEstimates {
        let any_safe = self.facts.safe_rows.is_some();
        let mut on = |set: GateStates| {
            let rows = self.states(set, REPORT_ROWS, context);
            let observation = context.data.gather(&rows).observation().contiguous();
            let action = policy.act(&observation);
            self.critic_estimate(cost, &action, &observation, self.config.gate_k, context.data)
        };
        CriticEstimates {
            dataset: on(GateStates::Dataset),
            initial: on(GateStates::Initial),
            safe: any_safe.then(|| on(GateStates::Safe)),
        }
    }
}
