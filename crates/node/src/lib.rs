//! The addon on libtorch: trainers of the core as JavaScript classes.
//!
//! It knows no algorithm. Configurations go in and results come out as JSON, bulk data as typed arrays. Whatever takes
//! time runs on a worker thread and returns a promise. It names the libraries of libtorch it needs and not where they
//! lie: `preload` of the runtime addon opens them first.

mod certifier;
mod dataset;
mod shared;
mod trainer;

use drcorl_binding::{guard, Result};
use napi_derive::napi;

/// Algorithms, their parameters as JSON schemas and their presets, as JSON: the content of `src/config/schema.json`.
#[napi]
pub fn describe() -> Result<String> {
    Ok(guard(|| Ok(drcorl_algos::describe().to_string()))?)
}

/// libtorch version, devices and threads, as JSON: `CoreEnvironment` of `src/native`.
#[napi]
pub fn environment() -> Result<String> {
    Ok(guard(|| Ok(drcorl_core::environment().to_string()))?)
}
