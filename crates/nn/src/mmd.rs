//! Maximum mean discrepancy between two sets of samples a state, and its gradient.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Keeps the root differentiable where both sets coincide.
const FLOOR: f64 = 1e-6;

/// The kernel; `sigma` enters unsquared in both, as in BEAR's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// `exp(-|x - y|^2 / (2 sigma))`
    Gaussian,
    /// `exp(-|x - y|_1 / (2 sigma))`
    Laplacian,
}

impl Kernel {
    /// `k(x_i, y_j) [B,N,M]` of `x [B,N,A]`, `y [B,M,A]`, and the differences `[B,N,M,A]`.
    fn of(self, x: &Tensor, y: &Tensor, sigma: f64) -> (Tensor, Tensor) {
        let difference = x.unsqueeze(2) - y.unsqueeze(1);
        let distance = match self {
            Kernel::Gaussian => difference.square(),
            Kernel::Laplacian => difference.abs(),
        };
        ((distance.sum_dim_intlist(3i64, false, Kind::Float) * (-0.5 / sigma)).exp_(), difference)
    }

    /// `sum_j dk(x_i, y_j)/dx_i [B,N,A]`.
    fn slope(self, kernel: &Tensor, difference: &Tensor, sigma: f64) -> Tensor {
        let direction = match self {
            Kernel::Gaussian => difference * (-1.0 / sigma),
            Kernel::Laplacian => difference.sign() * (-0.5 / sigma),
        };
        (direction * kernel.unsqueeze(3)).sum_dim_intlist(2i64, false, Kind::Float)
    }
}

/// `sqrt(mean k(v,v) + mean k(u,u) - 2 mean k(v,u) + 1e-6)` over all pairs, a state: `[B,1]`, and its gradient for `u`,
/// `[B,N,A]`.
///
/// `v [B,M,A]` are the samples to match, `u [B,N,A]` the policy's.
pub fn mmd(v: &Tensor, u: &Tensor, kernel: Kernel, sigma: f64) -> (Tensor, Tensor) {
    let average = |k: &Tensor| k.mean_dim([1i64, 2].as_slice(), false, Kind::Float);
    let (vv, _) = kernel.of(v, v, sigma);
    let (uu, uu_difference) = kernel.of(u, u, sigma);
    let (uv, uv_difference) = kernel.of(u, v, sigma);
    let value = (average(&vv) + average(&uu) - average(&uv) * 2.0 + FLOOR).sqrt();
    let (n, m) = (u.size()[1] as f64, v.size()[1] as f64);
    // Every pair of u's own samples occurs twice.
    let slope = kernel.slope(&uu, &uu_difference, sigma) * (2.0 / (n * n))
        - kernel.slope(&uv, &uv_difference, sigma) * (2.0 / (n * m));
    let scale: Tensor = 0.5 / &value;
    let gradient = slope * scale.view([-1, 1, 1]);
    (value.unsqueeze(1), gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use tch::Device;

    /// Two points against one, by hand.
    #[test]
    fn the_value_is_the_formula() {
        let v = Tensor::from_slice(&[0.0f32, 0.0]).view([1, 1, 2]);
        let u = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 2.0]).view([1, 2, 2]);
        for (kernel, to_v, between) in [(Kernel::Gaussian, [1.0, 4.0], 5.0), (Kernel::Laplacian, [1.0, 2.0], 3.0)] {
            let k = |distance: f64| (-distance / 6.0f64).exp();
            let expected = 1.0 + (2.0 + 2.0 * k(between)) / 4.0 - (k(to_v[0]) + k(to_v[1])) + FLOOR;
            let found = mmd(&v, &u, kernel, 3.0).0.double_value(&[0, 0]);
            assert!((found - expected.sqrt()).abs() < 1e-6, "{kernel:?}");
        }
        let same = mmd(&u, &u, Kernel::Gaussian, 3.0).0.double_value(&[0, 0]);
        assert!((same - FLOOR.sqrt()).abs() < 5e-4);
    }

    #[test]
    fn the_gradient_equals_autograd() {
        let mut rng = Rng::new(6, 0);
        for kernel in [Kernel::Gaussian, Kernel::Laplacian] {
            let v = rng.normal(&[4, 5, 3], Device::Cpu);
            let u = rng.normal(&[4, 6, 3], Device::Cpu).set_requires_grad(true);
            let value = mmd(&v, &u, kernel, 2.0).0;
            value.sum(Kind::Float).backward();
            let gradient = mmd(&v, &u.detach(), kernel, 2.0).1;
            assert!((gradient - u.grad()).abs().max().double_value(&[]) < 1e-5, "{kernel:?}");
        }
    }
}
