//! A dense violation: how sure a small classifier is, from the next state, that a transition costs anything.

use super::config::FisorConfig;
use super::losses::cross_entropy;
use crate::frame::widths;
use drcorl_core::dataset::Batch;
use drcorl_nn::rng::Rng;
use drcorl_nn::Head;
use tch::{Device, Kind, Tensor};

/// 1 where a transition costs anything, `[B,1]`.
pub fn costly(batch: &Batch) -> Tensor {
    batch.cost().gt(0.0).to_kind(Kind::Float)
}

/// The classifier of next states.
pub struct Classifier {
    pub head: Head,
    lr: f64,
    logit: f64,
}

impl Classifier {
    pub fn new(config: &FisorConfig, observations: i64, device: Device, rng: &mut Rng) -> Self {
        let widths = widths(observations, &config.margin_hidden, 1);
        let head = Head::new("margin", 1, &widths, false, device, rng);
        Classifier { head, lr: config.margin_lr, logit: config.margin_logit }
    }

    /// One Adam step on a batch; the cross entropy before it.
    pub fn step(&mut self, batch: &Batch) -> f64 {
        let input = batch.next_observation().contiguous();
        let (loss, gradient) = cross_entropy(self.head.forward(&input), &costly(batch));
        self.head.descend(&input, &gradient, self.lr);
        loss
    }

    /// From -1, certain that nothing is violated, to 1, `[B,1]`, for `next_observation [B,S]`.
    pub fn margin(&mut self, next_observation: &Tensor) -> Tensor {
        (self.head.evaluate(next_observation) / self.logit).clamp(-1.0, 1.0)
    }
}
