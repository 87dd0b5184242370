//! How exact the products of a thread are: that of its run, since runs of several precisions share a process.

pub use drcorl_kernels::gemm::Precision;
use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::Highest) };
}

/// While it lives, its thread has a precision; see [`hold`].
pub struct Held {
    before: Precision,
    /// It belongs to a thread.
    stays: PhantomData<*const ()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// Until the answer is dropped, products of this thread, and of those who help it, are made at `precision`: those of
/// layers in f32 on a CPU that has what is faster. All others stay at the highest.
#[must_use]
pub fn hold(precision: Precision) -> Held {
    Held { before: CURRENT.replace(precision), stays: PhantomData }
}

/// That of this thread; the highest, where nobody holds another.
pub fn current() -> Precision {
    CURRENT.get()
}
