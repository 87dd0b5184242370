//! Hybrid modes (appendix B.3 of the paper): the policy under training meets the environment at stated steps.
//!
//! The core knows no environment. When a visit is due the trainer stops and says so; whoever drives it plays the live
//! policy and hands in what was seen. A run that goes on from a checkpoint asks for the same visits at the same steps.

use crate::error::{Error, Result};
use drcorl_nn::checkpoint::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PlayedEpisode")]
pub struct Played {
    /// Undiscounted sum of rewards.
    #[serde(rename = "return")]
    pub ret: f64,
    /// Undiscounted sum of costs.
    pub cost: f64,
    /// The same of every cost that has a limit, by its name, where several have; `cost` is the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub costs: BTreeMap<String, f64>,
    /// Environment steps.
    pub length: u64,
}

/// What one visit found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Visit {
    /// Step of the phase it was made before.
    pub step: u64,
    pub episodes: usize,
    /// Mean cost of its episodes.
    pub cost: f64,
    /// The same of every cost that has a limit, by its name, where several have; `cost` is the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub costs: BTreeMap<String, f64>,
    /// Mean return of its episodes.
    #[serde(rename = "return")]
    pub ret: f64,
    /// Of all its episodes together.
    pub environment_steps: u64,
}

impl Visit {
    /// The visit before step `step`, under limits on the costs called `names`; a single one needs no name. Errs without
    /// episodes, for sums that are not finite, and where a cost that is named is missing.
    pub fn new(step: u64, played: &[Played], names: &[&str]) -> Result<Visit> {
        if played.is_empty() {
            return Err(Error::Data("visit: no episodes; play at least one".into()));
        }
        if let Some((index, bad)) =
            played.iter().enumerate().find(|(_, episode)| !(episode.ret.is_finite() && episode.cost.is_finite()))
        {
            return Err(Error::Data(format!("visit: episode {index} has return {} and cost {}", bad.ret, bad.cost)));
        }
        let count = played.len() as f64;
        let mean = |of: fn(&Played) -> f64| played.iter().map(of).sum::<f64>() / count;
        let costs = names.iter().map(|&name| {
            let sums = played.iter().map(|episode| episode.costs.get(name).copied().filter(|cost| cost.is_finite()));
            let total = sums.sum::<Option<f64>>();
            let total = total.ok_or_else(|| Error::Data(format!("visit: an episode has no finite cost called {name}")));
            Ok((name.to_string(), total? / count))
        });
        Ok(Visit {
            step,
            episodes: played.len(),
            cost: mean(|episode| episode.cost),
            costs: costs.collect::<Result<_>>()?,
            ret: mean(|episode| episode.ret),
            environment_steps: played.iter().map(|episode| episode.length).sum(),
        })
    }

    /// Mean of the cost called `name`: the visit's own without a name, or where it has measured one alone.
    pub fn cost_of(&self, name: Option<&str>) -> f64 {
        name.and_then(|name| self.costs.get(name)).copied().unwrap_or(self.cost)
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
        let played = |ret: f64, cost: f64, length: u64| Played { ret, cost, length, ..Played::default() };
        let played = [played(4.0, 1.0, 7), played(2.0, 4.0, 3)];
        let visit = Visit::new(0, &played, &[]).unwrap();
        visits.enter(visit.clone());
        assert_eq!((visit.ret, visit.cost, visit.environment_steps), (3.0, 2.5, 10));
        assert!(!visits.due(0, 10) && visits.due(10, 10));
        visits.enter(Visit::new(10, &played[..1], &[]).unwrap());
        assert_eq!(visits.environment_steps(), 17);
    }

    #[test]
    fn a_visit_without_numbers_is_refused() {
        assert_eq!(Visit::new(0, &[], &[]).unwrap_err().code(), "Data");
        let bad = [Played { ret: f64::NAN, ..Played::default() }];
        assert!(Visit::new(0, &bad, &[]).unwrap_err().to_string().contains("episode 0"));
    }

    #[test]
    fn every_cost_that_has_a_limit_is_measured() {
        let played = |alarm: f64, energy: f64| Played {
            cost: alarm,
            costs: BTreeMap::from([("alarm".into(), alarm), ("energy".into(), energy)]),
            ..Played::default()
        };
        let visit = Visit::new(0, &[played(1.0, 10.0), played(2.0, 30.0)], &["alarm", "energy"]).unwrap();
        assert_eq!((visit.cost, visit.cost_of(None), visit.cost_of(Some("energy"))), (1.5, 1.5, 20.0));
        for bad in [Played::default(), played(1.0, f64::NAN)] {
            let error = Visit::new(0, &[played(1.0, 1.0), bad], &["alarm", "energy"]).unwrap_err();
            assert!(error.code() == "Data" && error.to_string().contains("no finite cost called"), "{error}");
        }
    }
}
