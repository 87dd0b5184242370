//! The pessimistic cost ensemble (18): temporal differences on the policy's actions, of single members or of twins, or
//! implicit Q-learning on logged actions.

use super::{bound, check_column, regress, upper_confidence, Bound};
use crate::losses::{conservative, ensemble, expectile};
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

/// How the members of the cost ensemble learn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CostCriticKind")]
pub enum Kind {
    /// Temporal differences on the policy's actions.
    #[default]
    Td,
    /// The same with two networks a member, of which the one with the higher value speaks (double Q).
    TdDouble,
    /// Implicit Q-learning on logged actions: each member bootstraps from a state value, the `cost_expectile` of its
    /// lagged values.
    Iql,
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
    pub kind: Kind,
    /// Of the state values of [`Kind::Iql`].
    pub expectile: f64,
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

/// Ensemble of E cost critics.
pub struct CostCritic {
    pub config: CostCriticConfig,
    pub q: Head,
    /// State values `[S, hidden.., 1]` of E members; of [`Kind::Iql`] only.
    v: Option<Head>,
    actions: i64,
}

/// What members say, `[B,E]`: `networks [B,E]`, or of twins `[B,2E]` the higher one.
fn spoken(kind: Kind, networks: &Tensor) -> Tensor {
    match kind {
        Kind::TdDouble => {
            let (rows, networks_each) = (networks.size()[0], networks.size()[1]);
            bound(&networks.reshape([rows * networks_each / 2, 2]), Bound::Max).view([rows, networks_each / 2])
        }
        _ => networks.shallow_clone(),
    }
}

impl CostCritic {
    /// E members `[A+S, hidden.., 1]` with targets, twice as many networks for twins.
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
        let networks = if config.kind == Kind::TdDouble { 2 * members } else { members };
        let q =
            Head::new(&format!("{name}_q"), networks, &widths(actions + observations, hidden, 1), true, device, rng);
        let v = (config.kind == Kind::Iql)
            .then(|| Head::new(&format!("{name}_v"), members, &widths(observations, hidden, 1), false, device, rng));
        CostCritic { config, q, v, actions }
    }

    /// `values [B,E]` as the backup shares them among members, `[B,1]` or `[B,E]`.
    fn shared(&self, values: &Tensor) -> Tensor {
        match self.config.backup {
            CostBackup::Own => values.shallow_clone(),
            CostBackup::Max => values.amax(1i64, true),
            CostBackup::Ucb => upper_confidence(values, self.config.backup_k),
        }
    }

    /// The observation `[B,S]` of `[a | s]`.
    fn observation(&self, state_action: &Tensor) -> Tensor {
        state_action.narrow(1, self.actions, state_action.size()[1] - self.actions).contiguous()
    }

    /// Bootstrap target `[B,1]` or `[B,E]` from `next_state_action [B,A+S]`, whose action is the current policy's;
    /// [`Kind::Iql`] reads the observation only.
    pub fn target(&mut self, cost: &Tensor, terminal: &Tensor, next_state_action: &Tensor) -> Tensor {
        let config = self.config;
        let observation = self.v.is_some().then(|| self.observation(next_state_action));
        let next = match (&mut self.v, observation) {
            (Some(v), Some(observation)) => v.evaluate(&observation),
            _ => spoken(config.kind, &self.q.evaluate_target(next_state_action)),
        };
        let mut bootstrap = self.shared(&next);
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
        let target = self.networks(&target);
        self.value_step(state_action);
        let CostCriticConfig { alpha, lr, target_rate, .. } = self.config;
        let loss = match policy_state_action {
            Some(policy) if self.config.pessimism == Pessimism::Cql && alpha != 0.0 => {
                let joined = Tensor::cat(&[state_action, policy], 0);
                let count = (rows * self.q.members()) as f64;
                let squares = self.q.descend_each(&joined, &target, lr, target_rate, |member, values, target| {
                    let term = conservative(&of_member(values, member), &of_member(target, member), alpha, count);
                    (term.gradient, term.squares)
                });
                squares.into_iter().sum::<f64>() / count
            }
            _ => regress(&mut self.q, state_action, &target, lr, target_rate),
        };
        Ok(loss)
    }

    /// A target `[B,1]` or `[B,E]` for every network: twins share their member's.
    fn networks(&self, target: &Tensor) -> Tensor {
        match self.config.kind {
            Kind::TdDouble if target.size()[1] > 1 => target.repeat_interleave_self_int(2, 1i64, None),
            _ => target.shallow_clone(),
        }
    }

    /// One step of the state values of [`Kind::Iql`] at `state_action [B,A+S]`, towards what members say there.
    fn value_step(&mut self, state_action: &Tensor) {
        if self.v.is_none() {
            return;
        }
        let lagged = self.values(state_action);
        let (target, observation) = (self.shared(&lagged), self.observation(state_action));
        let CostCriticConfig { expectile: tau, lr, .. } = self.config;
        if let Some(v) = &mut self.v {
            let gradient = expectile(v.forward(&observation), &target, tau).1;
            v.descend(&observation, &gradient, lr);
        }
    }

    /// One regression step on Monte-Carlo costs `[B,1]`; targets are copied.
    pub fn regress(&mut self, state_action: &Tensor, returns: &Tensor) -> Result<f64> {
        check_column("returns", returns, state_action.size()[0])?;
        let loss = regress(&mut self.q, state_action, returns, self.config.lr, 1.0);
        let observation = self.observation(state_action);
        if let Some(v) = &mut self.v {
            regress(v, &observation, returns, self.config.lr, 0.0);
        }
        Ok(loss)
    }

    /// Lagged values of all members, `[B,E]`.
    pub fn values(&mut self, state_action: &Tensor) -> Tensor {
        let kind = self.config.kind;
        spoken(kind, &self.q.evaluate_target(state_action))
    }

    /// [`CostCritic::values`] of lagged networks as they are now, of `state_action`,
    /// in operations that autograd follows.
    pub fn traced_values(&self) -> impl Fn(&Tensor) -> Tensor {
        let (kind, networks) = (self.config.kind, self.q.traced_target());
        move |state_action| spoken(kind, &networks.values(state_action))
    }

    /// Mean plus `k` deviations over lagged members `[B,1]`, and its gradient for the action columns `[B,A]`.
    pub fn guidance(&mut self, state_action: &Tensor, actions: i64, k: f64) -> (Tensor, Tensor) {
        let kind = self.config.kind;
        let term = |networks: &Tensor| {
            if kind != Kind::TdDouble {
                return ensemble::upper_confidence(networks, k);
            }
            let (rows, count) = (networks.size()[0], networks.size()[1]);
            let (values, speaks) = ensemble::bound(&networks.reshape([rows * count / 2, 2]), Bound::Max);
            let (upper, slope) = ensemble::upper_confidence(&values.view([rows, count / 2]), k);
            (upper, (speaks * slope.reshape([rows * count / 2, 1])).view([rows, count]))
        };
        let (value, gradient) = self.q.target_input_gradient(state_action, term);
        (value, gradient.narrow(1, 0, actions))
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
