//! Things a user should know that do not decide.

use super::certificate::Evidence;
use super::rules::{bound, reads_whole, Case, Thresholds};
use super::stats::mean;
use super::{SelfTest, Validity};
use crate::dataset::Dataset;

/// A second opinion above this many limits is worth a sentence.
const FAR: f64 = 2.0;

/// A sentence each.
pub(super) fn notes(shipped: &Evidence, case: &Case<'_>, data: &Dataset) -> Vec<String> {
    let run = case.run;
    let mut notes = Vec::new();
    if let Some(shortage) = case.shortage.filter(|shortage| shortage.made > 0) {
        notes.push(format!(
            "cost estimate from {} of {} initial states: the policy's actions take long",
            shortage.made, shortage.asked
        ));
    }
    if case.remembers && run.fqe_steps > 0 {
        notes.push("no fitted Q evaluation: the policy's actions depend on the course of the episode".into());
    }
    let lax = Thresholds::lax(run);
    if !lax.is_empty() {
        notes.push(format!("laxer than the defaults, which decide less than they seem to: {}", lax.join(", ")));
    }
    if !case.facts.length_stated {
        notes.push(format!(
            "no episode_length was stated; this speaks of episodes of {} steps, the longest logged",
            case.facts.episode_length
        ));
    }
    let cut = case.facts.episodes - case.facts.whole_episodes;
    if cut > 0 {
        notes.push(format!(
            "{cut} of {} episodes were cut off; they count neither as safe nor as test",
            case.facts.episodes
        ));
    }
    let bar = FAR * run.cost_limit;
    if let Some(fqe) = shipped.fqe.as_ref().filter(|fqe| fqe.cost > bar) {
        notes.push(format!(
            "fitted Q evaluation reads a cost of {:.1}, far above the limit; it over-reads policies near the boundary, and does not decide",
            fqe.cost
        ));
    }
    if let Some(critics) = shipped.critic_ucb.as_ref().filter(|critics| critics.initial.mean > bar) {
        notes.push(format!(
            "the cost critics read {:.1} at initial states, far above the limit; they do not decide",
            critics.initial.mean
        ));
    }
    let safe: Vec<f64> =
        data.episodes.iter().filter(|episode| data.safe(episode, run.cost_limit)).map(|episode| episode.ret).collect();
    let Some(model) = &shipped.model_rollout else { return notes };
    if safe.is_empty() {
        notes.push("no logged episode is within the limit".into());
        return notes;
    }
    let usual = mean(&safe);
    if model.ret < usual && bound(case).is_some_and(|bound| bound <= run.cost_limit) {
        notes.push(format!("safe but of little use? estimated return {:.1} is below the mean {usual:.1} of the logged episodes within the limit", model.ret));
    }
    notes
}

/// A sentence for each policy beside the one that ships whose estimate is of whole episodes where models cannot be
/// believed that far; of the one that ships a rule says so. `self_test` is that of whole episodes.
pub(super) fn unread(
    others: &[(&'static str, &Evidence)],
    validity: Option<&Validity>,
    self_test: Option<&SelfTest>,
    length: usize,
) -> Vec<String> {
    let Some(validity) = validity.filter(|validity| validity.valid) else { return Vec::new() };
    if reads_whole(validity, self_test, length) {
        return Vec::new();
    }
    let remembering = others.iter().filter(|(_, found)| found.remembers && found.model_rollout.is_some());
    remembering
        .map(|(name, _)| {
            format!(
                "policy {name} must be played over whole episodes, but the models can be believed over {} of {length} steps: its estimates show nothing",
                validity.horizon
            )
        })
        .collect()
}
