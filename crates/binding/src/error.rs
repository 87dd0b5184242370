//! Errors with a stable `err.code`, and the barrier that turns a panic into one.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

use napi::bindgen_prelude::{AsyncTask, ToNapiValue, TypeName};
use napi::{Env, JsError, Task};

/// What a call fails with; `code` becomes `err.code`.
pub struct Failure {
    code: &'static str,
    message: String,
}

/// Result inside the addons.
pub type Outcome<T> = std::result::Result<T, Failure>;

/// Result of a function called from JavaScript. The macro looks for the very word `Result`.
pub type Result<T> = std::result::Result<T, napi::Error<&'static str>>;

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }

    fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("no message");
        Failure::new("Panic", format!("internal error in native code: {text}. Please report it."))
    }
}

impl From<drcorl_data::Error> for Failure {
    fn from(error: drcorl_data::Error) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}

impl From<drcorl_actor::Error> for Failure {
    fn from(error: drcorl_actor::Error) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}

impl From<Failure> for napi::Error<&'static str> {
    fn from(failure: Failure) -> Self {
        napi::Error::new(failure.code, failure.message)
    }
}

/// Runs `call`; a panic becomes a failure with code `Panic`.
pub fn guard<T>(call: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(Failure::panic(payload.as_ref())))
}

type Work<T> = Box<dyn FnOnce() -> Outcome<T> + Send>;

/// A closure on a worker thread, seen as a promise from JavaScript.
pub struct Job<T> {
    work: Option<Work<T>>,
    /// Runs on the JavaScript thread before the promise resolves.
    then: fn(&T, &Env),
}

impl<T: Send + ToNapiValue + TypeName + 'static> Job<T> {
    pub fn spawn(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> AsyncTask<Self> {
        Self::spawn_then(work, |_, _| {})
    }

    pub fn spawn_then(work: impl FnOnce() -> Outcome<T> + Send + 'static, then: fn(&T, &Env)) -> AsyncTask<Self> {
        AsyncTask::new(Job { work: Some(Box::new(work)), then })
    }
}

impl<T: Send + ToNapiValue + TypeName + 'static> Task for Job<T> {
    // A failure travels as a value: an error of `compute` itself could carry none of our codes.
    type Output = Outcome<T>;
    type JsValue = T;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        // napi calls this from C without a barrier: a panic here would end the process.
        Ok(match self.work.take() {
            Some(work) => guard(work),
            None => Err(Failure::new("Panic", "internal error in native code: a job ran twice. Please report it.")),
        })
    }

    fn resolve(&mut self, env: Env, output: Self::Output) -> napi::Result<T> {
        match output {
            Ok(value) => {
                (self.then)(&value, &env);
                Ok(value)
            }
            // Only an error that already is a JavaScript object keeps its code on the way to the promise.
            Err(failure) => Err(JsError::from(napi::Error::from(failure)).into_unknown(env).into()),
        }
    }
}
