//! Which column of the input is which field of a DSRL file.

use std::collections::BTreeMap;

use super::ConvertOptions;
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
}

use Field::{Actions, Costs, NextObservations, Observations, Rewards, Terminals, Timeouts};

pub(crate) const FIELDS: [Field; 7] = [Observations, NextObservations, Actions, Rewards, Costs, Terminals, Timeouts];

impl Field {
    pub fn key(self) -> &'static str {
        self.names()[0]
    }

    /// The field's own name, then those of Gymnasium, Minari and D4RL.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Observations => &["observations", "observation", "obs"],
            NextObservations => &["next_observations", "next_observation", "next_obs"],
            Actions => &["actions", "action"],
            Rewards => &["rewards", "reward"],
            Costs => &["costs", "cost", "infos/cost", "infos/costs"],
            Terminals => &["terminals", "terminations", "terminated"],
            Timeouts => &["timeouts", "truncations", "truncated"],
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

pub(crate) struct Mapping<'a> {
    source: &'a str,
    given: BTreeMap<Field, String>,
    pub shift: bool,
    /// What was taken, for the report.
    taken: std::cell::RefCell<BTreeMap<&'static str, String>>,
}

impl<'a> Mapping<'a> {
    pub fn new(options: &ConvertOptions, source: &'a str) -> Result<Self> {
        let mut given = BTreeMap::new();
        for (key, name) in &options.map {
            let Some(field) = Field::of(key) else {
                let remedy = format!("map one of {}", FIELDS.map(Field::key).join(", "));
                return Err(Error::data(source, Some(key), "is no field of a DSRL file", &remedy));
            };
            if field == NextObservations && options.shift {
                let problem = "is mapped, and taken from the next row as well";
                return Err(Error::data(source, Some(key), problem, "choose one of the two"));
            }
            given.insert(field, name.clone());
        }
        Ok(Mapping { source, given, shift: options.shift, taken: Default::default() })
    }

    pub fn describe(&self) -> BTreeMap<&'static str, String> {
        self.taken.borrow().clone()
    }

    fn take(&self, field: Field, origin: &str) {
        self.taken.borrow_mut().insert(field.key(), origin.to_owned());
    }

    /// The number that a field is mapped to, if it is one and no column is called so.
    pub fn constant(&self, field: Field, is_column: impl Fn(&str) -> bool) -> Option<f32> {
        let name = self.given.get(&field).filter(|name| !field.is_vector() && !is_column(name))?;
        let value = name.parse().ok()?;
        self.take(field, name);
        Some(value)
    }

    /// The name of a field in an input that has one array per field. `exists` says whether a name is there.
    pub fn array(&self, field: Field, exists: impl Fn(&str) -> bool, found: &[String]) -> Result<String> {
        let name = match self.given.get(&field) {
            Some(name) => Some(name.as_str()).filter(|name| exists(name)),
            None => field.names().iter().copied().find(|name| exists(name)),
        };
        let name = name.ok_or_else(|| self.missing(field, found))?;
        self.take(field, name);
        Ok(name.to_owned())
    }

    /// The columns of a field in a table. A vector may be spread over several.
    pub fn columns(&self, field: Field, table: &[String]) -> Result<Origin> {
        if field == NextObservations && self.shift {
            self.take(field, "observations of the next row");
            return Ok(Origin::NextRow);
        }
        if let Some(value) = self.constant(field, |name| table.iter().any(|column| column == name)) {
            return Ok(Origin::Constant(value));
        }
        let found = match self.given.get(&field) {
            Some(list) => {
                let mut columns = Vec::new();
                for part in list.split(',').map(str::trim) {
                    let matching = matching(part, table);
                    if matching.is_empty() {
                        return Err(self.missing(field, table));
                    }
                    columns.extend(matching);
                }
                columns
            }
            None => {
                let spread = |name: &str| matching(&format!("{name}_*"), table);
                let exact = field.names().iter().map(|name| matching(name, table));
                let several = field.names().iter().filter(|_| field.is_vector()).map(|name| spread(name));
                exact.chain(several).find(|columns| !columns.is_empty()).unwrap_or_default()
            }
        };
        if found.is_empty() {
            return Err(self.missing(field, table));
        }
        if found.len() > 1 && !field.is_vector() {
            let problem = format!("is mapped to {} columns, and takes one", found.len());
            return Err(Error::data(self.source, Some(field.key()), &problem, "name a single column"));
        }
        let names: Vec<&str> = found.iter().map(|&i| table[i].as_str()).collect();
        self.take(field, &names.join(","));
        Ok(Origin::Columns(found))
    }

    fn missing(&self, field: Field, found: &[String]) -> Error {
        const SHOWN: usize = 20;
        let key = field.key();
        let shown = found.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let rest = if found.len() > SHOWN { ", .." } else { "" };
        let what = match self.given.get(&field) {
            Some(name) => format!("is mapped to \"{name}\", which is not there"),
            None => "is not there".to_owned(),
        };
        let remedy = match field {
            _ if self.given.contains_key(&field) => "map it to one that is".to_owned(),
            NextObservations => format!("map it ({key}=NAME), or have it taken from the next row with --shift"),
            Costs | Terminals | Timeouts => format!("map it ({key}=NAME), or {key}=0 if there are none"),
            _ => format!("map it ({key}=NAME)"),
        };
        Error::data(self.source, Some(key), &format!("{what} (found: {shown}{rest})"), &remedy)
    }
}

/// Positions of the columns that `pattern` means. A `*` stands for a number; such columns come in its order.
fn matching(pattern: &str, table: &[String]) -> Vec<usize> {
    if let Some(exact) = table.iter().position(|name| name == pattern) {
        return vec![exact];
    }
    let Some((before, after)) = pattern.split_once('*') else {
        return Vec::new();
    };
    let number = |name: &String| -> Option<u64> { name.strip_prefix(before)?.strip_suffix(after)?.parse().ok() };
    let mut numbered: Vec<(u64, usize)> =
        table.iter().enumerate().filter_map(|(i, name)| Some((number(name)?, i))).collect();
    numbered.sort_unstable();
    numbered.into_iter().map(|(_, i)| i).collect()
}
