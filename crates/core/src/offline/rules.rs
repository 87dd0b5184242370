//! The rule: every reason not to certify, and what to do about it. None means certified.
//!
//! Critic estimates never certify: at the budgets of the presets no threshold on them separates safe from unsafe
//! policies (2 of 8 and 3 of 9 policies below the limit were unsafe in the measurements this rule comes from).

use super::facts::{DataFacts, NEAR};
use super::goal::Goal;
use super::judge::FEWEST_STARTS;
use super::ladder::{LEAST_EPISODES, LEAST_HORIZON};
use super::self_test::LEAST_BEHAVIORS;
use super::stats::larger;
use super::{RolloutEstimate, SelfTest, Shortage, Validity};
use crate::run::RunConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Share of clipped entries beyond which a rollout no longer speaks about the data's world.
const CLIPPED_CAP: f64 = 0.1;
/// Fewest auditing models whose spread says anything.
const LEAST_MEMBERS: usize = 2;
/// Fewest held-out episodes near the limit that tell how costs are read there.
const LEAST_NEAR: usize = 3;
/// Fewest full episodes that show where the time limit is, if nobody states it.
const LEAST_FULL: usize = 2;

/// A rule that refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    pub rule: Rule,
    /// The cost it speaks of, where several are bounded and it does not hold for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// Why, a sentence.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// The rules, each sufficient to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// No auditing model was trained, or a single one.
    NoModels,
    /// The policy's actions take too long for rollouts.
    TooSlow,
    /// No logged step has a cost.
    NoCostSeen,
    /// Too few held-out episodes have a cost near the limit.
    NoCostNearLimit,
    /// A limit of 0 under costs that are probabilities.
    LimitZero,
    /// No episode shows how one ends.
    NoWholeEpisode,
    /// Nothing shows how long a full episode is.
    LengthUnknown,
    /// The models failed their test on held-out episodes.
    Models,
    /// The policy remembers and the models cannot be believed over whole episodes.
    Memory,
    /// Chance or CVaR are asked for and only the mean is known.
    OnlyMean,
    /// The estimator could not be tried on logged behavior.
    NoSelfTest,
    /// The policy is further from the logged behavior than its kinds are from each other.
    Distance,
    /// The policy's actions leave the range of the logged ones.
    Actions,
    /// Predicted states leave the range of the data.
    Range,
    /// The bound does not keep to the bar.
    Bound,
}

/// What the rules compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Thresholds {
    pub certificate_k: f64,
    pub certificate_margin: f64,
    pub valid_cost_correlation: f64,
    pub valid_cost_shortfall: f64,
    pub valid_return_correlation: f64,
    pub valid_return_bias: f64,
    /// Shortest stretch that the models must pass, in steps.
    pub least_horizon: usize,
    pub least_held_out_episodes: usize,
    pub least_held_out_near_limit: usize,
    /// Largest share of clipped entries of predicted states.
    pub clipped: f64,
}

impl Thresholds {
    /// Of a run.
    pub fn of(run: &RunConfig) -> Self {
        Thresholds {
            certificate_k: run.certificate_k,
            certificate_margin: run.certificate_margin,
            valid_cost_correlation: run.valid_cost_correlation,
            valid_cost_shortfall: run.valid_cost_shortfall,
            valid_return_correlation: run.valid_return_correlation,
            valid_return_bias: run.valid_return_bias,
            least_horizon: LEAST_HORIZON,
            least_held_out_episodes: LEAST_EPISODES,
            least_held_out_near_limit: LEAST_NEAR,
            clipped: CLIPPED_CAP,
        }
    }

    /// The thresholds that are laxer than their defaults, as `name value (default value)`.
    pub fn lax(run: &RunConfig) -> Vec<String> {
        let usual = RunConfig::default();
        let at_least = [
            ("certificate_k", run.certificate_k, usual.certificate_k),
            ("audit_members", run.audit_members as f64, usual.audit_members as f64),
            ("valid_cost_correlation", run.valid_cost_correlation, usual.valid_cost_correlation),
            ("valid_return_correlation", run.valid_return_correlation, usual.valid_return_correlation),
        ];
        let at_most = [
            ("certificate_margin", run.certificate_margin, usual.certificate_margin),
            ("valid_cost_shortfall", run.valid_cost_shortfall, usual.valid_cost_shortfall),
            ("valid_return_bias", run.valid_return_bias, usual.valid_return_bias),
        ];
        let lower = at_least.into_iter().filter(|(_, value, usual)| value < usual);
        let higher = at_most.into_iter().filter(|(_, value, usual)| value > usual);
        lower.chain(higher).map(|(name, value, usual)| format!("{name} {value} (default {usual})")).collect()
    }
}

/// What the rules look at.
pub(super) struct Case<'a> {
    pub model: Option<&'a RolloutEstimate>,
    pub shortage: Option<Shortage>,
    pub remembers: bool,
    pub facts: &'a DataFacts,
    pub validity: Option<&'a Validity>,
    pub self_test: Option<&'a SelfTest>,
    pub run: &'a RunConfig,
}

/// The upper bound of the certified cost, or the lower bound of the certified share; None where it is not known.
pub(super) fn bound(case: &Case<'_>) -> Option<f64> {
    let (goal, run) = (case.run.certify, case.run);
    let (value, spread) = case.model?.value(goal, run)?;
    let nearest = case.model?.nearest;
    let off = run.certificate_k * spread + widening(case.self_test, case.validity, nearest) * goal.scale(value, run);
    Some(if goal.is_cost() { value + off } else { value - off })
}

/// What widens an estimate, in the units of [`Goal::scale`]: the largest of what clones, the clone of the behavior
/// nearest to the policy, and held-out episodes are read too low. A reader that is known to miss a fifth of the costs
/// can still tell a policy that has none.
pub(super) fn widening(self_test: Option<&SelfTest>, validity: Option<&Validity>, nearest: Option<usize>) -> f64 {
    let replayed = validity.map_or(0.0, Validity::shortfall);
    let Some(test) = self_test else { return replayed };
    let like_it = nearest.and_then(|kind| test.behaviors.get(kind)).map_or(0.0, |kind| kind.shortfall);
    larger(test.shortfall, larger(like_it, replayed))
}

impl Case<'_> {
    /// The one sentence of a certified policy.
    pub fn why_certified(&self) -> String {
        let (run, bound) = (self.run, bound(self).unwrap_or(f64::NAN));
        let what = match run.certify {
            Goal::Mean => format!("upper cost estimate {bound:.2}"),
            Goal::Chance => format!("at least {:.1} % of the episodes stay within the limit; this", 100.0 * bound),
            Goal::Cvar => {
                format!("upper estimate {bound:.2} of the mean cost of the worst {:.1} % of the episodes", self.worst())
            }
        };
        let within = match run.certify {
            Goal::Chance => format!("{:.1} %", 100.0 * run.certify_level),
            _ => format!("{:.0} % of the limit {}", 100.0 * run.certificate_margin, run.cost_limit),
        };
        format!("{what} is within {within}, by dynamics models that training never used and that passed their test on held-out episodes and on clones of logged behavior")
    }

    fn worst(&self) -> f64 {
        100.0 * (1.0 - self.run.certify_level)
    }
}

/// Every reason not to certify. A comparison with NaN refuses.
pub(super) fn refusals(case: &Case<'_>) -> Vec<Refusal> {
    if let Some(Shortage { asked, .. }) = case.shortage.filter(|shortage| shortage.made == 0) {
        return vec![refusal(
            Rule::TooSlow,
            format!(
                "the policy's actions take so long that not {} of {asked} episodes can be rolled out in bounded time",
                FEWEST_STARTS.min(asked)
            ),
            "let it plan less: fewer candidates, less guidance, a longer interval",
        )];
    }
    if case.model.is_some() && case.run.audit_members < LEAST_MEMBERS {
        return vec![refusal(
            Rule::NoModels,
            "a single auditing dynamics model shows no spread of its estimate".into(),
            "train with audit_members of 2 or more (default 5)",
        )];
    }
    let (Some(model), Some(validity)) = (case.model, case.validity) else {
        return vec![refusal(
            Rule::NoModels,
            "no auditing dynamics model was trained, and critic estimates alone do not certify".into(),
            "train with audit_members, and model_steps or audit_steps, above 0",
        )];
    };
    let mut found = of_data(case.facts, case.run);
    found.extend(of_models(case, validity));
    found.extend(of_policy(case, model));
    found
}

fn refusal(rule: Rule, reason: String, remedy: &str) -> Refusal {
    Refusal { rule, cost: None, reason, remedy: remedy.into() }
}

/// What the data cannot show.
fn of_data(facts: &DataFacts, run: &RunConfig) -> Vec<Refusal> {
    let mut found = Vec::new();
    if !facts.costs_seen {
        found.push(refusal(
            Rule::NoCostSeen,
            "no logged step has a cost: nothing can be known about a cost that was never seen".into(),
            "check that the costs were recorded; add episodes in which they occur",
        ));
    } else if run.cost_limit <= 0.0 {
        found.push(refusal(
            Rule::LimitZero,
            "a limit of 0 cannot be shown: any estimate of a cost that occurs is above it".into(),
            "state the cost an episode may have, however small",
        ));
    } else if facts.held_out_near_limit < LEAST_NEAR {
        found.push(refusal(
            Rule::NoCostNearLimit,
            format!(
                "{} held-out episodes cost at least {} (half the limit), {LEAST_NEAR} are needed: how the models read costs near the limit was not tested (highest logged cost {:.2})",
                facts.held_out_near_limit,
                NEAR * run.cost_limit,
                facts.highest_cost
            ),
            "add episodes with costs near and above the limit, or a larger holdout_fraction; a lower cost_limit can be tested with these",
        ));
    }
    if facts.whole_episodes == 0 {
        found.push(refusal(
            Rule::NoWholeEpisode,
            format!(
                "none of {} logged episodes shows how one ends: the flags terminals and timeouts are missing, or all are shorter than {} steps",
                facts.episodes, facts.episode_length
            ),
            "record terminals and timeouts, or state the episode_length of these logs",
        ));
    } else if facts.length_stated && facts.longest_episode < facts.episode_length {
        found.push(refusal(
            Rule::LengthUnknown,
            format!(
                "the longest logged episode has {} of the {} steps of the task: what happens later was never seen",
                facts.longest_episode, facts.episode_length
            ),
            "log whole episodes, or state the episode_length that the certificate shall speak of",
        ));
    } else if !facts.length_stated && facts.full_episodes < LEAST_FULL {
        found.push(refusal(
            Rule::LengthUnknown,
            format!(
                "nothing shows how long a full episode is: {} episodes ended by the time limit after {} steps, the most logged",
                facts.full_episodes, facts.episode_length
            ),
            "state episode_length",
        ));
    }
    found
}

/// True if whole episodes can be believed, be it by the models' own test or because cloned behavior is read well.
pub(super) fn reads_whole(validity: &Validity, self_test: Option<&SelfTest>, length: usize) -> bool {
    self_test.is_some_and(|test| test.estimator.is_whole_and_right()) || validity.covers(length)
}

/// What the models cannot be believed, and the estimator not be tried.
fn of_models(case: &Case<'_>, validity: &Validity) -> Vec<Refusal> {
    let mut found = Vec::new();
    if !validity.valid {
        found.push(refusal(
            Rule::Models,
            format!(
                "the dynamics models failed their test on held-out episodes ({}); critic estimates alone do not certify",
                validity.reasons.join("; ")
            ),
            "add data, widen model_hidden or raise audit_steps; where observations do not determine what follows, only measuring in the environment helps",
        ));
        return found;
    }
    let whole = reads_whole(validity, case.self_test, case.facts.episode_length);
    if case.remembers && !whole {
        found.push(refusal(
            Rule::Memory,
            format!(
                "the policy's actions depend on the course of the episode, so it must be played over whole episodes, but the models can be believed over {} of {} steps{}",
                validity.horizon,
                case.facts.episode_length,
                case.self_test.map_or(String::new(), |test| {
                    format!(", and whole episodes of cloned behavior are read {:.0} % too low", 100.0 * test.estimator.under_reading)
                })
            ),
            "train a policy without memory, or measure this one in the environment",
        ));
    }
    if case.run.certify != Goal::Mean && !whole {
        found.push(refusal(
            Rule::OnlyMean,
            format!(
                "only the mean cost is known: the models can be believed over {} of {} steps, and what follows is learnt as a mean",
                validity.horizon, case.facts.episode_length
            ),
            "certify the mean, or measure the episodes in the environment",
        ));
    }
    if case.self_test.is_none() {
        found.push(refusal(
            Rule::NoSelfTest,
            format!(
                "the estimator could not be tried on logged behavior: {} whole episodes show too few kinds of it, {LEAST_BEHAVIORS} are needed",
                case.facts.whole_episodes
            ),
            "add episodes (10 for each kind), and leave self_test_steps above 0",
        ));
    }
    found
}

/// What speaks against the policy itself.
fn of_policy(case: &Case<'_>, model: &RolloutEstimate) -> Vec<Refusal> {
    let run = case.run;
    let mut found = Vec::new();
    if let (Some(test), Some(distance)) = (case.self_test, model.distance) {
        if distance.is_nan() || distance > test.reach {
            found.push(refusal(
                Rule::Distance,
                format!(
                    "the policy's actions are {distance:.2} deviations from the nearest logged behavior, more than twice as far as any kind of behavior from the next ({:.2}): the estimator was not tried so far from the data",
                    test.reach
                ),
                "keep the policy closer to the data, or add data of such behavior",
            ));
        }
    }
    if model.clipped.is_nan() || model.clipped > CLIPPED_CAP {
        found.push(refusal(
            Rule::Range,
            format!(
                "{:.0} % of the entries of predicted states left the range of the data, {:.0} % are allowed",
                100.0 * model.clipped,
                100.0 * CLIPPED_CAP
            ),
            "keep the policy closer to the data",
        ));
    }
    let Some(bound) = bound(case) else { return found };
    let bar = run.certify.bar(run);
    let limit = format!("{:.0} % of the limit {}", 100.0 * run.certificate_margin, run.cost_limit);
    let (kept, reason) = match run.certify {
        Goal::Mean => (bound <= bar, format!("upper cost estimate {bound:.2} is above {bar:.2} ({limit})")),
        Goal::Chance => (
            bound >= bar,
            format!(
                "the share of episodes within the limit is at least {:.1} % by the estimate, {:.1} % is asked for",
                100.0 * bound,
                100.0 * bar
            ),
        ),
        Goal::Cvar => (
            bound <= bar,
            format!(
                "the upper estimate {bound:.2} of the mean cost of the worst {:.1} % of the episodes is above {bar:.2} ({limit})",
                case.worst()
            ),
        ),
    };
    if !kept {
        found.push(refusal(Rule::Bound, reason, "train longer or with a lower limit, or raise the limit you ask for"));
    }
    found
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
