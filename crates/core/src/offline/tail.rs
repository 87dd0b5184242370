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
    /// True of costs: an end takes no steps, see [`Stretches::following`].
    pub charged: bool,
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
            let target = &sums + self.following(&weights, &sums, stage, range);
            weights = self.begin.tr().matmul(&target).cholesky_solve(&factor, false);
        }
        weights
    }

    /// What `count` further stretches bring `[M,1]`, kept to what such stretches can sum to. Costs go on after an end,
    /// as in a stretch: as those of the stretches that last, or at the stretch's own cost where that is more.
    pub fn following(&self, weights: &Tensor, sums: &Tensor, count: usize, (low, high): (f64, f64)) -> Tensor {
        let there = self.end.matmul(weights).clamp(low * count as f64, high * count as f64);
        let lasts = &self.alive * &there;
        if !self.charged {
            return lasts;
        }
        let weight = self.alive.clamp_min(LEAST_WEIGHT);
        let others = (&there * &weight).sum(Kind::Double) / weight.sum(Kind::Double);
        let charge = (sums.to_kind(Kind::Double) * count as f64).maximum(&others).clamp_min(0.0);
        lasts + (1.0 - &self.alive) * charge
    }
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
        let stretches = Stretches { begin, end, alive, charged: false };
        let at = |stretches: &Stretches, sums: &Tensor| {
            let weights = stretches.value(sums, 5, (-10.0, 10.0));
            basis.features(&Tensor::from_slice(&[0.5f32]).unsqueeze(1)).matmul(&weights).double_value(&[0, 0])
        };
        let found = at(&stretches, &states);
        assert!((found - 3.5).abs() < 0.1, "{found}");
        // Where half of the episodes end with each stretch: 1 + .5 + .25 + ..
        let half = Stretches { alive: &stretches.alive * 0.5, ..stretches };
        let found = at(&half, &states.ones_like());
        assert!((found - 1.9375).abs() < 0.02, "{found}");
        // Costs go on.
        let charged = Stretches { charged: true, ..half };
        let found = at(&charged, &states.ones_like());
        assert!((found - 5.0).abs() < 0.02, "{found}");
    }

    /// Half of the stretches end, at a place of cost 1 a stretch from which the log holds nothing; the others are free.
    #[test]
    fn a_stretch_that_ends_goes_on_at_its_own_cost() {
        let states = Tensor::cat(
            &[Tensor::zeros([50, 1], (Kind::Float, Device::Cpu)), Tensor::ones([50, 1], (Kind::Float, Device::Cpu))],
            0,
        );
        let basis = Basis::of(&states);
        let features = basis.features(&states);
        let alive = 1.0 - states.to_kind(Kind::Double);
        let stretches = Stretches { begin: features.shallow_clone(), end: features, alive, charged: true };
        let weights = stretches.value(&states, 4, (0.0, 1.0));
        let following = stretches.following(&weights, &states, 4, (0.0, 1.0));
        assert!((following.double_value(&[99, 0]) - 4.0).abs() < 0.01, "{following:?}");
        assert!(following.double_value(&[0, 0]).abs() < 0.01);
    }
}
