//! The pessimistic cost ensemble (18): temporal differences on the policy's actions.

use super::{check_column, guidance, regress, upper_confidence};
use crate::losses::conservative;
use drcorl_core::error::Result;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::{widths, Head};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// The column of `member` in `columns [B,1]`, which is everybody's, or `[B,E]`.
fn of_member(columns: &Tensor, member: i64) -> Tensor {
    columns.narrow(1, member.min(columns.size()[1] - 1), 1)
}

/// What the members of the cost ensemble bootstrap from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostBackup {
    /// Each from its own lagged copy: keeps the members apart, so that their spread means something.
    Own,
    /// All from the highest lagged member.
    Max,
    /// All from the mean plus `cost_backup_k` standard deviations.
    Ucb,
}

/// How (18) keeps cost values from being too low at actions the data do not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pessimism {
    /// Plain temporal differences.
    None,
    /// Raise values at the policy's actions: `- alpha E[Q(s, pi(s))]` in the loss.
    Cql,
    /// Add alpha standard deviations over members to the bootstrap target.
    TargetUcb,
}

/// Rates and choices of a [`CostCritic`].
#[derive(Clone, Copy, Debug)]
pub struct CostCriticConfig {
    pub gamma: f64,
    pub target_rate: f64,
    pub lr: f64,
    pub backup: CostBackup,
    pub backup_k: f64,
    pub pessimism: Pessimism,
    pub alpha: f64,
    /// Range of the bootstrap target, where the range of the signal is known.
    pub clamp: Option<(f64, f64)>,
}

/// Ensemble of E cost critics evaluated on the current policy's actions.
pub struct CostCritic {
    pub config: CostCriticConfig,
    pub q: Head,
}

impl CostCritic {
    /// E members `[A+S, hidden.., 1]` with targets.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        name: &str,
        observations: i64,
        actions: i64,
        members: usize,
        hidden: &[i64],
        config: CostCriticConfig,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let q = Head::new(&format!("{name}_q"), members, &widths(actions + observations, hidden, 1), true, device, rng);
        CostCritic { config, q }
    }

    /// Bootstrap target `[B,1]` or `[B,E]` from `next_state_action [B,A+S]`, whose action is the current policy's.
    pub fn target(&mut self, cost: &Tensor, terminal: &Tensor, next_state_action: &Tensor) -> Tensor {
        let config = self.config;
        let next = self.q.evaluate_target(next_state_action);
        let mut bootstrap = match config.backup {
            CostBackup::Own => next.shallow_clone(),
            CostBackup::Max => next.amax(1i64, true),
            CostBackup::Ucb => upper_confidence(&next, config.backup_k),
        };
        if config.pessimism == Pessimism::TargetUcb && next.size()[1] > 1 {
            bootstrap += next.std_dim(1i64, true, true) * config.alpha;
        }
        let target: Tensor = cost + (1.0 - terminal) * bootstrap * config.gamma;
        match config.clamp {
            Some((low, high)) => target.clamp(low, high),
            None => target,
        }
    }

    /// One step of (18). `policy_state_action [B,A+S]` holds the policy's actions at the batch's states;
    /// read by `Pessimism::Cql` only.
    pub fn step(
        &mut self,
        state_action: &Tensor,
        cost: &Tensor,
        terminal: &Tensor,
        next_state_action: &Tensor,
        policy_state_action: Option<&Tensor>,
    ) -> Result<f64> {
        let rows = state_action.size()[0];
        check_column("cost", cost, rows)?;
        check_column("terminal", terminal, rows)?;
        let target = self.target(cost, terminal, next_state_action);
        let CostCriticConfig { alpha, lr, target_rate, .. } = self.config;
        let loss = match policy_state_action {
            Some(policy) if self.config.pessimism == Pessimism::Cql && alpha != 0.0 => {
                let joined = Tensor::cat(&[state_action, policy], 0);
                let count = (rows * self.q.members()) as f64;
                let mut squares = 0.0;
                self.q.descend_each(&joined, lr, target_rate, |member, values| {
                    let term = conservative(&of_member(values, member), &of_member(&target, member), alpha, count);
                    squares += term.squares;
                    term.gradient
                });
                squares / count
            }
            _ => regress(&mut self.q, state_action, &target, lr, target_rate),
        };
        Ok(loss)
    }

    /// One regression step on Monte-Carlo costs `[B,1]`; targets are copied.
    pub fn regress(&mut self, state_action: &Tensor, returns: &Tensor) -> Result<f64> {
        check_column("returns", returns, state_action.size()[0])?;
        Ok(regress(&mut self.q, state_action, returns, self.config.lr, 1.0))
    }

    /// Lagged values of all members, `[B,E]`.
    pub fn values(&mut self, state_action: &Tensor) -> Tensor {
        self.q.evaluate_target(state_action)
    }

    /// Mean plus `k` deviations over lagged members `[B,1]`, and its gradient for the action columns `[B,A]`.
    pub fn guidance(&mut self, state_action: &Tensor, actions: i64, k: f64) -> (Tensor, Tensor) {
        guidance(&mut self.q, state_action, actions, k)
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("q", |state| self.q.persist(state))
    }
}
