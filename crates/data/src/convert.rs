//! Other formats to DSRL's HDF5, streamed where the format allows it.
//!
//! | format | recognised by | memory |
//! |---|---|---|
//! | CSV, TSV | `.csv`, `.tsv`; a header line | a block of rows |
//! | Parquet | `.parquet`, `.pq`; vectors as one list column or several columns | rows, and a page per column |
//! | NumPy | `.npz`; an array per field | the columns once |
//! | Minari | `.hdf5`, `.h5` with groups `episode_0`, `episode_1`, .. | an episode |
//! | HDF5 | `.hdf5`, `.h5`; a dataset per field, e.g. D4RL's | the columns once |

mod assemble;
mod csv;
mod hdf5;
mod mapping;
mod npz;
mod parquet;

use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::watch::Watch;
use assemble::Assembler;
use mapping::Mapping;

/// Rows handed on at a time.
const BLOCK_ROWS: usize = 4096;

/// How to read a file that is not DSRL's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvertOptions {
    /// Field of a DSRL file to the name it has in the input. For CSV and Parquet it may be a list (`x,y,z`) or have a
    /// `*` for a number (`obs_*`); for rewards, costs and flags it may be a number, which then stands in every row.
    pub map: BTreeMap<String, String>,
    /// Take the successor of a step from the next row of its episode. The last row of an episode that a time limit
    /// ended has none and is dropped; that of a terminal repeats its own observation, which nothing reads.
    pub shift: bool,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ConvertReport {
    /// `csv`, `parquet`, `npz`, `minari` or `hdf5`.
    pub format: &'static str,
    /// Episodes written, an incomplete tail included.
    pub episodes: u64,
    /// Rows written.
    pub transitions: u64,
    /// Rows that [`ConvertOptions::shift`] dropped.
    pub dropped: u64,
    /// Episodes without an end flag to which a timeout was given (Minari).
    pub ended: u64,
    /// Rows after the last end flag.
    pub tail: u64,
    /// Field to what it was taken from.
    pub columns: BTreeMap<&'static str, String>,
}

/// Converts `input` to a DSRL file. The output appears only when it is complete.
///
/// # Errors
/// `Data` or `Io` naming file, column, row and value; `Cancelled` by the watch. No file is left in any case.
pub fn convert(input: &Path, output: &Path, options: &ConvertOptions, watch: &Watch) -> Result<ConvertReport> {
    let name = input.display().to_string();
    let bytes = crate::hdf5::check_file(input, &name)?;
    let mapping = Mapping::new(options, &name)?;
    let mut assembler = Assembler::new(output, &name, options.shift, watch);
    watch.expect(bytes);
    // As in the reader of DSRL files: no bytes may end the host program, whatever a decoder makes of them.
    let read = catch_unwind(AssertUnwindSafe(|| read(input, &name, bytes, &mapping, &mut assembler)));
    let format = read.unwrap_or_else(|_| {
        Err(Error::data(&name, None, "the decoder failed on these bytes", "fetch or write the file again"))
    })?;
    let provenance = serde_json::json!({ "converted_from": input.file_name().map(|n| n.to_string_lossy()) });
    assembler.finish(format, mapping.describe(), &provenance.to_string())
}

/// Reads by the file's extension; the name of the format.
fn read(input: &Path, name: &str, bytes: u64, mapping: &Mapping, out: &mut Assembler) -> Result<&'static str> {
    let extension = input.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "csv" => csv::read(input, name, b',', mapping, out),
        "tsv" => csv::read(input, name, b'\t', mapping, out),
        "parquet" | "pq" => parquet::read(input, name, mapping, out),
        "npz" => npz::read(input, name, bytes, mapping, out),
        "hdf5" | "h5" => hdf5::read(input, name, bytes, mapping, out),
        _ => {
            let problem = format!("has the extension \"{extension}\", which names no known format");
            let remedy = "give a file ending in .csv, .tsv, .parquet, .npz, .hdf5 or .h5";
            Err(Error::data(name, None, &problem, remedy))
        }
    }
}
