use crate::noise::{close, Noise};
use crate::Case;
use drcorl_kernels::attention::{self, plain, Attention, Scratch};
use drcorl_kernels::{Dropout, InstructionSet};

pub const CASES: &[Case] = &[("attention::{forward, backward}", forward_and_backward)];

/// Sizes of a case: heads, width of one, tokens, those that ask, tokens of each sequence that are no padding.
type Sizes<'a> = (usize, usize, usize, &'a [usize], &'a [usize]);

fn forward_and_backward(set: InstructionSet) -> Vec<f32> {
    let all: Vec<usize> = (0..40).collect();
    let sizes: [Sizes; 5] = [
        (8, 16, 40, &all, &[40, 4, 12]),
        (8, 16, 40, &[2, 3, 6, 7, 38, 39], &[40, 1, 8]),
        (4, 8, 21, &all[..21], &[21, 5]),
        (2, 37, 7, &[6], &[7, 3]),
        (3, 1, 17, &all[..17], &[17]),
    ];
    let dropouts = [Dropout::NONE, Dropout::new(0.3, 9)];
    dropouts.iter().flat_map(|&dropout| sizes.iter().flat_map(move |&sizes| case(set, sizes, dropout))).collect()
}

fn case(set: InstructionSet, (heads, width, tokens, queries, valid): Sizes, dropout: Dropout) -> Vec<f32> {
    let mut noise = Noise::new(9);
    let shape = Attention { heads, tokens, queries, valid, dropout };
    let e = heads * width;
    let (asked, all) = (valid.len() * queries.len() * e, valid.len() * tokens * 2 * e);
    let (q, kv, grad) = (noise.vector(asked), noise.vector(all), noise.vector(asked));

    let (mut out, mut weights) = (vec![f32::NAN; asked], vec![f32::NAN; shape.weights()]);
    attention::forward(set, &shape, &q, &kv, &mut out, &mut weights, &mut Scratch::default());
    let (mut for_q, mut for_kv) = (vec![f32::NAN; asked], vec![f32::NAN; all]);
    attention::backward(set, &shape, [&q, &kv, &weights, &grad], &mut for_q, &mut for_kv);

    let [mut wanted, mut wanted_for_q] = [(); 2].map(|()| vec![f64::NAN; asked]);
    let (mut wanted_weights, mut wanted_for_kv) = (vec![0.0; shape.weights()], vec![0.0; all]);
    for (sequence, &valid) in valid.iter().enumerate() {
        for head in 0..heads {
            for (query, &token) in queries.iter().enumerate() {
                let seen = (token + 1).min(valid);
                let row = ((sequence * queries.len() + query) * heads + head) * width;
                let place = |key: usize| (sequence * tokens + key) * 2 * e + head * width;
                let keys: Vec<&[f32]> = (0..seen).map(|key| &kv[place(key)..][..width]).collect();
                let values: Vec<&[f32]> = (0..seen).map(|key| &kv[place(key) + e..][..width]).collect();
                let at = ((sequence * heads + head) * queries.len() + query) * shape.padded();
                let factors: Vec<f32> = (at..at + seen).map(|i| dropout.factor(i as u32)).collect();
                let (q, grad) = (&q[row..row + width], &grad[row..row + width]);
                wanted_weights[at..at + seen].copy_from_slice(&plain::weights(q, &keys));
                wanted[row..row + width].copy_from_slice(&plain::attend(q, &keys, &values, &factors));
                let (query, keys, values) = plain::attend_backward(q, &keys, &values, &factors, grad);
                wanted_for_q[row..row + width].copy_from_slice(&query);
                for (key, (for_key, for_value)) in keys.iter().zip(&values).enumerate() {
                    for i in 0..width {
                        wanted_for_kv[place(key) + i] += for_key[i];
                        wanted_for_kv[place(key) + e + i] += for_value[i];
                    }
                }
            }
        }
    }
    close(&out, wanted, 2e-6);
    close(&weights, wanted_weights, 1e-6);
    close(&for_q, wanted_for_q, 1e-5);
    close(&for_kv, wanted_for_kv, 1e-5);
    [out, weights, for_q, for_kv].concat()
}
