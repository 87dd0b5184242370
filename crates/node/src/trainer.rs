//! `NativeTrainer`: one training run, whose steps are taken on a worker thread.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use drcorl_algos::REGISTRY;
use drcorl_binding::{Job, Result};
use drcorl_core::hybrid::Played;
use drcorl_core::trainer::{Origin, TrainerStatus};
use drcorl_core::{Error, Trainer};
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;

use crate::dataset::NativeTrainingData;
use crate::shared::{failure, json, CoreResult, Shared, Worker};

impl Worker for Trainer {
    const NAME: &'static str = "trainer";
    const REMEDY: &'static str = "go on from its last checkpoint";

    fn run(&mut self, steps: u64, cancel: &AtomicBool) -> CoreResult<TrainerStatus> {
        Trainer::run(self, steps, cancel)
    }

    fn status(&self) -> TrainerStatus {
        Trainer::status(self)
    }
}

/// A training run. One call at a time, another one fails with code `Busy`; `cancel` alone may come at any moment.
#[napi]
pub struct NativeTrainer {
    shared: Arc<Shared<Trainer>>,
}

impl NativeTrainer {
    fn new(trainer: Trainer) -> Self {
        NativeTrainer { shared: Shared::of(trainer) }
    }

    /// `call` on a worker thread.
    fn later<T: Send + napi::bindgen_prelude::ToNapiValue + napi::bindgen_prelude::TypeName + 'static>(
        &self,
        call: impl FnOnce(&mut Trainer, &AtomicBool) -> CoreResult<T> + Send + 'static,
    ) -> AsyncTask<Job<T>> {
        self.shared.later(call)
    }
}

#[napi]
impl NativeTrainer {
    /// Starts a run. `json` is `{"algorithm", "run", "config"}`, `TrainerConfig` of `src/native`.
    ///
    /// Rejects with code `Config`, naming a wrong parameter, or `Data`.
    #[napi(ts_return_type = "Promise<NativeTrainer>")]
    pub fn create(dataset: &NativeTrainingData, json: String) -> AsyncTask<Job<NativeTrainer>> {
        let columns = dataset.columns_arc();
        Job::spawn(move || {
            let trainer = columns.and_then(|columns| Trainer::new(REGISTRY, columns, &json));
            trainer.map(NativeTrainer::new).map_err(failure)
        })
    }

    /// Goes on from a checkpoint, to the bits the uninterrupted run would have had.
    ///
    /// Rejects with code `Io`, or `Data` if the checkpoint is damaged or of another dataset.
    #[napi(ts_return_type = "Promise<NativeTrainer>")]
    pub fn resume(dataset: &NativeTrainingData, path: String) -> AsyncTask<Job<NativeTrainer>> {
        let columns = dataset.columns_arc();
        Job::spawn(move || {
            let trainer = columns.and_then(|columns| Trainer::resume(REGISTRY, columns, Path::new(&path)));
            trainer.map(NativeTrainer::new).map_err(failure)
        })
    }

    /// Starts a run whose first phases another one has made: `json` as in `create`, `path` what it saved when its
    /// status said `pretrained`.
    ///
    /// Rejects with code `Config`, naming a wrong parameter or one that shaped these phases and differs, `Io`, or
    /// `Data` if the file is damaged or of another dataset.
    #[napi(ts_return_type = "Promise<NativeTrainer>")]
    pub fn reuse(dataset: &NativeTrainingData, json: String, path: String) -> AsyncTask<Job<NativeTrainer>> {
        let columns = dataset.columns_arc();
        Job::spawn(move || {
            let trainer = columns.and_then(|columns| Trainer::reuse(REGISTRY, columns, &json, Path::new(&path)));
            trainer.map(NativeTrainer::new).map_err(failure)
        })
    }

    /// Takes the models behind the certificate from a folder when the run comes to them, or leaves its own there: they
    /// follow from the data, named by their sha256, the seed and their own parameters.
    #[napi]
    pub fn share_audit(&self, folder: String, dataset_sha256: String) -> Result<()> {
        Ok(self.shared.now(|trainer| trainer.share_audit(Path::new(&folder), &dataset_sha256))?)
    }

    /// Records from now on where the time goes; no bit of the run changes.
    ///
    /// Throws with code `Config` for a run that is not on the CPU.
    #[napi]
    pub fn start_profile(&self) -> Result<()> {
        Ok(self.shared.now(Trainer::start_profile)?)
    }

    /// Where the time went since `startProfile`, as JSON, `TrainerProfile` of `src/native`; null where that was not
    /// called. Takes half a second more, in which the peak of this machine is measured.
    ///
    /// Rejects with code `Torch`.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn profile(&self) -> AsyncTask<Job<Option<String>>> {
        self.later(|trainer, _| trainer.profile()?.as_ref().map(json).transpose())
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

    /// Writes a checkpoint: temporary name, fsync, rename.
    ///
    /// Rejects with code `Io`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn save(&self, path: String) -> AsyncTask<Job<()>> {
        self.later(move |trainer, _| trainer.save(Path::new(&path)))
    }

    /// Writes the policies into a folder, with the dataset's sha256 and the day of the run in each file. Resolves with
    /// JSON, `PolicyRecord[]` of `src/native`, the one to use first.
    ///
    /// Rejects with code `Io`.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn write_policies(&self, dir: String, dataset_sha256: String, date: String) -> AsyncTask<Job<String>> {
        let origin = Origin { dataset_sha256, date };
        self.later(move |trainer, _| json(&trainer.write_policies(Path::new(&dir), &origin)?))
    }

    /// Writes the policy that meets the environment at the visit that is due.
    ///
    /// Rejects with code `Io`, or `Config` if none is due.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn write_visitor(&self, path: String) -> AsyncTask<Job<()>> {
        self.later(move |trainer, _| trainer.write_visitor(Path::new(&path)))
    }

    /// Hands in the visit that is due: `episodes` is JSON, `PlayedEpisode[]` of `src/native`; `collected` their
    /// transitions, which mode hybrid-data needs.
    ///
    /// Rejects with code `Data`, or `Config` if none is due.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn visited(&self, episodes: String, collected: Option<&NativeTrainingData>) -> AsyncTask<Job<()>> {
        let columns = collected.map(NativeTrainingData::columns_arc).transpose();
        self.later(move |trainer, _| {
            let played: Vec<Played> =
                serde_json::from_str(&episodes).map_err(|error| Error::Data(format!("visit: {error}")))?;
            trainer.visited(&played, columns?.as_deref())
        })
    }

    /// The verdict on the policy as JSON, `Certificate` of `src/native`; null before the end of a run.
    #[napi(ts_return_type = "string | null")]
    pub fn certificate(&self) -> Result<Option<String>> {
        Ok(self.shared.now(|trainer| trainer.certificate().map(json).transpose())?)
    }

    /// Frees the native memory now instead of at garbage collection.
    #[napi]
    pub fn dispose(&self) -> Result<()> {
        Ok(self.shared.dispose()?)
    }
}
