//! The policy file: safetensors with float32 tensors and string metadata, and the reading of its fields by name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use safetensors::tensor::{Dtype, Metadata, SafeTensors};

use crate::error::{Error, ErrorKind, Result};

/// Value of the metadata key `format`.
pub const FORMAT: &str = "drcorl-policy/1";

/// Largest file read, 2^28 bytes: 67 million weights, thousands of times those of a policy of the field. Reading takes
/// about three times as much memory, for the bytes, the numbers and the kernels' order.
pub const MOST_BYTES: u64 = 1 << 28;

/// Largest header read, 2^22 bytes; that of a transformer of 24 blocks has 2^15.
const MOST_HEADER_BYTES: u64 = 1 << 22;

/// Metadata keys of this prefix name the numbers a user may change before a policy plays.
const SETTING: &str = "setting.";

/// A tensor of the file: row-major `values` of `shape`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// The content of a policy file before it is given a meaning.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyFile {
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Array>,
}

impl PolicyFile {
    /// A file of one kind without tensors. `kind` decides who reads it.
    pub fn new(kind: &str) -> PolicyFile {
        let mut file = PolicyFile::default();
        file.set("format", FORMAT);
        file.set("kind", kind);
        file
    }

    /// Adds a tensor.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        self.tensors.insert(name.to_owned(), Array { shape: shape.to_vec(), values });
    }

    /// Adds layer `index` of the network `name`: weight `[out, in]`, bias `[out]`.
    pub fn insert_layer(&mut self, name: &str, index: usize, weight: Vec<f32>, bias: Vec<f32>) {
        let inputs = weight.len() / bias.len().max(1);
        self.insert(&format!("{name}.{index}.weight"), &[bias.len(), inputs], weight);
        self.insert(&format!("{name}.{index}.bias"), &[bias.len()], bias);
    }

    /// Adds a metadata entry.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        self.metadata.insert(key.to_owned(), value.to_string());
    }

    /// Adds a number that users may change before a policy plays.
    pub fn set_setting(&mut self, name: &str, value: f64) {
        self.set(&format!("{SETTING}{name}"), value);
    }

    /// Reads a regular file of at most [`MOST_BYTES`]; the error names it. Tensors are read only where the header
    /// states the size the file has.
    pub fn load(path: &Path) -> Result<PolicyFile> {
        read_file(path).and_then(|bytes| Self::from_bytes(&bytes)).map_err(|e| e.in_file(&path.display().to_string()))
    }

    /// Reads the bytes of a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<PolicyFile> {
        let not_a_file = |e: safetensors::SafeTensorError| not_a_file(bytes.len() as u64, &e.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_a_file)?;
        let stored = SafeTensors::deserialize(bytes).map_err(not_a_file)?;
        let metadata = header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut tensors = BTreeMap::new();
        for (name, view) in stored.iter() {
            if view.dtype() != Dtype::F32 {
                let text = format!("has the type {:?}, expected F32", view.dtype());
                return Err(Error::data(name, &text));
            }
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            tensors.insert(name.to_owned(), Array { shape: view.shape().to_vec(), values: values.collect() });
        }
        Ok(PolicyFile { metadata, tensors })
    }

    /// The bytes of the file; equal content gives equal bytes.
    /// Not with the safetensors crate: it keeps metadata in a hash map.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".to_owned(), serde_json::json!(self.metadata));
        let mut data: Vec<u8> = Vec::new();
        for (name, Array { shape, values }) in &self.tensors {
            let start = data.len();
            data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
            header.insert(name.clone(), entry);
        }
        let mut text = serde_json::Value::Object(header).to_string();
        // Readers map tensors in place: the data begins at a multiple of 8 bytes.
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.into_bytes());
        bytes.extend(data);
        bytes
    }
}

fn not_a_file(bytes: u64, why: &str) -> Error {
    let text = format!("is not a safetensors file, or is truncated ({bytes} bytes: {why}); write the policy again");
    Error::new(ErrorKind::Data, None, &text)
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let cannot = |e: std::io::Error| Error::new(ErrorKind::Io, None, &format!("cannot be read: {e}; check the path"));
    // Asked before it is opened: opening a pipe waits until someone writes into it.
    let found = std::fs::metadata(path).map_err(cannot)?;
    if !found.is_file() {
        return Err(Error::new(ErrorKind::Io, None, "cannot be read: it is no regular file; check the path"));
    }
    let length = found.len();
    if length > MOST_BYTES {
        let text = format!("has {length} bytes, a policy at most {MOST_BYTES}; use a policy file written by drcorl");
        return Err(Error::new(ErrorKind::Data, None, &text));
    }
    let mut file = File::open(path).map_err(cannot)?.take(length);
    let mut bytes = Vec::new();
    (&mut file).take(8).read_to_end(&mut bytes).map_err(cannot)?;
    let header = bytes.as_slice().try_into().map(u64::from_le_bytes).map_err(|_| not_a_file(length, "no header"))?;
    if header > MOST_HEADER_BYTES {
        return Err(not_a_file(length, &format!("a header of {header} bytes")));
    }
    (&mut file).take(header).read_to_end(&mut bytes).map_err(cannot)?;
    let stated: Metadata = serde_json::from_slice(&bytes[8..]).map_err(|e| not_a_file(length, &e.to_string()))?;
    let ends = stated.tensors().values().map(|tensor| tensor.data_offsets.1 as u64).max().unwrap_or(0);
    if length - bytes.len() as u64 != ends {
        return Err(not_a_file(length, &format!("its header speaks of {ends} bytes of tensors")));
    }
    bytes.reserve_exact((length as usize).saturating_sub(bytes.len()));
    file.read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}

/// Reads a file's fields by name and remembers which were asked for.
pub(crate) struct Fields<'a> {
    file: &'a PolicyFile,
    /// What the names of tensors begin with in the file.
    prefix: String,
    used: Rc<RefCell<BTreeSet<String>>>,
}

const REMEDY: &str = "use a policy file written by drcorl";

impl<'a> Fields<'a> {
    pub fn of(file: &'a PolicyFile) -> Self {
        Fields { file, prefix: String::new(), used: Rc::default() }
    }

    /// The same file with the tensors whose names begin with `prefix`, by the rest of their names.
    pub fn within(&self, prefix: &str) -> Self {
        Fields { file: self.file, prefix: format!("{}{prefix}", self.prefix), used: Rc::clone(&self.used) }
    }

    /// Metadata under `key`, if it is there.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.file.metadata.get(key).map(String::as_str)
    }

    /// One of `choices`, each a spelling and its meaning; a missing key is an error.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T> {
        let found = self.text(key);
        if let Some((_, meaning)) = choices.iter().find(|(spelling, _)| found == Some(spelling)) {
            return Ok(*meaning);
        }
        let known: Vec<String> = choices.iter().map(|(spelling, _)| format!("{spelling:?}")).collect();
        let state = found.map_or("missing".to_owned(), |value| format!("{value:?}"));
        let text = format!("is {state}, this version reads {}; {REMEDY}", known.join(" or "));
        Err(Error::data(&format!("metadata {key}"), &text))
    }

    /// A finite number of the metadata.
    pub fn number(&self, key: &str) -> Result<f64> {
        let found = self.text(key);
        match found.and_then(|text| text.parse::<f64>().ok()).filter(|value| value.is_finite()) {
            Some(value) => Ok(value),
            None => {
                let state = found.map_or("missing".to_owned(), |value| format!("{value:?}"));
                Err(Error::data(&format!("metadata {key}"), &format!("is {state}, expected a number; {REMEDY}")))
            }
        }
    }

    /// A whole number that is not negative.
    pub fn whole(&self, key: &str) -> Result<u64> {
        let found = self.text(key).unwrap_or("missing");
        let text = || format!("is {found}, expected a whole number; {REMEDY}");
        found.parse().map_err(|_| Error::data(&format!("metadata {key}"), &text()))
    }

    /// A number of things: from 1 to 4096.
    pub fn count(&self, key: &str) -> Result<usize> {
        let value = self.whole(key)?;
        if (1..=4096).contains(&value) {
            return Ok(value as usize);
        }
        Err(Error::data(&format!("metadata {key}"), &format!("is {value}, expected 1 to 4096; {REMEDY}")))
    }

    /// The numbers a user may change, with the file's values.
    pub fn settings(&self) -> Result<BTreeMap<String, f64>> {
        let keys = self.file.metadata.keys().filter_map(|key| key.strip_prefix(SETTING));
        keys.map(|name| Ok((name.to_owned(), self.number(&format!("{SETTING}{name}"))?))).collect()
    }

    /// True if the file has that tensor.
    pub fn has(&self, name: &str) -> bool {
        self.file.tensors.contains_key(&format!("{}{name}", self.prefix))
    }

    /// A tensor of the given rank with finite values.
    pub fn tensor(&self, name: &str, rank: usize) -> Result<&'a Array> {
        let full = format!("{}{name}", self.prefix);
        let found = self.file.tensors.get(&full);
        let array = found.ok_or_else(|| Error::data(name, &format!("is missing; {REMEDY}")))?;
        if array.shape.len() != rank {
            let text = format!("has shape {:?}, expected rank {rank}", array.shape);
            return Err(Error::shape(name, &text));
        }
        if array.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(array.values.len()) {
            let text = format!("has {} values, its shape {:?} another number", array.values.len(), array.shape);
            return Err(Error::shape(name, &text));
        }
        check_finite(name, &array.values)?;
        self.used.borrow_mut().insert(full);
        Ok(array)
    }

    /// A vector of `len` finite entries.
    pub fn vector(&self, name: &str, len: usize) -> Result<&'a [f32]> {
        let array = self.tensor(name, 1)?;
        if array.values.len() == len {
            return Ok(&array.values);
        }
        Err(Error::shape(name, &format!("has {} entries, expected {len}", array.values.len())))
    }

    /// Refuses tensors no one asked for.
    pub fn finish(&self) -> Result<()> {
        let used = self.used.borrow();
        match self.file.tensors.keys().find(|name| !used.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(Error::data(name, "is not a tensor of this format; a layer before it may be missing")),
        }
    }
}

/// Refuses NaN and infinities in the field `name`.
fn check_finite(name: &str, values: &[f32]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => {
            let text = format!("value {index} is {}, not a finite number", values[index]);
            Err(Error::data(name, &text))
        }
    }
}

#[cfg(test)]
mod tests;
