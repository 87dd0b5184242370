//! Dropout of tensors, by masks that are hashes: on the CPU by kernels,
//! elsewhere by the same arithmetic in tensor operations.

use crate::rng::Rng;
use crate::slices::{elements, elements_mut, host};
use drcorl_kernels::dropout::{self as kernels, GOLDEN, MIX};
use drcorl_kernels::InstructionSet;
use tch::{Device, Kind, Tensor};

pub use drcorl_kernels::Dropout;

/// Drops each element with probability `rate`, independently; the key is drawn from `rng`, and nothing for a rate of 0.
pub fn draw(rate: f64, rng: &mut Rng) -> Dropout {
    if rate <= 0.0 {
        return Dropout::NONE;
    }
    Dropout::new(rate, rng.below(1 << 32) as u32)
}

/// The factors of elements `0..n` as a tensor `[n]`, by tensor operations.
pub(super) fn factors(dropout: Dropout, n: i64, device: Device) -> Tensor {
    // 32-bit arithmetic in 64-bit integers: the lower half of a product is right even where the whole overflows.
    let low = |x: Tensor| x.bitwise_and(0xFFFF_FFFFi64);
    let folded = |x: &Tensor, bits: i64| x.bitwise_xor_tensor(&x.bitwise_right_shift_tensor_scalar(bits));
    let index = Tensor::arange(n, (Kind::Int64, device));
    let mut x = low(index * i64::from(GOLDEN)).bitwise_xor(i64::from(dropout.key()));
    x = low(folded(&x, 16) * i64::from(MIX[0]));
    x = low(folded(&x, 15) * i64::from(MIX[1]));
    let kept = folded(&x, 16).bitwise_right_shift_tensor_scalar(8).ge(i64::from(dropout.threshold()));
    kept.to_kind(Kind::Float) * f64::from(dropout.scale())
}

/// The factors of all elements of `x`, in its shape.
fn factors_like(dropout: Dropout, x: &Tensor) -> Tensor {
    factors(dropout, x.numel() as i64, x.device()).view_as(x)
}

/// `out = dropout(x)`, both contiguous and of one size.
pub fn apply(x: &Tensor, out: &Tensor, dropout: Dropout) {
    if dropout.is_none() {
        out.shallow_clone().copy_(x);
    } else if host(x) {
        kernels::apply(InstructionSet::best(), elements(x), elements_mut(out), dropout);
    } else {
        out.shallow_clone().copy_(&(x * factors_like(dropout, x)));
    }
}

/// `x = dropout(x)`, contiguous.
pub fn apply_in_place(x: &Tensor, dropout: Dropout) {
    if dropout.is_none() {
    } else if host(x) {
        kernels::apply_in_place(InstructionSet::best(), elements_mut(x), dropout);
    } else {
        let _ = x.shallow_clone().g_mul_(&factors_like(dropout, x));
    }
}

/// `total += dropout(x)`, both contiguous and of one size.
pub fn add(total: &Tensor, x: &Tensor, dropout: Dropout) {
    if dropout.is_none() {
        let _ = total.shallow_clone().g_add_(x);
    } else if host(x) {
        kernels::add(InstructionSet::best(), elements_mut(total), elements(x), dropout);
    } else {
        let factors = factors_like(dropout, x);
        let _ = total.shallow_clone().g_add_(&(x * factors));
    }
}

/// `out = base + dropout(x)`, all contiguous and of one size.
pub fn residual(base: &Tensor, x: &Tensor, out: &Tensor, dropout: Dropout) {
    if host(x) {
        kernels::residual(InstructionSet::best(), elements(base), elements(x), elements_mut(out), dropout);
    } else {
        let factors = factors_like(dropout, x);
        out.shallow_clone().copy_(&(base + x * factors));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_operations_find_the_same_mask() {
        let dropout = draw(0.3, &mut Rng::new(3, 0));
        let by_hash: Vec<f32> = (0..10_000).map(|i| dropout.factor(i)).collect();
        assert_eq!(by_hash, Vec::<f32>::try_from(&factors(dropout, 10_000, Device::Cpu)).unwrap());
    }

    #[test]
    fn the_passes_agree() {
        let x = Tensor::randn([7, 33], (Kind::Float, Device::Cpu));
        for dropout in [Dropout::NONE, draw(0.4, &mut Rng::new(4, 0))] {
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
