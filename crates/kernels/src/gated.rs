//! The last two layers of a network with one number as output, `v = <relu(W x + b), w> + c`,
//! where the matrix unit multiplies.
//!
//! A ReLU is open or shut. With the ones and zeros M of its gates, `[B,n]`, and `s = dloss/dv [B]`, the gradient at its
//! input is `diag(s) M diag(w)`, so that
//!
//! - `dloss/dx = diag(s) M diag(w) W`;
//! - `dW = diag(w) G`, `db = w t` with `G = M^T diag(s) x` and `t = M^T s`;
//! - `dw = rowsum(W G) + b t`, because `relu(W x + b) = M (W x + b)` row by row, and `dc = sum(s)`.
//!
//! One factor of both products is ones and zeros, of which the unit makes products in half of the time; at a lower
//! [`Precision`] than the highest it takes two thirds, or all of it. Neither the layer's output nor the gradient there
//! is ever in memory: the backward pass needs a bit of each element.

use crate::gemm::{self, Active, Finish, Gates, Kernel, Matrix, MatrixMut, Precision, ScalarHead};
use crate::heads::finish_gradients;
use crate::InstructionSet;

/// The formulas, of one row, by the chain rule as one writes it down.
pub mod plain {
    use super::Layers;

    /// `relu(W x + b)` and v.
    pub fn forward(layers: &Layers, x: &[f32]) -> (Vec<f64>, f64) {
        let hidden = crate::affine::plain::affine(layers.weight, layers.bias, true, x);
        let value = hidden.iter().zip(layers.head).map(|(h, &w)| h * f64::from(w)).sum::<f64>();
        (hidden, value + f64::from(layers.offset))
    }

    /// Gradients for x, W, b and w of `scale` times v.
    pub fn backward(layers: &Layers, x: &[f32], scale: f32) -> [Vec<f64>; 4] {
        let (hidden, _) = forward(layers, x);
        let scale = f64::from(scale);
        let gate = |(h, &w): (&f64, &f32)| if *h > 0.0 { scale * f64::from(w) } else { 0.0 };
        let inner: Vec<f64> = hidden.iter().zip(layers.head).map(gate).collect();
        let rows = || layers.weight.chunks_exact(x.len()).zip(&inner);
        let input = (0..x.len()).map(|i| rows().map(|(row, g)| g * f64::from(row[i])).sum()).collect();
        let weight = inner.iter().flat_map(|g| x.iter().map(move |&x| g * f64::from(x))).collect();
        [input, weight, inner, hidden.iter().map(|h| scale * h).collect()]
    }
}

/// The parameters of both layers.
#[derive(Clone, Copy)]
pub struct Layers<'a> {
    /// W `[n,m]`.
    pub weight: &'a [f32],
    /// b `[n]`.
    pub bias: &'a [f32],
    /// w `[n]`.
    pub head: &'a [f32],
    /// c.
    pub offset: f32,
}

impl<'a> Layers<'a> {
    fn weight(&self) -> Matrix<'a> {
        Matrix::dense(self.weight, self.weight.len() / self.head.len())
    }
}

/// True if this processor makes layers of these widths so.
pub fn takes(widths: [usize; 2]) -> bool {
    Kernel::Amx(Precision::Highest).available() && gemm::takes_scalar_head(widths)
}

/// `values [B,1] = v(input [B,m])`; the gates of these rows are written to `gates` from a row on.
///
/// # Panics
/// Here and below, where [`takes`] says no, or sizes disagree.
pub fn forward(
    precision: Precision,
    values: MatrixMut,
    input: Matrix,
    layers: &Layers,
    gates: Option<(&mut Gates, usize)>,
) {
    let head = ScalarHead { bias: layers.bias, weight: layers.head, offset: layers.offset };
    gemm::scalar_head(precision, values, input, layers.weight().transposed(), head, gates);
}

/// `out [B,m]` becomes `dloss/dx` for `grad [B]` (s), carried on through the ReLU with the output `active [B,m]`.
pub fn input_gradient(
    precision: Precision,
    out: MatrixMut,
    grad: &[f32],
    gates: &Gates,
    layers: &Layers,
    active: Active,
) {
    let (gates, finish) = ((gates, false), Finish::ScaledRelu(grad, active));
    gemm::through_gates(precision, out, gates, layers.head, layers.weight(), finish);
}

/// The gradients of W `[n,m]`, b `[n]` and w `[n]`, overwritten, for `grad [B]` (s) and `input [B,m]`.
pub fn parameter_gradients(
    (set, precision): (InstructionSet, Precision),
    grad: &[f32],
    input: Matrix,
    gates: &Gates,
    layers: &Layers,
    [weight_grad, bias_grad, head_grad]: [&mut [f32]; 3],
) {
    if grad.is_empty() {
        weight_grad.fill(0.0);
    }
    let out = MatrixMut::dense(weight_grad, layers.weight().size()[1]);
    gemm::through_gates(precision, out, (gates, true), grad, input, Finish::Nothing);
    gates.weighted_sums(set, grad, bias_grad);
    finish_gradients(set, [layers.weight, layers.bias, layers.head], weight_grad, bias_grad, head_grad);
}
