use crate::noise::{close, Noise};
use crate::Case;
use drcorl_kernels::affine::{affine, plain, Layer, Rows};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] = &[
    ("affine", as_the_formula),
    ("affine of a row alone and in any batch", a_row_has_the_same_bits),
    ("affine of NaN", nan_is_not_hidden),
];

/// Inputs and outputs: of every remainder of a panel, of more than one block of panels,
/// of more inputs than zeros are looked for in.
const SIZES: [[usize; 2]; 7] = [[1, 1], [3, 5], [17, 256], [256, 256], [8, 33], [60, 130], [1100, 20]];

fn as_the_formula(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(1);
    let mut found = Vec::new();
    for ([inputs, outputs], relu) in SIZES.into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let (weight, bias) = (noise.vector(outputs * inputs), noise.vector(outputs));
        let layer = Layer::pack(inputs, &weight, &bias);
        // Half of the inputs are zeros, as behind a ReLU.
        let (count, stride) = (9, inputs + 2);
        let values = noise.active(count * stride);
        let mut out = vec![f32::NAN; count * layer.width()];
        affine(set, &layer, relu, Rows { values: &values, stride, count }, &mut out);
        for (x, out) in values.chunks(stride).zip(out.chunks(layer.width())) {
            let tolerance = 2e-6 * (inputs as f64).sqrt() + 1e-6;
            close(&out[..outputs], plain::affine(&weight, &bias, relu, &x[..inputs]), tolerance);
        }
        found.extend(out);
    }
    found
}

fn a_row_has_the_same_bits(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(2);
    for [inputs, outputs] in SIZES {
        let layer = Layer::pack(inputs, &noise.vector(outputs * inputs), &noise.vector(outputs));
        let values = noise.active(33 * inputs);
        let run = |values: &[f32]| {
            let count = values.len() / inputs;
            let mut out = vec![f32::NAN; count * layer.width()];
            affine(set, &layer, true, Rows { values, stride: inputs, count }, &mut out);
            out
        };
        let alone: Vec<f32> = values.chunks(inputs).flat_map(run).collect();
        for count in [2, 3, 4, 5, 7, 31, 32, 33] {
            let batch = run(&values[..count * inputs]);
            assert_eq!(batch, alone[..batch.len()], "{count} rows");
        }
    }
    Vec::new()
}

fn nan_is_not_hidden(set: InstructionSet) -> Vec<f32> {
    let layer = Layer::pack(2, &[1.0; 40], &[0.0; 20]);
    for count in [1, 5] {
        let mut out = vec![0.0; count * layer.width()];
        affine(set, &layer, true, Rows { values: &vec![f32::NAN; 2 * count], stride: 2, count }, &mut out);
        assert!(out.chunks(layer.width()).all(|row| row[..20].iter().all(|x| x.is_nan())));
    }
    Vec::new()
}
