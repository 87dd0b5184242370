//! Everything a run needs to go on, in one file: parameters, moments, generator, counters, configuration.
//!
//! Every part of a trainer has one `persist` method that both saves and restores, so the two cannot drift apart. What
//! is restored is checked as it is taken: shape, kind, range; [`file`] has checked the bytes.

mod file;
#[cfg(test)]
mod tests;

pub use file::write_atomically;

use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use serde::de::DeserializeOwned;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Steps that an optimiser can count: its corrections are powers of that many.
pub const MOST_STEPS: u64 = i32::MAX as u64 - 1;

/// The state of a run on its way to or from a file.
pub struct State {
    restoring: bool,
    /// The file it comes from, and what to do where it cannot be used, for messages.
    source: String,
    remedy: &'static str,
    prefix: Vec<String>,
    tensors: BTreeMap<String, Tensor>,
    /// JSON text a value: exact for 128-bit integers and floats, which a JSON tree is not.
    values: BTreeMap<String, String>,
    /// Rows and episodes of the dataset, once known: what indices are held to.
    rows: i64,
    episodes: usize,
}

impl State {
    /// An empty state to be filled by `persist`.
    pub fn saving() -> Self {
        State::of(("checkpoint", REMEDY), false, BTreeMap::new(), BTreeMap::new())
    }

    fn of(
        (source, remedy): (impl ToString, &'static str),
        restoring: bool,
        tensors: BTreeMap<String, Tensor>,
        values: BTreeMap<String, String>,
    ) -> Self {
        State { restoring, source: source.to_string(), remedy, prefix: vec![], tensors, values, rows: 0, episodes: 0 }
    }

    /// Says how many rows and episodes the dataset has. Every int64 tensor of a checkpoint holds numbers of rows.
    pub fn over(mut self, rows: i64, episodes: usize) -> Self {
        (self.rows, self.episodes) = (rows, episodes);
        self
    }

    /// True when `persist` reads.
    pub fn restoring(&self) -> bool {
        self.restoring
    }

    fn key(&self, name: &str) -> String {
        self.prefix.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
    }

    /// The error that `name`, below the groups that are open, holds something that cannot be.
    pub fn refuse(&self, name: &str, what: impl std::fmt::Display) -> Error {
        Error::Data(format!("{}: {} {what}; {}", self.source, self.key(name), self.remedy))
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
        let stored = self.tensors.remove(&key).ok_or_else(|| self.missing(name))?;
        self.require_like(name, &stored, tensor.kind(), &tensor.size())?;
        if stored.kind() == Kind::Int64 {
            self.require_rows(name, &stored)?;
        }
        tch::no_grad(|| tensor.copy_(&stored));
        Ok(())
    }

    /// Saves or restores rows `[M,width]`, float32, that may not be there.
    pub fn optional_rows(&mut self, name: &str, rows: &mut Option<Tensor>, width: i64, device: Device) -> Result<()> {
        let key = self.key(name);
        if !self.restoring {
            if let Some(rows) = rows {
                self.tensors.insert(key, rows.detach().to_device(Device::Cpu).contiguous());
            }
            return Ok(());
        }
        let stored = self.tensors.remove(&key);
        if let Some(stored) = &stored {
            let length = stored.size().first().copied().unwrap_or(0);
            self.require_like(name, stored, Kind::Float, &[length, width])?;
        }
        *rows = stored.map(|stored| stored.to_device(device).copy());
        Ok(())
    }

    /// Saves or restores any serialisable value exactly.
    pub fn value<T: Serialize + DeserializeOwned>(&mut self, name: &str, value: &mut T) -> Result<()> {
        let key = self.key(name);
        if self.restoring {
            let stored = self.values.remove(&key).ok_or_else(|| self.missing(name))?;
            *value = serde_json::from_str(&stored)
                .map_err(|error| self.refuse(name, format!("is {}, {error}", cut(&stored))))?;
        } else {
            let stored = file::json(&key, value)?;
            self.values.insert(key, stored);
        }
        Ok(())
    }

    /// Saves or restores a count, which is at most `most`.
    pub fn counter(&mut self, name: &str, count: &mut u64, most: u64) -> Result<()> {
        self.value(name, count)?;
        if self.restoring && *count > most {
            return Err(self.refuse(name, format!("is {count}, more than {most}")));
        }
        Ok(())
    }

    /// Saves or restores numbers of episodes.
    pub fn episodes(&mut self, name: &str, episodes: &mut Vec<usize>) -> Result<()> {
        self.value(name, episodes)?;
        let bad = episodes.iter().find(|&&episode| episode >= self.episodes);
        match bad.filter(|_| self.restoring) {
            None => Ok(()),
            Some(bad) => Err(self.refuse(name, format!("names episode {bad}, the dataset has {}", self.episodes))),
        }
    }

    /// Saves or restores a snapshot that may not be there.
    pub fn snapshot(&mut self, name: &str, snapshot: &mut Option<Snapshot>) -> Result<()> {
        let mut kept = snapshot.is_some();
        self.value(&format!("{name}_kept"), &mut kept)?;
        let below = format!("{}.", self.key(name));
        if self.restoring {
            let (tensors, values) = (below_of(&mut self.tensors, &below), below_of(&mut self.values, &below));
            *snapshot = kept.then_some(Snapshot { tensors, values });
        } else if let Some(Snapshot { tensors, values }) = snapshot {
            self.tensors.extend(tensors.iter().map(|(key, tensor)| (format!("{below}{key}"), tensor.shallow_clone())));
            self.values.extend(values.iter().map(|(key, value)| (format!("{below}{key}"), value.clone())));
        }
        Ok(())
    }

    /// Errs if the file holds more than was asked for: it is that of another run.
    pub fn finish(&self) -> Result<()> {
        match self.tensors.keys().chain(self.values.keys()).next().filter(|_| self.restoring) {
            None => Ok(()),
            Some(key) => Err(Error::Data(format!("{}: {key} is nothing this run has; {}", self.source, self.remedy))),
        }
    }

    fn require_like(&self, name: &str, stored: &Tensor, kind: Kind, size: &[i64]) -> Result<()> {
        if stored.kind() == kind && stored.size() == size {
            return Ok(());
        }
        let found = format!("is {:?} {:?}, this run needs {kind:?} {size:?}", stored.kind(), stored.size());
        Err(self.refuse(name, found))
    }

    fn require_rows(&self, name: &str, rows: &Tensor) -> Result<()> {
        let numbers = Vec::<i64>::try_from(&rows.view([-1]))?;
        match numbers.iter().position(|row| !(0..self.rows).contains(row)) {
            None => Ok(()),
            Some(at) => {
                let found = format!("names row {} at {at}, the dataset has {}", numbers[at], self.rows);
                Err(self.refuse(name, found))
            }
        }
    }

    fn missing(&self, name: &str) -> Error {
        self.refuse(name, "is missing: the file was written by another version or another algorithm")
    }

    /// Writes the state atomically; `config` is stored beside it. Errs for a tensor that is not finite, which no run
    /// could go on from: what is at `path` stays.
    pub fn write(&self, path: &Path, config: &Value) -> Result<()> {
        write_atomically(path, &file::seal(&self.tensors, &self.values, config)?)
    }

    /// Reads a file written by [`State::write`]; returns the state and the configuration. Errs, naming the file, where
    /// a byte of it is another than was written.
    pub fn read(path: &Path) -> Result<(State, Value)> {
        State::read_or(path, REMEDY)
    }

    /// The same of a file that is no checkpoint of a run: errors say `remedy`.
    pub fn read_or(path: &Path, remedy: &'static str) -> Result<(State, Value)> {
        let file::Content { tensors, values, config } = file::open(path, remedy)?;
        Ok((State::of((path.display(), remedy), true, tensors, values), config))
    }
}

/// Takes out all whose key begins with `below`, under what follows it.
fn below_of<T>(all: &mut BTreeMap<String, T>, below: &str) -> BTreeMap<String, T> {
    let (found, others) = std::mem::take(all).into_iter().partition(|(key, _)| key.starts_with(below));
    *all = others;
    let found: BTreeMap<String, T> = found;
    found.into_iter().map(|(key, one)| (key[below.len()..].to_string(), one)).collect()
}

/// Parts of a run as they once were, kept in memory.
pub struct Snapshot {
    tensors: BTreeMap<String, Tensor>,
    values: BTreeMap<String, String>,
}

impl Snapshot {
    /// Of what `persist` saves; a copy.
    pub fn take(persist: impl FnOnce(&mut State) -> Result<()>) -> Result<Self> {
        let mut state = State::saving();
        persist(&mut state)?;
        let tensors = state.tensors.into_iter().map(|(key, tensor)| (key, tensor.copy())).collect();
        Ok(Snapshot { tensors, values: state.values })
    }

    /// Puts everything back that `persist` restores, the same as was taken.
    pub fn put_back(self, persist: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        let mut state = State::of(("snapshot", REMEDY), true, self.tensors, self.values);
        persist(&mut state)?;
        state.finish()
    }
}

/// What to do with a file that cannot be used.
const REMEDY: &str = "pass the checkpoint.safetensors of this run, or start again with --overwrite instead of --resume";

/// The beginning of a text that may be long.
fn cut(text: &str) -> String {
    text.chars().take(60).collect()
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
