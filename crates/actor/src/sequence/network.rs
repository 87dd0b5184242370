//! The transformer on one row's tokens, with keys and values kept between steps.

use drcorl_kernels::activations::gelu_in_place;
use drcorl_kernels::affine::{affine, Layer, Rows};
use drcorl_kernels::attention::{self, Attention};
use drcorl_kernels::norms::layer_norm_rows;
use drcorl_kernels::{Dropout, InstructionSet};

const LAYER_NORM_EPS: f32 = 1e-5;

/// A layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// What follows the attention of a block: a layer beside a residual, and a network after a norm beside another.
#[derive(Debug)]
pub(super) struct Rest {
    pub mixing: Layer,
    pub norm: Norm,
    pub inner: Layer,
    pub outer: Layer,
}

/// One block but the last, each of whose tokens attends to those before it.
#[derive(Debug)]
pub(super) struct Block {
    pub norm: Norm,
    pub query: Layer,
    /// Keys, then values.
    pub key_value: Layer,
    pub rest: Rest,
}

/// The last block, of which the newest token alone is read. Its keys and values are made of no token:
/// `q k_j = (K^T q) x_j` but for what the softmax does not see, and the mixture of values is the value of the mixture.
#[derive(Debug)]
pub(super) struct Last {
    pub norm: Norm,
    pub query: Layer,
    /// `sqrt(heads) K^T` of every head, as [`attention::forward`] divides by the root of E.
    pub keys: Vec<Layer>,
    /// Of every head.
    pub values: Vec<Layer>,
    pub rest: Rest,
}

#[derive(Debug)]
pub(super) struct Transformer {
    pub embedding: usize,
    pub heads: usize,
    pub norm_in: Norm,
    pub blocks: Vec<Block>,
    pub last: Last,
    pub norm_out: Norm,
    pub set: InstructionSet,
}

/// What a block keeps of its tokens.
#[derive(Debug, Default)]
struct Kept {
    /// `[n][E]`
    queries: Vec<f32>,
    /// `[n][2E]`
    keys_values: Vec<f32>,
}

/// What is kept of one row's window.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Tokens after the first norm, `[n][E]`.
    pub tokens: Vec<f32>,
    blocks: Vec<Kept>,
    /// Tokens as the last block sees them, twice each, `[n][2E]`.
    last: Vec<f32>,
    /// Tokens that each block knows.
    known: usize,
}

impl Window {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.forget(0);
    }

    /// Forgets what the blocks from number `from` on know.
    fn forget(&mut self, from: usize) {
        for block in self.blocks.iter_mut().skip(from) {
            block.queries.clear();
            block.keys_values.clear();
        }
        self.last.clear();
        self.known = 0;
    }

    /// Drops `count` tokens that follow the first `keep`.
    ///
    /// Queries, keys and values of the first block are functions of one token each and stay. Those of later blocks saw
    /// the dropped tokens: the published policy computes its window anew at every step, so they go.
    pub fn slide(&mut self, keep: usize, count: usize, embedding: usize) {
        self.tokens.drain(keep * embedding..(keep + count) * embedding);
        if let Some(first) = self.blocks.first_mut() {
            for (kept, width) in [(&mut first.queries, embedding), (&mut first.keys_values, 2 * embedding)] {
                // The newest of the dropped tokens may have come after the last look at the window.
                let known = kept.len();
                kept.drain(keep * width..((keep + count) * width).min(known));
            }
        }
        self.forget(1);
    }
}

/// Activations of one row; shared by all rows, which come one after the other.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    x: Vec<f32>,
    normal: Vec<f32>,
    query: Vec<f32>,
    queries: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    product: Vec<f32>,
    /// Numbers of the tokens that ask.
    asking: Vec<usize>,
    weights: Vec<f32>,
    attention: attention::Scratch,
}

impl Norm {
    /// `out = norm(x)` for rows of one width.
    pub fn apply(&self, set: InstructionSet, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        layer_norm_rows(set, x, &self.weight, &self.bias, LAYER_NORM_EPS, out);
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
        let (e, set) = (self.embedding, self.set);
        let count = window.tokens.len() / e;
        let from = window.known;
        window.blocks.resize_with(self.blocks.len(), Kept::default);
        scratch.x.clear();
        scratch.x.extend_from_slice(&window.tokens[from * e..]);
        for (block, kept) in self.blocks.iter().zip(&mut window.blocks) {
            let Scratch { x, normal, mixed, product, .. } = scratch;
            let fresh = kept.queries.len() / e - from;
            block.norm.apply(set, &x[fresh * e..], normal);
            append(set, &block.query, normal, product, &mut kept.queries);
            append(set, &block.key_value, normal, product, &mut kept.keys_values);
            mixed.resize(x.len(), 0.0);
            scratch.asking.clear();
            scratch.asking.extend(from..count);
            self.attend(self.heads, &kept.queries[from * e..], &kept.keys_values, scratch);
            self.rest(&block.rest, scratch);
        }
        self.newest_of_last(window, scratch);
        self.norm_out.apply(set, &scratch.x, out);
        window.known = count;
    }

    /// `scratch.x`, the fresh tokens, becomes the newest one's row after the last block.
    fn newest_of_last(&self, window: &mut Window, scratch: &mut Scratch) {
        let (e, set, last) = (self.embedding, self.set, &self.last);
        let mut queries = std::mem::take(&mut scratch.queries);
        let Scratch { x, normal, query, mixed, product, asking, .. } = scratch;
        last.norm.apply(set, x, normal);
        normal.chunks_exact(e).for_each(|token| [token; 2].iter().for_each(|t| window.last.extend_from_slice(t)));
        apply(set, &last.query, &normal[normal.len() - e..], product, query);
        queries.clear();
        let parts = query.chunks_exact(e / self.heads);
        last.keys.iter().zip(parts).for_each(|(layer, part)| append(set, layer, part, product, &mut queries));
        mixed.resize(self.heads * e, 0.0);
        asking.clear();
        asking.resize(self.heads, window.last.len() / (2 * e) - 1);
        self.attend(1, &queries, &window.last, scratch);
        let Scratch { x, query, mixed, product, .. } = scratch;
        query.clear();
        let mixtures = mixed.chunks_exact(e);
        last.values.iter().zip(mixtures).for_each(|(layer, part)| append(set, layer, part, product, query));
        mixed.clear();
        mixed.extend_from_slice(query);
        x.drain(..x.len() - e);
        self.rest(&last.rest, scratch);
        scratch.queries = queries;
    }

    /// `scratch.mixed` of the tokens `scratch.asking`.
    fn attend(&self, heads: usize, queries: &[f32], keys_values: &[f32], scratch: &mut Scratch) {
        let tokens = keys_values.len() / (2 * self.embedding);
        let Scratch { mixed, asking, weights, attention, .. } = scratch;
        let shape = Attention { heads, tokens, queries: asking, valid: &[tokens], dropout: Dropout::NONE };
        weights.resize(shape.weights(), 0.0);
        attention::forward(self.set, &shape, queries, keys_values, mixed, weights, attention);
    }

    /// `scratch.x` through what follows the attention, whose result is `scratch.mixed`.
    fn rest(&self, rest: &Rest, scratch: &mut Scratch) {
        let set = self.set;
        let Scratch { x, normal, query, mixed, wide, product, .. } = scratch;
        apply(set, &rest.mixing, mixed, product, query);
        x.iter_mut().zip(query.iter()).for_each(|(x, y)| *x += y);
        rest.norm.apply(set, x, normal);
        apply(set, &rest.inner, normal, product, wide);
        gelu_in_place(set, wide);
        apply(set, &rest.outer, wide, product, query);
        x.iter_mut().zip(query.iter()).for_each(|(x, y)| *x += y);
    }
}
