//! The trained network as a policy: a file of kind `sequence`, which `drcorl-actor` plays for everyone,
//! the offline judges included.
//!
//! There is one implementation of acting, with keys and values kept between steps;
//! a test holds it to the network's own forward pass.

use super::config::{CdtConfig, CostFeature, CostTransform};
use drcorl_actor::{Actor, PolicyFile};
use drcorl_core::error::{Error, Result};
use drcorl_core::policy::{host, FrozenPolicy, Player, Turn};
use drcorl_nn::Arena;
use tch::{Kind, Tensor};

/// What the policy is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Targets {
    /// Undiscounted, raw.
    pub ret: f64,
    pub cost: f64,
}

/// The weights that act, at one moment.
pub struct FrozenCdt(PolicyFile);

/// Parameters no action depends on.
fn idle(name: &str) -> bool {
    name.starts_with("state_pred_head") || name.starts_with("cost_pred_head") || name.contains("log_std")
}

/// The name of a parameter in the file: layers of the action head are numbered, everything else is as published.
fn file_name(name: &str) -> String {
    let Some(rest) = name.strip_prefix("action_head.") else { return name.into() };
    let mut parts: Vec<&str> = rest.split('.').collect();
    let parameter = parts.pop().unwrap_or_default();
    // `0.weight`, `2.mu.weight`, or `mu.weight` where there is one layer.
    let index = parts.first().and_then(|part| part.parse::<usize>().ok()).unwrap_or(0);
    format!("head.{}.{parameter}", index / 2)
}

impl FrozenCdt {
    /// A copy of the network in `arena`.
    pub fn copy(arena: &Arena, config: &CdtConfig, targets: Targets) -> Result<FrozenCdt> {
        let mut file = PolicyFile::new("sequence");
        for name in arena.names().filter(|name| !idle(name)) {
            let Some((value, _)) = arena.named(name) else { continue };
            let shape: Vec<usize> = value.size().iter().map(|&d| d as usize).collect();
            file.insert(&file_name(name), &shape, host(value)?);
        }
        let (offset, sign) = match config.cost_transform {
            CostTransform::FiftyMinus => (50.0, -1.0),
            CostTransform::None => (0.0, 1.0),
        };
        let feature = match config.cost_feature {
            CostFeature::None => "none",
            CostFeature::Add => "add",
            CostFeature::Multiply => "multiply",
            CostFeature::Concatenate => "concatenate",
        };
        file.set("heads", config.heads);
        file.set("blocks", config.blocks);
        file.set("head_layers", config.action_layers);
        file.set("context", config.context_length);
        file.set("cost_feature", feature);
        file.set("cost_offset", offset);
        file.set("cost_sign", sign);
        file.set("reward_scale", config.reward_scale);
        file.set("cost_scale", config.cost_scale);
        file.set_setting("target_return", targets.ret);
        // The name every policy has for the limit it keeps to.
        file.set_setting("cost_limit", targets.cost);
        Ok(FrozenCdt(file))
    }

    /// The policy on normalised observations, with actions in [-1,1].
    pub fn actor(&self) -> Result<Actor> {
        let width = |name: &str| self.0.tensors.get(name).and_then(|array| array.shape.get(1)).copied().unwrap_or(0);
        let (states, actions) = (width("state_emb.weight"), width("action_emb.weight"));
        let mut file = self.0.clone();
        for (name, width, value) in [
            ("observation.mean", states, 0.0),
            ("observation.std", states, 1.0),
            ("action.low", actions, -1.0),
            ("action.high", actions, 1.0),
        ] {
            file.insert(name, &[width], vec![value; width]);
        }
        Actor::new(&file).map_err(|error| Error::Data(error.to_string()))
    }
}

/// The actor at play on tensors.
struct TensorPlayer {
    player: drcorl_actor::Player,
    actions: usize,
}

impl Player for TensorPlayer {
    fn act(&mut self, turn: &Turn<'_>) -> Tensor {
        let [observations, rewards, costs] =
            [turn.observation, turn.reward, turn.cost].map(|x| host(x).expect("a float tensor can be copied"));
        let rows = turn.observation.size()[0];
        let mut actions = vec![0f32; rows as usize * self.actions];
        let turn_of = drcorl_actor::Turn { observations: &observations, rewards: &rewards, costs: &costs };
        // Values that are not finite are refused there; here they stay what they are, and the caller sees them.
        if self.player.act(turn_of, &mut actions).is_err() {
            actions.fill(f32::NAN);
        }
        Tensor::from_slice(&actions).view([rows, -1]).to_device(turn.observation.device()).to_kind(Kind::Float)
    }
}

impl FrozenPolicy for FrozenCdt {
    fn start(&self, _rows: i64) -> Box<dyn Player + '_> {
        let actor = self.actor().expect("a file this module wrote can be read");
        Box::new(TensorPlayer { actions: actor.act_dim(), player: actor.play() })
    }

    fn remembers(&self) -> bool {
        true
    }

    fn file(&self) -> Result<PolicyFile> {
        Ok(self.0.clone())
    }
}
