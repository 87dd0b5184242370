//! The behavior step: one AdamW step of the denoiser (5), with its draws.

use crate::beside::Numbers;
use crate::plain::linear;
use crate::{Step, ACTIONS, STATES};
use drcorl_algos::drcorl::behavior::BehaviorModel;
use drcorl_algos::drcorl::diffusion::{diffuse, Draws, BETA_0, BETA_1, TRAIN_TIME_MIN};
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::Arena;
use serde_json::json;
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

const LR: f64 = 3e-4;
const DECAY: f64 = 0.01;

/// The denoiser as published, less the projection nothing depends on.
pub struct PlainScoreNet {
    frequencies: Tensor,
    time: [nn::Linear; 2],
    input: nn::Linear,
    blocks: Vec<(nn::LayerNorm, nn::Linear, nn::Linear)>,
    output: nn::Linear,
}

impl PlainScoreNet {
    /// A copy of `arena` and `frequencies [32]`.
    pub fn copy_of(path: &nn::Path, arena: &Arena, frequencies: &Tensor, shape: ScoreNetShape) -> PlainScoreNet {
        let named = |name: String| arena.named(&name).unwrap_or_else(|| panic!("no parameter {name}")).0;
        let layer = |name: &str| {
            linear(path / name.replace('.', "_"), named(format!("{name}.weight")), named(format!("{name}.bias")))
        };
        let blocks = (0..shape.blocks)
            .map(|i| {
                let norm = nn::layer_norm(path / format!("norm{i}"), vec![shape.hidden], Default::default());
                (norm, layer(&format!("blocks.{i}.inner")), layer(&format!("blocks.{i}.outer")))
            })
            .collect();
        PlainScoreNet {
            frequencies: frequencies.copy(),
            time: [layer("time.0"), layer("time.1")],
            input: layer("input"),
            blocks,
            output: layer("output"),
        }
    }

    /// Predicted noise `[B,A]`.
    pub fn forward(&self, noisy: &Tensor, observation: &Tensor, time: &Tensor, dropout: f64) -> Tensor {
        let angle = time.unsqueeze(1) * &self.frequencies * 2.0 * std::f64::consts::PI;
        let fourier = Tensor::cat(&[angle.sin(), angle.cos()], 1);
        let embedding = self.time[1].forward(&self.time[0].forward(&fourier).mish());
        let mut trunk = self.input.forward(&Tensor::cat(&[noisy, observation, &embedding], 1));
        for (norm, inner, outer) in &self.blocks {
            let dropped = if dropout > 0.0 { trunk.dropout(dropout, true) } else { trunk.shallow_clone() };
            trunk = &trunk + outer.forward(&inner.forward(&norm.forward(&dropped)).mish());
        }
        self.output.forward(&trunk.mish())
    }
}

/// Multiply-adds of one row, and of those the ones whose input needs no gradient.
pub fn row_products(shape: ScoreNetShape) -> (f64, f64) {
    let (input, embedding, fourier) = (shape.actions + shape.observations, 128, 64);
    let blocks = shape.blocks as i64 * 2 * shape.hidden * shape.hidden * shape.expansion;
    let all = fourier * embedding
        + embedding * embedding
        + (input + embedding) * shape.hidden
        + blocks
        + shape.hidden * shape.actions;
    (all as f64, (fourier * embedding + input * shape.hidden) as f64)
}

/// A model and a batch, and what draws the dropout.
struct Start {
    model: BehaviorModel,
    observation: Tensor,
    action: Tensor,
    draws: Draws,
    rng: Rng,
}

impl Start {
    /// The same one every time, whatever the dropout.
    fn new(shape: ScoreNetShape, dropout: f64, rows: i64, device: Device) -> Start {
        let mut rng = Rng::new(2, 0);
        let model = BehaviorModel::new(shape, dropout, DECAY, device, &mut rng);
        let observation = rng.normal(&[rows, STATES], device);
        let action = rng.uniform(&[rows, ACTIONS], device);
        let unit = rng.uniform(&[rows], device);
        let draws = Draws { unit, noise: rng.normal(&[rows, ACTIONS], device), action: None };
        Start { model, observation, action, draws, rng }
    }
}

/// What both versions start from.
pub fn numbers(shape: ScoreNetShape, dropout: f64, rows: i64) -> Numbers {
    let Start { mut model, observation, action, draws, .. } = Start::new(shape, dropout, rows, Device::Cpu);
    let constants = json!({
        "lr": LR, "weight_decay": DECAY, "dropout": dropout, "blocks": shape.blocks, "time_min": TRAIN_TIME_MIN,
        "beta_0": BETA_0, "beta_1": BETA_1,
    });
    let mut numbers = Numbers::new("behavior", constants);
    numbers.trained("", model.arena());
    numbers.given(&[("frequencies", model.frequencies_mut()), ("observation", &observation), ("action", &action)]);
    numbers.given(&[("unit", &draws.unit), ("noise", &draws.noise)]);
    numbers
}

/// Both versions, from the same numbers.
pub fn step(shape: ScoreNetShape, dropout: f64, rows: i64, device: Device) -> Step {
    let Start { model: mut ours, observation, action, draws, mut rng } = Start::new(shape, dropout, rows, device);
    let store = nn::VarStore::new(device);
    let frequencies = ours.frequencies_mut().copy();
    let plain = PlainScoreNet::copy_of(&store.root(), ours.arena(), &frequencies, shape);
    let mut optimizer =
        nn::AdamW { wd: DECAY, ..Default::default() }.build(&store, LR).expect("a variable store with variables");
    let again = [&observation, &action].map(Tensor::shallow_clone);
    let same = Draws { unit: draws.unit.shallow_clone(), noise: draws.noise.shallow_clone(), action: None };
    let (all, inputs) = row_products(shape);
    Step {
        flop: 2.0 * rows as f64 * (3.0 * all - inputs),
        ours: Box::new(move || {
            tch::no_grad(|| {
                let dropout = ours.draw_dropout(&mut rng);
                ours.step(&observation, &action, &draws, &dropout, LR)
            })
        }),
        plain: Box::new(move || {
            let [observation, action] = &again;
            let diffused = diffuse(action, &same, (TRAIN_TIME_MIN, 1.0));
            let predicted = plain.forward(&diffused.noisy, observation, &diffused.time, dropout);
            let loss = (predicted - &same.noise).square().sum(Kind::Float) / rows as f64;
            optimizer.backward_step(&loss);
            loss.double_value(&[])
        }),
    }
}
