//! The f-divergences of the DICE family and the inverse of their derivative.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

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
    /// f, elementwise, for `x >= 0`.
    pub fn value(self, x: &Tensor) -> Tensor {
        let chi2 = || (x - 1.0).square() * 0.5;
        let log = || (x + FLOOR).log();
        match self {
            Divergence::Chi2 => chi2(),
            Divergence::Kl => x * log(),
            Divergence::Softchi => (x * (log() - 1.0) + 1.0).where_self(&x.lt(1.0), &chi2()),
        }
    }

    /// The inverse of f', elementwise, for any `y`.
    pub fn inverse_derivative(self, y: &Tensor) -> Tensor {
        match self {
            Divergence::Chi2 => y + 1.0,
            Divergence::Kl => (y - 1.0).exp(),
            Divergence::Softchi => y.clamp_max(0.0).exp().where_self(&y.lt(0.0), &(y + 1.0)),
        }
    }

    /// f' in double precision: the inverse the tests hold [`Divergence::inverse_derivative`] to.
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
    use tch::{Device, Kind};

    const POINTS: [f64; 7] = [-3.0, -1e-3, 0.0, 0.5, 1.0, 2.0, 7.0];
    const ALL: [Divergence; 3] = [Divergence::Softchi, Divergence::Chi2, Divergence::Kl];

    fn at(f: impl Fn(&Tensor) -> Tensor, x: f64) -> f64 {
        f(&Tensor::full([1], x, (Kind::Double, Device::Cpu))).double_value(&[0])
    }

    /// The table, worked out by hand.
    #[test]
    fn values_at_fixed_points() {
        let e = std::f64::consts::E;
        let expected_value = |f: Divergence, x: f64| match f {
            Divergence::Chi2 => 0.5 * (x - 1.0) * (x - 1.0),
            Divergence::Kl => x * (x + FLOOR).ln(),
            Divergence::Softchi if x < 1.0 => x * ((x + FLOOR).ln() - 1.0) + 1.0,
            Divergence::Softchi => 0.5 * (x - 1.0) * (x - 1.0),
        };
        let expected_inverse = |f: Divergence, y: f64| match f {
            Divergence::Chi2 => y + 1.0,
            Divergence::Kl => e.powf(y - 1.0),
            Divergence::Softchi if y < 0.0 => e.powf(y),
            Divergence::Softchi => y + 1.0,
        };
        for f in ALL {
            for x in POINTS {
                assert!((at(|t| f.inverse_derivative(t), x) - expected_inverse(f, x)).abs() < 1e-12, "{f:?} {x}");
                // f is defined for ratios; below 0 only chi2 is finite.
                if x >= 0.0 || f == Divergence::Chi2 {
                    assert!((at(|t| f.value(t), x) - expected_value(f, x)).abs() < 1e-12, "{f:?} {x}");
                }
            }
            assert!(at(|t| f.value(t), 1.0).abs() < 1e-9);
        }
        assert!((at(|t| Divergence::Softchi.value(t), 0.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_inverse_inverts_the_derivative_and_f_has_that_derivative() {
        for f in ALL {
            for x in [1e-3, 0.3, 0.999, 1.0, 1.001, 4.0] {
                assert!((at(|t| f.inverse_derivative(t), f.derivative(x)) - x).abs() < 1e-12);
                let step = 1e-6;
                let slope = (at(|t| f.value(t), x + step) - at(|t| f.value(t), x - step)) / (2.0 * step);
                assert!((slope - f.derivative(x)).abs() < 1e-4, "{f:?} {x}");
            }
        }
    }

    /// Both pieces of softchi meet at 1, and those of its inverse at 0, with the same value and slope.
    #[test]
    fn softchi_is_continuous() {
        let (f, step) = (Divergence::Softchi, 1e-7);
        for (g, x) in [(at(|t| f.value(t), 1.0 - step), 0.0), (at(|t| f.value(t), 1.0 + step), 0.0)] {
            assert!((g - x).abs() < 1e-9);
        }
        let inverse = |y: f64| at(|t| f.inverse_derivative(t), y);
        assert!((inverse(-step) - inverse(step)).abs() < 3e-7);
        assert!(((inverse(0.0) - inverse(-1e-4)) / 1e-4 - 1.0).abs() < 1e-3);
    }
}
