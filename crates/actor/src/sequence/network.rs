//! The transformer on one row's tokens, with keys and values kept between steps.

use drcorl_kernels::activations::gelu_in_place;
use drcorl_kernels::affine::{affine, Layer, Rows};
use drcorl_kernels::attention::attend;
use drcorl_kernels::norms::layer_norm_rows;
use drcorl_kernels::InstructionSet;

const LAYER_NORM_EPS: f32 = 1e-5;

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
    pub set: InstructionSet,
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
        out.resize(x.len(), 0.0);
        layer_norm_rows(x, &self.weight, &self.bias, LAYER_NORM_EPS, out);
    }
}

/// `out [n][outputs] = layer(x)` for `x [n][inputs]`.
pub(super) fn apply(set: InstructionSet, layer: &Layer, x: &[f32], product: &mut Vec<f32>, out: &mut Vec<f32>) {
    out.clear();
    append(set, layer, x, product, out);
}

/// [`apply`], added to the rows of `out`.
fn append(set: InstructionSet, layer: &Layer, x: &[f32], product: &mut Vec<f32>, out: &mut Vec<f32>) {
    let count = x.len() / layer.inputs();
    product.resize(count * layer.width(), 0.0);
    affine(set, layer, false, Rows { values: x, stride: layer.inputs(), count }, product);
    for row in product.chunks_exact(layer.width()) {
        out.extend_from_slice(&row[..layer.outputs()]);
    }
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
            append(self.set, &block.key_value, fresh, &mut scratch.product, keys_values);
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
        let (e, set) = (self.embedding, self.set);
        let Scratch { x, normal, query, mixed, wide, product, scores } = scratch;
        apply(set, &block.query, normal, product, query);
        mixed.resize(query.len(), 0.0);
        let first = count - x.len() / e;
        for (i, (values, out)) in query.chunks_exact(e).zip(mixed.chunks_exact_mut(e)).enumerate() {
            let seen = first + i + 1;
            scores.resize(seen, 0.0);
            attend(set, values, &keys_values[..seen * 2 * e], self.heads, scores, out);
        }
        apply(set, &block.mixing, mixed, product, query);
        x.iter_mut().zip(query.iter()).for_each(|(x, y)| *x += y);
        block.norm2.apply(x, normal);
        apply(set, &block.inner, normal, product, wide);
        gelu_in_place(set, wide);
        apply(set, &block.outer, wide, product, query);
        x.iter_mut().zip(query.iter()).for_each(|(x, y)| *x += y);
    }
}
