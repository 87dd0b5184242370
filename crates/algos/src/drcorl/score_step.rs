//! One score-regularised policy step (21): `loss = mean_b[ w(t) <e, a> - beta <G, a> ]`, everything but `a` constant.

use super::behavior::BehaviorModel;
use super::config::DrcorlConfig;
use super::diffusion::Draws;
use super::divergence::{slopes, Slopes};
use crate::critics::join;
use crate::losses::along;
use drcorl_core::policy::{Drawn, Policy};
use drcorl_nn::probe;
use tch::Tensor;

/// The part of a step all objectives share: actions, one set of noise, the score residual.
pub struct ScoreStep {
    observation: Tensor,
    drawn: Drawn,
    /// `a = pi(s)`, or drawn from it, in the box: `[B,A]`.
    pub action: Tensor,
    /// Of the divergence from the data, `w(t) e` for a Dirac policy.
    pull: Slopes,
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
        let drawn = policy.draw(&observation, draws.action.as_ref());
        probe::see("action", &drawn.action);
        let predict = |noisy: &Tensor, time: &Tensor| behavior.predict(noisy, &observation, time);
        // The law is the Gaussian before the box, so that its pull reaches samples the box has clipped.
        let pull = slopes(&drawn.sample, drawn.std.as_ref(), draws, config.weighing(), predict);
        ScoreStep { action: drawn.action.shallow_clone(), observation, drawn, pull }
    }

    /// `[a | s]`, where the critics give their guidance.
    pub fn state_action(&self) -> Tensor {
        join(&self.action, &self.observation)
    }

    /// Gradient of `mean_b[w <e,a>] - mean_b[<push, a>]`, of a Gaussian with its entropy; `push [B,A]` is `beta G`,
    /// with a minus for costs. `None` is the warm-up.
    pub fn gradient(&self, policy: &mut Policy, push: Option<&Tensor>) -> StepGradient {
        let direction = match push {
            Some(push) => &self.pull.sample - self.drawn.through_box(push),
            None => self.pull.sample.shallow_clone(),
        };
        let (loss, gradient) = along(&self.drawn.sample, &direction);
        let entropy = self.pull.log_std.as_ref().filter(|_| self.drawn.learns_deviation());
        let entropy = entropy.map(|slope| slope / self.action.size()[0] as f64);
        let gradient = policy.backward_drawn(&self.observation, &self.drawn, &gradient, entropy.as_ref());
        StepGradient { gradient, loss }
    }
}
