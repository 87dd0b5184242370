//! Causal multi-head attention over short sequences, forward and backward: on the CPU by kernels,
//! elsewhere in tensor operations.

mod tensors;

use crate::slices::{elements, elements_mut, host};
use drcorl_kernels::{attention as kernels, InstructionSet};
use tch::Tensor;

pub use drcorl_kernels::attention::Attention;

/// `out = dropout(softmax(q k^T / sqrt(d))) v` head by head: `q [B*Tq,E]`, `kv [B*T,2E]` (keys, then values),
/// `out [B*Tq,E]`. `weights`, of [`Attention::weights`] elements, keeps the softmax for [`backward`].
pub fn forward(shape: &Attention, q: &Tensor, kv: &Tensor, out: &Tensor, weights: &Tensor) {
    if host(out) {
        kernels::forward(
            InstructionSet::best(),
            shape,
            elements(q),
            elements(kv),
            elements_mut(out),
            elements_mut(weights),
            &mut kernels::Scratch::default(),
        );
    } else {
        tensors::forward(shape, q, kv, out, weights);
    }
}

/// Gradients `grad_q [B*Tq,E]`, `grad_kv [B*T,2E]`, overwritten, for `grad [B*Tq,E]` of [`forward`]'s result.
pub fn backward(
    shape: &Attention,
    q: &Tensor,
    kv: &Tensor,
    weights: &Tensor,
    grad: &Tensor,
    grad_q: &Tensor,
    grad_kv: &Tensor,
) {
    if host(grad) {
        let inputs = [elements(q), elements(kv), elements(weights), elements(grad)];
        kernels::backward(InstructionSet::best(), shape, inputs, elements_mut(grad_q), elements_mut(grad_kv));
    } else {
        tensors::backward(shape, q, kv, weights, grad, grad_q, grad_kv);
    }
}

#[cfg(test)]
mod tests;
