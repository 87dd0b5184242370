//! FISOR's own terms: the weighted denoising loss and the weights.

use tch::{Kind, Tensor};

/// `mean w sum_i (e_i - z_i)^2` for `predicted, noise [B,A]` and constant `weights [B,1]`, and its gradient for
/// `predicted`.
pub fn weighted_denoising(predicted: &Tensor, noise: &Tensor, weights: &Tensor) -> (f64, Tensor) {
    let (error, rows) = (predicted - noise, predicted.size()[0] as f64);
    let loss = (error.square() * weights).sum(Kind::Double).double_value(&[]) / rows;
    (loss, error * weights * (2.0 / rows))
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
    use crate::feasibility::losses::tests::agrees;
    use drcorl_nn::rng::Rng;
    use tch::Device;

    #[test]
    fn gradient_equals_finite_differences() {
        let mut rng = Rng::new(4, 0);
        let [predicted, noise] = [(); 2].map(|()| rng.normal(&[7, 3], Device::Cpu));
        let weights = rng.uniform(&[7, 1], Device::Cpu) * 5.0;
        agrees(&predicted, &mut rng, |x| weighted_denoising(x, &noise, &weights));
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
}
