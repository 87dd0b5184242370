//! Layer norms.

use super::{elements, elements_mut, host, multiversion, sum_of};
use tch::{Kind, Tensor};

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
