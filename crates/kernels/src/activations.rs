//! Activations, their derivatives, and biases.
//!
//! A forward pass leaves the derivative where its input was: the exponential is needed once,
//! and the backward pass is a product.

use crate::instruction_set::multiversion;
use crate::math::{exp, normal_cdf};

/// The formulas.
pub mod plain {
    /// `mish(x) = x tanh(log(1 + e^x))` and its derivative (Misra, arXiv:1908.08681).
    pub fn mish(x: f64) -> (f64, f64) {
        let softplus = x.max(0.0) + (-x.abs()).exp().ln_1p();
        let (t, sigmoid) = (softplus.tanh(), 1.0 / (1.0 + (-x).exp()));
        (x * t, t + x * (1.0 - t * t) * sigmoid)
    }

    /// `gelu(x) = x Phi(x)`, Phi the standard normal distribution function, and its derivative (Hendrycks and Gimpel,
    /// arXiv:1606.08415).
    ///
    /// Phi by its Taylor series near 0, by the continued fraction of its tail elsewhere.
    pub fn gelu(x: f64) -> (f64, f64) {
        let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let t = x.abs();
        let tail = if t < 3.0 {
            let series = (1..200).fold((t, t), |(sum, term), n| {
                let term = term * t * t / f64::from(2 * n + 1);
                (sum + term, term)
            });
            0.5 - density * series.0
        } else {
            density / (1..200).rev().fold(t, |below, n| t + f64::from(n) / below)
        };
        let below = if x > 0.0 { 1.0 - tail } else { tail };
        (x * below, below + x * density)
    }

    /// `max(x, 0)`; NaN stays NaN.
    pub fn relu(x: f32) -> f32 {
        if x < 0.0 {
            0.0
        } else {
            x
        }
    }

    /// The gradient at a ReLU's input, whose output is `active`.
    pub fn relu_backward(grad: f32, active: f32) -> f32 {
        if active > 0.0 {
            grad
        } else {
            0.0
        }
    }
}

/// tanh(softplus(x)) = n / (n + 2) with n = e^x (e^x + 2), and the logistic function of x; with one division for both,
/// which takes as long as the rest.
#[inline(always)]
fn mish_parts(x: f32) -> (f32, f32) {
    let e = exp(x.min(20.0));
    let n = e * (e + 2.0);
    let (a, b) = (n + 2.0, 1.0 + e);
    let inverse = 1.0 / (a * b);
    (n * b * inverse, e * a * inverse)
}

multiversion! {
    /// `out = mish(x)`, and `x` becomes the derivative there; see [`plain::mish`].
    pub fn mish(x: &mut [f32], out: &mut [f32]) {
        for (y, x) in out.iter_mut().zip(x) {
            let (t, s) = mish_parts(*x);
            *y = *x * t;
            *x = t + *x * (1.0 - t * t) * s;
        }
    }
}

multiversion! {
    /// `x = mish(x)` to rounding, for no backward pass; see [`plain::mish`].
    pub fn mish_in_place(x: &mut [f32]) {
        x.iter_mut().for_each(|x| {
            let e = exp(x.min(20.0));
            let n = e * (e + 2.0);
            *x *= n / (n + 2.0);
        });
    }
}

multiversion! {
    /// [`mish`] of `x [B,n] + bias [n]`.
    pub fn bias_mish(x: &mut [f32], bias: &[f32], out: &mut [f32]) {
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

multiversion! {
    /// `out = gelu(x)`, and `x` becomes the derivative there; see [`plain::gelu`].
    pub fn gelu(x: &mut [f32], out: &mut [f32]) {
        const DENSITY: f32 = 0.398_942_3;
        for (y, x) in out.iter_mut().zip(x) {
            let v = *x;
            let below = normal_cdf(v);
            *y = v * below;
            *x = below + v * DENSITY * exp(-0.5 * v * v);
        }
    }
}

multiversion! {
    /// `x = gelu(x)`, the values of [`gelu`].
    pub fn gelu_in_place(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x *= normal_cdf(*x));
    }
}

multiversion! {
    /// `x = relu(x + bias)` for `x [B,n]`, `bias [n]`; see [`plain::relu`].
    pub fn bias_relu(x: &mut [f32], bias: &[f32]) {
        for row in x.chunks_exact_mut(bias.len()) {
            for (x, &b) in row.iter_mut().zip(bias) {
                // Lets NaN through: an overflow must not look like a dead unit.
                let v = *x + b;
                *x = if v < 0.0 { 0.0 } else { v };
            }
        }
    }
}

multiversion! {
    /// `grad` becomes 0 where the ReLU's output `active` (of its size) is 0; see [`plain::relu_backward`].
    pub fn relu_backward(grad: &mut [f32], active: &[f32]) {
        for (g, &a) in grad.iter_mut().zip(active) {
            *g = if a > 0.0 { *g } else { 0.0 };
        }
    }
}

multiversion! {
    /// `x += bias + base` for `x`, `base [B,n]`, `bias [n]`.
    pub fn bias_residual(x: &mut [f32], bias: &[f32], base: &[f32]) {
        for (x, base) in x.chunks_exact_mut(bias.len()).zip(base.chunks_exact(bias.len())) {
            for ((x, &b), &base) in x.iter_mut().zip(bias).zip(base) {
                *x = (*x + b) + base;
            }
        }
    }
}

multiversion! {
    /// `grad *= derivative`, both `[B,n]`; the sum over rows is added to `sum [n]`.
    pub fn derivative_backward(grad: &mut [f32], derivative: &[f32], sum: &mut [f32]) {
        for (grad, derivative) in grad.chunks_exact_mut(sum.len()).zip(derivative.chunks_exact(sum.len())) {
            for ((g, &d), sum) in grad.iter_mut().zip(derivative).zip(sum.iter_mut()) {
                *g *= d;
                *sum += *g;
            }
        }
    }
}
