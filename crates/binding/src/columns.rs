//! `NativeColumns`: transitions as typed arrays of JavaScript.

use std::collections::HashMap;

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
    /// Further numbers a step, `[N]` each by its name: other costs, which limits may be given for.
    pub further: Option<HashMap<String, Float32Array>>,
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
        let floats = |values: &[f32]| copied(values, |value| value, &self.source);
        let flags = |values: &[u8]| copied(values, |byte| byte != 0, &self.source);
        // By name: a table of JavaScript comes in no order.
        let mut named: Vec<_> = self.further.iter().flatten().collect();
        named.sort_by_key(|(name, _)| *name);
        let further = named.into_iter().map(|(name, values)| Ok((name.clone(), floats(values)?)));
        let columns = Columns {
            obs_dim: self.obs_dim as usize,
            act_dim: self.act_dim as usize,
            observations: floats(&self.observations)?,
            next_observations: floats(&self.next_observations)?,
            actions: floats(&self.actions)?,
            rewards: floats(&self.rewards)?,
            costs: floats(&self.costs)?,
            cost_name: None,
            further: further.collect::<Outcome<_>>()?,
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
            further: match columns.further.as_slice() {
                [] => None,
                further => {
                    let named = further.iter().map(|(name, values)| Ok((name.clone(), floats(values)?)));
                    Some(named.collect::<Outcome<_>>()?)
                }
            },
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
