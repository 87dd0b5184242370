//! Which column of the input is which field of a DSRL file.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::ConvertOptions;
use crate::columns::FURTHER;
use crate::error::{Error, Result};

/// A field of a DSRL file. The order is that of [`FIELDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Observations,
    NextObservations,
    Actions,
    Rewards,
    Costs,
    Terminals,
    Timeouts,
    /// A further column of one number a step, by its place in [`Mapping::keep`].
    Further(usize),
}

use Field::{Actions, Costs, Further, NextObservations, Observations, Rewards, Terminals, Timeouts};

pub(crate) const FIELDS: [Field; 7] = [Observations, NextObservations, Actions, Rewards, Costs, Terminals, Timeouts];

/// Names under which logs number their episodes, or the environments that ran side by side.
const EPISODE_NAMES: [&str; 14] = [
    "episode",
    "episode_id",
    "episode_index",
    "episode_number",
    "trajectory",
    "trajectory_id",
    "traj",
    "traj_id",
    "env",
    "env_id",
    "env_index",
    "worker",
    "worker_id",
    "run_id",
];
const TIME_NAMES: [&str; 6] = ["time", "timestamp", "datetime", "date", "ts", "time_stamp"];

impl Field {
    /// Its place in a block: the seven, then the further ones.
    #[inline(never)]
    pub fn index(self) -> usize {
        match self {
            Observations => 0,
            NextObservations => 1,
            Actions => 2,
            Rewards => 3,
            Costs => 4,
            Terminals => 5,
            Timeouts => 6,
            Further(index) => FIELDS.len() + index,
        }
    }

    /// Of the seven.
    pub fn key(self) -> &'static str {
        self.names().first().copied().unwrap_or_default()
    }

    /// The name of one of the seven, then those of Gymnasium, Minari and D4RL.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Observations => &["observations", "observation", "obs"],
            NextObservations => &["next_observations", "next_observation", "next_obs"],
            Actions => &["actions", "action"],
            Rewards => &["rewards", "reward"],
            Costs => &["costs", "cost", "infos/cost", "infos/costs"],
            Terminals => &["terminals", "terminations", "terminated"],
            Timeouts => &["timeouts", "truncations", "truncated"],
            Further(_) => &[],
        }
    }

    /// True for fields of several entries a row.
    pub fn is_vector(self) -> bool {
        matches!(self, Observations | NextObservations | Actions)
    }

    fn of(key: &str) -> Option<Field> {
        FIELDS.into_iter().find(|field| field.key() == key)
    }
}

/// Where the values of a field come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// Columns of the input, by their position.
    Columns(Vec<usize>),
    /// One value for all rows.
    Constant(f32),
    /// The observation of the next row.
    NextRow,
}

/// A column that is no field: what it says about the rows' order. `asked` if the caller named it;
/// else it was found by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extra {
    pub name: String,
    pub asked: bool,
}

pub(crate) struct Mapping<'a> {
    source: &'a str,
    /// Names of the further columns.
    pub keep: Vec<String>,
    fields: Vec<Field>,
    given: BTreeMap<Field, String>,
    pub shift: bool,
    episode: Option<&'a str>,
    time: Option<&'a str>,
    /// Episodes are told apart by one of these columns, so flags may be absent.
    ordered: bool,
    pub missing_cost: Option<f32>,
    /// What was taken, for the report.
    taken: RefCell<BTreeMap<String, String>>,
}

impl<'a> Mapping<'a> {
    pub fn new(options: &'a ConvertOptions, source: &'a str) -> Result<Self> {
        let (mut given, mut keep) = (BTreeMap::new(), Vec::new());
        for (key, name) in &options.map {
            let further = key.strip_prefix(FURTHER);
            if let Some(further) = further.filter(|name| !name.contains('/') && Field::of(name).is_none()) {
                given.insert(Further(keep.len()), name.clone());
                keep.push(further.to_owned());
                continue;
            }
            let Some(field) = Field::of(key) else {
                let remedy = format!("map one of {}, or keep it (--keep {key})", FIELDS.map(Field::key).join(", "));
                return Err(Error::data(source, Some(key), "is no field of a DSRL file", &remedy));
            };
            if field == NextObservations && options.shift {
                let problem = "is mapped, and taken from the next row as well";
                return Err(Error::data(source, Some(key), problem, "choose one of the two"));
            }
            given.insert(field, name.clone());
        }
        let mut fields = FIELDS.to_vec();
        fields.extend((0..keep.len()).map(Further));
        Ok(Mapping {
            source,
            keep,
            fields,
            given,
            shift: options.shift,
            episode: options.episode.as_deref(),
            time: options.time.as_deref(),
            ordered: options.episode.is_some() || options.max_gap.is_some(),
            missing_cost: options.missing_cost,
            taken: RefCell::default(),
        })
    }

    pub fn describe(&self) -> BTreeMap<String, String> {
        self.taken.borrow().clone()
    }

    /// All fields of the file to be made.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// What a field is called in the file to be made.
    #[inline(never)]
    pub fn key(&self, field: Field) -> &str {
        match field {
            Further(index) => &self.keep[index],
            field => field.key(),
        }
    }

    fn take(&self, field: Field, origin: &str) {
        self.taken.borrow_mut().insert(self.key(field).to_owned(), origin.to_owned());
    }

    /// The number that a field is mapped to, if it is one and no column is called so.
    pub fn constant(&self, field: Field, is_column: impl Fn(&str) -> bool) -> Option<f32> {
        let name = self.given.get(&field).filter(|name| !field.is_vector() && !is_column(name))?;
        let value = name.parse().ok()?;
        self.take(field, name);
        Some(value)
    }

    /// What stands for a field that is not in the input: the stated cost,
    /// and no flag where episodes are known otherwise.
    pub fn absent(&self, field: Field, exists: impl Fn(&str) -> bool, episodes_known: bool) -> Option<f32> {
        let there = self.given.contains_key(&field) || field.names().iter().any(|name| exists(name));
        let value = match field {
            Costs => self.missing_cost?,
            Terminals | Timeouts if episodes_known || self.ordered => 0.0,
            _ => return None,
        };
        if there {
            return None;
        }
        self.take(field, &format!("{value} (missing)"));
        Some(value)
    }

    /// The names of a field in an input that has one array per field: several, joined in this order, if the map lists
    /// several. `exists` says whether a name is there.
    pub fn arrays(&self, field: Field, exists: impl Fn(&str) -> bool, found: &[String]) -> Result<Vec<String>> {
        let names: Vec<&str> = match self.given.get(&field) {
            Some(name) if exists(name) => vec![name],
            Some(list) => list.split(',').map(str::trim).collect(),
            None => field.names().iter().copied().find(|name| exists(name)).into_iter().collect(),
        };
        if names.is_empty() || !names.iter().all(|name| exists(name)) {
            return Err(self.missing(field, found));
        }
        if names.len() > 1 && !field.is_vector() {
            return Err(self.one_only(field, names.len()));
        }
        self.take(field, &names.join(","));
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// The columns of a field in a table. A vector may be spread over several.
    pub fn columns(&self, field: Field, table: &[String]) -> Result<Origin> {
        if field == NextObservations && self.shift {
            self.take(field, "observations of the next row");
            return Ok(Origin::NextRow);
        }
        let exists = |name: &str| table.iter().any(|column| column == name);
        if let Some(value) = self.constant(field, exists).or_else(|| self.absent(field, exists, false)) {
            return Ok(Origin::Constant(value));
        }
        let found = match self.given.get(&field) {
            Some(list) => {
                let mut columns = Vec::new();
                for part in list.split(',').map(str::trim) {
                    let matching = self.matching(field, part, table)?;
                    if matching.is_empty() {
                        return Err(self.missing(field, table));
                    }
                    columns.extend(matching);
                }
                columns
            }
            None => {
                let exact = field.names().iter().map(|name| (*name).to_owned());
                let several = field.names().iter().filter(|_| field.is_vector()).map(|name| format!("{name}_*"));
                let mut found = Vec::new();
                for pattern in exact.chain(several) {
                    found = self.matching(field, &pattern, table)?;
                    if !found.is_empty() {
                        break;
                    }
                }
                found
            }
        };
        if found.is_empty() {
            return Err(self.missing(field, table));
        }
        if found.len() > 1 && !field.is_vector() {
            return Err(self.one_only(field, found.len()));
        }
        let names: Vec<&str> = found.iter().map(|&i| table[i].as_str()).collect();
        self.take(field, &names.join(","));
        Ok(Origin::Columns(found))
    }

    /// Positions of the columns that `pattern` means. A `*` stands for a number;
    /// such columns come in its order, which has no gaps.
    fn matching(&self, field: Field, pattern: &str, table: &[String]) -> Result<Vec<usize>> {
        if let Some(exact) = table.iter().position(|name| name == pattern) {
            return Ok(vec![exact]);
        }
        let Some((before, after)) = pattern.split_once('*') else {
            return Ok(Vec::new());
        };
        let number = |name: &String| -> Option<u64> { name.strip_prefix(before)?.strip_suffix(after)?.parse().ok() };
        let mut numbered: Vec<(u64, usize)> =
            table.iter().enumerate().filter_map(|(i, name)| Some((number(name)?, i))).collect();
        numbered.sort_unstable();
        // Vectors are numbered from 0 or from 1 on; a pattern of the caller's own may begin anywhere.
        let least = numbered.first().map_or(0, |&(n, _)| n);
        let first = if self.given.contains_key(&field) { least } else { least.min(1) };
        if let Some((expected, (found, i))) = (first..).zip(&numbered).find(|(expected, (n, _))| expected != n) {
            let problem = match *found < expected {
                true => format!("{} is there twice", table[*i]),
                false => format!("{} is there, but no {before}{expected}{after}", table[*i]),
            };
            let names: Vec<&str> = numbered.iter().map(|&(_, i)| table[i].as_str()).collect();
            let remedy = format!("add that column, or list those meant: --map {}={}", self.key(field), names.join(","));
            return Err(Error::data(self.source, Some(self.key(field)), &problem, &remedy));
        }
        Ok(numbered.into_iter().map(|(_, i)| i).collect())
    }

    /// The column that numbers the episodes: the one asked for, or else one with a usual name.
    pub fn episode(&self, table: &[String]) -> Result<Option<Extra>> {
        self.extra(self.episode, "--episode", &EPISODE_NAMES, table)
    }

    /// The column of times, likewise.
    pub fn time(&self, table: &[String]) -> Result<Option<Extra>> {
        self.extra(self.time, "--time", &TIME_NAMES, table)
    }

    fn extra(&self, asked: Option<&str>, flag: &str, names: &[&str], table: &[String]) -> Result<Option<Extra>> {
        let used: Vec<String> = self.taken.borrow().values().flat_map(|v| v.split(',').map(str::to_owned)).collect();
        let Some(name) = asked else {
            let free = |name: &&str| table.iter().any(|column| column == name) && !used.iter().any(|u| u == name);
            let name = names.iter().copied().find(free);
            return Ok(name.map(|name| Extra { name: name.to_owned(), asked: false }));
        };
        if table.iter().any(|column| column == name) {
            return Ok(Some(Extra { name: name.to_owned(), asked: true }));
        }
        let problem = format!("{flag} names it, and it is not there (found: {})", listing(table));
        Err(Error::data(self.source, Some(name), &problem, "name a column that is"))
    }

    fn one_only(&self, field: Field, count: usize) -> Error {
        let problem = format!("is mapped to {count} columns, and takes one");
        Error::data(self.source, Some(self.key(field)), &problem, "name a single column")
    }

    fn missing(&self, field: Field, found: &[String]) -> Error {
        let key = self.key(field);
        let what = match self.given.get(&field) {
            Some(name) => format!("is mapped to \"{name}\", which is not there"),
            None => "is not there".to_owned(),
        };
        let remedy = match field {
            _ if self.given.contains_key(&field) => "map it to one that is".to_owned(),
            NextObservations => format!("map it ({key}=NAME), or have it taken from the next row with --shift"),
            Costs => format!("map it ({key}=NAME), or state its value if there is none (--missing-cost 0)"),
            Terminals | Timeouts => format!(
                "map it ({key}=NAME), or {key}=0 if there are none, or name the column that numbers the episodes (--episode NAME)"
            ),
            _ => format!("map it ({key}=NAME)"),
        };
        Error::data(self.source, Some(key), &format!("{what} (found: {})", listing(found)), &remedy)
    }
}

fn listing(found: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = found.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let rest = if found.len() > SHOWN { ", .." } else { "" };
    format!("{shown}{rest}")
}
