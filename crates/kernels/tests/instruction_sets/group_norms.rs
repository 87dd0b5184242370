use crate::noise::{close, Noise};
use crate::Case;
use drcorl_kernels::group_norms::{self, plain};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] =
    &[("group_norms::group_norm", group_norm), ("group_norms::group_norm_backward", group_norm_backward)];

const EPS: f64 = 1e-5;
const COUNT: usize = 3;
/// Steps, channels, groups.
const SIZES: [[usize; 3]; 4] = [[1, 16, 8], [8, 24, 8], [5, 40, 8], [4, 128, 8]];

/// Numbers that are neither centred nor of unit variance, a weight and a bias.
fn inputs(noise: &mut Noise, [steps, channels, _]: [usize; 3]) -> [Vec<f32>; 3] {
    let x = noise.vector(COUNT * steps * channels).iter().map(|x| 3.0 * x + 1.0).collect();
    [x, noise.vector(channels), noise.vector(channels)]
}

fn forward(set: InstructionSet, [steps, channels, groups]: [usize; 3], parts: &[Vec<f32>; 3]) -> [Vec<f32>; 3] {
    let [x, weight, bias] = parts;
    let mut out = vec![f32::NAN; x.len()];
    let [mut mean, mut rstd] = [(); 2].map(|()| vec![f32::NAN; COUNT * channels]);
    group_norms::group_norm(set, x, steps, groups, weight, bias, EPS as f32, &mut out, &mut mean, &mut rstd);
    [out, mean, rstd]
}

fn group_norm(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(1);
    let run = |size: [usize; 3]| {
        let parts = inputs(&mut noise, size);
        let [x, weight, bias] = &parts;
        let [out, mean, rstd] = forward(set, size, &parts);
        let plain = |x| plain::group_norm(x, size[2], weight, bias, EPS);
        close(&out, x.chunks_exact(size[0] * size[1]).flat_map(plain), 3e-5);
        [out, mean, rstd].concat()
    };
    SIZES.into_iter().flat_map(run).collect()
}

fn group_norm_backward(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(2);
    let run = |size: [usize; 3]| {
        let [steps, channels, groups] = size;
        let parts = inputs(&mut noise, size);
        let [x, weight, _] = &parts;
        let [_, mean, rstd] = forward(set, size, &parts);
        let grad = noise.vector(x.len());
        let (mut out, mut scratch) = (grad.clone(), vec![f32::NAN; 2 * channels]);
        group_norms::group_norm_backward(set, x, steps, groups, weight, &mean, &rstd, &mut out, &mut scratch);
        let sequences = x.chunks_exact(steps * channels).zip(grad.chunks_exact(steps * channels));
        let plain = |(x, grad)| plain::group_norm_backward(x, groups, weight, grad, EPS);
        // Two numbers a group of one step: the root of a variance near 0 is large.
        close(&out, sequences.flat_map(plain), 2e-3);
        out
    };
    SIZES.into_iter().flat_map(run).collect()
}
