//! The f-divergences of the DICE family and the inverse of their derivative.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps the logarithm finite at 0.
const FLOOR: f64 = 1e-10;

/// A convex f with f(1) = 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// `x (log x - 1) + 1` below 1, `(x - 1)^2 / 2` above: positive without a kink.
    Softchi,
    /// `(x - 1)^2 / 2`
    Chi2,
    /// `x log x`
    Kl,
}

impl Divergence {
    /// `f(x)` for `x >= 0`.
    pub fn value(self, x: f64) -> f64 {
        let chi2 = 0.5 * (x - 1.0) * (x - 1.0);
        let log = || (x + FLOOR).ln();
        match self {
            Divergence::Kl => x * log(),
            Divergence::Softchi if x < 1.0 => x * (log() - 1.0) + 1.0,
            Divergence::Chi2 | Divergence::Softchi => chi2,
        }
    }

    /// The inverse of f' at any `y`.
    pub fn inverse_derivative(self, y: f64) -> f64 {
        match self {
            Divergence::Kl => (y - 1.0).exp(),
            Divergence::Softchi if y < 0.0 => y.exp(),
            Divergence::Chi2 | Divergence::Softchi => y + 1.0,
        }
    }

    /// f', whose inverse the tests hold [`Divergence::inverse_derivative`] to.
    #[cfg(test)]
    fn derivative(self, x: f64) -> f64 {
        match self {
            Divergence::Softchi if x < 1.0 => x.ln(),
            Divergence::Softchi | Divergence::Chi2 => x - 1.0,
            Divergence::Kl => x.ln() + 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Divergence; 3] = [Divergence::Softchi, Divergence::Chi2, Divergence::Kl];

    /// The table, worked out to twenty digits elsewhere. f is defined for ratios; below 0 only chi2 is finite.
    #[test]
    fn values_at_fixed_points() {
        use Divergence::{Chi2, Kl, Softchi};
        for (f, x, expected) in [
            (Softchi, 0.0, 1.0),
            (Softchi, 0.5, 0.153_426_409_820_027),
            (Softchi, 1.0, 0.0),
            (Softchi, 2.0, 0.5),
            (Softchi, 7.0, 18.0),
            (Chi2, -3.0, 8.0),
            (Chi2, -0.001, 0.501_000_5),
            (Chi2, 0.0, 0.5),
            (Chi2, 0.5, 0.125),
            (Chi2, 1.0, 0.0),
            (Chi2, 2.0, 0.5),
            (Chi2, 7.0, 18.0),
            (Kl, 0.0, 0.0),
            (Kl, 0.5, -0.346_573_590_179_973),
            (Kl, 1.0, 0.000_000_000_1),
            (Kl, 2.0, 1.386_294_361_219_891),
            (Kl, 7.0, 13.621_371_043_487_193),
        ] {
            assert!((f.value(x) - expected).abs() < 1e-12, "{f:?} {x}: {}", f.value(x));
        }
        for (f, y, expected) in [
            (Softchi, -3.0, 0.049_787_068_367_864),
            (Softchi, -0.001, 0.999_000_499_833_375),
            (Softchi, 0.0, 1.0),
            (Softchi, 0.5, 1.5),
            (Softchi, 1.0, 2.0),
            (Softchi, 2.0, 3.0),
            (Softchi, 7.0, 8.0),
            (Chi2, -3.0, -2.0),
            (Chi2, -0.001, 0.999),
            (Chi2, 0.0, 1.0),
            (Chi2, 0.5, 1.5),
            (Chi2, 1.0, 2.0),
            (Chi2, 2.0, 3.0),
            (Chi2, 7.0, 8.0),
            (Kl, -3.0, 0.018_315_638_888_734),
            (Kl, -0.001, 0.367_511_745_608_694),
            (Kl, 0.0, 0.367_879_441_171_442),
            (Kl, 0.5, 0.606_530_659_712_633),
            (Kl, 1.0, 1.0),
            (Kl, 2.0, std::f64::consts::E),
            (Kl, 7.0, 403.428_793_492_735),
        ] {
            assert!((f.inverse_derivative(y) - expected).abs() < 1e-12, "{f:?} {y}: {}", f.inverse_derivative(y));
        }
        assert!(ALL.iter().all(|f| f.value(f64::NAN).is_nan() && f.inverse_derivative(f64::NAN).is_nan()));
    }

    #[test]
    fn the_inverse_inverts_the_derivative_and_f_has_that_derivative() {
        for f in ALL {
            for x in [1e-3, 0.3, 0.999, 1.0, 1.001, 4.0] {
                assert!((f.inverse_derivative(f.derivative(x)) - x).abs() < 1e-12);
                let step = 1e-6;
                let slope = (f.value(x + step) - f.value(x - step)) / (2.0 * step);
                assert!((slope - f.derivative(x)).abs() < 1e-4, "{f:?} {x}");
            }
        }
    }

    /// Both pieces of softchi meet at 1, and those of its inverse at 0, with the same value and slope.
    #[test]
    fn softchi_is_continuous() {
        let (f, step) = (Divergence::Softchi, 1e-7);
        assert!(f.value(1.0 - step).abs() < 1e-9 && f.value(1.0 + step).abs() < 1e-9);
        let inverse = |y: f64| f.inverse_derivative(y);
        assert!((inverse(-step) - inverse(step)).abs() < 3e-7);
        assert!(((inverse(0.0) - inverse(-1e-4)) / 1e-4 - 1.0).abs() < 1e-3);
    }
}
