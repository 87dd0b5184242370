//! One score-regularised policy step (spec 1.5): `loss = mean_b[ w(t) <e, a> - beta <G, a> ]`, everything but `a` constant.

use super::options::GuidanceScale;
use crate::diffusion::{diffuse, BehaviorModel, Diffused, ScoreWeight, POLICY_TIME};
use drcorl_core::policy::Policy;
use drcorl_nn::checkpoint::State;
use tch::{Kind, Tensor};

/// The part of a step all objectives share: actions, one set of noise, the score residual.
pub struct ScoreStep {
    observation: Tensor,
    /// `a = pi(s)`, `[B,A]`
    pub action: Tensor,
    pub diffused: Diffused,
    /// Predicted noise before the control variate, `[B,A]`
    pub predicted: Tensor,
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
    /// Runs the policy and the frozen denoiser on `observation [B,S]` with draws `unit [B]`, `noise [B,A]`.
    pub fn new(
        policy: &mut Policy,
        behavior: &BehaviorModel,
        observation: Tensor,
        unit: &Tensor,
        noise: &Tensor,
        weight: ScoreWeight,
        control_variate: bool,
    ) -> Self {
        let action = policy.forward(&observation);
        let diffused = diffuse(&action, unit, noise, POLICY_TIME);
        let predicted = behavior.predict(&diffused.noisy, &observation, &diffused.time);
        let weight = weight.at(&diffused.alpha, &diffused.sigma);
        let pull = if control_variate { (&predicted - noise) * weight } else { &predicted * weight };
        ScoreStep { observation, action, diffused, predicted, pull }
    }

    /// Gradient of `mean_b[w <e,a>] - mean_b[<push, a>]`; `push [B,A]` is `beta G`, with a minus for costs. `None` is the warm-up.
    pub fn gradient(&self, policy: &mut Policy, push: Option<&Tensor>) -> StepGradient {
        let direction = match push {
            Some(push) => &self.pull - push,
            None => self.pull.shallow_clone(),
        };
        let rows = self.action.size()[0] as f64;
        let loss = (&direction * &self.action).sum(Kind::Double).double_value(&[]) / rows;
        let gradient = policy.backward(&self.observation, &self.action, &(direction / rows));
        StepGradient { gradient, loss }
    }
}

/// Scales guidance; keeps the running root mean square of one critic.
#[derive(Default)]
pub struct GuidanceScaler {
    mean_square: f64,
    started: bool,
}

/// Weight of the past in the running mean square.
const KEEP: f64 = 0.99;

impl GuidanceScaler {
    /// `guidance [B,A]` in the chosen scale.
    pub fn scale(&mut self, guidance: &Tensor, scale: GuidanceScale) -> Tensor {
        match scale {
            GuidanceScale::Raw => guidance.shallow_clone(),
            GuidanceScale::RowRms => {
                guidance / guidance.square().mean_dim(1i64, true, Kind::Float).sqrt().clamp_min(1e-12)
            }
            GuidanceScale::BatchRms => {
                let now = guidance.square().mean(Kind::Double).double_value(&[]);
                self.mean_square = if self.started { KEEP * self.mean_square + (1.0 - KEEP) * now } else { now };
                self.started = true;
                guidance / self.mean_square.sqrt().max(1e-12)
            }
        }
    }

    /// Saves or restores the running mean square.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.value("mean_square", &mut self.mean_square)?;
        state.value("started", &mut self.started)
    }
}
