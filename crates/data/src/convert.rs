//! Other formats to DSRL's HDF5, streamed where the format allows it.
//!
//! | format | recognised by | memory |
//! |---|---|---|
//! | CSV, TSV | `.csv`, `.tsv`; a header line; comma, semicolon or tab | a block of rows |
//! | Parquet | `.parquet`, `.pq`; a list column or several columns; or an episode per row | rows, a page a column |
//! | NumPy | `.npz`; an array per field | the columns once |
//! | Minari | `.hdf5`, `.h5` with groups `episode_0`, `episode_1`, .. | an episode |
//! | Minari | a folder whose `metadata.json` says `arrow`; a folder of `.arrow` files an episode | an episode |
//! | HDF5 | `.hdf5`, `.h5`; a dataset per field, e.g. D4RL's | the columns once |
//!
//! Rows that a column of episodes or times puts in order are held until all are read.

mod arrow;
mod assemble;
mod csv;
mod episode;
mod hdf5;
mod mapping;
mod minari;
mod npy;
mod npz;
mod order;
mod parquet;
mod time;

use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::check::Finding;
use crate::error::{Error, Result};
use crate::watch::Watch;
use assemble::Assembler;
use episode::Array;
use mapping::Mapping;

/// Rows handed on at a time.
const BLOCK_ROWS: usize = 4096;

/// How to read a file that is not DSRL's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvertOptions {
    /// Field of a DSRL file to the name it has in the input. A vector may be several, joined in this order (`x,y,z`),
    /// and in CSV and Parquet have a `*` for a number (`obs_*`).
    /// For rewards, costs and flags it may be a number, which then stands in every row. `further/NAME` is a further
    /// column of one number a step, which is kept under NAME beside the fields: a cost of its own.
    pub map: BTreeMap<String, String>,
    /// Take the successor of a step from the next row of its episode. The last row of an episode that a time limit
    /// ended has none and is dropped; that of a terminal repeats its own observation, which nothing reads.
    pub shift: bool,
    /// Column whose values tell the episodes (or the environments that were stepped side by side) apart, in whatever
    /// order their rows are. Each ends at its last row, if no flag does before; the flags may then be absent.
    pub episode: Option<String>,
    /// Column of times: numbers in seconds, Unix times, or ISO 8601. They may not run backwards within an episode.
    pub time: Option<String>,
    /// Seconds; an episode ends before a step of `time` that is longer.
    pub max_gap: Option<f64>,
    /// Cost of the steps that have none: in the whole file, in an episode, or in a row.
    pub missing_cost: Option<f32>,
    /// Most bytes that reading may hold, see [`crate::ReadOptions::max_memory`].
    pub max_memory: Option<u64>,
    /// Warnings are errors.
    pub strict: bool,
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
    /// Episodes without an end flag to which a timeout was given (Minari, lists of lists, [`ConvertOptions::episode`]).
    pub ended: u64,
    /// Episodes that were ended where [`ConvertOptions::max_gap`] was exceeded.
    pub gaps: u64,
    /// Rows after the last end flag.
    pub tail: u64,
    /// Field to what it was taken from.
    pub columns: BTreeMap<String, String>,
    /// What is odd about the data.
    pub findings: Vec<Finding>,
}

/// Converts `input` to a DSRL file. The output appears only when it is complete and its data have passed the checks.
///
/// # Errors
/// `Data` or `Io` naming file, column, row and value; `Cancelled` by the watch. No file is left in any case.
pub fn convert(input: &Path, output: &Path, options: &ConvertOptions, watch: &Watch) -> Result<ConvertReport> {
    let name = input.display().to_string();
    let folder = minari::Folder::find(input, &name)?;
    let bytes = match &folder {
        Some(folder) => folder.bytes,
        None => crate::hdf5::check_file(input, &name)?,
    };
    let mapping = Mapping::new(options, &name)?;
    let budget = Budget::new(options.max_memory, bytes);
    let mut assembler = Assembler::new(output, &name, (options, &mapping.keep), budget, watch)?;
    watch.expect(bytes);
    // As in the reader of DSRL files: no bytes may end the host program, whatever a decoder makes of them.
    let read = catch_unwind(AssertUnwindSafe(|| match &folder {
        Some(folder) => folder.read(&name, &budget, &mapping, &mut assembler),
        None => read(input, &name, bytes, &budget, &mapping, &mut assembler),
    }));
    let format = read.unwrap_or_else(|_| {
        Err(Error::data(&name, None, "the decoder failed on these bytes", "fetch or write the file again"))
    })?;
    let provenance = serde_json::json!({ "converted_from": input.file_name().map(|n| n.to_string_lossy()) });
    assembler.finish(format, mapping.describe(), &provenance.to_string())
}

/// Reads by the file's extension; the name of the format.
fn read(
    input: &Path,
    name: &str,
    bytes: u64,
    budget: &Budget,
    mapping: &Mapping,
    out: &mut Assembler,
) -> Result<&'static str> {
    let extension = input.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "csv" | "tsv" => csv::read(input, name, budget, mapping, out),
        "parquet" | "pq" => parquet::read(input, name, budget, mapping, out),
        "npz" => npz::read(input, name, bytes, budget, mapping, out),
        "hdf5" | "h5" => hdf5::read(input, bytes, budget, mapping, out),
        "arrow" | "feather" | "ipc" => {
            let remedy = "write it as Parquet: python -c \"import pyarrow.feather as f, pyarrow.parquet as p; \
                          p.write_table(f.read_table('IN.arrow'), 'OUT.parquet')\"";
            Err(Error::data(name, None, "is in Arrow's format, which is not read", remedy))
        }
        _ => {
            let problem = format!("has the extension \"{extension}\", which names no known format");
            let remedy = "give a file ending in .csv, .tsv, .parquet, .npz, .hdf5 or .h5";
            Err(Error::data(name, None, &problem, remedy))
        }
    }
}

/// Arrays side by side, row by row; none if they are not equally long.
fn join(mut parts: Vec<Array>) -> Option<Array> {
    if parts.len() == 1 {
        return parts.pop();
    }
    let rows = parts.first().map(|(dim, values)| values.len() / (*dim).max(1))?;
    if parts.iter().any(|(dim, values)| values.len() != rows * dim) {
        return None;
    }
    let dim = parts.iter().map(|(dim, _)| dim).sum();
    let row = |row: usize| parts.iter().flat_map(move |(dim, values)| &values[row * dim..(row + 1) * dim]);
    Some((dim, (0..rows).flat_map(row).copied().collect()))
}
