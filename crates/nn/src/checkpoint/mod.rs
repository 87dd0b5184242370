//! One safetensors file with everything a run needs to go on: parameters, moments, generator, counters, configuration.
//!
//! Every part of a trainer has one `persist` method that both saves and restores, so the two cannot drift apart.

use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const FORMAT: &str = "drcorl-checkpoint/1";
const METADATA_KEY: &str = "drcorl";

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    config: Value,
    values: BTreeMap<String, String>,
}

/// The state of a run on its way to or from a file.
pub struct State {
    restoring: bool,
    prefix: Vec<String>,
    tensors: BTreeMap<String, Tensor>,
    /// JSON text a value: exact for 128-bit integers and floats, which a JSON tree is not.
    values: BTreeMap<String, String>,
}

impl State {
    /// An empty state to be filled by `persist`.
    pub fn saving() -> Self {
        State { restoring: false, prefix: vec![], tensors: BTreeMap::new(), values: BTreeMap::new() }
    }

    /// True when `persist` reads.
    pub fn restoring(&self) -> bool {
        self.restoring
    }

    fn key(&self, name: &str) -> String {
        self.prefix.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
    }

    /// Runs `inner` with `name` put before every key.
    pub fn group(&mut self, name: &str, inner: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        self.prefix.push(name.to_string());
        let result = inner(self);
        self.prefix.pop();
        result
    }

    /// Saves a tensor, or copies the stored one into it (same shape).
    pub fn tensor(&mut self, name: &str, tensor: &mut Tensor) -> Result<()> {
        let key = self.key(name);
        if !self.restoring {
            self.tensors.insert(key, tensor.detach().to_device(Device::Cpu).contiguous());
            return Ok(());
        }
        let stored = self.tensors.get(&key).ok_or_else(|| missing(&key))?;
        if stored.size() != tensor.size() || stored.kind() != tensor.kind() {
            return Err(Error::Data(format!(
                "checkpoint: {key} is {:?} {:?}, this run needs {:?} {:?}",
                stored.kind(),
                stored.size(),
                tensor.kind(),
                tensor.size()
            )));
        }
        tch::no_grad(|| tensor.copy_(stored));
        Ok(())
    }

    /// Saves or restores a tensor whose presence or shape is decided at run time.
    pub fn optional_tensor(&mut self, name: &str, tensor: &mut Option<Tensor>, device: Device) -> Result<()> {
        let key = self.key(name);
        if self.restoring {
            *tensor = self.tensors.get(&key).map(|stored| stored.to_device(device).copy());
        } else if let Some(tensor) = tensor {
            self.tensors.insert(key, tensor.detach().to_device(Device::Cpu).contiguous());
        }
        Ok(())
    }

    /// Saves or restores any serialisable value exactly.
    pub fn value<T: Serialize + DeserializeOwned>(&mut self, name: &str, value: &mut T) -> Result<()> {
        let key = self.key(name);
        if self.restoring {
            let stored = self.values.get(&key).ok_or_else(|| missing(&key))?;
            *value =
                serde_json::from_str(stored).map_err(|error| Error::Data(format!("checkpoint: {key}: {error}")))?;
        } else {
            let stored = json(&key, value)?;
            self.values.insert(key, stored);
        }
        Ok(())
    }

    /// Writes the state atomically; `config` is stored beside it.
    pub fn write(&self, path: &Path, config: &Value) -> Result<()> {
        let buffers: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), dtype(tensor)?, shape(tensor), bytes(tensor)?)))
            .collect::<Result<_>>()?;
        let views = buffers
            .iter()
            .map(|(name, dtype, shape, data)| {
                TensorView::new(*dtype, shape.clone(), data)
                    .map(|view| (name.clone(), view))
                    .map_err(|error| Error::Data(format!("checkpoint: {name}: {error}")))
            })
            .collect::<Result<Vec<_>>>()?;
        // One entry: the crate keeps metadata in a hash map, and several would be written in another order every time.
        let header = Header { format: FORMAT.into(), config: config.clone(), values: self.values.clone() };
        let metadata = HashMap::from([(METADATA_KEY.to_string(), json("header", &header)?)]);
        let data = safetensors::serialize(views, Some(metadata))
            .map_err(|error| Error::Data(format!("checkpoint: {error}")))?;
        write_atomically(path, &data)
    }

    /// Reads a file written by [`State::write`]; returns the state and the configuration.
    pub fn read(path: &Path) -> Result<(State, Value)> {
        let foreign = |reason: String| {
            Error::Data(format!(
                "{}: not a usable checkpoint ({reason}). Pass the checkpoint.safetensors of a drcorl run, or start again without --resume.",
                path.display()
            ))
        };
        let data = fs::read(path).map_err(|error| Error::io(path, error))?;
        let (_, header) = SafeTensors::read_metadata(&data).map_err(|error| foreign(error.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let text = metadata.get(METADATA_KEY).ok_or_else(|| foreign("it was not written by drcorl".into()))?;
        let Header { format, config, values } =
            serde_json::from_str(text).map_err(|error| foreign(error.to_string()))?;
        if format != FORMAT {
            return Err(foreign(format!("format is {format}, expected {FORMAT}")));
        }
        let stored = SafeTensors::deserialize(&data).map_err(|error| foreign(error.to_string()))?;
        let tensors = stored
            .iter()
            .map(|(name, view)| {
                Ok((name.to_string(), from_view(&view).ok_or_else(|| foreign(format!("{name}: dtype")))?))
            })
            .collect::<Result<_>>()?;
        Ok((State { restoring: true, prefix: vec![], tensors, values }, config))
    }
}

fn json<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Data(format!("checkpoint: {what}: {error}")))
}

fn missing(key: &str) -> Error {
    Error::Data(format!("checkpoint: {key} is missing; the file was written by another version or another algorithm"))
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

/// The tensor behind a safetensors view, or None for a dtype the project does not use.
pub fn from_view(view: &TensorView<'_>) -> Option<Tensor> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::I64 => Kind::Int64,
        _ => return None,
    };
    let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
    Tensor::f_from_data_size(view.data(), &shape, kind).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("drcorl-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn written(path: &Path) -> Tensor {
        let mut tensor = Tensor::from_slice(&[1.0f32, -0.0, f32::MIN_POSITIVE]);
        let mut state = State::saving();
        state.group("a", |state| state.tensor("x", &mut tensor)).unwrap();
        state.value("n", &mut 0.1f64).unwrap();
        state.write(path, &serde_json::json!({ "k": [1, 2] })).unwrap();
        tensor
    }

    #[test]
    fn a_state_comes_back_exactly_and_its_file_is_the_same_twice() {
        let folder = folder("roundtrip");
        let path = folder.join("c.safetensors");
        let tensor = written(&path);
        let first = fs::read(&path).unwrap();
        let _ = written(&path);
        assert_eq!(first, fs::read(&path).unwrap());
        let (mut state, config) = State::read(&path).unwrap();
        assert_eq!(config["k"][1], 2);
        let mut restored = tensor.zeros_like();
        state.group("a", |state| state.tensor("x", &mut restored)).unwrap();
        assert_eq!(restored, tensor);
        let mut n = 0.0;
        state.value("n", &mut n).unwrap();
        assert_eq!(n, 0.1);
        assert_eq!(state.tensor("absent", &mut restored).err().unwrap().code(), "Data");
        let mut other_shape = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let error = state.group("a", |state| state.tensor("x", &mut other_shape)).err().unwrap();
        assert!(error.to_string().contains("a.x"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn truncated_and_foreign_files_are_refused_by_name() {
        let folder = folder("foreign");
        let path = folder.join("c.safetensors");
        let _ = written(&path);
        let whole = fs::read(&path).unwrap();
        for length in [0, 7, 8, 40, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = State::read(&path).err().unwrap();
            assert_eq!(error.code(), "Data");
            assert!(error.to_string().contains("c.safetensors"), "{error}");
        }
        let foreign = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
        fs::write(&path, foreign).unwrap();
        assert!(State::read(&path).err().unwrap().to_string().contains("not written by drcorl"));
        assert_eq!(State::read(&folder.join("absent")).err().unwrap().code(), "Io");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_failed_write_leaves_neither_a_partial_file_nor_a_temporary() {
        let folder = folder("atomic");
        // The target is a folder: the rename must fail, after the temporary was written.
        let path = folder.join("taken");
        fs::create_dir_all(path.join("inside")).unwrap();
        assert_eq!(write_atomically(&path, b"data").err().unwrap().code(), "Io");
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["taken"]);
        fs::remove_dir_all(folder).unwrap();
    }
}
