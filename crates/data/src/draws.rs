//! Random draws of the filters; a trait, so that tests can script them.

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;

/// Where random numbers come from.
pub(crate) trait Draws {
    /// One integer from [0, bound); `bound` is at least 1.
    fn below(&mut self, bound: usize) -> usize;

    /// One draw from the standard normal distribution.
    fn normal(&mut self) -> f64;
}

/// A seeded generator; `stream` separates independent uses of one seed.
pub(crate) struct Pcg(Pcg64);

impl Pcg {
    pub fn new(seed: u64, stream: u64) -> Self {
        Pcg(Pcg64::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03)))
    }
}

impl Draws for Pcg {
    fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }
}

/// `count` of the items without replacement, in the order drawn; all of them if there are no more.
pub(crate) fn sample(mut items: Vec<usize>, count: usize, draws: &mut dyn Draws) -> Vec<usize> {
    let count = count.min(items.len());
    for i in 0..count {
        let chosen = i + draws.below(items.len() - i);
        items.swap(i, chosen);
    }
    items.truncate(count);
    items
}
