//! Reader of DSRL's HDF5 files.
//!
//! Layout (OSRL/DSRL, arXiv 2306.09303): seven datasets in the root group, first axis `N`. Any further dataset is
//! ignored. The decoder is the `hdf5-reader` crate; nothing of it shows in this crate's API, so that it can be
//! replaced.

use std::fs::Metadata;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::Path;

use hdf5_reader::error::Error as H5Error;
use hdf5_reader::{Dataset, Hdf5File, OpenOptions};

use crate::chunks::read_raw;
use crate::columns::{place, Columns};
use crate::error::{Error, ErrorKind, Result};
use crate::number::{type_name, Number};

/// DEFLATE expands at most 1032-fold, so a file cannot hold more than this many bytes per byte of its own.
const MAX_EXPANSION: u64 = 1032;

pub(crate) const DAMAGED: &str = "fetch or write the file again";

/// Options of [`read_dsrl_with`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Longest episode the task allows; a longer one is an error. None checks nothing.
    pub episode_length: Option<usize>,
}

/// Reads a DSRL file with the default [`ReadOptions`].
///
/// # Errors
/// See [`read_dsrl_with`].
pub fn read_dsrl(path: &Path) -> Result<Columns> {
    read_dsrl_with(path, &ReadOptions::default())
}

/// Reads a DSRL file into validated columns.
///
/// | key | shape | type |
/// |---|---|---|
/// | `observations`, `next_observations` | `[N, S]` | float32, float64 or integer |
/// | `actions` | `[N, A]` | the same |
/// | `rewards`, `costs` | `[N]` or `[N, 1]` | the same |
/// | `terminals`, `timeouts` | `[N]` or `[N, 1]` | bool, integer or float, values 0 and 1 |
///
/// `next_observations` is decoded in a thread of its own, beside the other columns.
///
/// # Errors
/// `Io` if the file cannot be opened or read; `Data` if it is no HDF5 file, is truncated or damaged, lacks a key, or
/// if a shape, a type, a value or an episode's length is wrong.
pub fn read_dsrl_with(path: &Path, options: &ReadOptions) -> Result<Columns> {
    let name = path.display().to_string();
    let bytes = check_file(path, &name)?;
    // The decoder is written not to panic on any bytes; should it ever, one bad file must not end the host program.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(path, &name, bytes)));
    let columns = decoded
        .unwrap_or_else(|_| {
            let problem = "the HDF5 decoder failed on these bytes";
            Err(Error::data(&name, None, problem, DAMAGED))
        })?
        .validate()?;
    if let Some(limit) = options.episode_length {
        columns.check_episode_length(limit)?;
    }
    Ok(columns)
}

/// Size of the file, if it is one.
pub(crate) fn check_file(path: &Path, name: &str) -> Result<u64> {
    let metadata: Metadata = std::fs::metadata(path).map_err(|e| io_error(name, None, &e))?;
    if metadata.is_dir() {
        let remedy = "give the path of one .hdf5 file inside it";
        return Err(Error::io(name, "is a directory, not a file", remedy));
    }
    if !metadata.is_file() {
        let remedy = "give the path of an .hdf5 file";
        return Err(Error::io(name, "is not a regular file", remedy));
    }
    if metadata.len() == 0 {
        return Err(Error::data(name, None, "is empty (0 bytes)", DAMAGED));
    }
    Ok(metadata.len())
}

pub(crate) fn io_error(name: &str, key: Option<&str>, error: &std::io::Error) -> Error {
    let (problem, remedy) = match error.kind() {
        std::io::ErrorKind::NotFound => ("no such file".to_owned(), "check the path"),
        std::io::ErrorKind::PermissionDenied => {
            ("permission denied".to_owned(), "make the file readable for this user")
        }
        _ => (format!("cannot be read: {error}"), "check the disk and the path"),
    };
    Error::new(ErrorKind::Io, name, key, &problem, remedy)
}

/// Decodes all seven datasets. `bytes` is the size of the file.
fn decode(path: &Path, name: &str, bytes: u64) -> Result<Columns> {
    // Every chunk is read once, so none is kept.
    let options = OpenOptions::default().with_chunk_cache_bytes(0);
    let file = Hdf5File::open_with_options(path, options).map_err(|e| h5_error(name, None, &e))?;
    let stated = file.superblock().eof_address;
    if stated != u64::MAX && stated > bytes {
        let problem = format!("is truncated: {bytes} bytes are there, its header states {stated}");
        return Err(Error::data(name, None, &problem, DAMAGED));
    }
    let table = Table::open(&file, name)?;
    let (obs_dim, act_dim) = table.check(bytes)?;
    let (next_observations, rest) = beside(
        || table.next_observations.floats(),
        || {
            Ok(Columns {
                obs_dim,
                act_dim,
                observations: table.observations.floats()?,
                next_observations: Vec::new(),
                actions: table.actions.floats()?,
                rewards: table.rewards.floats()?,
                costs: table.costs.floats()?,
                terminals: table.terminals.flags()?,
                timeouts: table.timeouts.flags()?,
                source: name.to_owned(),
            })
        },
    );
    let rest: Columns = rest?;
    Ok(Columns { next_observations: next_observations?, ..rest })
}

/// Runs `first` in a thread of its own while `second` runs in this one.
fn beside<A: Send, B>(first: impl Fn() -> A + Send + Sync, second: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, &first);
        let second = second();
        match thread.map(|thread| thread.join()) {
            Ok(Ok(first)) => (first, second),
            Ok(Err(panic)) => resume_unwind(panic),
            // The process may be at its limit of threads.
            Err(_) => (first(), second),
        }
    })
}

/// The seven datasets of a file.
struct Table<'a> {
    observations: Column<'a>,
    next_observations: Column<'a>,
    actions: Column<'a>,
    rewards: Column<'a>,
    costs: Column<'a>,
    terminals: Column<'a>,
    timeouts: Column<'a>,
}

impl<'a> Table<'a> {
    fn open(file: &Hdf5File, name: &'a str) -> Result<Self> {
        let open = |key| Column::open(file, name, key);
        Ok(Self {
            observations: open("observations")?,
            next_observations: open("next_observations")?,
            actions: open("actions")?,
            rewards: open("rewards")?,
            costs: open("costs")?,
            terminals: open("terminals")?,
            timeouts: open("timeouts")?,
        })
    }

    /// Observation and action dimensions, once all shapes agree.
    fn check(&self, bytes: u64) -> Result<(usize, usize)> {
        let (rows, obs_dim) = self.observations.matrix()?;
        let (next_rows, next_dim) = self.next_observations.matrix()?;
        let (action_rows, act_dim) = self.actions.matrix()?;
        if next_dim != obs_dim {
            let problem = format!("has rows of {next_dim} entries, observations of {obs_dim}");
            let remedy = "store successors in the same shape";
            return Err(self.next_observations.error(&problem, remedy));
        }
        self.next_observations.check_rows(next_rows, rows)?;
        self.actions.check_rows(action_rows, rows)?;
        for column in [&self.rewards, &self.costs, &self.terminals, &self.timeouts] {
            column.check_rows(column.scalar_rows()?, rows)?;
        }
        if rows == 0 {
            let problem = "has 0 rows, the dataset is empty";
            return Err(self.observations.error(problem, DAMAGED));
        }
        // All columns agree on `rows` by now, so this bounds what is allocated for any of them.
        for column in [&self.observations, &self.next_observations, &self.actions] {
            column.check_budget(bytes)?;
        }
        Ok((obs_dim, act_dim))
    }
}

/// One dataset of the root group, with the names that its errors need.
pub(crate) struct Column<'a> {
    pub file: &'a str,
    pub key: &'a str,
    pub dataset: Dataset,
}

impl<'a> Column<'a> {
    fn open(h5: &Hdf5File, file: &'a str, key: &'a str) -> Result<Self> {
        match h5.root_group().and_then(|root| root.dataset(key)) {
            Ok(dataset) => Ok(Column { file, key, dataset }),
            Err(error) => match cause(&error) {
                H5Error::DatasetNotFound(_) => Err(missing(h5, file, key)),
                _ => Err(h5_error(file, Some(key), &error)),
            },
        }
    }

    pub fn error(&self, problem: &str, remedy: &str) -> Error {
        Error::data(self.file, Some(self.key), problem, remedy)
    }

    /// `(N, dim)` of a dataset of rank 2 with at least one entry per row.
    fn matrix(&self) -> Result<(usize, usize)> {
        match self.shape()?.as_slice() {
            &[rows, dim] if dim > 0 => Ok((rows, dim)),
            shape => {
                let problem = format!("has shape {shape:?}, expected [N, entries]");
                Err(self.error(&problem, "store one row per transition, rank 2"))
            }
        }
    }

    /// `N` of a dataset of shape `[N]` or `[N, 1]`.
    fn scalar_rows(&self) -> Result<usize> {
        match self.shape()?.as_slice() {
            &[rows] | &[rows, 1] => Ok(rows),
            shape => {
                let problem = format!("has shape {shape:?}, expected [N] or [N, 1]");
                Err(self.error(&problem, "store one value per transition"))
            }
        }
    }

    /// `(N, dim)` of a dataset of shape `[N]` or `[N, dim]`.
    pub fn rows_and_dim(&self) -> Result<(usize, usize)> {
        match self.shape()?.as_slice() {
            &[rows] => Ok((rows, 1)),
            &[rows, dim] if dim > 0 => Ok((rows, dim)),
            shape => {
                let problem = format!("has shape {shape:?}, expected [N] or [N, entries]");
                Err(self.error(&problem, "flatten each observation or action"))
            }
        }
    }

    fn shape(&self) -> Result<Vec<usize>> {
        let dims = self.dataset.shape().iter();
        let sizes: std::result::Result<Vec<usize>, _> = dims.map(|&d| usize::try_from(d)).collect();
        sizes.map_err(|_| self.error("has more entries than memory has addresses", DAMAGED))
    }

    fn check_rows(&self, rows: usize, expected: usize) -> Result<()> {
        if rows == expected {
            return Ok(());
        }
        let problem = format!("has {rows} rows, observations has {expected}");
        Err(self.error(&problem, "store all columns equally long"))
    }

    /// Refuses a shape that the file is too small to hold, before memory is asked for.
    pub fn check_budget(&self, file_bytes: u64) -> Result<()> {
        let dims = self.dataset.shape();
        let elements = dims.iter().try_fold(1_u64, |n, &d| n.checked_mul(d));
        // Elements of one byte are possible, and take up to 8 here: the product below cannot overflow.
        if elements.is_some_and(|n| n <= file_bytes.saturating_mul(MAX_EXPANSION).min(1 << 60)) {
            return Ok(());
        }
        let problem = format!("states shape {dims:?}, but the file has only {file_bytes} bytes");
        Err(self.error(&problem, DAMAGED))
    }

    /// All values as `f32`, row-major.
    pub fn floats(&self) -> Result<Vec<f32>> {
        let number = self.number()?;
        if number.is_f32() {
            // Read in place: a second copy of the observations can be half a gigabyte.
            let mut values = vec![0_f32; self.elements()];
            self.read(bytemuck::cast_slice_mut(&mut values))?;
            if !number.is_native() {
                let swap = |v: &mut f32| *v = f32::from_bits(v.to_bits().swap_bytes());
                values.iter_mut().for_each(swap);
            }
            return Ok(values);
        }
        let dim = self.dataset.shape().get(1).map_or(1, |&d| d as usize);
        let narrow = |(index, wide): (usize, f64)| {
            let value = wide as f32;
            if value.is_finite() || !wide.is_finite() {
                return Ok(value);
            }
            let place = place(index, dim);
            let problem = format!("{place} is {wide}, too large for float32");
            Err(self.error(&problem, "remove or rescale that value"))
        };
        let bytes = self.raw(number)?;
        let wide = bytes.chunks_exact(number.size()).map(|b| number.widen(b));
        wide.enumerate().map(narrow).collect()
    }

    /// All values as flags; anything but 0 and 1 is an error.
    fn flags(&self) -> Result<Vec<bool>> {
        let flag = |(row, value): (usize, f64)| match value {
            0.0 => Ok(false),
            1.0 => Ok(true),
            _ => {
                let problem = format!("row {row} is {value}, expected 0 or 1");
                Err(self.error(&problem, "store flags as 0 and 1, or as bool"))
            }
        };
        let number = self.number()?;
        let bytes = self.raw(number)?;
        let wide = bytes.chunks_exact(number.size()).map(|b| number.widen(b));
        wide.enumerate().map(flag).collect()
    }

    /// Bounded by `check_budget`, as are the bytes of that many numbers.
    fn elements(&self) -> usize {
        self.dataset.shape().iter().product::<u64>() as usize
    }

    fn number(&self) -> Result<Number> {
        Number::of(self.dataset.dtype()).ok_or_else(|| {
            let problem = format!("has the type {}", type_name(self.dataset.dtype()));
            self.error(&problem, "store it as float32, float64, an integer or bool")
        })
    }

    /// All elements in the file's byte order, row-major.
    fn raw(&self, number: Number) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.elements() * number.size()];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&self, bytes: &mut [u8]) -> Result<()> {
        let result = read_raw(&self.dataset, bytes);
        result.map_err(|e| h5_error(self.file, Some(self.key), &e))
    }
}

fn cause(error: &H5Error) -> &H5Error {
    match error {
        H5Error::Context { source, .. } => cause(source),
        other => other,
    }
}

fn missing(h5: &Hdf5File, file: &str, key: &str) -> Error {
    let found = match h5.root_group().and_then(|root| root.member_names()) {
        Ok((groups, _)) if groups.iter().any(|name| name == key) => {
            let remedy = "store it as a dataset of the root group";
            return Error::data(file, Some(key), "is a group, not a dataset", remedy);
        }
        Ok((_, names)) if names.is_empty() => "the file has no datasets".to_owned(),
        Ok((_, names)) => format!("found: {}", listing(&names)),
        Err(_) => "its list of names cannot be read".to_owned(),
    };
    let problem = format!("is missing ({found})");
    let remedy = match key {
        "costs" => "D4RL files have no costs; use a DSRL file",
        "next_observations" => "store the successor of every row, as DSRL files do",
        _ => "use a DSRL file, or add the dataset",
    };
    Error::data(file, Some(key), &problem, remedy)
}

fn listing(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let rest = if names.len() > SHOWN { ", .." } else { "" };
    format!("{}{rest}", shown.join(", "))
}

/// A failure of the decoder in this crate's terms.
pub(crate) fn h5_error(file: &str, key: Option<&str>, error: &H5Error) -> Error {
    let error = cause(error);
    let (problem, remedy) = match error {
        H5Error::Io(e) => return io_error(file, key, e),
        H5Error::InvalidMagic => (
            "is not an HDF5 file (its signature is missing)".to_owned(),
            "check that the download is the data itself, not a web page or a Git LFS pointer",
        ),
        H5Error::UnexpectedEof { .. } | H5Error::OffsetOutOfBounds(_) => {
            (format!("is truncated or damaged: {error}"), DAMAGED)
        }
        H5Error::DecompressionError(_) | H5Error::FilterError(_) => (format!("has a damaged chunk: {error}"), DAMAGED),
        H5Error::UnsupportedFilter(_) => {
            (format!("cannot be decompressed: {error}"), "write the file with gzip compression or none")
        }
        _ => (format!("cannot be decoded: {error}"), DAMAGED),
    };
    Error::data(file, key, &problem, remedy)
}
