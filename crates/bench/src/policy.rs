//! The policy step of Safe Adaptation in its three branches: reward (19), cost (20), band (12).

use crate::behavior::{row_products, PlainScoreNet};
use crate::plain::Group;
use crate::{Step, ACTIONS, STATES};
use drcorl_algos::drcorl::adaptation::Branch;
use drcorl_algos::drcorl::config::DrcorlConfig;
use drcorl_algos::drcorl::diffusion::{diffuse, Draws, ScoreWeight, POLICY_TIME};
use drcorl_algos::drcorl::facts::Facts;
use drcorl_algos::drcorl::gradient::manipulate;
use drcorl_algos::drcorl::options::BetaSchedule;
use drcorl_algos::drcorl::Drcorl;
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::Head;
use tch::{nn, Device, Kind, Tensor};

const LR: f64 = 1e-4;
const BETA: f64 = 0.3;
const KEEP: f64 = 0.99;
const CAP: f64 = 10.0;
const COST_MEMBERS: usize = 6;

/// The method as it trains, with the constants of this file.
fn ours(shape: ScoreNetShape, hidden: &[i64], device: Device, rng: &mut Rng) -> Drcorl {
    let config = DrcorlConfig {
        behavior_hidden: shape.hidden,
        behavior_blocks: shape.blocks,
        behavior_expansion: shape.expansion,
        critic_hidden: hidden.to_vec(),
        cost_members: COST_MEMBERS,
        score_weight: ScoreWeight::Stable,
        beta_final: BETA,
        beta_schedule: BetaSchedule::Constant,
        actor_lr: LR,
        actor_lr_final: LR,
        average_keep: KEEP,
        manipulation_cap: CAP,
        ..DrcorlConfig::default()
    };
    Drcorl::new(config, (STATES, ACTIONS), Facts::default(), device, rng)
}

/// A normalised estimate that takes the branch at the first step.
fn estimate(branch: Branch) -> f64 {
    match branch {
        Branch::Reward => 0.0,
        Branch::Band => 1.0,
        Branch::Cost => 10.0,
    }
}

struct Plain {
    policy: Group,
    score: PlainScoreNet,
    reward: Group,
    cost: Group,
}

impl Plain {
    /// `-beta <G, a>` averaged over rows, with the gradient G of the lagged mean taken by autograd.
    fn push(group: &Group, action: &Tensor, observation: &Tensor, beta: f64) -> Tensor {
        let leaf = action.detach().set_requires_grad(true);
        let values = group.tracked_lagged_values(&Tensor::cat(&[&leaf, observation], 1));
        let guidance =
            Tensor::run_backward(&[values.mean_dim(1i64, false, Kind::Float).sum(Kind::Float)], &[&leaf], false, false);
        (&guidance[0] * action).sum(Kind::Float) * (-beta / action.size()[0] as f64)
    }

    fn step(&mut self, observation: &Tensor, draws: &Draws, branch: Branch) -> f64 {
        let action = self.policy.values(observation).tanh();
        let residual = tch::no_grad(|| {
            let diffused = diffuse(&action, draws, POLICY_TIME);
            self.score.forward(&diffused.noisy, observation, &diffused.time, 0.0) - &draws.noise
        });
        let regular = (residual * &action).sum(Kind::Float) / action.size()[0] as f64;
        let reward = (branch != Branch::Cost).then(|| &regular + Plain::push(&self.reward, &action, observation, BETA));
        let cost = (branch != Branch::Reward).then(|| &regular + Plain::push(&self.cost, &action, observation, -BETA));
        let loss = match (reward, cost) {
            (Some(reward), Some(cost)) => {
                let gradients = [&reward, &cost].map(|loss| self.policy.flat_gradient(loss));
                let combined = tch::no_grad(|| manipulate(&gradients[0], &gradients[1], CAP).gradient);
                self.policy.step_along(&combined);
                (reward + cost) * 0.5
            }
            (Some(one), None) | (None, Some(one)) => {
                self.policy.optimizer.backward_step(&one);
                one
            }
            (None, None) => unreachable!("every branch follows an objective"),
        };
        self.policy.follow(1.0 - KEEP);
        loss.double_value(&[])
    }
}

/// Both versions, from the same numbers.
pub fn step(branch: Branch, shape: ScoreNetShape, hidden: &[i64], rows: i64, device: Device) -> Step {
    let mut rng = Rng::new(3, 0);
    let widths: Vec<i64> = std::iter::once(ACTIONS + STATES).chain(hidden.iter().copied()).chain([1]).collect();
    let mut ours = ours(shape, hidden, device, &mut rng);
    let store = nn::VarStore::new(device);
    let group =
        |head: &Head, name: &str| Group::copy_of(head.online(), head.target(), name, head.members(), LR, device);
    let frequencies = ours.behavior.frequencies_mut().copy();
    let mut plain = Plain {
        policy: Group::copy_of(ours.policy.arena(), ours.policy.arena(), "policy", 1, LR, device),
        score: PlainScoreNet::copy_of(&store.root(), ours.behavior.arena(), &frequencies, shape),
        reward: group(&ours.critics.reward.q, "reward_q"),
        cost: group(&ours.critics.costs[0].critic.q, "cost_q"),
    };
    let observation = rng.normal(&[rows, STATES], device);
    let unit = rng.uniform(&[rows], device);
    let draws = Draws { unit, noise: rng.normal(&[rows, ACTIONS], device), action: None };
    let again = Draws { unit: draws.unit.shallow_clone(), noise: draws.noise.shallow_clone(), action: None };
    let same = observation.shallow_clone();
    Step {
        flop: flop(branch, shape, &widths, rows),
        ours: Box::new(move || tch::no_grad(|| ours.policy_step(0, &[estimate(branch)], &observation, &draws))),
        plain: Box::new(move || plain.step(&same, &again, branch)),
    }
}

fn flop(branch: Branch, shape: ScoreNetShape, widths: &[i64], rows: i64) -> f64 {
    let products = |widths: &[i64]| widths.windows(2).map(|pair| (pair[0] * pair[1]) as f64).sum::<f64>();
    let (members, objectives) = match branch {
        Branch::Reward => (2.0, 1.0),
        Branch::Cost => (COST_MEMBERS as f64, 1.0),
        Branch::Band => (2.0 + COST_MEMBERS as f64, 2.0),
    };
    let policy = [STATES, 256, 256, ACTIONS];
    let backward = 2.0 * products(&policy) - (STATES * 256) as f64;
    2.0 * rows as f64
        * (row_products(shape).0 + products(&policy) + objectives * backward + 2.0 * members * products(widths))
}
