//! Reader of DSRL's HDF5 files.
//!
//! Layout (OSRL/DSRL, arXiv 2306.09303): seven datasets in the root group, first axis `N`. Of further datasets those of
//! one number a step can be costs of their own ([`Costs`]); all others are ignored. The decoder is the `hdf5-reader`
//! crate; nothing of it shows in this crate's API, so that it can be replaced.

use std::fs::Metadata;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::Path;

use crate::budget::Budget;
use crate::columns::{no_cost, Columns, COSTS};
use crate::error::{Error, ErrorKind, Result};

mod chunks;
mod column;
mod file;
mod filters;
mod number;

pub(crate) use column::Column;
pub(crate) use file::{h5_error, H5};

pub(crate) const DAMAGED: &str = "fetch or write the file again";

/// Which columns of one number a step are read as costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Costs {
    /// `costs` alone.
    #[default]
    Own,
    /// These, see [`Columns::with_costs`]; `costs` is read only if it is among them.
    Named(Vec<String>),
    /// `costs` and every other there is, in the order of their names.
    All,
}

/// Options of [`read_dsrl_with`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Longest episode the task allows; a longer one is an error. None checks nothing.
    pub episode_length: Option<usize>,
    /// Most bytes that reading may hold. None allows a hundred times the file's size (at least 64 MiB), and no more
    /// than 80 % of the memory that is free.
    pub max_memory: Option<u64>,
    /// Which costs.
    pub costs: Costs,
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
/// Floats may also be float16. `next_observations` is decoded in a thread of its own, beside the other columns.
///
/// # Errors
/// `Io` if the file cannot be opened or read; `Data` if it is no HDF5 file, is truncated or damaged, lacks a key, if
/// rows of a column were never written or lie in another file, if it would take more memory than allowed, or if a
/// shape, a type, a value or an episode's length is wrong.
pub fn read_dsrl_with(path: &Path, options: &ReadOptions) -> Result<Columns> {
    let name = path.display().to_string();
    let bytes = check_file(path, &name)?;
    // The decoder is written not to panic on any bytes; should it ever, one bad file must not end the host program.
    let decoded =
        catch_unwind(AssertUnwindSafe(|| decode(path, &name, &Budget::new(options.max_memory, bytes), &options.costs)));
    let mut columns = decoded.unwrap_or_else(|_| {
        let problem = "the HDF5 decoder failed on these bytes";
        Err(Error::data(&name, None, problem, DAMAGED))
    })?;
    // What nobody asked for by name may hold anything.
    let unasked = if options.costs == Costs::All { std::mem::take(&mut columns.further) } else { Vec::new() };
    let mut columns = columns.validate()?;
    if options.costs == Costs::All {
        columns.further = unasked;
    }
    if let Some(limit) = options.episode_length {
        columns.check_episode_length(limit)?;
    }
    Ok(columns)
}

/// Size of the file, if it is one.
pub(crate) fn check_file(path: &Path, name: &str) -> Result<u64> {
    let metadata: Metadata = std::fs::metadata(path).map_err(|e| io_error(name, None, &e))?;
    if metadata.is_dir() {
        return Err(folder(path, name));
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

/// The error of a folder, which knows Minari's: a `data` folder with `main_data.hdf5`, or with `metadata.json` and a
/// folder an episode in another format.
fn folder(path: &Path, name: &str) -> Error {
    for data in [path.to_path_buf(), path.join("data")] {
        let file = data.join("main_data.hdf5");
        if file.is_file() {
            let remedy = format!("give the file inside it: drcorl data convert {} OUT.hdf5", file.display());
            return Error::io(name, "is a folder of Minari, not a file", &remedy);
        }
        let metadata = std::fs::read(data.join("metadata.json")).unwrap_or_default();
        let metadata = serde_json::from_slice::<serde_json::Value>(&metadata).unwrap_or_default();
        if let Some(format) = metadata.get("data_format").and_then(serde_json::Value::as_str) {
            if format == "arrow" {
                let remedy = format!("convert it: drcorl data convert {name} OUT.hdf5");
                return Error::io(name, "is a folder of Minari, not a file", &remedy);
            }
            let problem = format!("is a folder of Minari in the format {format:?}, which is not read");
            let remedy = "copy the dataset with data_format=\"hdf5\" (docs/data.md has the lines), then convert its main_data.hdf5";
            return Error::io(name, &problem, remedy);
        }
    }
    Error::io(name, "is a directory, not a file", "give the path of one file inside it")
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

/// Decodes all seven datasets, and the further costs.
fn decode(path: &Path, name: &str, budget: &Budget, costs: &Costs) -> Result<Columns> {
    let file = H5::open(path, name, budget)?;
    let table = Table::open(&file, costs)?;
    let (obs_dim, act_dim) = table.check(budget)?;
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
                cost_name: table.cost_name(),
                further: table.further()?,
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
    /// Further costs.
    further: Vec<Column<'a>>,
}

/// The seven of every file, in the order of their names.
const SEVEN: [&str; 7] = ["actions", COSTS, "next_observations", "observations", "rewards", "terminals", "timeouts"];

impl<'a> Table<'a> {
    fn open(file: &'a H5, costs: &Costs) -> Result<Self> {
        let open = |key: &str| file.column(key);
        let (observations, next_observations) = (open("observations")?, open("next_observations")?);
        let (actions, rewards) = (open("actions")?, open("rewards")?);
        let own = [COSTS.to_owned()];
        let (first, others) = match costs {
            Costs::Named(names) if !names.is_empty() => (&names[0], names[1..].to_vec()),
            Costs::Own | Costs::Named(_) => (&own[0], Vec::new()),
            Costs::All => (&own[0], signals(file, &rewards)?),
        };
        Ok(Self {
            costs: cost(file, &rewards, first)?,
            further: others.iter().map(|name| cost(file, &rewards, name)).collect::<Result<_>>()?,
            observations,
            next_observations,
            actions,
            rewards,
            terminals: open("terminals")?,
            timeouts: open("timeouts")?,
        })
    }

    /// Observation and action dimensions, once all shapes agree.
    fn check(&self, budget: &Budget) -> Result<(usize, usize)> {
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
        for column in [&self.rewards, &self.costs, &self.terminals, &self.timeouts].into_iter().chain(&self.further) {
            column.check_rows(column.scalar_rows()?, rows)?;
        }
        if rows == 0 {
            let problem = "has 0 rows, the dataset is empty";
            return Err(self.observations.error(problem, DAMAGED));
        }
        let all = [&self.observations, &self.next_observations, &self.actions, &self.rewards, &self.costs];
        let rest = [&self.terminals, &self.timeouts].into_iter().chain(&self.further);
        let estimate = all.into_iter().chain(rest).map(|c| c.memory()).fold(0, u64::saturating_add);
        budget.check(self.observations.file(), None, estimate)?;
        Ok((obs_dim, act_dim))
    }

    /// None for the column that every file has.
    fn cost_name(&self) -> Option<String> {
        (self.costs.key() != COSTS).then(|| self.costs.key().to_owned())
    }

    fn further(&self) -> Result<Vec<(String, Vec<f32>)>> {
        self.further.iter().map(|column| Ok((column.key().to_owned(), column.floats()?))).collect()
    }
}

/// A column of costs. A name that is wrong is told with those that are right.
#[inline(never)]
fn cost<'a>(file: &'a H5, rewards: &Column, name: &str) -> Result<Column<'a>> {
    if name == COSTS {
        return file.column(name);
    }
    let mut known = signals(file, rewards)?;
    if known.iter().any(|known| known == name) {
        return file.column(name);
    }
    if file.datasets()?.iter().any(|known| known == COSTS) {
        known.insert(0, COSTS.to_owned());
    }
    Err(no_cost(&file.name, name, &known.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Names of the datasets of one number a step beside the seven, where rewards have that many.
fn signals(file: &H5, rewards: &Column) -> Result<Vec<String>> {
    let rows = rewards.scalar_rows()?;
    let mut names = file.datasets()?;
    names.retain(|name| {
        let column = if SEVEN.contains(&name.as_str()) { None } else { file.column(name).ok() };
        column.is_some_and(|column| column.is_number() && column.scalar_rows().is_ok_and(|found| found == rows))
    });
    names.sort();
    Ok(names)
}
