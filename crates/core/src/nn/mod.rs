//! Networks on flat parameter arenas, with gradients written by hand.
//!
//! A network is a *layout* (slots in an arena) and takes the arena as an argument, so that a target network is the same layout
//! over another arena, Adam is one pass over one vector, an exponential moving average is one more, and a flat gradient is
//! there for gradient manipulation without any gathering.

pub mod arena;
pub mod ensemble;
pub mod head;
pub mod kernels;
pub mod score_net;

pub use arena::{Arena, ArenaBuilder, Slot};
pub use head::Head;
pub use ensemble::{Cache, Ensemble};
pub use score_net::{ScoreCache, ScoreNet};

use tch::{Kind, Tensor};

/// `out = input weight^T + bias` for `input [B,in]`, `weight [out,in]`, `bias [out]`. `out [B,out]` may be a strided view.
pub(crate) fn linear_into(out: &Tensor, input: &Tensor, weight: &Tensor, bias: &Tensor) {
    let _ = bias.addmm_out(out, input, &weight.tr());
}

/// Gradients of [`linear_into`] for its parameters: `weight_grad [out,in]` and `bias_grad [out]` are overwritten.
pub(crate) fn linear_parameter_gradients(grad_out: &Tensor, input: &Tensor, weight_grad: &Tensor, bias_grad: &Tensor) {
    let _ = grad_out.tr().mm_out(weight_grad, input);
    let _ = grad_out.sum_intlist_out(bias_grad, 0i64, false, Kind::Float);
}
