//! Losses and their gradients.

use crate::slices::{column, elements, elements_mut, host};
use drcorl_kernels::{losses as kernels, InstructionSet};
use tch::{Kind, Tensor};

/// Sum over rows of the squared error of one member of `values [B,E]` against `target [B,1]`, which is everybody's, or
/// `[B,E]`; `grad [B,1]` becomes the error times `scale`.
pub fn squared_error(values: &Tensor, target: &Tensor, member: i64, scale: f64, grad: &Tensor) -> f64 {
    let targeted = member.min(target.size()[1] - 1);
    if host(values) {
        let (values, target) = (column(values, member), column(target, targeted));
        kernels::squared_error(InstructionSet::best(), values, target, scale as f32, elements_mut(grad))
    } else {
        let error = values.narrow(1, member, 1) - target.narrow(1, targeted, 1);
        grad.shallow_clone().copy_(&(&error * scale));
        error.square().sum(Kind::Double).double_value(&[])
    }
}

/// Mean over rows of `weight [B,1]` times the negative log density of `target [B,A]` under the Gaussians
/// `outputs [B,2A]`, [mu | log sigma] with log sigma clamped to `range`;
/// `grad [B,2A]` becomes the gradient for `outputs`. All contiguous.
pub fn gaussian_fit(outputs: &Tensor, target: &Tensor, weight: &Tensor, range: (f64, f64), grad: &Tensor) -> f64 {
    let rows = weight.size()[0];
    if host(outputs) {
        let range = (range.0 as f32, range.1 as f32);
        let (outputs, target, weight) = (elements(outputs), elements(target), elements(weight));
        let set = InstructionSet::best();
        return kernels::gaussian_fit(set, outputs, target, weight, range, elements_mut(grad)) / rows as f64;
    }
    let columns = target.size()[1];
    let (mu, raw) = (outputs.narrow(1, 0, columns), outputs.narrow(1, columns, columns));
    let log_std = raw.clamp(range.0, range.1);
    let inverse = (-&log_std).exp();
    let normal = (target - mu) * &inverse;
    let inside = raw.ge(range.0).logical_and(&raw.le(range.1));
    let scaled = weight / rows as f64;
    grad.narrow(1, 0, columns).copy_(&(-&scaled * &normal * inverse));
    grad.narrow(1, columns, columns).copy_(&((1.0 - normal.square()) * &scaled * inside));
    let terms = normal.square() * 0.5 + log_std + 0.5 * (2.0 * std::f64::consts::PI).ln();
    (terms * scaled).sum(Kind::Double).double_value(&[])
}
