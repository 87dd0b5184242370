//! The terms of feasibility: the classifier's loss, the value's, the target of the largest violation to come.

use crate::losses::expectile;
use tch::{Kind, Tensor};

/// `mean |tau - 1(u > 0)| u^2` with `u = target - values`, both `[B,1]`, and its gradient for `values`: for tau near 1
/// the values approach the lowest target where [`expectile`] approaches the highest.
pub fn reversed_expectile(values: &Tensor, target: &Tensor, tau: f64) -> (f64, Tensor) {
    expectile(values, target, 1.0 - tau)
}

/// Mean cross entropy of a `logit [B,1]` and a `label [B,1]` of 0 or 1, and its gradient for the logit.
pub fn cross_entropy(logit: &Tensor, label: &Tensor) -> (f64, Tensor) {
    let rows = logit.size()[0] as f64;
    let loss = (logit.softplus() - logit * label).sum(Kind::Double).double_value(&[]) / rows;
    (loss, (logit.sigmoid() - label) / rows)
}

/// `(1 - d) [(1 - gamma) h + gamma max(h, V(s'))] + d h`: the largest violation still to come, discounted; all `[B,1]`.
pub fn reach_target(violation: &Tensor, next_value: &Tensor, stop: &Tensor, gamma: f64) -> Tensor {
    let ahead = violation * (1.0 - gamma) + violation.maximum(next_value) * gamma;
    (1.0 - stop) * ahead + stop * violation
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;
    use tch::Device;

    /// Central differences of a loss in a drawn direction.
    pub(crate) fn agrees(at: &Tensor, rng: &mut Rng, loss: impl Fn(&Tensor) -> (f64, Tensor)) {
        let direction = rng.normal(&at.size(), Device::Cpu);
        let slope = (loss(&(at + &direction * 1e-2)).0 - loss(&(at - &direction * 1e-2)).0) / 2e-2;
        let written = (loss(at).1 * direction).sum(Kind::Double).double_value(&[]);
        assert!((slope - written).abs() < 1e-3 * (1.0 + written.abs()), "{slope} against {written}");
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let mut rng = Rng::new(4, 0);
        let [values, target] = [(); 2].map(|()| rng.normal(&[40, 1], Device::Cpu));
        agrees(&values, &mut rng, |x| reversed_expectile(x, &target, 0.8));
        let label = target.gt(0.0).to_kind(Kind::Float);
        agrees(&values, &mut rng, |x| cross_entropy(x, &label));
    }

    /// Where the expected gradient over a discrete law vanishes; for tau to 1 at the lowest of it.
    #[test]
    fn the_reversed_expectile_tends_to_the_minimum() {
        let law = Tensor::from_slice(&[3.0f32, -1.0, 0.5, 2.0]).view([4, 1]);
        let solution = |tau: f64| {
            let (mut low, mut high) = (-2.0f64, 4.0f64);
            for _ in 0..60 {
                let middle = (low + high) / 2.0;
                let gradient = reversed_expectile(&(law.zeros_like() + middle), &law, tau).1;
                let slope = gradient.sum(Kind::Double).double_value(&[]);
                if slope > 0.0 {
                    high = middle;
                } else {
                    low = middle;
                }
            }
            low
        };
        assert!((solution(0.5) - 1.125).abs() < 1e-4, "the mean");
        assert!(solution(0.9) < solution(0.7));
        assert!((solution(0.999) + 1.0).abs() < 0.02);
    }

    /// A corridor of six states that ends in a pit at the right; from state 4 a step to the left fails. The sign of the
    /// fixed point is the largest feasible set, whatever the discount; for gamma to 1 it is the violation itself.
    #[test]
    fn the_sign_of_the_fixed_point_is_the_largest_feasible_set() {
        let violation = [-1.0f32, -1.0, -1.0, -1.0, -1.0, 1.0];
        let moves = |state: usize| match state {
            4 | 5 => [5, 5],
            other => [other.saturating_sub(1), other + 1],
        };
        let solve = |gamma: f64| {
            let mut value = [0f32; 6];
            for _ in 0..20_000 {
                let best =
                    |state: usize| moves(state).map(|next| value[next]).into_iter().fold(f32::INFINITY, f32::min);
                let next: Vec<f32> = (0..6).map(best).collect();
                let column = |values: &[f32]| Tensor::from_slice(values).unsqueeze(1);
                let (h, next) = (column(&violation), column(&next));
                let target = reach_target(&h, &next, &h.zeros_like(), gamma);
                let target = Vec::<f32>::try_from(target.view([-1])).unwrap();
                let moved = (0..6).any(|state| target[state] != value[state]);
                value.copy_from_slice(&target);
                if !moved {
                    break;
                }
            }
            value
        };
        for gamma in [0.6, 0.99] {
            assert_eq!(solve(gamma).map(|value| value > 0.0), [false, false, false, false, true, true], "{gamma}");
        }
        assert!((solve(0.9999)[4] - 1.0).abs() < 1e-3);
        let ended = Tensor::ones([1, 1], (Kind::Float, Device::Cpu));
        assert_eq!(reach_target(&(&ended * -1.0), &(&ended * 9.0), &ended, 0.9).double_value(&[0, 0]), -1.0);
    }
}
