//! Names of the OSRL networks, and batches in their fixtures.

use crate::{shown_at, Fixture, Record, Tensors};
use drcorl_algos::frame::{CriticGroup, Task, Transition, VaeGroup, Values};
use drcorl_core::error::{Error, Result};
use drcorl_nn::probe::Seen;
use drcorl_nn::{Arena, Head};
use tch::{Device, Kind, Tensor};

/// Where one linear layer of a fixture lives in an arena.
struct Layer {
    fixture: String,
    arena: String,
    member: i64,
    /// First output row and number of rows, where one of our layers holds several of theirs.
    rows: Option<(i64, i64)>,
    /// Width of the observation, which is first in their input and last in ours; 0 where nothing moves.
    observation: i64,
}

impl Layer {
    /// Our place for `part` (`weight` or `bias`) in the layout of the fixture's rows.
    fn view(&self, tensor: &Tensor) -> Tensor {
        let view = tensor.select(0, self.member);
        match self.rows {
            Some((from, count)) => view.narrow(0, from, count),
            None => view,
        }
    }
}

/// The linear layers of one network.
pub struct Names(Vec<Layer>);

impl Names {
    /// Layers `FIXTURE.0`, `FIXTURE.2` and on as `ARENA.0`, `ARENA.1`;
    /// the first reads `observation` entries of the state first.
    pub fn mlp(fixture: &str, arena: &str, member: i64, layers: usize, observation: i64) -> Self {
        let layer = |i: usize| (format!("{fixture}.{}", 2 * i), i);
        Names::list(arena, member, observation, &(0..layers).map(layer).collect::<Vec<_>>())
    }

    /// These layers of theirs as those of that index in ours.
    pub fn list(arena: &str, member: i64, observation: i64, layers: &[(String, usize)]) -> Self {
        let layers = layers.iter().map(|(fixture, i)| Layer {
            fixture: fixture.clone(),
            arena: format!("{arena}.{i}"),
            member,
            rows: None,
            observation: if *i == 0 { observation } else { 0 },
        });
        Names(layers.collect())
    }

    /// The VAE: `e1, e2, mean, log_std` and `d1, d2, d3`.
    pub fn vae(observation: i64, latents: i64) -> Self {
        let named = |names: &[&str]| -> Vec<(String, usize)> {
            names.iter().enumerate().map(|(i, name)| (format!("vae.{name}"), i)).collect()
        };
        let mut layers = Names::list("encoder", 0, observation, &named(&["e1", "e2"])).0;
        layers.extend(Names::stacked("encoder.2", &["vae.mean".into(), "vae.log_std".into()], latents).0);
        layers.extend(Names::list("decoder", 0, observation, &named(&["d1", "d2", "d3"])).0);
        Names(layers)
    }

    /// The squashed actor under `fixture` (`actor` or `actor_old`).
    pub fn squashed(fixture: &str, hidden_layers: usize, actions: i64) -> Self {
        let mut layers = Names::mlp(&format!("{fixture}.net"), "actor", 0, hidden_layers, 0).0;
        let heads = [format!("{fixture}.mu_layer"), format!("{fixture}.log_std_layer")];
        layers.extend(Names::stacked(&format!("actor.{hidden_layers}"), &heads, actions).0);
        Names(layers)
    }

    /// These layers and those.
    pub fn and(mut self, more: Names) -> Self {
        self.0.extend(more.0);
        self
    }

    /// Layers of theirs of `rows` outputs each, stacked in one of ours.
    pub fn stacked(arena: &str, fixtures: &[String], rows: i64) -> Self {
        let layers = (0..).zip(fixtures).map(|(index, fixture)| Layer {
            fixture: fixture.clone(),
            arena: arena.to_string(),
            member: 0,
            rows: Some((index * rows, rows)),
            observation: 0,
        });
        Names(layers.collect())
    }

    /// Copies the stored parameters into the arena.
    pub fn load(&self, arena: &Arena, init: &Tensors) -> Result<()> {
        for layer in &self.0 {
            for part in ["weight", "bias"] {
                let stored = init.get(&format!("{}.{part}", layer.fixture))?;
                let name = format!("{}.{part}", layer.arena);
                let whole = arena.named(&name).ok_or_else(|| Error::Data(format!("no parameter {name}")))?.0;
                let mut place = layer.view(whole);
                let moved =
                    if part == "weight" { observation_last(stored, layer.observation) } else { stored.shallow_clone() };
                if place.size() != moved.size() {
                    return Err(Error::Shape(format!(
                        "{}.{part} is {:?}, {name} needs {:?}",
                        layer.fixture,
                        moved.size(),
                        place.size()
                    )));
                }
                place.copy_(&moved);
            }
        }
        Ok(())
    }

    /// Current values under the fixture's names.
    pub fn values(&self, arena: &Arena) -> Record {
        self.read(arena, "", |(value, _)| value)
    }

    /// Current gradients under `grad/` and the fixture's names.
    pub fn gradients(&self, arena: &Arena) -> Record {
        self.read(arena, "grad/", |(_, gradient)| gradient)
    }

    fn read<'a>(
        &self,
        arena: &'a Arena,
        prefix: &str,
        pick: impl Fn((&'a Tensor, &'a Tensor)) -> &'a Tensor,
    ) -> Record {
        let mut record = Record::new();
        for layer in &self.0 {
            for part in ["weight", "bias"] {
                let Some(pair) = arena.named(&format!("{}.{part}", layer.arena)) else { continue };
                let ours = layer.view(pick(pair));
                let theirs = if part == "weight" { observation_first(&ours, layer.observation) } else { ours.copy() };
                record.push((format!("{prefix}{}.{part}", layer.fixture), theirs));
            }
        }
        record
    }
}

/// Columns [observation | rest] to [rest | observation], copied.
fn observation_last(weight: &Tensor, observation: i64) -> Tensor {
    let columns = weight.size()[1];
    let rest = weight.narrow(1, observation, columns - observation);
    Tensor::cat(&[rest, weight.narrow(1, 0, observation)], 1)
}

/// The inverse of [`observation_last`].
fn observation_first(weight: &Tensor, observation: i64) -> Tensor {
    let rest = weight.size()[1] - observation;
    Tensor::cat(&[weight.narrow(1, rest, observation), weight.narrow(1, 0, rest)], 1)
}

/// An ensemble's members and, where it has them, their lagged copies: pairs of names.
pub struct Members(Vec<(Names, Names)>);

impl Members {
    /// `FIXTURE.GROUP.MEMBER` for each group and as many members as are stored; `observation` as in [`Names::mlp`].
    pub fn new(fixture: &str, groups: &[&str], arena: &str, observation: i64, init: &Tensors) -> Self {
        let mut pairs = Vec::new();
        for group in groups {
            for i in 0.. {
                let name = |base: &str| format!("{base}.{group}.{i}");
                if !init.has(&format!("{}.0.weight", name(fixture))) {
                    break;
                }
                let layers = layers(&name(fixture), init);
                let member = pairs.len() as i64;
                let names = |base: &str| Names::mlp(&name(base), arena, member, layers, observation);
                pairs.push((names(fixture), names(&format!("{fixture}_old"))));
            }
        }
        Members(pairs)
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Loads live and, if kept, lagged parameters.
    pub fn load(&self, head: &mut Head, init: &Tensors) -> Result<()> {
        for (live, lagged) in &self.0 {
            live.load(head.online(), init)?;
            if let Some(target) = head.target_mut() {
                lagged.load(target, init)?;
            }
        }
        Ok(())
    }

    /// Live and lagged values.
    pub fn values(&self, head: &Head) -> Record {
        self.0
            .iter()
            .flat_map(|(live, lagged)| [live.values(head.online()), lagged.values(head.target())])
            .flatten()
            .collect()
    }

    /// Gradients of the live parameters.
    pub fn gradients(&self, head: &Head) -> Record {
        self.0.iter().flat_map(|(live, _)| live.gradients(head.online())).collect()
    }
}

/// Number of linear layers stored under `fixture.0`, `fixture.2` and on.
pub fn layers(fixture: &str, init: &Tensors) -> usize {
    (0..).take_while(|i| init.has(&format!("{fixture}.{}.weight", 2 * i))).count()
}

/// Widths of the hidden layers under `fixture.0`, `fixture.2` and on; `outputs` layers at the end are none.
pub fn hidden(fixture: &str, outputs: usize, init: &Tensors) -> Result<Vec<i64>> {
    let count = layers(fixture, init).saturating_sub(outputs);
    (0..count).map(|i| Ok(init.get(&format!("{fixture}.{}.weight", 2 * i))?.size()[0])).collect()
}

/// The batch as recorded; costs are bootstrapped past every end.
pub fn transition(batch: &Tensors) -> Result<Transition> {
    let observation = batch.get("obs")?;
    let reward_stop = batch.column("done")?;
    Ok(Transition {
        state_action: Tensor::cat(&[batch.get("act")?, observation], 1),
        observation: observation.shallow_clone(),
        next_observation: batch.get("next_obs")?.shallow_clone(),
        reward: batch.column("rew")?,
        cost: batch.column("cost")?,
        cost_stop: reward_stop.zeros_like(),
        reward_stop,
    })
}

/// A gain of the manifest's `pid`.
pub fn pid(fixture: &Fixture) -> Result<[f64; 3]> {
    let gain = |i: usize| {
        fixture.hyper_value(&["pid"])[i].as_f64().ok_or_else(|| Error::Data("the manifest has no hyper.pid".into()))
    };
    Ok([gain(0)?, gain(1)?, gain(2)?])
}

/// Sizes of the fixture's problem, and the value by `values` that stands for its limit.
pub fn task(fixture: &Fixture, values: Values, device: Device) -> Result<Task> {
    let (cost_limit, episode_length) = (fixture.hyper(&["cost_limit"])?, count(fixture, "episode_len")?);
    Ok(Task {
        observations: fixture.dim("obs")?,
        actions: fixture.dim("act")?,
        cost_limit,
        episode_length,
        threshold: values.threshold(cost_limit, episode_length),
        seed: 0,
        device,
    })
}

/// Parameters of the critics, of which one is stored under `name`.
pub fn critics(fixture: &Fixture, name: &str, critics: usize, init: &Tensors) -> Result<CriticGroup> {
    Ok(CriticGroup {
        critic_hidden: hidden(name, 1, init)?,
        critics,
        critic_lr: fixture.hyper(&["critic_lr"])?,
        target_rate: fixture.hyper(&["tau"])?,
    })
}

/// Parameters of the VAE.
pub fn vae(fixture: &Fixture, init: &Tensors) -> Result<VaeGroup> {
    Ok(VaeGroup {
        vae_hidden: init.get("vae.e1.weight")?.size()[0],
        vae_beta: fixture.hyper(&["beta_vae"])?,
        vae_lr: fixture.hyper(&["vae_lr"])?,
    })
}

/// A number under `hyper` that may differ by variant.
pub fn by_variant(fixture: &Fixture, name: &str, variant: &str) -> Result<f64> {
    fixture.hyper(&[name, variant]).or_else(|_| fixture.hyper(&[name]))
}

/// A count under `hyper`.
pub fn count(fixture: &Fixture, name: &str) -> Result<usize> {
    Ok(fixture.hyper(&[name])? as usize)
}

/// `critic_target`, `critic_q0..` of one group of members after the other, from the second group on with a suffix, as
/// the `index`th regression of the step showed them.
pub fn critic_record(name: &str, seen: &Seen, index: usize, groups: usize) -> Result<Record> {
    let (target, values) = (shown_at(seen, "critic_target", index)?, shown_at(seen, "critic_values", index)?);
    let members = values.size()[1] as usize / groups;
    let mut record = Record::new();
    for group in 0..groups {
        let suffix = if group == 0 { String::new() } else { format!("_{}", group + 1) };
        record.push((format!("aux/{name}_target{suffix}"), target.squeeze_dim(1)));
        for member in 0..members {
            let column = values.select(1, (group * members + member) as i64);
            record.push((format!("aux/{name}_q{member}{suffix}"), column));
        }
    }
    Ok(record)
}

/// Scalars under their names.
pub fn scalars(values: impl IntoIterator<Item = (&'static str, f64)>) -> Record {
    values.into_iter().map(|(name, value)| (name.to_string(), Tensor::from(value))).collect()
}

/// Log density of the mean action of a squashed Gaussian, `[B]`, as the reference computes it:
/// `2 (log 2 - u - softplus(-2 u))` a dimension.
pub fn mean_action_density(mu: &Tensor, log_std: &Tensor) -> Tensor {
    let gaussian = -log_std - 0.5 * (2.0 * std::f64::consts::PI).ln();
    let softplus: Tensor = (mu * -2.0).softplus();
    let correction: Tensor = (std::f64::consts::LN_2 - mu - softplus) * 2.0;
    (gaussian - correction).sum_dim_intlist(1i64, false, Kind::Float)
}
