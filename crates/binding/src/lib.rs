//! What both addons need: errors with a stable code, jobs on worker threads, and columns as JavaScript arrays.
//!
//! The addons are two libraries in one process and share no memory: bulk data go from one to the other as JavaScript's
//! typed arrays, which have a layout that no compiler may change.

mod columns;
mod error;

pub use columns::{NativeColumn, NativeColumns};
pub use error::{guard, Failure, Job, Outcome, Result};
