//! Critics: implicit Q-learning on dataset actions, the cost ensemble on the policy's actions,
//! and groups of which one member speaks.
//!
//! A critic does not know units: whoever calls it decides whether a signal is a raw reward or `(1 - gamma)` times one.
//! Every scalar column is `[B,1]` and asserted: a `[B]` column against `[B,1]` values broadcasts to `[B,B]` and trains
//! towards its mean.

pub mod cost;
pub mod groups;
pub mod iql;

pub use cost::{CostBackup, CostCritic, CostCriticConfig, Kind as CostCriticKind, Pessimism};
pub use groups::{Critics, Reduce};
pub use iql::{IqlConfig, IqlCritic, IqlStep};

use crate::losses::ensemble;
use drcorl_core::error::{Error, Result};
use drcorl_nn::Head;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Which member of an ensemble speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The lowest: pessimistic for rewards, optimistic for costs.
    Min,
    /// The highest: pessimistic for costs.
    Max,
}

/// `values [B,E]` to `[B,1]`.
pub fn bound(values: &Tensor, side: Bound) -> Tensor {
    match side {
        Bound::Min => values.amin(1i64, true),
        Bound::Max => values.amax(1i64, true),
    }
}

/// Errs unless `column` is `[rows,1]`.
pub fn check_column(name: &str, column: &Tensor, rows: i64) -> Result<()> {
    if column.size() == [rows, 1] {
        return Ok(());
    }
    Err(Error::Shape(format!(
        "{name} has shape {:?}, expected [{rows}, 1]: a [B] column against [B,1] values would broadcast to [B,B]",
        column.size()
    )))
}

/// Weight of the expectile loss `|tau - 1(u<0)|` for `u [..]`.
pub fn expectile_weight(u: &Tensor, tau: f64) -> Tensor {
    let negative = u.lt(0.0).to_kind(u.kind());
    // |tau - 1| below zero, tau above.
    negative * (1.0 - 2.0 * tau) + tau
}

/// Mean plus `k` sample standard deviations over members, a row: `[B,E] -> [B,1]`. The spread of one member is 0.
///
/// The deviation is taken across members at one state and action, never across states.
pub fn upper_confidence(values: &Tensor, k: f64) -> Tensor {
    let mean = values.mean_dim(1i64, true, values.kind());
    if values.size()[1] < 2 || k == 0.0 {
        return mean;
    }
    mean + values.std_dim(1i64, true, true) * k
}

/// `[action | observation]`, the order of every critic's input.
pub fn join(action: &Tensor, observation: &Tensor) -> Tensor {
    Tensor::cat(&[action, observation], 1)
}

/// The mean of all elements.
pub fn mean(tensor: &Tensor) -> f64 {
    tensor.mean(Kind::Double).double_value(&[])
}

/// One MSE step of every member towards `target [B,1]` or `[B,E]`, which the lagged copy follows by `rate`; returns the
/// mean over members of the mean squared error.
pub(crate) fn regress(head: &mut Head, input: &Tensor, target: &Tensor, lr: f64, rate: f64) -> f64 {
    let count = (input.size()[0] * head.members()) as f64;
    head.regress(input, target, 2.0 / count, lr, rate) / count
}

/// Mean over members plus `k` standard deviations at `state_action`, `[B,1]`, and its gradient for the action columns,
/// `[B,A]`.
fn guidance(head: &mut Head, state_action: &Tensor, actions: i64, k: f64) -> (Tensor, Tensor) {
    let term = |values: &Tensor| ensemble::upper_confidence(values, k);
    let (value, gradient) = head.target_input_gradient(state_action, term);
    (value, gradient.narrow(1, 0, actions))
}

#[cfg(test)]
mod tests;
