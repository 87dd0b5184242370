//! Critics trained alike, in groups of which one member speaks.

use super::{bound, Bound};
use crate::losses::ensemble;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, widths, Head};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// How the values of several sampled actions become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// The expectation under the policy that sampled them.
    Mean,
    /// The highest.
    Max,
}

/// Critics trained alike: G groups of members, each group spoken for by one of its members.
pub struct Critics {
    pub head: Head,
    groups: i64,
    side: Bound,
}

impl Critics {
    /// `groups` times `members` networks `[A+S, hidden.., 1]` with targets;
    /// `side` says which member speaks for a group.
    pub fn new(
        name: &str,
        inputs: i64,
        (groups, members): (usize, usize),
        hidden: &[i64],
        side: Bound,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let head = Head::new(name, groups * members, &widths(inputs, hidden, 1), true, device, rng);
        Critics { head, groups: groups as i64, side }
    }

    /// The lagged value `[B,1]` of the member that speaks for all.
    pub fn target(&mut self, state_action: &Tensor) -> Tensor {
        bound(&self.head.evaluate_target(state_action), self.side)
    }

    /// BCQ's soft clipping of two groups, lagged: `lambda` of the pessimistic group and `1 - lambda` of the other, for
    /// `n` actions a state, reduced over them: `[B*n,A+S]` to `[B,1]`.
    pub fn soft_target(&mut self, candidates: &Tensor, n: i64, lambda: f64, reduce: Reduce) -> Tensor {
        let values = self.head.evaluate_target(candidates);
        let rows = values.size()[0];
        let groups = values.view([rows * self.groups, -1]);
        let spoken = bound(&groups, self.side).view([rows, self.groups]);
        let (low, high) = (spoken.amin(1i64, false), spoken.amax(1i64, false));
        let mixed = match self.side {
            Bound::Min => low * lambda + high * (1.0 - lambda),
            Bound::Max => high * lambda + low * (1.0 - lambda),
        };
        let mixed = mixed.view([-1, n]);
        match reduce {
            Reduce::Max => mixed.amax(1i64, true),
            Reduce::Mean => mixed.mean_dim(1i64, true, Kind::Float),
        }
    }

    /// One Adam step of every member towards `target [B,1]`; the sum over members of the mean squared error before it.
    pub fn regress(&mut self, state_action: &Tensor, target: &Tensor, lr: f64) -> f64 {
        let rows = state_action.size()[0] as f64;
        let loss = self.head.regress(state_action, target, 2.0 / rows, lr, 0.0) / rows;
        probe::see("critic_target", target);
        probe::see_with("critic_values", || self.head.outputs());
        loss
    }

    /// The live value `[B,1]` of the member that speaks for all, and its gradient for the first `actions` columns,
    /// `[B,A]`.
    pub fn pull(&mut self, state_action: &Tensor, actions: i64) -> (Tensor, Tensor) {
        let side = self.side;
        let (value, gradient) = self.head.input_gradient(state_action, |values| ensemble::bound(values, side));
        (value, gradient.narrow(1, 0, actions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn critics(side: Bound) -> (Critics, Tensor) {
        let mut rng = Rng::new(8, 0);
        let critics = Critics::new("q", 5, (2, 2), &[16, 16], side, Device::Cpu, &mut rng);
        let input = rng.normal(&[6, 5], Device::Cpu);
        (critics, input)
    }

    /// Soft clipping and both reductions by hand on single numbers.
    #[test]
    fn soft_targets_follow_the_formula() {
        for (side, reduce) in [(Bound::Min, Reduce::Max), (Bound::Max, Reduce::Mean)] {
            let (mut critics, input) = critics(side);
            let values = critics.head.evaluate_target(&input);
            let at = |row: i64, member: i64| values.double_value(&[row, member]);
            let mixed: Vec<f64> = (0..6)
                .map(|row| {
                    let pick = |a: f64, b: f64| if side == Bound::Min { a.min(b) } else { a.max(b) };
                    let (one, two) = (pick(at(row, 0), at(row, 1)), pick(at(row, 2), at(row, 3)));
                    let (low, high) = (one.min(two), one.max(two));
                    if side == Bound::Min {
                        0.75 * low + 0.25 * high
                    } else {
                        0.75 * high + 0.25 * low
                    }
                })
                .collect();
            let found = critics.soft_target(&input, 3, 0.75, reduce);
            assert_eq!(found.size(), [2, 1]);
            for (state, three) in mixed.chunks(3).enumerate() {
                let expected = match reduce {
                    Reduce::Max => three.iter().copied().fold(f64::MIN, f64::max),
                    Reduce::Mean => three.iter().sum::<f64>() / 3.0,
                };
                assert!((found.double_value(&[state as i64, 0]) - expected).abs() < 1e-6);
            }
        }
    }

    /// The gradient of the speaking member's value, by finite differences.
    #[test]
    fn the_pull_is_the_gradient_of_the_speaker() {
        for side in [Bound::Min, Bound::Max] {
            let (mut critics, input) = critics(side);
            let (value, gradient) = critics.pull(&input, 2);
            for column in 0..2 {
                let step = input.zeros_like();
                let _ = step.narrow(1, column, 1).fill_(1e-3);
                let moved = bound(&critics.head.evaluate(&(&input + step)), side);
                let slope = (moved - &value) / 1e-3;
                assert!((slope.squeeze_dim(1) - gradient.select(1, column)).abs().max().double_value(&[]) < 2e-3);
            }
        }
    }
}
