//! Kind `sequence`: a causal transformer over the last steps of an episode, conditioned on the return and the cost
//! still to come (decision transformers).
//!
//! Every step is four tokens: return to go R, cost to go C, state s, action a. The action is read off the newest state
//! token. R and C begin at the settings `target_return` and `cost_limit` and lose each reward and cost as it comes.

mod network;
mod play;

use std::collections::BTreeMap;
use std::sync::Arc;

use drcorl_kernels::affine::Layer;
use drcorl_kernels::InstructionSet;

use crate::actor::{Frame, Kind, Play};
use crate::error::{Error, Result};
use crate::file::Fields;
use network::{Block, Last, Norm, Rest, Transformer};

/// Tokens of a step.
const STEP: usize = 4;

/// How the action head reads the embedded cost to go beside the state's feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CostFeature {
    None,
    Add,
    Multiply,
    Concatenate,
}

/// The policy of a file.
#[derive(Debug)]
struct Sequence {
    transformer: Transformer,
    /// Steps it looks back on K.
    context: usize,
    /// `[rows][E]`, by the step of the episode; later steps take the last row.
    time: Vec<f32>,
    /// Return to go, cost to go, state, action.
    embeddings: [Layer; STEP],
    /// Of the episode's cost, where a token of it comes first.
    prefix: Option<Layer>,
    head: Vec<Layer>,
    cost_feature: CostFeature,
    /// The cost token reads `cost_offset + cost_sign * C`.
    cost_offset: f32,
    cost_sign: f32,
    reward_scale: f64,
    cost_scale: f64,
}

/// Reads layer `name`, which must take `inputs` values, and give `outputs` where that is known.
fn layer(fields: &Fields, name: &str, inputs: usize, outputs: Option<usize>) -> Result<Layer> {
    let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
    let bias = fields.tensor(&bias_name, 1)?;
    part(fields, (&weight_name, &bias_name), inputs, outputs.unwrap_or(bias.values.len()), 0..1)
}

/// Reads parts `which` of a layer whose outputs are `parts.end` or more times `outputs` values, as a layer of its own.
fn part(
    fields: &Fields,
    (weight_name, bias_name): (&str, &str),
    inputs: usize,
    outputs: usize,
    parts: std::ops::Range<usize>,
) -> Result<Layer> {
    let (weight, bias) = (fields.tensor(weight_name, 2)?, fields.tensor(bias_name, 1)?);
    let rows = bias.values.len();
    if weight.shape != [rows, inputs] || rows == 0 || rows < parts.end * outputs || rows % outputs != 0 {
        let text =
            format!("has shape {:?}, expected [{}, {inputs}] and as many biases", weight.shape, parts.end * outputs);
        return Err(Error::shape(weight_name, &text));
    }
    let (from, to) = (parts.start * outputs, parts.end * outputs);
    Ok(Layer::pack(inputs, &weight.values[from * inputs..to * inputs], &bias.values[from..to]))
}

fn norm(fields: &Fields, name: &str, width: usize) -> Result<Norm> {
    let vector = |part: &str| fields.vector(&format!("{name}.{part}"), width).map(<[f32]>::to_vec);
    Ok(Norm { weight: vector("weight")?, bias: vector("bias")? })
}

fn rest(fields: &Fields, index: usize, e: usize) -> Result<Rest> {
    let name = |part: &str| format!("blocks.{index}.{part}");
    let inner = layer(fields, &name("mlp.0"), e, None)?;
    Ok(Rest {
        mixing: layer(fields, &name("attention.out_proj"), e, Some(e))?,
        norm: norm(fields, &name("norm2"), e)?,
        outer: layer(fields, &name("mlp.2"), inner.outputs(), Some(e))?,
        inner,
    })
}

/// Names of weight and bias of a block's queries, keys and values.
fn projection(index: usize) -> [String; 2] {
    ["weight", "bias"].map(|part| format!("blocks.{index}.attention.in_proj_{part}"))
}

fn block(fields: &Fields, index: usize, e: usize) -> Result<Block> {
    let [weight, bias] = projection(index);
    Ok(Block {
        rest: rest(fields, index, e)?,
        norm: norm(fields, &format!("blocks.{index}.norm1"), e)?,
        query: part(fields, (&weight, &bias), e, e, 0..1)?,
        key_value: part(fields, (&weight, &bias), e, e, 1..3)?,
    })
}

fn last(fields: &Fields, index: usize, e: usize, heads: usize) -> Result<Last> {
    let rest = rest(fields, index, e)?;
    let [weight, bias] = projection(index);
    let query = part(fields, (&weight, &bias), e, e, 0..1)?;
    // Of sizes that hold: the values are the third part of three.
    part(fields, (&weight, &bias), e, e, 2..3)?;
    let (weight, bias) = (&fields.tensor(&weight, 2)?.values, &fields.tensor(&bias, 1)?.values);
    let (width, scale) = (e / heads, (heads as f32).sqrt());
    let keys = |head: usize| {
        let key = &weight[(e + head * width) * e..][..width * e];
        let transposed: Vec<f32> = (0..e * width).map(|at| scale * key[at % width * e + at / width]).collect();
        Layer::pack(width, &transposed, &vec![0.0; e])
    };
    let values = |head: usize| {
        let first = 2 * e + head * width;
        Layer::pack(e, &weight[first * e..][..width * e], &bias[first..][..width])
    };
    Ok(Last {
        norm: norm(fields, &format!("blocks.{index}.norm1"), e)?,
        query,
        keys: (0..heads).map(keys).collect(),
        values: (0..heads).map(values).collect(),
        rest,
    })
}

/// Reads the kind's own fields.
pub(crate) fn read(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Arc<dyn Kind>> {
    let time = fields.tensor("timestep_emb.weight", 2)?;
    let [rows, e] = [time.shape[0], time.shape[1]];
    let heads = fields.count("heads")?;
    if rows == 0 || e == 0 || e % heads != 0 {
        let text = format!("has shape {:?}, expected rows of a multiple of {heads} heads", time.shape);
        return Err(Error::shape("timestep_emb.weight", &text));
    }
    let cost_feature = fields.choice(
        "cost_feature",
        &[
            ("none", CostFeature::None),
            ("add", CostFeature::Add),
            ("multiply", CostFeature::Multiply),
            ("concatenate", CostFeature::Concatenate),
        ],
    )?;
    let before = fields.count("blocks")? - 1;
    let blocks = (0..before).map(|i| block(fields, i, e)).collect::<Result<Vec<_>>>()?;
    let prefix = fields.has("prefix_emb.weight").then(|| layer(fields, "prefix_emb", 1, Some(e))).transpose()?;
    let head_input = if cost_feature == CostFeature::Concatenate { 2 * e } else { e };
    let layers = fields.count("head_layers")?;
    let head = (0..layers).map(|i| {
        let outputs = if i + 1 == layers { frame.act_dim() } else { head_input };
        layer(fields, &format!("head.{i}"), head_input, Some(outputs))
    });
    for setting in ["target_return", "cost_limit"] {
        fields.number(&format!("setting.{setting}"))?;
    }
    Ok(Arc::new(Sequence {
        context: fields.count("context")?,
        time: time.values.clone(),
        embeddings: [
            layer(fields, "return_emb", 1, Some(e))?,
            layer(fields, "cost_emb", 1, Some(e))?,
            layer(fields, "state_emb", frame.obs_dim(), Some(e))?,
            layer(fields, "action_emb", frame.act_dim(), Some(e))?,
        ],
        prefix,
        head: head.collect::<Result<Vec<_>>>()?,
        cost_feature,
        cost_offset: fields.number("cost_offset")? as f32,
        cost_sign: fields.number("cost_sign")? as f32,
        reward_scale: fields.number("reward_scale")?,
        cost_scale: fields.number("cost_scale")?,
        transformer: Transformer {
            embedding: e,
            heads,
            norm_in: norm(fields, "emb_norm", e)?,
            blocks,
            last: last(fields, before, e, heads)?,
            norm_out: norm(fields, "out_norm", e)?,
            set,
        },
    }))
}

impl Kind for Sequence {
    fn remembers(&self) -> bool {
        true
    }

    fn play(self: Arc<Self>, settings: &BTreeMap<String, f64>) -> Box<dyn Play> {
        let target = |name: &str| settings.get(name).copied().unwrap_or_default();
        let targets = (target("target_return") * self.reward_scale, target("cost_limit") * self.cost_scale);
        Box::new(play::SequencePlay::new(self, (targets.0 as f32, targets.1 as f32)))
    }
}

#[cfg(test)]
mod tests;
