//! `NativeTrainingData`: columns in the memory of the core.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drcorl_binding::{guard, Failure, NativeColumns, Result};
use drcorl_core::Error;
use drcorl_data::{Columns, ColumnsBuilder};
use napi::bindgen_prelude::{Float32Array, ObjectFinalize};
use napi::Env;
use napi_derive::napi;

/// What trainers learn from. They share it without a copy, and give it up once they have their own table of it.
#[napi(custom_finalize)]
pub struct NativeTrainingData {
    /// Behind a lock: it is released while a trainer that is being made still borrows the object.
    content: Mutex<Content>,
    /// Bytes the garbage collector was told of.
    announced: AtomicI64,
}

enum Content {
    Growing(Box<ColumnsBuilder>),
    Whole(Arc<Columns>),
    Released,
}

impl NativeTrainingData {
    /// What trainers learn from. Errs before it is whole and after it was released.
    pub fn columns_arc(&self) -> drcorl_core::Result<Arc<Columns>> {
        match &*self.content() {
            Content::Whole(columns) => Ok(Arc::clone(columns)),
            Content::Growing(_) => Err(Error::Config("the training data are not whole; call finish()".into())),
            Content::Released => Err(Error::Config("the training data were released; make them again".into())),
        }
    }

    fn of(env: &Env, content: Content, bytes: usize) -> Self {
        let data = NativeTrainingData { content: Mutex::new(content), announced: AtomicI64::new(0) };
        data.announce(env, bytes);
        data
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the garbage collector what it would free; a hint, so a refusal does no harm.
    fn announce(&self, env: &Env, bytes: usize) {
        let before = self.announced.swap(bytes as i64, Ordering::Relaxed);
        let _ = env.adjust_external_memory(bytes as i64 - before);
    }
}

impl ObjectFinalize for NativeTrainingData {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.announce(&env, 0);
        Ok(())
    }
}

#[napi]
impl NativeTrainingData {
    /// Checks columns and copies them.
    ///
    /// Throws with code `Data`, naming the column and the value.
    #[napi]
    pub fn from_columns(env: Env, columns: NativeColumns) -> Result<NativeTrainingData> {
        let columns = guard(|| Ok(Arc::new(columns.to_columns(&[], None)?)))?;
        let bytes = columns.bytes();
        Ok(NativeTrainingData::of(&env, Content::Whole(columns), bytes))
    }

    /// Room for `rows` transitions with these costs (see `NativeShape`), to be filled by `push`.
    ///
    /// Throws with code `Data` where the memory is not there.
    #[napi(ts_args_type = "obs_dim: number, act_dim: number, rows: number, costs: Array<string>, source: string")]
    pub fn sized(
        env: Env,
        obs_dim: u32,
        act_dim: u32,
        rows: f64,
        costs: Vec<String>,
        source: String,
    ) -> Result<NativeTrainingData> {
        let (states, actions) = (obs_dim as usize, act_dim as usize);
        let builder = guard(|| Ok(ColumnsBuilder::new(states, actions, rows as usize, &costs, &source)?))?;
        let bytes = builder.bytes();
        Ok(NativeTrainingData::of(&env, Content::Growing(Box::new(builder)), bytes))
    }

    /// Adds values to the end of the column of that name (`further/NAME` for a further one); flags are 0 or 1.
    ///
    /// Throws with code `Data` for a name that is none and for more values than there is room for.
    #[napi]
    pub fn push(&self, column: String, values: Float32Array) -> Result<()> {
        Ok(guard(|| match &mut *self.content() {
            Content::Growing(builder) => Ok(builder.push(&column, &values)?),
            _ => Err(Failure::new("Config", "the training data are whole")),
        })?)
    }

    /// Checks what was pushed.
    ///
    /// Throws with code `Data`, naming the column and the value.
    #[napi]
    pub fn finish(&self) -> Result<()> {
        let mut held = self.content();
        let content = std::mem::replace(&mut *held, Content::Released);
        *held = guard(|| match content {
            Content::Growing(builder) => Ok(Content::Whole(Arc::new(builder.finish()?))),
            other => Ok(other),
        })?;
        Ok(())
    }

    /// Gives the columns up now instead of at garbage collection; trainers under way keep theirs.
    #[napi]
    pub fn release(&self, env: Env) {
        *self.content() = Content::Released;
        self.announce(&env, 0);
    }
}
