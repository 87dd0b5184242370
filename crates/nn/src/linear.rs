//! The passes of a linear layer, with what follows them.

use super::matmul::{self, After};
use super::ops;
use tch::{Kind, Tensor};

/// What follows the product of a [`forward`] pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// The bias is added.
    Identity,
    /// The bias is added, negative values become 0.
    Relu,
    /// The bias is added, then tanh.
    Tanh,
    /// The bias is added, then mish.
    Mish,
}

/// What an [`input_gradient`] is carried on through.
#[derive(Clone, Copy)]
pub(super) enum Through<'a> {
    Nothing,
    /// The ReLU with this output.
    Relu(&'a Tensor),
    /// A function with this derivative.
    Derivative(&'a Tensor),
}

/// `out = activation(input weight^T + bias)`: `input [B,in]`, `weight [out,in]`, `bias [out]`, `out [B,out]`. `out` and
/// `input` may be strided views; with [`Activation::Relu`], `out` is contiguous.
pub(super) fn forward(out: &Tensor, input: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) {
    let after = if activation == Activation::Relu { After::BiasRelu(bias) } else { After::Nothing };
    matmul::forward(out, input, weight, after);
    match activation {
        Activation::Relu => {}
        Activation::Identity => _ = out.shallow_clone().g_add_(bias),
        Activation::Tanh => _ = out.shallow_clone().g_add_(bias).tanh_(),
        Activation::Mish => ops::mish_in_place(&out.shallow_clone().g_add_(bias)),
    }
}

/// `out = mish(input weight^T + bias)` as [`forward`], and its derivative there in `slope [B,out]`.
/// Both are contiguous.
pub(super) fn forward_mish(out: &Tensor, slope: &Tensor, input: &Tensor, weight: &Tensor, bias: &Tensor) {
    matmul::forward(slope, input, weight, After::Nothing);
    ops::bias_mish(&mut slope.shallow_clone(), bias, out);
}

/// Gradient for the input, `out [B,in]`, of `grad [B,out]`, carried on through the function the input comes from.
pub(super) fn input_gradient(out: &Tensor, grad: &Tensor, weight: &Tensor, through: Through) {
    let after = if let Through::Relu(active) = through { After::Relu(active) } else { After::Nothing };
    matmul::input_gradient(out, grad, weight, after);
    if let Through::Derivative(derivative) = through {
        let _ = out.shallow_clone().g_mul_(derivative);
    }
}

/// Gradients for the parameters: `weight_grad [out,in]` and `bias_grad [out]` are overwritten.
pub(super) fn parameter_gradients(grad: &Tensor, input: &Tensor, weight_grad: &Tensor, bias_grad: &Tensor) {
    matmul::weight_gradient(weight_grad, grad, input, After::Nothing);
    let _ = grad.sum_intlist_out(bias_grad, 0i64, false, Kind::Float);
}

/// [`parameter_gradients`] added to `weight_grad` and `bias_grad`, for passes that go through their batch in parts.
pub(super) fn add_parameter_gradients(grad: &Tensor, input: &Tensor, weight_grad: &Tensor, bias_grad: &Tensor) {
    matmul::weight_gradient(weight_grad, grad, input, After::Add);
    let _ = bias_grad.shallow_clone().g_add_(&grad.sum_dim_intlist(0i64, false, Kind::Float));
}
