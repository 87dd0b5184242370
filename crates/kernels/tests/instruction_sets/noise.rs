//! Numbers that are random and always the same, and distances between what was found and what was wanted.

/// A generator (xorshift64*).
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Uniform in [-1, 1).
    pub fn unit(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        bits as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Nearly normal, of variance 1: the sum of twelve draws.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() / 2.0
    }

    /// So many of [`Noise::normal`].
    pub fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }

    /// The same behind a ReLU.
    pub fn active(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal().max(0.0)).collect()
    }
}

/// Fails unless every number found is as near as `tolerance` to the one wanted.
#[track_caller]
pub fn close(found: &[f32], wanted: impl IntoIterator<Item = f64>, tolerance: f64) {
    let mut count = 0;
    for (i, wanted) in wanted.into_iter().enumerate() {
        let distance = (f64::from(found[i]) - wanted).abs();
        assert!(distance <= tolerance, "number {i}: {} instead of {wanted}, off by {distance:e}", found[i]);
        count += 1;
    }
    assert_eq!(found.len(), count, "as many numbers as were wanted");
}

/// Floats as doubles.
pub fn wide(values: &[f32]) -> impl Iterator<Item = f64> + Clone + '_ {
    values.iter().map(|&x| f64::from(x))
}
