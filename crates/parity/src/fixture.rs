//! Reading a fixture: its manifest, its tensors by group, its tolerances.

use drcorl_core::error::{Error, Result};
use drcorl_nn::checkpoint::from_view;
use drcorl_nn::precision::Precision;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tch::{Device, Tensor};

/// Named tensors of one group.
#[derive(Default)]
pub struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    /// The tensor of that name; an error names what is missing.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::Data(format!("the fixture has no {name}")))
    }

    /// True if a tensor of that name exists.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A column `[B]` of a batch as `[B,1]`.
    pub fn column(&self, name: &str) -> Result<Tensor> {
        Ok(self.get(name)?.view([-1, 1]))
    }

    /// Names and tensors in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    pub(super) fn without(mut self, prefix: &str) -> Self {
        self.0.retain(|name, _| !name.starts_with(prefix));
        self
    }

    /// The tensor of that name alone.
    pub(super) fn only(mut self, wanted: &str) -> Self {
        self.0.retain(|name, _| name == wanted);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_ordered(self) -> Vec<Tensor> {
        self.0.into_values().collect()
    }
}

/// Bounds of one comparison.
pub(super) struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
    /// Largest error of the few elements that may exceed the tolerance; 0 allows none.
    pub outlier_bound: f64,
    /// Below the highest precision, what bounds a tensor instead.
    pub mean: Option<Mean>,
}

/// Most that the root mean square of a tensor's errors may be, as a share of the tensor's own and a floor.
#[derive(Clone, Copy)]
pub(super) struct Mean {
    pub share: f64,
    pub floor: f64,
}

/// One manifest and its tensors.
pub struct Fixture {
    manifest: Value,
    precision: Precision,
    tensors: BTreeMap<String, Tensor>,
}

impl Fixture {
    /// Reads `<name>.json` and the safetensors file it names.
    pub fn read(path: &Path, device: Device, precision: Precision) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| drcorl_nn::Error::io(path, error))?;
        let manifest: Value =
            serde_json::from_str(&text).map_err(|error| Error::Data(format!("{}: {error}", path.display())))?;
        let file = match manifest["file"].as_str() {
            Some(name) => path.with_file_name(name),
            None => path.with_extension("safetensors"),
        };
        let bytes = fs::read(&file).map_err(|error| drcorl_nn::Error::io(&file, error))?;
        let stored =
            SafeTensors::deserialize(&bytes).map_err(|error| Error::Data(format!("{}: {error}", file.display())))?;
        let tensors = stored
            .iter()
            .filter_map(|(name, view)| from_view(&view).map(|tensor| (name.to_string(), tensor.to_device(device))))
            .collect();
        Ok(Fixture { manifest, precision, tensors })
    }

    /// Names of the variants; one empty name if there are none.
    pub fn variants(&self) -> Vec<String> {
        match self.manifest["variants"].as_object() {
            Some(variants) if !variants.is_empty() => variants.keys().cloned().collect(),
            _ => vec![String::new()],
        }
    }

    /// Number of recorded steps.
    pub fn steps(&self) -> usize {
        self.manifest["steps"].as_u64().unwrap_or(0) as usize
    }

    /// A number under `hyper`, by its path.
    pub fn hyper(&self, path: &[&str]) -> Result<f64> {
        self.hyper_value(path)
            .as_f64()
            .ok_or_else(|| Error::Data(format!("the manifest has no number at hyper.{}", path.join("."))))
    }

    /// Anything under `hyper`, by its path; null if absent.
    pub fn hyper_value(&self, path: &[&str]) -> &Value {
        path.iter().fold(&self.manifest["hyper"], |value, key| &value[*key])
    }

    /// What the manifest says of a variant; null if nothing.
    pub fn variant(&self, variant: &str, key: &str) -> &Value {
        &self.manifest["variants"][variant][key]
    }

    /// Names under `<group>/`, each once, in order.
    pub fn cases(&self, group: &str) -> Vec<String> {
        let prefix = format!("{group}/");
        let mut names: Vec<String> = self
            .tensors
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix)?.split('/').next().map(String::from))
            .collect();
        names.dedup();
        names
    }

    /// A dimension under `dims`.
    pub fn dim(&self, name: &str) -> Result<i64> {
        self.manifest["dims"][name].as_i64().ok_or_else(|| Error::Data(format!("the manifest has no dims.{name}")))
    }

    /// Tensors under `<variant>/<group>/`, completed by those under `<group>/` that all variants share.
    pub fn group(&self, variant: &str, group: &str) -> Tensors {
        let mut found = BTreeMap::new();
        let own = format!("{variant}/{group}/");
        for prefix in [format!("{group}/"), own] {
            for (name, tensor) in &self.tensors {
                if let Some(rest) = name.strip_prefix(&prefix) {
                    found.insert(rest.to_string(), tensor.shallow_clone());
                }
            }
        }
        Tensors(found)
    }

    /// Tolerance for `<place>/<name>` after `steps` optimiser steps; see the fixture's README for the rules.
    pub(super) fn tolerance(&self, place: &str, name: &str, steps: usize) -> Tolerance {
        let table = &self.manifest["tolerance"];
        let short = name.rsplit('/').next().unwrap_or(name);
        let parameters = place.starts_with("after");
        let group = match name.split('/').next() {
            _ if parameters => "params_after_3_steps",
            _ if place == "eval" && table["eval"].is_object() => "eval",
            Some("loss") | Some("state") => "loss",
            Some("grad") | Some("grad2") => "grad_step0",
            _ => "aux",
        };
        let bounds = |value: &Value| Some((value["atol"].as_f64()?, value["rtol"].as_f64()?));
        let named = table.as_object().into_iter().flatten().find(|(key, value)| {
            value.is_object()
                && key.split("_and_").any(|part| part == short || short.starts_with(part.trim_end_matches('s')))
        });
        let loosest = || {
            let all: Vec<_> = table.as_object().into_iter().flatten().filter_map(|(_, value)| bounds(value)).collect();
            all.into_iter().reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
        };
        let (atol, rtol) = named
            .and_then(|(_, value)| bounds(value))
            .or_else(|| bounds(&table[group]))
            .or_else(|| bounds(table))
            .or_else(loosest)
            .unwrap_or((1e-5, 1e-4));
        let outlier_bound = if parameters { 2.0 * self.largest_rate() * steps as f64 } else { 0.0 };
        // A loss is a sum of what may cancel, with the error of what it sums.
        let floor = if group == "loss" { 0.1 } else { 0.01 };
        let mean = match self.precision {
            Precision::Highest => None,
            // What is left out of the products is at most 3 times 2^-16 of them, against 2 times 2^-8.
            Precision::High => Some(Mean { share: 0.25 / 128.0, floor }),
            Precision::Medium => Some(Mean { share: 0.25, floor }),
        };
        Tolerance { atol, rtol, outlier_bound, mean }
    }

    fn largest_rate(&self) -> f64 {
        let rates = self.manifest["hyper"].as_object().into_iter().flatten();
        rates
            .filter(|(key, _)| (key.contains("lr") || *key == "learning_rate") && !key.starts_with("release"))
            .filter(|(key, _)| !key.ends_with("_steps"))
            .filter_map(|(_, value)| value.as_f64())
            .fold(0.0, f64::max)
    }
}
