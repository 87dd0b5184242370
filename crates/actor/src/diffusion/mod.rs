//! Kind `diffusion`: actions denoised from pure noise, of several the one that critics choose (diffusion policies with
//! a feasibility critic).
//!
//! `x ~ N(0, I)`, then for every level i from the last to the first
//! `x = (x - c_i e(x, s, i)) / sqrt(1 - beta_i) + sqrt(beta_i) noise_temperature z` with
//! `c_i = beta_i / sqrt(1 - kept_i)`, `kept_i` the product of `1 - beta` up to i, and no noise at the first level;
//! clipped to [-1, 1] after every level or at the end.

mod play;

use std::collections::BTreeMap;
use std::sync::Arc;

use drcorl_kernels::affine::Layer;
use drcorl_kernels::InstructionSet;

use crate::actor::{Frame, Kind, Play};
use crate::error::{Error, Result};
use crate::file::Fields;
use crate::network::{Hidden, Network};

/// What one level does to an action: `x = (x - pull e) gain + spread z`.
#[derive(Debug, Clone, Copy)]
struct Level {
    pull: f32,
    gain: f32,
    spread: f32,
}

/// A residual block: `x + outer(mish(inner(norm(x))))`.
#[derive(Debug)]
struct Block {
    weight: Vec<f32>,
    bias: Vec<f32>,
    inner: Layer,
    outer: Layer,
}

/// `e(x, s, i) = output(mish(blocks(input([x, s, embedding_i]))))`.
#[derive(Debug)]
struct Denoiser {
    /// Of `[x, s]`; what the level's embedding adds is in `level_bias`.
    input: Layer,
    /// `[T, H]`
    level_bias: Vec<f32>,
    blocks: Vec<Block>,
    output: Layer,
    norm_eps: f32,
    set: InstructionSet,
}

/// Which of several actions is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Safest,
    Best,
    Feasible,
}

/// Critics `[x, s]` of several actions; the lowest reward value and the highest feasibility value of the members count.
#[derive(Debug)]
struct Ranking {
    choice: Choice,
    threshold: f32,
    reward: Vec<Network>,
    feasibility: Vec<Network>,
}

#[derive(Debug)]
struct Diffusion {
    denoiser: Denoiser,
    /// From the least noise to the most.
    levels: Vec<Level>,
    clip_levels: bool,
    candidates: usize,
    ranking: Option<Ranking>,
    seed: u64,
}

/// Reads layer `name` of `inputs` values, of which the first `taken` make the layer. Errs unless it gives `outputs`,
/// where that is known.
fn layer(fields: &Fields, name: &str, inputs: usize, taken: usize, outputs: Option<usize>) -> Result<Layer> {
    let weight_name = format!("{name}.weight");
    let (weight, bias) = (fields.tensor(&weight_name, 2)?, fields.tensor(&format!("{name}.bias"), 1)?);
    let expected = outputs.unwrap_or(bias.values.len());
    if weight.shape != [expected, inputs] || bias.values.len() != expected || expected == 0 || inputs == 0 {
        let text = format!("has shape {:?}, expected [{expected}, {inputs}] and as many biases", weight.shape);
        return Err(Error::shape(&weight_name, &text));
    }
    let rows = weight.values.chunks_exact(inputs).flat_map(|row| &row[..taken]);
    Ok(Layer::pack(taken, &rows.copied().collect::<Vec<f32>>(), &bias.values))
}

/// Reads the rates of noise: each in (0, 1).
fn levels(fields: &Fields) -> Result<Vec<Level>> {
    let beta = &fields.tensor("level.beta", 1)?.values;
    if let Some(i) = beta.iter().position(|&beta| beta <= 0.0 || beta >= 1.0) {
        return Err(Error::data("level.beta", &format!("value {i} is {}, expected one between 0 and 1", beta[i])));
    }
    if beta.is_empty() {
        return Err(Error::shape("level.beta", "has no entries"));
    }
    let temperature = fields.number("noise_temperature")?;
    let mut kept = 1.0;
    let level = |&beta: &f32| {
        let beta = f64::from(beta);
        kept *= 1.0 - beta;
        let (pull, gain) = (beta / (1.0 - kept).sqrt(), 1.0 / (1.0 - beta).sqrt());
        Level { pull: pull as f32, gain: gain as f32, spread: (temperature * beta.sqrt()) as f32 }
    };
    Ok(beta.iter().map(level).collect())
}

/// Reads the denoiser of `levels` levels.
fn denoiser(fields: &Fields, frame: &Frame, levels: usize, set: InstructionSet) -> Result<Denoiser> {
    let embedding = fields.tensor("level.embedding", 2)?;
    let [rows, width] = [embedding.shape[0], embedding.shape[1]];
    if rows != levels {
        let text =
            format!("has shape {:?}, expected a row for each of the {levels} entries of level.beta", embedding.shape);
        return Err(Error::shape("level.embedding", &text));
    }
    let seen = frame.act_dim() + frame.obs_dim();
    let input = layer(fields, "input", seen + width, seen, None)?;
    let hidden = input.outputs();
    let weight = &fields.tensor("input.weight", 2)?.values;
    let product = |row: &[f32], level: &[f32]| -> f64 {
        row[seen..].iter().zip(level).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
    };
    let of_level = |i: usize| {
        let level = &embedding.values[i * width..][..width];
        weight.chunks_exact(seen + width).map(move |row| product(row, level) as f32)
    };
    let block = |i: usize| -> Result<Block> {
        let name = |part: &str| format!("blocks.{i}.{part}");
        let vector = |part: &str| fields.vector(&name(part), hidden).map(<[f32]>::to_vec);
        let inner = layer(fields, &name("inner"), hidden, hidden, None)?;
        let wide = inner.outputs();
        let outer = layer(fields, &name("outer"), wide, wide, Some(hidden))?;
        Ok(Block { weight: vector("norm.weight")?, bias: vector("norm.bias")?, inner, outer })
    };
    Ok(Denoiser {
        level_bias: (0..levels).flat_map(of_level).collect(),
        blocks: (0..fields.count("blocks")?).map(block).collect::<Result<_>>()?,
        output: layer(fields, "output", hidden, hidden, Some(frame.act_dim()))?,
        norm_eps: fields.number("norm_eps")? as f32,
        input,
        set,
    })
}

/// Reads what chooses among several actions.
fn ranking(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Ranking> {
    let critic = |name: &str| -> Result<Vec<Network>> {
        let inputs = frame.act_dim() + frame.obs_dim();
        let members = (0..).map(|member| format!("{name}.{member}"));
        let there = members.take_while(|member| fields.has(&format!("{member}.0.weight")));
        let found = there.map(|member| Network::read(fields, &member, inputs, 1, Hidden::Relu, set));
        let found = found.collect::<Result<Vec<_>>>()?;
        if found.is_empty() {
            let text = "is missing: a choice among candidates needs both critics; use a policy file written by drcorl";
            return Err(Error::data(&format!("{name}.0.0.weight"), text));
        }
        Ok(found)
    };
    let choices = [("safest", Choice::Safest), ("best", Choice::Best), ("feasible", Choice::Feasible)];
    Ok(Ranking {
        choice: fields.choice("choice", &choices)?,
        threshold: fields.number("threshold")? as f32,
        reward: critic("reward_critic")?,
        feasibility: critic("feasibility_critic")?,
    })
}

/// Reads the kind's own fields.
pub(crate) fn read(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Arc<dyn Kind>> {
    let levels = levels(fields)?;
    let candidates = fields.count("candidates")?;
    Ok(Arc::new(Diffusion {
        denoiser: denoiser(fields, frame, levels.len(), set)?,
        levels,
        clip_levels: fields.choice("clip_levels", &[("true", true), ("false", false)])?,
        candidates,
        ranking: (candidates > 1).then(|| ranking(fields, frame, set)).transpose()?,
        seed: fields.whole("seed")?,
    }))
}

impl Kind for Diffusion {
    fn play(self: Arc<Self>, _settings: &BTreeMap<String, f64>) -> Box<dyn Play> {
        Box::new(play::DiffusionPlay::new(self))
    }

    fn remembers(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
