//! What only DRCORL knows about its policy, for the certificate.

use super::diffusion::{diffuse, Draws, POLICY_TIME};
use super::gate::REPORT_ROWS;
use super::options::Gate;
use super::Drcorl;
use drcorl_core::algorithm::Context;
use drcorl_core::policy::FrozenPolicy;
use serde_json::{json, Map, Value};
use tch::Kind;

impl Drcorl {
    /// What only the algorithm knows, for the certificate: gate, branches, distance to the data,
    /// the selected candidate.
    pub(super) fn report(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Map<String, Value> {
        let reason = if self.config.gate == Gate::CriticUcb { None } else { self.models_unfit(context) };
        let used = if reason.is_some() { Gate::CriticUcb } else { self.config.gate };
        let selected =
            self.selected.found.then(|| json!({ "step": self.selected.step, "estimated_return": self.selected.ret }));
        let body = json!({
            "gate": { "requested": self.config.gate, "used": used, "fallback_reason": reason },
            "branches": self.branches,
            "policy_distance": self.distance(policy, context),
            "selected": selected,
        });
        body.as_object().cloned().unwrap_or_default()
    }

    /// How far the policy is from the logged actions: plainly, and by the score residual in units of its pull kappa.
    fn distance(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Value {
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
        let draws = Draws { unit: context.rng.uniform(&[rows], context.data.device()), noise };
        let diffused = diffuse(&action, &draws, POLICY_TIME);
        let residual = self.behavior.predict(&diffused.noisy, &observation, &diffused.time) - &draws.noise;
        let pull = residual * self.config.score_weight.at(&diffused.alpha, &diffused.sigma);
        let mean_pull = pull.view([-1, DRAWS, context.data.actions()]).mean_dim(1i64, false, Kind::Float);
        let score_distance =
            mean_pull.square().mean(Kind::Double).double_value(&[]).sqrt() / self.config.score_weight.kappa(0.25);
        json!({ "action_mse": action_mse, "score_distance": score_distance })
    }
}
