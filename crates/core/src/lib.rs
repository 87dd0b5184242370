//! The learning core of drcorl: tensors, critics, diffusion, gradient manipulation, offline judgement, algorithms, training runs.
//!
//! Reading order: [`algorithm`] (what an algorithm is), [`algos::drcorl`] (the paper's method), [`trainer`] (how a run goes),
//! [`offline`] (how a policy is judged without an environment).

pub mod algorithm;
pub mod algos;
pub mod checkpoint;
pub mod critics;
pub mod dataset;
pub mod diffusion;
pub mod error;
pub mod frontier;
pub mod gradient;
pub mod hybrid;
pub mod lagrange;
pub mod nn;
pub mod offline;
pub mod optim;
pub mod parity;
pub mod policy;
pub mod rng;
pub mod run;
pub mod trainer;

pub use error::{Error, Result};
pub use trainer::Trainer;

use run::RunConfig;
use serde_json::{json, Map, Value};

/// The registry and every parameter: `{algorithms: {name: {label, summary, schema, presets}}, run: {schema}}`.
pub fn describe() -> Value {
    let mut run = schemars::schema_for!(RunConfig).to_value();
    algorithm::set_defaults(&mut run, &serde_json::to_value(RunConfig::default()).unwrap_or_default());
    let algorithms: Map<String, Value> =
        algos::REGISTRY.iter().map(|entry| (entry.name.to_string(), entry.describe())).collect();
    json!({ "algorithms": algorithms, "run": { "schema": run } })
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
        "matmul": nn::matmul::libraries().unwrap_or_default(),
    })
}

/// The libtorch release the bindings are built for.
pub const LIBTORCH_VERSION: &str = "2.13.0";
