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
        let Rates { feasibility, gamma, expectile, critic_lr, value_lr, target_rate, .. } = self.rates;
        let input = &batch.state_action;
        let target = bound(&self.q.evaluate_target(input), Bound::Max);
        let (value_loss, gradient) = reversed_expectile(self.v.forward(&batch.observation), &target, expectile);
        self.v.descend(&batch.observation, &gradient, value_lr);
        let ahead = self.v.evaluate(&batch.next_observation);
        let target = match feasibility {
            Feasibility::Reachability => reach_target(&batch.cost, &ahead, &batch.cost_stop, gamma),
            Feasibility::DiscountedCost => &batch.cost + (1.0 - &batch.cost_stop) * ahead * gamma,
        };
        let critic_loss = regress(&mut self.q, input, &target, critic_lr, target_rate);
        probe::see_with("feasibility_values", || self.q.outputs());
        probe::see_with("violation_values", || self.v.outputs());
        (value_loss, critic_loss)
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
