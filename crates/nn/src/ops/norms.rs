//! Layer norms.

use super::parts::over_rows;
use crate::slices::{elements, elements_mut, host, Flat};
use drcorl_kernels::{norms as kernels, InstructionSet};
use tch::{Kind, Tensor};

/// `out = (input - mean) rstd weight + bias` over the last dimension of `input [B,h]`;
/// `mean`, `rstd [B,1]` are overwritten.
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
        let [weight, bias] = [weight, bias].map(elements);
        let width = weight.len();
        let [input, out, mean, rstd] = [input, out, mean, rstd].map(Flat::of);
        let pass = |at, len| {
            let [mean, rstd] = [mean, rstd].map(|rows| rows.part_mut(at / width, len / width));
            let (input, out) = (input.part(at, len), out.part_mut(at, len));
            kernels::layer_norm(InstructionSet::best(), input, weight, bias, eps as f32, out, mean, rstd);
        };
        // SAFETY: a pass writes its rows of tensors that are not one.
        unsafe { over_rows(input.len(), width, pass) };
    } else {
        let width = weight.size()[0];
        let (y, m, r) = input.native_layer_norm([width], Some(weight), Some(bias), eps);
        out.shallow_clone().copy_(&y);
        mean.shallow_clone().copy_(&m);
        rstd.shallow_clone().copy_(&r);
    }
}

/// Backward of a layer norm over the last dimension: `grad [B,h]` becomes the gradient of `input [B,h]`; `mean`,
/// `rstd [B,1]` are the forward pass's. `weight_grad`, `bias_grad [h]` are added to.
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
        let [grad, weight_grad, bias_grad] = [&*grad, weight_grad, bias_grad].map(elements_mut);
        let [input, mean, rstd, weight] = [input, mean, rstd, weight].map(elements);
        kernels::layer_norm_backward(InstructionSet::best(), input, mean, rstd, weight, grad, weight_grad, bias_grad);
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
