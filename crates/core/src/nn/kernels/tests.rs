//! The fused passes against libtorch.

use super::*;

fn close(a: &Tensor, b: &Tensor, tolerance: f64) -> bool {
    (a - b).abs().max().double_value(&[]) <= tolerance
}

#[test]
fn mish_and_its_derivative_agree_with_libtorch() {
    let mut x = Tensor::linspace(-30.0, 30.0, 4001, (Kind::Float, Device::Cpu));
    let (out, exact) = (x.empty_like(), x.to_kind(Kind::Double));
    mish(&mut x, &out);
    assert!(close(&out, &exact.mish(), 2e-6));
    let tanh = exact.softplus().tanh();
    let derivative = &tanh + &exact * (1.0 - tanh.square()) * exact.sigmoid();
    assert!(close(&x, &derivative, 4e-6));
}

#[test]
fn gelu_and_its_derivative_agree_with_libtorch() {
    let mut x = Tensor::linspace(-30.0, 30.0, 60_001, (Kind::Float, Device::Cpu));
    let (out, exact) = (x.empty_like(), x.to_kind(Kind::Double));
    gelu(&mut x, &out);
    assert!(close(&out, &exact.gelu("none"), 4e-7));
    assert!(close(&x, &exact.gelu_backward(&exact.ones_like(), "none"), 4e-7));
}

#[test]
fn layer_norm_agrees_with_libtorch() {
    for width in [8, 37, 128] {
        let x = Tensor::randn([5, width], (Kind::Float, Device::Cpu)) * 3.0 + 1.0;
        let [weight, bias] = [(); 2].map(|()| Tensor::randn([width], (Kind::Float, Device::Cpu)));
        let [mean, rstd] = [(); 2].map(|()| Tensor::empty([5, 1], (Kind::Float, Device::Cpu)));
        let out = x.empty_like();
        layer_norm(&x, &weight, &bias, 1e-5, &out, &mean, &rstd);
        let (y, m, r) = x.native_layer_norm([width], Some(&weight), Some(&bias), 1e-5);
        assert!(close(&out, &y, 1e-5) && close(&mean, &m, 1e-6) && close(&rstd, &r, 1e-6));
    }
}

#[test]
fn scalar_heads_agree_with_matrix_products() {
    let (b, e, h) = (7, 3, 37);
    let hidden = Tensor::randn([b, e * h], (Kind::Float, Device::Cpu)).relu();
    let weight = Tensor::randn([e, 1, h], (Kind::Float, Device::Cpu));
    let bias = Tensor::randn([e, 1], (Kind::Float, Device::Cpu));
    let out = Tensor::empty([b, e], (Kind::Float, Device::Cpu));
    scalar_head(&hidden, &weight, &bias, &out);
    let expected = (hidden.view([b, e, h]) * weight.squeeze_dim(1)).sum_dim_intlist(2i64, false, Kind::Float)
        + bias.squeeze_dim(1);
    assert!(close(&out, &expected, 1e-5));
    let grad_out = Tensor::randn([b, e], (Kind::Float, Device::Cpu));
    let grad = hidden.empty_like();
    scalar_head_backward(&hidden, &weight, &grad_out, &grad);
    let dense = hidden.threshold_backward(&(grad_out.unsqueeze(2) * weight.squeeze_dim(1)).view([b, e * h]), 0.0);
    assert!(close(&grad, &dense, 1e-6));
}

#[test]
fn passes_with_a_bias_agree_with_libtorch() {
    let random = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    let (x, bias, grad) = (random(&[7, 37]), random(&[37]), random(&[7, 37]));
    let active = x.copy();
    bias_relu(&active, &bias);
    assert!(close(&active, &(&x + &bias).relu(), 0.0));
    let masked = grad.copy();
    relu_backward(&masked, &active);
    assert!(close(&masked, &active.threshold_backward(&grad, 0.0), 0.0));
    let (mut derivative, out) = (x.copy(), x.empty_like());
    bias_mish(&mut derivative, &bias, &out);
    let (mut expected, value) = (&x + &bias, x.empty_like());
    mish(&mut expected, &value);
    assert!(close(&out, &value, 0.0) && close(&derivative, &expected, 0.0));
}
