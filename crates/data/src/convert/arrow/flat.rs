//! Flatbuffers, as far as headers of Arrow need them: tables, vectors, text and numbers. Every offset is checked where
//! it is followed, so that any bytes may be read.
//!
//! The format: a table begins with the distance back to its directory, which has the place of every entry, 0 for one
//! that is left out. Whatever has no fixed size is the distance forward to it.

/// Bytes that do not hold what they must.
#[derive(Debug)]
pub(super) struct Broken;

pub(super) type Read<T> = Result<T, Broken>;

fn word<const N: usize>(bytes: &[u8], at: usize) -> Read<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Broken)
}

/// Where the distance at `at` leads.
fn follow(bytes: &[u8], at: usize) -> Read<usize> {
    at.checked_add(u32::from_le_bytes(word(bytes, at)?) as usize).ok_or(Broken)
}

#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Two bytes an entry.
    directory: &'a [u8],
}

impl<'a> Table<'a> {
    /// The outermost table.
    pub fn root(bytes: &'a [u8]) -> Read<Table<'a>> {
        Table::new(bytes, follow(bytes, 0)?)
    }

    fn new(bytes: &'a [u8], at: usize) -> Read<Table<'a>> {
        let back = i64::from(i32::from_le_bytes(word(bytes, at)?));
        let start = i64::try_from(at).ok().and_then(|at| usize::try_from(at - back).ok()).ok_or(Broken)?;
        let size = usize::from(u16::from_le_bytes(word(bytes, start)?));
        let directory = bytes.get(start..start + size).and_then(|all| all.get(4..)).ok_or(Broken)?;
        Ok(Table { bytes, at, directory })
    }

    fn place(&self, entry: usize) -> Option<usize> {
        let place = self.directory.get(2 * entry..2 * entry + 2)?;
        let place = usize::from(u16::from_le_bytes([place[0], place[1]]));
        (place != 0).then(|| self.at + place)
    }

    fn number<const N: usize>(&self, entry: usize) -> Read<[u8; N]> {
        self.place(entry).map_or(Ok([0; N]), |at| word(self.bytes, at))
    }

    /// Entry number `entry`, 0 where it is left out; so for the other numbers.
    pub fn u8(&self, entry: usize) -> Read<u8> {
        Ok(u8::from_le_bytes(self.number(entry)?))
    }

    pub fn i16(&self, entry: usize) -> Read<i16> {
        Ok(i16::from_le_bytes(self.number(entry)?))
    }

    pub fn i32(&self, entry: usize) -> Read<i32> {
        Ok(i32::from_le_bytes(self.number(entry)?))
    }

    pub fn i64(&self, entry: usize) -> Read<i64> {
        Ok(i64::from_le_bytes(self.number(entry)?))
    }

    pub fn table(&self, entry: usize) -> Read<Option<Table<'a>>> {
        self.place(entry).map(|at| Table::new(self.bytes, follow(self.bytes, at)?)).transpose()
    }

    /// The bytes of a vector of items of that size; none where it is left out.
    fn vector(&self, entry: usize, size: usize) -> Read<(usize, &'a [u8])> {
        let Some(at) = self.place(entry) else { return Ok((0, &[])) };
        let start = follow(self.bytes, at)?;
        let length = u32::from_le_bytes(word(self.bytes, start)?) as usize;
        let start = start + 4;
        let end = length.checked_mul(size).and_then(|bytes| start.checked_add(bytes)).ok_or(Broken)?;
        Ok((start, self.bytes.get(start..end).ok_or(Broken)?))
    }

    pub fn text(&self, entry: usize) -> Read<&'a str> {
        std::str::from_utf8(self.vector(entry, 1)?.1).map_err(|_| Broken)
    }

    pub fn tables(&self, entry: usize) -> Read<impl Iterator<Item = Read<Table<'a>>>> {
        let (bytes, (start, items)) = (self.bytes, self.vector(entry, 4)?);
        Ok((0..items.len() / 4).map(move |i| Table::new(bytes, follow(bytes, start + 4 * i)?)))
    }

    /// Items of fixed layout, which stand in the vector itself.
    pub fn structs<const N: usize>(&self, entry: usize) -> Read<impl Iterator<Item = &'a [u8; N]>> {
        Ok(self.vector(entry, N)?.1.chunks_exact(N).filter_map(<[u8]>::first_chunk))
    }
}

/// The number at `at` of an item.
pub(super) fn i64_at<const N: usize>(item: &[u8; N], at: usize) -> i64 {
    item[at..].first_chunk().map_or(0, |word| i64::from_le_bytes(*word))
}
