//! `NativeDataset`: a checked dataset in memory.

use std::path::Path;
use std::sync::Arc;

use drcorl_binding::{guard, Failure, Job, NativeColumn, NativeColumns, Outcome, Result};
use drcorl_data::{check, read_dsrl_with, Columns, Costs, ReadOptions};
use napi::bindgen_prelude::{AsyncTask, Float32Array, Float64Array, ObjectFinalize, Uint32Array};
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

/// How large a dataset is, and where it came from.
#[napi(object)]
pub struct NativeShape {
    /// Transitions.
    pub rows: f64,
    /// Entries of an observation.
    #[napi(js_name = "obs_dim")]
    pub obs_dim: u32,
    /// Entries of an action.
    #[napi(js_name = "act_dim")]
    pub act_dim: u32,
    /// Messages name it.
    pub source: String,
    /// Names of its costs: what `costs` holds, then the further columns.
    pub costs: Vec<String>,
}

/// A checked dataset in native memory.
#[napi(custom_finalize)]
pub struct NativeDataset {
    /// None once it was released.
    columns: Option<Arc<Columns>>,
}

impl NativeDataset {
    fn of(columns: Columns) -> Self {
        NativeDataset { columns: Some(Arc::new(columns)) }
    }

    fn held(&self) -> Outcome<&Arc<Columns>> {
        self.columns.as_ref().ok_or_else(|| Failure::new("Config", "the dataset was released; load it again"))
    }

    /// Errs once it was released.
    pub fn columns_arc(&self) -> Outcome<Arc<Columns>> {
        self.held().map(Arc::clone)
    }

    /// Lets the garbage collector know what it would free; a hint, so a refusal does no harm.
    fn announce(&self, env: &Env) {
        let _ = env.adjust_external_memory(self.columns.as_ref().map_or(0, |columns| columns.bytes()) as i64);
    }
}

impl ObjectFinalize for NativeDataset {
    fn finalize(self, env: Env) -> napi::Result<()> {
        let bytes = self.columns.map_or(0, |columns| columns.bytes());
        env.adjust_external_memory(-(bytes as i64)).map(|_| ())
    }
}

#[napi]
impl NativeDataset {
    /// Reads and checks a DSRL HDF5 file. An episode of more than `episode_length` steps is refused (none is by
    /// default), and a file that would take more than `maxMemory` bytes (default: a hundred times its size, at least 64
    /// MiB, at most 80 % of the memory that is free). `costs` names the columns of one number a step that are its
    /// costs, the first in the place of `costs`; none reads `costs` alone, an empty list every such column beside it.
    ///
    /// Rejects with code `Io` or `Data`, naming file, key and value.
    #[napi(
        ts_args_type = "path: string, episode_length?: number | undefined | null, maxMemory?: number | undefined | null, costs?: Array<string> | undefined | null",
        ts_return_type = "Promise<NativeDataset>"
    )]
    pub fn open(
        path: String,
        episode_length: Option<u32>,
        max_memory: Option<f64>,
        costs: Option<Vec<String>>,
    ) -> AsyncTask<Job<NativeDataset>> {
        let options = ReadOptions {
            episode_length: episode_length.map(|steps| steps as usize),
            max_memory: max_memory.map(|bytes| bytes as u64),
            costs: match costs {
                None => Costs::Own,
                Some(names) if names.is_empty() => Costs::All,
                Some(names) => Costs::Named(names),
            },
        };
        let read = move || Ok(NativeDataset::of(read_dsrl_with(Path::new(&path), &options)?));
        Job::spawn_then(read, NativeDataset::announce)
    }

    /// Checks columns made in JavaScript and copies them, with further ones; `cost` is the name of what `costs` holds,
    /// if it is not `costs`.
    ///
    /// Throws with code `Data`, naming the column and the value.
    #[napi]
    pub fn from_columns(
        env: Env,
        columns: NativeColumns,
        further: Option<Vec<NativeColumn>>,
        cost: Option<String>,
    ) -> Result<NativeDataset> {
        let dataset = guard(|| Ok(NativeDataset::of(columns.to_columns(&further.unwrap_or_default(), cost)?)))?;
        dataset.announce(&env);
        Ok(dataset)
    }

    /// Sizes and distributions of returns, costs and lengths, as JSON: `DatasetSummary` of `src/data`.
    #[napi]
    pub fn summary(&self) -> Result<String> {
        let text = guard(|| {
            let columns = self.held()?;
            let summary = serde_json::to_string(&columns.summary());
            summary.map_err(|error| Failure::new("Data", format!("{}: {error}", columns.source)))
        })?;
        Ok(text)
    }

    /// What is odd about the data, errors first, as JSON: a list of `Finding` of `src/data`. A few passes over
    /// all columns.
    #[napi]
    pub fn findings(&self) -> Result<String> {
        let text = guard(|| {
            let columns = self.held()?;
            let findings = serde_json::to_string(&check(columns));
            findings.map_err(|error| Failure::new("Data", format!("{}: {error}", columns.source)))
        })?;
        Ok(text)
    }

    /// Return, cost and length of every episode.
    #[napi]
    pub fn episodes(&self) -> Result<NativeEpisodes> {
        Ok(guard(|| {
            let episodes = self.held()?.episodes();
            Ok(NativeEpisodes {
                returns: Float64Array::new(episodes.iter().map(|e| e.ret).collect()),
                costs: Float64Array::new(episodes.iter().map(|e| e.cost).collect()),
                lengths: Uint32Array::new(episodes.iter().map(|e| e.len() as u32).collect()),
            })
        })?)
    }

    /// How large it is, without a pass over its columns.
    #[napi]
    pub fn shape(&self) -> Result<NativeShape> {
        Ok(guard(|| {
            let columns = self.held()?;
            let (obs_dim, act_dim) = (columns.obs_dim as u32, columns.act_dim as u32);
            let further = columns.further.iter().map(|(name, _)| name.clone());
            let costs = std::iter::once(columns.cost_name().to_owned()).chain(further).collect();
            Ok(NativeShape { rows: columns.len() as f64, obs_dim, act_dim, source: columns.source.clone(), costs })
        })?)
    }

    /// Copies values of the column of that name (`further/NAME` for a further one), from the flat index `from` on; a
    /// flag is 0 or 1. Returns how many.
    ///
    /// Throws with code `Data` for a name that is none.
    #[napi]
    pub fn copy_values(&self, column: String, from: f64, mut into: Float32Array) -> Result<u32> {
        // SAFETY: the array is JavaScript's, which waits for this call.
        let into = unsafe { into.as_mut() };
        Ok(guard(|| Ok(self.held()?.copy_values(&column, from as usize, into)? as u32))?)
    }

    /// Gives the columns up now instead of at garbage collection: what is asked afterwards is an error.
    #[napi]
    pub fn release(&mut self, env: Env) {
        if let Some(columns) = self.columns.take() {
            let _ = env.adjust_external_memory(-(columns.bytes() as i64));
        }
    }

    /// A copy of all columns but the further ones, which `copyValues` copies.
    ///
    /// Throws with code `Shape` if an observation or action has more than 2^32 - 1 entries.
    #[napi]
    pub fn columns(&self) -> Result<NativeColumns> {
        Ok(guard(|| NativeColumns::from_columns(self.held()?))?)
    }
}
