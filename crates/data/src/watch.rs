//! What a long operation and the one who waits for it share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Progress of an operation, and the wish to end it. Free to use from any thread.
#[derive(Debug, Default)]
pub struct Watch {
    cancelled: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

impl Watch {
    /// Asks the operation to end; it leaves no file behind.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Units done and, once known, in all (else 0). What a unit is, the operation says: bytes or rows.
    pub fn progress(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Says how many units there will be; the count of those done starts at 0.
    pub fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    /// Says how many units are done.
    pub fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// Called now and then by the operation, which names the file it works on.
    ///
    /// # Errors
    /// `Cancelled` once [`Watch::cancel`] was called.
    pub fn check(&self, file: &str) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::cancelled(file));
        }
        Ok(())
    }
}
