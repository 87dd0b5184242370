//! Noise levels of the diffusion.

use std::f64::consts::FRAC_PI_2;

/// Offset of the cosine schedule, and the largest beta (Nichol and Dhariwal, arXiv:2102.09672).
const OFFSET: f64 = 0.008;
const MOST_BETA: f64 = 0.999;
/// Below this the variance of a reverse step counts as this.
const LEAST_VARIANCE: f64 = 1e-20;

/// One noise level i.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// `q(x_i | x_{i-1}) = N(sqrt(1 - beta) x_{i-1}, beta)`.
    pub beta: f64,
    /// `q(x_i | x_0) = N(sqrt(cumulative) x_0, 1 - cumulative)`.
    pub cumulative: f64,
    /// The same of level i-1; 1 at level 0.
    pub previous: f64,
}

impl Level {
    /// The mean of `q(x_{i-1} | x_i, x_0)` is `first x_0 + second x_i`.
    pub fn posterior(&self) -> (f64, f64) {
        let rest = 1.0 - self.cumulative;
        (self.beta * self.previous.sqrt() / rest, (1.0 - self.previous) * (1.0 - self.beta).sqrt() / rest)
    }

    /// Its variance, as the formula has it.
    pub fn variance(&self) -> f64 {
        self.beta * (1.0 - self.previous) / (1.0 - self.cumulative)
    }

    /// Its variance, at least a number whose logarithm is finite.
    pub fn clipped_variance(&self) -> f64 {
        self.variance().max(LEAST_VARIANCE)
    }
}

/// The cosine schedule: `cumulative_i = f(i + 1) / f(0)` with `f(k) = cos^2(pi/2 (k/T + s) / (1 + s))`, betas at most
/// 0.999.
pub fn cosine_schedule(levels: usize) -> Vec<Level> {
    let f = |k: usize| ((k as f64 / levels as f64 + OFFSET) / (1.0 + OFFSET) * FRAC_PI_2).cos().powi(2);
    let mut previous = 1.0;
    let level = |i: usize| {
        let beta = (1.0 - f(i + 1) / f(i)).clamp(0.0, MOST_BETA);
        let level = Level { beta, cumulative: previous * (1.0 - beta), previous };
        previous = level.cumulative;
        level
    };
    (0..levels).map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The betas of twenty levels, to four digits.
    #[test]
    fn twenty_levels_have_the_published_betas() {
        let wanted = [
            0.008, 0.0201, 0.0323, 0.0447, 0.0575, 0.071, 0.0852, 0.1005, 0.1173, 0.1359, 0.157, 0.1814, 0.2102,
            0.2454, 0.2897, 0.3481, 0.4294, 0.551, 0.7485, 0.999,
        ];
        for (level, wanted) in cosine_schedule(20).iter().zip(wanted) {
            assert!((level.beta - wanted).abs() < 6e-4, "{} instead of {wanted}", level.beta);
        }
    }

    #[test]
    fn the_last_reverse_step_is_certain() {
        let levels = cosine_schedule(20);
        assert_eq!((levels[0].variance(), levels[0].clipped_variance()), (0.0, 1e-20));
        let (first, second) = levels[0].posterior();
        assert!((first - 1.0).abs() < 1e-12 && second == 0.0);
        assert!(levels.iter().all(|level| level.cumulative < level.previous));
    }
}
