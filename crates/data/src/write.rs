//! Writer of DSRL's HDF5 files, a block of rows at a time.
//!
//! Written here because no crate in reach streams: `hdf5-writer` and `hdf5-pure` take every column as one slice and
//! build the whole file in memory, without a way to cancel, and
//! `hdf5-metno` needs CMake and the C library on every target.
//! What is written is checked against libhdf5 and our reader.

mod format;

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::write::ZlibEncoder;
use flate2::Compression;
use tempfile::NamedTempFile;

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::watch::Watch;
use format::{Chunk, DatasetPlan, Element, RootGroup, SUPERBLOCK_BYTES};

/// h5py's default.
const GZIP_LEVEL: u32 = 4;
/// Bytes of a chunk before compression: below the chunk cache of libhdf5 (1 MiB), so that any reader decodes each once.
const CHUNK_BYTES: usize = 512 << 10;
/// Rows handed on at a time where a whole dataset is in memory; the watch is looked at in between.
const BLOCK_ROWS: usize = 8192;

/// Writes validated columns to a DSRL file, gzip-compressed. The file appears only when it is complete.
///
/// `attributes` become string attributes of the root group, at most 64 KB together. Progress is in rows.
///
/// # Errors
/// `Io` if the folder cannot be written to; `Cancelled` by the watch. No file is left in either case.
pub fn write_dsrl(path: &Path, columns: &Columns, attributes: &[(&str, String)], watch: &Watch) -> Result<()> {
    write_together(&[(path, columns, attributes)], watch)
}

/// A file, its columns, and attributes it gets besides.
type Planned<'a> = (&'a Path, &'a Columns, &'a [(&'a str, String)]);

/// [`write_dsrl`] of several files; none appears before all are complete. Progress is in rows of all.
pub(crate) fn write_together(files: &[Planned<'_>], watch: &Watch) -> Result<()> {
    watch.expect(files.iter().map(|(_, columns, _)| columns.len() as u64).sum());
    let mut done = 0;
    let mut written = Vec::new();
    for (path, columns, attributes) in files {
        let mut writer = DsrlWriter::create(path, columns)?;
        for start in (0..columns.len()).step_by(BLOCK_ROWS) {
            watch.check(&columns.source)?;
            let rows = start..(start + BLOCK_ROWS).min(columns.len());
            writer.append(columns, rows.clone())?;
            watch.set(done + rows.end as u64);
        }
        done += columns.len() as u64;
        written.push(writer.complete(attributes)?);
    }
    written.into_iter().try_for_each(Written::persist)
}

/// A DSRL file in the making, under a temporary name in the target's folder.
pub(crate) struct DsrlWriter {
    name: String,
    target: std::path::PathBuf,
    file: BufWriter<NamedTempFile>,
    /// Where the next chunk goes.
    end: u64,
    rows: u64,
    /// In the order of their names, as a group lists its members.
    columns: Vec<ColumnWriter>,
    dims: (usize, usize),
}

impl DsrlWriter {
    /// A file for blocks of such columns.
    pub fn create(path: &Path, columns: &Columns) -> Result<Self> {
        let (obs_dim, act_dim) = (columns.obs_dim, columns.act_dim);
        let name = path.display().to_string();
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if path.is_dir() {
            return Err(Error::io(&name, "is a directory", "give the name of a file to write"));
        }
        let file = NamedTempFile::with_prefix_in(".drcorl-", folder).map_err(|e| write_error(&name, &e))?;
        let of = |(key, values): (&str, Values<'_>)| match values {
            Values::Floats(_, dim) => ColumnWriter::new(key, Element::Float32, dim),
            Values::Flags(_) => ColumnWriter::new(key, Element::Bool, None),
        };
        let mut writer = DsrlWriter {
            name,
            target: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            end: SUPERBLOCK_BYTES,
            rows: 0,
            columns: listed(columns).into_iter().map(of).collect(),
            dims: (obs_dim, act_dim),
        };
        // The superblock comes last: until then the file is no HDF5 file.
        writer.write(&[0; SUPERBLOCK_BYTES as usize])?;
        writer.end = SUPERBLOCK_BYTES;
        Ok(writer)
    }

    /// Appends some rows of columns whose dimensions are those of the file.
    pub fn append(&mut self, block: &Columns, rows: std::ops::Range<usize>) -> Result<()> {
        for (index, (_, values)) in listed(block).into_iter().enumerate() {
            let bytes = values.bytes(&rows);
            self.columns[index].buffer.extend_from_slice(&bytes);
            while let Some(chunk) = self.columns[index].take_full_chunk() {
                self.write_chunk(index, &chunk)?;
            }
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    /// Entries of an observation and of an action.
    pub fn dims(&self) -> (usize, usize) {
        self.dims
    }

    /// Number of rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes that a row takes in memory.
    pub fn row_bytes(&self) -> u64 {
        self.columns.iter().map(|column| column.row_bytes() as u64).sum()
    }

    /// Completes the file, still under its temporary name.
    pub fn complete(mut self, attributes: &[(&str, String)]) -> Result<Written> {
        for index in 0..self.columns.len() {
            if let Some(chunk) = self.columns[index].take_last_chunk() {
                self.write_chunk(index, &chunk)?;
            }
        }
        let plans: Vec<_> = self.columns.iter().map(|column| (column.key.clone(), column.plan(self.rows))).collect();
        let mut links = Vec::new();
        for (key, plan) in plans {
            let (index, root) = plan.index(self.end);
            self.write(&index)?;
            links.push((key, self.end));
            self.write(&plan.header(root))?;
        }
        let root = RootGroup::new(&links, attributes, self.end);
        self.write(&root.bytes)?;
        let superblock = root.superblock(self.end);
        let failed = |name: &str, e: &std::io::Error| write_error(name, e);
        self.file.seek(SeekFrom::Start(0)).map_err(|e| failed(&self.name, &e))?;
        self.file.write_all(&superblock).map_err(|e| failed(&self.name, &e))?;
        let file = self.file.into_inner().map_err(|e| failed(&self.name, e.error()))?;
        readable_by_all(file.as_file()).map_err(|e| failed(&self.name, &e))?;
        file.as_file().sync_all().map_err(|e| failed(&self.name, &e))?;
        Ok(Written { name: self.name, target: self.target, file })
    }

    fn write_chunk(&mut self, index: usize, raw: &[u8]) -> Result<()> {
        let shuffled = shuffle(raw, self.columns[index].element.size());
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
        let packed = encoder.write_all(&shuffled).and_then(|()| encoder.finish());
        let packed = packed.map_err(|e| write_error(&self.name, &e))?;
        self.columns[index].chunks.push(Chunk { address: self.end, bytes: packed.len() as u32 });
        self.write(&packed)
    }

    /// Writes at the end of the file, padded to eight bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let padding = bytes.len().next_multiple_of(8) - bytes.len();
        let written = self.file.write_all(bytes).and_then(|()| self.file.write_all(&[0; 8][..padding]));
        written.map_err(|e| write_error(&self.name, &e))?;
        self.end += (bytes.len() + padding) as u64;
        Ok(())
    }
}

/// A complete file under a temporary name; dropped, it is gone.
pub(crate) struct Written {
    name: String,
    target: std::path::PathBuf,
    file: NamedTempFile,
}

impl Written {
    /// Where it lies for now.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Gives the file its name.
    pub fn persist(self) -> Result<()> {
        self.file.persist(&self.target).map_err(|e| write_error(&self.name, &e.error))?;
        sync_folder(&self.target);
        Ok(())
    }
}

/// The values of a column; floats with the entries of a row, none for a vector.
enum Values<'a> {
    Floats(&'a [f32], Option<usize>),
    Flags(&'a [bool]),
}

impl Values<'_> {
    fn bytes(&self, rows: &std::ops::Range<usize>) -> Vec<u8> {
        match self {
            Values::Floats(values, dim) => {
                let dim = dim.unwrap_or(1);
                little_endian(&values[rows.start * dim..rows.end * dim])
            }
            Values::Flags(flags) => flags[rows.clone()].iter().map(|&flag| u8::from(flag)).collect(),
        }
    }
}

/// All columns in the order of their names.
fn listed(columns: &Columns) -> Vec<(&str, Values<'_>)> {
    let matrix = |values, dim| Values::Floats(values, Some(dim));
    let mut all = vec![
        ("actions", matrix(&columns.actions, columns.act_dim)),
        ("next_observations", matrix(&columns.next_observations, columns.obs_dim)),
        ("observations", matrix(&columns.observations, columns.obs_dim)),
        ("rewards", Values::Floats(&columns.rewards, None)),
        ("terminals", Values::Flags(&columns.terminals)),
        ("timeouts", Values::Flags(&columns.timeouts)),
    ];
    all.push((columns.cost_name(), Values::Floats(&columns.costs, None)));
    all.extend(columns.further.iter().map(|(name, values)| (name.as_str(), Values::Floats(values, None))));
    // A handful of names: the sorts of the library are larger than all of this file.
    for last in 1..all.len() {
        let mut at = last;
        while at > 0 && all[at - 1].0 > all[at].0 {
            all.swap(at - 1, at);
            at -= 1;
        }
    }
    all
}

/// Rows of one dataset that do not fill a chunk yet, and the chunks already written.
struct ColumnWriter {
    key: String,
    element: Element,
    /// Entries of a row; none for a vector.
    dim: Option<usize>,
    chunk_rows: usize,
    buffer: Vec<u8>,
    chunks: Vec<Chunk>,
}

impl ColumnWriter {
    fn new(key: &str, element: Element, dim: Option<usize>) -> Self {
        let row_bytes = dim.unwrap_or(1) * element.size();
        let chunk_rows = (CHUNK_BYTES / row_bytes.max(1)).max(1);
        ColumnWriter { key: key.to_owned(), element, dim, chunk_rows, buffer: Vec::new(), chunks: Vec::new() }
    }

    fn row_bytes(&self) -> usize {
        self.dim.unwrap_or(1) * self.element.size()
    }

    fn take_full_chunk(&mut self) -> Option<Vec<u8>> {
        let bytes = self.chunk_rows * self.row_bytes();
        (self.buffer.len() >= bytes).then(|| self.buffer.drain(..bytes).collect())
    }

    /// What is left, filled up to a whole chunk. A chunk may not be larger than its dataset, so a single one shrinks.
    fn take_last_chunk(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            return None;
        }
        if self.chunks.is_empty() {
            self.chunk_rows = self.buffer.len() / self.row_bytes();
        }
        let mut chunk = std::mem::take(&mut self.buffer);
        chunk.resize(self.chunk_rows * self.row_bytes(), 0);
        Some(chunk)
    }

    fn plan(&self, rows: u64) -> DatasetPlan {
        DatasetPlan {
            element: self.element,
            shape: std::iter::once(rows).chain(self.dim.map(|d| d as u64)).collect(),
            chunk_rows: self.chunk_rows as u64,
            chunks: self.chunks.clone(),
            gzip_level: GZIP_LEVEL,
        }
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(values));
    values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}

/// First bytes of all elements, then second bytes, and so on: HDF5's shuffle filter.
fn shuffle(raw: &[u8], size: usize) -> Vec<u8> {
    let count = raw.len() / size;
    let mut shuffled = vec![0; raw.len()];
    for (byte, plane) in shuffled.chunks_exact_mut(count).enumerate() {
        plane.iter_mut().zip(raw[byte..].iter().step_by(size)).for_each(|(to, from)| *to = *from);
    }
    shuffled
}

fn write_error(name: &str, error: &std::io::Error) -> Error {
    let (problem, remedy) = match error.kind() {
        std::io::ErrorKind::NotFound => ("cannot be written: no such folder".to_owned(), "create the folder first"),
        std::io::ErrorKind::PermissionDenied => {
            ("cannot be written: permission denied".to_owned(), "choose a folder this user may write to")
        }
        _ => (format!("cannot be written: {error}"), "check the disk and the path"),
    };
    Error::io(name, &problem, remedy)
}

/// A temporary file is the user's alone; a dataset is an ordinary file.
#[cfg(unix)]
fn readable_by_all(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable_by_all(_: &File) -> std::io::Result<()> {
    Ok(())
}

/// So that the name outlives a power failure. Best effort: the content is safe already.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
