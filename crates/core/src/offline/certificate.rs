//! The certificate: what a run can honestly say about its policy without having touched the environment.

use super::{FqeEstimate, Judge, RolloutEstimate};
use crate::dataset::Dataset;
use crate::run::RunConfig;
use serde::Serialize;
use serde_json::{json, Map, Value};

/// Share of clipped model states beyond which a rollout no longer speaks about the data's world.
const CLIPPED_CAP: f64 = 0.1;

/// Episodic cost by the algorithm's cost critics on one set of states.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CriticEstimate {
    /// Mean over members.
    pub mean: f64,
    /// Mean over states of (mean + k deviations over members).
    pub ucb: f64,
}

/// The critics' estimates on the three sets of states they can be averaged over; they fail differently, so all are logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CriticEstimates {
    /// All dataset states: has a floor from unsafe data.
    pub dataset: CriticEstimate,
    /// First states of episodes: optimistic.
    pub initial: CriticEstimate,
    /// States of episodes within the limit.
    pub safe: CriticEstimate,
}

/// What is known about one policy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Evidence {
    pub model_rollout: Option<RolloutEstimate>,
    pub critic_ucb: Option<CriticEstimates>,
    pub fqe: Option<FqeEstimate>,
}

/// Writes the certificate. `policies` holds the shipped policy first, which `remembers` or not; `diagnostics` comes from the algorithm.
pub fn certify(
    policies: &[(&'static str, Evidence)],
    remembers: bool,
    auditor: &Judge,
    data: &Dataset,
    run: &RunConfig,
    diagnostics: Map<String, Value>,
) -> Value {
    let mut reasons = refusals(&policies[0].1, auditor, run);
    let certified = reasons.is_empty();
    let shipped = &policies[0].1;
    if certified {
        let model = shipped.model_rollout.clone().unwrap_or_default();
        reasons.push(format!(
            "upper cost estimate {:.2} is within {:.0} % of the limit {}, by dynamics models that training never used and that passed their test on held-out episodes",
            model.upper(run.certificate_k),
            100.0 * run.certificate_margin,
            run.cost_limit
        ));
    }
    let mut certificate = json!({
        "verdict": if certified { "certified" } else { "not certified" },
        "reasons": reasons,
        "notes": notes(shipped, remembers, data, run),
        "cost_limit": run.cost_limit,
        "margin": run.certificate_margin,
        "estimates": evidence(shipped, run),
        "validity": auditor.validity(),
        "policies": policies.iter().map(|(name, found)| (name.to_string(), evidence(found, run))).collect::<Map<_, _>>(),
    });
    if let Some(object) = certificate.as_object_mut() {
        object.extend(diagnostics);
    }
    certificate
}

/// Every reason not to certify; none means certified.
///
/// Critic estimates alone never certify: at the budgets of the presets no threshold on them separates safe from unsafe policies
/// (2 of 8 and 3 of 9 policies below the limit were unsafe in the measurements this rule comes from).
fn refusals(shipped: &Evidence, auditor: &Judge, run: &RunConfig) -> Vec<String> {
    let mut reasons = Vec::new();
    let (Some(model), Some(validity)) = (&shipped.model_rollout, auditor.validity()) else {
        return vec!["no auditing dynamics model was trained, and critic estimates alone do not certify".into()];
    };
    if !validity.valid {
        reasons.push(format!(
            "the dynamics models failed their test on held-out episodes ({}); critic estimates alone do not certify",
            validity.reasons.join("; ")
        ));
    }
    let upper = model.upper(run.certificate_k);
    let bar = run.certificate_margin * run.cost_limit;
    // NaN refuses too.
    if upper.is_nan() || upper > bar {
        reasons.push(format!(
            "upper cost estimate {upper:.2} is above {bar:.2} ({:.0} % of the limit {})",
            100.0 * run.certificate_margin,
            run.cost_limit
        ));
    }
    if model.clipped.is_nan() || model.clipped > CLIPPED_CAP {
        reasons.push(format!("{:.0} % of the predicted states left the range of the data", 100.0 * model.clipped));
    }
    reasons
}

/// Things a user should know that do not decide.
fn notes(shipped: &Evidence, remembers: bool, data: &Dataset, run: &RunConfig) -> Vec<String> {
    let mut notes = Vec::new();
    if remembers && run.fqe_steps > 0 {
        notes.push("no fitted Q evaluation: the policy's actions depend on the course of the episode".into());
    }
    let safe: Vec<f64> =
        data.episodes.iter().filter(|e| e.complete && e.cost <= run.cost_limit).map(|e| e.ret).collect();
    let Some(model) = &shipped.model_rollout else { return notes };
    if safe.is_empty() {
        notes.push("no logged episode is within the limit".into());
        return notes;
    }
    let mean = safe.iter().sum::<f64>() / safe.len() as f64;
    if model.ret < mean && model.upper(run.certificate_k) <= run.cost_limit {
        notes.push(format!("safe but of little use? estimated return {:.1} is below the mean {mean:.1} of the logged episodes within the limit", model.ret));
    }
    notes
}

fn evidence(found: &Evidence, run: &RunConfig) -> Value {
    let model = found.model_rollout.as_ref().map(|m| {
        json!({
            "cost": { "mean": m.cost, "std": m.cost_std, "upper": m.upper(run.certificate_k) },
            "return": { "mean": m.ret, "std": m.return_std },
            "clipped": m.clipped,
        })
    });
    let fqe = found
        .fqe
        .as_ref()
        .map(|f| json!({ "cost": { "mean": f.cost, "ucb": f.cost_ucb }, "return": { "mean": f.ret } }));
    json!({ "model_rollout": model, "critic_ucb": found.critic_ucb, "fqe": fqe })
}
