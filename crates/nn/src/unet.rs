//! The networks of diffusion planners on libtorch: a U-Net along the steps of a plan (Janner et al., arXiv:2205.09991)
//! and a value net, its first half. Their gradients are autograd's; losses bring their own.
//!
//! ```text
//! block:  h = mish(norm(conv5(x))) + W mish(t);  block(x) = mish(norm(conv5(h))) + conv1(x)
//! U-Net:  two blocks a width, half as many steps after each but the last;  two in the middle;
//!         back up, each with the result of its level beside it;  conv1(mish(norm(conv5(x))))
//! value:  two blocks and half as many steps a width;  twice a block of half the width and half the steps;
//!         W4 mish(W3 [features, t])
//! t = W2 mish(W1 [sin, cos](i f)) for noise level i
//! ```

use crate::arena::Leaf;
use crate::rng::Rng;
use crate::{Arena, ArenaBuilder, Slot};
use tch::{Device, Kind, Tensor};

const KERNEL: i64 = 5;
/// Groups of the norms; widths are multiples of it.
pub const GROUPS: i64 = 8;
const EPS: f64 = 1e-5;

/// Weight and bias.
#[derive(Clone, Copy)]
struct Pair(Slot, Slot);

/// Registers parameters under names.
struct Namer<'a> {
    builder: ArenaBuilder,
    rng: &'a mut Rng,
}

impl Namer<'_> {
    /// Uniform between plus and minus one over the root of `fan_in`, as PyTorch draws them.
    fn pair(&mut self, name: &str, weight: &[i64], bias: i64, fan_in: i64) -> Pair {
        let bound = 1.0 / (fan_in as f32).sqrt();
        let rng = &mut *self.rng;
        let mut draw = || (2.0 * rng.unit() - 1.0) * bound;
        let weight = self.builder.add(&format!("{name}.weight"), weight, &mut draw);
        Pair(weight, self.builder.add(&format!("{name}.bias"), &[bias], &mut draw))
    }

    fn linear(&mut self, name: &str, out: i64, input: i64) -> Pair {
        self.pair(name, &[out, input], out, input)
    }

    fn conv(&mut self, name: &str, out: i64, input: i64, kernel: i64) -> Pair {
        self.pair(name, &[out, input, kernel], out, input * kernel)
    }

    /// Transposed, of four taps.
    fn up(&mut self, name: &str, width: i64) -> Pair {
        self.pair(name, &[width, width, 4], width, 4 * width)
    }

    fn norm(&mut self, name: &str, width: i64) -> Pair {
        let weight = self.builder.add(&format!("{name}.weight"), &[width], || 1.0);
        Pair(weight, self.builder.add(&format!("{name}.bias"), &[width], || 0.0))
    }
}

/// Convolution, norm, activation.
struct Part {
    conv: Pair,
    norm: Pair,
}

impl Part {
    fn new(namer: &mut Namer, name: &str, out: i64, input: i64) -> Part {
        let conv = namer.conv(&format!("{name}.block.0"), out, input, KERNEL);
        Part { conv, norm: namer.norm(&format!("{name}.block.2"), out) }
    }

    fn run(&self, of: &Leaf, x: &Tensor) -> Tensor {
        let norm = (Some(of.part(self.norm.0)), Some(of.part(self.norm.1)));
        convolve(of, self.conv, x, 1, KERNEL / 2).group_norm(GROUPS, norm.0, norm.1, EPS, false).mish()
    }
}

fn convolve(of: &Leaf, pair: Pair, x: &Tensor, stride: i64, padding: i64) -> Tensor {
    x.conv1d(of.part(pair.0), Some(of.part(pair.1)), stride, padding, 1i64, 1)
}

fn linear(of: &Leaf, pair: Pair, x: &Tensor) -> Tensor {
    x.linear(of.part(pair.0), Some(of.part(pair.1)))
}

/// A residual block.
struct Block {
    parts: [Part; 2],
    time: Pair,
    residual: Option<Pair>,
}

impl Block {
    fn new(namer: &mut Namer, name: &str, [input, out]: [i64; 2], time: i64) -> Block {
        let first = Part::new(namer, &format!("{name}.blocks.0"), out, input);
        let second = Part::new(namer, &format!("{name}.blocks.1"), out, out);
        let time = namer.linear(&format!("{name}.time_mlp.1"), out, time);
        let residual = (input != out).then(|| namer.conv(&format!("{name}.residual_conv"), out, input, 1));
        Block { parts: [first, second], time, residual }
    }

    /// `time [B,E]` is the embedding, mish applied.
    fn run(&self, of: &Leaf, x: &Tensor, time: &Tensor) -> Tensor {
        let inner = self.parts[0].run(of, x) + linear(of, self.time, time).unsqueeze(2);
        let out = self.parts[1].run(of, &inner);
        match self.residual {
            Some(pair) => out + convolve(of, pair, x, 1, 0),
            None => out + x,
        }
    }
}

/// The embedding of noise levels.
struct Time {
    width: i64,
    layers: [Pair; 2],
}

impl Time {
    fn new(namer: &mut Namer, width: i64) -> Time {
        let layers = [namer.linear("time_mlp.1", 4 * width, width), namer.linear("time_mlp.3", width, 4 * width)];
        Time { width, layers }
    }

    /// `[B,E]` of `levels [B] int64`.
    fn run(&self, of: &Leaf, levels: &Tensor) -> Tensor {
        let half = self.width / 2;
        let frequencies =
            (Tensor::arange(half, (Kind::Float, levels.device())) * (-(10_000f64.ln()) / (half - 1) as f64)).exp();
        let angles = levels.to_kind(Kind::Float).unsqueeze(1) * frequencies.unsqueeze(0);
        let waves = Tensor::cat(&[angles.sin(), angles.cos()], 1);
        linear(of, self.layers[1], &linear(of, self.layers[0], &waves).mish())
    }
}

/// A network of plans.
pub trait PlanNet {
    /// Predictions for `plans [B,H,D]` at noise `levels [B] int64`.
    fn run(&self, of: &Leaf, plans: &Tensor, levels: &Tensor) -> Tensor;
}

/// The layout of a U-Net that predicts the plan behind a noisy one, `[B,H,D]`.
pub struct TemporalUnet {
    time: Time,
    downs: Vec<([Block; 2], Option<Pair>)>,
    middle: [Block; 2],
    ups: Vec<([Block; 2], Pair)>,
    last: Part,
    out: Pair,
}

impl TemporalUnet {
    /// For plans of `entries` numbers a step, of `widths` multiples of [`GROUPS`]; H must be a multiple of
    /// `2^(widths - 1)`.
    pub fn build(entries: i64, widths: &[i64], device: Device, rng: &mut Rng) -> (TemporalUnet, Arena) {
        let mut namer = Namer { builder: ArenaBuilder::default(), rng };
        let base = widths[0];
        let time = Time::new(&mut namer, base);
        let sizes: Vec<i64> = [entries].iter().chain(widths).copied().collect();
        let blocks = |namer: &mut Namer, name: &str, input: i64, out: i64| {
            let first = Block::new(namer, &format!("{name}.0"), [input, out], base);
            [first, Block::new(namer, &format!("{name}.1"), [out, out], base)]
        };
        let downs = (0..widths.len())
            .map(|level| {
                let (name, out) = (format!("downs.{level}"), sizes[level + 1]);
                let pair = blocks(&mut namer, &name, sizes[level], out);
                let down = (level + 1 < widths.len()).then(|| namer.conv(&format!("{name}.3.conv"), out, out, 3));
                (pair, down)
            })
            .collect();
        let widest = sizes[widths.len()];
        let middle = ["mid_block1", "mid_block2"].map(|name| Block::new(&mut namer, name, [widest, widest], base));
        let ups = (1..widths.len())
            .rev()
            .enumerate()
            .map(|(index, level)| {
                let (name, out) = (format!("ups.{index}"), sizes[level]);
                let pair = blocks(&mut namer, &name, 2 * sizes[level + 1], out);
                (pair, namer.up(&format!("{name}.3.conv"), out))
            })
            .collect();
        let last = Part::new(&mut namer, "final_conv.0", base, base);
        let out = namer.conv("final_conv.1", entries, base, 1);
        (TemporalUnet { time, downs, middle, ups, last, out }, namer.builder.build(device))
    }

    /// The embedding `[B,E]` of noise `levels [B] int64`.
    pub fn embed(&self, of: &Leaf, levels: &Tensor) -> Tensor {
        self.time.run(of, levels)
    }
}

impl PlanNet for TemporalUnet {
    fn run(&self, of: &Leaf, plans: &Tensor, levels: &Tensor) -> Tensor {
        let time = self.time.run(of, levels).mish();
        let through = |blocks: &[Block; 2], x: &Tensor| blocks[1].run(of, &blocks[0].run(of, x, &time), &time);
        let mut x = plans.transpose(1, 2).contiguous();
        let mut skips = Vec::new();
        for (blocks, down) in &self.downs {
            x = through(blocks, &x);
            skips.push(x.shallow_clone());
            if let Some(pair) = *down {
                x = convolve(of, pair, &x, 2, 1);
            }
        }
        x = through(&self.middle, &x);
        for ((blocks, pair), skip) in self.ups.iter().zip(skips.iter().rev()) {
            x = through(blocks, &Tensor::cat(&[&x, skip], 1));
            x = x.conv_transpose1d(of.part(pair.0), Some(of.part(pair.1)), 2i64, 1i64, 0i64, 1, 1i64);
        }
        convolve(of, self.out, &self.last.run(of, &x), 1, 0).transpose(1, 2).contiguous()
    }
}

/// The layout of a net that values a noisy plan, `[B,1]`.
pub struct PlanValue {
    time: Time,
    levels: Vec<([Block; 2], Pair)>,
    middle: [(Block, Pair); 2],
    head: [Pair; 2],
}

/// Widths of the two blocks behind a width: a half and a quarter of it, in whole groups.
fn narrowed(width: i64) -> [i64; 2] {
    [2, 4].map(|part| (width / part / GROUPS).max(1) * GROUPS)
}

impl PlanValue {
    /// For plans of `steps` steps of `entries` numbers, of `widths` multiples of [`GROUPS`].
    pub fn build([steps, entries]: [i64; 2], widths: &[i64], device: Device, rng: &mut Rng) -> (PlanValue, Arena) {
        let mut namer = Namer { builder: ArenaBuilder::default(), rng };
        let base = widths[0];
        let time = Time::new(&mut namer, base);
        let (mut input, mut left) = (entries, steps);
        let mut levels = Vec::new();
        for (level, &out) in widths.iter().enumerate() {
            let name = format!("blocks.{level}");
            let first = Block::new(&mut namer, &format!("{name}.0"), [input, out], base);
            let second = Block::new(&mut namer, &format!("{name}.1"), [out, out], base);
            levels.push(([first, second], namer.conv(&format!("{name}.2.conv"), out, out, 3)));
            (input, left) = (out, (left + 1) / 2);
        }
        let [half, quarter] = narrowed(input);
        let middle = [(1, [input, half]), (2, [half, quarter])].map(|(number, size)| {
            let block = Block::new(&mut namer, &format!("mid_block{number}"), size, base);
            left = (left + 1) / 2;
            (block, namer.conv(&format!("mid_down{number}.conv"), size[1], size[1], 3))
        });
        let features = left * quarter;
        let inner = (features / 2).max(1);
        let head = [namer.linear("final_block.0", inner, features + base), namer.linear("final_block.2", 1, inner)];
        (PlanValue { time, levels, middle, head }, namer.builder.build(device))
    }
}

impl PlanNet for PlanValue {
    fn run(&self, of: &Leaf, plans: &Tensor, levels: &Tensor) -> Tensor {
        let embedded = self.time.run(of, levels);
        let time = embedded.mish();
        let mut x = plans.transpose(1, 2).contiguous();
        for (blocks, down) in &self.levels {
            x = blocks[1].run(of, &blocks[0].run(of, &x, &time), &time);
            x = convolve(of, *down, &x, 2, 1);
        }
        for (block, down) in &self.middle {
            x = convolve(of, *down, &block.run(of, &x, &time), 2, 1);
        }
        let features = Tensor::cat(&[x.flatten(1, -1), embedded], 1);
        linear(of, self.head[1], &linear(of, self.head[0], &features).mish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directional derivatives of a weighted sum of outputs, in parameters.
    fn follows_differences(net: &dyn PlanNet, arena: Arena, plans: &Tensor, levels: &Tensor) {
        let mut rng = Rng::new(9, 0);
        let out = net.run(&arena.leaf(false), plans, levels);
        let weight = rng.normal(&out.size(), Device::Cpu);
        let value =
            |arena: &Arena| (net.run(&arena.leaf(false), plans, levels) * &weight).sum(Kind::Double).double_value(&[]);
        let leaf = arena.leaf(true);
        let out = tch::with_grad(|| net.run(&leaf, plans, levels));
        leaf.backward(&out, &weight, &arena);
        let direction = rng.normal(&[arena.len()], Device::Cpu);
        let direction = &direction / direction.norm();
        let slope = (arena.gradients() * &direction).sum(Kind::Double).double_value(&[]);
        const H: f64 = 3e-3;
        let moved = |by: f64| {
            let _ = arena.values().shallow_clone().g_add_(&(&direction * by));
            let value = value(&arena);
            let _ = arena.values().shallow_clone().g_sub_(&(&direction * by));
            value
        };
        let differences = (moved(H) - moved(-H)) / (2.0 * H);
        assert!((slope - differences).abs() < 2e-2 * slope.abs().max(0.2), "{slope} {differences}");
    }

    #[test]
    fn gradients_follow_finite_differences() {
        let _no_grad = tch::no_grad_guard();
        let mut rng = Rng::new(3, 0);
        let (plans, levels) = (rng.normal(&[3, 8, 5], Device::Cpu), Tensor::from_slice(&[0i64, 4, 11]));
        let (unet, arena) = TemporalUnet::build(5, &[8, 16], Device::Cpu, &mut rng);
        assert_eq!(unet.run(&arena.leaf(false), &plans, &levels).size(), [3, 8, 5]);
        follows_differences(&unet, arena, &plans, &levels);
        let (value, arena) = PlanValue::build([8, 5], &[8, 32], Device::Cpu, &mut rng);
        assert_eq!(value.run(&arena.leaf(false), &plans, &levels).size(), [3, 1]);
        follows_differences(&value, arena, &plans, &levels);
    }
}
