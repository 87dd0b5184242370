//! Attention in tensor operations: what other devices run, and what the kernels are tested against.

use super::Attention;
use crate::dropout;
use tch::{Kind, Tensor};

pub struct Views {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    /// True where a query must not look, `[B,1,Tq,T]`.
    pub hidden: Tensor,
    pub scale: f64,
}

/// `[B*n,E]` as `[B,H,n,d]`.
fn split(shape: &Attention, x: &Tensor) -> Tensor {
    let (sequences, heads) = (shape.valid.len() as i64, shape.heads as i64);
    let (rows, width) = (x.size()[0] / sequences, x.size()[1] / heads);
    x.view([sequences, rows, heads, width]).transpose(1, 2)
}

pub fn views(shape: &Attention, q: &Tensor, kv: &Tensor) -> Views {
    let embedding = q.size()[1];
    let ints = |list: &[usize]| {
        let list: Vec<i64> = list.iter().map(|&x| x as i64).collect();
        Tensor::from_slice(&list).to_device(q.device())
    };
    let keys = Tensor::arange(shape.tokens as i64, (Kind::Int64, q.device()));
    let later = keys.unsqueeze(0).gt_tensor(&ints(shape.queries).unsqueeze(1));
    let padding = keys.unsqueeze(0).ge_tensor(&ints(shape.valid).unsqueeze(1));
    let hidden = later.unsqueeze(0).logical_or(&padding.unsqueeze(1)).unsqueeze(1);
    let q = split(shape, q);
    let scale = 1.0 / (q.size()[3] as f64).sqrt();
    let half = |from: i64| split(shape, &kv.narrow(1, from, embedding).contiguous());
    Views { q, k: half(0), v: half(embedding), hidden, scale }
}

/// `weights` as `[B,H,Tq,Tp]`, and the factors of the dropout in the same shape.
pub fn table(shape: &Attention, weights: &Tensor) -> (Tensor, Tensor) {
    let size = [shape.valid.len() as i64, shape.heads as i64, shape.queries.len() as i64, shape.padded() as i64];
    let factors = dropout::factors(shape.dropout, shape.weights() as i64, weights.device()).view(size);
    (weights.view(size), factors.narrow(3, 0, shape.tokens as i64))
}

fn join(x: Tensor, out: &Tensor) {
    out.shallow_clone().copy_(&x.transpose(1, 2).reshape(out.size()));
}

pub fn forward(shape: &Attention, q: &Tensor, kv: &Tensor, out: &Tensor, weights: &Tensor) {
    let Views { q, k, v, hidden, scale } = views(shape, q, kv);
    let scores = (q.matmul(&k.transpose(2, 3)) * scale).masked_fill(&hidden, f64::NEG_INFINITY);
    let softmax = scores.softmax(-1, Kind::Float);
    let (mut table, factors) = table(shape, weights);
    let _ = table.zero_();
    table.narrow(3, 0, shape.tokens as i64).copy_(&softmax);
    join((softmax * factors).matmul(&v), out);
}

pub fn backward(
    shape: &Attention,
    q: &Tensor,
    kv: &Tensor,
    weights: &Tensor,
    grad: &Tensor,
    grad_q: &Tensor,
    grad_kv: &Tensor,
) {
    let embedding = q.size()[1];
    let Views { q, k, v, scale, .. } = views(shape, q, kv);
    let (table, factors) = table(shape, weights);
    let p = table.narrow(3, 0, shape.tokens as i64);
    let grad = split(shape, grad);
    let grad_p = grad.matmul(&v.transpose(2, 3)) * &factors;
    let dot = (&p * &grad_p).sum_dim_intlist(3i64, true, Kind::Float);
    let grad_scores = &p * (grad_p - dot) * scale;
    join(grad_scores.matmul(&k), grad_q);
    let rows = kv.size()[0];
    let across = |m: Tensor, x: &Tensor| m.transpose(2, 3).matmul(x).transpose(1, 2).reshape([rows, embedding]);
    grad_kv.narrow(1, 0, embedding).copy_(&across(grad_scores, &q));
    grad_kv.narrow(1, embedding, embedding).copy_(&across(p * factors, &grad));
}
