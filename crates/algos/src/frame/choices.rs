//! Choices by which a published implementation and its repair differ.

use crate::lagrange::{
    finite_horizon_episode_cost, finite_horizon_threshold, infinite_horizon_episode_cost, infinite_horizon_threshold,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What ends the bootstrap of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Terminal states only; a time limit is bootstrapped through.
    Terminals,
    /// Terminal states and time limits.
    TerminalsAndTimeouts,
}

/// Whether the value of costs ends where the value of rewards does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostDone {
    /// It does.
    Respected,
    /// Costs are bootstrapped past every end.
    Ignored,
}

/// Candidates the two targets of a step look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CandidateDraws {
    /// The same for rewards and costs.
    Shared,
    /// Each its own.
    Separate,
}

/// The value of costs that stands for the limit on an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostThreshold {
    /// `limit / ((1 - gamma) L)`: for values that go on past the time limit.
    InfiniteHorizon,
    /// `limit (1 - gamma^L) / ((1 - gamma) L)`: for values that end there.
    FiniteHorizon,
}

impl CostThreshold {
    /// The threshold for an episodic limit in scaled costs.
    pub fn value(self, limit: f64, gamma: f64, episode_length: usize) -> f64 {
        match self {
            CostThreshold::InfiniteHorizon => infinite_horizon_threshold(limit, gamma, episode_length),
            CostThreshold::FiniteHorizon => finite_horizon_threshold(limit, gamma, episode_length),
        }
    }

    /// The episodic cost of a value, by the same convention.
    pub fn episode_cost(self, value: f64, gamma: f64, episode_length: usize) -> f64 {
        match self {
            CostThreshold::InfiniteHorizon => infinite_horizon_episode_cost(value, gamma, episode_length),
            CostThreshold::FiniteHorizon => finite_horizon_episode_cost(value, gamma, episode_length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limit 10, gamma 0.99.
    #[test]
    fn thresholds_are_those_of_the_table() {
        for (length, expected) in [(100, 6.340), (200, 4.330), (300, 3.170), (500, 1.987), (1000, 1.000)] {
            let found = CostThreshold::FiniteHorizon.value(10.0, 0.99, length);
            assert!((found - expected).abs() < 5e-4, "{length}: {found}");
            assert!((CostThreshold::InfiniteHorizon.value(10.0, 0.99, length) - 1000.0 / length as f64).abs() < 1e-9);
            for convention in [CostThreshold::FiniteHorizon, CostThreshold::InfiniteHorizon] {
                let value = convention.value(10.0, 0.99, length);
                assert!((convention.episode_cost(value, 0.99, length) - 10.0).abs() < 1e-9);
            }
        }
    }
}
