//! Convolutions along the steps of sequences, as planners at play use them.
//!
//! A sequence is `[steps, channels]`, step after step, so that what a convolution reads for one step lies in a few
//! stretches. They are gathered into a row, and the rows of many steps and sequences go through [`crate::affine`]: a
//! step's result has the same bits alone and in any batch. Where sequences are so short that many taps lie outside of
//! them, the steps that a tap reaches go through its part of the layer instead, tap after tap. The terms that are left
//! out are zeros, so the bits are the same.

use crate::affine::{affine, affine_parts, Layer, Part, Places, Rows, PARTS_WIDTH};
use crate::InstructionSet;
use std::ops::Range;

/// The formulas, of one sequence `x [steps, inputs]`.
pub mod plain {
    /// `out[h,o] = bias[o] + sum_{c,k} weight[o,c,k] x[stride h + k - padding, c]`, zeros outside of the sequence;
    /// `[out_steps, outputs]`.
    pub fn convolve(
        weight: &[f32],
        bias: &[f32],
        kernel: usize,
        (stride, padding): (usize, usize),
        x: &[f32],
        out_steps: usize,
    ) -> Vec<f64> {
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len() / kernel);
        let at = |step: usize, c: usize| x.get(step * inputs + c).map_or(0.0, |&x| f64::from(x));
        let sum = |h: usize, o: usize| {
            let taps = (0..inputs).flat_map(|c| (0..kernel).map(move |k| (c, k)));
            taps.filter(|&(_, k)| stride * h + k >= padding)
                .map(|(c, k)| f64::from(weight[(o * inputs + c) * kernel + k]) * at(stride * h + k - padding, c))
                .sum::<f64>()
        };
        (0..out_steps * outputs).map(|at| f64::from(bias[at % outputs]) + sum(at / outputs, at % outputs)).collect()
    }

    /// What [`convolve`] spreads back: `out[stride h + k - padding, c] += weight[o,c,k] x[h,o]` over all o, h and k,
    /// and `bias[c]`; `[out_steps, outputs]`. With a bias of zeros the gradient at the input of [`convolve`] for a
    /// gradient `x` at its output.
    pub fn transposed(
        weight: &[f32],
        bias: &[f32],
        kernel: usize,
        (stride, padding): (usize, usize),
        x: &[f32],
        out_steps: usize,
    ) -> Vec<f64> {
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len() / kernel);
        let mut out: Vec<f64> = (0..out_steps * outputs).map(|at| f64::from(bias[at % outputs])).collect();
        for (at, &x) in x.iter().enumerate() {
            let (h, o) = (at / inputs, at % inputs);
            for k in 0..kernel {
                let Some(step) = (stride * h + k).checked_sub(padding).filter(|&step| step < out_steps) else {
                    continue;
                };
                for c in 0..outputs {
                    out[step * outputs + c] += f64::from(weight[(o * outputs + c) * kernel + k]) * f64::from(x);
                }
            }
        }
        out
    }
}

/// Rows gathered at a time: those of 256 channels and 5 taps fill half of a second-level cache.
const BLOCK: usize = 96;

/// Most taps that go through their parts of a layer.
const MOST_TAPS: usize = 8;

/// Every `phases.len()`th step of the result, from its number on.
#[derive(Debug, Clone)]
struct Phase {
    layer: Layer,
    /// Steps of the input it reads, counted from `stride` times its own number.
    offsets: Vec<isize>,
}

/// A convolution, a transposed one, or the gradient of one at its input. The result's step `phases m + p` is an affine
/// function of the input's steps `stride m + offsets`.
#[derive(Debug, Clone)]
pub struct Conv {
    phases: Vec<Phase>,
    stride: usize,
    inputs: usize,
    outputs: usize,
}

/// Working memory of [`Conv::apply`].
#[derive(Debug, Default)]
pub struct ConvScratch {
    rows: Vec<f32>,
    products: Vec<f32>,
}

/// The first `len` of a buffer, which grows where it is shorter.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

impl Conv {
    /// `taps` holds for every phase the offsets it reads and the kernel's index of each; `weight` gives the number that
    /// takes an input to an output at an index.
    fn new(
        [inputs, outputs]: [usize; 2],
        stride: usize,
        taps: &[Vec<(isize, usize)>],
        bias: &[f32],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Conv {
        let phase = |taps: &Vec<(isize, usize)>| {
            let row = |o: usize| {
                let weight = &weight;
                taps.iter().flat_map(move |&(_, k)| (0..inputs).map(move |c| weight(o, c, k)))
            };
            let values: Vec<f32> = (0..outputs).flat_map(row).collect();
            let offsets = taps.iter().map(|&(offset, _)| offset).collect();
            Phase { layer: Layer::pack(taps.len() * inputs, &values, bias), offsets }
        };
        Conv { phases: taps.iter().map(phase).collect(), stride, inputs, outputs }
    }

    fn sizes(weight: &[f32], bias: &[f32], kernel: usize) -> usize {
        let inputs = weight.len() / bias.len().max(1) / kernel;
        assert!(inputs > 0 && weight.len() == bias.len() * inputs * kernel, "a weight an input, output and tap");
        inputs
    }

    /// Of `weight [outputs, inputs, kernel]` with an odd kernel, padded by its half: as many steps as before.
    ///
    /// # Panics
    /// Here and below, if sizes disagree.
    pub fn same(weight: &[f32], bias: &[f32], kernel: usize) -> Conv {
        let inputs = Conv::sizes(weight, bias, kernel);
        let taps = (0..kernel).map(|k| (k as isize - (kernel / 2) as isize, k)).collect();
        Conv::new([inputs, bias.len()], 1, &[taps], bias, |o, c, k| weight[(o * inputs + c) * kernel + k])
    }

    /// Of `weight [outputs, inputs, 3]` at every other step, padded by one: half as many steps, rounded up.
    pub fn down(weight: &[f32], bias: &[f32]) -> Conv {
        let inputs = Conv::sizes(weight, bias, 3);
        let taps = (0..3).map(|k| (k as isize - 1, k)).collect();
        Conv::new([inputs, bias.len()], 2, &[taps], bias, |o, c, k| weight[(o * inputs + c) * 3 + k])
    }

    /// Of `weight [inputs, outputs, 4]`, transposed with stride 2 and padding 1: twice as many steps.
    pub fn up(weight: &[f32], bias: &[f32]) -> Conv {
        let (inputs, outputs) = (Conv::sizes(weight, bias, 4), bias.len());
        let taps = [vec![(0, 1), (-1, 3)], vec![(1, 0), (0, 2)]];
        Conv::new([inputs, outputs], 1, &taps, bias, |o, c, k| weight[(c * outputs + o) * 4 + k])
    }

    /// From the gradient at the output of [`Conv::same`] to that at its input; `outputs` is the convolution's.
    pub fn same_backward(weight: &[f32], outputs: usize, kernel: usize) -> Conv {
        let inputs = weight.len() / outputs / kernel;
        let taps = (0..kernel).map(|k| ((kernel / 2) as isize - k as isize, k)).collect();
        let bias = vec![0.0; inputs];
        Conv::new([outputs, inputs], 1, &[taps], &bias, |c, o, k| weight[(o * inputs + c) * kernel + k])
    }

    /// From the gradient at the output of [`Conv::down`] to that at its input; `outputs` is the convolution's.
    pub fn down_backward(weight: &[f32], outputs: usize) -> Conv {
        let inputs = weight.len() / outputs / 3;
        let taps = [vec![(0, 1)], vec![(0, 2), (1, 0)]];
        let bias = vec![0.0; inputs];
        Conv::new([outputs, inputs], 1, &taps, &bias, |c, o, k| weight[(o * inputs + c) * 3 + k])
    }

    /// Channels it takes.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Channels it gives.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Products an output step takes, on average.
    pub fn work(&self) -> usize {
        let taps: usize = self.phases.iter().map(|phase| phase.offsets.len()).sum();
        self.inputs * self.outputs * taps / self.phases.len()
    }

    /// `out [count, out_steps, outputs]` of `x [count, steps, inputs]`. See [`plain`].
    ///
    /// # Panics
    /// If either holds fewer.
    pub fn apply(
        &self,
        set: InstructionSet,
        (x, steps): (&[f32], usize),
        (out, out_steps): (&mut [f32], usize),
        count: usize,
        scratch: &mut ConvScratch,
    ) {
        let x = &x[..count * steps * self.inputs];
        let out = &mut out[..count * out_steps * self.outputs];
        for (number, phase) in self.phases.iter().enumerate() {
            let places = out_steps.saturating_sub(number).div_ceil(self.phases.len());
            let reached: usize = phase.offsets.iter().map(|&offset| self.reach(offset, steps, places).len()).sum();
            // A part of a layer costs a visit of the sums: a tenth of the products must be saved for that.
            let fits = self.outputs.is_multiple_of(PARTS_WIDTH) && phase.offsets.len() <= MOST_TAPS;
            if fits && 10 * reached <= 9 * places * phase.offsets.len() {
                self.by_taps(set, number, (x, steps), (out, out_steps), places);
            } else {
                self.by_rows(set, number, (x, steps), (out, out_steps), (count, places), scratch);
            }
        }
    }

    /// Which of `places` of a phase read a step inside of the sequence at this offset.
    fn reach(&self, offset: isize, steps: usize, places: usize) -> Range<usize> {
        let first = offset.min(0).unsigned_abs().div_ceil(self.stride);
        let end = steps.saturating_sub(offset.max(0) as usize) + offset.min(0).unsigned_abs();
        let end = end.div_ceil(self.stride).min(places);
        first.min(end)..end
    }

    /// Phase `number`, tap after tap, of the steps that each reaches.
    fn by_taps(
        &self,
        set: InstructionSet,
        number: usize,
        (x, steps): (&[f32], usize),
        (out, out_steps): (&mut [f32], usize),
        places: usize,
    ) {
        let (phase, phases) = (&self.phases[number], self.phases.len());
        let sequences = (BLOCK / places.max(1)).max(1);
        let blocks = x.chunks(sequences * steps * self.inputs);
        for (x, out) in blocks.zip(out.chunks_mut(sequences * out_steps * self.outputs)) {
            let count = x.len() / (steps * self.inputs);
            let to = |run: usize| Places { stride: phases * self.outputs, run, jump: out_steps * self.outputs };
            let mut parts = [Part::default(); MOST_TAPS];
            let mut taps = 0;
            for (tap, &offset) in phase.offsets.iter().enumerate() {
                let reach = self.reach(offset, steps, places);
                if reach.is_empty() {
                    continue;
                }
                let from = Places { stride: self.stride * self.inputs, run: reach.len(), jump: steps * self.inputs };
                parts[taps] = Part {
                    first: tap * self.inputs,
                    width: self.inputs,
                    count: count * reach.len(),
                    from: ((self.stride * reach.start).wrapping_add_signed(offset) * self.inputs, from),
                    to: ((phases * reach.start + number) * self.outputs, to(reach.len())),
                };
                taps += 1;
            }
            let all = (out, (number * self.outputs, to(places)), count * places);
            affine_parts(set, &phase.layer, &parts[..taps], x, all);
        }
    }

    /// Phase `number`, of rows that hold what a step reads.
    fn by_rows(
        &self,
        set: InstructionSet,
        number: usize,
        (x, steps): (&[f32], usize),
        (out, out_steps): (&mut [f32], usize),
        (count, places): (usize, usize),
        scratch: &mut ConvScratch,
    ) {
        let phase = &self.phases[number];
        let width = phase.layer.width();
        let direct = self.phases.len() == 1 && width == self.outputs;
        let itself = direct && self.stride == 1 && phase.offsets == [0];
        let rows = count * places;
        for first in (0..rows).step_by(BLOCK) {
            let block = BLOCK.min(rows - first);
            let input = if itself {
                Rows { values: &x[first * self.inputs..], stride: self.inputs, count: block }
            } else {
                self.gather(phase, (x, steps), (first, block), places, &mut scratch.rows)
            };
            if direct {
                affine(set, &phase.layer, false, input, &mut out[first * width..]);
                continue;
            }
            let products = sized(&mut scratch.products, block * width);
            affine(set, &phase.layer, false, input, products);
            for (row, product) in (first..).zip(products.chunks_exact(width)) {
                let (sequence, place) = (row / places, row % places);
                let at = (sequence * out_steps + self.phases.len() * place + number) * self.outputs;
                out[at..at + self.outputs].copy_from_slice(&product[..self.outputs]);
            }
        }
    }

    /// What `block` rows of a phase read, from row `first` on.
    fn gather<'a>(
        &self,
        phase: &Phase,
        (x, steps): (&[f32], usize),
        (first, block): (usize, usize),
        places: usize,
        rows: &'a mut Vec<f32>,
    ) -> Rows<'a> {
        let stride = phase.layer.inputs();
        let rows = sized(rows, block * stride);
        for (number, row) in (first..).zip(rows.chunks_exact_mut(stride)) {
            let (sequence, place) = (number / places, number % places);
            for (part, offset) in row.chunks_exact_mut(self.inputs).zip(&phase.offsets) {
                match (self.stride * place).checked_add_signed(*offset).filter(|&step| step < steps) {
                    Some(step) => part.copy_from_slice(&x[(sequence * steps + step) * self.inputs..][..self.inputs]),
                    None => part.fill(0.0),
                }
            }
        }
        Rows { values: rows, stride, count: block }
    }
}
