//! Arrow's IPC files of records: numbers, in structs and lists of a fixed size.
//!
//! The format's headers are read by arrow-ipc, which checks every offset in them. Its arrays, of every type there is,
//! are not used and so no part of the addon: what is wanted of a file are a few columns of numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow_ipc::{root_as_footer, root_as_message, Block, Endianness, Field, Precision, Type};
use half::f16;

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

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Bool,
    Signed(usize),
    Unsigned(usize),
    Float(usize),
    /// What no number can be made of, by its name.
    Other(&'static str),
}

impl Kind {
    fn of(field: Field) -> Kind {
        if field.dictionary().is_some() {
            return Kind::Other("dictionary");
        }
        if let Some(int) = field.type_as_int() {
            let bytes = int.bitWidth().clamp(0, 64) as usize / 8;
            return if int.is_signed() { Kind::Signed(bytes) } else { Kind::Unsigned(bytes) };
        }
        if let Some(float) = field.type_as_floating_point() {
            return match float.precision() {
                Precision::HALF => Kind::Float(2),
                Precision::SINGLE => Kind::Float(4),
                _ => Kind::Float(8),
            };
        }
        match field.type_type() {
            Type::Bool => Kind::Bool,
            other => Kind::Other(other.variant_name().unwrap_or("unknown")),
        }
    }

    /// Bytes of that many values.
    fn bytes(self, values: usize) -> Option<usize> {
        match self {
            Kind::Bool => Some(values.div_ceil(8)),
            Kind::Signed(bytes) | Kind::Unsigned(bytes) | Kind::Float(bytes) => values.checked_mul(bytes),
            Kind::Other(_) => Some(0),
        }
    }

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
            Kind::Other(_) => f32::NAN,
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
        // A copy of its own is aligned as the format's readers want it.
        let bytes = self.bytes[start..end].to_vec();
        let footer = root_as_footer(&bytes).map_err(|_| self.damaged("its footer"))?;
        let Some(schema) = footer.schema() else { return Err(self.damaged("it has no schema")) };
        if schema.endianness() != Endianness::Little {
            return Err(self.error(None, "is in the byte order of other machines", "write it on a little-endian one"));
        }
        for block in footer.recordBatches().iter().flatten() {
            let (message, body) = self.block(block)?;
            let message = root_as_message(&message).map_err(|_| self.damaged("the header of a batch"))?;
            let Some(batch) = message.header_as_record_batch() else { return Err(self.damaged("a batch")) };
            if batch.compression().is_some() {
                return Err(self.error(None, "is compressed", "write it with compression=None"));
            }
            let rows = usize::try_from(batch.length()).map_err(|_| self.damaged("the length of a batch"))?;
            let nodes = batch.nodes().iter().flatten().map(|n| (n.length(), n.null_count())).collect::<Vec<_>>();
            let buffers = batch.buffers().iter().flatten().map(|b| (b.offset(), b.length())).collect::<Vec<_>>();
            let mut walk = Walk { table: self, body, nodes: nodes.into_iter(), buffers: buffers.into_iter() };
            for field in schema.fields().iter().flatten() {
                walk.field(field, None, rows, 1, false)?;
            }
            self.rows = self.rows.checked_add(rows).ok_or_else(|| self.damaged("the length of a batch"))?;
        }
        Ok(())
    }

    /// The message of a batch, and where its values lie.
    fn block(&self, block: &Block) -> Result<(Vec<u8>, std::ops::Range<usize>)> {
        let places = || {
            let start = usize::try_from(block.offset()).ok()?;
            let body = start.checked_add(usize::try_from(block.metaDataLength()).ok()?)?;
            let end = body.checked_add(usize::try_from(block.bodyLength()).ok()?)?;
            let message = self.bytes.get(start..body)?;
            // In front: a mark and the length; older files have the length alone.
            let message = if message.starts_with(&[0xff; 4]) { message.get(8..)? } else { message.get(4..)? };
            (end <= self.bytes.len()).then(|| (message.to_vec(), body..end))
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
        if let Kind::Other(kind) = column.kind {
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
    body: std::ops::Range<usize>,
    nodes: std::vec::IntoIter<(i64, i64)>,
    buffers: std::vec::IntoIter<(i64, i64)>,
}

impl Walk<'_> {
    /// A column of `rows` rows with `dim` values each, or all inside a struct.
    fn field(&mut self, field: Field, parent: Option<&str>, rows: usize, dim: usize, nulls: bool) -> Result<()> {
        let own = field.name().unwrap_or_default();
        let path = parent.map_or_else(|| own.to_owned(), |parent| format!("{parent}/{own}"));
        self.values(field, &path, rows, dim, nulls)
    }

    fn values(&mut self, field: Field, path: &str, rows: usize, dim: usize, nulls: bool) -> Result<()> {
        let (length, missing) = self.node()?;
        let values = rows.checked_mul(dim).filter(|values| i64::try_from(*values) == Ok(length));
        let Some(values) = values else {
            return Err(self.table.damaged(&format!("{path} has another number of rows than the file")));
        };
        let nulls = nulls || missing != 0;
        let kind = Kind::of(field);
        if field.type_as_struct_().is_some() {
            self.buffer()?;
            self.table.groups.insert(path.to_owned());
            return field
                .children()
                .iter()
                .flatten()
                .try_for_each(|child| self.field(child, Some(path), rows, dim, nulls));
        }
        if let Some(list) = field.type_as_fixed_size_list() {
            self.buffer()?;
            let each = usize::try_from(list.listSize()).ok().and_then(|size| dim.checked_mul(size));
            let child = field.children().filter(|children| children.len() == 1).map(|children| children.get(0));
            return match (each, child) {
                (Some(each), Some(child)) => self.values(child, path, rows, each, nulls),
                _ => Err(self.table.damaged(&format!("{path} is a list of no kind"))),
            };
        }
        let start = match kind {
            Kind::Other(_) => {
                self.skip_buffers(field, path)?;
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
    fn skip_buffers(&mut self, field: Field, path: &str) -> Result<()> {
        let count = match field.type_type() {
            Type::Null => 0,
            _ if field.dictionary().is_some() => 2,
            Type::List | Type::LargeList | Type::Map => 2,
            Type::Struct_ | Type::FixedSizeList => 1,
            Type::Utf8 | Type::Binary | Type::LargeUtf8 | Type::LargeBinary => 3,
            Type::Int | Type::FloatingPoint | Type::Bool | Type::Decimal | Type::Date | Type::Time => 2,
            Type::Timestamp | Type::Interval | Type::FixedSizeBinary | Type::Duration => 2,
            other => {
                let kind = other.variant_name().unwrap_or("unknown");
                let problem = format!("has the type {kind}, which is not read");
                return Err(self.table.error(Some(path), &problem, "leave that column out"));
            }
        };
        for _ in 0..count {
            self.buffer()?;
        }
        if field.dictionary().is_some() {
            return Ok(());
        }
        field.children().iter().flatten().try_for_each(|child| {
            self.node()?;
            self.skip_buffers(child, path)
        })
    }

    fn node(&mut self) -> Result<(i64, i64)> {
        self.nodes.next().ok_or_else(|| self.table.damaged("a batch has fewer columns than the file"))
    }

    fn buffer(&mut self) -> Result<std::ops::Range<usize>> {
        let place = self.buffers.next().and_then(|(offset, length)| {
            let start = self.body.start.checked_add(usize::try_from(offset).ok()?)?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            (end <= self.body.end).then_some(start..end)
        });
        place.ok_or_else(|| self.table.damaged("values lie outside of it"))
    }
}
