//! Activations, their derivatives, and biases.

use super::parts::{over_columns, over_rows};
use crate::slices::{elements, host, Flat};
use drcorl_kernels::{activations as kernels, InstructionSet};
use tch::{Kind, Tensor};

/// `out = mish(x) = x tanh(log(1 + e^x))`, and `x` becomes the derivative there: the exponential is needed once, and
/// the backward pass is a product.
pub fn mish(x: &mut Tensor, out: &Tensor) {
    if host(x) {
        let (x, out) = (Flat::of(x), Flat::of(out));
        let pass = |at, len| kernels::mish(InstructionSet::best(), x.part_mut(at, len), out.part_mut(at, len));
        // SAFETY: here and below, a pass writes its elements of tensors that are not one.
        unsafe { over_rows(x.len(), 1, pass) };
    } else {
        let _ = x.mish_out(out);
        let derivative = x.mish_backward(&x.ones_like());
        x.copy_(&derivative);
    }
}

/// [`mish`] of `x [B,n] + bias [n]`.
pub fn bias_mish(x: &mut Tensor, bias: &Tensor, out: &Tensor) {
    if host(x) {
        let (x, bias, out) = (Flat::of(x), elements(bias), Flat::of(out));
        let pass =
            |at, len| kernels::bias_mish(InstructionSet::best(), x.part_mut(at, len), bias, out.part_mut(at, len));
        unsafe { over_rows(x.len(), bias.len(), pass) };
    } else {
        *x += bias;
        mish(x, out);
    }
}

/// `x = mish(x)`, the values of [`mish`] to rounding.
pub fn mish_in_place(x: &Tensor) {
    if host(x) {
        let x = Flat::of(x);
        let pass = |at, len| kernels::mish_in_place(InstructionSet::best(), x.part_mut(at, len));
        unsafe { over_rows(x.len(), 1, pass) };
    } else {
        x.shallow_clone().copy_(&x.mish());
    }
}

/// `out = gelu(x) = x Phi(x)` (the exact one, by the error function), and `x` becomes the derivative there.
pub fn gelu(x: &mut Tensor, out: &Tensor) {
    if host(x) {
        let (x, out) = (Flat::of(x), Flat::of(out));
        let pass = |at, len| kernels::gelu(InstructionSet::best(), x.part_mut(at, len), out.part_mut(at, len));
        unsafe { over_rows(x.len(), 1, pass) };
    } else {
        let _ = x.gelu_out(out, "none");
        let derivative = x.gelu_backward(&x.ones_like(), "none");
        x.copy_(&derivative);
    }
}

/// `x = relu(x + bias)` for `x [B,n]`, `bias` of n elements.
pub fn bias_relu(x: &Tensor, bias: &Tensor) {
    if host(x) {
        let (x, bias) = (Flat::of(x), elements(bias));
        let pass = |at, len| kernels::bias_relu(InstructionSet::best(), x.part_mut(at, len), bias);
        unsafe { over_rows(x.len(), bias.len(), pass) };
    } else {
        let _ = x.shallow_clone().g_add_(&bias.view([-1])).relu_();
    }
}

/// `grad` becomes 0 where the ReLU's output `active` (same shape) is 0.
pub fn relu_backward(grad: &Tensor, active: &Tensor) {
    if host(grad) {
        let (grad, active) = (Flat::of(grad), Flat::of(active));
        let pass =
            |at, len| kernels::relu_backward(InstructionSet::best(), grad.part_mut(at, len), active.part(at, len));
        unsafe { over_rows(grad.len(), 1, pass) };
    } else {
        grad.shallow_clone().copy_(&active.threshold_backward(grad, 0.0));
    }
}

/// `x += bias + base` for `x`, `base [B,n]`, `bias` of n elements.
pub fn bias_residual(x: &Tensor, bias: &Tensor, base: &Tensor) {
    if host(x) {
        let (x, bias, base) = (Flat::of(x), elements(bias), Flat::of(base));
        let pass =
            |at, len| kernels::bias_residual(InstructionSet::best(), x.part_mut(at, len), bias, base.part(at, len));
        unsafe { over_rows(x.len(), bias.len(), pass) };
    } else {
        let _ = x.shallow_clone().g_add_(bias).g_add_(base);
    }
}

/// `grad *= derivative`, both `[B,n]`; the sum over rows is added to `sum [n]`.
pub fn derivative_backward(grad: &Tensor, derivative: &Tensor, sum: &Tensor) {
    if host(grad) {
        let (grad, derivative, sum) = (Flat::of(grad), Flat::of(derivative), Flat::of(sum));
        let (len, width) = (grad.len(), sum.len());
        let pass = |first, count| {
            let (set, sum) = (InstructionSet::best(), sum.part_mut(first, count));
            if count == width {
                return kernels::derivative_backward(set, grad.part_mut(0, len), derivative.part(0, len), sum);
            }
            for at in (first..len).step_by(width) {
                kernels::derivative_backward(set, grad.part_mut(at, count), derivative.part(at, count), sum);
            }
        };
        unsafe { over_columns(len / width.max(1), width, pass) };
    } else {
        let grad = grad.shallow_clone().g_mul_(derivative);
        let _ = sum.shallow_clone().g_add_(&grad.sum_dim_intlist(0i64, false, Kind::Float));
    }
}
