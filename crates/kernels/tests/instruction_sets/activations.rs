use crate::noise::{close, wide, Noise};
use crate::Case;
use drcorl_kernels::activations::{self, plain};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] = &[
    ("activations::mish", mish),
    ("activations::bias_mish", bias_mish),
    ("activations::gelu", gelu),
    ("activations::bias_relu", bias_relu),
    ("activations::relu_backward", relu_backward),
    ("activations::bias_residual", bias_residual),
    ("activations::derivative_backward", derivative_backward),
];

/// [-30, 30], and as many points as leave a remainder to every register.
fn grid(points: usize) -> Vec<f32> {
    (0..points).map(|i| -30.0 + 60.0 * i as f32 / (points - 1) as f32).collect()
}

fn mish(set: InstructionSet) -> Vec<f32> {
    let x = grid(4001);
    let (mut derivative, mut out) = (x.clone(), vec![f32::NAN; x.len()]);
    activations::mish(set, &mut derivative, &mut out);
    close(&out, wide(&x).map(|x| plain::mish(x).0), 2e-6);
    close(&derivative, wide(&x).map(|x| plain::mish(x).1), 4e-6);
    let mut in_place = x.clone();
    activations::mish_in_place(set, &mut in_place);
    close(&in_place, wide(&x).map(|x| plain::mish(x).0), 2e-6);
    [out, derivative, in_place].concat()
}

fn bias_mish(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(1);
    let (x, bias) = (noise.vector(7 * 37), noise.vector(37));
    let (mut derivative, mut out) = (x.clone(), vec![f32::NAN; x.len()]);
    activations::bias_mish(set, &mut derivative, &bias, &mut out);
    let (mut expected, mut value) = (x.clone(), vec![f32::NAN; x.len()]);
    expected.iter_mut().zip(bias.iter().cycle()).for_each(|(x, b)| *x += b);
    activations::mish(set, &mut expected, &mut value);
    assert_eq!((&out, &derivative), (&value, &expected), "mish of the sum");
    [out, derivative].concat()
}

fn gelu(set: InstructionSet) -> Vec<f32> {
    let x = grid(60_001);
    let (mut derivative, mut out) = (x.clone(), vec![f32::NAN; x.len()]);
    activations::gelu(set, &mut derivative, &mut out);
    close(&out, wide(&x).map(|x| plain::gelu(x).0), 4e-7);
    close(&derivative, wide(&x).map(|x| plain::gelu(x).1), 4e-7);
    let mut in_place = x;
    activations::gelu_in_place(set, &mut in_place);
    assert_eq!(in_place, out, "without a derivative");
    [out, derivative].concat()
}

fn bias_relu(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(2);
    let (mut x, bias) = (noise.vector(7 * 37), noise.vector(37));
    x[40] = f32::NAN;
    let mut out = x.clone();
    activations::bias_relu(set, &mut out, &bias);
    for ((out, x), b) in out.iter().zip(&x).zip(bias.iter().cycle()) {
        assert_eq!(out.to_bits(), plain::relu(x + b).to_bits(), "{x} + {b}");
    }
    out
}

fn relu_backward(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(3);
    let (grad, active) = (noise.vector(7 * 37), noise.active(7 * 37));
    let mut out = grad.clone();
    activations::relu_backward(set, &mut out, &active);
    let wanted: Vec<f32> = grad.iter().zip(&active).map(|(&g, &a)| plain::relu_backward(g, a)).collect();
    assert_eq!(out, wanted);
    out
}

fn bias_residual(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(4);
    let (x, bias, base) = (noise.vector(7 * 37), noise.vector(37), noise.vector(7 * 37));
    let mut out = x.clone();
    activations::bias_residual(set, &mut out, &bias, &base);
    close(&out, wide(&x).zip(wide(&bias).cycle()).zip(wide(&base)).map(|((x, b), y)| x + b + y), 1e-6);
    out
}

fn derivative_backward(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(5);
    let (grad, derivative, sum) = (noise.vector(7 * 37), noise.vector(7 * 37), noise.vector(37));
    let (mut out, mut total) = (grad.clone(), sum.clone());
    activations::derivative_backward(set, &mut out, &derivative, &mut total);
    let wanted: Vec<f64> = wide(&grad).zip(wide(&derivative)).map(|(g, d)| g * d).collect();
    close(&out, wanted.iter().copied(), 1e-6);
    let column = |j: usize| wanted.iter().skip(j).step_by(37).sum::<f64>();
    close(&total, wide(&sum).enumerate().map(|(j, before)| before + column(j)), 1e-5);
    [out, total].concat()
}
