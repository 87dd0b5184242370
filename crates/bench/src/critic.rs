//! The critic step: twin Q and V of the reward by (16)(17),
//! the cost ensemble by temporal differences on the policy's actions (18).

use crate::beside::Numbers;
use crate::plain::Group;
use crate::{column, flop, Step, ACTIONS, STATES};
use drcorl_algos::critics::{
    expectile_weight, CostBackup, CostCritic, CostCriticConfig, CostCriticKind, IqlConfig, IqlCritic, Pessimism,
};
use drcorl_core::policy::Policy;
use drcorl_nn::rng::Rng;
use drcorl_nn::Head;
use serde_json::json;
use tch::{Device, Kind, Tensor};

const GAMMA: f64 = 0.99;
const RATE: f64 = 0.005;
const LR: f64 = 6e-4;
const EXPECTILE: f64 = 0.7;
const ALPHA: f64 = 0.01;

/// A batch as the trainer gathers it: columns of one table.
struct Batch {
    state_action: Tensor,
    observation: Tensor,
    next: Tensor,
    reward: Tensor,
    cost: Tensor,
    terminal: Tensor,
}

impl Batch {
    fn random(rows: i64, device: Device, rng: &mut Rng) -> Batch {
        let table = rng.normal(&[rows, ACTIONS + 2 * STATES + 3], device);
        let after = ACTIONS + 2 * STATES;
        Batch {
            state_action: column(&table, 0, ACTIONS + STATES),
            observation: column(&table, ACTIONS, STATES),
            next: column(&table, ACTIONS + STATES, STATES),
            reward: column(&table, after, 1),
            cost: column(&table, after + 1, 1).gt(1.0).to_kind(Kind::Float),
            terminal: column(&table, after + 2, 1).gt(2.0).to_kind(Kind::Float),
        }
    }
}

struct Ours {
    reward: IqlCritic,
    cost: CostCritic,
    policy: Policy,
}

impl Ours {
    fn new(hidden: &[i64], members: usize, device: Device, rng: &mut Rng) -> Ours {
        let iql = IqlConfig { gamma: GAMMA, expectile: EXPECTILE, target_rate: RATE, q_lr: LR, v_lr: LR };
        let rates = CostCriticConfig {
            kind: CostCriticKind::Td,
            expectile: 0.5,
            gamma: GAMMA,
            target_rate: RATE,
            lr: LR,
            backup: CostBackup::Own,
            backup_k: 0.0,
            pessimism: Pessimism::TargetUcb,
            alpha: ALPHA,
            clamp: Some((0.0, 1.0)),
        };
        Ours {
            reward: IqlCritic::new("reward", STATES, ACTIONS, hidden, iql, device, rng),
            cost: CostCritic::new("cost", STATES, ACTIONS, members, hidden, rates, device, rng),
            policy: Policy::new(STATES, ACTIONS, &[256, 256], false, device, rng),
        }
    }

    fn step(&mut self, batch: &Batch) -> f64 {
        let reward =
            self.reward.step(&batch.state_action, &batch.observation, &batch.next, &batch.reward, &batch.terminal);
        let next = batch.next.contiguous();
        let joined = Tensor::cat(&[&self.policy.act(&next), &next], 1);
        let cost = self.cost.step(&batch.state_action, &batch.cost, &batch.terminal, &joined, None);
        match (reward, cost) {
            (Ok(reward), Ok(cost)) => reward.value_loss + reward.critic_loss + cost,
            (Err(error), _) | (_, Err(error)) => panic!("{error}"),
        }
    }
}

struct Plain {
    q: Group,
    v: Group,
    cost: Group,
    policy: Group,
}

impl Plain {
    fn copy_of(ours: &Ours, device: Device) -> Plain {
        let group =
            |head: &Head, name: &str| Group::copy_of(head.online(), head.target(), name, head.members(), LR, device);
        let actor = ours.policy.arena();
        Plain {
            q: group(&ours.reward.q, "reward_q"),
            v: group(&ours.reward.v, "reward_v"),
            cost: group(&ours.cost.q, "cost_q"),
            policy: Group::copy_of(actor, actor, "policy", 1, LR, device),
        }
    }

    fn step(&mut self, batch: &Batch) -> f64 {
        let target_q = self.q.lagged_values(&batch.state_action).amin(1i64, true);
        let next_v = tch::no_grad(|| self.v.values(&batch.next));
        let advantage = &target_q - self.v.values(&batch.observation);
        let value_loss = (expectile_weight(&advantage, EXPECTILE).detach() * advantage.square()).mean(Kind::Float);
        self.v.optimizer.backward_step(&value_loss);
        let target: Tensor = &batch.reward + (1.0 - &batch.terminal) * next_v * GAMMA;
        let critic_loss = (self.q.values(&batch.state_action) - target).square().mean(Kind::Float);
        self.q.optimizer.backward_step(&critic_loss);
        self.q.follow(RATE);

        let joined = tch::no_grad(|| Tensor::cat(&[&self.policy.values(&batch.next).tanh(), &batch.next], 1));
        let next_cost = self.cost.lagged_values(&joined);
        let bootstrap = &next_cost + next_cost.std_dim(1i64, true, true) * ALPHA;
        let unclamped: Tensor = &batch.cost + (1.0 - &batch.terminal) * bootstrap * GAMMA;
        let target = unclamped.clamp(0.0, 1.0);
        let cost_loss = (self.cost.values(&batch.state_action) - target).square().mean(Kind::Float);
        self.cost.optimizer.backward_step(&cost_loss);
        self.cost.follow(RATE);
        value_loss.double_value(&[]) + critic_loss.double_value(&[]) + cost_loss.double_value(&[])
    }
}

/// Networks and a batch, the same ones every time.
fn start(hidden: &[i64], members: usize, rows: i64, device: Device) -> (Ours, Batch) {
    let mut rng = Rng::new(1, 0);
    let ours = Ours::new(hidden, members, device, &mut rng);
    let batch = Batch::random(rows, device, &mut rng);
    (ours, batch)
}

/// What both versions start from.
pub fn numbers(hidden: &[i64], members: usize, rows: i64) -> Numbers {
    let (ours, batch) = start(hidden, members, rows, Device::Cpu);
    let constants = json!({ "gamma": GAMMA, "target_rate": RATE, "lr": LR, "expectile": EXPECTILE, "alpha": ALPHA });
    let mut numbers = Numbers::new("critics", constants);
    for head in [&ours.reward.q, &ours.reward.v, &ours.cost.q] {
        numbers.trained("", head.online());
        if !std::ptr::eq(head.online(), head.target()) {
            numbers.averaged("lagged.", head.target());
        }
    }
    numbers.read("", ours.policy.arena());
    let Batch { state_action, observation, next, reward, cost, terminal } = &batch;
    numbers.given(&[("state_action", state_action), ("observation", observation), ("next", next)]);
    numbers.given(&[("reward", reward), ("cost", cost), ("terminal", terminal)]);
    numbers
}

/// Both versions, from the same numbers.
pub fn step(hidden: &[i64], members: usize, rows: i64, device: Device) -> Step {
    let (mut ours, batch) = start(hidden, members, rows, device);
    let mut plain = Plain::copy_of(&ours, device);
    let again = batch.views();
    let widths = |input: i64| -> Vec<i64> { std::iter::once(input).chain(hidden.iter().copied()).chain([1]).collect() };
    let (q, v, policy) =
        (flop(rows, &widths(ACTIONS + STATES)), flop(rows, &widths(STATES)), flop(rows, &[STATES, 256, 256, ACTIONS]));
    Step {
        flop: (2 + members) as f64 * (q.0 + q.1) + v.0 + v.1 + policy.0,
        ours: Box::new(move || tch::no_grad(|| ours.step(&batch))),
        plain: Box::new(move || plain.step(&again)),
    }
}

impl Batch {
    /// The same tensors again.
    fn views(&self) -> Batch {
        Batch {
            state_action: self.state_action.shallow_clone(),
            observation: self.observation.shallow_clone(),
            next: self.next.shallow_clone(),
            reward: self.reward.shallow_clone(),
            cost: self.cost.shallow_clone(),
            terminal: self.terminal.shallow_clone(),
        }
    }
}
