//! `NativePolicy`: actions of a trained policy, without torch.

use std::path::Path;

use drcorl_actor::{Actor, Scratch};
use napi::bindgen_prelude::Float32ArraySlice;
use napi::Env;
use napi_derive::napi;

use crate::error::{guard, Failure, Result};

/// A policy read from `policy.safetensors`.
#[napi]
pub struct NativePolicy {
    actor: Actor,
    scratch: Scratch,
    /// Result of `act`, kept so that a call allocates in JavaScript only.
    actions: Vec<f32>,
}

#[napi]
impl NativePolicy {
    /// Throws with code `Io`, `Data` or `Shape`, naming file and field.
    #[napi]
    pub fn load(path: String) -> Result<NativePolicy> {
        let actor = guard(|| Ok(Actor::load(Path::new(&path))?))?;
        let scratch = actor.scratch();
        Ok(NativePolicy { actor, scratch, actions: Vec::new() })
    }

    /// Entries `S` of an observation.
    #[napi(getter)]
    pub fn obs_dim(&self) -> u32 {
        self.actor.obs_dim() as u32
    }

    /// Entries `A` of an action.
    #[napi(getter)]
    pub fn act_dim(&self) -> u32 {
        self.actor.act_dim() as u32
    }

    /// What the file says about its origin, as JSON.
    #[napi(getter)]
    pub fn metadata(&self) -> Result<String> {
        let text = serde_json::to_string(self.actor.metadata());
        Ok(text.map_err(|error| Failure::new("Data", format!("metadata of the policy: {error}")))?)
    }

    /// `n*S` observations to `n*A` actions. Throws with code `Shape` or `Data`.
    #[napi]
    pub fn act<'env>(&mut self, env: &'env Env, observations: Float32ArraySlice) -> Result<Float32ArraySlice<'env>> {
        let rows = observations.len() / self.actor.obs_dim();
        self.actions.resize(rows * self.actor.act_dim(), 0.0);
        guard(|| Ok(self.actor.act(&observations, &mut self.actions, &mut self.scratch)?))?;
        let actions = Float32ArraySlice::copy_from(env, &self.actions);
        Ok(actions.map_err(|error| Failure::new("Shape", error.reason))?)
    }

    /// As `act`, into an array of the caller; nothing is allocated.
    #[napi]
    pub fn act_into(&mut self, observations: Float32ArraySlice, mut actions: Float32ArraySlice) -> Result<()> {
        let (input, output) = (observations.as_ptr_range(), actions.as_ptr_range());
        if !actions.is_empty() && input.start < output.end && output.start < input.end {
            return Err(Failure::new("Shape", "actions: shares memory with observations; give another array").into());
        }
        // SAFETY: JavaScript waits for this call, and the check above leaves no second view of these bytes in it.
        let actions = unsafe { actions.as_mut() };
        Ok(guard(|| Ok(self.actor.act(&observations, actions, &mut self.scratch)?))?)
    }
}
