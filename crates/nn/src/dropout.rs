//! Dropout whose mask is a hash of (key, element): nothing is stored, and the backward pass finds the same mask again.
//!
//! The published step drops 112 million activations. As stored masks these are 450 MB to write and read; as hashes, some vector
//! instructions for sixteen of them.

use super::kernels::{elements, elements_mut, host, multiversion};
use crate::rng::Rng;
use tch::{Device, Kind, Tensor};

/// One place of one pass where activations are dropped; the key decides which.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    key: u32,
    /// An element is kept if the upper 24 bits of its hash reach this.
    threshold: u32,
    /// 1 / (1 - rate)
    pub(super) scale: f32,
}

impl Dropout {
    /// Keeps everything.
    pub const NONE: Dropout = Dropout { key: 0, threshold: 0, scale: 1.0 };

    /// Drops each element with probability `rate`, independently; the key is drawn from `rng`.
    pub fn draw(rate: f64, rng: &mut Rng) -> Dropout {
        if rate <= 0.0 {
            return Dropout::NONE;
        }
        let threshold = (rate * f64::from(1u32 << 24)).round() as u32;
        let kept = 1.0 - f64::from(threshold) / f64::from(1u32 << 24);
        Dropout { key: rng.below(1 << 32) as u32, threshold, scale: (1.0 / kept) as f32 }
    }

    /// True if nothing is dropped.
    pub fn is_none(&self) -> bool {
        self.threshold == 0
    }

    /// What element `index` is multiplied by.
    #[inline(always)]
    pub(super) fn factor(&self, index: u32) -> f32 {
        let hash = mix(index.wrapping_mul(0x9E37_79B9) ^ self.key);
        if hash >> 8 >= self.threshold {
            self.scale
        } else {
            0.0
        }
    }

    /// The factors of elements `0..n` as a tensor `[n]`, by tensor operations.
    pub(super) fn factors(&self, n: i64, device: Device) -> Tensor {
        // 32-bit arithmetic in 64-bit integers: the lower half of a product is right even where the whole overflows.
        let low = |x: Tensor| x.bitwise_and(0xFFFF_FFFFi64);
        let folded = |x: &Tensor, bits: i64| x.bitwise_xor_tensor(&x.bitwise_right_shift_tensor_scalar(bits));
        let index = Tensor::arange(n, (Kind::Int64, device));
        let mut x = low(index * 0x9E37_79B9i64).bitwise_xor(i64::from(self.key));
        x = low(folded(&x, 16) * 0x7FEB_352Di64);
        x = low(folded(&x, 15) * 0x846C_A68Bi64);
        let kept = folded(&x, 16).bitwise_right_shift_tensor_scalar(8).ge(i64::from(self.threshold));
        kept.to_kind(Kind::Float) * f64::from(self.scale)
    }
}

/// A bijection of 32-bit words in which every input bit moves every output bit with probability close to a half.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7FEB_352D);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

multiversion! {
    fn apply_cpu(x: &[f32], out: &mut [f32], dropout: Dropout) {
        for (i, (y, &x)) in out.iter_mut().zip(x).enumerate() {
            *y = x * dropout.factor(i as u32);
        }
    }
}

multiversion! {
    fn apply_in_place_cpu(x: &mut [f32], dropout: Dropout) {
        for (i, x) in x.iter_mut().enumerate() {
            *x *= dropout.factor(i as u32);
        }
    }
}

multiversion! {
    fn residual_cpu(base: &[f32], x: &[f32], out: &mut [f32], dropout: Dropout) {
        for (i, ((y, &base), &x)) in out.iter_mut().zip(base).zip(x).enumerate() {
            *y = base + x * dropout.factor(i as u32);
        }
    }
}

multiversion! {
    fn add_cpu(total: &mut [f32], x: &[f32], dropout: Dropout) {
        for (i, (total, &x)) in total.iter_mut().zip(x).enumerate() {
            *total += x * dropout.factor(i as u32);
        }
    }
}

/// `out = dropout(x)`, both contiguous and of one size.
pub fn apply(x: &Tensor, out: &Tensor, dropout: Dropout) {
    if dropout.is_none() {
        out.shallow_clone().copy_(x);
    } else if host(x) {
        apply_cpu(elements(x), elements_mut(out), dropout);
    } else {
        out.shallow_clone().copy_(&(x * dropout.factors(x.numel() as i64, x.device()).view_as(x)));
    }
}

/// `x = dropout(x)`, contiguous.
pub fn apply_in_place(x: &Tensor, dropout: Dropout) {
    if dropout.is_none() {
    } else if host(x) {
        apply_in_place_cpu(elements_mut(x), dropout);
    } else {
        let _ = x.shallow_clone().g_mul_(&dropout.factors(x.numel() as i64, x.device()).view_as(x));
    }
}

/// `total += dropout(x)`, both contiguous and of one size.
pub fn add(total: &Tensor, x: &Tensor, dropout: Dropout) {
    if dropout.is_none() {
        let _ = total.shallow_clone().g_add_(x);
    } else if host(x) {
        add_cpu(elements_mut(total), elements(x), dropout);
    } else {
        let factors = dropout.factors(x.numel() as i64, x.device()).view_as(x);
        let _ = total.shallow_clone().g_add_(&(x * factors));
    }
}

/// `out = base + dropout(x)`, all contiguous and of one size.
pub fn residual(base: &Tensor, x: &Tensor, out: &Tensor, dropout: Dropout) {
    if host(x) {
        residual_cpu(elements(base), elements(x), elements_mut(out), dropout);
    } else {
        let factors = dropout.factors(x.numel() as i64, x.device()).view_as(x);
        out.shallow_clone().copy_(&(base + x * factors));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_one_asked_for_and_neighbours_are_independent() {
        let mut rng = Rng::new(1, 0);
        for rate in [0.1, 0.5] {
            let dropout = Dropout::draw(rate, &mut rng);
            let dropped: Vec<f64> = (0..1_000_000).map(|i| f64::from(u8::from(dropout.factor(i) == 0.0))).collect();
            let mean = dropped.iter().sum::<f64>() / 1e6;
            assert!((mean - rate).abs() < 2e-3, "{mean}");
            // Correlation at the lags that matter: the next element, the next row of 40, of 128, of 512.
            for lag in [1, 40, 128, 512] {
                let products: f64 = dropped.windows(lag + 1).map(|w| (w[0] - rate) * (w[lag] - rate)).sum();
                assert!((products / 1e6 / (rate * (1.0 - rate))).abs() < 5e-3, "lag {lag}");
            }
        }
    }

    #[test]
    fn two_keys_drop_different_elements() {
        let mut rng = Rng::new(2, 0);
        let (a, b) = (Dropout::draw(0.5, &mut rng), Dropout::draw(0.5, &mut rng));
        let equal = (0..100_000).filter(|&i| a.factor(i) == b.factor(i)).count();
        assert!((equal as f64 / 1e5 - 0.5).abs() < 1e-2, "{equal}");
    }

    #[test]
    fn tensor_operations_find_the_same_mask() {
        let dropout = Dropout::draw(0.3, &mut Rng::new(3, 0));
        let by_hash: Vec<f32> = (0..10_000).map(|i| dropout.factor(i)).collect();
        assert_eq!(by_hash, Vec::<f32>::try_from(&dropout.factors(10_000, Device::Cpu)).unwrap());
    }

    #[test]
    fn the_passes_agree() {
        let x = Tensor::randn([7, 33], (Kind::Float, Device::Cpu));
        for dropout in [Dropout::NONE, Dropout::draw(0.4, &mut Rng::new(4, 0))] {
            let out = x.zeros_like();
            apply(&x, &out, dropout);
            let total = x.zeros_like();
            residual(&x, &x, &total, dropout);
            assert!((&total - (&x + &out)).abs().max().double_value(&[]) < 1e-6);
            let sum = x.copy();
            add(&sum, &x, dropout);
            assert!((sum - &total).abs().max().double_value(&[]) < 1e-6);
            let again = x.copy();
            apply_in_place(&again, dropout);
            assert_eq!(again, out);
        }
    }
}
