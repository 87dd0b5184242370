//! The CDT step: gradients of a batch of sequences, clipping, AdamW, temperature; dropout draws included.

use crate::plain::linear;
use crate::{Step, ACTIONS, STATES};
use drcorl_algos::cdt::sequences::Sequences;
use drcorl_algos::cdt::{CdtConfig, Learner};
use drcorl_nn::rng::Rng;
use drcorl_nn::Arena;
use std::sync::atomic::AtomicBool;
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

const EPISODE: usize = 1000;

struct PlainBlock {
    norm1: nn::LayerNorm,
    projection: nn::Linear,
    mixing: nn::Linear,
    norm2: nn::LayerNorm,
    inner: nn::Linear,
    outer: nn::Linear,
}

/// The network as published: every token through every block, attention by batched matrix products.
struct PlainCdt {
    config: CdtConfig,
    time: Tensor,
    embeddings: Vec<nn::Linear>,
    norm_in: nn::LayerNorm,
    blocks: Vec<PlainBlock>,
    norm_out: nn::LayerNorm,
    mu: nn::Linear,
    log_std: nn::Linear,
    cost: nn::Linear,
    hidden: Tensor,
}

impl PlainCdt {
    /// A copy of `arena`.
    fn copy_of(path: &nn::Path, arena: &Arena, config: &CdtConfig, device: Device) -> PlainCdt {
        let named = |name: &str| arena.named(name).unwrap_or_else(|| panic!("no parameter {name}")).0;
        let pair = |weight: &str, bias: &str| linear(path / weight.replace('.', "_"), named(weight), named(bias));
        let layer = |name: &str| pair(&format!("{name}.weight"), &format!("{name}.bias"));
        let e = config.embedding_hidden;
        // Fresh norms: both versions start with the identity.
        let norm = |name: String| nn::layer_norm(path / name.replace('.', "_"), vec![e], Default::default());
        let blocks = (0..config.blocks)
            .map(|i| {
                let part = |name: &str| format!("blocks.{i}.{name}");
                PlainBlock {
                    norm1: norm(part("norm1")),
                    projection: pair(&part("attention.in_proj_weight"), &part("attention.in_proj_bias")),
                    mixing: layer(&part("attention.out_proj")),
                    norm2: norm(part("norm2")),
                    inner: layer(&part("mlp.0")),
                    outer: layer(&part("mlp.2")),
                }
            })
            .collect();
        let time = path.var_copy("time", named("timestep_emb.weight"));
        let tokens = 4 * config.context_length as i64;
        let hidden = Tensor::ones([tokens, tokens], (Kind::Bool, device)).triu(1);
        PlainCdt {
            time,
            embeddings: ["return_emb", "cost_emb", "state_emb", "action_emb"].map(layer).into(),
            norm_in: norm("emb_norm".into()),
            blocks,
            norm_out: norm("out_norm".into()),
            mu: layer("action_head.mu"),
            log_std: layer("action_head.log_std"),
            cost: layer("cost_pred_head"),
            hidden,
            config: config.clone(),
        }
    }

    fn attention(&self, block: &PlainBlock, x: &Tensor) -> Tensor {
        let (size, heads) = (x.size(), self.config.heads as i64);
        let (b, t, e) = (size[0], size[1], size[2]);
        let split = |x: &Tensor| x.view([b, t, heads, e / heads]).transpose(1, 2);
        let parts = block.projection.forward(x).chunk(3, 2);
        let (q, k, v) = (split(&parts[0].contiguous()), split(&parts[1].contiguous()), split(&parts[2].contiguous()));
        let scores = q.matmul(&k.transpose(2, 3)) / ((e / heads) as f64).sqrt();
        let weights = scores.masked_fill(&self.hidden, f64::NEG_INFINITY).softmax(-1, Kind::Float);
        let mixed = weights.dropout(self.config.dropout, true).matmul(&v).transpose(1, 2).reshape([b, t, e]);
        block.mixing.forward(&mixed)
    }

    /// The loss, and the entropy.
    fn loss(&self, batch: &Sequences, temperature: f64) -> (Tensor, f64) {
        let drop = |x: Tensor| x.dropout(self.config.dropout, true);
        let (b, k, e) = (batch.lengths.len() as i64, self.config.context_length as i64, self.config.embedding_hidden);
        let time = self.time.index_select(0, &batch.time_steps.view([-1])).view([b, k, e]);
        let inputs = [batch.returns.unsqueeze(2), 50.0 - batch.costs_to_go.unsqueeze(2)];
        let inputs = inputs.iter().chain([&batch.states, &batch.actions]);
        let embedded: Vec<Tensor> =
            self.embeddings.iter().zip(inputs).map(|(layer, x)| layer.forward(x) + &time).collect();
        let tokens = Tensor::stack(&embedded, 2).view([b, 4 * k, e]);
        let mut x = drop(self.norm_in.forward(&tokens));
        for block in &self.blocks {
            x = &x + drop(self.attention(block, &block.norm1.forward(&x)));
            let inner = block.inner.forward(&block.norm2.forward(&x)).gelu("none");
            x = &x + drop(block.outer.forward(&inner));
        }
        let features = self.norm_out.forward(&x).view([b, k, 4, e]);
        let (state, action) = (features.select(2, 2), features.select(2, 3));
        let log_std = self.log_std.forward(&state).clamp(-5.0, 2.0);
        let z = (self.mu.forward(&state) - &batch.actions) / log_std.exp();
        let mask = batch.mask();
        let valid = batch.lengths.iter().sum::<usize>() as f64;
        let mean = |x: Tensor| (x * &mask).sum(Kind::Float) / valid;
        let half_log_tau = 0.5 * std::f64::consts::TAU.ln();
        let nll = mean((z.square() * 0.5 + &log_std + half_log_tau).sum_dim_intlist(2i64, false, Kind::Float));
        let entropy = mean((&log_std + (0.5 + half_log_tau)).sum_dim_intlist(2i64, false, Kind::Float));
        let class = batch.costs.gt(0.0).to_kind(Kind::Int64).unsqueeze(2);
        let cost =
            -mean(self.cost.forward(&action).log_softmax(2, Kind::Float).gather(2, &class, false).squeeze_dim(2));
        let loss = nll - &entropy * temperature + cost * self.config.cost_weight;
        (loss, entropy.double_value(&[]))
    }
}

/// Multiply-adds of the products of one token in one block.
fn token_products(e: i64) -> i64 {
    3 * e * e + e * e + 8 * e * e
}

/// Both versions, from the same numbers and without padding; `rows` sequences.
pub fn step(config: CdtConfig, rows: i64, device: Device) -> Step {
    let mut rng = Rng::new(3, 0);
    let mut ours = Learner::new(&config, STATES, ACTIONS, EPISODE, device, &mut rng);
    let store = nn::VarStore::new(device);
    let plain = PlainCdt::copy_of(&store.root(), ours.arena(), &config, device);
    let mut optimizer = nn::AdamW { wd: config.weight_decay, ..Default::default() }
        .build(&store, config.actor_lr)
        .expect("a variable store with variables");
    let (k, e) = (config.context_length as i64, config.embedding_hidden);
    let steps = Tensor::arange(k, (Kind::Int64, device)).unsqueeze(0)
        + rng.rows(rows as usize, EPISODE as i64, device).unsqueeze(1);
    let batch = Sequences {
        states: rng.normal(&[rows, k, STATES], device),
        actions: rng.uniform(&[rows, k, ACTIONS], device) * 2.0 - 1.0,
        returns: rng.normal(&[rows, k], device),
        costs_to_go: rng.uniform(&[rows, k], device) * 40.0,
        time_steps: steps,
        costs: rng.uniform(&[rows, k], device).gt(0.9).to_kind(Kind::Float),
        episode_cost: rng.uniform(&[rows], device) * 40.0,
        lengths: vec![k as usize; rows as usize],
    };
    let again = batch.part(0, rows as usize);
    let never = AtomicBool::new(false);
    // The last block's queries, output and network are needed for two tokens of four.
    let tokens = (rows * 4 * k) as f64;
    let whole = (config.blocks as i64 - 1) * token_products(e) + 2 * e * e;
    let read = (token_products(e) - 2 * e * e) as f64 / 2.0;
    Step {
        flop: 6.0 * tokens * (whole as f64 + read),
        ours: Box::new(move || {
            tch::no_grad(|| {
                let step = ours.step(&batch, &mut rng, &never).expect("no one cancels");
                ours.total(&step)
            })
        }),
        plain: Box::new(move || {
            let (loss, _entropy) = plain.loss(&again, config.temperature);
            optimizer.zero_grad();
            loss.backward();
            optimizer.clip_grad_norm(config.clip_norm);
            optimizer.step();
            loss.double_value(&[])
        }),
    }
}
