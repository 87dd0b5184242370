//! FISOR's own terms: the weighted denoising loss, the weights, the target of the largest violation to come.

use crate::losses::expectile;
use tch::{Kind, Tensor};

/// `mean w sum_i (e_i - z_i)^2` for `predicted, noise [B,A]` and constant `weights [B,1]`, and its gradient for
/// `predicted`.
pub fn weighted_denoising(predicted: &Tensor, noise: &Tensor, weights: &Tensor) -> (f64, Tensor) {
    let (error, rows) = (predicted - noise, predicted.size()[0] as f64);
    let loss = (error.square() * weights).sum(Kind::Double).double_value(&[]) / rows;
    (loss, error * weights * (2.0 / rows))
}

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

/// Temperatures and caps of [`feasibility_weights`].
#[derive(Clone, Copy, Debug)]
pub struct Weighting {
    pub reward_temperature: f64,
    pub reward_cap: f64,
    pub feasibility_temperature: f64,
    pub feasibility_cap: f64,
}

/// What critics and values say of a batch, all `[B,1]`; the last two less the threshold of feasibility.
pub struct Advice {
    pub reward_q: Tensor,
    pub reward_v: Tensor,
    pub violation_q: Tensor,
    pub violation_v: Tensor,
}

/// Weights `[B,1]` of logged actions: at infeasible states, `V_h > 0`, `min(exp(t_h (V_h - Q_h)), cap_h)`; at feasible
/// ones `min(exp(t_r (Q_r - V_r)), cap_r)` of an action that stays feasible, `Q_h <= 0`, and 0 of any other.
pub fn feasibility_weights(advice: &Advice, weighting: Weighting) -> Tensor {
    let Advice { reward_q, reward_v, violation_q, violation_v } = advice;
    let grow = |advantage: Tensor, temperature: f64, cap: f64| (advantage * temperature).exp().clamp_max(cap);
    let safer = grow(violation_v - violation_q, weighting.feasibility_temperature, weighting.feasibility_cap);
    let better = grow(reward_q - reward_v, weighting.reward_temperature, weighting.reward_cap);
    let stays = violation_q.le(0.0).to_kind(Kind::Float);
    safer.where_self(&violation_v.gt(0.0), &(better * stays))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;
    use tch::Device;

    /// Central differences of a loss in a drawn direction.
    fn agrees(at: &Tensor, rng: &mut Rng, loss: impl Fn(&Tensor) -> (f64, Tensor)) {
        let direction = rng.normal(&at.size(), Device::Cpu);
        let slope = (loss(&(at + &direction * 1e-2)).0 - loss(&(at - &direction * 1e-2)).0) / 2e-2;
        let written = (loss(at).1 * direction).sum(Kind::Double).double_value(&[]);
        assert!((slope - written).abs() < 1e-3 * (1.0 + written.abs()), "{slope} against {written}");
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let mut rng = Rng::new(4, 0);
        let [predicted, noise] = [(); 2].map(|()| rng.normal(&[7, 3], Device::Cpu));
        let weights = rng.uniform(&[7, 1], Device::Cpu) * 5.0;
        agrees(&predicted, &mut rng, |x| weighted_denoising(x, &noise, &weights));
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

    /// Every branch and both caps, by hand.
    #[test]
    fn weights_follow_their_rule() {
        let column = |values: &[f32]| Tensor::from_slice(values).unsqueeze(1);
        let advice = Advice {
            violation_v: column(&[0.5, 0.5, -0.2, -0.2, -0.2, 0.0]),
            violation_q: column(&[0.3, -9.0, -0.1, 0.1, 0.0, -0.5]),
            reward_q: column(&[9.0, 9.0, 0.4, 9.0, 9.0, -0.1]),
            reward_v: column(&[0.0, 0.0, 0.1, 0.0, 0.0, 0.1]),
        };
        let weighting = Weighting {
            reward_temperature: 3.0,
            reward_cap: 100.0,
            feasibility_temperature: 5.0,
            feasibility_cap: 150.0,
        };
        let found = Vec::<f32>::try_from(feasibility_weights(&advice, weighting).view([-1])).unwrap();
        let expected = [1f32.exp(), 150.0, 0.9f32.exp(), 0.0, 100.0, (-0.6f32).exp()];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4 * (1.0 + expected), "{found} against {expected}");
        }
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
