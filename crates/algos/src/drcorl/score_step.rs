//! One score-regularised policy step (21): `loss = mean_b[ w(t) <e, a> - beta <G, a> ]`, everything but `a` constant.

use super::behavior::BehaviorModel;
use super::config::DrcorlConfig;
use super::diffusion::{diffuse, Draws, POLICY_TIME};
use crate::critics::join;
use crate::losses::along;
use drcorl_core::policy::Policy;
use drcorl_nn::probe;
use tch::Tensor;

/// The part of a step all objectives share: actions, one set of noise, the score residual.
pub struct ScoreStep {
    observation: Tensor,
    /// `a = pi(s)`, `[B,A]`
    pub action: Tensor,
    /// `w(t) e`, `[B,A]`
    pull: Tensor,
}

/// A flat policy gradient and the loss it belongs to.
pub struct StepGradient {
    /// `[P]`, a descent direction is its negative
    pub gradient: Tensor,
    pub loss: f64,
}

impl ScoreStep {
    /// Runs the policy and the frozen denoiser on `observation [B,S]`; `config` says how the score is weighed.
    pub fn new(
        policy: &mut Policy,
        behavior: &BehaviorModel,
        observation: &Tensor,
        draws: &Draws,
        config: &DrcorlConfig,
    ) -> Self {
        let observation = observation.contiguous();
        let action = policy.forward(&observation);
        probe::see("action", &action);
        let diffused = diffuse(&action, draws, POLICY_TIME);
        let predicted = behavior.predict(&diffused.noisy, &observation, &diffused.time);
        let residual = if config.control_variate { predicted - &draws.noise } else { predicted };
        let pull = residual * config.score_weight.at(&diffused.alpha, &diffused.sigma);
        ScoreStep { observation, action, pull }
    }

    /// `[a | s]`, where the critics give their guidance.
    pub fn state_action(&self) -> Tensor {
        join(&self.action, &self.observation)
    }

    /// Gradient of `mean_b[w <e,a>] - mean_b[<push, a>]`; `push [B,A]` is `beta G`, with a minus for costs.
    /// `None` is the warm-up.
    pub fn gradient(&self, policy: &mut Policy, push: Option<&Tensor>) -> StepGradient {
        let direction = match push {
            Some(push) => &self.pull - push,
            None => self.pull.shallow_clone(),
        };
        let (loss, gradient) = along(&self.action, &direction);
        let gradient = policy.backward(&self.observation, &self.action, &gradient);
        StepGradient { gradient, loss }
    }
}
