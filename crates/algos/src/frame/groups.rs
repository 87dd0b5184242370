//! Parameters that several learners have, in groups: flattened into a configuration, so that a user sees one flat list.
//!
//! A group also makes what it is about. Its quick values are those of the preset `quick`: minutes on one core.

use super::{Task, Transition};
use crate::critics::{Bound, Critics};
use crate::lagrange::Pid;
use drcorl_core::schema::most;
use drcorl_nn::rng::Rng;
use drcorl_nn::vae::VaeStep;
use drcorl_nn::{widths, Head, Hidden, SquashedActor, Vae};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Says parameters of groups in an algorithm's own words, as a transform of the schema of its configuration.
pub fn help(schema: &mut Schema, words: &[(&str, &str)]) {
    for (key, text) in words {
        let property = schema.pointer_mut(&format!("/properties/{key}")).and_then(|value| value.as_object_mut());
        property.expect("a parameter of the algorithm").insert("description".into(), (*text).into());
    }
}

/// Of critics trained alike, for each signal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CriticGroup {
    /// Hidden layer widths of the critics.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub critic_hidden: Vec<i64>,
    /// Critics of each signal.
    #[schemars(range(min = 1, max = 16))]
    pub critics: usize,
    /// Learning rate of the critics.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub critic_lr: f64,
    /// Rate at which targets follow.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub target_rate: f64,
}

impl Default for CriticGroup {
    fn default() -> Self {
        CriticGroup { critic_hidden: vec![256, 256], critics: 2, critic_lr: 1e-3, target_rate: 0.005 }
    }
}

impl CriticGroup {
    pub fn quick() -> Self {
        CriticGroup { critic_hidden: vec![128, 128], target_rate: 0.01, ..CriticGroup::default() }
    }

    /// `groups` groups of `critics` networks of (action, observation); `side` says which member speaks for a group.
    pub fn build(&self, name: &str, groups: usize, side: Bound, task: &Task, rng: &mut Rng) -> Critics {
        let shape = (groups, self.critics);
        Critics::new(name, task.actions + task.observations, shape, &self.critic_hidden, side, task.device, rng)
    }
}

/// Of the actor.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ActorGroup {
    /// Hidden layer widths of the actor.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub actor_hidden: Vec<i64>,
    /// Learning rate of the actor.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub actor_lr: f64,
}

impl Default for ActorGroup {
    fn default() -> Self {
        ActorGroup { actor_hidden: vec![256, 256], actor_lr: 1e-3 }
    }
}

impl ActorGroup {
    pub fn quick() -> Self {
        ActorGroup { actor_hidden: vec![128, 128], ..ActorGroup::default() }
    }

    /// A stochastic actor; `target` keeps a lagged copy.
    pub fn squashed(&self, target: bool, task: &Task, rng: &mut Rng) -> SquashedActor {
        SquashedActor::new(task.observations, task.actions, &self.actor_hidden, target, task.device, rng)
    }

    /// A network of (action, observation) with one number an action, and its lagged copy.
    pub fn of_actions(&self, hidden: Hidden, task: &Task, rng: &mut Rng) -> Head {
        let widths = widths(task.actions + task.observations, &self.actor_hidden, task.actions);
        Head::with_hidden("actor", 1, &widths, hidden, true, task.device, rng)
    }
}

/// Of a VAE of the logged actions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VaeGroup {
    /// Width of the VAE's hidden layers.
    #[schemars(range(min = 1, max = most::WIDTH))]
    pub vae_hidden: i64,
    /// Weight beta of the KL in the VAE's loss.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub vae_beta: f64,
    /// Learning rate of the VAE.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub vae_lr: f64,
}

impl Default for VaeGroup {
    fn default() -> Self {
        VaeGroup { vae_hidden: 400, vae_beta: 0.5, vae_lr: 1e-3 }
    }
}

impl VaeGroup {
    pub fn quick() -> Self {
        VaeGroup { vae_hidden: 128, ..VaeGroup::default() }
    }

    pub fn build(&self, task: &Task, rng: &mut Rng) -> Vae {
        Vae::new(task.observations, task.actions, self.vae_hidden, task.device, rng)
    }

    /// One step of `vae` on the logged actions, with `noise [B,L]`.
    pub fn step(&self, vae: &mut Vae, batch: &Transition, noise: &Tensor) -> VaeStep {
        vae.step(&batch.state_action, noise, self.vae_beta, self.vae_lr)
    }
}

/// Of the PID-controlled multiplier of costs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PidGroup {
    /// Gains KP, KI, KD of the multiplier.
    #[schemars(inner(range(min = 0.0, max = most::FACTOR)))]
    pub pid: [f64; 3],
    /// Upper bound of the multiplier and of its integral part; null for none.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub multiplier_cap: Option<f64>,
}

impl Default for PidGroup {
    fn default() -> Self {
        PidGroup { pid: [0.1, 0.003, 0.001], multiplier_cap: Some(100.0) }
    }
}

impl PidGroup {
    /// A controller that holds the cost value of `task`.
    pub fn build(&self, task: &Task) -> Pid {
        Pid::new(self.pid, task.threshold, self.multiplier_cap)
    }
}

/// Of the one phase of a learner.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Schedule {
    /// Rows in a batch.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub batch_size: usize,
    /// Gradient steps.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub update_steps: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { batch_size: 512, update_steps: 100_000 }
    }
}

impl Schedule {
    pub fn quick(update_steps: u64) -> Self {
        Schedule { batch_size: 256, update_steps }
    }
}
