//! The presets that baselines name, with their texts: an algorithm lists those it has, the recommended one first.

use drcorl_core::algorithm::Preset;
use drcorl_core::run::{RunConfig, Scaling};

/// What is said of a published implementation.
pub const FAULTS: &str = "The published implementation with its faults, for comparison with its tables.";

/// The recommended one: repaired, with the published budget.
pub fn fixed<C>(config: C) -> Preset<C> {
    let text = "The published budget, faults of the published implementation repaired.";
    preset("fixed", text, config, Scaling::Standardized)
}

/// OSRL's implementation, on raw data.
pub fn osrl<C>(config: C) -> Preset<C> {
    published("osrl", FAULTS, config)
}

/// The code that the authors released, with its faults, on raw data.
pub fn released<C>(config: C) -> Preset<C> {
    published("published", "The released code with its faults, for comparison with its tables.", config)
}

/// Another implementation that is reproduced with its faults, on raw data; `text` says which.
pub fn published<C>(name: &'static str, text: &'static str, config: C) -> Preset<C> {
    preset(name, text, config, Scaling::Raw)
}

/// What a first try takes.
pub fn quick<C>(config: C) -> Preset<C> {
    let text = "Minutes on one core: fixed with small networks and fewer steps.";
    preset("quick", text, config, Scaling::Standardized)
}

fn preset<C>(name: &'static str, summary: &'static str, config: C, scaling: Scaling) -> Preset<C> {
    Preset { name, summary, config, run: RunConfig { scaling, ..RunConfig::default() }, tasks: Vec::new() }
}
