//! The certificate: what a run can honestly say about its policy without having touched the environment.

use super::facts::DataFacts;
use super::goal::Goal;
use super::notes::{notes, unread};
use super::rules::{bound, refusals, widening, Case, Refusal, Thresholds};
use super::{FqeEstimate, HeldOut, Judge, RolloutEstimate, SelfTest, Shortage, Validity};
use crate::dataset::Dataset;
use crate::hybrid::Visit;
use crate::results::{nullable, object, PolicyRecord};
use crate::run::{MatmulPrecision, RunConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a run says about its policy from offline data alone: `certificate.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    pub verdict: Verdict,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
    /// Every rule that refused, with what to do about it; empty where the policy is certified.
    pub refusals: Vec<Refusal>,
    /// What a user should know and does not decide.
    pub notes: Vec<String>,
    /// Limit on the undiscounted cost of an episode.
    pub cost_limit: f64,
    /// Share of the limit the upper estimate may reach.
    pub margin: f64,
    /// The number that decides, and what it must keep to.
    pub decision: Decision,
    /// What the rules compared with.
    pub thresholds: Thresholds,
    /// At which the models were trained and asked; certificates that do not tell are of highest.
    #[serde(default)]
    #[schemars(!default)]
    pub matmul_precision: MatmulPrecision,
    /// What the data can show.
    pub data: DataFacts,
    /// Of the policy that ships.
    pub estimates: Estimates,
    /// The auditing models' test on held-out episodes; null where none were trained.
    pub validity: Option<Validity>,
    /// Episodes that nothing but that test has seen; null where training kept none (`holdout`).
    pub held_out: Option<HeldOut>,
    /// The estimator tried on clones of logged behavior; null where none were estimated.
    pub self_test: Option<SelfTest>,
    /// Estimates of every policy the run keeps, the one that ships first.
    #[serde(with = "object")]
    #[schemars(with = "BTreeMap<String, Estimates>")]
    pub policies: Vec<(String, Estimates)>,
    /// Every cost for itself, where several are bounded: the fields above speak of the first, verdict, reasons and
    /// refusals of all. Left out where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<CostCertificate>,
    /// Their files and the hashes of these, in the same order; none before they are written.
    pub policy_files: Vec<PolicyRecord>,
    /// What the algorithm adds.
    #[serde(flatten)]
    pub diagnostics: Map<String, Value>,
    /// Environment steps of training; 0 in mode offline.
    pub environment_steps: u64,
    /// The visits of the hybrid modes.
    pub visits: Vec<Visit>,
}

/// What is said of one of several costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CostCertificate {
    /// As in `limits`.
    pub name: String,
    /// Limit on the undiscounted sum of this cost over an episode.
    pub cost_limit: f64,
    /// By the rules for this cost.
    pub verdict: Verdict,
    pub decision: Decision,
    pub refusals: Vec<Refusal>,
    pub data: DataFacts,
    /// Of the policy that ships.
    pub estimates: Estimates,
    pub validity: Option<Validity>,
    pub self_test: Option<SelfTest>,
    /// Of every policy the run keeps, the one that ships first.
    #[serde(with = "object")]
    #[schemars(with = "BTreeMap<String, Estimates>")]
    pub policies: Vec<(String, Estimates)>,
}

/// Whether the policy is certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The upper cost estimate is within the margin, by models that passed their test.
    #[serde(rename = "certified")]
    Certified,
    /// It is not, or nothing can tell.
    #[serde(rename = "not certified")]
    NotCertified,
}

impl Verdict {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Certified => "certified",
            Verdict::NotCertified => "not certified",
        }
    }
}

/// What is certified, its bound, and the bar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// The estimator that decides: the auditing models.
    #[schemars(extend("const" = "model_rollout"))]
    pub estimator: String,
    /// What is certified.
    pub certify: Goal,
    /// Share of the episodes it speaks of; null for the mean cost.
    pub level: Option<f64>,
    /// The upper bound of a cost, or the lower bound of a share; null where there is no estimate.
    pub bound: Option<f64>,
    /// The bound must be at most this, or of a share at least.
    pub threshold: f64,
}

/// Offline estimates of one policy's episodic cost and return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimates {
    /// By rollouts of the auditing models; null where none were trained.
    pub model_rollout: Option<ModelRollout>,
    /// By the algorithm's cost critics; null where it has none.
    pub critic_ucb: Option<CriticEstimates>,
    /// By fitted Q evaluation; null where it was left out.
    pub fqe: Option<FittedQ>,
}

/// Episodes in the auditing dynamics models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRollout {
    pub cost: RolloutCost,
    #[serde(rename = "return")]
    pub ret: RolloutReturn,
    /// Share of the entries of predicted states that had to be clipped to the data's range.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub clipped: f64,
    /// Steps of a stretch before the learnt tail took over; null where whole episodes were rolled out.
    pub horizon: Option<usize>,
    /// Mean over states of the distance to the actions of the nearest logged behavior, in deviations of logged actions;
    /// null without a self-test.
    pub distance: Option<f64>,
    /// Index in `self_test.behaviors` of the logged behavior that is nearest in most states; null likewise.
    #[serde(default)]
    pub nearest: Option<usize>,
    /// Share of the episodes within the limit; null where only means are known.
    pub within_limit: Option<f64>,
    /// Mean cost of the worst share 1 - `certify_level` of the episodes (CVaR); null likewise.
    pub worst: Option<f64>,
}

/// Episodic cost in the models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutCost {
    /// Mean over members and initial states.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub mean: f64,
    /// Its deviation: between models, and by which initial states were drawn.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub std: f64,
    /// What the self-test adds for estimates that fell short on logged behavior; null without one.
    pub widening: Option<f64>,
    /// mean + `certificate_k` std + widening: what the verdict on the mean cost goes by.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub upper: f64,
}

/// Undiscounted return in the models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutReturn {
    /// Mean over members and initial states.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub mean: f64,
    /// Its deviation: between models, and by which initial states were drawn.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub std: f64,
}

/// Episodic cost by critics on one set of states.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CriticEstimate {
    /// Mean over members.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub mean: f64,
    /// Upper confidence value: mean over states of (mean + k deviations over members).
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub ucb: f64,
}

/// The critics' estimates on the three sets of states they can be averaged over;
/// they fail differently, so all are logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CriticEstimates {
    /// All dataset states: has a floor from unsafe data.
    pub dataset: CriticEstimate,
    /// First states of episodes: optimistic.
    pub initial: CriticEstimate,
    /// States of episodes within the limit; null where there is none.
    pub safe: Option<CriticEstimate>,
}

/// Fitted Q evaluation at initial states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FittedQ {
    pub cost: CriticEstimate,
    #[serde(rename = "return")]
    pub ret: FittedReturn,
}

/// Episodic return by fitted Q evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FittedReturn {
    /// Mean over members.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub mean: f64,
}

/// What is known about one policy by one cost.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// True if an action depends on the course of the episode: the estimate is then of whole episodes.
    pub remembers: bool,
    pub model_rollout: Option<RolloutEstimate>,
    /// Initial states that were left out of it.
    pub shortage: Option<Shortage>,
    pub critic_ucb: Option<CriticEstimates>,
    pub fqe: Option<FqeEstimate>,
}

impl Evidence {
    /// True if the models' estimate is one of whole episodes, or there is none.
    fn of_whole_episodes(&self) -> bool {
        self.model_rollout.as_ref().is_none_or(|model| model.horizon.is_none())
    }

    /// As it is told. What is known to be read too low widens the mean where the mean is what was tried.
    fn estimates(&self, self_test: Option<&SelfTest>, validity: Option<&Validity>, run: &RunConfig) -> Estimates {
        Estimates {
            model_rollout: self.model_rollout.as_ref().map(|model| {
                let tried = self_test.filter(|_| run.certify == Goal::Mean);
                let widening =
                    tried.map(|_| widening(tried, validity, model.nearest) * Goal::Mean.scale(model.cost, run));
                let upper = model.upper(run.certificate_k) + widening.unwrap_or(0.0);
                ModelRollout {
                    cost: RolloutCost { mean: model.cost, std: model.cost_std, widening, upper },
                    ret: RolloutReturn { mean: model.ret, std: model.return_std },
                    clipped: model.clipped,
                    horizon: model.horizon,
                    distance: model.distance,
                    nearest: model.nearest,
                    within_limit: model.value(Goal::Chance, run).map(|value| value.0),
                    worst: model.value(Goal::Cvar, run).map(|value| value.0),
                }
            }),
            critic_ucb: self.critic_ucb.clone(),
            fqe: self.fqe.as_ref().map(|fqe| FittedQ {
                cost: CriticEstimate { mean: fqe.cost, ucb: fqe.cost_ucb },
                ret: FittedReturn { mean: fqe.ret },
            }),
        }
    }
}

/// Judges a policy. `policies` holds the shipped policy first, and of each what is known by every cost; `diagnostics`
/// comes from the algorithm, `visits` from the hybrid modes.
pub fn certify(
    policies: &[(&'static str, Vec<Evidence>)],
    auditor: &Judge,
    data: &Dataset,
    run: &RunConfig,
    diagnostics: Map<String, Value>,
    visits: &[Visit],
) -> Certificate {
    let mut judged: Vec<Judged> = (0..run.costs()).map(|k| judge(k, policies, auditor, data, run)).collect();
    let several = judged.len() > 1;
    let costs = if several { judged.iter().map(|one| one.certificate.clone()).collect() } else { Vec::new() };
    let refusals = refusals_of(&judged);
    let verdict = if refusals.is_empty() { Verdict::Certified } else { Verdict::NotCertified };
    let reasons = match verdict {
        Verdict::Certified => judged.iter().map(|one| one.certificate.named(several, &one.why_certified)).collect(),
        Verdict::NotCertified => refusals.iter().map(|refusal| refusal.reason.clone()).collect(),
    };
    let Judged { certificate: first, mut notes, .. } = judged.swap_remove(0);
    if several {
        let within = data.within_limits(run).into_iter().filter(|&within| within).count();
        notes.push(format!("{within} of {} whole episodes are within all limits", first.data.whole_episodes));
    }
    Certificate {
        verdict,
        reasons,
        refusals,
        notes,
        cost_limit: run.cost_limit,
        margin: run.certificate_margin,
        decision: first.decision,
        thresholds: Thresholds::of(run),
        matmul_precision: run.matmul_precision,
        data: first.data,
        estimates: first.estimates,
        validity: first.validity,
        held_out: HeldOut::of(data, run),
        self_test: first.self_test,
        policies: first.policies,
        costs,
        policy_files: Vec::new(),
        diagnostics,
        environment_steps: visits.iter().map(|visit| visit.environment_steps).sum(),
        visits: visits.to_vec(),
    }
}

/// What is found of one cost.
struct Judged {
    certificate: CostCertificate,
    why_certified: String,
    notes: Vec<String>,
}

impl CostCertificate {
    /// A sentence with the cost it speaks of, where there are several.
    fn named(&self, several: bool, sentence: &str) -> String {
        if several {
            format!("{}: {sentence}", self.name)
        } else {
            sentence.into()
        }
    }
}

/// By cost `k` alone.
fn judge(
    k: usize,
    policies: &[(&'static str, Vec<Evidence>)],
    auditor: &Judge,
    data: &Dataset,
    run: &RunConfig,
) -> Judged {
    let run = &run.of_cost(k);
    let policies: Vec<(&'static str, &Evidence)> = policies.iter().map(|(name, found)| (*name, &found[k])).collect();
    let shipped = policies[0].1;
    let self_test = auditor.self_test(k, run, shipped.of_whole_episodes());
    let validity = auditor.validity(k);
    let facts = DataFacts::of(data, k, auditor.held_out(), run);
    let case = Case {
        model: shipped.model_rollout.as_ref(),
        shortage: shipped.shortage,
        remembers: shipped.remembers,
        facts: &facts,
        validity,
        self_test: self_test.as_ref(),
        run,
    };
    let whole = auditor.self_test(k, run, true);
    let unread = unread(&policies[1..], validity, whole.as_ref(), data.episode_length);
    let refusals = refusals(&case);
    let bound = bound(&case).filter(|bound| !bound.is_nan());
    let (why_certified, notes) =
        (case.why_certified(), notes(shipped, &case, data).into_iter().chain(unread).collect());
    let certificate = CostCertificate {
        name: run.cost_name(k).unwrap_or_default().into(),
        cost_limit: run.cost_limit,
        verdict: if refusals.is_empty() { Verdict::Certified } else { Verdict::NotCertified },
        decision: Decision {
            estimator: "model_rollout".into(),
            certify: run.certify,
            level: (run.certify != Goal::Mean).then_some(run.certify_level),
            bound,
            threshold: run.certify.bar(run),
        },
        refusals,
        estimates: shipped.estimates(self_test.as_ref(), validity, run),
        validity: validity.cloned(),
        policies: (policies.iter())
            .map(|(name, found)| {
                let tried = auditor.self_test(k, run, found.of_whole_episodes());
                (name.to_string(), found.estimates(tried.as_ref(), validity, run))
            })
            .collect(),
        self_test,
        data: facts,
    };
    Judged { certificate, why_certified, notes }
}

/// What refuses, by any cost: what all costs say in the same words once, everything else with its cost.
fn refusals_of(judged: &[Judged]) -> Vec<Refusal> {
    let mut found: Vec<Refusal> = Vec::new();
    for Judged { certificate, .. } in judged {
        for refusal in &certificate.refusals {
            let by_all = judged.iter().all(|other| other.certificate.refusals.contains(refusal));
            if !by_all {
                let reason = certificate.named(true, &refusal.reason);
                found.push(Refusal { cost: Some(certificate.name.clone()), reason, ..refusal.clone() });
            } else if !found.contains(refusal) {
                found.push(refusal.clone());
            }
        }
    }
    found
}
