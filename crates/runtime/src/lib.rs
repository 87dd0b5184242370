//! The addon without libtorch: policies that act, datasets that are read, filtered and converted, and the opening of
//! the shared libraries that the addon of `crates/node` is linked against.
//!
//! Results are JSON or typed arrays. Whatever takes time runs on a worker thread and returns a promise.

mod dataset;
mod lock;
mod operation;
mod policy;
mod preload;
mod unpack;

use std::path::PathBuf;

use drcorl_binding::{guard, Job, Result};
use lock::NativeLock;
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;

/// Instruction sets that decide which kernels run, as far as this processor has them;
/// empty on other processors than x86-64.
#[napi]
pub fn cpu_features() -> Vec<&'static str> {
    drcorl_actor::cpu_features()
}

/// Opens shared libraries in the order given, for the rest of the process, with their symbols visible to what is loaded
/// later. An addon that needs libraries of these names then gets these, wherever they lie: no search path has to
/// name their folder.
///
/// Throws with code `Io`, naming the file and the reason of the system's loader, or the other library of that name.
#[napi]
pub fn preload(paths: Vec<String>) -> Result<()> {
    Ok(guard(|| preload::open(&paths.into_iter().map(PathBuf::from).collect::<Vec<_>>()))?)
}

/// Takes the lock of a file, which is made where there is none, and leaves `note` in it for those who come later.
/// Returns null where somebody holds it, in this process or another.
///
/// Throws with code `Io` where the file cannot be opened for writing, or its file system knows no locks.
#[napi]
pub fn try_lock(path: String, note: String) -> Result<Option<NativeLock>> {
    Ok(guard(|| NativeLock::try_take(PathBuf::from(path), &note))?)
}

/// Panics on a worker thread, on purpose: the test that a bug in native code cannot end the process.
///
/// Rejects with code `Panic`.
#[napi(ts_return_type = "Promise<void>")]
pub fn panic_on_purpose() -> AsyncTask<Job<()>> {
    Job::spawn(|| panic!("on purpose"))
}
