//! The step of CAPS as its preset `published` makes it, with five heads, batch 512, beside a plain version.

use crate::baselines::{group, task, transition, views};
use crate::plain::Group;
use crate::{flop, Step, ACTIONS, STATES};
use drcorl_algos::caps::losses::head_weights;
use drcorl_algos::caps::{Caps, CapsConfig};
use drcorl_algos::critics::{expectile_weight, IqlCritic};
use drcorl_algos::frame::ActorCritic;
use drcorl_nn::rng::Rng;
use tch::{Device, Kind, Tensor};

const HEADS: usize = 5;
const WIDTH: i64 = 512;
const LR: f64 = 3e-4;
const GAMMA: f64 = 0.99;
const RATE: f64 = 0.005;

/// Q with its lagged copy and V of one signal.
struct Signal {
    q: Group,
    v: Group,
}

impl Signal {
    fn copy_of(critic: &IqlCritic, name: &str, device: Device) -> Self {
        Signal {
            q: group(&critic.q, &format!("{name}_q"), LR, device),
            v: group(&critic.v, &format!("{name}_v"), LR, device),
        }
    }

    /// The step of both; their losses, and the advantage before it.
    fn step(&mut self, [input, observation, next, signal, stop]: [&Tensor; 5]) -> (f64, Tensor) {
        let target_q = self.q.lagged_values(input).amin(1i64, true);
        let next_v = tch::no_grad(|| self.v.values(next));
        let advantage = &target_q - self.v.values(observation);
        let value_loss = (expectile_weight(&advantage, 0.7) * advantage.square()).mean(Kind::Float);
        self.v.optimizer.backward_step(&value_loss);
        let target: Tensor = signal + (-stop + 1.0) * next_v * GAMMA;
        let loss = (self.q.values(input) - target).square().mean(Kind::Float);
        self.q.optimizer.backward_step(&loss);
        (value_loss.double_value(&[]) + loss.double_value(&[]), advantage.detach())
    }
}

/// CAPS with implicit Q-learning.
pub fn step(device: Device) -> Step {
    let mut rng = Rng::new(7, 0);
    let config = CapsConfig { heads: HEADS, ..CapsConfig::published() };
    let mut ours = Caps::new(config, task(device), &mut rng);
    let mut reward = Signal::copy_of(&ours.reward, "reward", device);
    let mut cost = Signal::copy_of(&ours.cost, "cost", device);
    let mut actor = group(&ours.actor, "actor", LR, device);
    let batch = transition(device, &mut rng);
    let again = views(&batch);
    let rows = batch.rows();
    let q = flop(rows, &[STATES + ACTIONS, WIDTH, WIDTH, 1]);
    let v = flop(rows, &[STATES, WIDTH, WIDTH, 1]);
    // Of each signal: V at s' and the lagged twins forward, V and the live twins both ways.
    let signal = v.0 + 2.0 * q.0 + v.1 + 2.0 * q.1;
    Step {
        flop: 2.0 * signal + flop(rows, &[STATES, WIDTH, WIDTH, HEADS as i64 * ACTIONS]).1,
        ours: Box::new(move || {
            let step = tch::no_grad(|| ours.learn(&batch, &())).expect("shapes fit");
            let critics = [&step.reward, &step.cost].map(|critic| critic.value_loss + critic.critic_loss);
            critics.iter().sum::<f64>() + step.actor_loss
        }),
        plain: Box::new(move || {
            let batch = &again;
            let negative = -&batch.cost;
            let parts = |signal, stop| [&batch.state_action, &batch.observation, &batch.next_observation, signal, stop];
            let (reward_loss, reward_advantage) = reward.step(parts(&batch.reward, &batch.reward_stop));
            let (cost_loss, cost_advantage) = cost.step(parts(&negative, &batch.cost_stop));
            let weight = |advantage: &Tensor| (advantage * 3.0).exp().clamp_max(100.0);
            let weights = head_weights(&weight(&reward_advantage), &weight(&cost_advantage), HEADS);
            let means = actor.values(&batch.observation).view([rows, HEADS as i64, ACTIONS]).tanh();
            let action = batch.state_action.narrow(1, 0, ACTIONS).unsqueeze(1);
            let entries = (action - means).square() * 0.5 + 0.5 * (2.0 * std::f64::consts::PI).ln();
            let loss = (entries.sum_dim_intlist(2i64, false, Kind::Float) * weights).mean(Kind::Float);
            actor.optimizer.backward_step(&loss);
            [&mut reward.q, &mut cost.q].into_iter().for_each(|group| group.follow(RATE));
            reward_loss + cost_loss + loss.double_value(&[])
        }),
    }
}
