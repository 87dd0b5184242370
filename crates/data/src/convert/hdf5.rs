//! HDF5 of other layouts: Minari's groups of episodes, and flat files with other names.

use std::path::Path;

use hdf5_reader::group::Group;
use hdf5_reader::{Hdf5File, OpenOptions};

use super::assemble::{Assembler, Block};
use super::mapping::{Field, Mapping, FIELDS};
use crate::error::{Error, Result};
use crate::hdf5::{h5_error, Column};

pub(super) fn read(
    path: &Path,
    name: &str,
    bytes: u64,
    mapping: &Mapping,
    out: &mut Assembler,
) -> Result<&'static str> {
    let options = OpenOptions::default().with_chunk_cache_bytes(0);
    let file = Hdf5File::open_with_options(path, options).map_err(|e| h5_error(name, None, &e))?;
    let root = file.root_group().map_err(|e| h5_error(name, None, &e))?;
    let (groups, _) = root.member_names().map_err(|e| h5_error(name, None, &e))?;
    let number = |group: &str| group.strip_prefix("episode_")?.parse::<u64>().ok();
    let mut episodes: Vec<(u64, &String)> = groups.iter().filter_map(|g| Some((number(g)?, g))).collect();
    episodes.sort_unstable();
    if episodes.is_empty() {
        let source = Source { name, prefix: "", group: &root, bytes };
        out.push(source.flat(mapping)?)?;
        return Ok("hdf5");
    }
    let count = episodes.len() as u64;
    for (done, (_, key)) in (1..).zip(episodes) {
        let group = root.group(key).map_err(|e| h5_error(name, Some(key), &e))?;
        let source = Source { name, prefix: key, group: &group, bytes };
        let (block, ended) = source.episode(mapping)?;
        if ended {
            out.count_ended();
        }
        out.push(block)?;
        out.progress(bytes * done / count)?;
    }
    Ok("minari")
}

/// A group that holds an array per field, perhaps in groups of its own (`infos/cost`).
struct Source<'a> {
    name: &'a str,
    /// Name of the group; empty for the root.
    prefix: &'a str,
    group: &'a Group,
    /// Size of the file.
    bytes: u64,
}

/// Entries per row, and all values.
type Array = (usize, Vec<f32>);

impl Source<'_> {
    /// One array per field, all equally long.
    fn flat(&self, mapping: &Mapping) -> Result<Block> {
        let mut block = Block::default();
        for field in FIELDS {
            let rows = block.values[Field::Actions as usize].len() / block.dims[Field::Actions as usize].max(1);
            let (dim, values) = match field {
                Field::NextObservations if mapping.shift => (1, Vec::new()),
                _ => self.field(mapping, field, rows)?,
            };
            block.set(field, dim, values);
        }
        Ok(block)
    }

    /// An episode of T steps, as Minari stores it: T + 1 observations, T or T + 1 costs (the first is that of the
    /// reset), T of the rest. True if it had no end flag: a recording that was cut off ends here all the same.
    fn episode(&self, mapping: &Mapping) -> Result<(Block, bool)> {
        let mut block = Block::default();
        let (act_dim, actions) = self.field(mapping, Field::Actions, 0)?;
        let rows = actions.len() / act_dim;
        block.set(Field::Actions, act_dim, actions);
        let (obs_dim, mut observations) = self.field(mapping, Field::Observations, 0)?;
        let states = observations.len() / obs_dim;
        if states == rows + 1 && !mapping.shift {
            block.set(Field::NextObservations, obs_dim, observations[obs_dim..].to_vec());
            observations.truncate(rows * obs_dim);
        } else if !mapping.shift {
            let (dim, values) = self.field(mapping, Field::NextObservations, 0)?;
            block.set(Field::NextObservations, dim, values);
        }
        block.set(Field::Observations, obs_dim, observations);
        for field in [Field::Rewards, Field::Costs, Field::Terminals, Field::Timeouts] {
            let (dim, mut values) = self.field(mapping, field, rows)?;
            if field == Field::Costs && values.len() == rows + 1 {
                values.remove(0);
            }
            block.set(field, dim, values);
        }
        self.check_rows(&block, rows, mapping.shift)?;
        let ends = [Field::Terminals, Field::Timeouts].map(|field| block.values[field as usize].last() == Some(&1.0));
        let ended = rows > 0 && ends == [false, false];
        if ended {
            block.values[Field::Timeouts as usize][rows - 1] = 1.0;
        }
        Ok((block, ended))
    }

    fn check_rows(&self, block: &Block, rows: usize, shift: bool) -> Result<()> {
        for field in FIELDS {
            let (values, dim) = (&block.values[field as usize], block.dims[field as usize]);
            if values.len() != rows * dim && !(shift && field == Field::NextObservations) {
                let problem = format!("has {} rows, actions has {rows}", values.len() / dim.max(1));
                let remedy = "give one row per step (observations one more, or --shift)";
                return Err(Error::data(self.name, Some(&self.path(field.key())), &problem, remedy));
            }
        }
        Ok(())
    }

    fn field(&self, mapping: &Mapping, field: Field, rows: usize) -> Result<Array> {
        let exists = |key: &str| self.exists(key);
        if let Some(value) = mapping.constant(field, exists) {
            return Ok((1, vec![value; rows]));
        }
        let (groups, arrays) = self.group.member_names().map_err(|e| h5_error(self.name, None, &e))?;
        let found: Vec<String> = arrays.into_iter().chain(groups.iter().map(|g| format!("{g}/"))).collect();
        let key = mapping.array(field, exists, &found)?;
        let path = self.path(&key);
        let column = self.column(&key, &path)?;
        let (_, dim) = column.rows_and_dim()?;
        if dim != 1 && !field.is_vector() {
            let problem = format!("has {dim} entries a row, expected shape [N] or [N, 1]");
            return Err(column.error(&problem, "store one value per transition"));
        }
        column.check_budget(self.bytes)?;
        Ok((dim, column.floats()?))
    }

    fn path(&self, key: &str) -> String {
        if self.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.prefix)
        }
    }

    /// True for arrays and groups: a group of the name deserves a message of its own.
    fn exists(&self, key: &str) -> bool {
        self.parent(key).is_some_and(|(parent, last)| {
            parent.member_names().is_ok_and(|(groups, arrays)| groups.iter().chain(&arrays).any(|name| name == last))
        })
    }

    /// The group that holds the last part of a path.
    fn parent<'k>(&self, key: &'k str) -> Option<(Group, &'k str)> {
        let mut parts: Vec<&str> = key.split('/').collect();
        let last = parts.pop()?;
        let start = self.group.clone();
        let parent = parts.into_iter().try_fold(start, |group, part| group.group(part).ok())?;
        Some((parent, last))
    }

    fn column<'b>(&'b self, key: &str, path: &'b str) -> Result<Column<'b>> {
        let dataset = self.parent(key).and_then(|(parent, last)| parent.dataset(last).ok());
        let dataset = dataset.ok_or_else(|| {
            let problem = "is a group, as of a dictionary of observations, or cannot be opened";
            Error::data(self.name, Some(path), problem, "map the field to one array, e.g. observations=observations/x")
        })?;
        Ok(Column { file: self.name, key: path, dataset })
    }
}
