use crate::noise::{close, wide, Noise};
use crate::Case;
use drcorl_kernels::norms::{self, plain};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] = &[
    ("norms::layer_norm", layer_norm),
    ("norms::layer_norm_backward", layer_norm_backward),
    ("norms::layer_norm_rows", layer_norm_rows),
];

const ROWS: usize = 5;
const EPS: f64 = 1e-5;
const WIDTHS: [usize; 4] = [1, 8, 37, 128];

/// Rows that are neither centred nor of unit variance, a weight and a bias.
fn inputs(noise: &mut Noise, width: usize) -> [Vec<f32>; 3] {
    let x = noise.vector(ROWS * width).iter().map(|x| 3.0 * x + 1.0).collect();
    [x, noise.vector(width), noise.vector(width)]
}

fn layer_norm(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(1);
    let run = |width| {
        let [x, weight, bias] = inputs(&mut noise, width);
        let (mut out, [mut mean, mut rstd]) = (x.clone(), [(); 2].map(|()| vec![f32::NAN; ROWS]));
        norms::layer_norm(set, &x, &weight, &bias, EPS as f32, &mut out, &mut mean, &mut rstd);
        let rows = || x.chunks_exact(width);
        close(&out, rows().flat_map(|row| plain::layer_norm(row, &weight, &bias, EPS)), 1e-5);
        close(&mean, rows().map(|row| plain::normalize(row, EPS).1), 1e-6);
        let relative: Vec<f32> = rstd.iter().zip(rows()).map(|(r, x)| r / plain::normalize(x, EPS).2 as f32).collect();
        close(&relative, [1.0; ROWS], 1e-6);
        [out, mean, rstd].concat()
    };
    WIDTHS.into_iter().flat_map(run).collect()
}

fn layer_norm_backward(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(2);
    let run = |width| {
        let [x, weight, bias] = inputs(&mut noise, width);
        let (mut out, [mut mean, mut rstd]) = (x.clone(), [(); 2].map(|()| vec![f32::NAN; ROWS]));
        norms::layer_norm(set, &x, &weight, &bias, EPS as f32, &mut out, &mut mean, &mut rstd);
        let (grad, before) = (noise.vector(x.len()), noise.vector(width));
        let (mut input, [mut for_weight, mut for_bias]) = (grad.clone(), [(); 2].map(|()| before.clone()));
        norms::layer_norm_backward(set, &x, &mean, &rstd, &weight, &mut input, &mut for_weight, &mut for_bias);
        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
        let wanted: Vec<_> = rows.map(|(x, grad)| plain::layer_norm_backward(x, &weight, grad, EPS)).collect();
        close(&input, wanted.iter().flat_map(|[input, ..]| input.iter().copied()), 1e-5);
        for (found, part) in [(&for_weight, 1), (&for_bias, 2)] {
            let sum = |i: usize| wanted.iter().map(|parts| parts[part][i]).sum::<f64>();
            close(found, wide(&before).enumerate().map(|(i, before)| before + sum(i)), 1e-5);
        }
        [input, for_weight, for_bias].concat()
    };
    // A single number is all mean: its gradient is a difference of equal numbers times 1 / sqrt(eps).
    WIDTHS[1..].iter().copied().flat_map(run).collect()
}

/// The same code on every set.
fn layer_norm_rows(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(3);
    let run = |width| {
        let [x, weight, bias] = inputs(&mut noise, width);
        let mut out = x.clone();
        norms::layer_norm_rows(set, &x, &weight, &bias, EPS as f32, &mut out);
        close(&out, x.chunks_exact(width).flat_map(|row| plain::layer_norm(row, &weight, &bias, EPS)), 1e-5);
        out
    };
    WIDTHS.into_iter().flat_map(run).collect()
}
