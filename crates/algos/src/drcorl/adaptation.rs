//! Safe Adaptation (Algorithm 2): which objective a policy step follows, and the gradient of each.

use super::critics::Guidance;
use super::gradient::{manipulate, manipulate_all};
use super::options::{Adaptation, CostStep, SlackSchedule};
use super::score_step::{ScoreStep, StepGradient};
use super::Drcorl;
use drcorl_nn::probe;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Which objective a policy step follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// The estimate is well below the limit: reward only (19).
    Reward,
    /// The estimate is near the limit: both objectives, combined by (12).
    Band,
    /// The estimate is above the limit: cost only (20).
    Cost,
}

/// The branch for a normalised cost estimate `Chat / l`. Boundaries belong to the lower branch.
pub fn branch(normalised_cost: f64, slack_below: f64, slack_above: f64) -> Branch {
    if normalised_cost <= 1.0 - slack_below {
        Branch::Reward
    } else if normalised_cost <= 1.0 + slack_above {
        Branch::Band
    } else {
        Branch::Cost
    }
}

/// The switch without a band (CRPO): reward up to `1 + slack_above`, cost beyond.
pub fn branch_without_band(normalised_cost: f64, slack_above: f64) -> Branch {
    if normalised_cost <= 1.0 + slack_above {
        Branch::Reward
    } else {
        Branch::Cost
    }
}

/// Slack at `step` of `steps`: linear from `initial` to exactly 0 at the last step.
pub fn slack(initial: f64, step: u64, steps: u64) -> f64 {
    if step + 1 >= steps {
        return 0.0;
    }
    initial * (1.0 - step as f64 / (steps - 1) as f64)
}

/// What a policy step follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    pub branch: Branch,
    /// The costs that have this branch, the worst first.
    pub costs: Vec<usize>,
    /// The worst of them, where it is over its limit.
    pub over: Option<usize>,
}

/// How often each branch of Safe Adaptation ran: steps, or states where each is switched by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct BranchCounts {
    /// Steps on reward alone, (19).
    reward: u64,
    /// Steps on both, combined by gradient manipulation.
    band: u64,
    /// Steps on cost, (20).
    cost: u64,
    /// Steps in the band where a weight of the combination met its cap.
    capped: u64,
    /// Steps in the band where both gradients cancelled, and one of them was followed.
    stalled: u64,
}

impl BranchCounts {
    /// Counts a step.
    pub fn count(&mut self, branch: Branch) {
        *match branch {
            Branch::Reward => &mut self.reward,
            Branch::Band => &mut self.band,
            Branch::Cost => &mut self.cost,
        } += 1;
    }

    /// Counts the states of a batch by their weights `[B,1]` of the reward.
    pub fn count_states(&mut self, room: &Tensor) {
        let among = |mask: Tensor| mask.sum(Kind::Int64).int64_value(&[]) as u64;
        let (reward, cost) = (among(room.ge(1.0)), among(room.le(0.0)));
        self.reward += reward;
        self.cost += cost;
        self.band += room.numel() as u64 - reward - cost;
    }
}

impl Drcorl {
    /// The branch of step `step` for `Chat / l`.
    pub(super) fn branch(&self, step: u64, normalised_cost: f64) -> Branch {
        if step < self.config.prologue_steps {
            return Branch::Reward;
        }
        let (below, above) = self.slacks(step);
        match self.config.adaptation {
            Adaptation::Crpo => branch_without_band(normalised_cost, above),
            Adaptation::Band | Adaptation::State | Adaptation::Auto => branch(normalised_cost, below, above),
        }
    }

    /// What step `step` follows for `Chat / l` of every cost. Each cost has a branch of its own, and the worst one
    /// wins: a cost step for all costs above their slack,
    /// else a step of the band for the reward and all costs in theirs.
    pub(super) fn followed(&self, step: u64, normalised: &[f64]) -> Followed {
        let branches: Vec<Branch> = normalised.iter().map(|&cost| self.branch(step, cost)).collect();
        let order = [Branch::Cost, Branch::Band];
        let branch = order.into_iter().find(|worse| branches.contains(worse)).unwrap_or(Branch::Reward);
        let mut costs: Vec<usize> = (0..branches.len()).filter(|&k| branches[k] == branch).collect();
        // The worst is the one to follow where their gradients cancel.
        costs.sort_by(|&a, &b| normalised[b].total_cmp(&normalised[a]));
        let over = costs.first().copied().filter(|&k| normalised[k] > 1.0);
        Followed { branch, costs, over }
    }

    /// Lower and upper slack at step `step`.
    fn slacks(&self, step: u64) -> (f64, f64) {
        let at = |initial: f64| match self.config.slack_schedule {
            SlackSchedule::Linear => slack(initial, step, self.config.adaptation_steps),
            SlackSchedule::Constant => initial,
        };
        (at(self.config.slack_below), at(self.config.slack_above))
    }

    /// The reward step (19): `G = grad_a Q_r`.
    pub fn reward_gradient(&mut self, score: &ScoreStep, beta: f64) -> StepGradient {
        let push = self.reward_guidance(score).push * beta;
        score.gradient(&mut self.policy, Some(&push))
    }

    /// The cost step (20) for cost `k`, `G = -grad_a Q_c`, or the Lagrangian step that takes its place,
    /// `G = grad_a (Q_r - lambda Q_c)`.
    pub fn cost_gradient(&mut self, score: &ScoreStep, beta: f64, k: usize) -> StepGradient {
        let Guidance { values, push: cost } = self.cost_guidance(score, k);
        let push = match self.config.cost_step {
            CostStep::Cost => cost * -beta,
            kind => {
                let multiplier = match kind {
                    CostStep::LagrangianPid => self.pid.update(values.mean(Kind::Double).double_value(&[])),
                    _ => self.config.multiplier,
                };
                (self.reward_guidance(score).push - cost * multiplier) * beta
            }
        };
        score.gradient(&mut self.policy, Some(&push))
    }

    /// The cost steps for `costs`, combined so that none of them is raised; where they cancel, the first alone.
    pub fn costs_gradient(&mut self, score: &ScoreStep, beta: f64, costs: &[usize]) -> StepGradient {
        let mut steps: Vec<StepGradient> = costs.iter().map(|&k| self.cost_gradient(score, beta, k)).collect();
        if steps.len() == 1 {
            return steps.swap_remove(0);
        }
        let loss = steps.iter().map(|step| step.loss).sum::<f64>() / steps.len() as f64;
        let all: Vec<&Tensor> = steps.iter().map(|step| &step.gradient).collect();
        let combined = manipulate_all(&all, self.config.manipulation_cap);
        let gradient = if combined.stalled { steps.swap_remove(0).gradient } else { combined.gradient };
        StepGradient { gradient, loss }
    }

    /// The reward step and the cost steps for `costs` on the same actions, times and noise, combined; `over` is the one
    /// furthest over its limit, if any is.
    pub fn band_gradient(
        &mut self,
        score: &ScoreStep,
        beta: f64,
        costs: &[usize],
        over: Option<usize>,
    ) -> StepGradient {
        let reward = self.reward_gradient(score, beta);
        let mut steps: Vec<StepGradient> = costs.iter().map(|&k| self.cost_gradient(score, beta, k)).collect();
        let loss = steps.iter().fold(reward.loss, |sum, step| sum + step.loss) / (1 + steps.len()) as f64;
        if steps.len() == 1 {
            let cost = steps.swap_remove(0).gradient;
            return StepGradient { gradient: self.combine(reward.gradient, cost, over.is_some()), loss };
        }
        let all: Vec<&Tensor> = [&reward.gradient].into_iter().chain(steps.iter().map(|step| &step.gradient)).collect();
        let combined = manipulate_all(&all, self.config.manipulation_cap);
        self.branches.capped += u64::from(combined.capped);
        self.branches.stalled += u64::from(combined.stalled);
        let worst = over.and_then(|over| costs.iter().position(|&k| k == over));
        let (weight, gradient) = match (combined.stalled, worst) {
            (false, _) => (combined.weights[0], combined.gradient),
            (true, Some(worst)) => (0.0, steps.swap_remove(worst).gradient),
            (true, None) => (1.0, reward.gradient),
        };
        self.mixture.weight = weight;
        StepGradient { gradient, loss }
    }

    /// (12) of two gradients or two moves; where they cancel, that of the cost if `over` the limit, else of the reward.
    fn combine(&mut self, reward: Tensor, cost: Tensor, over: bool) -> Tensor {
        let combined = manipulate(&reward, &cost, self.config.manipulation_cap);
        self.branches.capped += u64::from(combined.capped);
        self.branches.stalled += u64::from(combined.stalled);
        let (weight, followed) = match (combined.stalled, over) {
            (false, _) => (combined.weights[0], combined.gradient),
            (true, true) => (0.0, cost),
            (true, false) => (1.0, reward),
        };
        self.mixture.weight = weight;
        followed
    }

    /// The band in the space of updates: two tentative optimiser steps from the same weights, of rates `lr`, whose
    /// moves are combined and made. `reward` and `cost` may be the same step or share their observations only.
    /// Returns both losses.
    pub fn band_update(&mut self, [reward, cost]: [&ScoreStep; 2], beta: f64, over: bool, lr: [f64; 2]) -> [f64; 2] {
        let follow = self.reward_gradient(reward, beta);
        let by_reward = self.policy.tentative(&follow.gradient, lr[0]);
        let avoid = self.cost_gradient(cost, beta, 0);
        let by_cost = self.policy.tentative(&avoid.gradient, lr[1]);
        probe::see("reward_gradient", &follow.gradient);
        probe::see("cost_gradient", &avoid.gradient);
        probe::see("reward_update", &by_reward);
        probe::see("cost_update", &by_cost);
        let made = self.combine(by_reward, by_cost, over);
        probe::see("update", &made);
        self.policy.shift(&made, self.config.average_keep);
        [follow.loss, avoid.loss]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The grid of branches with its boundaries, the band-free variant, and the slack schedule.
    #[test]
    fn branches_and_slack() {
        let grid = [
            (0.0, Branch::Reward),
            (0.8, Branch::Reward),
            (0.81, Branch::Band),
            (1.0, Branch::Band),
            (1.2, Branch::Band),
            (1.21, Branch::Cost),
        ];
        for (cost, expected) in grid {
            assert_eq!(branch(cost, 0.2, 0.2), expected, "{cost}");
        }
        assert_eq!(branch(1.0, 0.0, 0.0), Branch::Reward);
        assert_eq!(branch(1.0 + 1e-9, 0.0, 0.0), Branch::Cost);
        assert_eq!(branch_without_band(1.1, 0.1), Branch::Reward);
        assert_eq!(branch_without_band(1.1001, 0.1), Branch::Cost);
        assert_eq!(slack(0.2, 0, 11), 0.2);
        assert!((slack(0.2, 5, 11) - 0.1).abs() < 1e-12);
        assert_eq!(slack(0.2, 10, 11), 0.0);
        assert_eq!(slack(0.2, 0, 1), 0.0);
    }
}
