//! A causal transformer with layer norm before each part (pre-LN), as the decision transformers use it.
//!
//! ```text
//! x = dropout(norm(tokens))
//! x = x + dropout(attention(norm1(x)));  x = x + dropout(mlp(norm2(x)))    a block; mlp: E -> 4E, GELU, -> E
//! features = norm(x)
//! ```
//!
//! The gradients are written by hand and *added* to the arena's. A caller goes through a large batch in parts, so that
//! the activations of a part stay in the cache and in memory that was used before: those of a whole published batch
//! (2048 x 40 tokens) are 2.7 GB. The last block computes only the tokens someone reads;
//! the others serve it as keys and values.

mod parts;

use super::attention::{self, Attention};
use super::buffers::Buffers;
use super::dropout::{self, Dropout};
use super::{ops, Arena, ArenaBuilder, Dense};
use crate::rng::Rng;
use parts::{Norm, NormCache, Part};
use tch::{Device, Tensor};

/// Width of the inner layer of a block's network as a multiple of the embedding.
const EXPANSION: i64 = 4;
/// Standard deviation of fresh weights.
pub const INITIAL_STD: f32 = 0.02;

/// Sizes of a [`Transformer`].
#[derive(Clone, Copy, Debug)]
pub struct TransformerShape {
    /// E, a multiple of `heads`.
    pub embedding: i64,
    pub heads: usize,
    pub blocks: usize,
    /// Rate of every dropout.
    pub dropout: f64,
}

/// Which tokens a pass works on.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// Tokens of a sequence T.
    pub tokens: usize,
    /// Numbers of the tokens whose features are wanted, `[Tq]`, ascending.
    pub wanted: &'a [usize],
    /// Tokens of each sequence that are no padding, `[B]`, at least 1; they come first.
    pub valid: &'a [usize],
}

impl Pass<'_> {
    /// Row numbers of the wanted tokens among all, `[B*Tq]`.
    fn rows(&self, device: Device) -> Tensor {
        let starts = (0..self.valid.len()).map(|sequence| sequence * self.tokens);
        let rows: Vec<i64> = starts.flat_map(|start| self.wanted.iter().map(move |&t| (start + t) as i64)).collect();
        Tensor::from_slice(&rows).to_device(device)
    }
}

struct Block {
    norm1: Norm,
    /// `[3E,E]`: queries, keys, values.
    projection: Dense,
    mixing: Dense,
    norm2: Norm,
    inner: Dense,
    outer: Dense,
}

struct BlockCache {
    norm1: NormCache,
    normal1: Tensor,
    /// Rows of `normal1` that ask, where not all do.
    asking: Option<Tensor>,
    query: Tensor,
    key_value: Tensor,
    weights: Tensor,
    mixed: Tensor,
    norm2: NormCache,
    normal2: Tensor,
    /// Of the GELU.
    derivative: Tensor,
    active: Tensor,
    /// Of the attention weights and of both residuals.
    dropouts: [Dropout; 3],
}

/// What [`Transformer::forward`] keeps for [`Transformer::backward`].
pub struct TransformerCache {
    norm_in: NormCache,
    dropout_in: Dropout,
    blocks: Vec<BlockCache>,
    norm_out: NormCache,
}

impl TransformerCache {
    /// The input of each block, `[B*T,E]`, and the result of the last, `[B*Tq,E]`.
    pub fn states(&self) -> Vec<&Tensor> {
        self.blocks.iter().map(|block| &block.norm1.input).chain([&self.norm_out.input]).collect()
    }
}

/// The layout of a transformer.
pub struct Transformer {
    shape: TransformerShape,
    norm_in: Norm,
    blocks: Vec<Block>,
    norm_out: Norm,
}

impl Transformer {
    /// Registers the network in `builder`. Weights are drawn from N(0, 0.02^2), the projection of queries, keys and
    /// values from Xavier's uniform distribution; biases are 0, norms the identity.
    pub fn new(builder: &mut ArenaBuilder, shape: TransformerShape, rng: &mut Rng) -> Self {
        let e = shape.embedding;
        let norm_in = Norm::new(builder, "emb_norm", e);
        let xavier = (6.0 / (4 * e) as f32).sqrt();
        let blocks = (0..shape.blocks)
            .map(|i| {
                let name = |part: &str| format!("blocks.{i}.{part}");
                let norm1 = Norm::new(builder, &name("norm1"), e);
                let weight =
                    builder.add(&name("attention.in_proj_weight"), &[3 * e, e], || (2.0 * rng.unit() - 1.0) * xavier);
                let bias = builder.add(&name("attention.in_proj_bias"), &[3 * e], || 0.0);
                let mut dense = |builder: &mut ArenaBuilder, part: &str, out, input| {
                    Dense::new(builder, &name(part), out, input, || INITIAL_STD * rng.normal_unit())
                };
                let mixing = dense(builder, "attention.out_proj", e, e);
                let norm2 = Norm::new(builder, &name("norm2"), e);
                let inner = dense(builder, "mlp.0", EXPANSION * e, e);
                let outer = dense(builder, "mlp.2", e, EXPANSION * e);
                Block { norm1, projection: Dense { weight, bias }, mixing, norm2, inner, outer }
            })
            .collect();
        Transformer { shape, norm_in, blocks, norm_out: Norm::new(builder, "out_norm", e) }
    }

    /// Features `[B*Tq,E]` of the wanted tokens for `tokens [B*T,E]`; without a generator nothing is dropped.
    pub fn forward(
        &self,
        arena: &Arena,
        tokens: Tensor,
        pass: &Pass,
        mut training: Option<&mut Rng>,
        buffers: &Buffers,
    ) -> (Tensor, TransformerCache) {
        let mut draw = || match &mut training {
            Some(rng) => dropout::draw(self.shape.dropout, rng),
            None => Dropout::NONE,
        };
        let rows = (pass.wanted.len() < pass.tokens).then(|| pass.rows(tokens.device()));
        let (mut x, norm_in) = self.norm_in.forward(arena, tokens, buffers);
        let dropout_in = draw();
        dropout::apply_in_place(&x, dropout_in);
        let last = self.blocks.len() - 1;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let asking = rows.as_ref().filter(|_| i == last);
            let (next, cache) = self.block_forward(arena, block, x, pass, asking, [(); 3].map(|()| draw()), buffers);
            x = next;
            blocks.push(cache);
        }
        let (features, norm_out) = self.norm_out.forward(arena, x, buffers);
        (features, TransformerCache { norm_in, dropout_in, blocks, norm_out })
    }

    fn attention<'a>(&self, pass: &Pass<'a>, every: &'a [usize], some: bool, dropout: Dropout) -> Attention<'a> {
        let queries = if some { pass.wanted } else { every };
        Attention { heads: self.shape.heads, tokens: pass.tokens, queries, valid: pass.valid, dropout }
    }

    #[allow(clippy::too_many_arguments)]
    fn block_forward(
        &self,
        arena: &Arena,
        block: &Block,
        input: Tensor,
        pass: &Pass,
        asking: Option<&Tensor>,
        dropouts: [Dropout; 3],
        buffers: &Buffers,
    ) -> (Tensor, BlockCache) {
        let (e, device) = (self.shape.embedding, input.device());
        let (normal1, norm1) = block.norm1.forward(arena, input, buffers);
        let key_value = Part::of(arena, &block.projection, e, 2 * e).forward(&normal1, buffers);
        let pick = |from: &Tensor, rows: &Tensor, buffers: &Buffers| {
            from.index_select_out(&buffers.take(rows.size()[0], e, device), 0, rows)
        };
        let picked = asking.map(|rows| pick(&normal1, rows, buffers));
        let query = Part::of(arena, &block.projection, 0, e).forward(picked.as_ref().unwrap_or(&normal1), buffers);
        let every: Vec<usize> = (0..pass.tokens).collect();
        let shape = self.attention(pass, &every, asking.is_some(), dropouts[0]);
        let (weights, mixed) =
            (buffers.take(1, shape.weights() as i64, device), buffers.take(query.size()[0], e, device));
        attention::forward(&shape, &query, &key_value, &mixed, &weights);

        let projected = block.mixing.forward_in(arena, &mixed, buffers);
        let middle = buffers.take(query.size()[0], e, device);
        let base = asking.map(|rows| pick(&norm1.input, rows, buffers));
        dropout::residual(base.as_ref().unwrap_or(&norm1.input), &projected, &middle, dropouts[1]);
        buffers.give([projected].into_iter().chain(base));

        let (normal2, norm2) = block.norm2.forward(arena, middle, buffers);
        let mut derivative = block.inner.forward_in(arena, &normal2, buffers);
        let active = buffers.take(query.size()[0], EXPANSION * e, device);
        ops::gelu(&mut derivative, &active);
        let projected = block.outer.forward_in(arena, &active, buffers);
        let out = buffers.take(query.size()[0], e, device);
        dropout::residual(&norm2.input, &projected, &out, dropouts[2]);
        buffers.give([projected]);
        let cache = BlockCache {
            norm1,
            normal1,
            asking: picked,
            query,
            key_value,
            weights,
            mixed,
            norm2,
            normal2,
            derivative,
            active,
            dropouts,
        };
        (out, cache)
    }

    /// Adds the gradients of all parameters for `grad [B*Tq,E]` of the features,
    /// and returns that of the tokens `[B*T,E]`.
    pub fn backward(
        &self,
        arena: &Arena,
        mut grad: Tensor,
        cache: TransformerCache,
        pass: &Pass,
        buffers: &Buffers,
    ) -> Tensor {
        let rows = (pass.wanted.len() < pass.tokens).then(|| pass.rows(grad.device()));
        self.norm_out.backward(arena, &cache.norm_out, &mut grad);
        buffers.give(cache.norm_out.parts());
        let last = self.blocks.len() - 1;
        for (i, (block, kept)) in self.blocks.iter().zip(cache.blocks).enumerate().rev() {
            grad = self.block_backward(arena, block, grad, kept, pass, rows.as_ref().filter(|_| i == last), buffers);
        }
        dropout::apply_in_place(&grad, cache.dropout_in);
        self.norm_in.backward(arena, &cache.norm_in, &mut grad);
        // The tokens came from the caller: kept here, the buffers would grow by them with every pass.
        let [_, mean, rstd] = cache.norm_in.parts();
        buffers.give([mean, rstd]);
        grad
    }

    #[allow(clippy::too_many_arguments)]
    fn block_backward(
        &self,
        arena: &Arena,
        block: &Block,
        grad: Tensor,
        cache: BlockCache,
        pass: &Pass,
        asking: Option<&Tensor>,
        buffers: &Buffers,
    ) -> Tensor {
        let (e, kept, device) = (self.shape.embedding, grad.size()[0], grad.device());
        let dropped = buffers.take(kept, e, device);
        dropout::apply(&grad, &dropped, cache.dropouts[2]);
        block.outer.accumulate(arena, &dropped, &cache.active);
        let mut wide = cache.active;
        block.outer.input_gradient_into(arena, &dropped, &wide);
        let _ = wide.g_mul_(&cache.derivative);
        block.inner.accumulate(arena, &wide, &cache.normal2);
        let mut middle = cache.normal2;
        block.inner.input_gradient_into(arena, &wide, &middle);
        block.norm2.backward(arena, &cache.norm2, &mut middle);
        let _ = middle.g_add_(&grad);

        dropout::apply(&middle, &dropped, cache.dropouts[1]);
        block.mixing.accumulate(arena, &dropped, &cache.mixed);
        let (mixed, grad_query) = (cache.mixed, grad);
        block.mixing.input_gradient_into(arena, &dropped, &mixed);
        let every: Vec<usize> = (0..pass.tokens).collect();
        let shape = self.attention(pass, &every, asking.is_some(), cache.dropouts[0]);
        let grad_key_value = buffers.take(cache.key_value.size()[0], 2 * e, device);
        attention::backward(
            &shape,
            &cache.query,
            &cache.key_value,
            &cache.weights,
            &mixed,
            &grad_query,
            &grad_key_value,
        );

        let (queries, keys_values) =
            (Part::of(arena, &block.projection, 0, e), Part::of(arena, &block.projection, e, 2 * e));
        queries.accumulate(&grad_query, cache.asking.as_ref().unwrap_or(&cache.normal1));
        keys_values.accumulate(&grad_key_value, &cache.normal1);
        let mut out = keys_values.input_gradient(&grad_key_value, buffers);
        let from_query = queries.input_gradient(&grad_query, buffers);
        let add = |to: &mut Tensor, part: &Tensor| match asking {
            Some(rows) => _ = to.index_add_(0, rows, part),
            None => _ = to.g_add_(part),
        };
        add(&mut out, &from_query);
        block.norm1.backward(arena, &cache.norm1, &mut out);
        add(&mut out, &middle);
        buffers.give([dropped, wide, middle, mixed, grad_query, grad_key_value, from_query]);
        buffers.give([cache.normal1, cache.query, cache.key_value, cache.weights, cache.derivative]);
        buffers.give(cache.asking);
        buffers.give(cache.norm1.parts());
        buffers.give(cache.norm2.parts());
        out
    }
}

impl Dense {
    fn forward_in(&self, arena: &Arena, input: &Tensor, buffers: &Buffers) -> Tensor {
        let out = buffers.take(input.size()[0], arena.value(self.weight).size()[0], input.device());
        self.forward_into(arena, input, &out);
        out
    }
}
