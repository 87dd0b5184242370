use crate::gemm::{left_out, on};
use crate::noise::{close, Noise};
use drcorl_kernels::gated::{self, plain, Layers};
use drcorl_kernels::gemm::plain::rounded;
use drcorl_kernels::gemm::{Active, Gates, Kernel, Matrix, MatrixMut, Precision};
use drcorl_kernels::InstructionSet;
use libtest_mimic::Trial;

/// A case's name, and what runs it at a precision.
type Case = (&'static str, fn(Precision));

pub fn trials() -> impl Iterator<Item = Trial> {
    const CASES: [Case; 3] = [
        ("gated::{forward, input_gradient, parameter_gradients}", as_the_formulas),
        ("gated, no rows", no_rows_have_no_gradients),
        ("gated, NaN", nan_is_not_hidden),
    ];
    let precisions =
        [("amx", Precision::Highest), ("amx, high", Precision::High), ("amx, medium", Precision::Medium)].into_iter();
    precisions.flat_map(|(name, precision)| {
        CASES.into_iter().map(move |(case, run)| on(Kernel::Amx(precision), name, case, move || run(precision)))
    })
}

/// W, b and w of n units with m inputs.
fn parameters(noise: &mut Noise, n: usize, m: usize) -> [Vec<f32>; 3] {
    [noise.vector(n * m), noise.vector(n), noise.vector(n)]
}

/// Of every remainder of rows and widths, of all rows and of some, in place and not. Below the highest precision
/// operands are drawn among the bf16, so that gates are those of the formulas; what is multiplied by a number a row
/// before is rounded all the same.
fn as_the_formulas(precision: Precision) {
    let mut noise = Noise::new(1);
    for [rows, n, m] in [[1, 1, 1], [5, 33, 7], [64, 512, 256], [300, 70, 65], [97, 256, 256], [33, 48, 31]] {
        let drawn = |values: Vec<f32>| match precision {
            Precision::Highest => values,
            _ => values.into_iter().map(rounded).collect(),
        };
        let input = drawn(noise.active(rows * m));
        let [weight, bias, head] = parameters(&mut noise, n, m).map(drawn);
        let layers = Layers { weight: &weight, bias: &bias, head: &head, offset: noise.normal() };
        // All gates are open where nothing is negative, so that these sum the terms.
        let [some_weight, some_bias, some_head] = [&weight, &bias, &head].map(|values| absolute(values));
        let terms = Layers { weight: &some_weight, bias: &some_bias, head: &some_head, offset: 0.0 };
        let near = |found: &[f32], wanted: Vec<f64>, terms: Vec<f64>| {
            let [most, terms] =
                [wanted.iter(), terms.iter()].map(|all| all.fold(1.0, |most: f64, x| most.max(x.abs())));
            close(found, wanted, 2e-6 * most * (n as f64).sqrt() + left_out(precision) * terms);
        };

        let mut outputs = vec![7.0; rows * 3];
        let mut gates = Gates::shut(rows + 2, n);
        let values = MatrixMut::new(&mut outputs[1..], [rows, 1], [3, 1]);
        gated::forward(precision, values, Matrix::dense(&input, m), &layers, Some((&mut gates, 2)));
        let found: Vec<f32> = outputs.iter().skip(1).step_by(3).copied().collect();
        near(&found, input.chunks(m).map(|x| plain::forward(&layers, x).1).collect(), Vec::new());
        assert_eq!(outputs.iter().filter(|&&x| x == 7.0).count(), 2 * rows, "columns of others");
        let mut again = vec![f32::NAN; rows];
        gated::forward(precision, MatrixMut::dense(&mut again, 1), Matrix::dense(&input, m), &layers, None);
        assert_eq!(again, found, "without gates");

        let some: Vec<usize> = (0..rows).filter(|row| row % 3 != 1).collect();
        for list in [(0..rows).collect(), some] {
            let gates = gates.pick(&list.iter().map(|row| *row as i64 + 2).collect::<Vec<i64>>());
            let input: Vec<f32> = list.iter().flat_map(|row| input[row * m..][..m].to_vec()).collect();
            let grad = noise.vector(list.len());
            let of = |layers: &Layers, input: &[f32], grad: &[f32]| {
                input.chunks(m).zip(grad).map(|(x, &s)| plain::backward(layers, x, s)).collect::<Vec<_>>()
            };
            let (wanted, terms) = (of(&layers, &input, &grad), of(&terms, &input, &absolute(&grad)));
            let sum = |rows: &[[Vec<f64>; 4]], part: usize| {
                let width = rows.first().map_or(0, |parts| parts[part].len());
                (0..width).map(|i| rows.iter().map(|parts| parts[part][i]).sum()).collect::<Vec<f64>>()
            };

            let mut gradients = [vec![f32::NAN; n * m], vec![f32::NAN; n], vec![f32::NAN; n]];
            let [for_weight, for_bias, for_head] = &mut gradients;
            let places = [&mut for_weight[..], &mut for_bias[..], &mut for_head[..]];
            let how = (InstructionSet::best(), precision);
            gated::parameter_gradients(how, &grad, Matrix::dense(&input, m), &gates, &layers, places);
            for (part, found) in (1..).zip(&gradients).filter(|_| !list.is_empty()) {
                near(found, sum(&wanted, part), sum(&terms, part));
            }

            let through = |rows: &[[Vec<f64>; 4]]| {
                let all = rows.iter().flat_map(|parts| &parts[0]).zip(&input);
                all.map(|(g, &x)| if x > 0.0 { *g } else { 0.0 }).collect::<Vec<f64>>()
            };
            let mut apart = vec![f32::NAN; input.len()];
            let active = Active::Apart(Matrix::dense(&input, m));
            gated::input_gradient(precision, MatrixMut::dense(&mut apart, m), &grad, &gates, &layers, active);
            near(&apart, through(&wanted), through(&terms));
            if Kernel::Amx(precision).overwrites(n) {
                let mut over = input.clone();
                let out = MatrixMut::dense(&mut over, m);
                gated::input_gradient(precision, out, &grad, &gates, &layers, Active::InPlace);
                assert_eq!(over, apart, "in place");
            }
        }
    }
}

fn absolute(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| x.abs()).collect()
}

fn no_rows_have_no_gradients(precision: Precision) {
    let [weight, bias, head] = parameters(&mut Noise::new(2), 40, 20);
    let layers = Layers { weight: &weight, bias: &bias, head: &head, offset: 1.0 };
    let (gates, input) = (Gates::shut(0, 40), Matrix::dense(&[], 20));
    let mut gradients = [vec![7.0; 800], vec![7.0; 40], vec![7.0; 40]];
    let [for_weight, for_bias, for_head] = &mut gradients;
    let places = [&mut for_weight[..], &mut for_bias[..], &mut for_head[..]];
    gated::parameter_gradients((InstructionSet::best(), precision), &[], input, &gates, &layers, places);
    assert!(gradients.concat().iter().all(|&x| x == 0.0));
    gated::input_gradient(precision, MatrixMut::dense(&mut [], 20), &[], &gates, &layers, Active::Apart(input));
}

/// An overflow must not look like a dead unit.
fn nan_is_not_hidden(precision: Precision) {
    let [weight, bias, head] = parameters(&mut Noise::new(3), 40, 20);
    let layers = Layers { weight: &weight, bias: &bias, head: &head, offset: 1.0 };
    let mut input = Noise::new(4).vector(60);
    input[20..40].fill(f32::NAN);
    let mut values = [7.0; 3];
    gated::forward(precision, MatrixMut::dense(&mut values, 1), Matrix::dense(&input, 20), &layers, None);
    assert_eq!(values.map(f32::is_nan), [false, true, false]);
}
