//! Activations, their derivatives, and biases.

use super::{elements, elements_mut, host, multiversion};
use drcorl_actor::math::{exp, normal_cdf};
use tch::{Kind, Tensor};

/// tanh(softplus(x)) = n / (n + 2) with n = e^x (e^x + 2), and the logistic function of x; with one division for both, which takes as long
/// as the rest.
#[inline(always)]
fn mish_parts(x: f32) -> (f32, f32) {
    let e = exp(x.min(20.0));
    let n = e * (e + 2.0);
    let (a, b) = (n + 2.0, 1.0 + e);
    let inverse = 1.0 / (a * b);
    (n * b * inverse, e * a * inverse)
}

multiversion! {
    fn mish_cpu(x: &mut [f32], out: &mut [f32]) {
        for (y, x) in out.iter_mut().zip(x) {
            let (t, s) = mish_parts(*x);
            *y = *x * t;
            *x = t + *x * (1.0 - t * t) * s;
        }
    }
}

/// `out = mish(x) = x tanh(log(1 + e^x))`, and `x` becomes the derivative there: the exponential is needed once, and the backward pass
/// is a product.
pub fn mish(x: &mut Tensor, out: &Tensor) {
    if host(x) {
        mish_cpu(elements_mut(x), elements_mut(out));
    } else {
        let _ = x.mish_out(out);
        let derivative = x.mish_backward(&x.ones_like());
        x.copy_(&derivative);
    }
}

multiversion! {
    fn bias_mish_cpu(x: &mut [f32], bias: &[f32], out: &mut [f32]) {
        for (x, out) in x.chunks_exact_mut(bias.len()).zip(out.chunks_exact_mut(bias.len())) {
            for ((x, &b), y) in x.iter_mut().zip(bias).zip(out) {
                let v = *x + b;
                let (t, s) = mish_parts(v);
                *y = v * t;
                *x = t + v * (1.0 - t * t) * s;
            }
        }
    }
}

/// [`mish`] of `x [B,n] + bias [n]`.
pub fn bias_mish(x: &mut Tensor, bias: &Tensor, out: &Tensor) {
    if host(x) {
        bias_mish_cpu(elements_mut(x), elements(bias), elements_mut(out));
    } else {
        *x += bias;
        mish(x, out);
    }
}

multiversion! {
    fn gelu_cpu(x: &mut [f32], out: &mut [f32]) {
        const DENSITY: f32 = 0.398_942_3;
        for (y, x) in out.iter_mut().zip(x) {
            let v = *x;
            let below = normal_cdf(v);
            *y = v * below;
            *x = below + v * DENSITY * exp(-0.5 * v * v);
        }
    }
}

/// `out = gelu(x) = x Phi(x)` (the exact one, by the error function), and `x` becomes the derivative there.
pub fn gelu(x: &mut Tensor, out: &Tensor) {
    if host(x) {
        gelu_cpu(elements_mut(x), elements_mut(out));
    } else {
        let _ = x.gelu_out(out, "none");
        let derivative = x.gelu_backward(&x.ones_like(), "none");
        x.copy_(&derivative);
    }
}

multiversion! {
    fn bias_relu_cpu(x: &mut [f32], bias: &[f32]) {
        for row in x.chunks_exact_mut(bias.len()) {
            for (x, &b) in row.iter_mut().zip(bias) {
                // Lets NaN through: an overflow must not look like a dead unit.
                let v = *x + b;
                *x = if v < 0.0 { 0.0 } else { v };
            }
        }
    }
}

/// `x = relu(x + bias)` for `x [B,n]`, `bias` of n elements.
pub fn bias_relu(x: &Tensor, bias: &Tensor) {
    if host(x) {
        bias_relu_cpu(elements_mut(x), elements(bias));
    } else {
        let _ = x.shallow_clone().g_add_(&bias.view([-1])).relu_();
    }
}

multiversion! {
    fn relu_backward_cpu(grad: &mut [f32], active: &[f32]) {
        for (g, &a) in grad.iter_mut().zip(active) {
            *g = if a > 0.0 { *g } else { 0.0 };
        }
    }
}

/// `grad` becomes 0 where the ReLU's output `active` (same shape) is 0.
pub fn relu_backward(grad: &Tensor, active: &Tensor) {
    if host(grad) {
        relu_backward_cpu(elements_mut(grad), elements(active));
    } else {
        grad.shallow_clone().copy_(&active.threshold_backward(grad, 0.0));
    }
}

multiversion! {
    fn bias_residual_cpu(x: &mut [f32], bias: &[f32], base: &[f32]) {
        for (x, base) in x.chunks_exact_mut(bias.len()).zip(base.chunks_exact(bias.len())) {
            for ((x, &b), &base) in x.iter_mut().zip(bias).zip(base) {
                *x = (*x + b) + base;
            }
        }
    }
}

/// `x += bias + base` for `x`, `base [B,n]`, `bias` of n elements.
pub fn bias_residual(x: &Tensor, bias: &Tensor, base: &Tensor) {
    if host(x) {
        bias_residual_cpu(elements_mut(x), elements(bias), elements(base));
    } else {
        let _ = x.shallow_clone().g_add_(bias).g_add_(base);
    }
}

multiversion! {
    fn derivative_backward_cpu(grad: &mut [f32], derivative: &[f32], sum: &mut [f32]) {
        for (grad, derivative) in grad.chunks_exact_mut(sum.len()).zip(derivative.chunks_exact(sum.len())) {
            for ((g, &d), sum) in grad.iter_mut().zip(derivative).zip(sum.iter_mut()) {
                *g *= d;
                *sum += *g;
            }
        }
    }
}

/// `grad *= derivative`, both `[B,n]`; the sum over rows is added to `sum [n]`.
pub fn derivative_backward(grad: &Tensor, derivative: &Tensor, sum: &Tensor) {
    if host(grad) {
        derivative_backward_cpu(elements_mut(grad), elements(derivative), elements_mut(sum));
    } else {
        let grad = grad.shallow_clone().g_mul_(derivative);
        let _ = sum.shallow_clone().g_add_(&grad.sum_dim_intlist(0i64, false, Kind::Float));
    }
}
