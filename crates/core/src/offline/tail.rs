//! What follows a stretch that the models can be believed over: a finite-horizon value, learnt on stretches.
//!
//! `W_0 = 0`, `W_j(s) = E[C_H(s) + W_{j-1}(s_H)]`: undiscounted, as many bootstraps as an episode has stretches, a
//! handful instead of a thousand. Each `W_j` is a ridge regression on the same features of logged states (the state,
//! and random ReLU features of it), so that one factorisation serves all. Fitted value iteration with a fixed basis:
//! Gordon 1995; random features: Rahimi and Recht 2007.

use super::play::LEAST_WEIGHT;
use drcorl_nn::rng::Rng;
use tch::{Device, Kind, Tensor};

/// Random features beside the state itself.
const FEATURES: i64 = 192;
/// Ridge, a row.
const RIDGE: f64 = 1e-3;

/// Features of states: 1, the standardised state, and random ReLU features of it.
pub(super) struct Basis {
    mean: Tensor,
    scale: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl Basis {
    /// For states like `states [M,S']`. The draw is the same in every call: it is part of the definition of the basis.
    pub fn of(states: &Tensor) -> Self {
        let width = states.size()[1];
        let mut rng = Rng::new(0, 7);
        let device = states.device();
        let states = states.to_kind(Kind::Double);
        Basis {
            mean: states.mean_dim(0i64, true, Kind::Double),
            scale: states.std_dim(0i64, false, true).clamp_min(1e-6),
            weight: rng.normal(&[width, FEATURES], device).to_kind(Kind::Double) * (2.0 / width as f64).sqrt(),
            bias: rng.normal(&[1, FEATURES], device).to_kind(Kind::Double),
        }
    }

    /// `[M,F]` of `[M,S']`, in double precision.
    pub fn features(&self, states: &Tensor) -> Tensor {
        let state = (states.to_kind(Kind::Double) - &self.mean) / &self.scale;
        let ones = Tensor::ones([state.size()[0], 1], (Kind::Double, state.device()));
        let hidden = (state.matmul(&self.weight) + &self.bias).relu();
        Tensor::cat(&[&ones, &state, &hidden], 1)
    }
}

/// Stretches from logged states: features where they begin and end `[M,F]`, and the probability `[M,1]` that the end is
/// reached.
pub(super) struct Stretches {
    pub begin: Tensor,
    pub end: Tensor,
    pub alive: Tensor,
}

impl Stretches {
    /// Weights `[F,1]` of the value of `count` stretches whose sums are `sums [M,1]`; `range` bounds the value of one.
    pub fn value(&self, sums: &Tensor, count: usize, range: (f64, f64)) -> Tensor {
        let rows = self.begin.size()[0] as f64;
        let width = self.begin.size()[1];
        let ridge = Tensor::eye(width, (Kind::Double, Device::Cpu)).to_device(self.begin.device()) * (RIDGE * rows);
        // The constant is not shrunk: the mean of the values stays the mean of their targets.
        let _ = ridge.get(0).get(0).fill_(1e-9);
        let gram = self.begin.tr().matmul(&self.begin) + ridge;
        let factor = gram.linalg_cholesky(false);
        let sums = sums.to_kind(Kind::Double);
        let mut weights = Tensor::zeros([width, 1], (Kind::Double, self.begin.device()));
        for stage in 0..count {
            let target = &sums + &self.alive * bounded(&self.end, &weights, stage, range);
            weights = self.begin.tr().matmul(&target).cholesky_solve(&factor, false);
        }
        weights
    }
}

/// Features `[M,F]` of where stretches end: as far as an end was predicted before, those of the stretches that last.
pub(super) fn lasting(end: Tensor, alive: &Tensor) -> Tensor {
    let weight = alive.clamp_min(LEAST_WEIGHT);
    let others = (&end * &weight).sum_dim_intlist(0i64, true, Kind::Double) / weight.sum(Kind::Double);
    end * alive + (1.0 - alive) * others
}

/// Values `[M,1]` of `count` stretches, kept to what such stretches can sum to.
pub(super) fn bounded(features: &Tensor, weights: &Tensor, count: usize, (low, high): (f64, f64)) -> Tensor {
    features.matmul(weights).clamp(low * count as f64, high * count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A walk on a line, s' = s + 0.1, with a cost of s a stretch: n stretches from s cost n s + 0.1 n (n - 1) / 2.
    #[test]
    fn values_of_a_known_chain_are_found() {
        let states = Tensor::linspace(-1.0, 2.0, 200, (Kind::Float, Device::Cpu)).unsqueeze(1);
        let basis = Basis::of(&states);
        let (begin, end) = (basis.features(&states), basis.features(&(&states + 0.1)));
        let alive = Tensor::ones([200, 1], (Kind::Double, Device::Cpu));
        let stretches = Stretches { begin, end, alive };
        let weights = stretches.value(&states, 5, (-10.0, 10.0));
        let found = bounded(&basis.features(&Tensor::from_slice(&[0.5f32]).unsqueeze(1)), &weights, 5, (-10.0, 10.0));
        assert!((found.double_value(&[0, 0]) - 3.5).abs() < 0.1, "{found:?}");
        // The same where half of the episodes end with each stretch: 0.5 (1 + .5 + .25 + ..) and what is added.
        let half = Stretches { alive: &stretches.alive * 0.5, ..stretches };
        let weights = half.value(&states.ones_like(), 5, (0.0, 1.0));
        let found = bounded(&basis.features(&Tensor::from_slice(&[0.5f32]).unsqueeze(1)), &weights, 5, (0.0, 1.0));
        assert!((found.double_value(&[0, 0]) - 1.9375).abs() < 0.02, "{found:?}");
    }
}
