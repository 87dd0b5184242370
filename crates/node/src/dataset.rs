//! `NativeTrainingData`: columns in the memory of the core.

use std::sync::Arc;

use drcorl_binding::{guard, NativeColumns, Result};
use drcorl_data::Columns;
use napi::bindgen_prelude::ObjectFinalize;
use napi::Env;
use napi_derive::napi;

/// What trainers learn from. They share it without a copy.
#[napi(custom_finalize)]
pub struct NativeTrainingData {
    columns: Arc<Columns>,
}

impl NativeTrainingData {
    pub fn columns_arc(&self) -> Arc<Columns> {
        Arc::clone(&self.columns)
    }
}

impl ObjectFinalize for NativeTrainingData {
    fn finalize(self, env: Env) -> napi::Result<()> {
        env.adjust_external_memory(-(self.columns.bytes() as i64)).map(|_| ())
    }
}

#[napi]
impl NativeTrainingData {
    /// Checks columns and copies them.
    ///
    /// Throws with code `Data`, naming the column and the value.
    #[napi]
    pub fn from_columns(env: Env, columns: NativeColumns) -> Result<NativeTrainingData> {
        let columns = guard(|| Ok(Arc::new(columns.to_columns()?)))?;
        // The garbage collector is told what it would free; a hint, so a refusal does no harm.
        let _ = env.adjust_external_memory(columns.bytes() as i64);
        Ok(NativeTrainingData { columns })
    }
}
