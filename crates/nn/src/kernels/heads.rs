//! A layer with one number as output, and rows picked from a batch.

use super::{elements, elements_mut, host, multiversion, LANES};
use tch::{Kind, Tensor};

multiversion! {
    fn scalar_head_cpu(hidden: &[f32], weight: &[f32], bias: f32, out: &mut [f32], members: usize, member: usize) {
        let (whole, rest) = weight.split_at(weight.len() / LANES * LANES);
        for (h, out) in hidden.chunks_exact(weight.len()).zip(out.chunks_exact_mut(members)) {
            let mut partial = [0f32; LANES];
            for (h, w) in h.chunks_exact(LANES).zip(whole.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    partial[lane] += h[lane] * w[lane];
                }
            }
            let rest: f32 = h[whole.len()..].iter().zip(rest).map(|(h, w)| h * w).sum();
            out[member] = partial.iter().sum::<f32>() + rest + bias;
        }
    }
}

/// The scalar head of one member: `out[b,member] = <hidden[b,:], weight> + bias` for `hidden [B,h]`, `weight [1,h]`, `bias [1]`, `out [B,E]`.
pub fn scalar_head(hidden: &Tensor, weight: &Tensor, bias: &Tensor, out: &Tensor, member: usize) {
    if host(hidden) {
        let members = out.size()[1] as usize;
        scalar_head_cpu(elements(hidden), elements(weight), elements(bias)[0], elements_mut(out), members, member);
    } else {
        out.narrow(1, member as i64, 1).copy_(&(hidden.mm(&weight.tr()) + bias));
    }
}

multiversion! {
    fn scalar_head_backward_cpu(grad: &mut [f32], weight: &[f32], grad_out: &[f32]) {
        for (grad, &scale) in grad.chunks_exact_mut(weight.len()).zip(grad_out) {
            for (h, &w) in grad.iter_mut().zip(weight) {
                *h = if *h > 0.0 { scale * w } else { 0.0 };
            }
        }
    }
}

multiversion! {
    fn scalar_head_gradients_cpu(grad: &mut [f32], weight: &[f32], grad_out: &[f32], weight_grad: &mut [f32]) {
        for (grad, &scale) in grad.chunks_exact_mut(weight.len()).zip(grad_out) {
            for ((h, &w), sum) in grad.iter_mut().zip(weight).zip(weight_grad.iter_mut()) {
                *sum += scale * *h;
                *h = if *h > 0.0 { scale * w } else { 0.0 };
            }
        }
    }
}

/// Backward of [`scalar_head`] and of the ReLU before it: `grad [B,h]`, which may be `hidden [B,h]`, becomes `grad_out[b] weight` where `hidden` is
/// above 0, else 0; `grad_out [B,1]`. Gradients of weight and bias are written to `parameters`.
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
    let (weight, grad_out) = (elements(weight), elements(grad_out));
    let mut sums = parameters.map(|(weight_grad, _)| elements_mut(weight_grad));
    if let Some(sums) = &mut sums {
        sums.fill(0.0);
    }
    let mut backward = |grad: &mut [f32], grad_out: &[f32]| match &mut sums {
        Some(sums) => scalar_head_gradients_cpu(grad, weight, grad_out, sums),
        None => scalar_head_backward_cpu(grad, weight, grad_out),
    };
    if hidden.data_ptr() == grad.data_ptr() {
        return backward(elements_mut(grad), grad_out);
    }
    // A row is copied to where its gradient comes, which takes its place.
    let rows = elements(hidden).chunks_exact(weight.len()).zip(elements_mut(grad).chunks_exact_mut(weight.len()));
    for ((from, to), grad_out) in rows.zip(grad_out.chunks_exact(1)) {
        to.copy_from_slice(from);
        backward(to, grad_out);
    }
}

/// The rows of `tensor [B,n]` on the CPU that are not all 0; NaN is not 0.
pub fn rows_not_zero(tensor: &Tensor) -> Vec<i64> {
    let tensor = tensor.contiguous();
    let rows = elements(&tensor).chunks_exact(tensor.size()[1] as usize);
    (0..).zip(rows).filter_map(|(i, row)| row.iter().any(|&x| x != 0.0).then_some(i)).collect()
}

/// `to [N,h]` becomes `rows` of `from [B,h]`, both contiguous and on the CPU.
pub fn pick_rows(from: &Tensor, rows: &[i64], to: &Tensor) {
    /// Rows that are fetched before they are copied: no processor foresees which.
    const AHEAD: usize = 4;
    let width = from.size()[1] as usize;
    let from = elements(from);
    let row = |n: usize| &from[rows[n] as usize * width..][..width];
    for (n, to) in elements_mut(to).chunks_exact_mut(width).enumerate() {
        #[cfg(target_arch = "x86_64")]
        if n + AHEAD < rows.len() {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            for line in row(n + AHEAD).chunks(LANES) {
                // SAFETY: every x86-64 processor has the instruction, which reads nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
            }
        }
        to.copy_from_slice(row(n));
    }
}
