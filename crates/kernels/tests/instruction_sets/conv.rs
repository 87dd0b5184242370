use crate::noise::{close, Noise};
use crate::Case;
use drcorl_kernels::conv::{plain, Conv, ConvScratch};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] = &[
    ("conv", as_the_formulas),
    ("conv backward", backward_is_the_transpose),
    ("conv of a sequence alone and in any batch", a_sequence_has_the_same_bits),
];

/// Inputs and outputs of no whole panel and of several.
const SIZES: [[usize; 2]; 4] = [[3, 5], [14, 32], [32, 40], [20, 64]];
/// Odd and even, shorter than the kernel too.
const STEPS: [usize; 4] = [1, 2, 7, 8];
const COUNT: usize = 5;

fn run(set: InstructionSet, conv: &Conv, x: &[f32], steps: usize, out_steps: usize) -> Vec<f32> {
    let count = x.len() / steps / conv.inputs();
    let mut out = vec![f32::NAN; count * out_steps * conv.outputs()];
    conv.apply(set, (x, steps), (&mut out, out_steps), count, &mut ConvScratch::default());
    out
}

fn as_the_formulas(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(1);
    let mut found = Vec::new();
    for ([inputs, outputs], steps) in SIZES.into_iter().flat_map(|size| STEPS.map(|steps| (size, steps))) {
        let bias = noise.vector(outputs);
        let x = noise.vector(COUNT * steps * inputs);
        let sequences = || x.chunks_exact(steps * inputs);
        for kernel in [1, 5] {
            let weight = noise.vector(outputs * inputs * kernel);
            let out = run(set, &Conv::same(&weight, &bias, kernel), &x, steps, steps);
            let plain = |x| plain::convolve(&weight, &bias, kernel, (1, kernel / 2), x, steps);
            close(&out, sequences().flat_map(plain), 5e-5);
            found.extend(out);
        }
        let (weight, half) = (noise.vector(outputs * inputs * 3), steps.div_ceil(2));
        let out = run(set, &Conv::down(&weight, &bias), &x, steps, half);
        close(&out, sequences().flat_map(|x| plain::convolve(&weight, &bias, 3, (2, 1), x, half)), 5e-5);
        found.extend(out);
        let weight = noise.vector(outputs * inputs * 4);
        let out = run(set, &Conv::up(&weight, &bias), &x, steps, 2 * steps);
        close(&out, sequences().flat_map(|x| plain::transposed(&weight, &bias, 4, (2, 1), x, 2 * steps)), 5e-5);
        found.extend(out);
    }
    found
}

fn backward_is_the_transpose(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(2);
    let mut found = Vec::new();
    for ([inputs, outputs], steps) in SIZES.into_iter().flat_map(|size| STEPS.map(|steps| (size, steps))) {
        let zeros = vec![0.0; inputs];
        let (weight, grad) = (noise.vector(outputs * inputs * 5), noise.vector(COUNT * steps * outputs));
        let out = run(set, &Conv::same_backward(&weight, outputs, 5), &grad, steps, steps);
        let plain = |g| plain::transposed(&weight, &zeros, 5, (1, 2), g, steps);
        close(&out, grad.chunks_exact(steps * outputs).flat_map(plain), 5e-5);
        found.extend(out);
        let half = steps.div_ceil(2);
        let (weight, grad) = (noise.vector(outputs * inputs * 3), noise.vector(COUNT * half * outputs));
        let out = run(set, &Conv::down_backward(&weight, outputs), &grad, half, steps);
        let plain = |g| plain::transposed(&weight, &zeros, 3, (2, 1), g, steps);
        close(&out, grad.chunks_exact(half * outputs).flat_map(plain), 5e-5);
        found.extend(out);
    }
    found
}

fn a_sequence_has_the_same_bits(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(3);
    let conv = Conv::same(&noise.vector(40 * 24 * 5), &noise.vector(40), 5);
    // More steps than are gathered at a time.
    let x = noise.vector(50 * 7 * 24);
    let alone: Vec<f32> = x.chunks(7 * 24).flat_map(|x| run(set, &conv, x, 7, 7)).collect();
    for count in [1, 3, 49, 50] {
        assert_eq!(run(set, &conv, &x[..count * 7 * 24], 7, 7), alone[..count * 7 * 40], "{count} sequences");
    }
    alone
}
