//! The fused passes against libtorch.

use super::*;
use tch::{Device, Kind, Tensor};

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
    let (rows, members, width) = (7, 3, 37);
    let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    let out = random([rows, members]);
    for member in 0..members {
        let (hidden, weight, bias) = (random([rows, width]).relu(), random([1, width]), random([1, 1]).view([1]));
        let before = out.copy();
        scalar_head(&hidden, &weight, &bias, &out, member);
        assert!(close(&out.narrow(1, member, 1), &(hidden.mm(&weight.tr()) + bias), 1e-5));
        before.narrow(1, member, 1).copy_(&out.narrow(1, member, 1));
        assert_eq!(before, out, "the other members' columns");
    }
}

/// In place and not, with the parameters' gradients and without.
#[test]
fn gradients_behind_scalar_heads_agree_with_matrix_products() {
    let (rows, width) = (7, 37);
    let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    let (hidden, weight, grad_out) = (random([rows, width]).relu(), random([1, width]), random([rows, 1]));
    let expected = hidden.threshold_backward(&(&grad_out * &weight), 0.0);
    let (weight_grad, bias_grad) = (random([1, width]), random([1, 1]).view([1]));
    for parameters in [None, Some((&weight_grad, &bias_grad))] {
        let apart = hidden.full_like(0.5);
        scalar_head_backward(&hidden, &weight, &grad_out, &apart, parameters);
        assert!(close(&apart, &expected, 1e-6));
        let in_place = hidden.copy();
        scalar_head_backward(&in_place, &weight, &grad_out, &in_place, parameters);
        assert_eq!(in_place, apart);
    }
    assert!(close(&weight_grad, &grad_out.tr().mm(&hidden), 1e-5));
    assert!(close(&bias_grad, &grad_out.sum(Kind::Float).view([1]), 1e-5));
}

#[test]
fn rows_are_picked_in_their_order() {
    let from = Tensor::randn([9, 37], (Kind::Float, Device::Cpu));
    let rows = [4i64, 0, 8, 8, 1, 2, 3];
    let to = Tensor::zeros([7, 37], (Kind::Float, Device::Cpu));
    pick_rows(&from, &rows, &to);
    assert_eq!(to, from.index_select(0, &Tensor::from_slice(&rows)));
}

#[test]
fn squared_errors_are_those_of_tensor_operations() {
    let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    let (values, grad) = (random([9, 3]), random([9, 1]));
    for target in [random([9, 1]), random([9, 3])] {
        let errors = &values - &target;
        for member in 0..3 {
            let sum = squared_error(&values, &target, member, 0.25, &grad);
            let error = errors.narrow(1, member, 1);
            assert!((sum - error.square().sum(Kind::Double).double_value(&[])).abs() < 1e-5);
            assert!(close(&grad, &(error * 0.25), 1e-6));
        }
    }
}

/// A step and an average over the whole are those over its parts.
#[test]
fn vectors_can_be_passed_over_in_parts() {
    let random = || Tensor::randn([50], (Kind::Float, Device::Cpu));
    let s = AdamScalars { step_size: 0.1, second_correction: 2.0, beta1: 0.9, beta2: 0.99, eps: 1e-8, decay: 0.999 };
    let (whole, grad) = ([random(), random(), random().abs()], random());
    let parts = [0, 1, 2].map(|i: usize| whole[i].copy());
    adam(&whole[0], &grad, &whole[1], &whole[2], &[(0, 50)], s);
    ema(&whole[1], &grad, &[(0, 50)], 0.3);
    let before = parts[0].copy();
    adam(&parts[0], &grad, &parts[1], &parts[2], &[(0, 17)], s);
    assert_eq!(parts[0].narrow(0, 17, 33), before.narrow(0, 17, 33), "outside of the span");
    adam(&parts[0], &grad, &parts[1], &parts[2], &[(17, 1), (18, 32)], s);
    ema(&parts[1], &grad, &[(0, 18), (18, 32)], 0.3);
    assert_eq!(whole, parts);
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
    let (through, total) = (grad.copy(), bias.copy());
    derivative_backward(&through, &x, &total);
    assert!(close(&through, &(&grad * &x), 0.0));
    assert!(close(&total, &(&bias + (&grad * &x).sum_dim_intlist(0i64, false, Kind::Float)), 1e-5));
    let sum = x.copy();
    bias_residual(&sum, &bias, &grad);
    assert!(close(&sum, &(&x + &bias + &grad), 0.0));
    let (mut derivative, out) = (x.copy(), x.empty_like());
    bias_mish(&mut derivative, &bias, &out);
    let (mut expected, value) = (&x + &bias, x.empty_like());
    mish(&mut expected, &value);
    assert!(close(&out, &value, 0.0) && close(&derivative, &expected, 0.0));
}
