//! `NativeDataset`: a checked dataset in memory.

use std::path::Path;
use std::sync::Arc;

use drcorl_binding::{guard, Failure, Job, NativeColumns, Result};
use drcorl_data::{check, read_dsrl_with, Columns, ReadOptions};
use napi::bindgen_prelude::{AsyncTask, Float64Array, ObjectFinalize, Uint32Array};
use napi::Env;
use napi_derive::napi;

/// Episodes of a dataset in their order; rows after the last end flag are one more.
#[napi(object)]
pub struct NativeEpisodes {
    /// `[E]`, sums of rewards.
    pub returns: Float64Array,
    /// `[E]`, sums of costs.
    pub costs: Float64Array,
    /// `[E]`, transitions.
    pub lengths: Uint32Array,
}

/// A checked dataset in native memory.
#[napi(custom_finalize)]
pub struct NativeDataset {
    columns: Arc<Columns>,
}

impl NativeDataset {
    pub fn columns_arc(&self) -> Arc<Columns> {
        Arc::clone(&self.columns)
    }

    /// Lets the garbage collector know what it would free; a hint, so a refusal does no harm.
    fn announce(&self, env: &Env) {
        let _ = env.adjust_external_memory(self.columns.bytes() as i64);
    }
}

impl ObjectFinalize for NativeDataset {
    fn finalize(self, env: Env) -> napi::Result<()> {
        env.adjust_external_memory(-(self.columns.bytes() as i64)).map(|_| ())
    }
}

#[napi]
impl NativeDataset {
    /// Reads and checks a DSRL HDF5 file. An episode of more than `episode_length` steps is refused (none is by
    /// default), and a file that would take more than `maxMemory` bytes (default: a hundred times its size, at least 64
    /// MiB, at most 80 % of the memory that is free).
    ///
    /// Rejects with code `Io` or `Data`, naming file, key and value.
    #[napi(
        ts_args_type = "path: string, episode_length?: number | undefined | null, maxMemory?: number | undefined | null",
        ts_return_type = "Promise<NativeDataset>"
    )]
    pub fn open(path: String, episode_length: Option<u32>, max_memory: Option<f64>) -> AsyncTask<Job<NativeDataset>> {
        let options = ReadOptions {
            episode_length: episode_length.map(|steps| steps as usize),
            max_memory: max_memory.map(|bytes| bytes as u64),
        };
        let read = move || Ok(NativeDataset { columns: Arc::new(read_dsrl_with(Path::new(&path), &options)?) });
        Job::spawn_then(read, NativeDataset::announce)
    }

    /// Checks columns made in JavaScript and copies them.
    ///
    /// Throws with code `Data`, naming the column and the value.
    #[napi]
    pub fn from_columns(env: Env, columns: NativeColumns) -> Result<NativeDataset> {
        let dataset = guard(|| Ok(NativeDataset { columns: Arc::new(columns.to_columns()?) }))?;
        dataset.announce(&env);
        Ok(dataset)
    }

    /// Sizes and distributions of returns, costs and lengths, as JSON: `DatasetSummary` of `src/data`.
    #[napi]
    pub fn summary(&self) -> Result<String> {
        let text = guard(|| {
            let summary = serde_json::to_string(&self.columns.summary());
            summary.map_err(|error| Failure::new("Data", format!("{}: {error}", self.columns.source)))
        })?;
        Ok(text)
    }

    /// What is odd about the data, errors first, as JSON: a list of `Finding` of `src/data`. A few passes over
    /// all columns.
    #[napi]
    pub fn findings(&self) -> Result<String> {
        let text = guard(|| {
            let findings = serde_json::to_string(&check(&self.columns));
            findings.map_err(|error| Failure::new("Data", format!("{}: {error}", self.columns.source)))
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
    ///
    /// Throws with code `Shape` if an observation or action has more than 2^32 - 1 entries.
    #[napi]
    pub fn columns(&self) -> Result<NativeColumns> {
        Ok(guard(|| NativeColumns::from_columns(&self.columns))?)
    }
}
