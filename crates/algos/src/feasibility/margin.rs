//! A dense violation: how sure a small classifier is, from what a transition leads to, that it costs anything.

use super::losses::cross_entropy;
use crate::frame::widths;
use drcorl_core::dataset::Batch;
use drcorl_nn::rng::Rng;
use drcorl_nn::Head;
use tch::{Device, Kind, Tensor};

/// 1 where a transition has any of cost `k`, `[B,1]`.
pub fn costly(batch: &Batch, k: usize) -> Tensor {
    batch.cost_of(k).gt(0.0).to_kind(Kind::Float)
}

/// The classifier of outcomes: next states, or actions and next states.
pub struct Classifier {
    pub head: Head,
    lr: f64,
    logit: f64,
}

impl Classifier {
    /// Fresh, for outcomes of `inputs` entries, with hidden layers of these widths and that learning rate; `logit`
    /// stands for certainty.
    pub fn new(inputs: i64, hidden: &[i64], (lr, logit): (f64, f64), device: Device, rng: &mut Rng) -> Self {
        let head = Head::new("margin", 1, &widths(inputs, hidden, 1), false, device, rng);
        Classifier { head, lr, logit }
    }

    /// One Adam step on `outcome [B,I]` and whether they cost, `costly [B,1]`; the cross entropy before it.
    pub fn step(&mut self, outcome: &Tensor, costly: &Tensor) -> f64 {
        let (loss, gradient) = cross_entropy(self.head.forward(outcome), costly);
        self.head.descend(outcome, &gradient, self.lr);
        loss
    }

    /// The cross entropy on `outcome [B,I]`, and that of who knows no more than how often they cost.
    pub fn doubt(&mut self, outcome: &Tensor, costly: &Tensor) -> (f64, f64) {
        let share = costly.mean(Kind::Double).double_value(&[]);
        let entropy = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        (cross_entropy(&self.head.evaluate(outcome), costly).0, entropy(share) + entropy(1.0 - share))
    }

    /// From -1, certain that nothing is violated, to 1, `[B,1]`, for `outcome [B,I]`.
    pub fn margin(&mut self, outcome: &Tensor) -> Tensor {
        (self.head.evaluate(outcome) / self.logit).clamp(-1.0, 1.0)
    }
}
