//! NumPy's .npz: one array per field.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use npyz::{DType, Deserialize, NpyFile, Order, TypeChar};
use zip::ZipArchive;

use super::assemble::{Assembler, Block};
use super::mapping::{Field, Mapping, FIELDS};
use crate::error::{Error, Result};

type Archive = ZipArchive<BufReader<File>>;

pub(super) fn read(
    path: &Path,
    name: &str,
    bytes: u64,
    mapping: &Mapping,
    out: &mut Assembler,
) -> Result<&'static str> {
    let file = File::open(path).map_err(|e| crate::hdf5::io_error(name, None, &e))?;
    let damaged = |e: zip::result::ZipError| {
        let problem = format!("is not an .npz file: {e}");
        Error::data(name, None, &problem, "write it with numpy.savez or numpy.savez_compressed")
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut found: Vec<String> =
        archive.file_names().map(|entry| entry.strip_suffix(".npy").unwrap_or(entry).to_owned()).collect();
    found.sort();
    let exists = |key: &str| found.iter().any(|entry| entry == key);
    let mut block = Block::default();
    for (done, field) in (1..).zip(FIELDS) {
        if field == Field::NextObservations && mapping.shift {
            block.set(field, 1, Vec::new());
            continue;
        }
        if let Some(value) = mapping.constant(field, exists) {
            // As many as there are actions, which come before all scalars.
            let rows = block.values[Field::Actions as usize].len() / block.dims[Field::Actions as usize].max(1);
            block.set(field, 1, vec![value; rows]);
            continue;
        }
        let key = mapping.array(field, exists, &found)?;
        let (dim, values) = array(&mut archive, name, &key)?;
        block.set(field, if field.is_vector() { dim } else { scalar(name, &key, dim)? }, values);
        out.progress(bytes * done / FIELDS.len() as u64)?;
    }
    out.push(block)?;
    Ok("npz")
}

fn scalar(name: &str, key: &str, dim: usize) -> Result<usize> {
    if dim == 1 {
        return Ok(1);
    }
    let problem = format!("has {dim} entries a row, expected shape [N] or [N, 1]");
    Err(Error::data(name, Some(key), &problem, "store one value per transition"))
}

/// Entries per row, and all values.
fn array(archive: &mut Archive, name: &str, key: &str) -> Result<(usize, Vec<f32>)> {
    let error = |problem: &str, remedy: &str| Error::data(name, Some(key), problem, remedy);
    let entry = archive
        .by_name(&format!("{key}.npy"))
        .map_err(|e| error(&format!("cannot be read: {e}"), "write the file again"))?;
    let bytes = entry.size();
    let damaged = |e: std::io::Error| error(&format!("cannot be read: {e}"), "write the file again");
    let npy = NpyFile::new(entry).map_err(damaged)?;
    let dim = match npy.shape() {
        [_] => 1,
        &[_, dim] if dim > 0 => dim as usize,
        shape => {
            let problem = format!("has shape {shape:?}, expected [N] or [N, entries]");
            return Err(error(&problem, "flatten each observation or action"));
        }
    };
    if npy.order() == Order::Fortran && dim > 1 {
        return Err(error("is stored column by column", "store numpy.ascontiguousarray(..) of it"));
    }
    let DType::Plain(kind) = npy.dtype() else {
        return Err(error("is a structured array", "store it as float32, float64, an integer or bool"));
    };
    let size = kind.num_bytes().unwrap_or(0);
    // Before memory is asked for: a damaged header may state any shape.
    let fits = npy.shape().iter().try_fold(size as u64, |n, &d| n.checked_mul(d)).is_some_and(|n| n <= bytes);
    if !fits {
        let problem = format!("states shape {:?}, but only {bytes} bytes are there", npy.shape());
        return Err(error(&problem, "write the file again"));
    }
    let values = match (kind.type_char(), size) {
        (TypeChar::Float, 4) => collect::<f32, _>(npy, |v| v),
        (TypeChar::Float, 8) => collect::<f64, _>(npy, |v| v as f32),
        (TypeChar::Bool, 1) => collect::<bool, _>(npy, |v| f32::from(u8::from(v))),
        (TypeChar::Int, 1) => collect::<i8, _>(npy, f32::from),
        (TypeChar::Int, 2) => collect::<i16, _>(npy, f32::from),
        (TypeChar::Int, 4) => collect::<i32, _>(npy, |v| v as f32),
        (TypeChar::Int, 8) => collect::<i64, _>(npy, |v| v as f32),
        (TypeChar::Uint, 1) => collect::<u8, _>(npy, f32::from),
        (TypeChar::Uint, 2) => collect::<u16, _>(npy, f32::from),
        (TypeChar::Uint, 4) => collect::<u32, _>(npy, |v| v as f32),
        (TypeChar::Uint, 8) => collect::<u64, _>(npy, |v| v as f32),
        _ => {
            let problem = format!("has the type {kind}");
            return Err(error(&problem, "store it as float32, float64, an integer or bool"));
        }
    };
    Ok((dim, values.map_err(damaged)?))
}

fn collect<T: Deserialize, R: Read>(npy: NpyFile<R>, narrow: fn(T) -> f32) -> std::io::Result<Vec<f32>> {
    npy.data::<T>().map_err(std::io::Error::other)?.map(|value| value.map(narrow)).collect()
}
