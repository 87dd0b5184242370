//! A layer with one number as output, `v = <hidden, weight> + bias`, behind a ReLU.

use crate::gemm::MatrixMut;
use crate::instruction_set::multiversion;
use crate::sums::{sum_of, LANES};
use crate::InstructionSet;

/// The formulas, of one row.
pub mod plain {
    /// `<hidden, weight> + bias`.
    pub fn scalar_head(hidden: &[f32], weight: &[f32], bias: f32) -> f64 {
        f64::from(bias) + hidden.iter().zip(weight).map(|(&h, &w)| f64::from(h) * f64::from(w)).sum::<f64>()
    }

    /// For the output's gradient `scale`: that at the input of the ReLU whose output is `hidden`,
    /// and that of the weight.
    pub fn scalar_head_backward(hidden: &[f32], weight: &[f32], scale: f32) -> [Vec<f64>; 2] {
        let scale = f64::from(scale);
        let through = hidden.iter().zip(weight).map(|(&h, &w)| if h > 0.0 { scale * f64::from(w) } else { 0.0 });
        [through.collect(), hidden.iter().map(|&h| scale * f64::from(h)).collect()]
    }
}

multiversion! {
    /// `out[b] = <hidden[b,:], weight> + bias` for `hidden [B,h]`, `weight [h]`, `out [B,1]`.
    /// See [`plain::scalar_head`].
    pub fn scalar_head(hidden: &[f32], weight: &[f32], bias: f32, out: MatrixMut) {
        let mut out = out;
        assert_eq!(out.size(), [hidden.len() / weight.len(), 1], "a number a row");
        let (whole, rest) = weight.split_at(weight.len() / LANES * LANES);
        for (row, h) in hidden.chunks_exact(weight.len()).enumerate() {
            let mut partial = [0f32; LANES];
            for (h, w) in h.chunks_exact(LANES).zip(whole.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    partial[lane] += h[lane] * w[lane];
                }
            }
            let rest: f32 = h[whole.len()..].iter().zip(rest).map(|(h, w)| h * w).sum();
            // SAFETY: there are as many rows.
            unsafe { out.set(row, partial.iter().sum::<f32>() + rest + bias) };
        }
    }
}

multiversion! {
    fn through_relu(grad: &mut [f32], weight: &[f32], grad_out: &[f32]) {
        for (grad, &scale) in grad.chunks_exact_mut(weight.len()).zip(grad_out) {
            for (h, &w) in grad.iter_mut().zip(weight) {
                *h = if *h > 0.0 { scale * w } else { 0.0 };
            }
        }
    }
}

multiversion! {
    fn through_relu_and_weight(grad: &mut [f32], weight: &[f32], grad_out: &[f32], weight_grad: &mut [f32]) {
        for (grad, &scale) in grad.chunks_exact_mut(weight.len()).zip(grad_out) {
            for ((h, &w), sum) in grad.iter_mut().zip(weight).zip(weight_grad.iter_mut()) {
                *sum += scale * *h;
                *h = if *h > 0.0 { scale * w } else { 0.0 };
            }
        }
    }
}

/// Backward of [`scalar_head`] and of the ReLU before it: `grad [B,h]`, which holds the ReLU's output, becomes
/// `grad_out[b] weight` where that is above 0, else 0; `grad_out [B]`. What belongs to the weight is added to
/// `weight_grad [h]`. See [`plain::scalar_head_backward`].
pub fn scalar_head_backward(
    set: InstructionSet,
    grad: &mut [f32],
    weight: &[f32],
    grad_out: &[f32],
    weight_grad: Option<&mut [f32]>,
) {
    match weight_grad {
        Some(sums) => through_relu_and_weight(set, grad, weight, grad_out, sums),
        None => through_relu(set, grad, weight, grad_out),
    }
}

multiversion! {
    /// The last step to the gradients of two layers, `relu(W x + b)` and a scalar head w, see [`crate::gated`]: for G
    /// `[n,m]` in `weight_grad` and t `[n]` in `bias_grad`, `head_grad = rowsum(W G) + b t`, `weight_grad = diag(w) G`,
    /// `bias_grad = w t`. `layers` are W `[n,m]`, b `[n]`, w `[n]`.
    pub fn finish_gradients(layers: [&[f32]; 3], weight_grad: &mut [f32], bias_grad: &mut [f32], head_grad: &mut [f32]) {
        let [weight, bias, head] = layers;
        let width = weight.len() / head.len();
        let rows = weight.chunks_exact(width).zip(weight_grad.chunks_exact_mut(width));
        for (unit, (weight, grad)) in rows.enumerate() {
            head_grad[unit] = sum_of([weight, grad], |[weight, grad]| weight * grad) + bias[unit] * bias_grad[unit];
            bias_grad[unit] *= head[unit];
            for grad in grad {
                *grad *= head[unit];
            }
        }
    }
}
