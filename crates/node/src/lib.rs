//! The Node addon: datasets, trainers and policies of the Rust crates as JavaScript classes.
//!
//! It knows no algorithm. Configurations go in and results come out as JSON, bulk data as typed arrays. Whatever takes
//! time runs on a worker thread and returns a promise.

mod dataset;
mod error;
mod operation;
mod policy;
mod trainer;

use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;

use crate::error::{guard, Job, Result};

/// Algorithms, their parameters as JSON schemas and their presets, as JSON: the content of `src/config/schema.json`.
#[napi]
pub fn describe() -> Result<String> {
    Ok(guard(|| Ok(drcorl_core::describe().to_string()))?)
}

/// libtorch version, devices, threads and CPU features, as JSON.
#[napi]
pub fn environment() -> Result<String> {
    Ok(guard(|| Ok(drcorl_core::environment().to_string()))?)
}

/// Panics on a worker thread, on purpose. The promise is rejected with code `Panic`: the test that a bug in native code
/// cannot end the process.
#[napi(ts_return_type = "Promise<void>")]
pub fn panic_on_purpose() -> AsyncTask<Job<()>> {
    Job::spawn(|| panic!("on purpose"))
}
