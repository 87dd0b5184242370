//! A problem with a known answer, for the tests of both ways to learn heads.

use crate::critics::join;
use crate::frame::{Task, Transition};
use drcorl_nn::rng::Rng;
use tch::{Device, Kind};

pub const TASK: Task = Task {
    observations: 3,
    actions: 2,
    cost_limit: 5.0,
    episode_length: 50,
    threshold: 0.0,
    seed: 0,
    device: Device::Cpu,
};

/// Episodes of one step: the first entry of an action is its reward, and its cost where it is above 0.
pub fn batch(rng: &mut Rng, rows: i64) -> Transition {
    let mut normal = |columns: i64| rng.normal(&[rows, columns], Device::Cpu);
    let (observation, action) = (normal(3), (normal(2) * 2.0).tanh());
    let reward = action.narrow(1, 0, 1).contiguous();
    Transition {
        state_action: join(&action, &observation),
        next_observation: normal(3),
        cost: reward.gt(0.0).to_kind(Kind::Float),
        reward_stop: reward.ones_like(),
        cost_stop: reward.ones_like(),
        reward,
        observation,
    }
}
