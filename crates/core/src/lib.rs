//! What a run is: the data, policies, the trainer that drives an algorithm, and how a policy is judged offline.
//! No algorithm is named here.
//!
//! Reading order: [`algorithm`] (what an algorithm is), [`trainer`] (how a run goes), [`offline`] (how a policy is
//! judged without an environment), [`certifier`] (the same without training).

pub mod algorithm;
mod audit_file;
pub mod certifier;
pub mod dataset;
pub mod error;
pub mod hybrid;
pub mod memory;
pub mod metrics;
pub mod normalizer;
pub mod offline;
pub mod policy;
pub mod profile;
pub mod results;
mod reuse;
pub mod run;
pub mod run_files;
pub mod schema;
pub mod stage;
pub mod trainer;

pub use algorithm::Registry;
pub use certifier::Certifier;
pub use error::{Error, Result};
pub use trainer::Trainer;

use run::RunConfig;
use serde_json::{json, Map, Value};

/// The registry, every parameter, every metric and every result:
/// `{algorithms: {name: {label, summary, schema, presets, metrics, diagnostics}}, run: {schema}, results: {schema}}`.
pub fn describe(registry: Registry) -> Value {
    let mut run = schemars::schema_for!(RunConfig).to_value();
    algorithm::complete(&mut run, &serde_json::to_value(RunConfig::default()).unwrap_or_default());
    let algorithms: Map<String, Value> =
        registry.iter().map(|entry| (entry.name.to_string(), entry.describe())).collect();
    json!({ "algorithms": algorithms, "run": { "schema": run }, "results": { "schema": results::schema() } })
}

/// Versions, devices and threads of the machine the core runs on.
pub fn environment() -> Value {
    let cuda = tch::Cuda::device_count();
    let devices: Vec<String> =
        std::iter::once("cpu".to_string()).chain((0..cuda).map(|i| format!("cuda:{i}"))).collect();
    json!({
        "core": env!("CARGO_PKG_VERSION"),
        "libtorch": LIBTORCH_VERSION,
        "devices": devices,
        "intra_op_threads": tch::get_num_threads(),
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "matmul": drcorl_nn::matmul::libraries().unwrap_or_default(),
    })
}

/// The libtorch release the bindings are built for.
pub const LIBTORCH_VERSION: &str = "2.13.0";
