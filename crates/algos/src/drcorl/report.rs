//! What only DRCORL knows about its policy, for the certificate.

use super::adaptation::BranchCounts;
use super::diffusion::{diffuse, Draws, POLICY_TIME};
use super::gate::REPORT_ROWS;
use super::options::{Gate, GateStates};
use super::selection::Selected;
use super::Drcorl;
use drcorl_core::algorithm::Context;
use drcorl_core::policy::FrozenPolicy;
use schemars::JsonSchema;
use serde::Serialize;
use tch::Kind;

/// What DRCORL adds to the certificate.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "DrcorlDiagnostics")]
pub(super) struct Diagnostics {
    pub gate: GateReport,
    pub branches: BranchCounts,
    pub policy_distance: PolicyDistance,
    /// Where every state was switched by itself; null where all had one switch.
    pub feasibility: Option<FeasibilityReport>,
    /// The candidate selected offline; null if none was within the margin.
    pub selected: Option<Candidate>,
}

/// Which estimate opened and closed the branches.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct GateReport {
    /// By the configuration.
    pub requested: Gate,
    /// Null where nothing could say what an episode costs, and only violations were avoided.
    pub used: Option<Gate>,
    /// Why the models were not the gate, of several costs for those that are named; null if they were.
    pub fallback_reason: Option<String>,
    /// What the critics' gate was averaged over: all logged states where no logged episode is within the limit.
    pub states: GateStates,
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

/// What the critic that knows whether violations can be avoided says, of 4096 logged states.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct FeasibilityReport {
    /// Value from -1 to 1 up to which a state followed the reward in the end.
    pub threshold: f64,
    /// Share of the logged actions from which violations can be avoided, by a value of at most 0.
    pub logged_actions: f64,
    /// The same of the policy's actions at these states.
    pub policy_actions: f64,
}

/// The candidate selected offline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Candidate {
    /// Of its course.
    pub step: u64,
    /// The phase it is of.
    #[schemars(with = "String", extend("enum" = ["adaptation", "following"]))]
    pub course: &'static str,
    pub estimated_return: f64,
    /// True if it is the policy to use; else it is kept beside that.
    pub ships: bool,
}

impl Drcorl {
    /// What only the algorithm knows, for the certificate.
    pub(super) fn report(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Diagnostics {
        let requested = self.config.gate;
        let asked = if requested == Gate::CriticUcb { 0 } else { self.costs() };
        let unfit = (0..asked).filter_map(|k| {
            let reason = self.models_unfit(k, context)?;
            Some(context.run.cost_name(k).map_or(reason.clone(), |name| format!("{name}: {reason}")))
        });
        let unfit: Vec<String> = unfit.collect();
        let used = match unfit.len() {
            _ if self.by_states(context) && self.blind(context) => None,
            count if asked > 0 && count == asked => Some(Gate::CriticUcb),
            _ => Some(requested),
        };
        let fallback_reason = (!unfit.is_empty()).then(|| unfit.join("; "));
        let Selected { found, step, second, ret, .. } = self.selected;
        let course = if second { "following" } else { "adaptation" };
        Diagnostics {
            gate: GateReport { requested, used, fallback_reason, states: self.gate_states() },
            branches: self.branches,
            policy_distance: self.distance(policy, context),
            feasibility: self.feasibility(policy, context),
            selected: found.then_some(Candidate { step, course, estimated_return: ret, ships: self.ships_selected() }),
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
        let draws = Draws { unit: context.rng.uniform(&[rows], context.data.device()), noise, action: None };
        let diffused = diffuse(&action, &draws, POLICY_TIME);
        let residual = self.behavior.predict(&diffused.noisy, &observation, &diffused.time) - &draws.noise;
        let pull = residual * self.config.score_weight.at(&diffused.alpha, &diffused.sigma);
        let mean_pull = pull.view([-1, DRAWS, context.data.actions()]).mean_dim(1i64, false, Kind::Float);
        let score_distance =
            mean_pull.square().mean(Kind::Double).double_value(&[]).sqrt() / self.config.score_weight.kappa(0.25);
        PolicyDistance { action_mse, score_distance }
    }
}
