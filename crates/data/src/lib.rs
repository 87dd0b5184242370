//! Offline RL transitions on the host: checked columns, and a reader of DSRL's HDF5 files.
//!
//! [`Columns`] holds a dataset as row-major `f32` columns in plain memory; no tensor library is involved.
//! [`read_dsrl`] fills it from a file of the layout used by the DSRL benchmark (seven datasets, no groups).
//! Whatever is wrong with the input is one [`Error`] that names the file, the key, the offending value and a
//! remedy; no input makes this crate panic.
//!
//! ```no_run
//! use std::path::Path;
//!
//! let columns = drcorl_data::read_dsrl(Path::new("SafetyBallCircle-v0-80-800.hdf5"))?;
//! let summary = columns.summary();
//! println!("{} episodes, cost {:?}", summary.episodes, summary.cost_deciles);
//! # Ok::<(), drcorl_data::Error>(())
//! ```

mod budget;
mod builder;
mod check;
mod columns;
mod convert;
mod draws;
mod error;
mod filter;
mod hdf5;
mod split;
mod summary;
mod watch;
mod write;

pub use builder::ColumnsBuilder;
pub use check::{check, Finding, Severity, SUCCESSORS_APART};
pub use columns::{Columns, Episode};
pub use convert::{convert, ConvertOptions, ConvertReport};
pub use error::{Error, ErrorKind, Result};
pub use filter::{filter, FilterOptions, FilterReport, Grid, Rules, ScoreRange, StepReport};
pub use hdf5::{read_dsrl, read_dsrl_with, Costs, ReadOptions};
pub use split::{split, PartReport, Split, SplitOptions, SplitReport};
pub use summary::{BestReturn, LengthRange, Summary};
pub use watch::Watch;
pub use write::write_dsrl;
