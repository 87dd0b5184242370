//! The last two layers of a network with one number as output, `v = <relu(W x + b), w> + c`, where the matrix unit
//! multiplies: tensors for [`drcorl_kernels::gated`], which has the equations.

use super::slices::{elements, elements_mut, matrix, matrix_mut};
use super::{matmul, precision, profile};
use drcorl_kernels::gemm::{Active, Gates, Kernel};
use drcorl_kernels::{gated, InstructionSet};
use tch::{Kind, Tensor};

/// The parameters of both layers, or their gradients.
pub(super) struct Layers<'a> {
    /// W `[n,m]` and b `[n]`.
    pub inner: (&'a Tensor, &'a Tensor),
    /// w `[1,n]` and c `[1]`.
    pub head: (&'a Tensor, &'a Tensor),
}

impl Layers<'_> {
    fn slices(&self) -> gated::Layers<'_> {
        let [weight, bias, head] = [self.inner.0, self.inner.1, self.head.0].map(elements);
        gated::Layers { weight, bias, head, offset: elements(self.head.1)[0] }
    }
}

/// True if layers with `weight [n,m]` are for this file, for batches of `rows` rows.
pub(super) fn takes(weight: &Tensor, rows: i64) -> bool {
    let size = <[i64; 2]>::try_from(weight.size()).expect("a weight is a matrix");
    matmul::by_unit(weight, rows) && gated::takes(size.map(|n| n as usize))
}

/// True if [`input_gradient`] through layers with `weight [n,m]` may be written over the output of the ReLU it is
/// carried through.
pub(super) fn overwrites(weight: &Tensor) -> bool {
    Kernel::Amx(precision::current()).overwrites(weight.size()[0] as usize)
}

/// `values [B,1] = v(input [B,m])`; the gates of these rows are written to `gates` from a row on.
pub(super) fn forward(values: &Tensor, input: &Tensor, layers: &Layers, gates: Option<(&mut Gates, usize)>) {
    counted(input, layers, || {
        gated::forward(precision::current(), matrix_mut(values), matrix(input), &layers.slices(), gates);
    });
}

/// `out [B,m]` becomes `dloss/dx` for `grad [B,1]` (s), carried on through the ReLU with the output `active [B,m]`,
/// which may be `out`.
pub(super) fn input_gradient(out: &Tensor, grad: &Tensor, gates: &Gates, layers: &Layers, active: &Tensor) {
    let active = active_of(out, active);
    counted(out, layers, || {
        gated::input_gradient(precision::current(), matrix_mut(out), elements(grad), gates, &layers.slices(), active);
    });
}

/// The output `active` of a ReLU, of a product that goes to `out`.
pub(super) fn active_of<'a>(out: &Tensor, active: &'a Tensor) -> Active<'a> {
    if out.numel() > 0 && out.data_ptr() == active.data_ptr() {
        Active::InPlace
    } else {
        Active::Apart(matrix(active))
    }
}

/// Writes the gradients of all parameters for `grad [B,1]` (s) and `input [B,m]`.
pub(super) fn parameter_gradients(grad: &Tensor, input: &Tensor, gates: &Gates, layers: &Layers, gradients: &Layers) {
    let (weight_grad, bias_grad) = gradients.inner;
    let (head_grad, offset_grad) = gradients.head;
    let _ = grad.sum_intlist_out(offset_grad, 0i64, false, Kind::Float);
    let places = [weight_grad, bias_grad, head_grad].map(elements_mut);
    let how = (InstructionSet::best(), precision::current());
    counted(input, layers, || {
        gated::parameter_gradients(how, elements(grad), matrix(input), gates, &layers.slices(), places);
    });
}

/// `make()`, which multiplies as many numbers as `rows [B,m] weight^T` does.
fn counted(rows: &Tensor, layers: &Layers, make: impl FnOnce()) {
    let size = || [rows.size()[0], rows.size()[1], layers.inner.0.size()[0]];
    profile::product(matmul::Library::Own(Kernel::Amx(precision::current())).name(), size, || {
        make();
        true
    });
}
