//! Which runs may take over what another has made: [`crate::Trainer::reuse`].

use crate::algorithm::{find, Pretraining, Registry};
use crate::error::{Error, Result};
use crate::run::bounded_costs;
use crate::trainer::TrainerConfig;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Errs with `Config` unless a run as `wanted` would make the pretraining that a run as `made` has made and stored at
/// `path`. Both are resolved.
pub(crate) fn require_shared(
    registry: Registry,
    wanted: &TrainerConfig,
    made: &TrainerConfig,
    path: &Path,
) -> Result<()> {
    let Some(pretraining) = find(registry, &wanted.algorithm)?.pretraining else {
        let with = registry.iter().filter(|entry| entry.pretraining.is_some()).map(|entry| entry.name);
        return Err(Error::Config(format!(
            "algorithm is {}, which has no pretraining to share; {} has",
            wanted.algorithm,
            with.collect::<Vec<_>>().join(", ")
        )));
    };
    if wanted.algorithm != made.algorithm {
        return Err(Error::Config(format!(
            "algorithm is {}, but {} is of a run of {}; give that algorithm, or the file of another run",
            wanted.algorithm,
            path.display(),
            made.algorithm
        )));
    }
    for (own, other) in [(&wanted.run, &made.run), (&wanted.config, &made.config)] {
        let keys: BTreeSet<&String> =
            [own, other].into_iter().filter_map(Value::as_object).flat_map(|all| all.keys()).collect();
        for key in keys {
            // Which costs are bounded shapes the critics; how far they are does not.
            let same_costs = key == "limits" && bounded_costs(own) == bounded_costs(other);
            let key = if same_costs { "cost_limit" } else { key.as_str() };
            if own.get(key) != other.get(key) {
                require_later(pretraining, key, wanted, [&own[key], &other[key]], path)?;
            }
        }
    }
    Ok(())
}

/// Errs unless `key`, which has `values` here and there, matters after the pretraining alone.
fn require_later(
    pretraining: &Pretraining,
    key: &str,
    wanted: &TrainerConfig,
    [here, there]: [&Value; 2],
    path: &Path,
) -> Result<()> {
    let differs = format!("{key} is {here}, but {there} in {}", path.display());
    if !pretraining.later().any(|later| later == key) {
        return Err(Error::Config(format!(
            "{differs}, and it shapes what is to be reused; give the same value, or train without reuse"
        )));
    }
    let made_by = |name: &str, value: &str| [&wanted.run, &wanted.config].iter().any(|part| part[name] == value);
    match pretraining.unless.iter().find(|unless| unless.parameter == key && made_by(unless.other, unless.value)) {
        Some(unless) => Err(Error::Config(format!(
            "{differs}, and {} {} {}; give the same value, or train without reuse",
            unless.other, unless.value, unless.why
        ))),
        None => Ok(()),
    }
}
