//! Implicit Q-learning of one signal, (16) and (17): twin Q and V on dataset actions.

use super::{bound, check_column, guidance, regress, Bound};
use crate::losses::expectile;
use drcorl_core::error::Result;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, widths, Head};
use tch::{Device, Tensor};

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

/// What one IQL step did.
pub struct IqlStep {
    pub value_loss: f64,
    pub critic_loss: f64,
    /// `min Q'(s, a) - V(s)` before the step, `[B,1]`.
    pub advantage: Tensor,
}

/// One step of (16): `v` at `observation [B,S]` towards `target [B,1]` by the expectile loss.
/// Returns the loss before it.
pub fn value_step(v: &mut Head, observation: &Tensor, target: &Tensor, tau: f64, lr: f64) -> f64 {
    let (loss, gradient) = expectile(v.forward(observation), target, tau);
    v.descend(observation, &gradient, lr);
    loss
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
        IqlCritic {
            config,
            q: Head::new(&format!("{name}_q"), 2, &widths(actions + observations, hidden, 1), true, device, rng),
            v: Head::new(&format!("{name}_v"), 1, &widths(observations, hidden, 1), false, device, rng),
        }
    }

    /// One step: V towards the lower target twin by the expectile loss, Q towards `signal + gamma (1-terminal) V(s')`
    /// with the V before its step, then the targets follow.
    /// `state_action [B,A+S]`, observations `[B,S]`, columns `[B,1]`.
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
        let target_q = bound(&self.q.evaluate_target(state_action), Bound::Min);
        let next_v = self.v.evaluate(next_observation);
        probe::see("target_q", &target_q);
        probe::see("next_v", &next_v);

        let value_loss = value_step(&mut self.v, observation, &target_q, expectile, v_lr);
        let advantage = target_q - self.v.outputs();
        let target = signal + (1.0 - terminal) * &next_v * gamma;
        let critic_loss = regress(&mut self.q, state_action, &target, q_lr, target_rate);
        Ok(IqlStep { value_loss, critic_loss, advantage })
    }

    /// One step of Q alone by temporal differences on a policy's actions: towards
    /// `signal + gamma (1-terminal) min_j Q'_j(s', pi(s'))`, `next_state_action [B,A+S]` holding `pi(s')`.
    pub fn follow(
        &mut self,
        state_action: &Tensor,
        next_state_action: &Tensor,
        signal: &Tensor,
        terminal: &Tensor,
    ) -> Result<f64> {
        let rows = state_action.size()[0];
        check_column("signal", signal, rows)?;
        check_column("terminal", terminal, rows)?;
        let next = bound(&self.q.evaluate_target(next_state_action), Bound::Min);
        let target = signal + (1.0 - terminal) * next * self.config.gamma;
        Ok(regress(&mut self.q, state_action, &target, self.config.q_lr, self.config.target_rate))
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
