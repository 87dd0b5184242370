//! The bytes of a checkpoint: a safetensors file whose header has the sha256 of the whole file, its own digits taken
//! for zeros. No byte of the file is outside of it.

use super::from_view;
use crate::digest::Sha256;
use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use tch::{Kind, Tensor};

const FORMAT: &str = "drcorl-checkpoint/2";
/// Without a digest: nothing tells what of it is as it was written.
const EARLIER: &str = "drcorl-checkpoint/1";
const METADATA_KEY: &str = "drcorl";

/// The digest while it is computed.
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// What stands before the digest: the metadata are JSON in a text of JSON.
const BEFORE: &[u8] = br#"\"sha256\":\""#;

#[derive(Deserialize)]
struct Format {
    format: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    sha256: String,
    config: Value,
    values: BTreeMap<String, String>,
}

/// What a file holds.
pub(super) struct Content {
    pub tensors: BTreeMap<String, Tensor>,
    pub values: BTreeMap<String, String>,
    pub config: Value,
}

/// The bytes of a file.
pub(super) fn seal(
    tensors: &BTreeMap<String, Tensor>,
    values: &BTreeMap<String, String>,
    config: &Value,
) -> Result<Vec<u8>> {
    let buffers: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), dtype(tensor)?, shape(tensor), bytes(tensor)?)))
        .collect::<Result<_>>()?;
    let failure = |error: safetensors::SafeTensorError| Error::Data(format!("checkpoint: {error}"));
    let mut views = Vec::new();
    for (name, dtype, shape, data) in &buffers {
        let view = TensorView::new(*dtype, shape.clone(), data).map_err(failure)?;
        if let Some(found) = not_finite(&view) {
            return Err(Error::Data(format!(
                "checkpoint: {name} {found}; none was written, an earlier one is kept. Lower the learning rate"
            )));
        }
        views.push((*name, view));
    }
    // One entry: the crate keeps metadata in a hash map, and several would be written in another order every time.
    let header = Header { format: FORMAT.into(), sha256: BLANK.into(), config: config.clone(), values: values.clone() };
    let metadata = HashMap::from([(METADATA_KEY.to_string(), json("header", &header)?)]);
    let mut data = safetensors::serialize(views, Some(metadata)).map_err(failure)?;
    let at = place(&data).ok_or_else(|| Error::Data("checkpoint: its header has no place for a digest".into()))?;
    let digest = digest(&data, at);
    data[at..at + BLANK.len()].copy_from_slice(digest.as_bytes());
    Ok(data)
}

/// Reads and checks a file. Errors say what to do with one that cannot be used: `remedy`.
pub(super) fn open(path: &Path, remedy: &str) -> Result<Content> {
    let foreign =
        |reason: String| Error::Data(format!("{}: not a usable checkpoint ({reason}); {remedy}", path.display()));
    let data = read(path, remedy)?;
    let (_, outer) = SafeTensors::read_metadata(&data).map_err(|error| foreign(error.to_string()))?;
    let metadata = outer.metadata().clone().unwrap_or_default();
    let text = metadata.get(METADATA_KEY).ok_or_else(|| foreign("it was not written by drcorl".into()))?;
    let Format { format } = serde_json::from_str(text).map_err(|error| foreign(error.to_string()))?;
    if format == EARLIER {
        return Err(foreign(format!("format is {EARLIER}, which has no sha256 of its content")));
    }
    if format != FORMAT {
        return Err(foreign(format!("format is {format}, expected {FORMAT}")));
    }
    let Header { sha256, config, values, .. } =
        serde_json::from_str(text).map_err(|error| foreign(error.to_string()))?;
    let found = place(&data).map(|at| digest(&data, at));
    if found.as_deref() != Some(sha256.as_str()) {
        let found = found.unwrap_or_else(|| "no place for one".into());
        return Err(foreign(format!("it is damaged: its header states sha256 {sha256}, its content has {found}")));
    }
    let stored = SafeTensors::deserialize(&data).map_err(|error| foreign(error.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in stored.iter() {
        if let Some(found) = not_finite(&view) {
            return Err(foreign(format!("{name} {found}")));
        }
        let tensor = from_view(&view).ok_or_else(|| foreign(format!("{name} has the type {:?}", view.dtype())))?;
        tensors.insert(name.to_string(), tensor);
    }
    Ok(Content { tensors, values, config })
}

/// The bytes of a regular file whose header states the size it has: a pipe never ends, and a sparse file is larger than
/// memory.
fn read(path: &Path, remedy: &str) -> Result<Vec<u8>> {
    let foreign =
        |reason: &str| Error::Data(format!("{}: not a usable checkpoint ({reason}); {remedy}", path.display()));
    let io = |error| Error::io(path, error);
    // Asked before it is opened: opening a pipe waits until someone writes into it.
    let found = fs::metadata(path).map_err(io)?;
    if !found.is_file() {
        return Err(foreign("it is no regular file"));
    }
    let mut file = fs::File::open(path).map_err(io)?.take(found.len());
    let mut data = Vec::new();
    (&mut file).take(8).read_to_end(&mut data).map_err(io)?;
    let Ok(length) = data.as_slice().try_into().map(u64::from_le_bytes) else { return Err(foreign("it is too short")) };
    (&mut file).take(length).read_to_end(&mut data).map_err(io)?;
    let stated: Metadata = serde_json::from_slice(&data[8..]).map_err(|error| foreign(&error.to_string()))?;
    let tensors = stated.tensors().values().map(|tensor| tensor.data_offsets.1 as u64).max().unwrap_or(0);
    if found.len() - data.len() as u64 != tensors {
        return Err(foreign(&format!("its header speaks of {tensors} bytes of tensors, it has another number")));
    }
    file.read_to_end(&mut data).map_err(io)?;
    Ok(data)
}

/// Where the digest stands: in the header, which ends where the first tensor begins.
fn place(data: &[u8]) -> Option<usize> {
    let length = usize::try_from(u64::from_le_bytes(data.get(..8)?.try_into().ok()?)).ok()?;
    let header = data.get(..length.checked_add(8)?)?;
    let at = header.windows(BEFORE.len()).position(|window| window == BEFORE)? + BEFORE.len();
    (at + BLANK.len() <= header.len()).then_some(at)
}

fn digest(data: &[u8], at: usize) -> String {
    let mut hash = Sha256::default();
    hash.add(&data[..at]);
    hash.add(BLANK.as_bytes());
    hash.add(&data[at + BLANK.len()..]);
    hash.hex()
}

/// The first number that is none, in words.
fn not_finite(view: &TensorView<'_>) -> Option<String> {
    let data = view.data();
    let found = match view.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).enumerate().find(bad),
        Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).enumerate().find(bad),
        _ => None,
    };
    found.map(|(at, value)| format!("is {value} at {at}, not a finite number"))
}

fn bad((_, value): &(usize, f64)) -> bool {
    !value.is_finite()
}

pub(super) fn json<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Data(format!("checkpoint: {what}: {error}")))
}

fn dtype(tensor: &Tensor) -> Result<Dtype> {
    match tensor.kind() {
        Kind::Float => Ok(Dtype::F32),
        Kind::Double => Ok(Dtype::F64),
        Kind::Int64 => Ok(Dtype::I64),
        other => Err(Error::Data(format!("checkpoint: cannot store {other:?}"))),
    }
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.size().iter().map(|&d| d as usize).collect()
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut data = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut data, tensor.numel())?;
    Ok(data)
}

/// Writes `data` to a temporary name in the same folder, syncs it, and renames it over `path`.
pub fn write_atomically(path: &Path, data: &[u8]) -> Result<()> {
    // A leading dot and `.tmp`: what a killed process leaves behind is recognised and removed by the next run in the
    // folder.
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let attempt = || -> std::io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(data)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // The rename itself must survive a power cut; not every file system lets a folder be synced.
            if let Ok(folder) = fs::File::open(folder) {
                let _ = folder.sync_all();
            }
        }
        Ok(())
    };
    attempt().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Error::io(path, error)
    })
}
