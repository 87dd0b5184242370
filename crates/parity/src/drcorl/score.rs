//! The denoiser: forward pass and training step.

use crate::{shown, Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::drcorl::behavior::BehaviorModel;
use drcorl_algos::drcorl::diffusion::{schedule, Draws};
use drcorl_core::error::Result;
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::{probe, Arena};
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

/// What a diffused action and its prediction are called.
pub(super) const DIFFUSED: [(&str, &str); 4] =
    [("time", "t"), ("alpha", "alpha"), ("sigma", "sigma"), ("predicted", "eps_hat")];

/// The recorded draws of one diffused batch: times, then noise.
pub(super) fn given(draws: &[Tensor]) -> Draws {
    Draws { unit: draws[0].shallow_clone(), noise: draws[1].shallow_clone(), action: None }
}

struct ScoreNetForward(BehaviorModel);

pub fn bind_score_net(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    Ok(Plan::Run(Box::new(ScoreNetForward(load_behavior(fixture, init, device)?.0))))
}

impl Binding for ScoreNetForward {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let time = batch.get("t")?;
        let (noisy, observation) = (batch.get("noisy_act")?, batch.get("obs")?);
        let (_, seen) = probe::watch(|| self.0.predict(noisy, observation, time));
        let (alpha, sigma) = schedule(time);
        let names = [("fourier", "fourier"), ("time_embedding", "time_embedding"), ("predicted", "eps_hat")];
        let mut record = shown(&seen, &names);
        record.extend([
            ("aux/t".to_string(), time.shallow_clone()),
            ("aux/alpha".into(), alpha),
            ("aux/sigma".into(), sigma),
        ]);
        let trunk = std::iter::once("trunk_in".to_string()).chain((0..).map(|i| format!("block{i}")));
        let trunk = trunk.zip(seen.all("trunk")).map(|(name, value)| (format!("aux/{name}"), value.shallow_clone()));
        record.extend(trunk);
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
        let (observation, action) = (batch.get("obs")?, batch.get("act")?);
        let (loss, seen) = probe::watch(|| self.model.step(observation, action, &given(draws), &[], self.lr));
        let mut record = read_score(self.model.arena(), self.blocks, true);
        record.push(("loss/denoise".to_string(), Tensor::from(loss)));
        record.extend(shown(&seen, &DIFFUSED));
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
