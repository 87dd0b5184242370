//! Activations, their derivatives, and biases.

use crate::slices::{elements, elements_mut, host};
use drcorl_kernels::{activations as kernels, InstructionSet};
use tch::{Kind, Tensor};

/// `out = mish(x) = x tanh(log(1 + e^x))`, and `x` becomes the derivative there: the exponential is needed once, and
/// the backward pass is a product.
pub fn mish(x: &mut Tensor, out: &Tensor) {
    if host(x) {
        kernels::mish(InstructionSet::best(), elements_mut(x), elements_mut(out));
    } else {
        let _ = x.mish_out(out);
        let derivative = x.mish_backward(&x.ones_like());
        x.copy_(&derivative);
    }
}

/// [`mish`] of `x [B,n] + bias [n]`.
pub fn bias_mish(x: &mut Tensor, bias: &Tensor, out: &Tensor) {
    if host(x) {
        kernels::bias_mish(InstructionSet::best(), elements_mut(x), elements(bias), elements_mut(out));
    } else {
        *x += bias;
        mish(x, out);
    }
}

/// `x = mish(x)`, the values of [`mish`] to rounding.
pub fn mish_in_place(x: &Tensor) {
    if host(x) {
        kernels::mish_in_place(InstructionSet::best(), elements_mut(x));
    } else {
        x.shallow_clone().copy_(&x.mish());
    }
}

/// `out = gelu(x) = x Phi(x)` (the exact one, by the error function), and `x` becomes the derivative there.
pub fn gelu(x: &mut Tensor, out: &Tensor) {
    if host(x) {
        kernels::gelu(InstructionSet::best(), elements_mut(x), elements_mut(out));
    } else {
        let _ = x.gelu_out(out, "none");
        let derivative = x.gelu_backward(&x.ones_like(), "none");
        x.copy_(&derivative);
    }
}

/// `x = relu(x + bias)` for `x [B,n]`, `bias` of n elements.
pub fn bias_relu(x: &Tensor, bias: &Tensor) {
    if host(x) {
        kernels::bias_relu(InstructionSet::best(), elements_mut(x), elements(bias));
    } else {
        let _ = x.shallow_clone().g_add_(&bias.view([-1])).relu_();
    }
}

/// `grad` becomes 0 where the ReLU's output `active` (same shape) is 0.
pub fn relu_backward(grad: &Tensor, active: &Tensor) {
    if host(grad) {
        kernels::relu_backward(InstructionSet::best(), elements_mut(grad), elements(active));
    } else {
        grad.shallow_clone().copy_(&active.threshold_backward(grad, 0.0));
    }
}

/// `x += bias + base` for `x`, `base [B,n]`, `bias` of n elements.
pub fn bias_residual(x: &Tensor, bias: &Tensor, base: &Tensor) {
    if host(x) {
        kernels::bias_residual(InstructionSet::best(), elements_mut(x), elements(bias), elements(base));
    } else {
        let _ = x.shallow_clone().g_add_(bias).g_add_(base);
    }
}

/// `grad *= derivative`, both `[B,n]`; the sum over rows is added to `sum [n]`.
pub fn derivative_backward(grad: &Tensor, derivative: &Tensor, sum: &Tensor) {
    if host(grad) {
        let (grad, sum) = (elements_mut(grad), elements_mut(sum));
        kernels::derivative_backward(InstructionSet::best(), grad, elements(derivative), sum);
    } else {
        let grad = grad.shallow_clone().g_mul_(derivative);
        let _ = sum.shallow_clone().g_add_(&grad.sum_dim_intlist(0i64, false, Kind::Float));
    }
}
