//! What is certified: the mean cost, the share of episodes within the limit, or the mean cost of the worst of them.

use super::stats::{mean, tail_mean};
use crate::run::RunConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a certificate is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The mean cost of an episode is within the limit.
    Mean,
    /// At least the share `certify_level` of the episodes is within the limit.
    Chance,
    /// The mean cost of the worst share 1 - `certify_level` of the episodes is within the limit (CVaR).
    Cvar,
}

impl Goal {
    /// Its value for episodes of these costs: a cost, or for [`Goal::Chance`] a share.
    pub fn of(self, costs: &[f64], run: &RunConfig) -> f64 {
        match self {
            Goal::Mean => mean(costs),
            Goal::Chance => {
                costs.iter().filter(|&&cost| cost <= run.cost_limit).count() as f64 / costs.len().max(1) as f64
            }
            Goal::Cvar => tail_mean(costs, run.certify_level),
        }
    }

    /// True where more is worse.
    pub fn is_cost(self) -> bool {
        self != Goal::Chance
    }

    /// What the bound must keep to: at most this cost, or at least this share.
    pub fn bar(self, run: &RunConfig) -> f64 {
        match self {
            Goal::Chance => run.certify_level,
            _ => run.certificate_margin * run.cost_limit,
        }
    }

    /// The unit that errors of an estimate are told in: the larger of the estimate and half the limit, or a share.
    pub fn scale(self, estimate: f64, run: &RunConfig) -> f64 {
        match self {
            Goal::Chance => 1.0,
            _ => estimate.max(0.5 * run.cost_limit).max(f64::MIN_POSITIVE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_goals_of_the_same_episodes() {
        let run = RunConfig { cost_limit: 10.0, certify_level: 0.75, ..RunConfig::default() };
        let costs = [0.0, 4.0, 10.0, 26.0];
        let of = |goal: Goal| (goal.of(&costs, &run), goal.bar(&run));
        assert_eq!(of(Goal::Mean), (10.0, 8.0));
        assert_eq!(of(Goal::Chance), (0.75, 0.75));
        assert_eq!(of(Goal::Cvar), (26.0, 8.0));
        assert_eq!((Goal::Mean.scale(2.0, &run), Goal::Cvar.scale(20.0, &run)), (5.0, 20.0));
    }
}
