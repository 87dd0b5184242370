//! The headers of Arrow's IPC files, by the numbers of their entries in the format's `Schema.fbs`, `Message.fbs` and
//! `File.fbs` (<https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format>).

use super::flat::{i64_at, Broken, Read, Table};

/// Columns in columns in columns; flatbuffers' own checkers stop there too.
const DEEPEST: usize = 64;

/// How values lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Bool,
    Signed(usize),
    Unsigned(usize),
    Float(usize),
    Struct,
    /// Lists of that many values.
    Lists(i32),
    /// What no number can be made of: its name, and the buffers it has, where that is fixed.
    Other(&'static str, Option<usize>),
}

/// Types by their number in the union, with their buffers.
const TYPES: [(&str, Option<usize>); 22] = [
    ("NONE", None),
    ("Null", Some(0)),
    ("Int", Some(2)),
    ("FloatingPoint", Some(2)),
    ("Binary", Some(3)),
    ("Utf8", Some(3)),
    ("Bool", Some(2)),
    ("Decimal", Some(2)),
    ("Date", Some(2)),
    ("Time", Some(2)),
    ("Timestamp", Some(2)),
    ("Interval", Some(2)),
    ("List", Some(2)),
    ("Struct_", Some(1)),
    ("Union", None),
    ("FixedSizeBinary", Some(2)),
    ("FixedSizeList", Some(1)),
    ("Map", Some(2)),
    ("Duration", Some(2)),
    ("LargeBinary", Some(3)),
    ("LargeUtf8", Some(3)),
    ("LargeList", Some(2)),
];
/// Those behind them, whose buffers the batch counts or shares.
const LATER: [&str; 5] = ["RunEndEncoded", "BinaryView", "Utf8View", "ListView", "LargeListView"];

impl Kind {
    fn read(field: &Table) -> Read<Kind> {
        if field.table(4)?.is_some() {
            return Ok(Kind::Other("dictionary", Some(2)));
        }
        let number = usize::from(field.u8(2)?);
        let later = || LATER.get(number - TYPES.len()).map_or(("unknown", None), |name| (*name, None));
        let (name, buffers) = TYPES.get(number).copied().unwrap_or_else(later);
        let other = Kind::Other(name, buffers);
        let about = field.table(3)?;
        Ok(match (name, about) {
            ("Int", Some(int)) => match (int.i32(0)?, int.u8(1)? != 0) {
                (bits @ (8 | 16 | 32 | 64), true) => Kind::Signed(bits as usize / 8),
                (bits @ (8 | 16 | 32 | 64), false) => Kind::Unsigned(bits as usize / 8),
                _ => other,
            },
            ("FloatingPoint", Some(float)) => match float.i16(0)? {
                precision @ 0..=2 => Kind::Float(2 << precision),
                _ => other,
            },
            ("FixedSizeList", Some(lists)) => Kind::Lists(lists.i32(0)?),
            ("Struct_", Some(_)) => Kind::Struct,
            ("Bool", Some(_)) => Kind::Bool,
            _ => other,
        })
    }

    /// Bytes of that many values.
    pub fn bytes(self, values: usize) -> Option<usize> {
        match self {
            Kind::Bool => Some(values.div_ceil(8)),
            Kind::Signed(bytes) | Kind::Unsigned(bytes) | Kind::Float(bytes) => values.checked_mul(bytes),
            _ => Some(0),
        }
    }
}

/// A column.
pub(super) struct Field {
    pub name: String,
    pub kind: Kind,
    pub children: Vec<Field>,
}

impl Field {
    /// `left` counts how many more columns there can be: one table may stand for many, and those of a small file would
    /// fill the memory.
    fn read(table: &Table, depth: usize, left: &mut usize) -> Read<Field> {
        *left = left.checked_sub(1).ok_or(Broken)?;
        if depth == DEEPEST {
            return Err(Broken);
        }
        let children = table.tables(5)?.map(|child| Field::read(&child?, depth + 1, left)).collect::<Read<_>>()?;
        Ok(Field { name: table.text(0)?.to_owned(), kind: Kind::read(table)?, children })
    }
}

/// Where a batch of records lies.
pub(super) struct Block {
    pub offset: i64,
    pub header: i32,
    pub body: i64,
}

/// What stands at the end of a file.
pub(super) struct Footer {
    pub little_endian: bool,
    pub fields: Vec<Field>,
    pub batches: Vec<Block>,
}

impl Footer {
    /// None without a schema.
    pub fn read(bytes: &[u8]) -> Read<Option<Footer>> {
        let footer = Table::root(bytes)?;
        let Some(schema) = footer.table(1)? else { return Ok(None) };
        // A column of its own takes more than these eight bytes.
        let mut left = bytes.len() / 8;
        let fields = schema.tables(1)?.map(|field| Field::read(&field?, 0, &mut left)).collect::<Read<_>>()?;
        let block = |item: &[u8; 24]| Block {
            offset: i64_at(item, 0),
            // Four bytes of filling are behind it.
            header: i64_at(item, 8) as i32,
            body: i64_at(item, 16),
        };
        let batches = footer.structs(3)?.map(block).collect();
        Ok(Some(Footer { little_endian: schema.i16(0)? == 0, fields, batches }))
    }
}

/// The header of a batch of records.
pub(super) struct Batch {
    pub rows: i64,
    pub compressed: bool,
    /// Values and those missing, a column.
    pub nodes: Vec<(i64, i64)>,
    /// Place in the body and bytes.
    pub buffers: Vec<(i64, i64)>,
}

impl Batch {
    /// None for a message of another kind.
    pub fn read(bytes: &[u8]) -> Read<Option<Batch>> {
        const RECORD_BATCH: u8 = 3;
        let message = Table::root(bytes)?;
        let Some(batch) = message.table(2)?.filter(|_| message.u8(1).is_ok_and(|kind| kind == RECORD_BATCH)) else {
            return Ok(None);
        };
        let pairs = |entry| -> Read<Vec<(i64, i64)>> {
            Ok(batch.structs::<16>(entry)?.map(|item| (i64_at(item, 0), i64_at(item, 8))).collect())
        };
        Ok(Some(Batch {
            rows: batch.i64(0)?,
            compressed: batch.table(3)?.is_some(),
            nodes: pairs(1)?,
            buffers: pairs(2)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer whose schema has a chain of that many columns, each with the next as its child, `times` over.
    fn chain(columns: usize, times: u32) -> Vec<u8> {
        const DIRECTORIES: [[u16; 8]; 2] = [[16, 8, 0, 4, 0, 0, 0, 0], [16, 8, 0, 0, 0, 0, 0, 4]];
        let mut bytes = 36u32.to_le_bytes().to_vec();
        bytes.extend(DIRECTORIES.iter().flatten().flat_map(|entry| entry.to_le_bytes()));
        // The footer and the schema have their one entry second, columns theirs sixth.
        let table = |bytes: &mut Vec<u8>, directory: u32| {
            let at = bytes.len() as u32;
            bytes.extend((at - directory).to_le_bytes());
            bytes.extend(4u32.to_le_bytes());
        };
        table(&mut bytes, 4);
        table(&mut bytes, 4);
        bytes.extend([1, 4].iter().flat_map(|word: &u32| word.to_le_bytes()));
        for left in (0..columns).rev() {
            table(&mut bytes, 20);
            let count = if left == 0 { 0 } else { times };
            bytes.extend(count.to_le_bytes());
            bytes.extend((0..count).rev().flat_map(|after| (4 * (after + 1)).to_le_bytes()));
        }
        bytes
    }

    fn depth(fields: &[Field]) -> usize {
        fields.first().map_or(0, |field| 1 + depth(&field.children))
    }

    #[test]
    fn columns_in_columns_end_somewhere() {
        let read = |columns, times| Footer::read(&chain(columns, times)).map(|footer| depth(&footer.unwrap().fields));
        assert_eq!(read(1, 1).unwrap(), 1);
        assert_eq!(read(DEEPEST, 1).unwrap(), DEEPEST);
        assert!(read(DEEPEST + 1, 1).is_err());
        assert!(read(60, 2).is_err(), "two to the sixtieth columns");
    }

    #[test]
    fn any_end_of_a_header_is_an_error() {
        let whole = chain(3, 1);
        assert!(Footer::read(&whole).is_ok());
        assert!((0..whole.len()).all(|end| Footer::read(&whole[..end]).is_err()));
    }
}
