//! `NativeCertifier`: policies from files, judged on given episodes, on a worker thread.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use drcorl_binding::{Job, Result};
use drcorl_core::trainer::TrainerStatus;
use drcorl_core::Certifier;
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;

use crate::dataset::NativeTrainingData;
use crate::shared::{failure, json, CoreResult, Shared, Worker};

impl Worker for Certifier {
    const NAME: &'static str = "certifier";
    const REMEDY: &'static str = "create another one";

    fn run(&mut self, steps: u64, cancel: &AtomicBool) -> CoreResult<TrainerStatus> {
        Certifier::run(self, steps, cancel)
    }

    fn status(&self) -> TrainerStatus {
        Certifier::status(self)
    }
}

/// Policies under judgement. One call at a time, another one fails with code `Busy`; `cancel` alone may come at any
/// moment.
#[napi]
pub struct NativeCertifier {
    shared: Arc<Shared<Certifier>>,
}

#[napi]
impl NativeCertifier {
    /// Begins. `json` is `{"run", "policies": [{"path", "settings"}]}`, `CertifierConfig` of `src/native`.
    ///
    /// Rejects with code `Config`, naming a wrong parameter, or `Io`, `Data` or `Shape`, naming a policy file.
    #[napi(ts_return_type = "Promise<NativeCertifier>")]
    pub fn create(dataset: &NativeTrainingData, json: String) -> AsyncTask<Job<NativeCertifier>> {
        let columns = dataset.columns_arc();
        Job::spawn(move || {
            let certifier = Certifier::new(columns.map_err(failure)?, &json).map_err(failure)?;
            Ok(NativeCertifier { shared: Shared::of(certifier) })
        })
    }

    /// Takes the models from `folder` where another judgement of the same data and seed has left them, or leaves its
    /// own there. `dataset_sha256` names the data.
    ///
    /// Throws with code `Config` if the certifier was disposed.
    #[napi]
    pub fn share_audit(&self, folder: String, dataset_sha256: String) -> Result<()> {
        Ok(self.shared.now(|certifier| certifier.share_audit(Path::new(&folder), &dataset_sha256))?)
    }

    /// Takes up to `steps` steps, never past the end of a phase. Resolves with position and mean metrics as JSON,
    /// `TrainerStatus` of `src/native`.
    ///
    /// Rejects with code `Config` if `steps` is no whole number, `Diverged` naming phase, step and value, or `Torch`.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn run(&self, steps: f64) -> AsyncTask<Job<String>> {
        self.shared.run(steps)
    }

    /// Asks the run under way, or else the next one, to stop after the step it is at. That run resolves with
    /// `"cancelled": true`.
    #[napi]
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    /// Position without metrics, as JSON: `TrainerStatus` of `src/native`.
    #[napi]
    pub fn status(&self) -> Result<String> {
        Ok(self.shared.status()?)
    }

    /// The verdicts so far, one a policy in the order given, as JSON: a list of `Certificate` of `src/native`.
    #[napi]
    pub fn certificates(&self) -> Result<String> {
        Ok(self.shared.now(|certifier| json(certifier.certificates()))?)
    }

    /// Frees the native memory now instead of at garbage collection.
    #[napi]
    pub fn dispose(&self) -> Result<()> {
        Ok(self.shared.dispose()?)
    }
}
