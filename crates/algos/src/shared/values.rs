//! The discounted values a baseline's critics learn: what a transition contributes, what is bootstrapped, what stands for the limit.

use super::{CostDone, CostThreshold, Done};
use crate::critics::check_column;
use drcorl_core::dataset::Batch;
use drcorl_core::error::Result;
use tch::Tensor;

/// How rewards and costs become values.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    pub gamma: f64,
    pub done: Done,
    pub cost_done: CostDone,
    pub reward_scale: f64,
    pub cost_scale: f64,
    pub cost_threshold: CostThreshold,
}

impl Values {
    /// A batch of logged data as the learning rules see it.
    pub fn transition(&self, batch: &Batch) -> Transition {
        let reward_stop = match self.done {
            Done::Terminals => batch.terminal(),
            Done::TerminalsAndTimeouts => batch.end(),
        };
        let cost_stop = match self.cost_done {
            CostDone::Respected => reward_stop.shallow_clone(),
            CostDone::Ignored => reward_stop.zeros_like(),
        };
        Transition {
            state_action: batch.state_action(),
            observation: batch.observation().contiguous(),
            next_observation: batch.next_observation().contiguous(),
            reward: batch.reward() * self.reward_scale,
            cost: batch.cost() * self.cost_scale,
            reward_stop,
            cost_stop,
        }
    }

    /// The value of scaled costs that stands for a limit on the costs of an episode.
    pub fn threshold(&self, cost_limit: f64, episode_length: usize) -> f64 {
        self.cost_threshold.value(cost_limit * self.cost_scale, self.gamma, episode_length)
    }

    /// The cost of an episode, unscaled, of a value of scaled costs.
    pub fn episode_cost(&self, value: f64, episode_length: usize) -> f64 {
        self.cost_threshold.episode_cost(value / self.cost_scale, self.gamma, episode_length)
    }

    /// `r + gamma (1 - stop) V(s')`; all `[B,1]`.
    pub fn reward_target(&self, batch: &Transition, next_value: &Tensor) -> Tensor {
        &batch.reward + (1.0 - &batch.reward_stop) * next_value * self.gamma
    }

    /// `c + gamma (1 - stop) Vc(s')`; all `[B,1]`.
    pub fn cost_target(&self, batch: &Transition, next_value: &Tensor) -> Tensor {
        &batch.cost + (1.0 - &batch.cost_stop) * next_value * self.gamma
    }
}

/// A batch as the learning rules see it. `[B,..]`, scalar columns `[B,1]`.
pub struct Transition {
    /// Action first.
    pub state_action: Tensor,
    pub observation: Tensor,
    pub next_observation: Tensor,
    /// Scaled.
    pub reward: Tensor,
    /// Scaled.
    pub cost: Tensor,
    /// 1 where the value of rewards ends.
    pub reward_stop: Tensor,
    /// 1 where the value of costs ends.
    pub cost_stop: Tensor,
}

impl Transition {
    /// Number of rows B.
    pub fn rows(&self) -> i64 {
        self.state_action.size()[0]
    }

    /// Width of an action A.
    pub fn actions(&self) -> i64 {
        self.state_action.size()[1] - self.observation.size()[1]
    }

    /// Refuses scalar columns of another shape than `[B,1]`.
    pub fn check(&self) -> Result<()> {
        let columns = [
            ("reward", &self.reward),
            ("cost", &self.cost),
            ("reward_stop", &self.reward_stop),
            ("cost_stop", &self.cost_stop),
        ];
        columns.into_iter().try_for_each(|(name, column)| check_column(name, column, self.rows()))
    }
}
