//! A layer with one number as output, and rows picked from a batch.

use crate::slices::{column_mut, elements, elements_mut, host};
use drcorl_kernels::{heads as kernels, rows, InstructionSet};
use tch::{Kind, Tensor};

/// The scalar head of one member: `out[b,member] = <hidden[b,:], weight> + bias` for `hidden [B,h]`, `weight [1,h]`,
/// `bias [1]`, `out [B,E]`.
pub fn scalar_head(hidden: &Tensor, weight: &Tensor, bias: &Tensor, out: &Tensor, member: i64) {
    if host(hidden) {
        let (set, out) = (InstructionSet::best(), column_mut(out, member));
        kernels::scalar_head(set, elements(hidden), elements(weight), elements(bias)[0], out);
    } else {
        out.narrow(1, member, 1).copy_(&(hidden.mm(&weight.tr()) + bias));
    }
}

/// Backward of [`scalar_head`] and of the ReLU before it: `grad [B,h]`, which may be `hidden [B,h]`, becomes
/// `grad_out[b] weight` where `hidden` is above 0, else 0; `grad_out [B,1]`.
/// Gradients of weight and bias are written to `parameters`.
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
    let set = InstructionSet::best();
    let (weight, grad_out) = (elements(weight), elements(grad_out));
    let mut sums = parameters.map(|(weight_grad, _)| elements_mut(weight_grad));
    if let Some(sums) = &mut sums {
        sums.fill(0.0);
    }
    if hidden.data_ptr() == grad.data_ptr() {
        return kernels::scalar_head_backward(set, elements_mut(grad), weight, grad_out, sums);
    }
    // A row is copied to where its gradient comes, which takes its place.
    let rows = elements(hidden).chunks_exact(weight.len()).zip(elements_mut(grad).chunks_exact_mut(weight.len()));
    for ((from, to), grad_out) in rows.zip(grad_out.chunks_exact(1)) {
        to.copy_from_slice(from);
        kernels::scalar_head_backward(set, to, weight, grad_out, sums.as_deref_mut());
    }
}

/// The rows of `tensor [B,n]` on the CPU that are not all 0; NaN is not 0.
pub fn rows_not_zero(tensor: &Tensor) -> Vec<i64> {
    let tensor = tensor.contiguous();
    rows::rows_not_zero(elements(&tensor), tensor.size()[1] as usize)
}

/// `to [N,h]` becomes `picked` rows of `from [B,h]`, both contiguous and on the CPU.
pub fn pick_rows(from: &Tensor, picked: &[i64], to: &Tensor) {
    rows::pick_rows(elements(from), from.size()[1] as usize, picked, elements_mut(to));
}
