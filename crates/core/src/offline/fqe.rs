//! Fitted Q evaluation of one frozen policy: reward and cost jointly, several members, infinite-horizon convention.

use crate::dataset::{discounted_returns, Dataset};
use crate::policy::FrozenPolicy;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::Head;
use tch::{Kind, Tensor};

const MEMBERS: usize = 4;
const HIDDEN: [i64; 2] = [128, 128];
const GAMMA: f64 = 0.99;
const LR: f64 = 5e-4;
const TARGET_RATE: f64 = 0.05;
const BATCH: usize = 256;
/// Share of the steps spent on Monte-Carlo returns before bootstrapping: plain TD from scratch needs far more steps.
const WARM_SHARE: f64 = 0.3;

/// Episodic estimates from the critic at initial states.
#[derive(Clone, Debug, PartialEq)]
pub struct FqeEstimate {
    /// Mean over members.
    pub cost: f64,
    /// Mean plus two sample standard deviations over members.
    pub cost_ucb: f64,
    /// Mean over members.
    pub ret: f64,
}

/// The critic under training; outputs a member: [(1-gamma) Q_r / scale, (1-gamma) Q_c of each cost].
pub struct Fqe {
    head: Head,
    returns: Tensor,
    reward_scale: f64,
    /// Number of costs K.
    costs: usize,
}

impl Fqe {
    /// A fresh critic for `data` and so many of its costs.
    pub fn new(data: &Dataset, costs: usize, rng: &mut Rng) -> Self {
        let outputs = 1 + costs as i64;
        let inputs = data.actions() + data.observations();
        let widths: Vec<i64> = std::iter::once(inputs).chain(HIDDEN).chain([outputs]).collect();
        let head = Head::new("fqe", MEMBERS, &widths, true, data.device(), rng);
        let rewards = &data.columns.rewards;
        let reward_scale = rewards.iter().map(|r| f64::from(r.abs())).sum::<f64>() / rewards.len().max(1) as f64 + 1e-6;
        let scaled: Vec<f32> = rewards.iter().map(|&r| (f64::from(r) / reward_scale) as f32).collect();
        let column = |values: Vec<f32>| Tensor::from_slice(&values).unsqueeze(1);
        let signals = std::iter::once(scaled.as_slice()).chain((0..costs).map(|k| data.costs_of(k)));
        let returns: Vec<Tensor> =
            signals.map(|signal| column(discounted_returns(signal, &data.episodes, GAMMA))).collect();
        Fqe { head, returns: Tensor::cat(&returns, 1).to_device(data.device()), reward_scale, costs }
    }

    /// Step `step` of `steps`. Returns the loss.
    pub fn step(&mut self, step: u64, steps: u64, policy: &dyn FrozenPolicy, data: &Dataset, rng: &mut Rng) -> f64 {
        let batch = data.sample(BATCH, rng);
        let rows = batch.len();
        let warm = (step as f64) < WARM_SHARE * steps as f64;
        let target = if warm {
            self.returns.index_select(0, &batch.rows).repeat([1, MEMBERS as i64])
        } else {
            let next = batch.next_observation();
            let outputs = 1 + self.costs as i64;
            let next = self.head.evaluate_target(&Tensor::cat(&[policy.act(&next), next], 1));
            let next = next.view([rows, -1, outputs]);
            let reward = batch.reward() / self.reward_scale;
            let signals: Vec<Tensor> =
                std::iter::once(reward).chain((0..self.costs).map(|k| batch.cost_of(k))).collect();
            let signal = Tensor::cat(&signals, 1).unsqueeze(1) * (1.0 - GAMMA);
            let alive: Tensor = 1.0 - batch.terminal();
            (signal + next * alive.unsqueeze(1) * GAMMA).view([rows, -1])
        };
        let input = batch.state_action();
        let error = self.head.forward(&input) - target;
        let loss = error.square().mean(Kind::Double).double_value(&[]);
        let scale = 2.0 / rows as f64;
        self.head.descend(&input, &(error * scale), LR);
        self.head.follow(if warm { 1.0 } else { TARGET_RATE });
        loss
    }

    /// Mean over initial states, in units of an episode; one estimate a cost.
    pub fn estimate(&mut self, policy: &dyn FrozenPolicy, data: &Dataset) -> Vec<FqeEstimate> {
        let observation = data.gather(&data.starts()).observation();
        let values = self.head.evaluate_target(&Tensor::cat(&[policy.act(&observation), observation], 1));
        let values = values.view([-1, MEMBERS as i64, 1 + self.costs as i64]);
        let members = values.mean_dim(0i64, false, Kind::Double) * data.episode_length as f64;
        let ret = members.select(1, 0).mean(Kind::Double).double_value(&[]) * self.reward_scale;
        let estimate = |k| {
            let costs = members.select(1, 1 + k as i64);
            let cost = costs.mean(Kind::Double).double_value(&[]);
            FqeEstimate { cost, cost_ucb: cost + 2.0 * costs.std(true).double_value(&[]), ret }
        };
        (0..self.costs).map(estimate).collect()
    }

    /// Saves or restores the critic.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("head", |state| self.head.persist(state))
    }
}
