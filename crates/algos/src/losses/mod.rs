//! The terms of the papers by their names. A loss answers with its value and its gradient for what it is given first;
//! finite differences or autograd beside it hold the one to the other, so that an algorithm names its terms and writes
//! no derivative.
//!
//! Means are over rows; a gradient is that of the mean. Beside these, [`drcorl_nn::losses`] has what networks need
//! themselves, [`drcorl_nn::Gaussian`] the terms of a Gaussian with a clamped deviation, and `Head::regress` and
//! `SquashedActor::fit` are squared error and weighted likelihood fused with the pass they belong to.

pub mod ensemble;
pub mod masked;
pub mod mmd;
mod tilted;

pub use drcorl_nn::losses::{mse, through_clamp, through_range, through_tanh};
pub use mmd::mmd;
pub use tilted::{average, log_sum_exp, tilted_mean, Tilted};

use crate::critics::{expectile_weight, mean};
use tch::{Kind, Tensor};

/// What critics say of actions: values `[B,1]`, and their gradients for the actions, `[B,A]`.
pub type Pull = (Tensor, Tensor);

/// `mean |tau - 1(u < 0)| u^2` with `u = target - values`, both `[B,1]` (implicit Q-learning).
pub fn expectile(values: &Tensor, target: &Tensor, tau: f64) -> (f64, Tensor) {
    let advantage = target - values;
    let weight = expectile_weight(&advantage, tau);
    let loss = mean(&(&weight * advantage.square()));
    let scale = -2.0 / advantage.numel() as f64;
    (loss, weight * advantage * scale)
}

/// Sum over columns, be they members or entries of an action, of `mean (values - target)^2` for `values [B,E]`,
/// `target [B,1]` or `[B,E]`.
pub fn squared_errors(values: &Tensor, target: &Tensor) -> (f64, Tensor) {
    let (error, rows) = (values - target, values.size()[0] as f64);
    let loss = error.square().sum(Kind::Double).double_value(&[]) / rows;
    (loss, error * (2.0 / rows))
}

/// The sum of `values [N,E]` over rows, divided by `total`: its mean over members, and the gradient of `weight` times
/// its sum over them.
pub fn mean_value(values: &Tensor, weight: f64, total: f64) -> (f64, Tensor) {
    let members = values.size()[1] as f64;
    let loss = values.sum(Kind::Double).double_value(&[]) / (members * total);
    (loss, Tensor::full_like(values, weight / total))
}

/// See [`conservative`].
pub struct Conservative {
    pub loss: f64,
    /// The sum of the squared errors in it.
    pub squares: f64,
    /// For the values, `[B+N,1]`.
    pub gradient: Tensor,
}

/// `[sum (values - target)^2 - alpha sum raised] / total` of one member: of its values `[B+N,1]` the first B are at
/// logged actions and have a `target [B,1]`, the others are raised (conservative Q-learning, of costs).
pub fn conservative(values: &Tensor, target: &Tensor, alpha: f64, total: f64) -> Conservative {
    let rows = target.size()[0];
    let raised = values.narrow(0, rows, values.size()[0] - rows);
    let error = values.narrow(0, 0, rows) - target;
    let squares = error.square().sum(Kind::Double).double_value(&[]);
    Conservative {
        loss: (squares - alpha * raised.sum(Kind::Double).double_value(&[])) / total,
        squares,
        gradient: Tensor::cat(&[error * (2.0 / total), Tensor::full_like(&raised, -alpha / total)], 0),
    }
}

/// `mean <direction, action>` for `[B,A]`, the direction held constant.
pub fn along(action: &Tensor, direction: &Tensor) -> (f64, Tensor) {
    let rows = action.size()[0] as f64;
    ((direction * action).sum(Kind::Double).double_value(&[]) / rows, direction / rows)
}

/// The loss of a policy that follows critics under a Lagrange multiplier.
pub struct Penalised {
    pub loss: f64,
    /// The multiplier's part of it.
    pub penalty: f64,
    /// For the actions, `[B,A]`.
    pub gradient: Tensor,
}

/// `mean [-follow Q + multiplier (Qc - threshold)]` at the policy's actions.
pub fn penalised(reward: &Pull, follow: f64, cost: &Pull, multiplier: f64, threshold: f64) -> Penalised {
    let ((q, q_pull), (qc, qc_pull)) = (reward, cost);
    let penalty = multiplier * (mean(qc) - threshold);
    let gradient = (qc_pull * multiplier - q_pull * follow) / q.size()[0] as f64;
    Penalised { loss: penalty - follow * mean(q), penalty, gradient }
}

/// `mean [-1{Qc <= limit} Q + 1{Qc > limit} Qc]`, without the second term where `cost` has no gradient; the indicators
/// are constants.
pub fn feasible_value(reward: &Pull, cost: (&Tensor, Option<&Tensor>), limit: f64) -> (f64, Tensor) {
    let ((q, q_pull), (qc, qc_pull)) = (reward, cost);
    let feasible = qc.le(limit).to_kind(Kind::Float);
    let infeasible: Tensor = 1.0 - &feasible;
    let mut loss = -mean(&(q * &feasible));
    let mut gradient = -q_pull * feasible;
    if let Some(pull) = qc_pull {
        loss += mean(&(qc * &infeasible));
        gradient += pull * infeasible;
    }
    (loss, gradient / q.size()[0] as f64)
}

#[cfg(test)]
mod tests;
