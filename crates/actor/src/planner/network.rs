//! The denoiser: a U-Net along the steps of a plan (Ronneberger et al., arXiv:1505.04597; for plans, Janner et al.,
//! arXiv:2205.09991).
//!
//! ```text
//! block:  h = mish(norm(conv5(x))) + W mish(t);  block(x) = mish(norm(conv5(h))) + conv1(x)
//! net:    two blocks a width, half as many steps after each but the last;  two in the middle;
//!         back up, each with the result of its level beside it;  conv1(mish(norm(conv5(x))))
//! t = W2 mish(W1 [sin, cos](i f)) for noise level i
//! ```

use drcorl_kernels::activations::{mish, plain};
use drcorl_kernels::conv::{Conv, ConvScratch};
use drcorl_kernels::group_norms::{group_norm, group_norm_backward};
use drcorl_kernels::InstructionSet;

use crate::error::{Error, Result};
use crate::file::Fields;

/// Taps of a block's convolutions, and groups of its norms.
const KERNEL: usize = 5;
const GROUPS: usize = 8;
const EPS: f32 = 1e-5;

/// The first `len` of a buffer, which grows where it is shorter.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// The values of a tensor of this shape.
pub(super) fn weight<'a>(fields: &Fields<'a>, name: &str, shape: &[usize]) -> Result<&'a [f32]> {
    let array = fields.tensor(name, shape.len())?;
    if array.shape != shape {
        return Err(Error::shape(name, &format!("has shape {:?}, expected {shape:?}", array.shape)));
    }
    Ok(&array.values)
}

/// Width of the layer that bias `name` belongs to: a multiple of `of`, from 1 on.
pub(super) fn width(fields: &Fields, name: &str, of: usize) -> Result<usize> {
    let found = fields.tensor(name, 1)?.values.len();
    if found == 0 || found % of != 0 {
        return Err(Error::shape(name, &format!("has {found} entries, expected a multiple of {of}")));
    }
    Ok(found)
}

/// Which way a convolution goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Same(usize),
    Down,
    Up,
}

/// A convolution, and its gradient at the input where that is asked for.
#[derive(Debug)]
pub(super) struct Layer {
    way: Way,
    forward: Conv,
    backward: Option<Conv>,
}

impl Layer {
    pub fn read(fields: &Fields, name: &str, [input, out]: [usize; 2], way: Way, backward: bool) -> Result<Layer> {
        let bias = fields.vector(&format!("{name}.bias"), out)?;
        let name = format!("{name}.weight");
        let (forward, backward) = match way {
            Way::Same(kernel) => {
                let weight = weight(fields, &name, &[out, input, kernel])?;
                let gradient = backward.then(|| Conv::same_backward(weight, out, kernel));
                (Conv::same(weight, bias, kernel), gradient)
            }
            Way::Down => {
                let weight = weight(fields, &name, &[out, input, 3])?;
                (Conv::down(weight, bias), backward.then(|| Conv::down_backward(weight, out)))
            }
            Way::Up => (Conv::up(weight(fields, &name, &[input, out, 4])?, bias), None),
        };
        Ok(Layer { way, forward, backward })
    }
}

/// Weight and bias of a group norm.
#[derive(Debug)]
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    fn read(fields: &Fields, name: &str, width: usize) -> Result<Norm> {
        let vector = |part: &str| fields.vector(&format!("{name}.{part}"), width).map(<[f32]>::to_vec);
        Ok(Norm { weight: vector("weight")?, bias: vector("bias")? })
    }
}

/// Embeddings of the noise levels, mish applied, `[levels, width]`, in double precision.
#[derive(Debug)]
pub(super) struct Time {
    /// Before mish, as the value nets' last layers take it.
    pub raw: Vec<Vec<f64>>,
    active: Vec<Vec<f64>>,
}

/// `weight x + bias` in double precision.
pub(super) fn dense(weight: &[f32], bias: &[f32], x: &[f64]) -> Vec<f64> {
    let dot = |row: &[f32]| row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>();
    weight.chunks_exact(x.len()).zip(bias).map(|(row, &b)| f64::from(b) + dot(row)).collect()
}

/// mish of every number.
pub(super) fn mish_of(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| plain::mish(x).0).collect()
}

impl Time {
    /// Reads `NAME.1` and `NAME.3`; as wide as the former's inputs.
    pub fn read(fields: &Fields, name: &str, levels: usize) -> Result<Time> {
        let outer = format!("{name}.3.bias");
        let e = width(fields, &outer, 2)?;
        if e < 4 {
            return Err(Error::shape(&outer, &format!("has {e} entries, expected 4 or more")));
        }
        let inner = width(fields, &format!("{name}.1.bias"), 1)?;
        let first = (
            weight(fields, &format!("{name}.1.weight"), &[inner, e])?,
            fields.vector(&format!("{name}.1.bias"), inner)?,
        );
        let second = (weight(fields, &format!("{name}.3.weight"), &[e, inner])?, fields.vector(&outer, e)?);
        let half = e / 2;
        let frequency = |k: usize| (-(10_000f64.ln()) * k as f64 / (half - 1) as f64).exp();
        let raw = |level: usize| {
            let angles = || (0..half).map(|k| level as f64 * frequency(k));
            let waves: Vec<f64> = angles().map(f64::sin).chain(angles().map(f64::cos)).collect();
            dense(second.0, second.1, &mish_of(&dense(first.0, first.1, &waves)))
        };
        let raw: Vec<Vec<f64>> = (0..levels).map(raw).collect();
        Ok(Time { active: raw.iter().map(|t| mish_of(t)).collect(), raw })
    }

    /// Its width.
    pub fn width(&self) -> usize {
        self.raw.first().map_or(0, Vec::len)
    }
}

/// Convolution, norm, activation: what it keeps for its gradient.
#[derive(Debug, Default)]
struct KeptPart {
    /// The convolution's result.
    convolved: Vec<f32>,
    /// Derivative of the activation.
    slope: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

#[derive(Debug)]
struct Part {
    conv: Layer,
    norm: Norm,
}

impl Part {
    fn read(fields: &Fields, name: &str, size: [usize; 2], backward: bool) -> Result<Part> {
        let conv = Layer::read(fields, &format!("{name}.block.0"), size, Way::Same(KERNEL), backward)?;
        Ok(Part { conv, norm: Norm::read(fields, &format!("{name}.block.2"), size[1])? })
    }

    /// `out = mish(norm(conv(x)))`, all `[count, steps, channels]`.
    fn forward(&self, at: At, x: &[f32], kept: &mut KeptPart, out: &mut [f32], scratch: &mut ConvScratch) {
        let (channels, rows) = (self.conv.forward.outputs(), at.count * at.steps);
        let convolved = sized(&mut kept.convolved, rows * channels);
        self.conv.forward.apply(at.set, (x, at.steps), (convolved, at.steps), at.count, scratch);
        let slope = sized(&mut kept.slope, rows * channels);
        let (mean, rstd) = (sized(&mut kept.mean, at.count * channels), sized(&mut kept.rstd, at.count * channels));
        let Norm { weight, bias } = &self.norm;
        group_norm(at.set, convolved, at.steps, GROUPS, weight, bias, EPS, slope, mean, rstd);
        mish(at.set, slope, &mut out[..rows * channels]);
    }

    /// From `grad` at its output, which is overwritten, to `out` at its input.
    fn backward(&self, at: At, kept: &KeptPart, grad: &mut [f32], out: &mut [f32], work: &mut Scratch) {
        let channels = self.conv.forward.outputs();
        let grad = &mut grad[..at.count * at.steps * channels];
        grad.iter_mut().zip(&kept.slope).for_each(|(g, d)| *g *= d);
        let sums = sized(&mut work.sums, 2 * channels);
        let (mean, rstd) = (&kept.mean[..at.count * channels], &kept.rstd[..at.count * channels]);
        let convolved = &kept.convolved[..grad.len()];
        group_norm_backward(at.set, convolved, at.steps, GROUPS, &self.norm.weight, mean, rstd, grad, sums);
        let conv = self.conv.backward.as_ref().expect("read with a gradient");
        conv.apply(at.set, (grad, at.steps), (out, at.steps), at.count, &mut work.conv);
    }
}

/// So many sequences of so many steps, at one noise level.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub set: InstructionSet,
    pub count: usize,
    pub steps: usize,
    pub level: usize,
}

/// Working memory that no pass keeps.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub conv: ConvScratch,
    sums: Vec<f32>,
    inner: Vec<f32>,
    residual: Vec<f32>,
}

/// What a block keeps for its gradient.
#[derive(Debug, Default)]
pub(super) struct Kept {
    first: KeptPart,
    second: KeptPart,
}

/// A residual block.
#[derive(Debug)]
pub(super) struct Block {
    first: Part,
    second: Part,
    residual: Option<Layer>,
    /// What every noise level adds between, `[levels, outputs]`.
    shift: Vec<f32>,
}

impl Block {
    pub fn read(fields: &Fields, name: &str, [input, out]: [usize; 2], time: &Time, backward: bool) -> Result<Block> {
        let part = |index, size| Part::read(fields, &format!("{name}.blocks.{index}"), size, backward);
        let residual = || Layer::read(fields, &format!("{name}.residual_conv"), [input, out], Way::Same(1), backward);
        let map = weight(fields, &format!("{name}.time_mlp.1.weight"), &[out, time.width()])?;
        let bias = fields.vector(&format!("{name}.time_mlp.1.bias"), out)?;
        Ok(Block {
            first: part(0, [input, out])?,
            second: part(1, [out, out])?,
            residual: (input != out).then(residual).transpose()?,
            shift: time.active.iter().flat_map(|t| dense(map, bias, t)).map(|x| x as f32).collect(),
        })
    }

    pub fn inputs(&self) -> usize {
        self.first.conv.forward.inputs()
    }

    pub fn outputs(&self) -> usize {
        self.first.conv.forward.outputs()
    }

    /// Products a step takes.
    pub fn work(&self) -> usize {
        let residual = self.residual.as_ref().map_or(0, |layer| layer.forward.work());
        self.first.conv.forward.work() + self.second.conv.forward.work() + residual
    }

    /// `out` of `x`, both `[count, steps, channels]`.
    pub fn forward(&self, at: At, x: &[f32], kept: &mut Kept, out: &mut [f32], work: &mut Scratch) {
        let channels = self.outputs();
        let size = at.count * at.steps * channels;
        let inner = sized(&mut work.inner, size);
        self.first.forward(at, x, &mut kept.first, inner, &mut work.conv);
        let shift = &self.shift[at.level * channels..][..channels];
        for row in inner.chunks_exact_mut(channels) {
            row.iter_mut().zip(shift).for_each(|(x, t)| *x += t);
        }
        self.second.forward(at, inner, &mut kept.second, out, &mut work.conv);
        self.add_residual(self.residual.as_ref().map(|layer| &layer.forward), at, x, out, work);
    }

    /// From `grad` at its output, which is overwritten, to `out` at its input.
    pub fn backward(&self, at: At, kept: &Kept, grad: &mut [f32], out: &mut [f32], work: &mut Scratch) {
        // The residual first: the other way overwrites the gradient.
        let input = self.first.conv.forward.inputs();
        let mut residual = std::mem::take(&mut work.residual);
        let way = sized(&mut residual, at.count * at.steps * input);
        way.fill(0.0);
        let conv = self.residual.as_ref().and_then(|layer| layer.backward.as_ref());
        self.add_residual(conv, at, grad, way, work);
        let mut inner = std::mem::take(&mut work.inner);
        let between = sized(&mut inner, at.count * at.steps * self.outputs());
        self.second.backward(at, &kept.second, grad, between, work);
        self.first.backward(at, &kept.first, between, out, work);
        out.iter_mut().zip(way.iter()).for_each(|(x, r)| *x += r);
        (work.inner, work.residual) = (inner, residual);
    }

    /// Adds `x`, or its convolution, to `out`.
    fn add_residual(&self, conv: Option<&Conv>, at: At, x: &[f32], out: &mut [f32], work: &mut Scratch) {
        match conv {
            None => out.iter_mut().zip(x).for_each(|(out, x)| *out += x),
            Some(conv) => {
                let size = at.count * at.steps * conv.outputs();
                let through = sized(&mut work.sums, size);
                conv.apply(at.set, (x, at.steps), (through, at.steps), at.count, &mut work.conv);
                out[..size].iter_mut().zip(through.iter()).for_each(|(out, x)| *out += x);
            }
        }
    }
}

/// Two blocks, and the way to the next number of steps.
#[derive(Debug)]
pub(super) struct Stage {
    pub first: Block,
    pub second: Block,
    way: Option<Layer>,
}

impl Stage {
    pub fn read(
        fields: &Fields,
        [name, way_name]: [&str; 2],
        size: [usize; 2],
        time: &Time,
        way: Option<Way>,
        backward: bool,
    ) -> Result<Stage> {
        let out = size[1];
        let way = way.map(|way| Layer::read(fields, way_name, [out, out], way, backward));
        Ok(Stage {
            first: Block::read(fields, &format!("{name}.0"), size, time, backward)?,
            second: Block::read(fields, &format!("{name}.1"), [out, out], time, backward)?,
            way: way.transpose()?,
        })
    }

    /// Products of a step before the way.
    fn work(&self) -> usize {
        self.first.work() + self.second.work()
    }

    /// Takes the way from `x` to `out`, whose steps it returns.
    pub fn go(&self, at: At, x: &[f32], out: &mut Vec<f32>, work: &mut Scratch) -> usize {
        let Some(layer) = &self.way else {
            return at.steps;
        };
        layer.go(at, x, out, work)
    }
}

impl Layer {
    /// Half as many steps, or twice as many; returns how many.
    pub fn go(&self, at: At, x: &[f32], out: &mut Vec<f32>, work: &mut Scratch) -> usize {
        let steps = match self.way {
            Way::Same(_) => at.steps,
            Way::Down => at.steps.div_ceil(2),
            Way::Up => 2 * at.steps,
        };
        let out = sized(out, at.count * steps * self.forward.outputs());
        self.forward.apply(at.set, (x, at.steps), (out, steps), at.count, &mut work.conv);
        steps
    }

    /// From `grad` at the output of [`Layer::go`] to `out`, of `steps` steps, at its input.
    pub fn go_back(&self, at: At, grad: &[f32], (out, steps): (&mut Vec<f32>, usize), work: &mut Scratch) {
        let conv = self.backward.as_ref().expect("read with a gradient");
        let out = sized(out, at.count * steps * conv.outputs());
        conv.apply(at.set, (grad, at.steps), (out, steps), at.count, &mut work.conv);
    }

    pub fn work(&self) -> usize {
        self.forward.work()
    }
}

/// The denoiser: predicts the plan behind a noisy one.
#[derive(Debug)]
pub(super) struct Denoiser {
    downs: Vec<Stage>,
    middle: [Block; 2],
    ups: Vec<Stage>,
    last: Part,
    out: Layer,
}

/// Working memory of [`Denoiser::run`].
#[derive(Debug, Default)]
pub(super) struct DenoiserWork {
    front: Vec<f32>,
    back: Vec<f32>,
    /// Of every level but the first.
    skips: Vec<Vec<f32>>,
    kept: Kept,
    scratch: Scratch,
}

impl Denoiser {
    /// Reads `NAME.*` of `widths` levels for plans of `entries` numbers a step.
    pub fn read(fields: &Fields, name: &str, entries: usize, widths: usize, levels: usize) -> Result<Denoiser> {
        let time = Time::read(fields, &format!("{name}.time_mlp"), levels)?;
        let mut sizes = vec![entries];
        for level in 0..widths {
            sizes.push(width(fields, &format!("{name}.downs.{level}.0.blocks.0.block.2.bias"), GROUPS)?);
        }
        let stage = |room: &str, index: usize, size, way: Option<Way>| {
            let name = format!("{name}.{room}.{index}");
            Stage::read(fields, [&name, &format!("{name}.3.conv")], size, &time, way, false)
        };
        let downs = (0..widths)
            .map(|i| stage("downs", i, [sizes[i], sizes[i + 1]], (i + 1 < widths).then_some(Way::Down)))
            .collect::<Result<Vec<_>>>()?;
        let middle = sizes[widths];
        let block = |part: &str| Block::read(fields, &format!("{name}.{part}"), [middle, middle], &time, false);
        let ups = (1..widths)
            .rev()
            .enumerate()
            .map(|(index, level)| stage("ups", index, [2 * sizes[level + 1], sizes[level]], Some(Way::Up)))
            .collect::<Result<Vec<_>>>()?;
        let last = format!("{name}.final_conv");
        Ok(Denoiser {
            downs,
            middle: [block("mid_block1")?, block("mid_block2")?],
            ups,
            last: Part::read(fields, &format!("{last}.0"), [sizes[1], sizes[1]], false)?,
            out: Layer::read(fields, &format!("{last}.1"), [sizes[1], entries], Way::Same(1), false)?,
        })
    }

    /// Products a plan of so many steps takes.
    pub fn work(&self, steps: usize) -> f64 {
        let mut steps = steps as f64;
        let mut sum = 0.0;
        for stage in &self.downs {
            sum += steps * stage.work() as f64;
            if let Some(way) = &stage.way {
                steps /= 2.0;
                sum += steps * way.work() as f64;
            }
        }
        sum += steps * self.middle.iter().map(|block| block.work() as f64).sum::<f64>();
        for stage in &self.ups {
            sum += steps * stage.work() as f64;
            steps *= 2.0;
            sum += steps * stage.way.as_ref().map_or(0, Layer::work) as f64;
        }
        sum + steps * (self.last.conv.work() + self.out.work()) as f64
    }

    /// The plans `out` predicted behind `x`, both `[count, steps, entries]`; `steps` is a multiple of
    /// `2^(levels - 1)`.
    pub fn run(&self, at: At, x: &[f32], out: &mut [f32], work: &mut DenoiserWork) {
        let DenoiserWork { front, back, skips, kept, scratch } = work;
        if skips.len() < self.ups.len() {
            skips.resize_with(self.ups.len(), Vec::new);
        }
        let mut at = at;
        for (level, stage) in self.downs.iter().enumerate() {
            let size = at.count * at.steps * stage.second.outputs();
            let middle = sized(back, size);
            match level {
                0 => stage.first.forward(at, x, kept, middle, scratch),
                _ => stage.first.forward(at, front, kept, middle, scratch),
            }
            let result = sized(front, size);
            stage.second.forward(at, middle, kept, result, scratch);
            if level > 0 {
                sized(&mut skips[level - 1], size).copy_from_slice(result);
            }
            if stage.way.is_some() {
                at.steps = stage.go(at, result, back, scratch);
                std::mem::swap(front, back);
            }
        }
        let size = at.count * at.steps * self.middle[0].outputs();
        self.middle[0].forward(at, front, kept, sized(back, size), scratch);
        self.middle[1].forward(at, back, kept, sized(front, size), scratch);
        for (stage, skip) in self.ups.iter().zip(skips[..self.ups.len()].iter().rev()) {
            let rows = at.count * at.steps;
            beside(front, skip, (rows, stage.first.inputs() / 2), back);
            let size = rows * stage.second.outputs();
            stage.first.forward(at, back, kept, sized(front, size), scratch);
            stage.second.forward(at, front, kept, sized(back, size), scratch);
            at.steps = stage.go(at, back, front, scratch);
        }
        let size = at.count * at.steps * self.last.conv.forward.outputs();
        self.last.forward(at, front, &mut kept.first, sized(back, size), &mut scratch.conv);
        self.out.forward.apply(at.set, (back, at.steps), (out, at.steps), at.count, &mut scratch.conv);
    }
}

/// `out [rows, 2 width]`: rows of `x` and of `skip` side by side.
fn beside(x: &[f32], skip: &[f32], (rows, width): (usize, usize), out: &mut Vec<f32>) {
    let out = sized(out, 2 * rows * width).chunks_exact_mut(2 * width);
    for (out, (x, skip)) in out.zip(x.chunks_exact(width).zip(skip.chunks_exact(width))) {
        out[..width].copy_from_slice(x);
        out[width..].copy_from_slice(skip);
    }
}
