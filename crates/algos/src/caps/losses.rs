//! The likelihood of logged actions under several heads, each with weights of its own.

use crate::critics::mean;
use std::f64::consts::PI;
use tch::{Kind, Tensor};

/// Range of a head's log deviation.
pub const LOG_STD: (f64, f64) = (-5.0, 2.0);

/// The weights `[B,K]` of the logged actions for K heads, of their reward weights and cost weights `[B,1]`: the first
/// head has the one, the last the other, and head i between them `w_r + 2i/(K-1) w_c`.
pub fn head_weights(reward: &Tensor, cost: &Tensor, heads: usize) -> Tensor {
    let last = heads - 1;
    let columns: Vec<Tensor> = (0..heads)
        .map(|head| match head {
            0 => reward.shallow_clone(),
            head if head == last => cost.shallow_clone(),
            head => reward + cost * mixture(head, heads),
        })
        .collect();
    Tensor::cat(&columns, 1)
}

/// What the cost's share is multiplied by in a head between the first and the last: 2i/(K-1).
pub fn mixture(head: usize, heads: usize) -> f64 {
    2.0 * head as f64 / (heads - 1) as f64
}

/// The loss of [`heads_likelihood`] and its gradients.
pub struct HeadsLikelihood {
    pub loss: f64,
    /// For the outputs before their tanh, `[B,K*A]`.
    pub outputs: Tensor,
    /// For the log deviations, `[K,A]`; nothing comes through where their clamp holds.
    pub log_std: Tensor,
}

/// `-mean over heads and rows of w log N(a; tanh(outputs), exp(log_std))`, a density over all entries of an action:
/// `outputs [B,K*A]`, `log_std [K,A]`, `action [B,A]`, `weights [B,K]`.
pub fn heads_likelihood(outputs: &Tensor, log_std: &Tensor, action: &Tensor, weights: &Tensor) -> HeadsLikelihood {
    let (rows, actions, heads) = (action.size()[0], action.size()[1], weights.size()[1]);
    let means = outputs.view([rows, heads, actions]).tanh();
    let held = log_std.clamp(LOG_STD.0, LOG_STD.1);
    let inside = log_std.ge(LOG_STD.0).logical_and(&log_std.le(LOG_STD.1)).to_kind(Kind::Float);
    let inverse = (-&held).exp();
    let normal = (action.unsqueeze(1) - &means) * &inverse;
    let squares = normal.square();
    let entries = &squares * 0.5 + &held + 0.5 * (2.0 * PI).ln();
    let weights = weights.unsqueeze(2);
    let share = 1.0 / (rows * heads) as f64;
    let density = mean(&(entries * &weights)) * actions as f64;
    let through: Tensor = 1.0 - means.square();
    let slope = normal * inverse * through * &weights * -share;
    let own: Tensor = 1.0 - squares;
    HeadsLikelihood {
        loss: density,
        outputs: slope.view([rows, heads * actions]),
        log_std: (own * &weights * share).sum_dim_intlist(0i64, false, Kind::Float) * inside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;
    use tch::Device;

    /// Against autograd, with log deviations below, inside and above their clamp.
    #[test]
    fn gradients_equal_autograd_through_the_clamp() {
        let mut rng = Rng::new(3, 0);
        let (rows, heads, actions) = (7, 3, 2);
        let outputs = rng.normal(&[rows, heads * actions], Device::Cpu).set_requires_grad(true);
        let log_std = Tensor::from_slice(&[-6.0f32, -0.3, 0.0, 0.4, 2.5, -0.1]).view([heads, actions]);
        let log_std = log_std.set_requires_grad(true);
        let action = rng.normal(&[rows, actions], Device::Cpu).tanh();
        let weights = rng.normal(&[rows, heads], Device::Cpu).abs();
        let mut total = Tensor::from(0f32);
        for head in 0..heads {
            let mean = outputs.narrow(1, head * actions, actions).tanh();
            let std = log_std.select(0, head).clamp(LOG_STD.0, LOG_STD.1).exp();
            let density = ((&action - mean) / &std).square() * -0.5 - std.log() - 0.5 * (2.0 * PI).ln();
            let density = density.sum_dim_intlist(1i64, false, Kind::Float);
            total -= (density * weights.select(1, head)).mean(Kind::Float) / heads as f64;
        }
        total.backward();
        let found = heads_likelihood(&outputs.detach(), &log_std.detach(), &action, &weights);
        let scale = total.double_value(&[]);
        assert!((found.loss - scale).abs() < 1e-5 * scale.abs());
        for (found, expected) in [(found.outputs, outputs.grad()), (found.log_std, log_std.grad())] {
            let size = expected.abs().max().double_value(&[]);
            assert!((found - expected).abs().max().double_value(&[]) < 1e-5 * size);
        }
    }

    /// Two heads are not mixed; of five, the middle ones weigh cost by 1/2, 1 and 3/2.
    #[test]
    fn weights_of_the_heads() {
        let (reward, cost) = (Tensor::from(2f32).view([1, 1]), Tensor::from(10f32).view([1, 1]));
        let of = |heads: usize| Vec::<f32>::try_from(head_weights(&reward, &cost, heads).view([-1])).unwrap();
        assert_eq!(of(2), [2.0, 10.0]);
        assert_eq!(of(3), [2.0, 12.0, 10.0]);
        assert_eq!(of(5), [2.0, 7.0, 12.0, 17.0, 10.0]);
    }
}
