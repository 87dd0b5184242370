//! The models behind the certificate, in a file that runs on the same data share: they follow from the data, the seed
//! and their own parameters, whatever is trained and how far its cost is limited. What is said by them does not, and is
//! never shared: each run tests them, and tries them on clones, by its own limit.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::offline::Judge;
use crate::run::{bounded_costs, LATER};
use drcorl_nn::checkpoint::State;
use drcorl_nn::digest::sha256;
use drcorl_nn::rng::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const REMEDY: &str = "delete it, and it is made again";

/// Models that another run has made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TakenModels {
    /// Name of the file.
    pub file: String,
    /// Seconds that they had taken there; null where that run was stopped in between.
    pub seconds: Option<f64>,
}

/// Where models of these data, this seed and these parameters are, or will be.
pub(crate) struct AuditFile {
    path: PathBuf,
    /// What they follow from.
    origin: Value,
    /// When this run began to make them.
    began: Option<Instant>,
}

impl AuditFile {
    /// In `folder`, with draws of `stream`; `run` is resolved. The name says what the models follow from.
    pub fn new(folder: &Path, dataset_sha256: &str, stream: u64, run: &Value) -> Result<AuditFile> {
        let mut parameters = run.clone();
        if let Some(parameters) = parameters.as_object_mut() {
            // Nor on the gate's models.
            parameters.retain(|name, _| {
                !matches!(name.as_str(), "model_members" | "selection_members") && !LATER.contains(&name.as_str())
            });
            parameters.insert("limits".into(), json!(bounded_costs(run)));
        }
        let version = env!("CARGO_PKG_VERSION");
        let origin =
            json!({ "drcorl": version, "dataset_sha256": dataset_sha256, "stream": stream, "run": parameters });
        let text = serde_json::to_string(&origin).map_err(|error| Error::Internal(error.to_string()))?;
        let path = folder.join(format!("audit-{}.safetensors", &sha256(text.as_bytes())[..16]));
        Ok(AuditFile { path, origin, began: None })
    }

    /// The models, if they are there, and the draws that follow; else None, and the run makes them from now on.
    pub fn take(&mut self, auditor: &mut Judge, draws: &mut Rng, data: &Dataset) -> Result<Option<TakenModels>> {
        if !self.path.exists() {
            self.began = Some(Instant::now());
            return Ok(None);
        }
        let (state, origin) = State::read_or(&self.path, REMEDY)?;
        let mut state = state.over(data.len(), data.episodes.len());
        if origin != self.origin {
            return Err(state.refuse("origin", "is that of other models").into());
        }
        let mut seconds = None;
        persist(&mut state, auditor, draws, &mut seconds)?;
        state.finish()?;
        Ok(Some(TakenModels { file: self.name(), seconds }))
    }

    /// Writes the models that the run has made, unless another was faster.
    pub fn leave(&mut self, auditor: &mut Judge, draws: &mut Rng) -> Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| drcorl_nn::Error::io(folder, error))?;
        let mut seconds = self.began.map(|began| began.elapsed().as_secs_f64());
        let mut state = State::saving();
        persist(&mut state, auditor, draws, &mut seconds)?;
        Ok(state.write(&self.path, &self.origin)?)
    }

    fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

fn persist(
    state: &mut State,
    auditor: &mut Judge,
    draws: &mut Rng,
    seconds: &mut Option<f64>,
) -> drcorl_nn::Result<()> {
    state.value("seconds", seconds)?;
    state.value("draws", draws)?;
    state.group("auditor", |state| auditor.persist(state))
}
