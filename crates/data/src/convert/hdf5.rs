//! HDF5 of other layouts: Minari's groups of episodes, and flat files with other names.

use std::path::Path;

use hdf5_reader::group::Group;

use super::assemble::{Assembler, Block};
use super::episode::{self, Array};
use super::mapping::{Extra, Field, Mapping, FIELDS};
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::hdf5::{h5_error, Column, H5};

pub(super) fn read(
    path: &Path,
    bytes: u64,
    budget: &Budget,
    mapping: &Mapping,
    out: &mut Assembler,
) -> Result<&'static str> {
    let name = path.display().to_string();
    let file = H5::open(path, &name, budget)?;
    let root = file.root()?;
    let (groups, _) = member_names(&file, &root)?;
    let number = |group: &str| group.strip_prefix("episode_")?.parse::<u64>().ok();
    let mut episodes: Vec<(u64, &String)> = groups.iter().filter_map(|g| Some((number(g)?, g))).collect();
    episodes.sort_unstable();
    if episodes.is_empty() {
        let source = Source { file: &file, prefix: "", group: &root, budget };
        out.push(source.flat(mapping)?)?;
        return Ok("hdf5");
    }
    super::minari::check_spaces(path, &name)?;
    let count = episodes.len() as u64;
    for (done, (_, key)) in (1..).zip(episodes) {
        let group = root.group(key).map_err(|e| h5_error(&name, Some(key), &e))?;
        let source = Source { file: &file, prefix: key, group: &group, budget };
        let path = |key: &str| source.path(key);
        let get = |field, rows| source.field(mapping, field, rows, true);
        let (block, ended) = episode::assemble(&name, path, mapping, get)?;
        out.push_episode(block, ended)?;
        out.progress(bytes * done / count)?;
    }
    Ok("minari")
}

/// Names of a group's groups and arrays. One array that cannot be read ends the listing: it is named, if it is a field.
fn member_names(file: &H5, group: &Group) -> Result<(Vec<String>, Vec<String>)> {
    group.member_names().map_err(|error| {
        let mut fields = FIELDS.into_iter().flat_map(Field::names).filter(|name| !name.contains('/'));
        let named = fields.find_map(|name| file.member(group, name, name).err());
        named.unwrap_or_else(|| h5_error(&file.name, None, &error))
    })
}

/// A group that holds an array per field, perhaps in groups of its own (`infos/cost`).
struct Source<'a> {
    file: &'a H5,
    /// Name of the group; empty for the root.
    prefix: &'a str,
    group: &'a Group,
    budget: &'a Budget,
}

impl Source<'_> {
    /// One array per field, all equally long.
    fn flat(&self, mapping: &Mapping) -> Result<Block> {
        let mut block = Block::default();
        for &field in mapping.fields() {
            let rows = block.rows_of(Field::Actions);
            let (dim, values) = match field {
                Field::NextObservations if mapping.shift => (1, Vec::new()),
                _ => self.field(mapping, field, rows, false)?,
            };
            block.set(field, dim, values);
        }
        let found = self.found()?;
        block.episodes = self.extra(mapping.episode(&found)?, |v| v.into_iter().map(f64::to_bits).collect())?;
        block.times = self.extra(mapping.time(&found)?, |mut v| {
            super::time::to_seconds(&mut v);
            v
        })?;
        Ok(block)
    }

    fn extra<T>(&self, extra: Option<Extra>, convert: impl Fn(Vec<f64>) -> Vec<T>) -> Result<Option<(Extra, Vec<T>)>> {
        let Some(extra) = extra else { return Ok(None) };
        let read = || {
            let column = self.column(&extra.name)?;
            column.scalar_rows()?;
            self.check(&column)?;
            column.doubles()
        };
        match read() {
            Ok(values) => Ok(Some((extra, convert(values)))),
            // One that was not asked for may be of any type.
            Err(_) if !extra.asked => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn found(&self) -> Result<Vec<String>> {
        let (groups, arrays) = member_names(self.file, self.group)?;
        Ok(arrays.into_iter().chain(groups.iter().map(|g| format!("{g}/"))).collect())
    }

    /// `episodes_known`: groups end episodes, so flags may be absent.
    fn field(&self, mapping: &Mapping, field: Field, rows: usize, episodes_known: bool) -> Result<Array> {
        let exists = |key: &str| self.exists(key);
        let constant = mapping.constant(field, exists).or_else(|| mapping.absent(field, exists, episodes_known));
        if let Some(value) = constant {
            return Ok((1, vec![value; rows]));
        }
        let keys = mapping.arrays(field, exists, &self.found()?)?;
        let columns = keys.iter().map(|key| self.column(key)).collect::<Result<Vec<_>>>()?;
        let mut parts: Vec<Array> = Vec::new();
        for column in columns {
            let (_, dim) = column.rows_and_dim()?;
            if dim != 1 && !field.is_vector() {
                let problem = format!("has {dim} entries a row, expected shape [N] or [N, 1]");
                return Err(column.error(&problem, "store one value per transition"));
            }
            self.check(&column)?;
            parts.push((dim, column.floats()?));
        }
        super::join(parts).ok_or_else(|| {
            let problem = format!("is joined of arrays of unequal length ({})", keys.join(", "));
            Error::data(
                &self.file.name,
                Some(&self.path(mapping.key(field))),
                &problem,
                "give each one row per observation",
            )
        })
    }

    /// Before memory is asked for. The block keeps the values of the columns read before, hence twice.
    fn check(&self, column: &Column) -> Result<()> {
        self.budget.check(column.file(), Some(column.key()), column.memory().saturating_mul(2))
    }

    fn path(&self, key: &str) -> String {
        if self.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.prefix)
        }
    }

    /// True for arrays, links to other files, and groups: a group of the name deserves a message of its own.
    fn exists(&self, key: &str) -> bool {
        self.parent(key).is_some_and(|(parent, last)| {
            let listed =
                |(groups, arrays): (Vec<String>, Vec<String>)| groups.iter().chain(&arrays).any(|name| name == last);
            parent.member_names().is_ok_and(listed) || self.file.member(&parent, last, key).is_err()
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

    fn column(&self, key: &str) -> Result<Column<'_>> {
        let path = self.path(key);
        if let Some((parent, last)) = self.parent(key) {
            if let Some(column) = self.file.member(&parent, last, &path)? {
                return Ok(column);
            }
        }
        let field = FIELDS.into_iter().find(|field| field.names().contains(&key)).map_or("observations", Field::key);
        let entries = self
            .group
            .group(key)
            .and_then(|group| group.member_names())
            .map_or_else(|_| Vec::new(), |(_, arrays)| arrays);
        let listed: Vec<String> = entries.iter().map(|entry| format!("{key}/{entry}")).collect();
        let remedy = match listed.is_empty() {
            true => "map the field to arrays, joined in their order: --map observations=observations/a,observations/b"
                .to_owned(),
            false => format!("say which entries, joined in this order: --map {field}={}", listed.join(",")),
        };
        let problem = "is a group, as of a dictionary of observations";
        Err(Error::data(&self.file.name, Some(&path), problem, &remedy))
    }
}
