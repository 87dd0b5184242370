use crate::noise::{close, wide, Noise};
use crate::Case;
use drcorl_kernels::gemm::Matrix;
use drcorl_kernels::losses::{self, plain};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] = &[("losses::squared_error", squared_error), ("losses::gaussian_fit", gaussian_fit)];

fn squared_error(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(1);
    let values = noise.vector(9 * 3);
    let mut found = Vec::new();
    for targets in [1, 3] {
        let target = noise.vector(9 * targets);
        for member in 0..3 {
            let mut grad = vec![f32::NAN; 9];
            let value = Matrix::new(&values[member..], [9, 1], [3, 1]);
            let goal = Matrix::new(&target[member % targets..], [9, 1], [targets, 1]);
            let sum = losses::squared_error(set, value, goal, 0.25, &mut grad);
            let error =
                |b: usize| f64::from(values[3 * b + member]) - f64::from(target[targets * b + member % targets]);
            close(&grad, (0..9).map(|b| 0.25 * error(b)), 1e-6);
            assert!((sum - (0..9).map(|b| error(b).powi(2)).sum::<f64>()).abs() < 1e-5);
            found.extend(grad.into_iter().chain([sum as f32]));
        }
    }
    let none = Matrix::dense(&[], 1);
    assert_eq!(losses::squared_error(set, none, none, 1.0, &mut []), 0.0, "no rows");
    found
}

fn gaussian_fit(set: InstructionSet) -> Vec<f32> {
    const ROWS: usize = 9;
    let mut noise = Noise::new(2);
    let mut found = Vec::new();
    for columns in [1, 2, 17] {
        let (target, outputs) = (noise.vector(ROWS * columns), noise.vector(2 * ROWS * columns));
        let weight = noise.active(ROWS);
        let (low, high) = (-1.0, 0.5);
        let mut grad = vec![f32::NAN; outputs.len()];
        let sum = losses::gaussian_fit(set, &outputs, &target, &weight, (low, high), &mut grad);
        let (mut wanted, mut gradients) = (0.0, vec![0.0; outputs.len()]);
        for row in 0..ROWS {
            let (weight, first) = (f64::from(weight[row]), 2 * row * columns);
            for i in 0..columns {
                let [mu, log_std] = [first + i, first + columns + i].map(|at| f64::from(outputs[at]));
                let goal = f64::from(target[row * columns + i]);
                let (loss, [for_mu, for_log_std]) =
                    plain::gaussian_fit(mu, log_std, goal, (f64::from(low), f64::from(high)));
                wanted += weight * loss;
                gradients[first + i] = weight * for_mu / ROWS as f64;
                gradients[first + columns + i] = weight * for_log_std / ROWS as f64;
            }
        }
        assert!((sum - wanted).abs() < 1e-5 * wanted.abs().max(1.0), "{sum} instead of {wanted}");
        close(&grad, gradients, 3e-6);
        found.extend(grad.into_iter().chain([sum as f32]));
    }
    let inside = wide(&found).filter(|x| *x == 0.0).count();
    assert!(inside > 0, "some deviations lie outside of the range");
    found
}
