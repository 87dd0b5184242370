//! Critics: implicit Q-learning on dataset actions (16)(17), and the pessimistic cost ensemble on the policy's actions (18).
//!
//! A critic does not know units: whoever calls it decides whether a signal is a raw reward or `(1 - gamma)` times one. Every
//! scalar column is `[B,1]` and asserted, because the published code lost its cost critic to one `[B] x [B,1]` broadcast (D1).

use drcorl_core::error::{Error, Result};
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::Head;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

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
/// The deviation is taken across members at one state and action, never across states (D3).
pub fn upper_confidence(values: &Tensor, k: f64) -> Tensor {
    let mean = values.mean_dim(1i64, true, values.kind());
    if values.size()[1] < 2 || k == 0.0 {
        return mean;
    }
    mean + values.std_dim(1i64, true, true) * k
}

fn minimum(values: &Tensor) -> Tensor {
    values.amin(1i64, true)
}

/// `[action | observation]`, the order of every critic's input.
pub fn join(action: &Tensor, observation: &Tensor) -> Tensor {
    Tensor::cat(&[action, observation], 1)
}

/// The mean of all elements.
pub fn mean(tensor: &Tensor) -> f64 {
    tensor.mean(Kind::Double).double_value(&[])
}

/// Rates of an [`IqlCritic`].
#[derive(Clone, Copy, Debug)]
pub struct IqlConfig {
    pub gamma: f64,
    pub expectile: f64,
    pub target_rate: f64,
    pub q_lr: f64,
    pub v_lr: f64,
}

/// Twin Q and V for one signal on dataset actions.
pub struct IqlCritic {
    pub config: IqlConfig,
    pub q: Head,
    pub v: Head,
}

/// Scalars of one IQL step.
pub struct IqlStep {
    pub value_loss: f64,
    pub critic_loss: f64,
    pub mean_target_q: f64,
    pub mean_next_v: f64,
}

impl IqlCritic {
    /// Twin Q `[A+S, hidden.., 1]` with targets, and V `[S, hidden.., 1]`.
    pub fn new(
        name: &str,
        observations: i64,
        actions: i64,
        hidden: &[i64],
        config: IqlConfig,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let widths =
            |input: i64| -> Vec<i64> { std::iter::once(input).chain(hidden.iter().copied()).chain([1]).collect() };
        IqlCritic {
            config,
            q: Head::new(&format!("{name}_q"), 2, &widths(actions + observations), true, device, rng),
            v: Head::new(&format!("{name}_v"), 1, &widths(observations), false, device, rng),
        }
    }

    /// One step: V towards the lower target twin by the expectile loss, Q towards `signal + gamma (1-terminal) V(s')` with the V
    /// before its step, then the targets follow. `state_action [B,A+S]`, observations `[B,S]`, columns `[B,1]`.
    pub fn step(
        &mut self,
        state_action: &Tensor,
        observation: &Tensor,
        next_observation: &Tensor,
        signal: &Tensor,
        terminal: &Tensor,
    ) -> Result<IqlStep> {
        let rows = state_action.size()[0];
        check_column("signal", signal, rows)?;
        check_column("terminal", terminal, rows)?;
        let IqlConfig { gamma, expectile, target_rate, q_lr, v_lr } = self.config;
        let target_q = minimum(&self.q.evaluate_target(state_action));
        let next_v = self.v.evaluate(next_observation);

        let advantage = &target_q - self.v.forward(observation);
        let weight = expectile_weight(&advantage, expectile);
        let value_loss = mean(&(&weight * advantage.square()));
        self.v.descend(observation, &(weight * &advantage * (-2.0 / rows as f64)), v_lr);

        let target = signal + (1.0 - terminal) * &next_v * gamma;
        let critic_loss = regress(&mut self.q, state_action, &target, q_lr, target_rate);
        Ok(IqlStep { value_loss, critic_loss, mean_target_q: mean(&target_q), mean_next_v: mean(&next_v) })
    }

    /// One regression step of Q and V on Monte-Carlo returns `[B,1]`; targets are copied. Returns the Q loss.
    pub fn regress(&mut self, state_action: &Tensor, observation: &Tensor, returns: &Tensor) -> Result<f64> {
        check_column("returns", returns, state_action.size()[0])?;
        let loss = regress(&mut self.q, state_action, returns, self.config.q_lr, 1.0);
        regress(&mut self.v, observation, returns, self.config.v_lr, 0.0);
        Ok(loss)
    }

    /// Mean over target twins at `state_action [B,A+S]`, and its gradient with respect to the first `actions` columns.
    pub fn guidance(&mut self, state_action: &Tensor, actions: i64) -> (Tensor, Tensor) {
        guidance(&mut self.q, state_action, actions, 0.0)
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("q", |state| self.q.persist(state))?;
        state.group("v", |state| self.v.persist(state))
    }
}

/// One MSE step of every member towards `target [B,1]` or `[B,E]`, which the lagged copy follows by `rate`; returns the mean over members
/// of the mean squared error.
fn regress(head: &mut Head, input: &Tensor, target: &Tensor, lr: f64, rate: f64) -> f64 {
    let count = (input.size()[0] * head.members()) as f64;
    head.regress(input, target, 2.0 / count, lr, rate) / count
}

/// The column of `member` in `columns [B,1]`, which is everybody's, or `[B,E]`.
fn of_member(columns: &Tensor, member: i64) -> Tensor {
    columns.narrow(1, member.min(columns.size()[1] - 1), 1)
}

/// Mean over members plus `k` standard deviations at `state_action`, `[B,1]`, and its gradient for the action columns, `[B,A]`.
fn guidance(head: &mut Head, state_action: &Tensor, actions: i64, k: f64) -> (Tensor, Tensor) {
    let members = head.members() as f64;
    let (values, gradient) = head.target_input_gradient(state_action, |values| {
        let mut weights = values.ones_like() / members;
        if k != 0.0 && members > 1.0 {
            let centred = values - values.mean_dim(1i64, true, Kind::Float);
            weights += centred / (values.std_dim(1i64, true, true).clamp_min(1e-8) * (members - 1.0)) * k;
        }
        weights
    });
    (upper_confidence(&values, k), gradient.narrow(1, 0, actions))
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
    /// Learning rate and expectile of a state value regressed on the lowest target member; the published code trains one and never reads it.
    pub value: Option<(f64, f64)>,
}

/// Ensemble of E cost critics evaluated on the current policy's actions.
pub struct CostCritic {
    pub config: CostCriticConfig,
    pub q: Head,
    pub v: Option<Head>,
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
        let widths =
            |input: i64| -> Vec<i64> { std::iter::once(input).chain(hidden.iter().copied()).chain([1]).collect() };
        let q = Head::new(&format!("{name}_q"), members, &widths(actions + observations), true, device, rng);
        let v = config.value.map(|_| Head::new(&format!("{name}_v"), 1, &widths(observations), false, device, rng));
        CostCritic { config, q, v }
    }

    /// Bootstrap target `[B,1]` or `[B,E]` from `next_state_action [B,A+S]`, whose action is the current policy's.
    fn target(&mut self, cost: &Tensor, terminal: &Tensor, next_state_action: &Tensor) -> Tensor {
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

    /// One step of (18). `policy_state_action [B,A+S]` holds the policy's actions at the batch's states; read by `Pessimism::Cql` only.
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
        self.value_step(state_action);
        let target = self.target(cost, terminal, next_state_action);
        let CostCriticConfig { alpha, lr, target_rate, .. } = self.config;
        let loss = match policy_state_action {
            Some(policy) if self.config.pessimism == Pessimism::Cql && alpha != 0.0 => {
                let joined = Tensor::cat(&[state_action, policy], 0);
                let count = (rows * self.q.members()) as f64;
                let mut squares = 0.0;
                self.q.descend_each(&joined, lr, target_rate, |member, values| {
                    let error = of_member(values, member).narrow(0, 0, rows) - of_member(&target, member);
                    squares += error.square().sum(Kind::Double).double_value(&[]);
                    let raised = error.ones_like() * (-alpha / count);
                    Tensor::cat(&[error * (2.0 / count), raised], 0)
                });
                squares / count
            }
            _ => regress(&mut self.q, state_action, &target, lr, target_rate),
        };
        Ok(loss)
    }

    fn value_step(&mut self, state_action: &Tensor) {
        let (Some((lr, tau)), Some(v)) = (self.config.value, self.v.as_mut()) else { return };
        let columns = state_action.size()[1];
        let observations = v.net().inputs();
        let observation = state_action.narrow(1, columns - observations, observations);
        let advantage = minimum(&self.q.evaluate_target(state_action)) - v.forward(&observation);
        let weight = expectile_weight(&advantage, tau);
        let rows = advantage.size()[0] as f64;
        v.descend(&observation, &(weight * advantage * (-2.0 / rows)), lr);
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
        state.group("q", |state| self.q.persist(state))?;
        match &mut self.v {
            Some(v) => state.group("v", |state| v.persist(state)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
