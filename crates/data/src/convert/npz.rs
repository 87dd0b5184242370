//! NumPy's .npz: one array per field.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::assemble::{Assembler, Block};
use super::episode::Array;
use super::mapping::{Extra, Field, Mapping};
use super::npy::Header;
use crate::budget::{zeroed, Budget};
use crate::error::{Error, Result};

/// DEFLATE expands at most 1032-fold: what an entry may hold, whatever its header states.
const MAX_EXPANSION: u64 = 1032;
/// Values read at a time.
const BLOCK_VALUES: usize = 4096;
const WRITE_AGAIN: &str = "write the file again";

pub(super) fn read(
    path: &Path,
    name: &str,
    bytes: u64,
    budget: &Budget,
    mapping: &Mapping,
    out: &mut Assembler,
) -> Result<&'static str> {
    let file = File::open(path).map_err(|e| crate::hdf5::io_error(name, None, &e))?;
    let damaged = |e: zip::result::ZipError| {
        let problem = format!("is not an .npz file: {e}");
        Error::data(name, None, &problem, "write it with numpy.savez or numpy.savez_compressed")
    };
    let archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut found: Vec<String> =
        archive.file_names().map(|entry| entry.strip_suffix(".npy").unwrap_or(entry).to_owned()).collect();
    found.sort();
    let exists = |key: &str| found.iter().any(|entry| entry == key);
    let mut npz = Npz { name, archive, budget, taken: 0 };
    let mut block = Block::default();
    let count = mapping.fields().len() as u64;
    for (done, &field) in (1..).zip(mapping.fields()) {
        if field == Field::NextObservations && mapping.shift {
            block.set(field, 1, Vec::new());
            continue;
        }
        if let Some(value) = mapping.constant(field, exists).or_else(|| mapping.absent(field, exists, false)) {
            // As many as there are actions, which come before all scalars.
            let rows = block.rows_of(Field::Actions);
            block.set(field, 1, vec![value; rows]);
            continue;
        }
        let mut parts: Vec<Array> = Vec::new();
        for key in mapping.arrays(field, exists, &found)? {
            let (dim, values) = npz.array(&key, |v| v as f32)?;
            if dim != 1 && !field.is_vector() {
                let problem = format!("has {dim} entries a row, expected shape [N] or [N, 1]");
                return Err(npz.error(&key, &problem, "store one value per transition"));
            }
            parts.push((dim, values));
        }
        let joined = super::join(parts);
        let (dim, values) = joined.ok_or_else(|| {
            npz.error(mapping.key(field), "is joined of arrays of unequal length", "give each one row per observation")
        })?;
        block.set(field, dim, values);
        out.progress(bytes * done / count)?;
    }
    block.episodes = npz.extra(mapping.episode(&found)?, |v| v.into_iter().map(f64::to_bits).collect())?;
    block.times = npz.extra(mapping.time(&found)?, |mut v| {
        super::time::to_seconds(&mut v);
        v
    })?;
    out.push(block)?;
    Ok("npz")
}

struct Npz<'a> {
    name: &'a str,
    archive: ZipArchive<BufReader<File>>,
    budget: &'a Budget,
    /// Bytes of memory that the arrays read so far take.
    taken: u64,
}

impl Npz<'_> {
    fn error(&self, key: &str, problem: &str, remedy: &str) -> Error {
        Error::data(self.name, Some(key), problem, remedy)
    }

    fn extra<T>(
        &mut self,
        extra: Option<Extra>,
        convert: impl Fn(Vec<f64>) -> Vec<T>,
    ) -> Result<Option<(Extra, Vec<T>)>> {
        let Some(extra) = extra else { return Ok(None) };
        match self.array(&extra.name, |v| v) {
            Ok((1, values)) => Ok(Some((extra, convert(values)))),
            // One that was not asked for may be of any type.
            _ if !extra.asked => Ok(None),
            Ok((dim, _)) => {
                Err(self.error(&extra.name, &format!("has {dim} entries a row"), "name an array of shape [N]"))
            }
            Err(error) => Err(error),
        }
    }

    /// Entries per row, and all values, row-major.
    fn array<T: Clone + Default>(&mut self, key: &str, narrow: fn(f64) -> T) -> Result<(usize, Vec<T>)> {
        let name = self.name;
        let error = |problem: &str, remedy: &str| Error::data(name, Some(key), problem, remedy);
        let entry = self.archive.by_name(&format!("{key}.npy"));
        let mut entry = entry.map_err(|e| error(&format!("cannot be read: {e}"), WRITE_AGAIN))?;
        let bytes = entry.size().min(entry.compressed_size().saturating_mul(MAX_EXPANSION));
        let damaged = |e: std::io::Error| error(&format!("cannot be read: {e}"), WRITE_AGAIN);
        let header = Header::read(&mut entry).map_err(damaged)?;
        let (rows, dim) = match *header.shape {
            [rows] => (rows, 1),
            [rows, dim] if dim > 0 => (rows, dim),
            _ => {
                let problem = format!("has shape {:?}, expected [N] or [N, entries]", header.shape);
                return Err(error(&problem, "flatten each observation or action"));
            }
        };
        if header.kind.is_empty() {
            return Err(error("is a structured array", "store it as float32, float64, an integer or bool"));
        }
        let Some(size) = header.size() else {
            let problem = format!("has the type {}", header.kind);
            return Err(error(&problem, "store it as float16, float32, float64, an integer or bool"));
        };
        // Before memory is asked for: a damaged header may state any shape.
        let values = rows.checked_mul(dim);
        let fits = values.and_then(|n| n.checked_mul(size as u64)).filter(|&n| n <= bytes);
        let (Some(count), Some(_)) = (values, fits) else {
            let problem = format!("states shape {:?}, but only {bytes} bytes are there", header.shape);
            return Err(error(&problem, WRITE_AGAIN));
        };
        let memory = count.saturating_mul(size_of::<T>() as u64);
        self.budget.check(name, Some(key), self.taken.saturating_add(memory))?;
        self.taken += memory;
        let mut to = Filling {
            values: zeroed(count as usize).ok_or_else(|| self.budget.refused(name, Some(key), memory))?,
            rows: rows as usize,
            dim: dim as usize,
            transposed: header.fortran && dim > 1,
            narrow,
        };
        to.fill(&header, size, &mut entry).map_err(damaged)?;
        // The checksum of an entry is compared when its end is read, and only then.
        let left = std::io::copy(&mut entry, &mut std::io::sink()).map_err(damaged)?;
        if left > 0 {
            return Err(error(&format!("has {left} bytes after its last value"), WRITE_AGAIN));
        }
        Ok((dim as usize, to.values))
    }
}

/// Where the values of an array go, in the order in which they are stored.
struct Filling<T> {
    values: Vec<T>,
    rows: usize,
    dim: usize,
    transposed: bool,
    narrow: fn(f64) -> T,
}

impl<T> Filling<T> {
    fn fill(&mut self, header: &Header, size: usize, from: &mut impl Read) -> std::io::Result<()> {
        let mut bytes = vec![0; size * BLOCK_VALUES];
        for start in (0..self.values.len()).step_by(BLOCK_VALUES) {
            let count = BLOCK_VALUES.min(self.values.len() - start);
            let block = &mut bytes[..count * size];
            from.read_exact(block)?;
            for (index, value) in (start..).zip(block.chunks_exact(size)) {
                let place = match self.transposed {
                    true => index % self.rows * self.dim + index / self.rows,
                    false => index,
                };
                let value = header.value(value);
                let value = value.ok_or_else(|| std::io::Error::other(format!("value {index} is no bool")))?;
                self.values[place] = (self.narrow)(value);
            }
        }
        Ok(())
    }
}
