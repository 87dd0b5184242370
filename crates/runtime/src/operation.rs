//! `NativeOperation`: work on files that JavaScript waits for, watches and may cancel.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use drcorl_binding::{Failure, Job, Outcome};
use drcorl_data::{
    convert, filter, read_dsrl_with, split, write_dsrl, ConvertOptions, Costs, FilterOptions, ReadOptions,
    SplitOptions, Watch,
};
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;
use serde::de::DeserializeOwned;

use crate::dataset::NativeDataset;
use crate::unpack::{unpack, unpack_wheel};

/// One operation on files, which may be watched and cancelled. They are read and written in native memory; the output
/// appears only when it is complete.
#[napi]
pub struct NativeOperation {
    watch: Arc<Watch>,
}

#[napi]
impl NativeOperation {
    /// An operation that has yet to begin, with one call of `filter`, `split`, `convert`, `unpack`,
    /// `unpackWheel` or `write`.
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        NativeOperation { watch: Arc::new(Watch::default()) }
    }

    /// Ends the operation soon: its promise rejects with code `Cancelled`, and no file is left.
    #[napi]
    pub fn cancel(&self) {
        self.watch.cancel();
    }

    /// `[2]`: units done and units in all (0 while unknown). Units are bytes of the input for `convert`, `unpack` and
    /// `unpackWheel`, rows of the output for `filter`, `split` and `write`.
    #[napi]
    pub fn progress(&self) -> Vec<f64> {
        let (done, total) = self.watch.progress();
        vec![done as f64, total as f64]
    }

    /// DSRL's pre-processing of a file into another. Options and report are JSON: `FilterOptions` and `FilterReport` of
    /// `src/data`. `maxMemory` as for `NativeDataset.open`.
    ///
    /// Rejects with code `Io`, `Data`, `Config` or `Cancelled`.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn filter(
        &self,
        input: String,
        output: String,
        options: String,
        max_memory: Option<f64>,
    ) -> AsyncTask<Job<String>> {
        let watch = Arc::clone(&self.watch);
        Job::spawn(move || {
            let parsed: FilterOptions = parse(&options)?;
            let max_memory = max_memory.map(|bytes| bytes as u64);
            let columns = read_dsrl_with(
                Path::new(&input),
                &ReadOptions { max_memory, costs: Costs::All, ..ReadOptions::default() },
            )?;
            let (columns, report) = filter(columns, &parsed, &watch)?;
            write_dsrl(Path::new(&output), &columns, &[("drcorl_filter", options)], &watch)?;
            to_json(&report)
        })
    }

    /// A file in two by whole episodes; `attributes` become string attributes of both. Options and report are JSON:
    /// `share` and `seed`, and `SplitReport` of `src/data`. `maxMemory` as for `NativeDataset.open`.
    ///
    /// Rejects with code `Io`, `Data`, `Config` or `Cancelled`; then neither file is left.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn split(
        &self,
        input: String,
        train: String,
        held_out: String,
        options: String,
        attributes: BTreeMap<String, String>,
        max_memory: Option<f64>,
    ) -> AsyncTask<Job<String>> {
        let watch = Arc::clone(&self.watch);
        Job::spawn(move || {
            let parsed: SplitOptions = parse(&options)?;
            let max_memory = max_memory.map(|bytes| bytes as u64);
            let columns = read_dsrl_with(
                Path::new(&input),
                &ReadOptions { max_memory, costs: Costs::All, ..ReadOptions::default() },
            )?;
            watch.check(&columns.source)?;
            let parts = split(&columns, &parsed)?;
            let attributes: Vec<(&str, String)> = attributes.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            parts.write((Path::new(&train), &attributes), (Path::new(&held_out), &attributes), &watch)?;
            to_json(&parts.report())
        })
    }

    /// A file of another format to a DSRL file. Options and report are JSON: `ConvertOptions` and `ConvertReport` of
    /// `src/data`.
    ///
    /// Rejects with code `Io`, `Data`, `Config` or `Cancelled`.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn convert(&self, input: String, output: String, options: String) -> AsyncTask<Job<String>> {
        let watch = Arc::clone(&self.watch);
        Job::spawn(move || {
            let options: ConvertOptions = parse(&options)?;
            to_json(&convert(Path::new(&input), Path::new(&output), &options, &watch)?)
        })
    }

    /// The shared libraries of libtorch from a zip, tar or gzipped tar to a folder, which is made. Left unfinished, the
    /// folder stays: its name is the caller's, and so is its end.
    ///
    /// Rejects with code `Io`, `Data` or `Cancelled`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn unpack(&self, archive: String, folder: String) -> AsyncTask<Job<()>> {
        let watch = Arc::clone(&self.watch);
        Job::spawn(move || unpack(Path::new(&archive), Path::new(&folder), &watch))
    }

    /// The same from one of the wheels that make up a libtorch; `libraries` names those to take, default all.
    ///
    /// Rejects with code `Io`, `Data` or `Cancelled`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn unpack_wheel(&self, wheel: String, folder: String, libraries: Option<Vec<String>>) -> AsyncTask<Job<()>> {
        let watch = Arc::clone(&self.watch);
        Job::spawn(move || unpack_wheel(Path::new(&wheel), Path::new(&folder), libraries, &watch))
    }

    /// A dataset to a DSRL file, with string attributes (at most 64 KB in all).
    ///
    /// Rejects with code `Io` or `Cancelled`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn write(
        &self,
        dataset: &NativeDataset,
        output: String,
        attributes: BTreeMap<String, String>,
    ) -> AsyncTask<Job<()>> {
        let watch = Arc::clone(&self.watch);
        let columns = dataset.columns_arc();
        Job::spawn(move || {
            let attributes: Vec<(&str, String)> = attributes.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            Ok(write_dsrl(Path::new(&output), &*columns?, &attributes, &watch)?)
        })
    }
}

fn parse<T: DeserializeOwned>(options: &str) -> Outcome<T> {
    serde_json::from_str(options).map_err(|error| Failure::new("Config", format!("options: {error}")))
}

fn to_json(report: &impl serde::Serialize) -> Outcome<String> {
    serde_json::to_string(report).map_err(|error| Failure::new("Data", format!("report: {error}")))
}
