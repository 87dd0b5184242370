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

/// Adds `term` of the elements of slices of one length in [`LANES`] partial sums.
#[inline(always)]
pub(super) fn sum_of<const N: usize>(slices: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    // Chunks of a length the compiler knows: an index it had to check would keep it from vectorising.
    let chunks = slices.map(|slice| slice.as_chunks::<LANES>());
    let mut partial = [0f32; LANES];
    for i in 0..chunks[0].0.len() {
        let lines = chunks.map(|(lines, _)| &lines[i]);
        for (lane, sum) in partial.iter_mut().enumerate() {
            *sum += term(lines.map(|line| line[lane]));
        }
    }
    let rest: f32 = (0..chunks[0].1.len()).map(|i| term(chunks.map(|(_, rest)| rest[i]))).sum();
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

fn range(&(offset, len): &Span) -> std::ops::Range<usize> {
    offset as usize..(offset + len) as usize
}

fn check(tensor: &Tensor) {
    assert!(
        tensor.kind() == Kind::Float && host(tensor) && tensor.is_contiguous(),
        "a fused kernel needs a contiguous f32 CPU tensor, got {:?} {:?}",
        tensor.kind(),
        tensor.size()
    );
}

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
            let centre = sum_of([x], |[x]| x) / width as f32;
            let variance = sum_of([x], |[x]| (x - centre) * (x - centre)) / width as f32;
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

multiversion! {
    fn scalar_head_cpu(hidden: &[f32], weight: &[f32], bias: f32, out: &mut [f32], members: usize, member: usize) {
        let (whole, rest) = weight.split_at(weight.len() / LANES * LANES);
        for (h, out) in hidden.chunks_exact(weight.len()).zip(out.chunks_exact_mut(members)) {
            let mut partial = [0f32; LANES];
            for (h, w) in h.chunks_exact(LANES).zip(whole.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    partial[lane] += h[lane] * w[lane];
                }
            }
            let rest: f32 = h[whole.len()..].iter().zip(rest).map(|(h, w)| h * w).sum();
            out[member] = partial.iter().sum::<f32>() + rest + bias;
        }
    }
}

multiversion! {
    fn scalar_head_backward_cpu(grad: &mut [f32], weight: &[f32], grad_out: &[f32]) {
        for (grad, &scale) in grad.chunks_exact_mut(weight.len()).zip(grad_out) {
            for (h, &w) in grad.iter_mut().zip(weight) {
                *h = if *h > 0.0 { scale * w } else { 0.0 };
            }
        }
    }
}

multiversion! {
    fn scalar_head_gradients_cpu(grad: &mut [f32], weight: &[f32], grad_out: &[f32], weight_grad: &mut [f32]) {
        for (grad, &scale) in grad.chunks_exact_mut(weight.len()).zip(grad_out) {
            for ((h, &w), sum) in grad.iter_mut().zip(weight).zip(weight_grad.iter_mut()) {
                *sum += scale * *h;
                *h = if *h > 0.0 { scale * w } else { 0.0 };
            }
        }
    }
}

/// The scalar head of one member: `out[b,member] = <hidden[b,:], weight> + bias` for `hidden [B,h]`, `weight [1,h]`, `bias [1]`, `out [B,E]`.
pub fn scalar_head(hidden: &Tensor, weight: &Tensor, bias: &Tensor, out: &Tensor, member: usize) {
    if host(hidden) {
        let members = out.size()[1] as usize;
        scalar_head_cpu(elements(hidden), elements(weight), elements(bias)[0], elements_mut(out), members, member);
    } else {
        out.narrow(1, member as i64, 1).copy_(&(hidden.mm(&weight.tr()) + bias));
    }
}

/// `to [N,h]` becomes `rows` of `from [B,h]`, both contiguous and on the CPU.
pub fn pick_rows(from: &Tensor, rows: &[i64], to: &Tensor) {
    /// Rows that are fetched before they are copied: no processor foresees which.
    const AHEAD: usize = 4;
    let width = from.size()[1] as usize;
    let from = elements(from);
    let row = |n: usize| &from[rows[n] as usize * width..][..width];
    for (n, to) in elements_mut(to).chunks_exact_mut(width).enumerate() {
        #[cfg(target_arch = "x86_64")]
        if n + AHEAD < rows.len() {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            for line in row(n + AHEAD).chunks(LANES) {
                // SAFETY: every x86-64 processor has the instruction, which reads nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
            }
        }
        to.copy_from_slice(row(n));
    }
}

/// Backward of [`scalar_head`] and of the ReLU before it: `grad [B,h]`, which may be `hidden [B,h]`, becomes `grad_out[b] weight` where `hidden` is
/// above 0, else 0; `grad_out [B,1]`. Gradients of weight and bias are written to `parameters`.
pub fn scalar_head_backward(
    hidden: &Tensor,
    weight: &Tensor,
    grad_out: &Tensor,
    grad: &Tensor,
    parameters: Option<(&Tensor, &Tensor)>,
) {
    if let Some((_, bias_grad)) = parameters {
        let _ = grad_out.sum_intlist_out(bias_grad, 0i64, false, Kind::Float);
    }
    if !host(hidden) {
        if let Some((weight_grad, _)) = parameters {
            let _ = grad_out.tr().mm_out(weight_grad, hidden);
        }
        grad.shallow_clone().copy_(&hidden.threshold_backward(&(grad_out * weight), 0.0));
        return;
    }
    let (weight, grad_out) = (elements(weight), elements(grad_out));
    let mut sums = parameters.map(|(weight_grad, _)| elements_mut(weight_grad));
    if let Some(sums) = &mut sums {
        sums.fill(0.0);
    }
    let mut backward = |grad: &mut [f32], grad_out: &[f32]| match &mut sums {
        Some(sums) => scalar_head_gradients_cpu(grad, weight, grad_out, sums),
        None => scalar_head_backward_cpu(grad, weight, grad_out),
    };
    if hidden.data_ptr() == grad.data_ptr() {
        return backward(elements_mut(grad), grad_out);
    }
    // A row is copied to where its gradient comes, which takes its place.
    let rows = elements(hidden).chunks_exact(weight.len()).zip(elements_mut(grad).chunks_exact_mut(weight.len()));
    for ((from, to), grad_out) in rows.zip(grad_out.chunks_exact(1)) {
        to.copy_from_slice(from);
        backward(to, grad_out);
    }
}

multiversion! {
    fn layer_norm_backward_cpu(input: &[f32], mean: &[f32], rstd: &[f32], weight: &[f32], grad: &mut [f32], weight_grad: &mut [f32], bias_grad: &mut [f32]) {
        let width = weight.len();
        let (weight_grad, bias_grad) = (&mut weight_grad[..width], &mut bias_grad[..width]);
        for ((x, g), (&mean, &rstd)) in input.chunks_exact(width).zip(grad.chunks_exact_mut(width)).zip(mean.iter().zip(rstd)) {
            // Slices of one length without a bound to check: the loops vectorise.
            let (x, g) = (&x[..width], &mut g[..width]);
            let parameters = weight_grad.iter_mut().zip(bias_grad.iter_mut());
            for ((&x, &g), (weight_grad, bias_grad)) in x.iter().zip(g.iter()).zip(parameters) {
                *weight_grad += g * ((x - mean) * rstd);
                *bias_grad += g;
            }
            let sum = sum_of([g, weight], |[g, w]| g * w) / width as f32;
            let dot = sum_of([g, weight, x], |[g, w, x]| g * w * ((x - mean) * rstd)) / width as f32;
            for ((g, &x), &w) in g.iter_mut().zip(x).zip(weight) {
                *g = rstd * (*g * w - sum - (x - mean) * rstd * dot);
            }
        }
    }
}

/// Backward of a layer norm over the last dimension: `grad [B,h]` becomes the gradient of `input [B,h]`; `mean`, `rstd [B,1]` are the
/// forward pass's. `weight_grad`, `bias_grad [h]` are added to.
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
        let _ = weight_grad.shallow_clone().g_add_(&(&*grad * &normal).sum_dim_intlist(0i64, false, Kind::Float));
        let _ = bias_grad.shallow_clone().g_add_(&grad.sum_dim_intlist(0i64, false, Kind::Float));
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

/// Where some parameters lie in a flat vector: offset and length.
pub type Span = (i64, i64);

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

multiversion! {
    fn squared_error_cpu(values: &[f32], target: &[f32], member: usize, scale: f32, grad: &mut [f32], sum: &mut f64) {
        let (members, targets) = (values.len() / grad.len(), target.len() / grad.len());
        let rows = values.chunks_exact(members).zip(target.chunks_exact(targets));
        for ((values, target), grad) in rows.zip(grad) {
            let error = values[member] - target[member.min(targets - 1)];
            *grad = error * scale;
            *sum += f64::from(error * error);
        }
    }
}

/// Sum over rows of the squared error of one member of `values [B,E]` against `target [B,1]`, which is everybody's, or `[B,E]`; `grad [B,1]`
/// becomes the error times `scale`.
pub fn squared_error(values: &Tensor, target: &Tensor, member: i64, scale: f64, grad: &Tensor) -> f64 {
    if host(values) {
        let mut sum = 0.0;
        let target = elements(target);
        squared_error_cpu(elements(values), target, member as usize, scale as f32, elements_mut(grad), &mut sum);
        sum
    } else {
        let error = values.narrow(1, member, 1) - target.narrow(1, member.min(target.size()[1] - 1), 1);
        grad.shallow_clone().copy_(&(&error * scale));
        error.square().sum(Kind::Double).double_value(&[])
    }
}

multiversion! {
    fn gaussian_fit_cpu(outputs: &[f32], target: &[f32], weight: &[f32], low: f32, high: f32, grad: &mut [f32], sum: &mut f64) {
        const HALF_LOG_TWO_PI: f32 = 0.918_938_5;
        let columns = target.len() / weight.len();
        let scale = 1.0 / weight.len() as f32;
        let rows = outputs.chunks_exact(2 * columns).zip(target.chunks_exact(columns)).zip(weight);
        for (((output, target), &weight), grad) in rows.zip(grad.chunks_exact_mut(2 * columns)) {
            let (mu, raw) = output.split_at(columns);
            let (mu_grad, raw_grad) = grad.split_at_mut(columns);
            let mut loss = 0.0;
            for ((&mu, &raw), &target) in mu.iter().zip(raw).zip(target) {
                let normal = (target - mu) * exp(-raw.clamp(low, high));
                loss += 0.5 * normal * normal + raw.clamp(low, high) + HALF_LOG_TWO_PI;
            }
            for (((&mu, &raw), &target), (mu_grad, raw_grad)) in
                mu.iter().zip(raw).zip(target).zip(mu_grad.iter_mut().zip(raw_grad))
            {
                let inverse = exp(-raw.clamp(low, high));
                let normal = (target - mu) * inverse;
                *mu_grad = -scale * weight * normal * inverse;
                *raw_grad = if raw >= low && raw <= high { scale * weight * (1.0 - normal * normal) } else { 0.0 };
            }
            *sum += f64::from(weight * loss);
        }
    }
}

/// Mean over rows of `weight [B,1]` times the negative log density of `target [B,A]` under the Gaussians `outputs [B,2A]`, [mu | log sigma] with log sigma
/// clamped to `range`; `grad [B,2A]` becomes the gradient for `outputs`. All contiguous.
pub fn gaussian_fit(outputs: &Tensor, target: &Tensor, weight: &Tensor, range: (f64, f64), grad: &Tensor) -> f64 {
    let rows = weight.size()[0];
    if host(outputs) {
        let (low, high) = (range.0 as f32, range.1 as f32);
        let mut sum = 0.0;
        let (outputs, target, weight) = (elements(outputs), elements(target), elements(weight));
        gaussian_fit_cpu(outputs, target, weight, low, high, elements_mut(grad), &mut sum);
        return sum / rows as f64;
    }
    let columns = target.size()[1];
    let (mu, raw) = (outputs.narrow(1, 0, columns), outputs.narrow(1, columns, columns));
    let log_std = raw.clamp(range.0, range.1);
    let inverse = (-&log_std).exp();
    let normal = (target - mu) * &inverse;
    let inside = raw.ge(range.0).logical_and(&raw.le(range.1));
    let scaled = weight / rows as f64;
    grad.narrow(1, 0, columns).copy_(&(-&scaled * &normal * inverse));
    grad.narrow(1, columns, columns).copy_(&((1.0 - normal.square()) * &scaled * inside));
    let terms = normal.square() * 0.5 + log_std + 0.5 * (2.0 * std::f64::consts::PI).ln();
    (terms * scaled).sum(Kind::Double).double_value(&[])
}

/// The rows of `tensor [B,n]` on the CPU that are not all 0; NaN is not 0.
pub fn rows_not_zero(tensor: &Tensor) -> Vec<i64> {
    let tensor = tensor.contiguous();
    let rows = elements(&tensor).chunks_exact(tensor.size()[1] as usize);
    (0..).zip(rows).filter_map(|(i, row)| row.iter().any(|&x| x != 0.0).then_some(i)).collect()
}

#[cfg(test)]
mod tests;
