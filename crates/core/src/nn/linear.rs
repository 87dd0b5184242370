//! Linear layers of G groups: group g maps columns `g*in..(g+1)*in` of the input to columns `g*out..(g+1)*out` of the output with its
//! own weight. A plain layer is G = 1; a layer of an ensemble is G = E.
//!
//! On a CPU with AVX-512 and one intra-op thread they run on [`gemm`](super::gemm); anywhere else on libtorch's products.

use tch::{Kind, Tensor};

/// What follows the product of a [`forward`] pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Identity,
    Relu,
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
    #[cfg(target_arch = "x86_64")]
    if host::forward(out, input, weight, bias, groups as usize, activation).is_some() {
        return;
    }
    let (weight, bias) = (weight.view([groups, width(out, groups), width(input, groups)]), bias.view([groups, -1]));
    for g in 0..groups {
        let _ =
            bias.select(0, g).addmm_out(&group(out, g, groups), &group(input, g, groups), &weight.select(0, g).tr());
    }
    if activation == Activation::Relu {
        let _ = out.shallow_clone().relu_();
    }
}

/// Gradient for the input, `out [B,G*in]`, of `grad [B,G*out]`, carried on through the function the input comes from.
pub(super) fn input_gradient(out: &Tensor, grad: &Tensor, weight: &Tensor, groups: i64, through: Through) {
    #[cfg(target_arch = "x86_64")]
    if host::input_gradient(out, grad, weight, groups as usize, through).is_some() {
        return;
    }
    let weight = weight.view([groups, width(grad, groups), width(out, groups)]);
    for g in 0..groups {
        let _ = group(grad, g, groups).mm_out(&group(out, g, groups), &weight.select(0, g));
    }
    let mut out = out.shallow_clone();
    match through {
        Through::Nothing => {}
        Through::Relu(active) => out.copy_(&active.threshold_backward(&out, 0.0)),
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
    #[cfg(target_arch = "x86_64")]
    if host::parameter_gradients(grad, input, weight_grad, bias_grad, groups as usize).is_some() {
        return;
    }
    let weight_grad = weight_grad.view([groups, width(grad, groups), width(input, groups)]);
    for g in 0..groups {
        let _ = group(grad, g, groups).tr().mm_out(&weight_grad.select(0, g), &group(input, g, groups));
    }
    let _ = grad.sum_intlist_out(&bias_grad.view([-1]), 0i64, false, Kind::Float);
}

/// The same three on the host. None: not here, nothing was done.
#[cfg(target_arch = "x86_64")]
mod host {
    use super::super::gemm::{available, product, Epilogue, View};
    use super::{Activation, Through};
    use tch::Tensor;

    /// Views of two matrices, where [`product`] may be used. With more threads libtorch's products, which divide themselves, are faster.
    fn views<'a>(a: &'a Tensor, b: &'a Tensor) -> Option<(View<'a>, View<'a>)> {
        if !available() || tch::get_num_threads() != 1 {
            return None;
        }
        Some((View::of(a)?, View::of(b)?))
    }

    pub fn forward(
        out: &Tensor,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        groups: usize,
        activation: Activation,
    ) -> Option<()> {
        let (target, source) = views(out, input)?;
        let (rows, columns) = (target.shape().1 / groups, source.shape().1 / groups);
        for g in 0..groups {
            let weight = View::of_flat(weight, g * rows * columns, rows, columns);
            let bias = View::of_flat(bias, g * rows, 1, rows);
            let epilogue = if activation == Activation::Relu { Epilogue::BiasRelu(bias) } else { Epilogue::Bias(bias) };
            product(
                target.columns(g * rows, rows),
                source.columns(g * columns, columns),
                weight.transposed(),
                epilogue,
                None,
            );
        }
        Some(())
    }

    pub fn input_gradient(out: &Tensor, grad: &Tensor, weight: &Tensor, groups: usize, through: Through) -> Option<()> {
        let (target, source) = views(out, grad)?;
        let (rows, columns) = (source.shape().1 / groups, target.shape().1 / groups);
        let other = match through {
            Through::Nothing => None,
            Through::Relu(other) | Through::Derivative(other) => Some(View::of(other)?),
        };
        for g in 0..groups {
            let weight = View::of_flat(weight, g * rows * columns, rows, columns);
            let epilogue = match (through, other.map(|other| other.columns(g * columns, columns))) {
                (Through::Relu(_), Some(active)) => Epilogue::Where(active),
                (_, Some(derivative)) => Epilogue::Times(derivative),
                (_, None) => Epilogue::None,
            };
            product(target.columns(g * columns, columns), source.columns(g * rows, rows), weight, epilogue, None);
        }
        Some(())
    }

    pub fn parameter_gradients(
        grad: &Tensor,
        input: &Tensor,
        weight_grad: &Tensor,
        bias_grad: &Tensor,
        groups: usize,
    ) -> Option<()> {
        let (grad, input) = views(grad, input)?;
        let (rows, columns) = (grad.shape().1 / groups, input.shape().1 / groups);
        for g in 0..groups {
            let target = View::of_flat(weight_grad, g * rows * columns, rows, columns);
            let sums = View::of_flat(bias_grad, g * rows, 1, rows);
            let left = grad.columns(g * rows, rows).transposed();
            product(target, left, input.columns(g * columns, columns), Epilogue::None, Some(sums));
        }
        Some(())
    }
}
