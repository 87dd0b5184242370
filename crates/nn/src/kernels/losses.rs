//! Losses and their gradients.

use super::{elements, elements_mut, host, multiversion};
use drcorl_actor::math::exp;
use tch::{Kind, Tensor};

multiversion! {
    fn squared_error_cpu(values: &[f32], target: &[f32], member: usize, scale: f32, grad: &mut [f32], sum: &mut f64) {
        let (members, targets) = (values.len() / grad.len(), target.len() / grad.len());
        let rows = values.chunks_exact(members).zip(target.chunks_exact(targets));
        for ((values, target), grad) in rows.zip(grad) {
            let error = values[member] - target[member.min(targets - 1)];
            *grad = error * scale;
            *sum += f64::from(error * error);
        }
    }
}

/// Sum over rows of the squared error of one member of `values [B,E]` against `target [B,1]`, which is everybody's, or `[B,E]`; `grad [B,1]`
/// becomes the error times `scale`.
pub fn squared_error(values: &Tensor, target: &Tensor, member: i64, scale: f64, grad: &Tensor) -> f64 {
    if host(values) {
        let mut sum = 0.0;
        let target = elements(target);
        squared_error_cpu(elements(values), target, member as usize, scale as f32, elements_mut(grad), &mut sum);
        sum
    } else {
        let error = values.narrow(1, member, 1) - target.narrow(1, member.min(target.size()[1] - 1), 1);
        grad.shallow_clone().copy_(&(&error * scale));
        error.square().sum(Kind::Double).double_value(&[])
    }
}

multiversion! {
    fn gaussian_fit_cpu(outputs: &[f32], target: &[f32], weight: &[f32], low: f32, high: f32, grad: &mut [f32], sum: &mut f64) {
        const HALF_LOG_TWO_PI: f32 = 0.918_938_5;
        let columns = target.len() / weight.len();
        let scale = 1.0 / weight.len() as f32;
        let rows = outputs.chunks_exact(2 * columns).zip(target.chunks_exact(columns)).zip(weight);
        for (((output, target), &weight), grad) in rows.zip(grad.chunks_exact_mut(2 * columns)) {
            let (mu, raw) = output.split_at(columns);
            let (mu_grad, raw_grad) = grad.split_at_mut(columns);
            let mut loss = 0.0;
            let gradients = mu_grad.iter_mut().zip(raw_grad);
            for (((&mu, &raw), &target), (mu_grad, raw_grad)) in mu.iter().zip(raw).zip(target).zip(gradients) {
                let log_std = raw.clamp(low, high);
                let inverse = exp(-log_std);
                let normal = (target - mu) * inverse;
                loss += 0.5 * normal * normal + log_std + HALF_LOG_TWO_PI;
                *mu_grad = -scale * weight * normal * inverse;
                *raw_grad = if raw >= low && raw <= high { scale * weight * (1.0 - normal * normal) } else { 0.0 };
            }
            *sum += f64::from(weight * loss);
        }
    }
}

/// Mean over rows of `weight [B,1]` times the negative log density of `target [B,A]` under the Gaussians `outputs [B,2A]`, [mu | log sigma] with log sigma
/// clamped to `range`; `grad [B,2A]` becomes the gradient for `outputs`. All contiguous.
pub fn gaussian_fit(outputs: &Tensor, target: &Tensor, weight: &Tensor, range: (f64, f64), grad: &Tensor) -> f64 {
    let rows = weight.size()[0];
    if host(outputs) {
        let (low, high) = (range.0 as f32, range.1 as f32);
        let mut sum = 0.0;
        let (outputs, target, weight) = (elements(outputs), elements(target), elements(weight));
        gaussian_fit_cpu(outputs, target, weight, low, high, elements_mut(grad), &mut sum);
        return sum / rows as f64;
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
