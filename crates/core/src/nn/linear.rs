//! Linear layers of G groups: group g maps columns `g*in..(g+1)*in` of the input to columns `g*out..(g+1)*out` of the output with its
//! own weight. A plain layer is G = 1; a layer of an ensemble is G = E.

use super::{kernels, matmul};
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

fn width(tensor: &Tensor, groups: i64) -> i64 {
    tensor.size()[1] / groups
}

fn group(tensor: &Tensor, index: i64, groups: i64) -> Tensor {
    let width = width(tensor, groups);
    tensor.narrow(1, index * width, width)
}

/// `out = activation(input weight^T + bias)`: `input [B,G*in]`, `weight [G,out,in]`, `bias [G,out]`, `out [B,G*out]`. For the parameters only
/// the number of elements counts. `out` may be a strided view.
pub(super) fn forward(
    out: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    groups: i64,
    activation: Activation,
) {
    product(out, input, weight, groups);
    match activation {
        Activation::Identity => _ = out.shallow_clone().g_add_(&bias.view([-1])),
        // One pass for both; libtorch would write the bias into `out` before the product and pass over it again after it.
        Activation::Relu => kernels::bias_relu(out, bias),
        Activation::Tanh => _ = out.shallow_clone().g_add_(&bias.view([-1])).tanh_(),
    }
}

/// `out = input weight^T`, as [`forward`] without bias and activation: for whoever adds the bias in a pass of its own.
pub(super) fn product(out: &Tensor, input: &Tensor, weight: &Tensor, groups: i64) {
    let weight = weight.view([groups, width(out, groups), width(input, groups)]);
    for g in 0..groups {
        matmul::forward(&group(out, g, groups), &group(input, g, groups), &weight.select(0, g));
    }
}

/// Gradient for the input, `out [B,G*in]`, of `grad [B,G*out]`, carried on through the function the input comes from.
pub(super) fn input_gradient(out: &Tensor, grad: &Tensor, weight: &Tensor, groups: i64, through: Through) {
    let weight = weight.view([groups, width(grad, groups), width(out, groups)]);
    for g in 0..groups {
        matmul::input_gradient(&group(out, g, groups), &group(grad, g, groups), &weight.select(0, g));
    }
    let mut out = out.shallow_clone();
    match through {
        Through::Nothing => {}
        Through::Relu(active) => kernels::relu_backward(&out, active),
        Through::Derivative(derivative) => _ = out.g_mul_(derivative),
    }
}

/// Gradients for the parameters: `weight_grad [G,out,in]` and `bias_grad [G,out]` are overwritten.
pub(super) fn parameter_gradients(
    grad: &Tensor,
    input: &Tensor,
    weight_grad: &Tensor,
    bias_grad: &Tensor,
    groups: i64,
) {
    let weight_grad = weight_grad.view([groups, width(grad, groups), width(input, groups)]);
    for g in 0..groups {
        matmul::weight_gradient(&weight_grad.select(0, g), &group(grad, g, groups), &group(input, g, groups));
    }
    let _ = grad.sum_intlist_out(&bias_grad.view([-1]), 0i64, false, Kind::Float);
}
