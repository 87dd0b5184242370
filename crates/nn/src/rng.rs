//! The only source of randomness: a PCG whose state is part of the checkpoint, so that a resumed run goes on exactly.
//!
//! Draws are made on the host and copied to the device. libtorch's own generator is process-wide and cannot be stored
//! per trainer, hence it is never used.

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// A seeded generator with the draws the algorithms need.
#[derive(Clone, Serialize, Deserialize)]
pub struct Rng(Pcg64);

impl Rng {
    /// A generator for `seed`; `stream` separates independent uses of one seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        Rng(Pcg64::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03)))
    }

    /// One uniform draw from [0, 1).
    pub fn unit(&mut self) -> f32 {
        self.0.random::<f32>()
    }

    /// One standard normal draw.
    pub fn normal_unit(&mut self) -> f32 {
        StandardNormal.sample(&mut self.0)
    }

    /// One integer from [0, bound).
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    /// Uniform draws from [0, 1), shape `shape`.
    pub fn uniform(&mut self, shape: &[i64], device: Device) -> Tensor {
        let n = shape.iter().product::<i64>() as usize;
        let values: Vec<f32> = (0..n).map(|_| self.0.random::<f32>()).collect();
        Tensor::from_slice(&values).reshape(shape).to_device(device)
    }

    /// Standard normal draws, shape `shape`.
    pub fn normal(&mut self, shape: &[i64], device: Device) -> Tensor {
        let n = shape.iter().product::<i64>() as usize;
        let values: Vec<f32> = (0..n).map(|_| StandardNormal.sample(&mut self.0)).collect();
        Tensor::from_slice(&values).reshape(shape).to_device(device)
    }

    /// `n` row numbers from [0, bound), with replacement, as an int64 tensor.
    pub fn rows(&mut self, n: usize, bound: i64, device: Device) -> Tensor {
        let values: Vec<i64> = (0..n).map(|_| self.0.random_range(0..bound)).collect();
        Tensor::from_slice(&values).to_device(device)
    }

    /// Fisher-Yates shuffle in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_generator_goes_on_with_the_same_draws() {
        let mut rng = Rng::new(3, 1);
        let _ = rng.normal(&[5], Device::Cpu);
        let stored = serde_json::to_string(&rng).unwrap();
        let mut restored: Rng = serde_json::from_str(&stored).unwrap();
        assert_eq!(rng.uniform(&[9], Device::Cpu), restored.uniform(&[9], Device::Cpu));
        assert_eq!(rng.below(1000), restored.below(1000));
    }

    #[test]
    fn seeds_and_streams_differ() {
        let first = |seed, stream| Rng::new(seed, stream).unit();
        assert_ne!(first(0, 0), first(1, 0));
        assert_ne!(first(0, 0), first(0, 1));
        assert_ne!(first(0, 1), first(1, 0));
    }
}
