//! Layer norms and parts of linear layers, with the caches their gradients need.

use crate::buffers::Buffers;
use crate::linear::{self, Activation, Through};
use crate::{ops, Arena, ArenaBuilder, Dense, Slot};
use tch::Tensor;

const LAYER_NORM_EPS: f64 = 1e-5;

pub(super) struct Norm {
    weight: Slot,
    bias: Slot,
}

/// What a layer norm keeps: its input, and mean and reciprocal standard deviation of each row.
pub(super) struct NormCache {
    pub input: Tensor,
    mean: Tensor,
    rstd: Tensor,
}

impl NormCache {
    pub fn parts(self) -> [Tensor; 3] {
        [self.input, self.mean, self.rstd]
    }
}

impl Norm {
    pub fn new(builder: &mut ArenaBuilder, name: &str, width: i64) -> Norm {
        let weight = builder.add(&format!("{name}.weight"), &[width], || 1.0);
        Norm { weight, bias: builder.add(&format!("{name}.bias"), &[width], || 0.0) }
    }

    pub fn forward(&self, arena: &Arena, input: Tensor, buffers: &Buffers) -> (Tensor, NormCache) {
        let (rows, width, device) = (input.size()[0], input.size()[1], input.device());
        let out = buffers.take(rows, width, device);
        let [mean, rstd] = [(); 2].map(|()| buffers.take(rows, 1, device));
        let (weight, bias) = (arena.value(self.weight), arena.value(self.bias));
        ops::layer_norm(&input, weight, bias, LAYER_NORM_EPS, &out, &mean, &rstd);
        (out, NormCache { input, mean, rstd })
    }

    /// `grad` of the result becomes that of the input; those of the parameters are added.
    pub fn backward(&self, arena: &Arena, cache: &NormCache, grad: &mut Tensor) {
        let weight = arena.value(self.weight);
        let NormCache { input, mean, rstd } = cache;
        let (weight_grad, bias_grad) = (arena.gradient(self.weight), arena.gradient(self.bias));
        ops::layer_norm_backward(input, mean, rstd, weight, grad, weight_grad, bias_grad);
    }
}

/// Rows `from..from+count` of a layer's outputs, as a layer of its own.
pub(super) struct Part {
    weight: Tensor,
    bias: Tensor,
    weight_grad: Tensor,
    bias_grad: Tensor,
}

impl Part {
    pub fn of(arena: &Arena, layer: &Dense, from: i64, count: i64) -> Part {
        let rows = |tensor: &Tensor| tensor.narrow(0, from, count);
        Part {
            weight: rows(arena.value(layer.weight)),
            bias: rows(arena.value(layer.bias)),
            weight_grad: rows(arena.gradient(layer.weight)),
            bias_grad: rows(arena.gradient(layer.bias)),
        }
    }

    pub fn forward(&self, input: &Tensor, buffers: &Buffers) -> Tensor {
        let out = buffers.take(input.size()[0], self.weight.size()[0], input.device());
        linear::forward(&out, input, &self.weight, &self.bias, Activation::Identity);
        out
    }

    pub fn input_gradient(&self, grad: &Tensor, buffers: &Buffers) -> Tensor {
        let out = buffers.take(grad.size()[0], self.weight.size()[1], grad.device());
        linear::input_gradient(&out, grad, &self.weight, Through::Nothing);
        out
    }

    pub fn accumulate(&self, grad: &Tensor, input: &Tensor) {
        linear::add_parameter_gradients(grad, input, &self.weight_grad, &self.bias_grad);
    }
}
