//! What the actor-critic baselines share: the choices by which a published implementation and its repair differ, the values
//! under these choices, critics in groups, and what the certificate asks of them.

use crate::critics::upper_confidence;
use crate::lagrange::{
    finite_horizon_episode_cost, finite_horizon_threshold, infinite_horizon_episode_cost, infinite_horizon_threshold,
};
use drcorl_core::algorithm::{Context, Preset};
use drcorl_core::offline::certificate::CriticEstimate;
use drcorl_core::offline::CriticEstimates;
use drcorl_core::policy::FrozenPolicy;
use drcorl_core::run::{RunConfig, Scaling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub use crate::critics::{bound, join, mean, Bound, CriticStep, Critics, Reduce};
pub use values::{Transition, Values};

mod values;

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

/// Every row `n` times, one after the other: `[B,..]` to `[B*n,..]`.
pub fn repeat(rows: &Tensor, n: i64) -> Tensor {
    rows.repeat_interleave_self_int(n, 0i64, None)
}

/// Rows in the averages of the certificate.
const REPORT_ROWS: usize = 4096;
/// Standard deviations over members in the upper estimate.
const REPORT_K: f64 = 2.0;

/// The episodic cost of `policy` by the live cost critics.
pub fn critic_estimates(
    critics: &mut Critics,
    values: Values,
    policy: &dyn FrozenPolicy,
    context: &mut Context<'_>,
) -> CriticEstimates {
    let data = context.data;
    let limit = context.run.cost_limit;
    let mut on = |candidates: Option<Tensor>| {
        let rows = match candidates.filter(|rows| rows.numel() > 0) {
            None => context.rng.rows(REPORT_ROWS, data.len(), data.device()),
            Some(rows) => {
                let picks = context.rng.rows(REPORT_ROWS.min(rows.numel()), rows.size()[0], data.device());
                rows.index_select(0, &picks)
            }
        };
        let observation = data.gather(&rows).observation().contiguous();
        let costs = critics.head.evaluate(&join(&policy.act(&observation), &observation));
        let episodic = |k: f64| values.episode_cost(mean(&upper_confidence(&costs, k)), data.episode_length);
        CriticEstimate { mean: episodic(0.0), ucb: episodic(REPORT_K) }
    };
    CriticEstimates {
        dataset: on(None),
        initial: on(Some(data.starts())),
        safe: on(Some(data.rows_where(|episode| episode.cost <= limit))),
    }
}

/// The three presets of a baseline, the recommended one first.
pub fn presets<C>(fixed: C, osrl: C, quick: C) -> Vec<Preset<C>> {
    let preset = |name, summary, config, scaling| {
        let run = RunConfig { scaling, ..RunConfig::default() };
        Preset { name, summary, config, run }
    };
    let (fixed_text, osrl_text, quick_text) = (
        "The published budget, faults of the published implementation repaired.",
        "The published implementation with its faults, for comparison with its tables.",
        "Minutes on one core: fixed with small networks and fewer steps.",
    );
    vec![
        preset("fixed", fixed_text, fixed, Scaling::Standardized),
        preset("osrl", osrl_text, osrl, Scaling::Raw),
        preset("quick", quick_text, quick, Scaling::Standardized),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of section 2.0: limit 10, gamma 0.99.
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
