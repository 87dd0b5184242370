//! Arrow's IPC files of records: numbers, in structs and lists of a fixed size.
//!
//! Of the format's headers only what leads to columns of numbers is read, by `flat.rs`; a library of the whole format
//! brings arrays of every type there is.

mod flat;
mod header;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use half::f16;

use self::header::{Batch, Block, Field, Footer, Kind};
use super::episode::Array;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::hdf5::io_error;

const MAGIC: &[u8] = b"ARROW1";
/// Magic number and padding in front, the footer's length and the magic number behind.
const FRAME: usize = 8 + 4 + 6;
const AGAIN: &str = "write or fetch the file again";

/// A file in memory, and where its columns lie.
pub(super) struct Table {
    name: String,
    bytes: Vec<u8>,
    pub rows: usize,
    columns: BTreeMap<String, Column>,
    /// Names of the structs.
    groups: BTreeSet<String>,
}

/// Values of one name (`infos/cost`).
struct Column {
    kind: Kind,
    /// Values a row.
    dim: usize,
    nulls: bool,
    pieces: Vec<Piece>,
}

/// Values of one batch of records.
#[derive(Clone, Copy)]
struct Piece {
    start: usize,
    values: usize,
}

impl Kind {
    fn value(self, bytes: &[u8], index: usize) -> f32 {
        let at = |width: usize| {
            let mut word = [0; 8];
            word[..width].copy_from_slice(&bytes[index * width..][..width]);
            u64::from_le_bytes(word)
        };
        match self {
            Kind::Bool => f32::from(bytes[index / 8] >> (index % 8) & 1),
            Kind::Unsigned(width) => at(width) as f32,
            Kind::Signed(width) => {
                let unused = 64 - 8 * width as u32;
                ((at(width) << unused) as i64 >> unused) as f32
            }
            Kind::Float(2) => f16::from_bits(at(2) as u16).to_f32(),
            Kind::Float(4) => f32::from_bits(at(4) as u32),
            Kind::Float(_) => f64::from_bits(at(8)) as f32,
            _ => f32::NAN,
        }
    }
}

impl Table {
    /// Reads a file whole; it may hold as much as the budget allows.
    pub fn open(path: &Path, budget: &Budget) -> Result<Table> {
        let name = path.display().to_string();
        let length = std::fs::metadata(path).map_err(|e| io_error(&name, None, &e))?.len();
        budget.check(&name, None, length)?;
        let bytes = std::fs::read(path).map_err(|e| io_error(&name, None, &e))?;
        let mut table = Table { name, bytes, rows: 0, columns: BTreeMap::new(), groups: BTreeSet::new() };
        table.read()?;
        Ok(table)
    }

    fn read(&mut self) -> Result<()> {
        let length = self.bytes.len();
        if length < FRAME || !self.bytes.starts_with(MAGIC) || !self.bytes.ends_with(MAGIC) {
            return Err(self.error(None, "is not a whole Arrow file: its marks are missing", AGAIN));
        }
        let end = length - 4 - MAGIC.len();
        let size = u32::from_le_bytes([0, 1, 2, 3].map(|i| self.bytes[end + i])) as usize;
        let Some(start) = end.checked_sub(size) else { return Err(self.damaged("its footer is too long")) };
        let footer = Footer::read(&self.bytes[start..end]).map_err(|_| self.damaged("its footer"))?;
        let Some(footer) = footer else { return Err(self.damaged("it has no schema")) };
        if !footer.little_endian {
            return Err(self.error(None, "is in the byte order of other machines", "write it on a little-endian one"));
        }
        for block in footer.batches {
            let (message, body) = self.block(&block)?;
            let batch = Batch::read(&self.bytes[message]).map_err(|_| self.damaged("the header of a batch"))?;
            let Some(batch) = batch else { return Err(self.damaged("a batch")) };
            if batch.compressed {
                return Err(self.error(None, "is compressed", "write it with compression=None"));
            }
            let rows = usize::try_from(batch.rows).map_err(|_| self.damaged("the length of a batch"))?;
            let (nodes, buffers) = (batch.nodes.into_iter(), batch.buffers.into_iter());
            let mut walk = Walk { table: self, body, nodes, buffers };
            for field in &footer.fields {
                walk.field(field, None, rows, 1, false)?;
            }
            self.rows = self.rows.checked_add(rows).ok_or_else(|| self.damaged("the length of a batch"))?;
        }
        Ok(())
    }

    /// Where the message of a batch lies, and where its values.
    fn block(&self, block: &Block) -> Result<(Range<usize>, Range<usize>)> {
        let places = || {
            let start = usize::try_from(block.offset).ok()?;
            let body = start.checked_add(usize::try_from(block.header).ok()?)?;
            let end = body.checked_add(usize::try_from(block.body).ok()?)?;
            // In front: a mark and the length; older files have the length alone.
            let skipped = if self.bytes.get(start..body)?.starts_with(&[0xff; 4]) { 8 } else { 4 };
            (start + skipped <= body && end <= self.bytes.len()).then_some((start + skipped..body, body..end))
        };
        places().ok_or_else(|| self.damaged("a batch lies outside of it"))
    }

    /// Columns and structs.
    pub fn names(&self) -> Vec<String> {
        self.columns.keys().cloned().chain(self.groups.iter().map(|group| format!("{group}/"))).collect()
    }

    pub fn has(&self, key: &str) -> bool {
        self.columns.contains_key(key) || self.groups.contains(key)
    }

    /// Columns of a struct.
    pub fn entries(&self, group: &str) -> Vec<String> {
        let inside = |key: &&String| key.strip_prefix(group).is_some_and(|rest| rest.starts_with('/'));
        self.columns.keys().filter(inside).cloned().collect()
    }

    /// Entries a row, and the values of all rows; none for a struct.
    pub fn floats(&self, key: &str, budget: &Budget) -> Result<Option<Array>> {
        let Some(column) = self.columns.get(key) else { return Ok(None) };
        if let Kind::Other(kind, _) = column.kind {
            let remedy = "numbers and lists of them of a fixed size are";
            return Err(self.error(Some(key), &format!("has the type {kind}, which is not read"), remedy));
        }
        if column.nulls {
            return Err(self.error(Some(key), "has rows without a value", "give every row a value"));
        }
        let values = self.rows.saturating_mul(column.dim);
        budget.check(&self.name, Some(key), (self.bytes.len() as u64).saturating_add(values as u64 * 8))?;
        let mut floats = Vec::new();
        floats.try_reserve_exact(values).map_err(|_| budget.refused(&self.name, Some(key), values as u64 * 4))?;
        for piece in &column.pieces {
            let bytes = &self.bytes[piece.start..];
            floats.extend((0..piece.values).map(|index| column.kind.value(bytes, index)));
        }
        Ok(Some((column.dim, floats)))
    }

    fn damaged(&self, what: &str) -> Error {
        self.error(None, &format!("is damaged: {what}"), AGAIN)
    }

    pub fn error(&self, key: Option<&str>, problem: &str, remedy: &str) -> Error {
        Error::data(&self.name, key, problem, remedy)
    }
}

/// Hands out the nodes and buffers of a batch, which stand in the order of its columns, depth first.
struct Walk<'a> {
    table: &'a mut Table,
    body: Range<usize>,
    nodes: std::vec::IntoIter<(i64, i64)>,
    buffers: std::vec::IntoIter<(i64, i64)>,
}

impl Walk<'_> {
    /// A column of `rows` rows with `dim` values each, or all inside a struct.
    fn field(&mut self, field: &Field, parent: Option<&str>, rows: usize, dim: usize, nulls: bool) -> Result<()> {
        let own = &field.name;
        let path = parent.map_or_else(|| own.clone(), |parent| format!("{parent}/{own}"));
        self.values(field, &path, rows, dim, nulls)
    }

    fn values(&mut self, field: &Field, path: &str, rows: usize, dim: usize, nulls: bool) -> Result<()> {
        let (length, missing) = self.node()?;
        let values = rows.checked_mul(dim).filter(|values| i64::try_from(*values) == Ok(length));
        let Some(values) = values else {
            return Err(self.table.damaged(&format!("{path} has another number of rows than the file")));
        };
        let nulls = nulls || missing != 0;
        let kind = field.kind;
        let start = match kind {
            Kind::Struct => {
                self.buffer()?;
                self.table.groups.insert(path.to_owned());
                let mut children = field.children.iter();
                return children.try_for_each(|child| self.field(child, Some(path), rows, dim, nulls));
            }
            Kind::Lists(size) => {
                self.buffer()?;
                let each = usize::try_from(size).ok().and_then(|size| dim.checked_mul(size));
                return match (each, field.children.as_slice()) {
                    (Some(each), [child]) => self.values(child, path, rows, each, nulls),
                    _ => Err(self.table.damaged(&format!("{path} is a list of no kind"))),
                };
            }
            Kind::Other(name, buffers) => {
                self.skip(field, (name, buffers), path)?;
                0
            }
            _ => {
                self.buffer()?;
                let place = self.buffer()?;
                if kind.bytes(values).is_none_or(|bytes| bytes > place.len()) {
                    return Err(self.table.damaged(&format!("{path} has fewer values than rows")));
                }
                place.start
            }
        };
        let columns = &mut self.table.columns;
        let column = columns.entry(path.to_owned()).or_insert(Column { kind, dim, nulls, pieces: Vec::new() });
        // One name for two columns, or another type in the next batch.
        let before: usize = column.pieces.iter().map(|piece| piece.values).sum();
        if (column.kind, column.dim) != (kind, dim) || before != self.table.rows * dim {
            return Err(self.table.error(Some(path), "is there twice", "give every column a name of its own"));
        }
        column.nulls |= nulls;
        column.pieces.push(Piece { start, values });
        Ok(())
    }

    /// Passes over a column that is not read, and all that is in it.
    fn skip(&mut self, field: &Field, (name, buffers): (&str, Option<usize>), path: &str) -> Result<()> {
        let Some(buffers) = buffers else {
            let problem = format!("has the type {name}, which is not read");
            return Err(self.table.error(Some(path), &problem, "leave that column out"));
        };
        for _ in 0..buffers {
            self.buffer()?;
        }
        // The children of a dictionary's type are in the dictionary.
        let children = if name == "dictionary" { &[] } else { field.children.as_slice() };
        children.iter().try_for_each(|child| {
            self.node()?;
            let about = match child.kind {
                Kind::Other(name, buffers) => (name, buffers),
                Kind::Struct | Kind::Lists(_) => ("", Some(1)),
                _ => ("", Some(2)),
            };
            self.skip(child, about, path)
        })
    }

    fn node(&mut self) -> Result<(i64, i64)> {
        self.nodes.next().ok_or_else(|| self.table.damaged("a batch has fewer columns than the file"))
    }

    fn buffer(&mut self) -> Result<Range<usize>> {
        let place = self.buffers.next().and_then(|(offset, length)| {
            let start = self.body.start.checked_add(usize::try_from(offset).ok()?)?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            (end <= self.body.end).then_some(start..end)
        });
        place.ok_or_else(|| self.table.damaged("values lie outside of it"))
    }
}
