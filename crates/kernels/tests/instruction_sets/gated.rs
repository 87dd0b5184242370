use crate::gemm::on;
use crate::noise::{close, Noise};
use drcorl_kernels::gated::{self, plain, Layers};
use drcorl_kernels::gemm::{Active, Gates, Kernel, Matrix, MatrixMut};
use drcorl_kernels::InstructionSet;
use libtest_mimic::Trial;

pub fn trials() -> impl Iterator<Item = Trial> {
    const CASES: [(&str, fn()); 3] = [
        ("gated::{forward, input_gradient, parameter_gradients}", as_the_formulas),
        ("gated, no rows", no_rows_have_no_gradients),
        ("gated, NaN", nan_is_not_hidden),
    ];
    CASES.into_iter().map(|(case, run)| on(Kernel::Amx, "amx", case, run))
}

/// W, b and w of n units with m inputs.
fn parameters(noise: &mut Noise, n: usize, m: usize) -> [Vec<f32>; 3] {
    [noise.vector(n * m), noise.vector(n), noise.vector(n)]
}

/// Of every remainder of rows and widths, of all rows and of some, in place and not.
fn as_the_formulas() {
    let mut noise = Noise::new(1);
    for [rows, n, m] in [[1, 1, 1], [5, 33, 7], [64, 512, 256], [300, 70, 65], [97, 256, 256], [33, 48, 31]] {
        let input = noise.active(rows * m);
        let [weight, bias, head] = parameters(&mut noise, n, m);
        let layers = Layers { weight: &weight, bias: &bias, head: &head, offset: noise.normal() };
        let near = |found: &[f32], wanted: Vec<f64>| {
            let most = wanted.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
            close(found, wanted, 2e-6 * most * (n as f64).sqrt());
        };

        let mut outputs = vec![7.0; rows * 3];
        let mut gates = Gates::shut(rows + 2, n);
        let values = MatrixMut::new(&mut outputs[1..], [rows, 1], [3, 1]);
        gated::forward(values, Matrix::dense(&input, m), &layers, Some((&mut gates, 2)));
        let found: Vec<f32> = outputs.iter().skip(1).step_by(3).copied().collect();
        near(&found, input.chunks(m).map(|x| plain::forward(&layers, x).1).collect());
        assert_eq!(outputs.iter().filter(|&&x| x == 7.0).count(), 2 * rows, "columns of others");
        let mut again = vec![f32::NAN; rows];
        gated::forward(MatrixMut::dense(&mut again, 1), Matrix::dense(&input, m), &layers, None);
        assert_eq!(again, found, "without gates");

        let some: Vec<usize> = (0..rows).filter(|row| row % 3 != 1).collect();
        for list in [(0..rows).collect(), some] {
            let gates = gates.pick(&list.iter().map(|row| *row as i64 + 2).collect::<Vec<i64>>());
            let input: Vec<f32> = list.iter().flat_map(|row| input[row * m..][..m].to_vec()).collect();
            let grad = noise.vector(list.len());
            let wanted: Vec<_> = input.chunks(m).zip(&grad).map(|(x, &s)| plain::backward(&layers, x, s)).collect();

            let mut gradients = [vec![f32::NAN; n * m], vec![f32::NAN; n], vec![f32::NAN; n]];
            let [for_weight, for_bias, for_head] = &mut gradients;
            let places = [&mut for_weight[..], &mut for_bias[..], &mut for_head[..]];
            let set = InstructionSet::best();
            gated::parameter_gradients(set, &grad, Matrix::dense(&input, m), &gates, &layers, places);
            for (part, found) in (1..).zip(&gradients) {
                near(found, (0..found.len()).map(|i| wanted.iter().map(|parts| parts[part][i]).sum()).collect());
            }

            let through = wanted.iter().flat_map(|parts| &parts[0]).zip(&input);
            let through = through.map(|(g, &x)| if x > 0.0 { *g } else { 0.0 }).collect();
            let mut apart = vec![f32::NAN; input.len()];
            let active = Active::Apart(Matrix::dense(&input, m));
            gated::input_gradient(MatrixMut::dense(&mut apart, m), &grad, &gates, &layers, active);
            near(&apart, through);
            if Kernel::Amx.overwrites(n) {
                let mut over = input.clone();
                gated::input_gradient(MatrixMut::dense(&mut over, m), &grad, &gates, &layers, Active::InPlace);
                assert_eq!(over, apart, "in place");
            }
        }
    }
}

fn no_rows_have_no_gradients() {
    let [weight, bias, head] = parameters(&mut Noise::new(2), 40, 20);
    let layers = Layers { weight: &weight, bias: &bias, head: &head, offset: 1.0 };
    let (gates, input) = (Gates::shut(0, 40), Matrix::dense(&[], 20));
    let mut gradients = [vec![7.0; 800], vec![7.0; 40], vec![7.0; 40]];
    let [for_weight, for_bias, for_head] = &mut gradients;
    let places = [&mut for_weight[..], &mut for_bias[..], &mut for_head[..]];
    gated::parameter_gradients(InstructionSet::best(), &[], input, &gates, &layers, places);
    assert!(gradients.concat().iter().all(|&x| x == 0.0));
    gated::input_gradient(MatrixMut::dense(&mut [], 20), &[], &gates, &layers, Active::Apart(input));
}

/// An overflow must not look like a dead unit.
fn nan_is_not_hidden() {
    let [weight, bias, head] = parameters(&mut Noise::new(3), 40, 20);
    let layers = Layers { weight: &weight, bias: &bias, head: &head, offset: 1.0 };
    let mut input = Noise::new(4).vector(60);
    input[20..40].fill(f32::NAN);
    let mut values = [7.0; 3];
    gated::forward(MatrixMut::dense(&mut values, 1), Matrix::dense(&input, 20), &layers, None);
    assert_eq!(values.map(f32::is_nan), [false, true, false]);
}
