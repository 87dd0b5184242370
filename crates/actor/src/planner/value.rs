//! A value net: what a noisy plan will bring, and its gradient at the plan.
//!
//! ```text
//! two blocks a width, each followed by half as many steps;  a block, half the steps, twice
//! value = W4 mish(W3 [features, t])
//! ```

use drcorl_kernels::activations::plain;

use super::network::{dense, sized, weight, width, At, Block, Kept, Layer, Scratch, Time, Way};
use crate::error::Result;
use crate::file::Fields;

/// The network, with the gradients of its convolutions.
#[derive(Debug)]
pub(super) struct ValueNet {
    /// Two blocks and the way down, a width each.
    levels: Vec<([Block; 2], Layer)>,
    middle: [(Block, Layer); 2],
    head: Head,
    /// Steps before every way down, and after the last.
    steps: Vec<usize>,
}

/// The last two layers, of one row each.
#[derive(Debug)]
struct Head {
    /// `[inner, steps * channels]`, step after step.
    weight: Vec<f32>,
    /// `[levels][inner]`: bias, and what the noise level adds.
    shift: Vec<f32>,
    out: Vec<f32>,
    bias: f32,
}

/// Working memory of [`ValueNet::evaluate`].
#[derive(Debug, Default)]
pub(super) struct ValueWork {
    front: Vec<f32>,
    back: Vec<f32>,
    kept: Vec<Kept>,
    scratch: Scratch,
}

impl ValueNet {
    /// Reads `NAME.*` of `widths` levels for plans of `steps` steps of `entries` numbers.
    pub fn read(
        fields: &Fields,
        name: &str,
        [steps, entries]: [usize; 2],
        widths: usize,
        levels: usize,
    ) -> Result<ValueNet> {
        let time = Time::read(fields, &format!("{name}.time_mlp"), levels)?;
        let mut input = entries;
        let mut counts = vec![steps];
        let mut halve = || counts.push(counts[counts.len() - 1].div_ceil(2));
        let mut read = Vec::new();
        for level in 0..widths {
            let name = format!("{name}.blocks.{level}");
            let out = width(fields, &format!("{name}.0.blocks.0.block.2.bias"), 8)?;
            let first = Block::read(fields, &format!("{name}.0"), [input, out], &time, true)?;
            let second = Block::read(fields, &format!("{name}.1"), [out, out], &time, true)?;
            let down = Layer::read(fields, &format!("{name}.2.conv"), [out, out], Way::Down, true)?;
            read.push(([first, second], down));
            halve();
            input = out;
        }
        let mut middle = |number: usize| -> Result<(Block, Layer)> {
            let block = format!("{name}.mid_block{number}");
            let out = width(fields, &format!("{block}.blocks.0.block.2.bias"), 8)?;
            let size = [std::mem::replace(&mut input, out), out];
            let down = format!("{name}.mid_down{number}.conv");
            halve();
            Ok((
                Block::read(fields, &block, size, &time, true)?,
                Layer::read(fields, &down, [out, out], Way::Down, true)?,
            ))
        };
        let middle = [middle(1)?, middle(2)?];
        let head = Head::read(fields, &format!("{name}.final_block"), [counts[counts.len() - 1], input], &time)?;
        Ok(ValueNet { levels: read, middle, head, steps: counts })
    }

    /// Products of one plan's value; its gradient takes as many again.
    pub fn work(&self) -> f64 {
        let blocks = self.levels.iter().map(|(blocks, down)| (blocks[0].work() + blocks[1].work(), down.work()));
        let blocks = blocks.chain(self.middle.iter().map(|(block, down)| (block.work(), down.work())));
        blocks.zip(&self.steps).map(|((block, down), &steps)| steps as f64 * (block as f64 + 0.5 * down as f64)).sum()
    }

    /// Values `[count]` of plans `x [count, steps, entries]`, and where a place is given, their gradients there.
    pub fn evaluate(&self, at: At, x: &[f32], values: &mut [f32], gradient: Option<&mut [f32]>, work: &mut ValueWork) {
        let ValueWork { front, back, kept, scratch } = work;
        let blocks = 2 * self.levels.len() + self.middle.len();
        if kept.len() < blocks {
            kept.resize_with(blocks, Kept::default);
        }
        let mut at = At { steps: self.steps[0], ..at };
        let at_steps = |at: At, steps: usize| At { steps, ..at };
        let mut kept_of = kept.iter_mut();
        let mut next = || kept_of.next().expect("one for every block");
        for (level, ([first, second], down)) in self.levels.iter().enumerate() {
            let size = at.count * at.steps * second.outputs();
            match level {
                0 => first.forward(at, x, next(), sized(back, size), scratch),
                _ => first.forward(at, front, next(), sized(back, size), scratch),
            }
            second.forward(at, back, next(), sized(front, size), scratch);
            at.steps = down.go(at, front, back, scratch);
            std::mem::swap(front, back);
        }
        for (block, down) in &self.middle {
            let size = at.count * at.steps * block.outputs();
            block.forward(at, front, next(), sized(back, size), scratch);
            at.steps = down.go(at, back, front, scratch);
        }
        let features = self.head.features();
        let rows = front[..at.count * features].chunks_exact(features).zip(values.iter_mut());
        rows.for_each(|(row, value)| *value = self.head.value(at.level, row));
        let Some(gradient) = gradient else { return };
        // Each row of features gives way to the gradient there.
        front[..at.count * features].chunks_exact_mut(features).for_each(|row| self.head.backward(at.level, row));
        let mut kept = kept[..blocks].iter().rev();
        let mut last = || kept.next().expect("one for every block");
        let mut depth = self.steps.len() - 1;
        for (block, down) in self.middle.iter().rev() {
            depth -= 1;
            down.go_back(at, front, (back, self.steps[depth]), scratch);
            at = at_steps(at, self.steps[depth]);
            let size = at.count * at.steps * block.inputs();
            block.backward(at, last(), back, sized(front, size), scratch);
        }
        for (level, ([first, second], down)) in self.levels.iter().enumerate().rev() {
            depth -= 1;
            down.go_back(at, front, (back, self.steps[depth]), scratch);
            at = at_steps(at, self.steps[depth]);
            let size = |block: &Block| at.count * at.steps * block.inputs();
            second.backward(at, last(), back, sized(front, size(second)), scratch);
            match level {
                0 => first.backward(at, last(), front, &mut gradient[..size(first)], scratch),
                _ => {
                    first.backward(at, last(), front, sized(back, size(first)), scratch);
                    std::mem::swap(front, back);
                }
            }
        }
    }
}

impl Head {
    fn read(fields: &Fields, name: &str, [steps, channels]: [usize; 2], time: &Time) -> Result<Head> {
        let bias_name = format!("{name}.0.bias");
        let inner = width(fields, &bias_name, 1)?;
        let (features, e) = (steps * channels, time.width());
        let columns = features + e;
        let first = weight(fields, &format!("{name}.0.weight"), &[inner, columns])?;
        let bias = fields.vector(&bias_name, inner)?;
        // The file has a channel's steps side by side, activations have a step's channels.
        let row = |row: &[f32]| {
            let row = row.to_vec();
            (0..features).map(move |at| row[at % channels * steps + at / channels])
        };
        let of_time: Vec<f32> = first.chunks_exact(columns).flat_map(|row| row[features..].iter().copied()).collect();
        let shift = time.raw.iter().flat_map(|t| dense(&of_time, bias, t)).map(|x| x as f32).collect();
        Ok(Head {
            weight: first.chunks_exact(columns).flat_map(row).collect(),
            shift,
            out: weight(fields, &format!("{name}.2.weight"), &[1, inner])?.to_vec(),
            bias: fields.vector(&format!("{name}.2.bias"), 1)?[0],
        })
    }

    fn features(&self) -> usize {
        self.weight.len() / self.out.len()
    }

    /// Of every unit of the inner layer: its input, its weights, and its weight in the value.
    fn units<'a>(&'a self, level: usize, row: &'a [f32]) -> impl Iterator<Item = (f32, &'a [f32], f32)> {
        let shift = &self.shift[level * self.out.len()..];
        let units = self.weight.chunks_exact(row.len()).zip(shift).zip(&self.out);
        units.map(move |((weight, &shift), &out)| {
            let dot: f32 = weight.iter().zip(row).map(|(w, x)| w * x).sum();
            (shift + dot, weight, out)
        })
    }

    fn value(&self, level: usize, row: &[f32]) -> f32 {
        self.units(level, row).fold(self.bias, |sum, (x, _, out)| sum + out * plain::mish(f64::from(x)).0 as f32)
    }

    /// `row` of features becomes the gradient there.
    fn backward(&self, level: usize, row: &mut [f32]) {
        // No longer than a cache line's worth of plans: on the stack.
        let mut slopes = [0f32; MOST_INNER];
        for (slope, (x, _, out)) in slopes.iter_mut().zip(self.units(level, row)) {
            *slope = out * plain::mish(f64::from(x)).1 as f32;
        }
        row.fill(0.0);
        for (weight, slope) in self.weight.chunks_exact(row.len()).zip(slopes) {
            row.iter_mut().zip(weight).for_each(|(x, w)| *x += slope * w);
        }
    }
}

/// Most units of a head's inner layer.
const MOST_INNER: usize = 4096;
