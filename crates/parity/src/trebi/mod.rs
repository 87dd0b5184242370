//! Fixtures of TREBI: a step of the denoiser, of the value nets, and the plans of trained networks.

mod plan;
mod training;

pub use plan::bind_plan;
pub use training::{bind_denoiser, bind_values};

use super::{Fixture, Tensors};
use drcorl_algos::trebi::learner::Averaging;
use drcorl_algos::trebi::Diffusion;
use drcorl_core::error::{Error, Result};
use drcorl_nn::Arena;
use tch::{Device, Tensor};

/// The widths of a network: a base and its multiples.
fn widths(fixture: &Fixture, multiples: &str) -> Result<Vec<i64>> {
    let base = fixture.hyper(&["base_dim"])? as i64;
    let list = fixture.hyper_value(&[multiples]).as_array().into_iter().flatten();
    Ok(list.filter_map(|multiple| Some(base * multiple.as_i64()?)).collect())
}

/// Actions, and numbers of a plan's step.
fn sizes(fixture: &Fixture) -> Result<[i64; 2]> {
    let (actions, states) = (fixture.dim("act")?, fixture.dim("obs")?);
    Ok([actions, actions + states])
}

fn horizon(fixture: &Fixture) -> Result<usize> {
    Ok(fixture.hyper(&["horizon"])? as usize)
}

fn diffusion(fixture: &Fixture, action_weight: f64, device: Device) -> Result<Diffusion> {
    let levels = fixture.hyper(&["n_timesteps"])? as usize;
    Ok(Diffusion::new(levels, horizon(fixture)?, sizes(fixture)?, action_weight, device))
}

/// An average that no recorded number depends on.
const NO_AVERAGE: Averaging = Averaging { decay: 0.0, interval: 1, start: 0 };

/// Sets the parameters of `arena` to the recorded ones under `prefix`; every one of them is there.
fn load(arena: &mut Arena, init: &Tensors, prefix: &str) -> Result<()> {
    let names: Vec<String> = arena.names().map(String::from).collect();
    for name in names {
        arena.set(&name, init.get(&format!("{prefix}.{name}"))?)?;
    }
    Ok(())
}

/// Host numbers of a tensor.
fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    drcorl_core::policy::host(tensor)
}

/// A whole number of a tensor.
fn whole(tensors: &Tensors, name: &str) -> Result<i64> {
    let tensor = tensors.get(name)?;
    match tensor.numel() {
        1 => Ok(tensor.int64_value(&[])),
        n => Err(Error::Data(format!("{name} has {n} elements, expected one"))),
    }
}
