//! Losses and their gradients.

use crate::gemm::Matrix;
use crate::instruction_set::multiversion;
use crate::math::exp;

/// The formulas, of one row.
pub mod plain {
    /// `-log N(target; mu, sigma^2)` with `log sigma` clamped to `[low, high]`,
    /// and its derivatives for `mu` and `log sigma`.
    pub fn gaussian_fit(mu: f64, log_std: f64, target: f64, (low, high): (f64, f64)) -> (f64, [f64; 2]) {
        let clamped = log_std.clamp(low, high);
        let normal = (target - mu) / clamped.exp();
        let loss = 0.5 * normal * normal + clamped + 0.5 * (2.0 * std::f64::consts::PI).ln();
        let inside = log_std >= low && log_std <= high;
        (loss, [-normal / clamped.exp(), if inside { 1.0 - normal * normal } else { 0.0 }])
    }
}

multiversion! {
    /// Sum over rows of the squared error of `values [B,1]` against `target [B,1]`;
    /// `grad [B]` becomes the error times `scale`.
    pub fn squared_error(values: Matrix, target: Matrix, scale: f32, grad: &mut [f32]) -> f64 {
        let mut sum = 0.0;
        for (row, grad) in grad.iter_mut().enumerate() {
            let error = values.at(row, 0) - target.at(row, 0);
            *grad = error * scale;
            sum += f64::from(error * error);
        }
        sum
    }
}

multiversion! {
    /// Sum over rows of `weight [B,1]` times the negative log density of `target [B,A]` under the Gaussians
    /// `outputs [B,2A]`, [mu | log sigma], with log sigma clamped to `range`; `grad [B,2A]` becomes the gradient of the
    /// *mean* over rows for `outputs`. See [`plain::gaussian_fit`].
    pub fn gaussian_fit(outputs: &[f32], target: &[f32], weight: &[f32], range: (f32, f32), grad: &mut [f32]) -> f64 {
        const HALF_LOG_TWO_PI: f32 = 0.918_938_5;
        let mut sum = 0.0;
        if weight.is_empty() {
            return sum;
        }
        let (low, high) = range;
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
            sum += f64::from(weight * loss);
        }
        sum
    }
}
