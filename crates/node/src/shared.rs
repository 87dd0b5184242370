//! What the classes that work on worker threads have in common: one call at a time, cancelling, freeing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use drcorl_binding::{guard, Failure, Job, Outcome};
use drcorl_core::trainer::TrainerStatus;
use drcorl_core::Error;
use napi::bindgen_prelude::{AsyncTask, ToNapiValue, TypeName};

pub type CoreResult<T> = drcorl_core::Result<T>;

/// Something of the core that takes steps.
pub trait Worker: Send + 'static {
    /// In messages.
    const NAME: &'static str;
    /// What to do once it has panicked.
    const REMEDY: &'static str;

    /// Up to `steps` steps, never past the end of a phase.
    fn run(&mut self, steps: u64, cancel: &AtomicBool) -> CoreResult<TrainerStatus>;

    /// Position without metrics.
    fn status(&self) -> TrainerStatus;
}

/// What JavaScript and the worker thread share.
pub struct Shared<W> {
    /// None after `dispose()`.
    worker: Mutex<Option<W>>,
    /// Taken on the JavaScript thread when a call is made, not when a worker gets to it: the answer `Busy` does not
    /// depend on how soon a thread of the pool is free.
    busy: AtomicBool,
    /// Raised by `cancel()`, lowered when the run that saw it returns.
    cancel: AtomicBool,
}

impl<W: Worker> Shared<W> {
    pub fn of(worker: W) -> Arc<Self> {
        let worker = Mutex::new(Some(worker));
        Arc::new(Shared { worker, busy: AtomicBool::new(false), cancel: AtomicBool::new(false) })
    }

    /// `call` on a worker thread. The worker is claimed now, on the JavaScript thread.
    pub fn later<T: Send + ToNapiValue + TypeName + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&mut W, &AtomicBool) -> CoreResult<T> + Send + 'static,
    ) -> AsyncTask<Job<T>> {
        let claim = Claim::take(self);
        Job::spawn(move || claim?.with(call))
    }

    /// `call` here and now.
    pub fn now<T>(self: &Arc<Self>, call: impl FnOnce(&mut W) -> CoreResult<T>) -> Outcome<T> {
        guard(|| Claim::take(self)?.with(|worker, _| call(worker)))
    }

    /// Steps on a worker thread; position and mean metrics as JSON.
    pub fn run(self: &Arc<Self>, steps: f64) -> AsyncTask<Job<String>> {
        self.later(move |worker, cancel| {
            let report = worker.run(whole_steps(steps)?, cancel)?;
            if report.cancelled {
                cancel.store(false, Ordering::Relaxed);
            }
            json(&report)
        })
    }

    /// Position as JSON.
    pub fn status(self: &Arc<Self>) -> Outcome<String> {
        self.now(|worker| json(&worker.status()))
    }

    /// Asks the run under way, or else the next one, to stop after the step it is at.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// Frees the worker.
    pub fn dispose(self: &Arc<Self>) -> Outcome<()> {
        let claim = Claim::take(self)?;
        // One that panicked is dropped too.
        let mut slot = claim.0.worker.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *slot = None;
        Ok(())
    }
}

/// The right to use the worker, given back when dropped.
struct Claim<W>(Arc<Shared<W>>);

impl<W: Worker> Claim<W> {
    fn take(shared: &Arc<Shared<W>>) -> Outcome<Claim<W>> {
        if shared.busy.swap(true, Ordering::Acquire) {
            return Err(Failure::new("Busy", format!("the {} is working on another call; await it first", W::NAME)));
        }
        Ok(Claim(Arc::clone(shared)))
    }

    fn with<T>(&self, call: impl FnOnce(&mut W, &AtomicBool) -> CoreResult<T>) -> Outcome<T> {
        let (name, remedy) = (W::NAME, W::REMEDY);
        let broken = |_| Failure::new("Panic", format!("the {name} failed before and cannot be used; {remedy}"));
        let mut slot = self.0.worker.lock().map_err(broken)?;
        let gone = || Failure::new("Config", format!("the {name} was disposed of; create another one"));
        call(slot.as_mut().ok_or_else(gone)?, &self.0.cancel).map_err(failure)
    }
}

impl<W> Drop for Claim<W> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

pub fn failure(error: Error) -> Failure {
    Failure::new(error.code(), error.to_string())
}

/// A result as JSON, in the order of its fields. A failure is a fault of the type.
pub fn json<T: serde::Serialize + ?Sized>(result: &T) -> CoreResult<String> {
    serde_json::to_string(result).map_err(|error| Error::Internal(error.to_string()))
}

/// Steps as JavaScript gives them.
fn whole_steps(steps: f64) -> CoreResult<u64> {
    // 2^53: above it a double skips integers.
    if steps.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&steps) {
        Ok(steps as u64)
    } else {
        Err(Error::Config(format!("steps is {steps}, expected a whole number that is not negative")))
    }
}
