//! What DRCORL says about its policy offline: the gate's estimate, the selection of a candidate, its part of the certificate.

use super::options::{Gate, GateStates};
use super::{BranchCounts, Drcorl, Selected};
use crate::critics::{join, upper_confidence};
use crate::diffusion::{diffuse, POLICY_TIME};
use crate::lagrange::infinite_horizon_episode_cost;
use drcorl_core::algorithm::Context;
use drcorl_core::dataset::Dataset;
use drcorl_core::error::Result;
use drcorl_core::offline::certificate::CriticEstimate;
use drcorl_core::offline::CriticEstimates;
use drcorl_core::policy::FrozenPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Rows in the averages of the certificate.
const REPORT_ROWS: usize = 4096;
/// Smallest target an estimate is divided by, so that a limit of 0 asks for a cost below this.
const TARGET_FLOOR: f64 = 0.1;

/// An estimate of the live policy's episodic cost, and the cost it is steered to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct GateEstimate {
    pub cost: f64,
    pub target: f64,
}

/// What DRCORL adds to the certificate.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "DrcorlDiagnostics")]
pub(super) struct Diagnostics {
    pub gate: GateReport,
    pub branches: BranchCounts,
    pub policy_distance: PolicyDistance,
    /// The candidate selected offline; null if none was within the margin.
    pub selected: Option<Candidate>,
}

/// Which estimate opened and closed the branches.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct GateReport {
    /// By the configuration.
    pub requested: Gate,
    pub used: Gate,
    /// Why the critics took the place of the models; null if they did not.
    pub fallback_reason: Option<String>,
}

/// How far the policy that ships is from the logged actions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct PolicyDistance {
    /// Squared difference to the logged actions, mean over entries, in the normalised box.
    #[schemars(with = "Option<f64>")]
    pub action_mse: f64,
    /// Mean score residual in units of its pull.
    #[schemars(with = "Option<f64>")]
    pub score_distance: f64,
}

/// The candidate selected offline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Candidate {
    /// Of the adaptation.
    pub step: u64,
    pub estimated_return: f64,
}

impl GateEstimate {
    /// `Cn` of Algorithm 2: above 1 where the cost is above its target.
    pub fn normalised(self) -> f64 {
        self.cost / self.target.max(TARGET_FLOOR)
    }
}

impl Drcorl {
    /// Estimates the live policy's episodic cost by the chosen gate. The critics' upper bound is steered to the limit, as in the paper,
    /// the models' to a share of it.
    pub(super) fn gate_estimate(&mut self, context: &mut Context<'_>) -> Result<GateEstimate> {
        let limit = context.run.cost_limit;
        let critics = |drcorl: &mut Self, context: &mut Context<'_>| {
            let rows = drcorl.states(drcorl.config.gate_states, drcorl.config.gate_batch, context);
            let observation = context.data.gather(&rows).observation().contiguous();
            let action = drcorl.policy.act(&observation);
            let cost = drcorl.critic_estimate(&action, &observation, drcorl.config.gate_k, context.data).ucb;
            GateEstimate { cost, target: limit }
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

    /// Why the dynamics models cannot be the gate, if they cannot. Models that pass their test may still read far too much cost, which a
    /// certificate survives and a gate does not: it would stay shut.
    fn models_unfit(&self, context: &Context<'_>) -> Option<String> {
        let validity = context.judge.validity();
        let Some(valid) = validity.filter(|validity| validity.valid) else {
            let reasons = validity.map(|validity| validity.reasons.join("; ")).unwrap_or_default();
            return Some(format!("the dynamics models failed their test on held-out episodes: {reasons}"));
        };
        let (found, least) = (valid.cost_correlation, self.config.model_gate_correlation);
        (found < least).then(|| {
            format!("replayed costs of held-out episodes correlate {found:.2} with the logged ones, {least:.2} is needed to steer")
        })
    }

    /// Row numbers of `count` states of one set.
    fn states(&self, set: GateStates, count: usize, context: &mut Context<'_>) -> Tensor {
        let data = context.data;
        let candidates = match (set, &self.safe_rows) {
            (GateStates::Initial, _) => data.starts(),
            (GateStates::Safe, Some(rows)) => rows.shallow_clone(),
            _ => return context.rng.rows(count, data.len(), data.device()),
        };
        let picks = context.rng.rows(count, candidates.size()[0], data.device());
        candidates.index_select(0, &picks)
    }

    /// Mean and upper confidence value over members, averaged over states, in cost an episode.
    fn critic_estimate(&mut self, action: &Tensor, observation: &Tensor, k: f64, data: &Dataset) -> CriticEstimate {
        let values = self.cost.values(&join(action, observation));
        let episodic = |column: Tensor| {
            let discounted = column.mean(Kind::Double).double_value(&[]) / self.config.unit();
            infinite_horizon_episode_cost(discounted, self.config.gamma, data.episode_length)
        };
        CriticEstimate { mean: episodic(upper_confidence(&values, 0.0)), ucb: episodic(upper_confidence(&values, k)) }
    }

    /// Keeps the averaged policy after `step` steps if its estimate is within the margin and its estimated return is the best so far.
    pub(super) fn consider(&mut self, step: u64, context: &mut Context<'_>) -> Result<()> {
        let averaged = self.policy.averaged();
        let run = context.run;
        let model = if context.judge.valid() {
            let count = Some(self.config.gate_rollouts);
            context
                .judge
                .rollout(context.data, count, context.cancel, &mut |observation: &Tensor| averaged.act(observation))?
        } else {
            None
        };
        let (cost, ret) = match model {
            Some(model) => (model.upper(run.certificate_k), model.ret),
            None => {
                let rows = self.states(self.config.gate_states, self.config.gate_batch, context);
                let observation = context.data.gather(&rows).observation().contiguous();
                let action = averaged.act(&observation);
                let value = self.reward.guidance(&join(&action, &observation), action.size()[1]).0;
                let cost = self.critic_estimate(&action, &observation, self.config.gate_k, context.data).ucb;
                let discounted = value.mean(Kind::Double).double_value(&[]) / self.reward_factor;
                (cost, infinite_horizon_episode_cost(discounted, self.config.gamma, context.data.episode_length))
            }
        };
        if cost <= run.certificate_margin * run.cost_limit && ret > self.selected.ret {
            self.selected = Selected { policy: averaged, found: true, step, ret };
        }
        Ok(())
    }

    /// The cost critics on all three sets of states.
    pub(super) fn estimates_on_all_sets(
        &mut self,
        policy: &dyn FrozenPolicy,
        context: &mut Context<'_>,
    ) -> CriticEstimates {
        let mut on = |set: GateStates| {
            let rows = self.states(set, REPORT_ROWS, context);
            let observation = context.data.gather(&rows).observation().contiguous();
            let action = policy.act(&observation);
            self.critic_estimate(&action, &observation, self.config.gate_k, context.data)
        };
        CriticEstimates {
            dataset: on(GateStates::Dataset),
            initial: on(GateStates::Initial),
            safe: on(GateStates::Safe),
        }
    }

    /// What only the algorithm knows, for the certificate.
    pub(super) fn report(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Diagnostics {
        let requested = self.config.gate;
        let fallback_reason = if requested == Gate::CriticUcb { None } else { self.models_unfit(context) };
        let used = if fallback_reason.is_some() { Gate::CriticUcb } else { requested };
        let Selected { found, step, ret, .. } = self.selected;
        Diagnostics {
            gate: GateReport { requested, used, fallback_reason },
            branches: self.branches,
            policy_distance: self.distance(policy, context),
            selected: found.then_some(Candidate { step, estimated_return: ret }),
        }
    }

    /// How far the policy is from the logged actions: plainly, and by the score residual in units of its pull kappa.
    fn distance(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> PolicyDistance {
        const DRAWS: i64 = 32;
        const ROWS: usize = 256;
        let batch = context.data.sample(REPORT_ROWS, context.rng);
        let action = policy.act(&batch.observation());
        let action_mse = (&action - batch.action()).square().mean(Kind::Double).double_value(&[]);
        let batch = context.data.sample(ROWS, context.rng);
        let observation = batch.observation().repeat_interleave_self_int(DRAWS, 0i64, None);
        let action = policy.act(&observation);
        let rows = observation.size()[0];
        let noise = context.rng.normal(&[rows, context.data.actions()], context.data.device());
        let unit = context.rng.uniform(&[rows], context.data.device());
        let diffused = diffuse(&action, &unit, &noise, POLICY_TIME);
        let residual = self.behavior.predict(&diffused.noisy, &observation, &diffused.time) - noise;
        let pull = residual * self.config.score_weight.at(&diffused.alpha, &diffused.sigma);
        let mean_pull = pull.view([-1, DRAWS, context.data.actions()]).mean_dim(1i64, false, Kind::Float);
        let score_distance =
            mean_pull.square().mean(Kind::Double).double_value(&[]).sqrt() / self.config.score_weight.kappa(0.25);
        PolicyDistance { action_mse, score_distance }
    }
}
