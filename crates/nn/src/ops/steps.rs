//! Steps of parameters in flat vectors.

use crate::slices::{elements, elements_mut, host};
use drcorl_kernels::{steps as kernels, InstructionSet};
use tch::Tensor;

pub use drcorl_kernels::steps::AdamScalars;

/// Where some parameters lie in a flat vector: offset and length.
pub type Span = (i64, i64);

fn range(&(offset, len): &Span) -> std::ops::Range<usize> {
    offset as usize..(offset + len) as usize
}

/// One Adam(W) step on `spans` of flat vectors: both moments and the parameters in one pass.
pub fn adam(value: &Tensor, grad: &Tensor, first: &Tensor, second: &Tensor, spans: &[Span], s: AdamScalars) {
    if host(value) {
        let [value, first, second] = [value, first, second].map(elements_mut);
        let (set, grad) = (InstructionSet::best(), elements(grad));
        for span in spans.iter().map(range) {
            let (m, v) = (&mut first[span.clone()], &mut second[span.clone()]);
            kernels::adam(set, &mut value[span.clone()], &grad[span], m, v, s);
        }
        return;
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
        let (target, source) = (elements_mut(target), elements(source));
        for span in spans.iter().map(range) {
            kernels::ema(InstructionSet::best(), &mut target[span.clone()], &source[span], rate as f32);
        }
        return;
    }
    for &(offset, len) in spans {
        let of = |tensor: &Tensor| tensor.narrow(0, offset, len);
        let _ = of(target).lerp_(&of(source), rate);
    }
}
