//! Causal multi-head attention over short sequences, forward and backward.
//!
//! With 40 tokens and heads 16 wide a batched matrix product has little to hold on to: its score matrices are written,
//! masked, normalised and read back from memory. Here one head of one sequence is worked on in the nearest cache, keys
//! beyond a query are never touched, and a head of 16 is one AVX-512 register.
//!
//! [`forward`] and [`backward`] take a training batch, and [`forward`] the tokens of a policy at play.

use crate::dropout::Dropout;
use crate::instruction_set::multiversion;
use crate::math::exp;
use crate::sums::{across, multiply_add, LANES};

/// The formulas, of one query q `[d]` of one head and the keys k and values v `[n][d]` it sees.
pub mod plain {
    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    /// `p = softmax(q k_j / sqrt(d))`.
    pub fn weights(query: &[f32], keys: &[&[f32]]) -> Vec<f64> {
        let scores = keys.iter().map(|key| dot(query, key) / (query.len() as f64).sqrt()).collect::<Vec<f64>>();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum = scores.iter().map(|score| (score - most).exp()).sum::<f64>();
        scores.iter().map(|score| (score - most).exp() / sum).collect()
    }

    /// `sum_j m_j p_j v_j` with the factors m of a dropout.
    pub fn attend(query: &[f32], keys: &[&[f32]], values: &[&[f32]], factors: &[f32]) -> Vec<f64> {
        let mut out = vec![0.0; query.len()];
        for ((p, value), &factor) in weights(query, keys).iter().zip(values).zip(factors) {
            out.iter_mut().zip(*value).for_each(|(out, &v)| *out += f64::from(factor) * p * f64::from(v));
        }
        out
    }

    /// Gradients of [`attend`]'s result for the query, each key and each value: with `s_j = m_j <grad, v_j>`, that of
    /// the product `q k_j` is `p_j (s_j - sum_i p_i s_i) / sqrt(d)`.
    pub fn attend_backward(
        query: &[f32],
        keys: &[&[f32]],
        values: &[&[f32]],
        factors: &[f32],
        grad: &[f32],
    ) -> (Vec<f64>, Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let p = weights(query, keys);
        let s: Vec<f64> = values.iter().zip(factors).map(|(v, &m)| f64::from(m) * dot(grad, v)).collect();
        let mean: f64 = p.iter().zip(&s).map(|(p, s)| p * s).sum();
        let by = |scale: f64, row: &[f32]| row.iter().map(|&x| scale * f64::from(x)).collect::<Vec<f64>>();
        let (mut for_query, mut for_keys, mut for_values) = (vec![0.0; query.len()], Vec::new(), Vec::new());
        for j in 0..keys.len() {
            let score = p[j] * (s[j] - mean) / (query.len() as f64).sqrt();
            for_query.iter_mut().zip(by(score, keys[j])).for_each(|(sum, x)| *sum += x);
            for_keys.push(by(score, query));
            for_values.push(by(f64::from(factors[j]) * p[j], grad));
        }
        (for_query, for_keys, for_values)
    }
}

/// Chains of additions that run side by side, to hide the latency of one.
const CHAINS: usize = 4;

/// What attends to what.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    pub heads: usize,
    /// Keys of a sequence T.
    pub tokens: usize,
    /// Token number of each query of a sequence, `[Tq]`, ascending; a query sees the keys up to its own number.
    pub queries: &'a [usize],
    /// Keys of each sequence that are no padding, `[B]`, at least 1; they come first.
    pub valid: &'a [usize],
    /// Of the attention weights.
    pub dropout: Dropout,
}

impl Attention<'_> {
    /// Floats the weights of one query take: T, filled up to whole registers.
    pub fn padded(&self) -> usize {
        self.tokens.next_multiple_of(LANES)
    }

    /// Elements [`forward`] needs in `weights`.
    pub fn weights(&self) -> usize {
        self.valid.len() * self.heads * self.queries.len() * self.padded()
    }

    /// Where the weights of a query begin.
    #[inline(always)]
    fn at(&self, sequence: usize, head: usize, query: usize) -> usize {
        ((sequence * self.heads + head) * self.queries.len() + query) * self.padded()
    }

    /// Keys a query sees.
    #[inline(always)]
    fn keys(&self, sequence: usize, query: usize) -> usize {
        (self.queries[query] + 1).min(self.valid[sequence])
    }
}

/// Working memory of [`forward`], of one head: keys as columns, values and queries as rows; the weights of one query
/// after dropout.
#[derive(Debug, Default)]
pub struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    queries: Vec<f32>,
    dropped: Vec<f32>,
}

impl Scratch {
    /// Makes room, which what is used afterwards fills; the rest of a row of keys is 0.
    fn sized(&mut self, keys: usize, values: usize, queries: usize, dropped: usize) {
        self.keys.clear();
        self.keys.resize(keys, 0.0);
        let rest = [(&mut self.values, values), (&mut self.queries, queries), (&mut self.dropped, dropped)];
        rest.into_iter().for_each(|(buffer, len)| buffer.resize(len, 0.0));
    }
}

multiversion! {
    /// `out = dropout(softmax(q k^T / sqrt(d))) v` head by head: `q [B*Tq,E]`, `kv [B*T,2E]` (keys, then values),
    /// `out [B*Tq,E]`. `weights`, of [`Attention::weights`] elements, keeps the softmax for [`backward`].
    /// See [`plain::attend`].
    pub fn forward(
        shape: &Attention<'_>,
        q: &[f32],
        kv: &[f32],
        out: &mut [f32],
        weights: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (tokens, count, padded) = (shape.tokens, shape.queries.len(), shape.padded());
        let embedding = out.len() / (shape.valid.len() * count);
        let width = embedding / shape.heads;
        let wide = width.next_multiple_of(LANES);
        let scale = 1.0 / (width as f32).sqrt();
        scratch.sized(width * padded, tokens * wide, count * wide, padded);
        let Scratch { keys, values, queries, dropped } = scratch;
        for sequence in 0..shape.valid.len() {
            for head in 0..shape.heads {
                let base = &kv[sequence * tokens * 2 * embedding + head * width..];
                columns(base, 2 * embedding, tokens, width, keys, padded);
                rows(&base[embedding..], 2 * embedding, tokens, width, values, wide);
                let first = sequence * count * embedding + head * width;
                rows(&q[first..], embedding, count, width, queries, wide);
                let scores = &mut weights[shape.at(sequence, head, 0)..shape.at(sequence, head, count)];
                let seen = |i: usize| shape.keys(sequence, i);
                products::<FMA>(queries, wide, keys, (width, padded), seen, scores);
                for (i, scores) in scores.chunks_exact_mut(padded).enumerate() {
                    softmax(scores, seen(i), scale);
                    let mixed = if shape.dropout.is_none() {
                        &*scores
                    } else {
                        let at = shape.at(sequence, head, i);
                        for (j, (y, &x)) in dropped.iter_mut().zip(scores.iter()).enumerate() {
                            *y = x * shape.dropout.factor((at + j) as u32);
                        }
                        &*dropped
                    };
                    mixture::<FMA>(mixed, 1, values, wide, seen(i), &mut out[first + i * embedding..][..width]);
                }
            }
        }
    }
}

multiversion! {
    /// Gradients `grad_q [B*Tq,E]`, `grad_kv [B*T,2E]`, overwritten, for the gradient of [`forward`]'s result; `inputs`
    /// are q, kv, the weights and that gradient `[B*Tq,E]`. See [`plain::attend_backward`].
    pub fn backward(shape: &Attention<'_>, inputs: [&[f32]; 4], grad_q: &mut [f32], grad_kv: &mut [f32]) {
        let [q, kv, weights, grad] = inputs;
        let (tokens, count, padded) = (shape.tokens, shape.queries.len(), shape.padded());
        let embedding = grad.len() / (shape.valid.len() * count);
        let width = embedding / shape.heads;
        let wide = width.next_multiple_of(LANES);
        let scale = 1.0 / (width as f32).sqrt();
        // Of one head: values as columns; keys, queries and the gradient as rows; gradients of the scores;
        // weights after dropout.
        let (mut values, mut keys) = (vec![0f32; width * padded], vec![0f32; tokens * wide]);
        let [mut queries, mut grads] = [(); 2].map(|()| vec![0f32; count * wide]);
        let [mut scores, mut dropped] = [(); 2].map(|()| vec![0f32; count * padded]);
        for sequence in 0..shape.valid.len() {
            for head in 0..shape.heads {
                let base = &kv[sequence * tokens * 2 * embedding + head * width..];
                columns(&base[embedding..], 2 * embedding, tokens, width, &mut values, padded);
                rows(base, 2 * embedding, tokens, width, &mut keys, wide);
                let first = sequence * count * embedding + head * width;
                rows(&q[first..], embedding, count, width, &mut queries, wide);
                rows(&grad[first..], embedding, count, width, &mut grads, wide);
                products::<FMA>(&grads, wide, &values, (width, padded), |i| shape.keys(sequence, i), &mut scores);
                for i in 0..count {
                    let (at, seen) = (shape.at(sequence, head, i), shape.keys(sequence, i));
                    let (ds, pd) = (&mut scores[i * padded..][..padded], &mut dropped[i * padded..][..padded]);
                    score_gradient(shape.dropout, at, &weights[at..at + padded], seen, scale, ds, pd);
                    mixture::<FMA>(ds, 1, &keys, wide, seen, &mut grad_q[first + i * embedding..][..width]);
                }
                for key in 0..tokens {
                    let at = (sequence * tokens + key) * 2 * embedding + head * width;
                    // Queries ascend: those from the first that sees this key on.
                    let unseen = if key < shape.valid[sequence] { shape.queries.partition_point(|&t| t < key) } else { count };
                    let (from, left) = (unseen * wide, count - unseen);
                    let to = (unseen * padded + key).min(scores.len());
                    // No closure: it would not be compiled for the instruction set of this function.
                    let (queries, grads) = (&queries[from..], &grads[from..]);
                    mixture::<FMA>(&scores[to..], padded, queries, wide, left, &mut grad_kv[at..at + width]);
                    mixture::<FMA>(&dropped[to..], padded, grads, wide, left, &mut grad_kv[at + embedding..][..width]);
                }
            }
        }
    }
}

/// `out[row][column]`: `count` rows of `width` columns, taken from rows `stride` apart, put into rows of `padded`.
#[inline(always)]
fn rows(from: &[f32], stride: usize, count: usize, width: usize, out: &mut [f32], padded: usize) {
    for (row, out) in out.chunks_exact_mut(padded).take(count).enumerate() {
        let from = &from[row * stride..][..width];
        let whole = width - width % LANES;
        for at in (0..whole).step_by(LANES) {
            // One register: a copy of a length known only now would be a call.
            out[at..at + LANES].copy_from_slice(&register(from, at));
        }
        if whole < width {
            out[whole..width].copy_from_slice(&from[whole..]);
        }
    }
}

/// `out[column][row]`: the transpose of what [`rows`] gives.
#[inline(always)]
fn columns(from: &[f32], stride: usize, count: usize, width: usize, out: &mut [f32], padded: usize) {
    for row in 0..count {
        for (column, &x) in from[row * stride..][..width].iter().enumerate() {
            out[column * padded + row] = x;
        }
    }
}

/// One register of `values`.
#[inline(always)]
fn register(values: &[f32], at: usize) -> [f32; LANES] {
    let mut out = [0f32; LANES];
    out.copy_from_slice(&values[at..at + LANES]);
    out
}

/// `out[row][key] = sum_d rows[row][d] columns[d][key]` for rows of `wide` floats, of which `width` count, and the
/// registers that hold the first `keys(row)` of `padded` keys; `keys` ascends.
#[inline(always)]
fn products<const FMA: bool>(
    rows: &[f32],
    wide: usize,
    columns: &[f32],
    (width, padded): (usize, usize),
    keys: impl Fn(usize) -> usize,
    out: &mut [f32],
) {
    let count = out.len() / padded;
    for first in (0..count).step_by(CHAINS) {
        let last = (first + CHAINS).min(count) - 1;
        // Past the end the last row is computed again.
        let row: [usize; CHAINS] = std::array::from_fn(|c| (first + c).min(last));
        for from in (0..keys(last)).step_by(LANES) {
            let mut sums = [[0f32; LANES]; CHAINS];
            for d in 0..width {
                let column = register(columns, d * padded + from);
                for c in 0..CHAINS {
                    let x = rows[row[c] * wide + d];
                    for lane in 0..LANES {
                        sums[c][lane] = multiply_add::<FMA>(x, column[lane], sums[c][lane]);
                    }
                }
            }
            for c in 0..CHAINS {
                out[row[c] * padded + from..][..LANES].copy_from_slice(&sums[c]);
            }
        }
    }
}

/// `out = sum_n weights[n * step] rows[n]` over `count` rows of `padded` floats.
#[inline(always)]
fn mixture<const FMA: bool>(weights: &[f32], step: usize, rows: &[f32], padded: usize, count: usize, out: &mut [f32]) {
    for (chunk, out) in out.chunks_mut(LANES).enumerate() {
        let mut sums = [[0f32; LANES]; CHAINS];
        let whole = count - count % CHAINS;
        for n in (0..whole).step_by(CHAINS) {
            for (c, sum) in sums.iter_mut().enumerate() {
                let (weight, row) = (weights[(n + c) * step], register(rows, (n + c) * padded + chunk * LANES));
                for lane in 0..LANES {
                    sum[lane] = multiply_add::<FMA>(weight, row[lane], sum[lane]);
                }
            }
        }
        let [mut total, b, c, d] = sums;
        for n in whole..count {
            let (weight, row) = (weights[n * step], register(rows, n * padded + chunk * LANES));
            for lane in 0..LANES {
                total[lane] = multiply_add::<FMA>(weight, row[lane], total[lane]);
            }
        }
        for lane in 0..LANES {
            total[lane] = (total[lane] + b[lane]) + (c[lane] + d[lane]);
        }
        match <&mut [f32; LANES]>::try_from(&mut *out) {
            Ok(out) => *out = total,
            Err(_) => out.copy_from_slice(&total[..out.len()]),
        }
    }
}

/// Softmax of `scale` times the first `keys` entries; the rest becomes 0.
#[inline(always)]
fn softmax(scores: &mut [f32], keys: usize, scale: f32) {
    let (scores, rest) = scores.split_at_mut(keys.next_multiple_of(LANES));
    rest.fill(0.0);
    // Keys out of sight are masked in registers: a store of part of one would hold up the next load.
    let mut most = [f32::NEG_INFINITY; LANES];
    for (from, chunk) in (0..).step_by(LANES).zip(scores.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let score = if from + lane < keys { chunk[lane] } else { f32::NEG_INFINITY };
            most[lane] = if score > most[lane] { score } else { most[lane] };
        }
    }
    let most = across(most, |a, b| if a > b { a } else { b });
    let mut sum = [0f32; LANES];
    for (from, chunk) in (0..).step_by(LANES).zip(scores.chunks_exact_mut(LANES)) {
        for lane in 0..LANES {
            let weight = exp(scale * (chunk[lane] - most));
            chunk[lane] = if from + lane < keys { weight } else { 0.0 };
            sum[lane] += chunk[lane];
        }
    }
    let share = 1.0 / across(sum, |a, b| a + b);
    scores.iter_mut().for_each(|p| *p *= share);
}

/// `ds`, the gradient of the weights after dropout, becomes that of the products `q k^T`;
/// `pd` gets the weights after dropout.
#[inline(always)]
fn score_gradient(dropout: Dropout, at: usize, p: &[f32], keys: usize, scale: f32, ds: &mut [f32], pd: &mut [f32]) {
    let filled = keys.next_multiple_of(LANES);
    let (p, ds, pd) = (&p[..filled], &mut ds[..filled], &mut pd[..filled]);
    pd.copy_from_slice(p);
    if !dropout.is_none() {
        for j in 0..filled {
            let factor = dropout.factor((at + j) as u32);
            pd[j] *= factor;
            ds[j] *= factor;
        }
    }
    let mut dot = [0f32; LANES];
    for (p, ds) in p.chunks_exact(LANES).zip(ds.chunks_exact(LANES)) {
        for lane in 0..LANES {
            dot[lane] += p[lane] * ds[lane];
        }
    }
    let dot = across(dot, |a, b| a + b);
    for (ds, &p) in ds.iter_mut().zip(p) {
        *ds = p * (*ds - dot) * scale;
    }
}
