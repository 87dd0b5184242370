//! The critic that knows whether violations can be avoided.

use super::losses::{reach_target, reversed_expectile};
use super::Feasibility;
use crate::critics::{bound, regress, Bound};
use crate::frame::{widths, Transition};
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, Head};
use tch::{Device, Tensor};

/// How a [`FeasibilityCritic`] learns.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub feasibility: Feasibility,
    pub gamma: f64,
    /// Reversed expectile of V_h: the nearer to 1, the nearer to the safest logged action.
    pub expectile: f64,
    pub critic_lr: f64,
    pub value_lr: f64,
    pub target_rate: f64,
    /// The value above which a state is infeasible.
    pub threshold: f64,
}

/// Q_h and V_h, learnt from logged actions.
pub struct FeasibilityCritic {
    pub rates: Rates,
    /// Twins with targets.
    pub q: Head,
    pub v: Head,
}

impl FeasibilityCritic {
    /// Fresh networks for `(S, A)`.
    pub fn new(rates: Rates, (states, actions): (i64, i64), hidden: &[i64], device: Device, rng: &mut Rng) -> Self {
        let mut head = |name: &str, members: usize, inputs: i64| {
            Head::new(name, members, &widths(inputs, hidden, 1), members > 1, device, rng)
        };
        let (q, v) = (head("feasibility", 2, actions + states), head("feasibility_value", 1, states));
        FeasibilityCritic { rates, q, v }
    }

    /// One update of the value, then of the critic, which looks at it; both losses. `batch.cost` is the violation h, or
    /// the cost where that is learnt.
    pub fn step(&mut self, batch: &Transition) -> (f64, f64) {
        let Rates { expectile, critic_lr, value_lr, target_rate, .. } = self.rates;
        let input = &batch.state_action;
        let target = bound(&self.q.evaluate_target(input), Bound::Max);
        let (value_loss, gradient) = reversed_expectile(self.v.forward(&batch.observation), &target, expectile);
        self.v.descend(&batch.observation, &gradient, value_lr);
        let ahead = self.v.evaluate(&batch.next_observation);
        let target = self.target(batch, &ahead);
        let critic_loss = regress(&mut self.q, input, &target, critic_lr, target_rate);
        probe::see_with("feasibility_values", || self.q.outputs());
        probe::see_with("violation_values", || self.v.outputs());
        (value_loss, critic_loss)
    }

    /// One update of the critic alone along the actions of a policy, which `next [B,A+S]` holds beside `s'`: the
    /// largest violation to come if the policy goes on. Targets follow by `rate`. Returns the loss.
    pub fn follow(&mut self, batch: &Transition, next: &Tensor, rate: f64) -> f64 {
        let ahead = bound(&self.q.evaluate_target(next), Bound::Max);
        let target = self.target(batch, &ahead);
        regress(&mut self.q, &batch.state_action, &target, self.rates.critic_lr, rate)
    }

    /// What Q_h learns of a batch with the value `ahead [B,1]` at `s'`.
    fn target(&self, batch: &Transition, ahead: &Tensor) -> Tensor {
        let Rates { feasibility, gamma, .. } = self.rates;
        match feasibility {
            Feasibility::Reachability => reach_target(&batch.cost, ahead, &batch.cost_stop, gamma),
            Feasibility::DiscountedCost => &batch.cost + (1.0 - &batch.cost_stop) * ahead * gamma,
        }
    }

    /// How far the higher of the lagged Q_h is above the threshold at `state_action [B,A+S]`, `[B,1]`.
    pub fn above(&mut self, state_action: &Tensor) -> Tensor {
        bound(&self.q.evaluate_target(state_action), Bound::Max) - self.rates.threshold
    }

    /// The same, and the slope of the mean of the lagged Q_h for the first `actions` columns, `[B,A]`.
    pub fn guidance(&mut self, state_action: &Tensor, actions: i64) -> (Tensor, Tensor) {
        let threshold = self.rates.threshold;
        let (above, gradient) = self.q.target_input_gradient(state_action, |twins| {
            (bound(twins, Bound::Max) - threshold, twins.ones_like() / twins.size()[1] as f64)
        });
        (above, gradient.narrow(1, 0, actions))
    }

    /// Saves or restores everything that changes with training.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("feasibility", |state| self.q.persist(state))?;
        state.group("feasibility_value", |state| self.v.persist(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// A corridor of six places that ends in a pit, left and right being the actions -1 and 1, and all its transitions.
    fn corridor() -> Transition {
        let place = |at: i64| places().get(at);
        let rows = (0..6i64).flat_map(|at| [(at, -1i64), (at, 1)]).map(|(at, action)| (at, action, lead(at, action)));
        let (mut now, mut next, mut cost) = (Vec::new(), Vec::new(), Vec::new());
        for (at, action, to) in rows {
            now.push(Tensor::cat(&[Tensor::from_slice(&[action as f32]), place(at)], 0));
            next.push(place(to));
            cost.push(if to == 5 { 1.0f32 } else { -1.0 });
        }
        let cost = Tensor::from_slice(&cost).unsqueeze(1);
        Transition {
            state_action: Tensor::stack(&now, 0),
            observation: Tensor::stack(&now, 0).narrow(1, 1, 6).contiguous(),
            next_observation: Tensor::stack(&next, 0),
            reward: cost.zeros_like(),
            reward_stop: cost.zeros_like(),
            cost_stop: cost.zeros_like(),
            cost,
        }
    }

    /// Nobody leaves the pit.
    fn lead(at: i64, action: i64) -> i64 {
        if at == 5 {
            5
        } else {
            (at + action).max(0)
        }
    }

    /// The data can avoid the pit from everywhere outside of it. Whoever always goes right cannot, and whoever always
    /// goes left can: so the critic says once it follows them, and of both in turn.
    #[test]
    fn feasible_is_what_the_policy_keeps_so() {
        let rates = Rates {
            feasibility: Feasibility::Reachability,
            gamma: 0.95,
            expectile: 0.95,
            critic_lr: 3e-3,
            value_lr: 3e-3,
            target_rate: 0.05,
            threshold: 0.0,
        };
        let mut critic = FeasibilityCritic::new(rates, (6, 1), &[32, 32], Device::Cpu, &mut Rng::new(0, 0));
        let all = corridor();
        for _ in 0..1500 {
            critic.step(&all);
        }
        let feasible = |critic: &mut FeasibilityCritic, action: f64| {
            let here = Tensor::cat(&[Tensor::ones([6, 1], (Kind::Float, Device::Cpu)) * action, places()], 1);
            Vec::<bool>::try_from(critic.above(&here).le(0.0).view([-1])).unwrap()
        };
        let outside = [true, true, true, true, true, false];
        assert_eq!(feasible(&mut critic, -1.0), outside, "by the best of the data");
        assert_eq!(feasible(&mut critic, 1.0), [true, true, true, true, false, false], "one step right, then the best");
        for action in [1.0, -1.0] {
            let next = Tensor::cat(&[all.cost.ones_like() * action, all.next_observation.shallow_clone()], 1);
            for _ in 0..1500 {
                critic.follow(&all, &next, 0.05);
            }
            let expected = if action > 0.0 { [false; 6] } else { outside };
            assert_eq!(feasible(&mut critic, action), expected, "a policy of {action}");
        }
    }

    fn places() -> Tensor {
        Tensor::eye(6, (Kind::Float, Device::Cpu))
    }
}
