//! The policy step of Safe Adaptation in its three branches: reward (19), cost (20), band (12).

use crate::behavior::{row_products, PlainScoreNet};
use crate::plain::Group;
use crate::{Step, ACTIONS, STATES};
use drcorl_algos::diffusion::{diffuse, BehaviorModel, ScoreWeight, POLICY_TIME};
use drcorl_algos::drcorl::policy_step::ScoreStep;
use drcorl_algos::gradient::{manipulate, Branch};
use drcorl_core::policy::Policy;
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::Head;
use tch::{nn, Device, Kind, Tensor};

const LR: f64 = 1e-4;
const BETA: f64 = 0.3;
const KEEP: f64 = 0.99;
const CAP: f64 = 10.0;
const COST_MEMBERS: usize = 6;

struct Ours {
    policy: Policy,
    behavior: BehaviorModel,
    reward: Head,
    cost: Head,
}

/// Observations `[B,S]` and draws.
struct Draws {
    observation: Tensor,
    unit: Tensor,
    noise: Tensor,
}

impl Ours {
    /// Gradient of the mean over lagged members with respect to the action.
    fn guidance(head: &mut Head, state_action: &Tensor) -> Tensor {
        let members = head.members() as f64;
        head.target_input_gradient(state_action, |values| values.ones_like() / members).1.narrow(1, 0, ACTIONS)
    }

    fn step(&mut self, draws: &Draws, branch: Branch) -> f64 {
        let observation = draws.observation.shallow_clone();
        let score = ScoreStep::new(
            &mut self.policy,
            &self.behavior,
            observation,
            &draws.unit,
            &draws.noise,
            ScoreWeight::Stable,
            true,
        );
        let state_action = Tensor::cat(&[&score.action, &draws.observation], 1);
        let reward = (branch != Branch::Cost).then(|| {
            let push = Ours::guidance(&mut self.reward, &state_action) * BETA;
            score.gradient(&mut self.policy, Some(&push))
        });
        let cost = (branch != Branch::Reward).then(|| {
            let push = Ours::guidance(&mut self.cost, &state_action) * -BETA;
            score.gradient(&mut self.policy, Some(&push))
        });
        let (gradient, loss) = match (reward, cost) {
            (Some(reward), Some(cost)) => {
                (manipulate(&reward.gradient, &cost.gradient, CAP).gradient, reward.loss + cost.loss)
            }
            (Some(one), None) | (None, Some(one)) => (one.gradient, one.loss),
            (None, None) => unreachable!("every branch follows an objective"),
        };
        self.policy.apply(&gradient, LR, KEEP);
        loss
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

    fn step(&mut self, draws: &Draws, branch: Branch) -> f64 {
        let action = self.policy.values(&draws.observation).tanh();
        let residual = tch::no_grad(|| {
            let diffused = diffuse(&action, &draws.unit, &draws.noise, POLICY_TIME);
            self.score.forward(&diffused.noisy, &draws.observation, &diffused.time, 0.0) - &draws.noise
        });
        let regular = (residual * &action).sum(Kind::Float) / action.size()[0] as f64;
        let reward =
            (branch != Branch::Cost).then(|| &regular + Plain::push(&self.reward, &action, &draws.observation, BETA));
        let cost =
            (branch != Branch::Reward).then(|| &regular + Plain::push(&self.cost, &action, &draws.observation, -BETA));
        let loss = match (reward, cost) {
            (Some(reward), Some(cost)) => {
                let gradients = [&reward, &cost].map(|loss| self.policy.flat_gradient(loss));
                let combined = tch::no_grad(|| manipulate(&gradients[0], &gradients[1], CAP).gradient);
                self.policy.step_along(&combined);
                reward + cost
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
    let mut ours = Ours {
        policy: Policy::new(STATES, ACTIONS, &[256, 256], true, device, &mut rng),
        behavior: BehaviorModel::new(shape, 0.0, 0.0, device, &mut rng),
        reward: Head::new("reward", 2, &widths, true, device, &mut rng),
        cost: Head::new("cost", COST_MEMBERS, &widths, true, device, &mut rng),
    };
    let store = nn::VarStore::new(device);
    let group =
        |head: &Head, name: &str| Group::copy_of(head.online(), head.target(), name, head.members(), LR, device);
    let frequencies = ours.behavior.frequencies_mut().copy();
    let mut plain = Plain {
        policy: Group::copy_of(ours.policy.arena(), ours.policy.arena(), "policy", 1, LR, device),
        score: PlainScoreNet::copy_of(&store.root(), ours.behavior.arena(), &frequencies, shape),
        reward: group(&ours.reward, "reward"),
        cost: group(&ours.cost, "cost"),
    };
    let draws = Draws {
        observation: rng.normal(&[rows, STATES], device),
        unit: rng.uniform(&[rows], device),
        noise: rng.normal(&[rows, ACTIONS], device),
    };
    let again = Draws {
        observation: draws.observation.shallow_clone(),
        unit: draws.unit.shallow_clone(),
        noise: draws.noise.shallow_clone(),
    };
    Step {
        flop: flop(branch, shape, &widths, rows),
        ours: Box::new(move || tch::no_grad(|| ours.step(&draws, branch))),
        plain: Box::new(move || plain.step(&again, branch)),
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
