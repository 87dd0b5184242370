//! The transformer on one row's tokens, with keys and values kept between steps.

use crate::kernel::{Kernel, Rows};
use crate::layer::Layer;
use crate::math::{exp, normal_cdf};

const LAYER_NORM_EPS: f32 = 1e-5;
/// Partial sums of a scalar product, in a fixed order, wide enough for one vector register.
const LANES: usize = 16;

/// A layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// One block: attention and a network, each after a layer norm and beside a residual.
#[derive(Debug)]
pub(super) struct Block {
    pub norm1: Norm,
    pub query: Layer,
    /// Keys, then values.
    pub key_value: Layer,
    pub mixing: Layer,
    pub norm2: Norm,
    pub inner: Layer,
    pub outer: Layer,
}

#[derive(Debug)]
pub(super) struct Transformer {
    pub embedding: usize,
    pub heads: usize,
    pub norm_in: Norm,
    pub blocks: Vec<Block>,
    pub norm_out: Norm,
    pub kernel: Kernel,
}

/// What is kept of one row's window.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Tokens after the first norm, `[n][E]`.
    pub tokens: Vec<f32>,
    /// Keys and values of each block, `[n][2E]`.
    keys_values: Vec<Vec<f32>>,
    /// Tokens whose keys and values each block knows.
    known: usize,
}

impl Window {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.keys_values.iter_mut().for_each(Vec::clear);
        self.known = 0;
    }

    /// Drops `count` tokens that follow the first `keep`.
    ///
    /// The keys and values of the first block are functions of one token each and stay. Those of later blocks saw the
    /// dropped tokens: the published policy computes its window anew at every step, so they go.
    pub fn slide(&mut self, keep: usize, count: usize, embedding: usize) {
        self.tokens.drain(keep * embedding..(keep + count) * embedding);
        if let Some((first, later)) = self.keys_values.split_first_mut() {
            // The newest of the dropped tokens may have come after the last look at the window.
            let known = first.len();
            first.drain(keep * 2 * embedding..((keep + count) * 2 * embedding).min(known));
            later.iter_mut().for_each(Vec::clear);
        }
        self.known = 0;
    }
}

/// Activations of one row; shared by all rows, which come one after the other.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    x: Vec<f32>,
    normal: Vec<f32>,
    query: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    product: Vec<f32>,
    scores: Vec<f32>,
}

impl Norm {
    /// `out = norm(x)` for rows of one width.
    pub fn apply(&self, x: &[f32], out: &mut Vec<f32>) {
        let width = self.weight.len();
        out.clear();
        for row in x.chunks_exact(width) {
            let mean = total(row.iter().copied()) / width as f32;
            let variance = total(row.iter().map(|x| (x - mean) * (x - mean))) / width as f32;
            let rstd = 1.0 / (variance + LAYER_NORM_EPS).sqrt();
            let parameters = self.weight.iter().zip(&self.bias);
            out.extend(row.iter().zip(parameters).map(|(x, (w, b))| (x - mean) * rstd * w + b));
        }
    }
}

/// A sum over lanes.
#[inline(always)]
fn total(values: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0f32; LANES];
    values.enumerate().for_each(|(i, x)| lanes[i % LANES] += x);
    lanes.iter().sum()
}

/// `out [n][outputs] = layer(x)` for `x [n][inputs]`.
pub(super) fn affine(kernel: Kernel, layer: &Layer, x: &[f32], product: &mut Vec<f32>, out: &mut Vec<f32>) {
    out.clear();
    append(kernel, layer, x, product, out);
}

/// [`affine`], added to the rows of `out`.
fn append(kernel: Kernel, layer: &Layer, x: &[f32], product: &mut Vec<f32>, out: &mut Vec<f32>) {
    let count = x.len() / layer.inputs;
    product.resize(count * layer.width(), 0.0);
    kernel.affine(layer, false, Rows { values: x, stride: layer.inputs, count }, product);
    for row in product.chunks_exact(layer.width()) {
        out.extend_from_slice(&row[..layer.outputs]);
    }
}

/// `x = x Phi(x)`.
#[inline(always)]
fn gelu(values: &mut [f32]) {
    values.iter_mut().for_each(|x| *x *= normal_cdf(*x));
}

/// What one query attends to.
struct Query<'a> {
    /// `[E]`
    values: &'a [f32],
    /// `[keys][2E]`
    keys_values: &'a [f32],
    heads: usize,
}

/// `out [E] = softmax(q k^T / sqrt(d)) v`, head by head.
#[inline(always)]
fn attend(query: &Query<'_>, scores: &mut [f32], out: &mut [f32]) {
    let e = query.values.len();
    let width = e / query.heads;
    let scale = 1.0 / (width as f32).sqrt();
    for head in 0..query.heads {
        let from = head * width;
        let q = &query.values[from..from + width];
        for (score, kv) in scores.iter_mut().zip(query.keys_values.chunks_exact(2 * e)) {
            let k = &kv[from..from + width];
            *score = scale * total(q.iter().zip(k).map(|(q, k)| q * k));
        }
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scores.iter_mut().for_each(|score| *score = exp(*score - most));
        let share = 1.0 / total(scores.iter().copied());
        let out = &mut out[from..from + width];
        out.fill(0.0);
        for (weight, kv) in scores.iter().zip(query.keys_values.chunks_exact(2 * e)) {
            let v = &kv[e + from..e + from + width];
            out.iter_mut().zip(v).for_each(|(out, v)| *out += weight * share * v);
        }
    }
}

/// Compiles a function for the instruction sets of [`Kernel`] and gives it under `$name`.
macro_rules! for_kernel {
    ($name:ident, $generic:ident, ($($arg:ident: $ty:ty),*)) => {
        fn $name(kernel: Kernel, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,fma")]
                fn avx512($($arg: $ty),*) { $generic($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) { $generic($($arg),*) }
                // SAFETY: a kernel names these only if the processor has the features.
                match kernel {
                    Kernel::Avx512 => return unsafe { avx512($($arg),*) },
                    Kernel::Avx2 => return unsafe { avx2($($arg),*) },
                    Kernel::Portable => {}
                }
            }
            let _ = kernel;
            $generic($($arg),*)
        }
    };
}
for_kernel!(gelu_on, gelu, (values: &mut [f32]));
for_kernel!(attend_on, attend, (query: &Query<'_>, scores: &mut [f32], out: &mut [f32]));

/// GELU on the kernel's instruction set.
pub(super) fn activate(kernel: Kernel, values: &mut [f32]) {
    gelu_on(kernel, values);
}

impl Transformer {
    /// Feature `[E]` of the newest token of `window`, in which tokens were added since the last call.
    pub fn newest(&self, window: &mut Window, scratch: &mut Scratch, out: &mut Vec<f32>) {
        let e = self.embedding;
        let count = window.tokens.len() / e;
        let (from, last) = (window.known, self.blocks.len() - 1);
        window.keys_values.resize_with(self.blocks.len(), Vec::new);
        scratch.x.clear();
        scratch.x.extend_from_slice(&window.tokens[from * e..]);
        for (index, block) in self.blocks.iter().enumerate() {
            let keys_values = &mut window.keys_values[index];
            block.norm1.apply(&scratch.x, &mut scratch.normal);
            let known = keys_values.len() / (2 * e);
            let fresh = &scratch.normal[(known - from) * e..];
            append(self.kernel, &block.key_value, fresh, &mut scratch.product, keys_values);
            if index == last {
                // Nobody reads the others' features.
                let newest = scratch.x.len() - e;
                scratch.x.drain(..newest);
                scratch.normal.drain(..newest);
            }
            self.block(block, keys_values, count, scratch);
        }
        self.norm_out.apply(&scratch.x, out);
        window.known = count;
    }

    /// `x`, the last tokens of `count`, through one block whose keys and values are known.
    fn block(&self, block: &Block, keys_values: &[f32], count: usize, scratch: &mut Scratch) {
        let (e, kernel) = (self.embedding, self.kernel);
        let Scratch { x, normal, query, mixed, wide, product, scores } = scratch;
        affine(kernel, &block.query, normal, product, query);
        mixed.resize(query.len(), 0.0);
        let first = count - x.len() / e;
        for (i, (values, out)) in query.chunks_exact(e).zip(mixed.chunks_exact_mut(e)).enumerate() {
            let seen = first + i + 1;
            scores.resize(seen, 0.0);
            let query = Query { values, keys_values: &keys_values[..seen * 2 * e], heads: self.heads };
            attend_on(kernel, &query, scores, out);
        }
        affine(kernel, &block.mixing, mixed, product, query);
        x.iter_mut().zip(query.iter()).for_each(|(x, y)| *x += y);
        block.norm2.apply(x, normal);
        affine(kernel, &block.inner, normal, product, wide);
        activate(kernel, wide);
        affine(kernel, &block.outer, wide, product, query);
        x.iter_mut().zip(query.iter()).for_each(|(x, y)| *x += y);
    }
}
