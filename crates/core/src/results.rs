//! What a run tells and leaves as JSON. The types stand where they are made; here are their schema, the file that is
//! written around the core, and how numbers and tables are spelt.

use crate::certifier::GivenPolicy;
use crate::hybrid::Played;
use crate::metrics::Metric;
use crate::offline::Certificate;
use crate::run_files::{Evaluation, RunProfile, RunRecord};
use crate::stage::Stretch;
use crate::trainer::TrainerStatus;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// A policy file of a run, by the bytes it had when the run ended: what binds certificate and policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRecord {
    /// As in the certificate's `policies`.
    pub policy: String,
    /// Name in the run folder.
    pub file: String,
    /// Of the file's bytes, in hexadecimal digits.
    pub sha256: String,
}

/// `result.json`, written last by whoever drives the trainer: where it stands, the run is complete.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunResult {
    /// Always `done`.
    #[schemars(with = "String", extend("const" = "done"))]
    pub status: &'static str,
    /// Name in the registry.
    pub algorithm: String,
    /// Gradient steps of all phases.
    pub steps: u64,
    pub phases: Vec<Stretch>,
    /// Seconds of training, those before a resume included.
    pub wall_seconds: f64,
    pub environment_steps: EnvironmentSteps,
    /// As in the certificate; null where there is none.
    pub verdict: Option<crate::offline::Verdict>,
    /// Policy files, the one to use first.
    pub policies: Vec<String>,
    /// The same with their hashes.
    pub policy_files: Vec<PolicyRecord>,
    /// When, in ISO 8601.
    pub finished: String,
}

/// Interactions with an environment, by purpose, as counted.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EnvironmentSteps {
    /// In training and selection; offline training makes none.
    pub training: u64,
}

/// One property a kind of JSON; never built.
#[derive(JsonSchema)]
#[allow(dead_code)]
struct Results {
    metrics: Vec<Metric>,
    status: TrainerStatus,
    played: Vec<Played>,
    certificate: Certificate,
    given: GivenPolicy,
    result: RunResult,
    config: RunRecord,
    evaluation: Evaluation,
    profile: RunProfile,
}

/// The schema of a type as it is written: what may be null is null and not absent.
pub fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// The schema of all results, a definition each.
pub fn schema() -> Schema {
    schema_of::<Results>()
}

/// A number that need not be finite: JSON has no other word for one that is not than null.
pub mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// As serde_json does it.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    /// Null is NaN.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// A list of names and values as an object, in its order.
pub(crate) mod object {
    use serde::de::{DeserializeOwned, Error};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::{Map, Value};

    pub fn serialize<S: Serializer, K: AsRef<str>, V: Serialize>(
        entries: &[(K, V)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(entries.iter().map(|(name, value)| (name.as_ref(), value)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, V: DeserializeOwned>(
        deserializer: D,
    ) -> Result<Vec<(String, V)>, D::Error> {
        let entries = Map::<String, Value>::deserialize(deserializer)?;
        entries
            .into_iter()
            .map(|(name, value)| Ok((name, serde_json::from_value(value).map_err(D::Error::custom)?)))
            .collect()
    }
}
