//! Layer norms (Ba et al., arXiv:1607.06450).

use crate::instruction_set::multiversion;
use crate::sums::sum_of;

/// The formulas, of one row.
pub mod plain {
    /// `(x - mean) / sqrt(variance + eps)`, and the mean and the reciprocal of the root.
    pub fn normalize(x: &[f32], eps: f64) -> (Vec<f64>, f64, f64) {
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let rstd = 1.0 / (variance + eps).sqrt();
        (x.iter().map(|&x| (f64::from(x) - mean) * rstd).collect(), mean, rstd)
    }

    /// `out[i] = n[i] weight[i] + bias[i]`, n the row normalised.
    pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f64) -> Vec<f64> {
        let parameters = weight.iter().zip(bias);
        let (normal, ..) = normalize(x, eps);
        normal.iter().zip(parameters).map(|(n, (&w, &b))| n * f64::from(w) + f64::from(b)).collect()
    }

    /// With `g = grad weight` and n the row normalised, the gradient for x is `rstd (g - mean(g) - n mean(g n))`; those
    /// for weight and bias are `grad n` and `grad`.
    pub fn layer_norm_backward(x: &[f32], weight: &[f32], grad: &[f32], eps: f64) -> [Vec<f64>; 3] {
        let (normal, _, rstd) = normalize(x, eps);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let times = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f64>>();
        let [grad, weight] = [grad, weight].map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
        let scaled = times(&grad, &weight);
        let (sum, dot) = (mean(&scaled), mean(&times(&scaled, &normal)));
        let input = scaled.iter().zip(&normal).map(|(g, n)| rstd * (g - sum - n * dot)).collect();
        [input, times(&grad, &normal), grad]
    }
}

multiversion! {
    /// `out = (input - mean) rstd weight + bias` over rows of `input [B,h]`; `mean`, `rstd [B]` are overwritten. See
    /// [`plain::layer_norm`].
    pub fn layer_norm(
        input: &[f32],
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        out: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
    ) {
        let width = weight.len();
        let rows = input.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(mean.iter_mut().zip(rstd));
        for ((x, y), (mean, rstd)) in rows {
            // Slices of one length without a bound to check: the loops vectorise.
            let (x, y) = (&x[..width], &mut y[..width]);
            let centre = sum_of([x], |[x]| x) / width as f32;
            let variance = sum_of([x], |[x]| (x - centre) * (x - centre)) / width as f32;
            let scale = 1.0 / (variance + eps).sqrt();
            for ((y, &x), (&w, &b)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
                *y = (x - centre) * scale * w + b;
            }
            (*mean, *rstd) = (centre, scale);
        }
    }
}

multiversion! {
    /// Backward of [`layer_norm`]: `grad [B,h]` becomes the gradient of `input [B,h]`; `mean`, `rstd [B]` are the
    /// forward pass's. `weight_grad`, `bias_grad [h]` are added to. See [`plain::layer_norm_backward`].
    pub fn layer_norm_backward(
        input: &[f32],
        mean: &[f32],
        rstd: &[f32],
        weight: &[f32],
        grad: &mut [f32],
        weight_grad: &mut [f32],
        bias_grad: &mut [f32],
    ) {
        let width = weight.len();
        let (weight_grad, bias_grad) = (&mut weight_grad[..width], &mut bias_grad[..width]);
        let rows = input.chunks_exact(width).zip(grad.chunks_exact_mut(width)).zip(mean.iter().zip(rstd));
        for ((x, g), (&mean, &rstd)) in rows {
            // Slices of one length without a bound to check: the loops vectorise.
            let (x, g) = (&x[..width], &mut g[..width]);
            let parameters = weight_grad.iter_mut().zip(bias_grad.iter_mut());
            for ((&x, &g), (weight_grad, bias_grad)) in x.iter().zip(g.iter()).zip(parameters) {
                *weight_grad += g * ((x - mean) * rstd);
                *bias_grad += g;
            }
            let sum = sum_of([g, weight], |[g, w]| g * w) / width as f32;
            let dot = sum_of([g, weight, x], |[g, w, x]| g * w * ((x - mean) * rstd)) / width as f32;
            for ((g, &x), &w) in g.iter_mut().zip(x).zip(weight) {
                *g = rstd * (*g * w - sum - (x - mean) * rstd * dot);
            }
        }
    }
}

multiversion! {
    /// `out [B,h] = norm(input [B,h])`, as policies at play compute it, for no backward pass.
    /// See [`plain::layer_norm`].
    pub fn layer_norm_rows(input: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        for (x, y) in input.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            // Slices of one length without a bound to check: the loops vectorise.
            let (x, y) = (&x[..width], &mut y[..width]);
            let mean = sum_of([x], |[x]| x) / width as f32;
            let variance = sum_of([x], |[x]| (x - mean) * (x - mean)) / width as f32;
            let rstd = 1.0 / (variance + eps).sqrt();
            for ((y, &x), (&w, &b)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
                *y = (x - mean) * rstd * w + b;
            }
        }
    }
}
