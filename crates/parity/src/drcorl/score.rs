//! The denoiser: forward pass and training step.

use crate::{Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::diffusion::{schedule, BehaviorModel};
use drcorl_core::error::Result;
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::Arena;
use tch::{Device, Tensor};

/// Fixture name and ours of every trained denoiser parameter; the dead projections have no counterpart.
fn score_names(blocks: usize) -> Vec<(String, String)> {
    let mut layers = vec![
        ("score.cond_model.0".to_string(), "time.0".to_string()),
        ("score.cond_model.2".into(), "time.1".into()),
        ("score.main.fc".into(), "input".into()),
        ("score.main.out_fc".into(), "output".into()),
    ];
    for i in 0..blocks {
        for (theirs, ours) in [("layer_norm", "norm"), ("fc1", "inner"), ("fc2", "outer")] {
            layers.push((format!("score.main.blocks.{i}.{theirs}"), format!("blocks.{i}.{ours}")));
        }
    }
    let both = |(theirs, ours): (String, String)| {
        ["weight", "bias"].map(|kind| (format!("{theirs}.{kind}"), format!("{ours}.{kind}")))
    };
    layers.into_iter().flat_map(both).collect()
}

pub(super) fn load_behavior(fixture: &Fixture, init: &Tensors, device: Device) -> Result<(BehaviorModel, usize)> {
    let blocks = (0..).take_while(|i| init.has(&format!("score.main.blocks.{i}.fc1.weight"))).count();
    let inner = init.get("score.main.blocks.0.fc1.weight")?.size();
    let shape = ScoreNetShape {
        observations: fixture.dim("obs")?,
        actions: fixture.dim("act")?,
        hidden: inner[1],
        blocks,
        expansion: inner[0] / inner[1],
    };
    let decay = fixture.hyper(&["weight_decay"]).unwrap_or(0.0);
    let mut model = BehaviorModel::new(shape, 0.0, decay, device, &mut Rng::new(0, 0));
    model.frequencies_mut().copy_(init.get("score.embed.0.W")?);
    for (theirs, ours) in score_names(blocks) {
        model.arena_mut().set(&ours, init.get(&theirs)?)?;
    }
    Ok((model, blocks))
}

fn read_score(arena: &Arena, blocks: usize, gradient: bool) -> Record {
    let prefix = if gradient { "grad/" } else { "" };
    score_names(blocks)
        .into_iter()
        .filter_map(|(theirs, ours)| {
            let (value, grad) = arena.named(&ours)?;
            Some((format!("{prefix}{theirs}"), if gradient { grad.copy() } else { value.copy() }))
        })
        .collect()
}

struct ScoreNetForward(BehaviorModel);

pub fn bind_score_net(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    Ok(Plan::Run(Box::new(ScoreNetForward(load_behavior(fixture, init, device)?.0))))
}

impl Binding for ScoreNetForward {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let time = batch.get("t")?;
        let (output, cache) = self.0.inspect(batch.get("noisy_act")?, batch.get("obs")?, time);
        let (fourier, embedding, trunk) = cache.inspect();
        let (alpha, sigma) = schedule(time);
        let mut record = vec![
            ("aux/fourier".to_string(), fourier),
            ("aux/time_embedding".into(), embedding),
            ("aux/trunk_in".into(), trunk[0].shallow_clone()),
            ("aux/eps_hat".into(), output),
            ("aux/t".into(), time.shallow_clone()),
            ("aux/alpha".into(), alpha),
            ("aux/sigma".into(), sigma),
        ];
        record.extend(trunk[1..].iter().enumerate().map(|(i, block)| (format!("aux/block{i}"), block.shallow_clone())));
        Ok(record)
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let (alpha, sigma) = schedule(inputs.get("t")?);
        Ok(vec![("alpha".into(), alpha), ("sigma".into(), sigma)])
    }
}

struct Behavior {
    model: BehaviorModel,
    blocks: usize,
    lr: f64,
}

pub fn bind_behavior(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let (model, blocks) = load_behavior(fixture, init, device)?;
    Ok(Plan::Run(Box::new(Behavior { model, blocks, lr: fixture.hyper(&["lr"])? })))
}

impl Binding for Behavior {
    fn step(&mut self, _step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let step = self.model.step(batch.get("obs")?, batch.get("act")?, &draws[0], &draws[1], &[], self.lr);
        let mut record = read_score(self.model.arena(), self.blocks, true);
        record.extend([
            ("loss/denoise".to_string(), Tensor::from(step.loss)),
            ("aux/t".into(), step.diffused.time),
            ("aux/alpha".into(), step.diffused.alpha),
            ("aux/sigma".into(), step.diffused.sigma),
            ("aux/eps_hat".into(), step.predicted),
        ]);
        Ok(record)
    }

    fn parameters(&self) -> Record {
        read_score(self.model.arena(), self.blocks, false)
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let predicted = self.model.predict(inputs.get("noisy_act")?, inputs.get("obs")?, inputs.get("t")?);
        Ok(vec![("eps_hat".into(), predicted)])
    }
}
