//! Steps of parameters in flat vectors.

use super::parts::over;
use crate::slices::{host, Flat};
use drcorl_kernels::{steps as kernels, InstructionSet};
use tch::Tensor;

pub use drcorl_kernels::steps::AdamScalars;

/// Where some parameters lie in a flat vector: offset and length.
pub type Span = (i64, i64);

/// One Adam(W) step on `spans` of flat vectors: both moments and the parameters in one pass.
pub fn adam(value: &Tensor, grad: &Tensor, first: &Tensor, second: &Tensor, spans: &[Span], s: AdamScalars) {
    if host(value) {
        let ([value, first, second], grad) = ([value, first, second].map(Flat::of), Flat::of(grad));
        let pass = |at, len| {
            let [value, first, second] = [value, first, second].map(|all| all.part_mut(at, len));
            kernels::adam(InstructionSet::best(), value, grad.part(at, len), first, second, s);
        };
        // SAFETY: it writes its elements of three vectors that are not one.
        return unsafe { over(spans, pass) };
    }
    for &(offset, len) in spans {
        let [mut value, grad, mut first, mut second] =
            [value, grad, first, second].map(|tensor| tensor.narrow(0, offset, len));
        let _ = first.lerp_(&grad, f64::from(1.0 - s.beta1));
        let _ = second.g_mul_scalar_(f64::from(s.beta2));
        second.copy_(&(&second + &grad * &grad * f64::from(1.0 - s.beta2)));
        let denominator = second.sqrt() * f64::from(s.second_correction) + f64::from(s.eps);
        let _ = value.g_mul_scalar_(f64::from(s.decay));
        value.copy_(&(&value - first / denominator * f64::from(s.step_size)));
    }
}

/// `target += rate (source - target)` on `spans` of flat vectors.
pub fn ema(target: &Tensor, source: &Tensor, spans: &[Span], rate: f64) {
    if host(target) {
        let (target, source) = (Flat::of(target), Flat::of(source));
        let pass = |at, len| {
            kernels::ema(InstructionSet::best(), target.part_mut(at, len), source.part(at, len), rate as f32);
        };
        // SAFETY: it writes its elements of the target, which is not the source.
        return unsafe { over(spans, pass) };
    }
    for &(offset, len) in spans {
        let of = |tensor: &Tensor| tensor.narrow(0, offset, len);
        let _ = of(target).lerp_(&of(source), rate);
    }
}
