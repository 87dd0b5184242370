//! Hybrid modes (appendix B.3 of the paper): the policy under training meets the environment at stated steps.
//!
//! The core knows no environment. When a visit is due the trainer stops and says so; whoever drives it plays the live
//! policy and hands in what was seen. A run that goes on from a checkpoint asks for the same visits at the same steps.

use crate::error::{Error, Result};
use drcorl_nn::checkpoint::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much of the environment training may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing: zero environment steps.
    #[default]
    Offline,
    /// The environment measures the policy's cost, and the gate goes by it. A simulator of costs alone will do: returns
    /// are written down and not read.
    HybridEval,
    /// The trajectories of each visit join the data that critics and policy learn from; the gate stays offline.
    HybridData,
}

/// One episode of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PlayedEpisode")]
pub struct Played {
    /// Undiscounted sum of rewards.
    #[serde(rename = "return")]
    pub ret: f64,
    /// Undiscounted sum of costs.
    pub cost: f64,
    /// Environment steps.
    pub length: u64,
}

/// What one visit found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Visit {
    /// Step of the phase it was made before.
    pub step: u64,
    pub episodes: usize,
    /// Mean cost of its episodes.
    pub cost: f64,
    /// Mean return of its episodes.
    #[serde(rename = "return")]
    pub ret: f64,
    /// Of all its episodes together.
    pub environment_steps: u64,
}

impl Visit {
    /// The visit before step `step`. Errs without episodes and for sums that are not finite.
    pub fn new(step: u64, played: &[Played]) -> Result<Visit> {
        if played.is_empty() {
            return Err(Error::Data("visit: no episodes; play at least one".into()));
        }
        if let Some((index, bad)) =
            played.iter().enumerate().find(|(_, episode)| !(episode.ret.is_finite() && episode.cost.is_finite()))
        {
            return Err(Error::Data(format!("visit: episode {index} has return {} and cost {}", bad.ret, bad.cost)));
        }
        let mean = |of: fn(&Played) -> f64| played.iter().map(of).sum::<f64>() / played.len() as f64;
        Ok(Visit {
            step,
            episodes: played.len(),
            cost: mean(|episode| episode.cost),
            ret: mean(|episode| episode.ret),
            environment_steps: played.iter().map(|episode| episode.length).sum(),
        })
    }
}

/// All visits of a run so far.
#[derive(Clone, Debug, Default)]
pub struct Visits {
    made: Vec<Visit>,
}

impl Visits {
    /// True if the visit before step `step` of the phase, one every `interval` steps, has not been made.
    pub fn due(&self, step: u64, interval: u64) -> bool {
        step.is_multiple_of(interval) && self.made.last().is_none_or(|visit| visit.step < step)
    }

    /// Adds a visit.
    pub fn enter(&mut self, visit: Visit) {
        self.made.push(visit);
    }

    /// The last visit.
    pub fn last(&self) -> Option<&Visit> {
        self.made.last()
    }

    /// Visits in order.
    pub fn made(&self) -> &[Visit] {
        &self.made
    }

    /// Environment steps of all visits.
    pub fn environment_steps(&self) -> u64 {
        self.made.iter().map(|visit| visit.environment_steps).sum()
    }

    /// Saves or restores all visits.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.value("made", &mut self.made)?;
        let ordered = self.made.is_sorted_by(|earlier, later| earlier.step < later.step);
        let steps = self.made.iter().try_fold(0u64, |sum, visit| sum.checked_add(visit.environment_steps));
        if ordered && steps.is_some() {
            return Ok(());
        }
        Err(state.refuse("made", "has visits that are out of order, or too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_is_due_once_an_interval() {
        let mut visits = Visits::default();
        assert!(visits.due(0, 10) && !visits.due(5, 10));
        let played = [Played { ret: 4.0, cost: 1.0, length: 7 }, Played { ret: 2.0, cost: 4.0, length: 3 }];
        let visit = Visit::new(0, &played).unwrap();
        visits.enter(visit);
        assert_eq!((visit.ret, visit.cost, visit.environment_steps), (3.0, 2.5, 10));
        assert!(!visits.due(0, 10) && visits.due(10, 10));
        visits.enter(Visit::new(10, &played[..1]).unwrap());
        assert_eq!(visits.environment_steps(), 17);
    }

    #[test]
    fn a_visit_without_numbers_is_refused() {
        assert_eq!(Visit::new(0, &[]).unwrap_err().code(), "Data");
        let bad = [Played { ret: f64::NAN, cost: 0.0, length: 1 }];
        assert!(Visit::new(0, &bad).unwrap_err().to_string().contains("episode 0"));
    }
}
