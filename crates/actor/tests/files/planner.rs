//! A planner's file of drawn weights, for tests and benchmarks.

use super::PolicyFile;

/// Sizes of a planner.
pub struct Shape {
    pub observations: usize,
    pub actions: usize,
    pub steps: usize,
    pub levels: usize,
    /// Multiples of 8.
    pub denoiser: &'static [usize],
    pub value: &'static [usize],
}

/// Uniform numbers of variance 1 (xorshift64*).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        (bits as f32 / (1u64 << 23) as f32 - 1.0) * 3f32.sqrt()
    }
}

struct Builder {
    file: PolicyFile,
    noise: Noise,
}

impl Builder {
    fn add(&mut self, name: &str, shape: &[usize], scale: f32) {
        let values = (0..shape.iter().product()).map(|_| scale * self.noise.next()).collect();
        self.file.insert(name, shape, values);
    }

    fn layer(&mut self, name: &str, shape: &[usize], outputs: usize) {
        let inputs = shape.iter().product::<usize>() / outputs;
        self.add(&format!("{name}.weight"), shape, 1.0 / (inputs as f32).sqrt());
        self.add(&format!("{name}.bias"), &[outputs], 0.1);
    }

    fn part(&mut self, name: &str, [input, out]: [usize; 2]) {
        self.layer(&format!("{name}.block.0"), &[out, input, 5], out);
        self.add(&format!("{name}.block.2.weight"), &[out], 1.0);
        self.add(&format!("{name}.block.2.bias"), &[out], 0.3);
    }

    fn block(&mut self, name: &str, [input, out]: [usize; 2], time: usize) {
        self.part(&format!("{name}.blocks.0"), [input, out]);
        self.part(&format!("{name}.blocks.1"), [out, out]);
        self.layer(&format!("{name}.time_mlp.1"), &[out, time], out);
        if input != out {
            self.layer(&format!("{name}.residual_conv"), &[out, input, 1], out);
        }
    }

    fn blocks(&mut self, name: &str, [input, out]: [usize; 2], time: usize) {
        self.block(&format!("{name}.0"), [input, out], time);
        self.block(&format!("{name}.1"), [out, out], time);
    }

    fn time(&mut self, name: &str, width: usize) {
        self.layer(&format!("{name}.time_mlp.1"), &[4 * width, width], 4 * width);
        self.layer(&format!("{name}.time_mlp.3"), &[width, 4 * width], width);
    }

    fn denoiser(&mut self, name: &str, entries: usize, widths: &[usize]) {
        let (base, widest) = (widths[0], widths[widths.len() - 1]);
        self.time(name, base);
        let sizes: Vec<usize> = [entries].iter().chain(widths).copied().collect();
        for level in 0..widths.len() {
            let out = sizes[level + 1];
            self.blocks(&format!("{name}.downs.{level}"), [sizes[level], out], base);
            if level + 1 < widths.len() {
                self.layer(&format!("{name}.downs.{level}.3.conv"), &[out, out, 3], out);
            }
        }
        self.block(&format!("{name}.mid_block1"), [widest, widest], base);
        self.block(&format!("{name}.mid_block2"), [widest, widest], base);
        for (index, level) in (1..widths.len()).rev().enumerate() {
            let out = sizes[level];
            self.blocks(&format!("{name}.ups.{index}"), [2 * sizes[level + 1], out], base);
            self.layer(&format!("{name}.ups.{index}.3.conv"), &[out, out, 4], out);
        }
        self.part(&format!("{name}.final_conv.0"), [base, base]);
        self.layer(&format!("{name}.final_conv.1"), &[entries, base, 1], entries);
    }

    fn value(&mut self, name: &str, [mut steps, mut input]: [usize; 2], widths: &[usize]) {
        let base = widths[0];
        self.time(name, base);
        for (level, &out) in widths.iter().enumerate() {
            self.blocks(&format!("{name}.blocks.{level}"), [input, out], base);
            self.layer(&format!("{name}.blocks.{level}.2.conv"), &[out, out, 3], out);
            (input, steps) = (out, steps.div_ceil(2));
        }
        let last = input;
        for number in [1, 2] {
            let out = (last >> number).max(8);
            self.block(&format!("{name}.mid_block{number}"), [input, out], base);
            self.layer(&format!("{name}.mid_down{number}.conv"), &[out, out, 3], out);
            (input, steps) = (out, steps.div_ceil(2));
        }
        let features = steps * input;
        self.layer(&format!("{name}.final_block.0"), &[features / 2, features + base], features / 2);
        self.layer(&format!("{name}.final_block.2"), &[1, features / 2], 1);
    }
}

/// A planner whose plans are led by value nets.
pub fn planner(shape: &Shape) -> PolicyFile {
    let mut builder = Builder { file: PolicyFile::new("planner"), noise: Noise(0x9E37_79B9_7F4A_7C15) };
    for (key, value) in [
        ("plan_length", shape.steps),
        ("noise_levels", shape.levels),
        ("denoiser_levels", shape.denoiser.len()),
        ("value_levels", shape.value.len()),
        ("guide_repeats", 2),
        ("guide_stop", 1),
        ("reward_unit", 1),
        ("cost_unit", 1),
        ("episode_length", 20),
        ("seed", 7),
    ] {
        builder.file.set(key, value);
    }
    for (key, value) in [
        ("cost_weight_by", "guarded"),
        ("guide_entries", "all"),
        ("ranking", "final"),
        ("budget", "remaining"),
        ("gamma", "0.9"),
    ] {
        builder.file.set(key, value);
    }
    for (name, value) in
        [("cost_limit", 5.0), ("candidates", 3.0), ("replan_interval", 1.0), ("guide_scale", 0.5), ("cost_weight", 2.0)]
    {
        builder.file.set_setting(name, value);
    }
    let entries = shape.actions + shape.observations;
    builder.denoiser("denoiser", entries, shape.denoiser);
    builder.value("reward_value", [shape.steps, entries], shape.value);
    builder.value("cost_value", [shape.steps, entries], shape.value);
    let mut file = builder.file;
    for (name, size, value) in [
        ("observation.mean", shape.observations, 0.5),
        ("observation.std", shape.observations, 2.0),
        ("action.low", shape.actions, -1.0),
        ("action.high", shape.actions, 3.0),
        ("plan.action_mean", shape.actions, 0.1),
        ("plan.action_std", shape.actions, 0.3),
    ] {
        file.insert(name, &[size], vec![value; size]);
    }
    file
}
