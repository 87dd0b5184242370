use crate::noise::{close, wide, Noise};
use crate::Case;
use drcorl_kernels::steps::{self, plain, AdamScalars};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] = &[("steps::adam", adam), ("steps::ema", ema)];

fn adam(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(1);
    let [value, grad, first] = [(); 3].map(|()| noise.vector(50));
    let second: Vec<f32> = noise.vector(50).iter().map(|x| x.abs()).collect();
    let formula = plain::Adam { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 3 };
    let scalars = AdamScalars {
        step_size: (formula.lr / (1.0 - formula.beta1.powi(formula.step))) as f32,
        second_correction: (1.0 / (1.0 - formula.beta2.powi(formula.step)).sqrt()) as f32,
        beta1: formula.beta1 as f32,
        beta2: formula.beta2 as f32,
        eps: formula.eps as f32,
        decay: (1.0 - formula.lr * formula.weight_decay) as f32,
    };
    let mut found = [value, first, second];
    let before = [0, 1, 2].map(|part: usize| found[part].clone());
    let [p, m, v] = &mut found;
    steps::adam(set, p, &grad, m, v, scalars);
    let wanted: Vec<[f64; 3]> = (0..50)
        .map(|i| formula.step([0, 1, 2].map(|part: usize| f64::from(before[part][i])), grad[i].into()))
        .collect();
    for (part, found) in found.iter().enumerate() {
        close(found, wanted.iter().map(|wanted| wanted[part]), 1e-6);
    }
    found.concat()
}

fn ema(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(2);
    let [target, source] = [(); 2].map(|()| noise.vector(50));
    let mut out = target.clone();
    steps::ema(set, &mut out, &source, 0.3);
    close(&out, wide(&target).zip(wide(&source)).map(|(t, s)| plain::ema(t, s, 0.3)), 1e-6);
    out
}
