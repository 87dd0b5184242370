//! The kernels against the tensor operations, and both against autograd.

use super::*;
use crate::dropout;
use crate::rng::Rng;
use tch::{Device, Kind};

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn case(heads: usize, width: usize, tokens: usize, queries: &[usize], valid: &[usize], rate: f64) {
    let mut rng = Rng::new(9, 0);
    let dropout = dropout::draw(rate, &mut rng);
    let shape = Attention { heads, tokens, queries, valid, dropout };
    let (sequences, embedding) = (valid.len() as i64, (heads * width) as i64);
    let (all, kept) = (sequences * tokens as i64, sequences * queries.len() as i64);
    let (q, kv) = (rng.normal(&[kept, embedding], Device::Cpu), rng.normal(&[all, 2 * embedding], Device::Cpu));
    let grad = rng.normal(&[kept, embedding], Device::Cpu);

    let [weights, other] =
        [(); 2].map(|()| Tensor::full([shape.weights() as i64], f64::NAN, (Kind::Float, Device::Cpu)));
    let [out, wanted] = [(); 2].map(|()| q.empty_like());
    forward(&shape, &q, &kv, &out, &weights);
    tensors::forward(&shape, &q, &kv, &wanted, &other);
    assert!(distance(&out, &wanted) < 2e-6 && distance(&weights, &other) < 1e-6, "forward");

    let ([gq, wq], [gkv, wkv]) = ([(); 2].map(|()| q.empty_like()), [(); 2].map(|()| kv.empty_like()));
    backward(&shape, &q, &kv, &weights, &grad, &gq, &gkv);
    tensors::backward(&shape, &q, &kv, &other, &grad, &wq, &wkv);
    assert!(distance(&gq, &wq) < 1e-5 && distance(&gkv, &wkv) < 1e-5, "backward");

    // Both backward passes against autograd through the tensor operations.
    let (q, kv) = (q.set_requires_grad(true), kv.set_requires_grad(true));
    let views = tensors::views(&shape, &q, &kv);
    let scores = (views.q.matmul(&views.k.transpose(2, 3)) * views.scale).masked_fill(&views.hidden, f64::NEG_INFINITY);
    let factors = tensors::table(&shape, &other).1;
    let out = (scores.softmax(-1, Kind::Float) * factors).matmul(&views.v).transpose(1, 2).reshape(grad.size());
    let auto = Tensor::run_backward(&[(out * &grad).sum(Kind::Float)], &[&q, &kv], false, false);
    assert!(distance(&wq, &auto[0]) < 1e-5 && distance(&wkv, &auto[1]) < 1e-5, "autograd");
}

#[test]
fn kernels_tensor_operations_and_autograd_agree() {
    let all: Vec<usize> = (0..40).collect();
    for rate in [0.0, 0.3] {
        case(8, 16, 40, &all, &[40, 4, 12], rate);
        case(8, 16, 40, &[2, 3, 6, 7, 38, 39], &[40, 1, 8], rate);
        case(4, 8, 21, &all[..21], &[21, 5], rate);
        case(2, 37, 7, &[6], &[7, 3], rate);
        case(3, 1, 17, &all[..17], &[17], rate);
    }
}
