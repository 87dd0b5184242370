//! What a run will hold in memory, estimated from its configuration before anything is allocated.
//!
//! libtorch and the system answer a request they cannot meet by ending the process.
//! The estimate counts what grows with a parameter:
//!
//! - the columns of the data, and the table of them that batches are gathered from;
//! - of every network, its parameters with gradient, two moments of Adam, target and average;
//! - of every network, the activations of its largest batch and their gradients,
//!   for each sampled action and each member.
//!
//! It knows parameters by the names they have in every algorithm (docs/architecture.md): widths end in `_hidden`, rows
//! in `batch`, `batch_size` or `rollouts`, sampled actions in `candidates` or `_samples`, members in `critics` or
//! `_members`. It is meant to be right within a factor of a few: it refuses numbers too many,
//! and leaves a close fit to the system.

use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

/// Bytes of a number.
const F32: f64 = 4.0;
/// Parameter, gradient, two moments, target, average.
const COPIES: f64 = 6.0;
/// Sequences that a transformer takes at once; the tokens of one step in them.
const SEQUENCES: f64 = 64.0;
const TOKENS: f64 = 4.0;

/// The data of a run, in numbers.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Transitions N.
    pub rows: usize,
    /// Width of an observation S.
    pub observations: usize,
    /// Width of an action A.
    pub actions: usize,
}

/// Something large a run holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    pub bytes: f64,
    /// The parameters it grows with; none for the data.
    pub because: Vec<String>,
}

/// A size that multiplies others, and the parameter it comes from.
#[derive(Clone, Copy)]
struct Factor<'a> {
    key: Option<&'a str>,
    size: f64,
}

impl<'a> Factor<'a> {
    const ONE: Factor<'static> = Factor { key: None, size: 1.0 };

    /// `times` the largest of the parameters whose name `suits`; 1 where there is none.
    fn largest(config: &'a Map<String, Value>, times: f64, suits: impl Fn(&str) -> bool) -> Self {
        let sizes = config.iter().filter(|(key, _)| suits(key));
        let factors = sizes.filter_map(|(key, value)| Some(Factor { key: Some(key), size: times * value.as_f64()? }));
        factors.fold(Factor::ONE, Factor::larger)
    }

    fn larger(self, other: Self) -> Self {
        if other.size > self.size {
            other
        } else {
            self
        }
    }
}

/// What multiplies the networks of one configuration.
struct Factors<'a> {
    /// Rows of the largest batch.
    rows: Factor<'a>,
    /// Sampled actions of a row.
    samples: Factor<'a>,
    /// Members of an ensemble.
    members: Factor<'a>,
    /// In the names of the networks that are ensembles.
    ensemble: &'static str,
    /// Numbers at both ends of a network.
    ends: f64,
}

/// Parameters of one network, and the numbers of one row that wait for its backward pass.
fn network(key: &str, config: &Map<String, Value>, ends: f64) -> (f64, f64) {
    let number = |name: &str| config.get(name).and_then(Value::as_f64);
    if let Some(layers) = config[key].as_array() {
        let hidden = || layers.iter().filter_map(Value::as_f64);
        let widths: Vec<f64> = [ends].into_iter().chain(hidden()).chain([ends]).collect();
        return (widths.windows(2).map(|pair| pair[0] * pair[1]).sum(), hidden().sum());
    }
    let (width, prefix) = (number(key).unwrap_or(0.0), key.trim_end_matches("hidden"));
    let Some(blocks) = number(&format!("{prefix}blocks")).or(number("blocks")) else {
        // An autoencoder: two layers of one width in each half.
        return (2.0 * width * (width + 2.0 * ends), 4.0 * width);
    };
    // Blocks of a residual network or a transformer.
    let expansion = number(&format!("{prefix}expansion")).unwrap_or(4.0);
    (width * (blocks * width * (2.0 * expansion + 4.0) + 2.0 * ends), blocks * width * (expansion + 8.0))
}

/// One need a network of `config`.
fn of_networks<'a>(config: &'a Map<String, Value>, factors: &'a Factors<'_>) -> impl Iterator<Item = Need> + 'a {
    config.keys().filter(|key| key.ends_with("_hidden")).map(move |key| {
        let Factors { rows, samples, members, ensemble, ends } = *factors;
        let members = if key.contains(ensemble) { members } else { Factor::ONE };
        let (parameters, kept) = network(key, config, ends);
        let sequence = config.get("context_length").or(config.get("horizon")).and_then(Value::as_f64);
        let at_once = sequence.map_or(rows.size, |length| rows.size.min(SEQUENCES) * length * TOKENS);
        let numbers = COPIES * parameters + 2.0 * at_once * samples.size * (kept + ends);
        let batch = rows.size * samples.size * sequence.unwrap_or(1.0) * ends;
        let named = [rows.key, samples.key, members.key, Some(key.as_str())].into_iter().flatten();
        Need { bytes: F32 * (members.size * numbers + batch), because: named.map(String::from).collect() }
    })
}

/// What a run with these resolved parameters will hold.
pub fn needs(run: &Value, config: &Value, shape: Shape) -> Vec<Need> {
    let none = Map::new();
    let (run, config) = (run.as_object().unwrap_or(&none), config.as_object().unwrap_or(&none));
    // Each with a column and critics of its own.
    let further = run.get("limits").and_then(Value::as_object).map_or(0, |limits| limits.len().saturating_sub(1));
    let ends = (2 * shape.observations + shape.actions + 4 + further) as f64;
    let batch = |config| Factor::largest(config, 1.0, |key| key.ends_with("batch") || key.ends_with("batch_size"));
    let rollouts = |config| Factor::largest(config, 1.0, |key| key.ends_with("rollouts"));
    let learner = Factors {
        rows: batch(config),
        samples: Factor::largest(config, 1.0, |key| key == "candidates" || key.ends_with("_samples")),
        // Two groups for each signal, at most.
        members: Factor::largest(config, 4.0 + 2.0 * further as f64, |key| {
            key == "critics" || key.ends_with("_members")
        }),
        ensemble: "critic",
        ends,
    };
    let history = run.get("model_history").and_then(Value::as_f64).unwrap_or(0.0);
    let models = Factors {
        rows: batch(run).larger(rollouts(run)).larger(rollouts(config)),
        samples: Factor::ONE,
        // Gate and audit, a pair of networks a member.
        members: Factor::largest(run, 4.0, |key| key.ends_with("_members")),
        ensemble: "model",
        ends: ends + history * (shape.observations + shape.actions) as f64,
    };
    let data = Need { bytes: 2.0 * F32 * shape.rows as f64 * ends, because: vec![] };
    [data].into_iter().chain(of_networks(config, &learner)).chain(of_networks(run, &models)).collect()
}

/// Errs with `Config`, naming the parameters that need most, if the run needs more than `available` bytes.
pub fn refuse(run: &Value, config: &Value, shape: Shape, available: f64) -> Result<()> {
    let needs = needs(run, config, shape);
    let total: f64 = needs.iter().map(|need| need.bytes).sum();
    if total <= available {
        return Ok(());
    }
    let gigabytes = |bytes: f64| format!("{:.1} GB", bytes / 1e9);
    let value = |key: &String| run.get(key).or(config.get(key)).cloned().unwrap_or_default();
    let most = needs.into_iter().max_by(|a, b| a.bytes.total_cmp(&b.bytes));
    let because: Vec<String> = most.into_iter().flat_map(|need| need.because).collect();
    let (what, remedy) = match because.as_slice() {
        [] => (format!("{} transitions are to be learnt from", shape.rows), "give fewer"),
        keys => {
            let stated: Vec<String> = keys.iter().map(|key| format!("{key} is {}", value(key))).collect();
            (stated.join(", "), "give smaller values")
        }
    };
    let (total, available) = (gigabytes(total), gigabytes(available));
    Err(Error::Config(format!("{what}: the run needs about {total} of memory and {available} are available; {remedy}")))
}

/// Bytes this process may still take: of the machine, and of the control groups it is in;
/// infinite where the system does not say.
pub fn available() -> f64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let machine = machine.map_or(f64::INFINITY, |kilobytes| kilobytes * 1024.0);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let folder = Path::new("/sys/fs/cgroup").join(path);
    let unified = folder.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    let unified = unified.map(|folder| left(folder, "memory.max", "memory.current", "inactive_file"));
    let legacy = Path::new("/sys/fs/cgroup/memory");
    let legacy = left(legacy, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file");
    unified.chain([legacy]).fold(machine, f64::min)
}

/// What a control group still allows; files it only keeps in memory are given up first.
fn left(folder: &Path, limit: &str, usage: &str, cache: &str) -> f64 {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name).and_then(|text| text.trim().parse::<f64>().ok());
    let cached = read("memory.stat").and_then(|text| field(&text, cache)).unwrap_or(0.0);
    match (number(limit), number(usage)) {
        (Some(limit), Some(usage)) => (limit - usage + cached).max(0.0),
        _ => f64::INFINITY,
    }
}

/// The number behind `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok()).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHAPE: Shape = Shape { rows: 1_000_000, observations: 76, actions: 2 };

    fn refusal(run: Value, config: Value) -> String {
        refuse(&run, &config, SHAPE, 16e9).expect_err(&config.to_string()).to_string()
    }

    #[test]
    fn the_largest_sizes_are_named() {
        let small = json!({ "batch_size": 512, "candidates": 10, "critics": 2, "critic_hidden": [256, 256], "vae_hidden": 400 });
        refuse(&json!({}), &small, SHAPE, 4e9).unwrap();
        let mut large = small.clone();
        large["batch_size"] = json!(1_000_000);
        let text = refusal(json!({}), large);
        assert!(
            text.starts_with("batch_size is 1000000, candidates is 10, critics is 2, critic_hidden is [256,256]: "),
            "{text}"
        );
        assert!(text.contains(" GB of memory and 16.0 GB are available"), "{text}");
        let mut wide = small.clone();
        wide["critic_hidden"] = json!([8192, 8192, 8192, 8192, 8192]);
        assert!(refusal(json!({}), wide).contains("critic_hidden is [8192,"));
        let run = json!({ "model_rollouts": 100_000, "model_hidden": [8192, 8192], "audit_members": 16 });
        assert!(refusal(run, small).starts_with("model_rollouts is 100000, audit_members is 16, model_hidden"));
    }

    #[test]
    fn data_beyond_the_memory_are_named_too() {
        let text = refuse(&json!({}), &json!({}), SHAPE, 1e9).unwrap_err().to_string();
        assert!(text.starts_with("1000000 transitions"), "{text}");
    }

    #[test]
    fn this_machine_has_memory_left() {
        assert!(available() > 1e6, "{}", available());
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "MemTotal: 9 kB\nMemAvailable:    7 kB\n";
        assert_eq!((field(text, "MemAvailable:"), field(text, "Mem")), (Some(7.0), None));
    }
}
