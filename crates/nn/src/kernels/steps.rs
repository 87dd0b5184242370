//! Steps of parameters in flat vectors.

use super::{elements, elements_mut, host, multiversion};
use tch::Tensor;

/// Where some parameters lie in a flat vector: offset and length.
pub type Span = (i64, i64);

fn range(&(offset, len): &Span) -> std::ops::Range<usize> {
    offset as usize..(offset + len) as usize
}

/// The scalars of one Adam step.
#[derive(Clone, Copy)]
pub struct AdamScalars {
    /// lr / (1 - beta1^t)
    pub step_size: f32,
    /// 1 / sqrt(1 - beta2^t)
    pub second_correction: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Factor on the parameter before the step: 1 - lr * weight_decay (decoupled, AdamW).
    pub decay: f32,
}

multiversion! {
    fn adam_cpu(value: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], s: AdamScalars) {
        for (((p, &g), m), v) in value.iter_mut().zip(grad).zip(first).zip(second) {
            *m += (g - *m) * (1.0 - s.beta1);
            *v = *v * s.beta2 + (1.0 - s.beta2) * g * g;
            *p = *p * s.decay - s.step_size * *m / (v.sqrt() * s.second_correction + s.eps);
        }
    }
}

/// One Adam(W) step on `spans` of flat vectors: both moments and the parameters in one pass.
pub fn adam(value: &Tensor, grad: &Tensor, first: &Tensor, second: &Tensor, spans: &[Span], s: AdamScalars) {
    if host(value) {
        let [value, first, second] = [value, first, second].map(elements_mut);
        let grad = elements(grad);
        for span in spans.iter().map(range) {
            let (m, v) = (&mut first[span.clone()], &mut second[span.clone()]);
            adam_cpu(&mut value[span.clone()], &grad[span], m, v, s);
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

multiversion! {
    fn ema_cpu(target: &mut [f32], source: &[f32], rate: f32) {
        for (t, &s) in target.iter_mut().zip(source) {
            *t += (s - *t) * rate;
        }
    }
}

/// `target += rate (source - target)` on `spans` of flat vectors.
pub fn ema(target: &Tensor, source: &Tensor, spans: &[Span], rate: f64) {
    if host(target) {
        let (target, source) = (elements_mut(target), elements(source));
        for span in spans.iter().map(range) {
            ema_cpu(&mut target[span.clone()], &source[span], rate as f32);
        }
        return;
    }
    for &(offset, len) in spans {
        let of = |tensor: &Tensor| tensor.narrow(0, offset, len);
        let _ = of(target).lerp_(&of(source), rate);
    }
}
