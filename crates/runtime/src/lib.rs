//! The addon without libtorch: policies that act, datasets that are read, filtered and converted, and the opening of the
//! shared libraries that the addon of `crates/node` is linked against.
//!
//! Results are JSON or typed arrays. Whatever takes time runs on a worker thread and returns a promise.

mod dataset;
mod operation;
mod policy;
mod preload;
mod unpack;

use drcorl_binding::Job;
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;

/// Instruction sets that decide which kernels run, as far as this processor has them; empty on other processors than x86-64.
#[napi]
pub fn cpu_features() -> Vec<&'static str> {
    drcorl_actor::cpu_features()
}

/// Panics on a worker thread, on purpose. The promise is rejected with code `Panic`: the test that a bug in native code
/// cannot end the process.
#[napi(ts_return_type = "Promise<void>")]
pub fn panic_on_purpose() -> AsyncTask<Job<()>> {
    Job::spawn(|| panic!("on purpose"))
}
