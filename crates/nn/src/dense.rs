//! A linear layer whose gradients are *added* to the arena's, for steps that go through their batch in parts.

use super::linear::{self, Activation, Through};
use super::{Arena, ArenaBuilder, Slot};
use tch::{Kind, Tensor};

/// `y = x weight^T + bias` with `weight [out,in]`.
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    pub weight: Slot,
    pub bias: Slot,
}

impl Dense {
    /// Registers `name.weight [out,in]`, drawn by `draw`, and a bias of zeros.
    pub fn new(builder: &mut ArenaBuilder, name: &str, out: i64, input: i64, draw: impl FnMut() -> f32) -> Dense {
        let weight = builder.add(&format!("{name}.weight"), &[out, input], draw);
        let bias = builder.add(&format!("{name}.bias"), &[out], || 0.0);
        Dense { weight, bias }
    }

    /// `[N,out]` for `input [N,in]`, whose rows may be strided.
    pub fn forward(&self, arena: &Arena, input: &Tensor) -> Tensor {
        let out = Tensor::empty([input.size()[0], arena.value(self.weight).size()[0]], (Kind::Float, input.device()));
        self.forward_into(arena, input, &out);
        out
    }

    /// [`Dense::forward`] into `out [N,out]`.
    pub fn forward_into(&self, arena: &Arena, input: &Tensor, out: &Tensor) {
        linear::forward(out, input, arena.value(self.weight), arena.value(self.bias), Activation::Identity);
    }

    /// Adds the gradients of both parameters for `grad [N,out]` at `input [N,in]`.
    pub fn accumulate(&self, arena: &Arena, grad: &Tensor, input: &Tensor) {
        linear::add_parameter_gradients(grad, input, arena.gradient(self.weight), arena.gradient(self.bias));
    }

    /// Gradient `[N,in]` for the input.
    pub fn input_gradient(&self, arena: &Arena, grad: &Tensor) -> Tensor {
        let weight = arena.value(self.weight);
        let out = Tensor::empty([grad.size()[0], weight.size()[1]], (Kind::Float, grad.device()));
        self.input_gradient_into(arena, grad, &out);
        out
    }

    /// [`Dense::input_gradient`] into `out [N,in]`.
    pub fn input_gradient_into(&self, arena: &Arena, grad: &Tensor, out: &Tensor) {
        linear::input_gradient(out, grad, arena.value(self.weight), Through::Nothing);
    }
}
