//! `NativePolicy`: actions of a trained policy of any kind, without torch.

use std::path::Path;

use drcorl_actor::{Actor, Player, Turn};
use drcorl_binding::{guard, Failure, Result};
use napi::bindgen_prelude::{Float32ArraySlice, ObjectFinalize};
use napi::Env;
use napi_derive::napi;

/// A policy read from `policy.safetensors`, and what it remembers of the episodes it plays.
#[napi(custom_finalize)]
pub struct NativePolicy {
    actor: Actor,
    player: Player,
    /// Result of `act`, kept so that a call allocates in JavaScript only.
    actions: Vec<f32>,
}

impl ObjectFinalize for NativePolicy {
    fn finalize(self, env: Env) -> napi::Result<()> {
        env.adjust_external_memory(-(self.actor.bytes() as i64)).map(|_| ())
    }
}

#[napi]
impl NativePolicy {
    /// Reads a policy of any kind, from a regular file of at most 2^28 bytes.
    ///
    /// Throws with code `Io`, `Data` or `Shape`, naming file and field.
    #[napi]
    pub fn load(env: Env, path: String) -> Result<NativePolicy> {
        let actor = guard(|| Ok(Actor::load(Path::new(&path))?))?;
        let player = actor.play();
        // The garbage collector sees a small object; a hint, so a refusal does no harm.
        let _ = env.adjust_external_memory(actor.bytes() as i64);
        Ok(NativePolicy { actor, player, actions: Vec::new() })
    }

    /// Entries `S` of an observation.
    #[napi(getter, js_name = "obs_dim")]
    pub fn obs_dim(&self) -> u32 {
        self.actor.obs_dim() as u32
    }

    /// Entries `A` of an action.
    #[napi(getter, js_name = "act_dim")]
    pub fn act_dim(&self) -> u32 {
        self.actor.act_dim() as u32
    }

    /// What the file says about its origin, as JSON: an object of strings.
    #[napi(getter)]
    pub fn metadata(&self) -> Result<String> {
        json("metadata", serde_json::to_string(self.actor.metadata()))
    }

    /// What `set` can change, with the current values, as JSON: an object of numbers, the targets or limits the policy
    /// is conditioned on.
    #[napi(getter)]
    pub fn settings(&self) -> Result<String> {
        json("settings", serde_json::to_string(self.actor.settings()))
    }

    /// Changes a setting and forgets all episodes.
    ///
    /// Throws with code `Data` if the policy has no such setting or the value is not finite.
    #[napi]
    pub fn set(&mut self, name: String, value: f64) -> Result<()> {
        guard(|| Ok(self.actor.set(&name, value)?))?;
        self.player = self.actor.play();
        Ok(())
    }

    /// Forgets the episodes of these rows; called before their first action of an episode. `seeds`, one a row, are
    /// those of the episodes: a policy that draws what an episode is played by repeats itself by them.
    #[napi]
    pub fn reset(&mut self, rows: Vec<u32>, seeds: Option<Vec<i64>>) {
        let rows: Vec<usize> = rows.into_iter().map(|row| row as usize).collect();
        let seeds: Vec<u64> = seeds.unwrap_or_default().into_iter().map(i64::cast_unsigned).collect();
        self.player.begin(&rows, &seeds);
    }

    /// Observations `[R*S]` to actions `[R*A]`. `rewards` and `costs`, each `[R]` or none, answer the previous actions;
    /// policies without memory ignore them.
    ///
    /// Throws with code `Shape` if an array has another length, `Data` if a value is not finite.
    #[napi]
    pub fn act<'env>(
        &mut self,
        env: &'env Env,
        observations: Float32ArraySlice,
        rewards: Option<Float32ArraySlice>,
        costs: Option<Float32ArraySlice>,
    ) -> Result<Float32ArraySlice<'env>> {
        let rows = observations.len() / self.actor.obs_dim();
        self.actions.resize(rows * self.actor.act_dim(), 0.0);
        let turn = turn(&observations, rewards.as_deref(), costs.as_deref());
        guard(|| Ok(self.player.act(turn, &mut self.actions)?))?;
        let actions = Float32ArraySlice::copy_from(env, &self.actions);
        Ok(actions.map_err(|error| Failure::new("Shape", error.reason))?)
    }

    /// As `act`, into an array `[R*A]` of the caller, which shares no memory with the others; nothing is allocated.
    #[napi]
    pub fn act_into(
        &mut self,
        observations: Float32ArraySlice,
        mut actions: Float32ArraySlice,
        rewards: Option<Float32ArraySlice>,
        costs: Option<Float32ArraySlice>,
    ) -> Result<()> {
        let output = actions.as_ptr_range();
        let inputs = [Some(&observations), rewards.as_ref(), costs.as_ref()];
        for (name, input) in ["observations", "rewards", "costs"].iter().zip(inputs) {
            let Some(input) = input.map(|array| array.as_ptr_range()) else { continue };
            if input.start < output.end && output.start < input.end {
                let text = format!("actions: shares memory with {name}; give another array");
                return Err(Failure::new("Shape", text).into());
            }
        }
        // SAFETY: JavaScript waits for this call, and the check above leaves no second view of these bytes in it.
        let actions = unsafe { actions.as_mut() };
        let turn = turn(&observations, rewards.as_deref(), costs.as_deref());
        Ok(guard(|| Ok(self.player.act(turn, actions)?))?)
    }
}

fn turn<'a>(observations: &'a [f32], rewards: Option<&'a [f32]>, costs: Option<&'a [f32]>) -> Turn<'a> {
    Turn { observations, rewards: rewards.unwrap_or_default(), costs: costs.unwrap_or_default() }
}

fn json(what: &str, text: serde_json::Result<String>) -> Result<String> {
    Ok(text.map_err(|error| Failure::new("Data", format!("{what} of the policy: {error}")))?)
}
