//! `NativeDataset`: columns in host memory.

use std::mem::size_of;
use std::path::Path;
use std::sync::Arc;

use drcorl_data::{read_dsrl_with, Columns, ReadOptions};
use napi::bindgen_prelude::{AsyncTask, Float32Array, Float64Array, ObjectFinalize, Uint32Array, Uint8Array};
use napi::Env;
use napi_derive::napi;

use crate::error::{guard, Failure, Job, Outcome, Result};

/// `N` transitions as flat row-major arrays, in recorded order.
#[napi(object)]
pub struct NativeColumns {
    /// Entries `S` of an observation.
    pub obs_dim: u32,
    /// Entries `A` of an action.
    pub act_dim: u32,
    /// `[N*S]`, before the step.
    pub observations: Float32Array,
    /// `[N*S]`, after the step.
    pub next_observations: Float32Array,
    /// `[N*A]`
    pub actions: Float32Array,
    /// `[N]`
    pub rewards: Float32Array,
    /// `[N]`
    pub costs: Float32Array,
    /// `[N]`, not 0 where the environment ended the episode.
    pub terminals: Uint8Array,
    /// `[N]`, not 0 where the time limit ended the episode.
    pub timeouts: Uint8Array,
    /// Where the data came from; messages name it.
    pub source: String,
}

impl NativeColumns {
    /// A checked copy.
    fn to_columns(&self) -> Outcome<Columns> {
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

    fn from_columns(columns: &Columns) -> Outcome<Self> {
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

/// Episodes of a dataset in their order; rows after the last end flag are one more.
#[napi(object)]
pub struct NativeEpisodes {
    /// Undiscounted sum of rewards, one an episode.
    pub returns: Float64Array,
    /// Undiscounted sum of costs.
    pub costs: Float64Array,
    /// Transitions.
    pub lengths: Uint32Array,
}

/// A checked dataset in native memory. Trainers share it without a copy.
#[napi(custom_finalize)]
pub struct NativeDataset {
    columns: Arc<Columns>,
}

impl NativeDataset {
    pub fn columns_arc(&self) -> Arc<Columns> {
        Arc::clone(&self.columns)
    }

    fn bytes(&self) -> i64 {
        let c = &self.columns;
        let floats =
            c.observations.len() + c.next_observations.len() + c.actions.len() + c.rewards.len() + c.costs.len();
        (floats * size_of::<f32>() + c.terminals.len() + c.timeouts.len()) as i64
    }

    /// Lets the garbage collector know what it would free; a hint, so a refusal does no harm.
    fn announce(&self, env: &Env) {
        let _ = env.adjust_external_memory(self.bytes());
    }
}

impl ObjectFinalize for NativeDataset {
    fn finalize(self, env: Env) -> napi::Result<()> {
        env.adjust_external_memory(-self.bytes()).map(|_| ())
    }
}

#[napi]
impl NativeDataset {
    /// Reads and checks a DSRL HDF5 file. An episode of more than `episodeLength` steps is refused.
    ///
    /// Rejects with code `Io` or `Data`, naming file, key and value.
    #[napi(ts_return_type = "Promise<NativeDataset>")]
    pub fn open(path: String, episode_length: Option<u32>) -> AsyncTask<Job<NativeDataset>> {
        let options = ReadOptions { episode_length: episode_length.map(|steps| steps as usize) };
        let read = move || Ok(NativeDataset { columns: Arc::new(read_dsrl_with(Path::new(&path), &options)?) });
        Job::spawn_then(read, NativeDataset::announce)
    }

    /// Checks columns made in JavaScript and copies them. Throws with code `Data`, naming the column and the value.
    #[napi]
    pub fn from_columns(env: Env, columns: NativeColumns) -> Result<NativeDataset> {
        let dataset = guard(|| Ok(NativeDataset { columns: Arc::new(columns.to_columns()?) }))?;
        dataset.announce(&env);
        Ok(dataset)
    }

    /// Sizes and distributions of returns, costs and lengths, as JSON.
    #[napi]
    pub fn summary(&self) -> Result<String> {
        let text = guard(|| {
            let summary = serde_json::to_string(&self.columns.summary());
            summary.map_err(|error| Failure::new("Data", format!("{}: {error}", self.columns.source)))
        })?;
        Ok(text)
    }

    /// Return, cost and length of every episode.
    #[napi]
    pub fn episodes(&self) -> Result<NativeEpisodes> {
        Ok(guard(|| {
            let episodes = self.columns.episodes();
            Ok(NativeEpisodes {
                returns: Float64Array::new(episodes.iter().map(|e| e.ret).collect()),
                costs: Float64Array::new(episodes.iter().map(|e| e.cost).collect()),
                lengths: Uint32Array::new(episodes.iter().map(|e| e.len() as u32).collect()),
            })
        })?)
    }

    /// A copy of all columns.
    #[napi]
    pub fn columns(&self) -> Result<NativeColumns> {
        Ok(guard(|| NativeColumns::from_columns(&self.columns))?)
    }
}
