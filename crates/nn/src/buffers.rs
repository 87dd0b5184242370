//! Free buffers between the passes of a network.
//!
//! Large tensors come from the system as fresh pages, and go back to it:
//! 8 MB at batch 2048 are 2,048 page faults a layer and pass.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor};

/// Activations of earlier passes, waiting for the next one.
#[derive(Default)]
pub struct Buffers(Mutex<Vec<Tensor>>);

impl Buffers {
    /// A buffer `[rows,width]` with whatever it last held.
    pub fn take(&self, rows: i64, width: i64, device: Device) -> Tensor {
        let mut free = self.free();
        match free.iter().position(|buffer| buffer.size() == [rows, width]) {
            Some(index) => free.swap_remove(index),
            None => Tensor::empty([rows, width], (Kind::Float, device)),
        }
    }

    /// Keeps buffers `[rows,width]` for later use.
    pub fn give(&self, buffers: impl IntoIterator<Item = Tensor>) {
        self.free().extend(buffers);
    }

    /// Number of buffers that wait.
    pub fn count(&self) -> usize {
        self.free().len()
    }

    fn free(&self) -> MutexGuard<'_, Vec<Tensor>> {
        // Poisoned buffers are as good as any: they hold no state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_for_its_own_shape_only() {
        let buffers = Buffers::default();
        let wide = buffers.take(3, 8, Device::Cpu);
        let place = wide.data_ptr();
        buffers.give([wide]);
        assert_eq!(buffers.take(3, 4, Device::Cpu).size(), [3, 4]);
        assert_eq!(buffers.count(), 1);
        assert_eq!(buffers.take(3, 8, Device::Cpu).data_ptr(), place);
        assert_eq!(buffers.count(), 0);
    }
}
