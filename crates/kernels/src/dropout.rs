//! Dropout whose mask is a hash of (key, element): nothing is stored, and the backward pass finds the same mask again.
//!
//! The published step of CDT drops 112 million activations. As stored masks these are 450 MB to write and read; as
//! hashes, some vector instructions for sixteen of them.

use crate::instruction_set::multiversion;

/// One place of one pass where activations are dropped; the key decides which.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    key: u32,
    /// An element is kept if the upper 24 bits of its hash reach this.
    threshold: u32,
    /// 1 / (1 - rate)
    scale: f32,
}

impl Dropout {
    /// Keeps everything.
    pub const NONE: Dropout = Dropout { key: 0, threshold: 0, scale: 1.0 };

    /// Drops each element with probability `rate`, below 1, independently; a rate of 0 or less keeps everything.
    pub fn new(rate: f64, key: u32) -> Dropout {
        if rate <= 0.0 {
            return Dropout::NONE;
        }
        let threshold = (rate * f64::from(1u32 << 24)).round() as u32;
        let kept = 1.0 - f64::from(threshold) / f64::from(1u32 << 24);
        Dropout { key, threshold, scale: (1.0 / kept) as f32 }
    }

    /// True if nothing is dropped.
    #[inline]
    pub fn is_none(&self) -> bool {
        self.threshold == 0
    }

    /// What decides which elements are dropped.
    pub fn key(&self) -> u32 {
        self.key
    }

    /// An element is kept if the upper 24 bits of its hash reach this.
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// What an element that is kept is multiplied by.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// What element `index` is multiplied by: 0 or [`Dropout::scale`].
    #[inline(always)]
    pub fn factor(&self, index: u32) -> f32 {
        let hash = mix(index.wrapping_mul(GOLDEN) ^ self.key);
        if hash >> 8 >= self.threshold {
            self.scale
        } else {
            0.0
        }
    }
}

/// 2^32 over the golden ratio: neighbours become far apart.
pub const GOLDEN: u32 = 0x9E37_79B9;
/// The multipliers of [`mix`].
pub const MIX: [u32; 2] = [0x7FEB_352D, 0x846C_A68B];

/// A bijection of 32-bit words in which every input bit moves every output bit with probability close to a half
/// (lowbias32 of Wellons' hash prospector).
#[inline(always)]
pub fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(MIX[0]);
    x ^= x >> 15;
    x = x.wrapping_mul(MIX[1]);
    x ^ (x >> 16)
}

multiversion! {
    /// `out = dropout(x)`.
    pub fn apply(x: &[f32], out: &mut [f32], dropout: Dropout) {
        for (i, (y, &x)) in out.iter_mut().zip(x).enumerate() {
            *y = x * dropout.factor(i as u32);
        }
    }
}

multiversion! {
    /// `x = dropout(x)`.
    pub fn apply_in_place(x: &mut [f32], dropout: Dropout) {
        for (i, x) in x.iter_mut().enumerate() {
            *x *= dropout.factor(i as u32);
        }
    }
}

multiversion! {
    /// `out = base + dropout(x)`.
    pub fn residual(base: &[f32], x: &[f32], out: &mut [f32], dropout: Dropout) {
        for (i, ((y, &base), &x)) in out.iter_mut().zip(base).zip(x).enumerate() {
            *y = base + x * dropout.factor(i as u32);
        }
    }
}

multiversion! {
    /// `total += dropout(x)`.
    pub fn add(total: &mut [f32], x: &[f32], dropout: Dropout) {
        for (i, (total, &x)) in total.iter_mut().zip(x).enumerate() {
            *total += x * dropout.factor(i as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_one_asked_for_and_neighbours_are_independent() {
        for rate in [0.1, 0.5] {
            let dropout = Dropout::new(rate, 0x1234_5678);
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
        let (a, b) = (Dropout::new(0.5, 1), Dropout::new(0.5, 2));
        let equal = (0..100_000).filter(|&i| a.factor(i) == b.factor(i)).count();
        assert!((equal as f64 / 1e5 - 0.5).abs() < 1e-2, "{equal}");
    }

    #[test]
    fn a_rate_of_nothing_keeps_everything() {
        assert!(Dropout::new(0.0, 7).is_none() && Dropout::NONE.factor(3) == 1.0);
    }
}
