//! `NativeColumns`: transitions as typed arrays of JavaScript.

use drcorl_data::Columns;
use napi::bindgen_prelude::{Float32Array, Uint8Array};
use napi_derive::napi;

use crate::error::{Failure, Outcome};

/// `N` transitions as flat row-major arrays, in recorded order.
#[napi(object)]
pub struct NativeColumns {
    /// Entries `S` of an observation.
    #[napi(js_name = "obs_dim")]
    pub obs_dim: u32,
    /// Entries `A` of an action.
    #[napi(js_name = "act_dim")]
    pub act_dim: u32,
    /// `[N*S]`, before the step, in the units of the environment.
    pub observations: Float32Array,
    /// `[N*S]`, after the step.
    #[napi(js_name = "next_observations")]
    pub next_observations: Float32Array,
    /// `[N*A]`, as they were taken.
    pub actions: Float32Array,
    /// `[N]`, of the step.
    pub rewards: Float32Array,
    /// `[N]`, of the step.
    pub costs: Float32Array,
    /// `[N]`, not 0 where the environment ended the episode.
    pub terminals: Uint8Array,
    /// `[N]`, not 0 where the time limit ended the episode.
    pub timeouts: Uint8Array,
    /// Where the data came from; messages name it.
    pub source: String,
}

impl NativeColumns {
    /// A checked copy in native memory.
    pub fn to_columns(&self) -> Outcome<Columns> {
        let flags = |bytes: &Uint8Array| bytes.iter().map(|&byte| byte != 0).collect();
        let columns = Columns {
            obs_dim: self.obs_dim as usize,
            act_dim: self.act_dim as usize,
            observations: self.observations.to_vec(),
            next_observations: self.next_observations.to_vec(),
            actions: self.actions.to_vec(),
            rewards: self.rewards.to_vec(),
            costs: self.costs.to_vec(),
            terminals: flags(&self.terminals),
            timeouts: flags(&self.timeouts),
            source: self.source.clone(),
        };
        Ok(columns.validate()?)
    }

    /// A copy for JavaScript.
    pub fn from_columns(columns: &Columns) -> Outcome<Self> {
        let dim = |value: usize| {
            u32::try_from(value)
                .map_err(|_| Failure::new("Shape", format!("{}: {value} entries in a row", columns.source)))
        };
        let bytes = |flags: &[bool]| Uint8Array::new(flags.iter().map(|&flag| u8::from(flag)).collect());
        Ok(NativeColumns {
            obs_dim: dim(columns.obs_dim)?,
            act_dim: dim(columns.act_dim)?,
            observations: Float32Array::new(columns.observations.clone()),
            next_observations: Float32Array::new(columns.next_observations.clone()),
            actions: Float32Array::new(columns.actions.clone()),
            rewards: Float32Array::new(columns.rewards.clone()),
            costs: Float32Array::new(columns.costs.clone()),
            terminals: bytes(&columns.terminals),
            timeouts: bytes(&columns.timeouts),
            source: columns.source.clone(),
        })
    }
}
