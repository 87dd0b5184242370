//! The losses of a part of a batch and their gradients at the network's outputs.

use super::config::{ActionHead, CdtConfig, CostClass, EntropyScale, LogStdClamp, LossMean};
use super::model::{OutputGradients, Outputs};
use super::sequences::Sequences;
use crate::losses::{masked, through_range};
use tch::{Kind, Tensor};

/// Bounds of a clamped logarithm of the standard deviation.
const LOG_STD: (f64, f64) = (-5.0, 2.0);

/// Counts over a whole batch; a part's losses are its share of the batch's.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Positions, padding included.
    positions: f64,
    /// Steps that are no padding.
    valid: f64,
    /// Steps whose next one is in the sequence too.
    followed: f64,
    sequences: f64,
}

impl Counts {
    /// Of sequences of `lengths` steps, padded to `context`.
    pub fn new(lengths: &[usize], context: usize) -> Counts {
        let sum = |f: fn(usize) -> usize| lengths.iter().map(|&n| f(n)).sum::<usize>() as f64;
        Counts {
            positions: (lengths.len() * context) as f64,
            valid: sum(|n| n),
            followed: sum(|n| n - 1),
            sequences: lengths.len() as f64,
        }
    }
}

/// Losses of a batch, or the share of a part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// Negative log-likelihood of the logged actions; the squared error of a deterministic head.
    pub action: f64,
    pub entropy: f64,
    pub cost: f64,
    pub state: f64,
    /// Share of cost classes predicted rightly.
    pub cost_accuracy: f64,
}

impl std::ops::AddAssign for Losses {
    fn add_assign(&mut self, other: Losses) {
        self.action += other.action;
        self.entropy += other.entropy;
        self.cost += other.cost;
        self.state += other.state;
        self.cost_accuracy += other.cost_accuracy;
    }
}

/// Losses of `outputs` on `batch`, a part of a batch with `counts`, and the gradient of
/// `action - temperature * entropy + cost_weight * cost + state_weight * state`.
pub fn losses(
    config: &CdtConfig,
    outputs: &Outputs,
    batch: &Sequences,
    counts: &Counts,
    temperature: f64,
) -> (Losses, OutputGradients) {
    let mask = batch.mask().view([-1, 1]);
    let (mut losses, action, log_std) = match config.action_head {
        ActionHead::Stochastic => likelihood(config, outputs, batch, counts, &mask, temperature),
        ActionHead::Deterministic => squared_error(config, outputs, batch, counts, &mask),
    };
    let ((cost, cost_logits), accuracy) = cost_class(config, outputs, batch, counts, &mask);
    (losses.cost, losses.cost_accuracy) = (cost, accuracy);
    let next_state = (config.state_weight > 0.0).then(|| {
        let (loss, grad) = next_state(config, outputs, batch, counts);
        losses.state = loss;
        grad
    });
    (losses, OutputGradients { action, log_std, cost_logits, next_state })
}

/// `-(log-likelihood + temperature * entropy)` of a normal distribution.
fn likelihood(
    config: &CdtConfig,
    outputs: &Outputs,
    batch: &Sequences,
    counts: &Counts,
    mask: &Tensor,
    temperature: f64,
) -> (Losses, Tensor, Option<Tensor>) {
    let actions = batch.actions.reshape([-1, outputs.action.size()[1]]);
    let entries = actions.size()[1] as f64;
    let weight = match config.entropy_scale {
        EntropyScale::Mean => mask / (counts.valid * entries),
        EntropyScale::Sum => mask / counts.valid,
    };
    let raw = outputs.log_std.as_ref().map(Tensor::shallow_clone).unwrap_or_default();
    let log_std = match config.log_std_clamp {
        LogStdClamp::None => raw.shallow_clone(),
        LogStdClamp::Bounded => raw.clamp(LOG_STD.0, LOG_STD.1),
    };
    let term = masked::normal(&outputs.action, &log_std, &actions, &weight, temperature);
    let grad_log_std = match config.log_std_clamp {
        LogStdClamp::None => term.log_std,
        LogStdClamp::Bounded => through_range(&raw, LOG_STD, &term.log_std),
    };
    let losses = Losses { action: term.unlikelihood, entropy: term.entropy, ..Losses::default() };
    (losses, term.mean, Some(grad_log_std))
}

fn squared_error(
    config: &CdtConfig,
    outputs: &Outputs,
    batch: &Sequences,
    counts: &Counts,
    mask: &Tensor,
) -> (Losses, Tensor, Option<Tensor>) {
    let actions = batch.actions.reshape([-1, outputs.action.size()[1]]);
    let count = actions.size()[1] as f64 * positions(config, counts);
    let (action, grad) = masked::squares(&outputs.action, &actions, mask, count, 1.0);
    (Losses { action, ..Losses::default() }, grad, None)
}

/// What a masked mean over steps divides by.
fn positions(config: &CdtConfig, counts: &Counts) -> f64 {
    match config.loss_mean {
        LossMean::Padded => counts.positions,
        LossMean::Valid => counts.valid,
    }
}

/// The cross entropy with its gradient for the logits, and the accuracy.
fn cost_class(
    config: &CdtConfig,
    outputs: &Outputs,
    batch: &Sequences,
    counts: &Counts,
    mask: &Tensor,
) -> ((f64, Tensor), f64) {
    let costs = batch.costs.reshape([-1, 1]);
    let class = match config.cost_class {
        // There are two classes; the published code stops at a cost of 2.
        CostClass::Truncated => costs.trunc().clamp(0.0, 1.0),
        CostClass::Positive => costs.gt(0.0).to_kind(Kind::Float),
    };
    let one_hot = Tensor::cat(&[1.0 - &class, class.shallow_clone()], 1);
    let share = mask / positions(config, counts);
    let term = masked::cross_entropy(&outputs.cost_logits, &one_hot, &share, config.cost_weight);
    let right = outputs.cost_logits.argmax(1, true).eq_tensor(&class.to_kind(Kind::Int64)).to_kind(Kind::Float);
    (term, (right * mask).sum(Kind::Double).double_value(&[]) / counts.valid)
}

/// The squared error of the predicted states and its gradient for them.
fn next_state(config: &CdtConfig, outputs: &Outputs, batch: &Sequences, counts: &Counts) -> (f64, Tensor) {
    let size = batch.states.size();
    let (context, width) = (size[1], size[2]);
    let predicted = outputs.next_state.view(size.as_slice()).narrow(1, 0, context - 1);
    let mask = batch.mask();
    let (mask, count) = match config.loss_mean {
        LossMean::Padded => (mask.narrow(1, 0, context - 1), counts.sequences * (context - 1) as f64),
        LossMean::Valid => (mask.narrow(1, 1, context - 1), counts.followed),
    };
    let count = (count * width as f64).max(1.0);
    let next = batch.states.narrow(1, 1, context - 1);
    let (loss, slope) = masked::squares(&predicted, &next, &mask.unsqueeze(2), count, config.state_weight);
    let grad = batch.states.zeros_like();
    grad.narrow(1, 0, context - 1).copy_(&slope);
    (loss, grad.view([-1, width]))
}
