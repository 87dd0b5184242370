//! What Minari says about a dataset beside its arrays, and its folders of Arrow files.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::arrow::Table;
use super::assemble::Assembler;
use super::episode::{self, Array};
use super::mapping::{Field, Mapping, FIELDS};
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::hdf5::io_error;

/// Spaces whose elements are names, not amounts.
const DISCRETE: [&str; 3] = ["Discrete", "MultiDiscrete", "MultiBinary"];

/// Bytes of `metadata.json`, which holds bounds of spaces and no rows.
const MOST_METADATA: u64 = 16 << 20;

/// Refuses a dataset whose `metadata.json`, beside the file, states an action space that is not continuous.
pub(super) fn check_spaces(path: &Path, name: &str) -> Result<()> {
    let metadata = path.parent().and_then(metadata).unwrap_or_default();
    let space = metadata.get("action_space").and_then(Value::as_str);
    let space: Option<Value> = space.and_then(|text| serde_json::from_str(text).ok());
    let Some(space) = space else { return Ok(()) };
    let kind = space.get("type").and_then(Value::as_str).unwrap_or_default();
    if !DISCRETE.contains(&kind) {
        return Ok(());
    }
    let size = space.get("n").or(space.get("nvec")).map_or(String::new(), |n| format!("({n})"));
    let problem = format!(
        "the action space is {kind}{size} by metadata.json: its numbers are names of choices, and policies here give amounts"
    );
    let remedy =
        "record with a Box action space; if the numbers are amounts all the same, convert a copy of the dataset \
                  whose metadata.json says so";
    Err(Error::data(name, Some("actions"), &problem, remedy))
}

fn metadata(folder: &Path) -> Option<Value> {
    let path = folder.join("metadata.json");
    let about = std::fs::metadata(&path).ok().filter(|about| about.is_file() && about.len() <= MOST_METADATA)?;
    let text = std::fs::read(&path).ok().filter(|text| text.len() as u64 <= about.len())?;
    serde_json::from_slice(&text).ok()
}

/// A dataset that Minari wrote with `data_format="arrow"`: `metadata.json`, and a folder of `.arrow` files an episode.
pub(super) struct Folder {
    path: PathBuf,
    metadata: Value,
    /// Files by the episode's number.
    episodes: Vec<(u64, Vec<PathBuf>)>,
    pub bytes: u64,
}

impl Folder {
    /// The dataset at `path` or in its `data`; none if that is something else.
    ///
    /// # Errors
    /// `Io` where it cannot be read, `Data` where episodes are missing.
    pub fn find(path: &Path, name: &str) -> Result<Option<Folder>> {
        let at = |path: PathBuf| Some((metadata(&path)?, path));
        let is_arrow = |(metadata, _): &(Value, PathBuf)| metadata.get("data_format").is_some_and(|f| f == "arrow");
        let Some((metadata, path)) = [path.to_path_buf(), path.join("data")].into_iter().filter_map(at).find(is_arrow)
        else {
            return Ok(None);
        };
        let mut folder = Folder { path, metadata, episodes: Vec::new(), bytes: 0 };
        for entry in list(&folder.path, name)? {
            let number = entry.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u64>().ok());
            let Some(number) = number.filter(|_| entry.is_dir()) else { continue };
            let mut files = list(&entry, name)?;
            files.retain(|file| file.extension().is_some_and(|e| e == "arrow") && file.is_file());
            // part-10 after part-9.
            files.sort_by_key(|file| (file.as_os_str().len(), file.clone()));
            for file in &files {
                let length = std::fs::metadata(file).map_err(|e| io_error(name, None, &e))?.len();
                folder.bytes = folder.bytes.saturating_add(length);
            }
            folder.episodes.push((number, files));
        }
        folder.episodes.sort();
        let (stated, found) = (folder.metadata.get("total_episodes"), folder.episodes.len());
        if stated.is_some_and(|stated| *stated != found as u64) {
            let problem =
                format!("metadata.json states {} episodes, {found} are there", stated.unwrap_or(&Value::Null));
            return Err(Error::data(name, None, &problem, "fetch or copy the dataset again"));
        }
        Ok(Some(folder))
    }

    pub fn read(&self, name: &str, budget: &Budget, mapping: &Mapping, out: &mut Assembler) -> Result<&'static str> {
        check_spaces(&self.path.join("metadata.json"), name)?;
        for (done, (number, files)) in (1..).zip(&self.episodes) {
            let tables = files.iter().map(|file| Table::open(file, budget)).collect::<Result<Vec<_>>>()?;
            let rows: usize = tables.iter().map(|table| table.rows).sum();
            let path = |key: &str| format!("{number}/{key}");
            let stated = metadata(&self.path.join(number.to_string())).unwrap_or_default();
            let stated = stated.get("total_steps").and_then(Value::as_u64);
            // A row of the reset's observation more than steps.
            if rows == 0 || stated.is_some_and(|steps| steps != rows as u64 - 1) {
                let steps = stated.map_or("one step at least".to_owned(), |steps| format!("{steps} steps"));
                let problem = format!("has {rows} rows, where {steps} and the last observation are due");
                return Err(Error::data(name, Some(&path("")), &problem, "fetch or copy the dataset again"));
            }
            let episode = Episode { tables: &tables, rows, budget };
            let get = |field, _| episode.field(mapping, field);
            let (block, ended) = episode::assemble(name, path, mapping, get)?;
            out.push_episode(block, ended)?;
            out.progress(self.bytes / self.episodes.len() as u64 * done)?;
        }
        Ok("minari")
    }
}

fn list(folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| io_error(name, None, &e))?;
    entries.map(|entry| Ok(entry.map_err(|e| io_error(name, None, &e))?.path())).collect()
}

/// The files of an episode: its rows are steps, filled up by one row,
/// since observations and infos begin with the reset's.
struct Episode<'a> {
    tables: &'a [Table],
    rows: usize,
    budget: &'a Budget,
}

impl Episode<'_> {
    fn field(&self, mapping: &Mapping, field: Field) -> Result<Array> {
        let first = &self.tables[0];
        let steps = self.rows - 1;
        let exists = |key: &str| first.has(key);
        if let Some(value) = mapping.constant(field, exists).or_else(|| mapping.absent(field, exists, true)) {
            return Ok((1, vec![value; steps]));
        }
        let keys = mapping.arrays(field, exists, &first.names())?;
        let mut parts = Vec::new();
        for key in &keys {
            let (dim, mut values) = self.column(key)?;
            if dim != 1 && !field.is_vector() {
                let problem = format!("has {dim} entries a row, expected one");
                return Err(first.error(Some(key), &problem, "store one value per transition"));
            }
            if field != Field::Observations && !key.starts_with("infos/") {
                values.truncate(steps * dim);
            }
            parts.push((dim, values));
        }
        super::join(parts).ok_or_else(|| {
            let problem = format!("is joined of columns of unequal length ({})", keys.join(", "));
            first.error(Some(mapping.key(field)), &problem, "give each one row per observation")
        })
    }

    fn column(&self, key: &str) -> Result<Array> {
        let mut whole: Option<Array> = None;
        for table in self.tables {
            let Some((dim, values)) = table.floats(key, self.budget)? else { return Err(group(table, key)) };
            let (known, all) = whole.get_or_insert((dim, Vec::new()));
            if *known != dim {
                return Err(table.error(
                    Some(key),
                    "has rows of another length than before",
                    "give all the same shape",
                ));
            }
            all.extend(values);
        }
        Ok(whole.unwrap_or_default())
    }
}

/// The error of a dictionary that stands where numbers are due.
fn group(table: &Table, key: &str) -> Error {
    let field = FIELDS.into_iter().find(|field| field.names().contains(&key)).map_or("observations", Field::key);
    let entries = table.entries(key);
    if entries.is_empty() {
        return table.error(Some(key), "is not in every file of the episode", "fetch or copy the dataset again");
    }
    let remedy = format!("say which entries, joined in this order: --map {field}={}", entries.join(","));
    table.error(Some(key), "is a group, as of a dictionary of observations", &remedy)
}
