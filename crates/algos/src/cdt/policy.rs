//! The trained network as a policy: a file of kind `sequence`, which `drcorl-actor` plays for everyone,
//! the offline judges included.
//!
//! There is one implementation of acting, with keys and values kept between steps;
//! a test holds it to the network's own forward pass.

use super::config::{CdtConfig, CostFeature, CostTransform};
use drcorl_actor::PolicyFile;
use drcorl_core::error::Result;
use drcorl_core::policy::{host, PlayedFile};
use drcorl_nn::Arena;

/// What the policy is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Targets {
    /// Undiscounted, raw.
    pub ret: f64,
    pub cost: f64,
}

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

/// The weights that act, at one moment: a copy of the network in `arena`.
pub fn freeze(arena: &Arena, config: &CdtConfig, targets: Targets) -> Result<PlayedFile> {
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
    let width = |name: &str| file.tensors.get(name).and_then(|array| array.shape.get(1)).copied().unwrap_or(0);
    let (states, actions) = (width("state_emb.weight"), width("action_emb.weight"));
    Ok(PlayedFile::new(file, states as i64, actions as i64))
}
