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

/// A further number a step: a cost of its own, which a limit may be given for.
#[napi(object, object_to_js = false)]
pub struct NativeColumn {
    /// Of the column, as a limit names it.
    pub name: String,
    /// `[N]`
    pub values: Float32Array,
}

impl NativeColumns {
    /// A checked copy in native memory, with these further columns; `cost_name` is that of `costs`, if it has another.
    pub fn to_columns(&self, further: &[NativeColumn], cost_name: Option<String>) -> Outcome<Columns> {
        let floats = |values: &[f32]| copied(values, |value| value, &self.source);
        let flags = |values: &[u8]| copied(values, |byte| byte != 0, &self.source);
        let mut named = Vec::new();
        for column in further {
            named.push((column.name.clone(), floats(&column.values)?));
        }
        let columns = Columns {
            obs_dim: self.obs_dim as usize,
            act_dim: self.act_dim as usize,
            observations: floats(&self.observations)?,
            next_observations: floats(&self.next_observations)?,
            actions: floats(&self.actions)?,
            rewards: floats(&self.rewards)?,
            costs: floats(&self.costs)?,
            cost_name,
            further: named,
            terminals: flags(&self.terminals)?,
            timeouts: flags(&self.timeouts)?,
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
        let floats = |values: &[f32]| copied(values, |value| value, &columns.source).map(Float32Array::new);
        let flags = |values: &[bool]| copied(values, u8::from, &columns.source).map(Uint8Array::new);
        Ok(NativeColumns {
            obs_dim: dim(columns.obs_dim)?,
            act_dim: dim(columns.act_dim)?,
            observations: floats(&columns.observations)?,
            next_observations: floats(&columns.next_observations)?,
            actions: floats(&columns.actions)?,
            rewards: floats(&columns.rewards)?,
            costs: floats(&columns.costs)?,
            terminals: flags(&columns.terminals)?,
            timeouts: flags(&columns.timeouts)?,
            source: columns.source.clone(),
        })
    }
}

/// The values as others; where the memory is not there, an error and not the end of the process.
fn copied<T: Copy, U>(values: &[T], as_other: impl Fn(T) -> U, source: &str) -> Outcome<Vec<U>> {
    let mut copy = Vec::new();
    if copy.try_reserve_exact(values.len()).is_err() {
        let text = format!("{source}: no memory for a copy of {} values; free some, or give fewer", values.len());
        return Err(Failure::new("Data", text));
    }
    copy.extend(values.iter().map(|&value| as_other(value)));
    Ok(copy)
}
