//! Fused element-wise passes on contiguous f32 tensors.
//!
//! On the CPU they run in Rust, compiled for the instruction sets found at run time: libtorch's Mish needs 7 ns an element (a
//! scalar log1p), this one below 1 ns; Adam written in tensor operations reads and writes the vectors eleven times, here once.
//! On any other device the same formulas are tensor operations.

use drcorl_actor::math::{exp, normal_cdf};
use tch::{Device, Kind, Tensor};

/// Compiles `$body` for AVX-512, AVX2+FMA and the baseline, and picks at run time. In it, `FMA` says whether the processor fuses
/// multiplication and addition; see [`multiply_add`].
macro_rules! multiversion {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn generic<const FMA: bool>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
                fn avx512($($arg: $ty),*) { generic::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) { generic::<true>($($arg),*) }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512dq") {
                    // SAFETY: the features named by the attribute were detected above.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            generic::<false>($($arg),*)
        }
    };
}
pub(super) use multiversion;

/// `a * b + c`, fused where that is an instruction and not a call.
#[inline(always)]
pub(super) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// Floats of the widest vector register. Sums keep so many partial ones: a fixed order that vectorises.
pub(super) const LANES: usize = 16;

/// Adds `term(i)` for `i` below `count` in [`LANES`] partial sums.
#[inline(always)]
fn sum_of(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut partial = [0f32; LANES];
    let whole = count - count % LANES;
    for from in (0..whole).step_by(LANES) {
        for (lane, sum) in partial.iter_mut().enumerate() {
            *sum += term(from + lane);
        }
    }
    let rest: f32 = (whole..count).map(term).sum();
    across(partial, |a, b| a + b) + rest
}

/// All lanes by `join`, as a tree: a chain of sixteen would take as long as the sums before it.
#[inline(always)]
pub(super) fn across(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

pub(super) fn host(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu
}

/// The elements of a contiguous f32 CPU tensor.
pub(super) fn elements(tensor: &Tensor) -> &[f32] {
    check(tensor);
    // SAFETY: `check` has established kind, device and density; the tensor outlives the borrow.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const f32, tensor.numel()) }
}

/// As [`elements`], for writing. The caller must not hold another slice of the same storage.
#[allow(clippy::mut_from_ref)]
pub(super) fn elements_mut(tensor: &Tensor) -> &mut [f32] {
    check(tensor);
    // SAFETY: as in `elements`; every caller below passes distinct storages for the tensors it reads and writes.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, tensor.numel()) }
}

fn check(tensor: &Tensor) {
    assert!(
        tensor.kind() == Kind::Float && host(tensor) && tensor.is_contiguous(),
        "a fused kernel needs a contiguous f32 CPU tensor, got {:?} {:?}",
        tensor.kind(),
        tensor.size()
    );
}

/// tanh(softplus(x)) = n / (n + 2) with n = e^x (e^x + 2), and the logistic function of x.
#[inline(always)]
fn mish_parts(x: f32) -> (f32, f32) {
    let e = exp(x.min(20.0));
    let n = e * (e + 2.0);
    (n / (n + 2.0), e / (1.0 + e))
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
    fn layer_norm_cpu(input: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32], mean: &mut [f32], rstd: &mut [f32]) {
        let width = weight.len();
        let rows = input.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(mean.iter_mut().zip(rstd));
        for ((x, y), (mean, rstd)) in rows {
            // Slices of one length without a bound to check: the loops vectorise.
            let (x, y) = (&x[..width], &mut y[..width]);
            let centre = sum_of(width, |j| x[j]) / width as f32;
            let variance = sum_of(width, |j| (x[j] - centre) * (x[j] - centre)) / width as f32;
            let scale = 1.0 / (variance + eps).sqrt();
            for ((y, &x), (&w, &b)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
                *y = (x - centre) * scale * w + b;
            }
            (*mean, *rstd) = (centre, scale);
        }
    }
}

/// `out = (input - mean) rstd weight + bias` over the last dimension of `input [B,h]`; `mean`, `rstd [B,1]` are overwritten.
pub fn layer_norm(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    out: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
) {
    if host(input) {
        layer_norm_cpu(
            elements(input),
            elements(weight),
            elements(bias),
            eps as f32,
            elements_mut(out),
            elements_mut(mean),
            elements_mut(rstd),
        );
    } else {
        let width = weight.size()[0];
        let (y, m, r) = input.native_layer_norm([width], Some(weight), Some(bias), eps);
        out.shallow_clone().copy_(&y);
        mean.shallow_clone().copy_(&m);
        rstd.shallow_clone().copy_(&r);
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
    fn bias_relu_cpu(x: &mut [f32], bias: &[f32]) {
        for row in x.chunks_exact_mut(bias.len()) {
            for (x, &b) in row.iter_mut().zip(bias) {
                *x = (*x + b).max(0.0);
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
    fn scalar_head_cpu(hidden: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
        let (members, width) = (bias.len(), weight.len() / bias.len());
        for (row, out) in hidden.chunks_exact(members * width).zip(out.chunks_exact_mut(members)) {
            for member in 0..members {
                let (h, w) = (&row[member * width..][..width], &weight[member * width..][..width]);
                // Sixteen partial sums: a fixed order, wide enough for one vector register.
                let mut partial = [0f32; 16];
                let mut chunks = h.chunks_exact(16).zip(w.chunks_exact(16));
                for (h, w) in &mut chunks {
                    for lane in 0..16 {
                        partial[lane] += h[lane] * w[lane];
                    }
                }
                let done = width / 16 * 16;
                let rest: f32 = h[done..].iter().zip(&w[done..]).map(|(h, w)| h * w).sum();
                out[member] = partial.iter().sum::<f32>() + rest + bias[member];
            }
        }
    }
}

multiversion! {
    fn scalar_head_backward_cpu(hidden: &[f32], weight: &[f32], grad_out: &[f32], grad_hidden: &mut [f32]) {
        let row = weight.len();
        let members = grad_out.len() * row / hidden.len();
        let width = row / members;
        let rows = hidden.chunks_exact(row).zip(grad_out.chunks_exact(members)).zip(grad_hidden.chunks_exact_mut(row));
        for ((h, g), d) in rows {
            let parts = h.chunks_exact(width).zip(weight.chunks_exact(width)).zip(d.chunks_exact_mut(width));
            for (((h, w), d), &scale) in parts.zip(g) {
                // Slices of one length without an index: the loop vectorises.
                for ((d, &h), &w) in d.iter_mut().zip(h).zip(w) {
                    *d = if h > 0.0 { scale * w } else { 0.0 };
                }
            }
        }
    }
}

/// Scalar heads of an ensemble: `out[b,e] = <hidden[b,e,:], weight[e,:]> + bias[e]` for `hidden [B,E*h]`, `weight [E,1,h]`, `bias [E,1]`.
pub fn scalar_head(hidden: &Tensor, weight: &Tensor, bias: &Tensor, out: &Tensor) {
    if host(hidden) {
        scalar_head_cpu(elements(hidden), elements(weight), elements(bias), elements_mut(out));
    } else {
        let members = bias.size()[0];
        let products = hidden.view([hidden.size()[0], members, -1]) * weight.squeeze_dim(1);
        let sums = products.sum_dim_intlist(2i64, false, Kind::Float) + bias.squeeze_dim(1);
        out.shallow_clone().copy_(&sums);
    }
}

/// Backward of [`scalar_head`] into the ReLU layer before it: `grad_hidden[b,e,:] = grad_out[b,e] weight[e,:]` where `hidden > 0`, else 0.
pub fn scalar_head_backward(hidden: &Tensor, weight: &Tensor, grad_out: &Tensor, grad_hidden: &Tensor) {
    if host(hidden) {
        scalar_head_backward_cpu(elements(hidden), elements(weight), elements(grad_out), elements_mut(grad_hidden));
    } else {
        let members = weight.size()[0];
        let product = (grad_out.unsqueeze(2) * weight.squeeze_dim(1)).view([-1, members * weight.size()[2]]);
        grad_hidden.shallow_clone().copy_(&hidden.threshold_backward(&product, 0.0));
    }
}

multiversion! {
    fn layer_norm_backward_cpu(input: &[f32], mean: &[f32], rstd: &[f32], weight: &[f32], grad: &mut [f32], weight_grad: &mut [f32], bias_grad: &mut [f32]) {
        let width = weight.len();
        weight_grad.fill(0.0);
        bias_grad.fill(0.0);
        let (weight_grad, bias_grad) = (&mut weight_grad[..width], &mut bias_grad[..width]);
        for ((x, g), (&mean, &rstd)) in input.chunks_exact(width).zip(grad.chunks_exact_mut(width)).zip(mean.iter().zip(rstd)) {
            // Slices of one length without a bound to check: the loops vectorise.
            let (x, g) = (&x[..width], &mut g[..width]);
            let parameters = weight_grad.iter_mut().zip(bias_grad.iter_mut());
            for ((&x, &g), (weight_grad, bias_grad)) in x.iter().zip(g.iter()).zip(parameters) {
                *weight_grad += g * ((x - mean) * rstd);
                *bias_grad += g;
            }
            let sum = sum_of(width, |j| g[j] * weight[j]) / width as f32;
            let dot = sum_of(width, |j| g[j] * weight[j] * ((x[j] - mean) * rstd)) / width as f32;
            for ((g, &x), &w) in g.iter_mut().zip(x).zip(weight) {
                *g = rstd * (*g * w - sum - (x - mean) * rstd * dot);
            }
        }
    }
}

/// Backward of a layer norm over the last dimension: `grad [B,h]` becomes the gradient of `input [B,h]`; `mean`, `rstd [B,1]` are the
/// forward pass's. `weight_grad`, `bias_grad [h]` are overwritten.
pub fn layer_norm_backward(
    input: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: &Tensor,
    grad: &mut Tensor,
    weight_grad: &Tensor,
    bias_grad: &Tensor,
) {
    if host(input) {
        let (weight_grad, bias_grad) = (elements_mut(weight_grad), elements_mut(bias_grad));
        layer_norm_backward_cpu(
            elements(input),
            elements(mean),
            elements(rstd),
            elements(weight),
            elements_mut(grad),
            weight_grad,
            bias_grad,
        );
    } else {
        let normal = (input - mean) * rstd;
        weight_grad.shallow_clone().copy_(&(&*grad * &normal).sum_dim_intlist(0i64, false, Kind::Float));
        bias_grad.shallow_clone().copy_(&grad.sum_dim_intlist(0i64, false, Kind::Float));
        let scaled = &*grad * weight;
        let mean_of = |x: &Tensor| x.mean_dim(1i64, true, Kind::Float);
        let result = (&scaled - mean_of(&scaled) - &normal * mean_of(&(&scaled * &normal))) * rstd;
        grad.copy_(&result);
    }
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

/// One Adam(W) step on flat vectors: both moments and the parameters in one pass.
pub fn adam(value: &mut Tensor, grad: &Tensor, first: &mut Tensor, second: &mut Tensor, s: AdamScalars) {
    if host(value) {
        adam_cpu(elements_mut(value), elements(grad), elements_mut(first), elements_mut(second), s);
    } else {
        let _ = first.lerp_(grad, f64::from(1.0 - s.beta1));
        let _ = second.g_mul_scalar_(f64::from(s.beta2));
        second.copy_(&(&*second + grad * grad * f64::from(1.0 - s.beta2)));
        let denominator = second.sqrt() * f64::from(s.second_correction) + f64::from(s.eps);
        let _ = value.g_mul_scalar_(f64::from(s.decay));
        value.copy_(&(&*value - &*first / denominator * f64::from(s.step_size)));
    }
}

multiversion! {
    fn ema_cpu(target: &mut [f32], source: &[f32], rate: f32) {
        for (t, &s) in target.iter_mut().zip(source) {
            *t += (s - *t) * rate;
        }
    }
}

/// `target += rate (source - target)` on flat vectors.
pub fn ema(target: &mut Tensor, source: &Tensor, rate: f64) {
    if host(target) {
        ema_cpu(elements_mut(target), elements(source), rate as f32);
    } else {
        let _ = target.lerp_(source, rate);
    }
}

#[cfg(test)]
mod tests;
