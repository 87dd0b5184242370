//! Fixture `fisor`.

use crate::{shown_at, Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::critics::mean;
use drcorl_algos::feasibility::Feasibility;
use drcorl_algos::fisor::losses::{feasibility_weights, Advice};
use drcorl_algos::fisor::{DenoiserDraws, FisorConfig, Learner};
use drcorl_algos::frame::{Schedule, Transition};
use drcorl_algos::lagrange::finite_horizon_threshold;
use drcorl_core::error::{Error, Result};
use drcorl_core::policy::Choice;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, Arena, Head};
use tch::{Device, Kind, Tensor};

/// Layers `NET.l0`, `NET.l1` and on, then `NET.out`, as layers 0 and on of one member of an ensemble.
struct Net {
    fixture: String,
    arena: &'static str,
    member: i64,
    layers: usize,
    /// Width of the observation, first in their input and last in ours; 0 where nothing moves.
    observation: i64,
}

impl Net {
    fn pairs(&self) -> impl Iterator<Item = (String, String, i64)> + '_ {
        (0..self.layers).flat_map(move |i| {
            let layer = if i + 1 == self.layers { "out".to_string() } else { format!("l{i}") };
            ["weight", "bias"].map(|part| {
                let moved = if i == 0 && part == "weight" { self.observation } else { 0 };
                (format!("{}.{layer}.{part}", self.fixture), format!("{}.{i}.{part}", self.arena), moved)
            })
        })
    }

    fn load(&self, arena: &Arena, init: &Tensors) -> Result<()> {
        for (fixture, name, observation) in self.pairs() {
            let place = arena.named(&name).ok_or_else(|| Error::Data(format!("no parameter {name}")))?.0;
            place.select(0, self.member).copy_(&rotated(init.get(&fixture)?, observation));
        }
        Ok(())
    }

    /// Under names that begin with `prefix`, which `gradient` or not.
    fn read(&self, arena: &Arena, prefix: &str, gradient: bool) -> Record {
        let value = |(fixture, name, observation): (String, String, i64)| {
            let (value, grad) = arena.named(&name)?;
            let ours = if gradient { grad } else { value }.select(0, self.member);
            let back = if observation > 0 { ours.size()[1] - observation } else { 0 };
            Some((format!("{prefix}{fixture}"), rotated(&ours, back)))
        };
        self.pairs().filter_map(value).collect()
    }
}

/// The first `count` columns moved behind the others, copied.
fn rotated(tensor: &Tensor, count: i64) -> Tensor {
    if count == 0 {
        return tensor.copy();
    }
    let rest = tensor.size()[1] - count;
    Tensor::cat(&[tensor.narrow(1, count, rest), tensor.narrow(1, 0, count)], 1)
}

/// Theirs under `score` or `score_target`, and ours.
fn denoiser_names(blocks: usize) -> Vec<(String, String)> {
    let mut layers: Vec<(String, String)> =
        [("time.l0", "time.0"), ("time.l1", "time.1"), ("in", "input"), ("out", "output")]
            .map(|(theirs, ours)| (theirs.into(), ours.into()))
            .to_vec();
    for i in 0..blocks {
        for (theirs, ours) in [("norm", "norm"), ("l0", "inner"), ("l1", "outer")] {
            layers.push((format!("block{i}.{theirs}"), format!("blocks.{i}.{ours}")));
        }
    }
    let both = |(theirs, ours): (String, String)| {
        ["weight", "bias"].map(|part| (format!("{theirs}.{part}"), format!("{ours}.{part}")))
    };
    let all = layers.into_iter().flat_map(both);
    all.chain([("fourier.weight".to_string(), "frequencies".to_string())]).collect()
}

fn load_denoiser(net: &str, blocks: usize, arena: &mut Arena, init: &Tensors) -> Result<()> {
    for (theirs, ours) in denoiser_names(blocks) {
        let value = init.get(&format!("{net}.{theirs}"))?;
        arena.set(&ours, &if ours == "frequencies" { value.view([-1]) } else { value.shallow_clone() })?;
    }
    Ok(())
}

fn read_denoiser(net: &str, blocks: usize, arena: &Arena, gradient: bool) -> Record {
    let value = |(theirs, ours): (String, String)| {
        let (value, grad) = arena.named(&ours)?;
        Some((format!("{net}.{theirs}"), if gradient { grad } else { value }.copy()))
    };
    denoiser_names(blocks).into_iter().filter_map(value).collect()
}

struct Fisor {
    learner: Learner,
    critic_rows: i64,
    /// Predicted noise at the evaluation's inputs before training.
    first: Tensor,
}

fn numbers(fixture: &Fixture, name: &str) -> Vec<i64> {
    fixture.hyper_value(&[name]).as_array().into_iter().flatten().filter_map(serde_json::Value::as_i64).collect()
}

pub fn bind(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let number = |name: &str| fixture.hyper(&[name]);
    let option = |name: &str| fixture.hyper_value(&["variants", variant, name]);
    let (costs, best) = (option("critic_type") == "qc", option("extract_method") == "maxq");
    let count = |name: &str| number(name).map(|value| value as usize);
    let config = FisorConfig {
        feasibility: if costs { Feasibility::DiscountedCost } else { Feasibility::Reachability },
        gamma: number("discount")?,
        reward_expectile: number("critic_hyperparam")?,
        feasibility_expectile: number("cost_critic_hyperparam")?,
        reward_temperature: number("reward_temperature")?,
        feasibility_temperature: number("cost_temperature")?,
        feasibility_weight_cap: number("cost_ub")?,
        critic_hidden: numbers(fixture, "hidden"),
        critic_lr: number("critic_lr")?,
        value_lr: number("value_lr")?,
        target_rate: number("tau")?,
        denoiser_hidden: number("residual_width")? as i64,
        denoiser_blocks: count("residual_blocks")?,
        denoiser_expansion: (number("residual_inner")? / number("residual_width")?) as i64,
        time_features: number("time_dim")? as i64,
        time_width: numbers(fixture, "time_mlp").first().copied().unwrap_or_default(),
        dropout: number("dropout")?,
        actor_lr: number("actor_lr")?,
        actor_decay: 1.0,
        weight_decay: option("actor_weight_decay").as_f64().unwrap_or(0.0),
        actor_target_rate: number("actor_tau")?,
        diffusion_levels: count("T")?,
        clip_levels: option("clip_sampler") == true,
        noise_temperature: number("ddpm_temperature")?,
        act_candidates: count("N")?,
        choice: if best { Choice::Best } else { Choice::Safest },
        // Two updates of the actor a step.
        schedule: Schedule {
            update_steps: count("decay_steps")? as u64 / 2,
            batch_size: fixture.dim("batch")? as usize,
        },
        ..FisorConfig::published()
    };
    let limit = finite_horizon_threshold(number("cost_limit")?, config.gamma, count("env_max_steps")?);
    let sizes = (fixture.dim("obs")?, fixture.dim("act")?);
    let blocks = config.denoiser_blocks;
    let threshold = if costs { limit } else { 0.0 };
    let mut learner = Learner::new(config, sizes, threshold, device, &mut Rng::new(0, 0));
    load_denoiser("score", blocks, &mut learner.denoiser.online, init)?;
    load_denoiser("score_target", blocks, &mut learner.denoiser.average, init)?;
    for (net, arena) in nets(&learner) {
        net.load(arena, init)?;
    }
    formulas(fixture, variant, &learner, limit)?;
    let inputs = fixture.group(variant, "eval/in");
    let first = predict(&learner, &inputs)?;
    Ok(Plan::Run(Box::new(Fisor { learner, critic_rows: number("critic_rows")? as i64, first })))
}

/// Every network but the denoiser, and the arena it lives in.
fn nets(learner: &Learner) -> Vec<(Net, &Arena)> {
    let layers = learner.config.critic_hidden.len() + 1;
    let states = learner.value.online().named("value.0.weight").map_or(0, |pair| pair.0.size()[2]);
    let twins = |head: &'_ Head, name: &str, arena: &'static str| -> Vec<(Net, bool)> {
        let members = 0..head.members();
        let one = |member: i64| {
            let net = |name: String| Net { fixture: name, arena, member, layers, observation: states };
            [(net(format!("{name}.q{member}")), false), (net(format!("{name}_target.q{member}")), true)]
        };
        members.flat_map(one).collect()
    };
    let mut found = Vec::new();
    let Learner { reward, value, feasibility, .. } = learner;
    for (head, name, arena) in [(reward, "critic", "reward"), (&feasibility.q, "safe_critic", "feasibility")] {
        let placed = twins(head, name, arena).into_iter();
        found.extend(placed.map(|(net, lagged)| (net, if lagged { head.target() } else { head.online() })));
    }
    for (head, name, arena) in [(value, "value", "value"), (&feasibility.v, "safe_value", "feasibility_value")] {
        found.push((Net { fixture: name.into(), arena, member: 0, layers, observation: 0 }, head.online()));
    }
    found
}

/// Levels, limit and weights against their tables.
fn formulas(fixture: &Fixture, variant: &str, learner: &Learner, limit: f64) -> Result<()> {
    let near = |name: &str, found: &Tensor, wanted: &Tensor| {
        let error = (found.view([-1]) - wanted.view([-1])).abs() / (wanted.view([-1]).abs() + 0.1);
        let worst = error.max().double_value(&[]);
        if worst < 1e-5 {
            return Ok(());
        }
        Err(Error::Data(format!("{name} is off by {worst:e}")))
    };
    let (tables, weights) = (fixture.group("", "tables"), fixture.group("", "weights"));
    let levels = &learner.denoiser.levels;
    near("betas", &Tensor::from_slice(&levels.beta), tables.get("betas")?)?;
    near("alpha_hats", &Tensor::from_slice(&levels.kept), tables.get("alpha_hats")?)?;
    near("qc_thres", &Tensor::from(limit), tables.get("qc_thres")?)?;
    let column = |name: &str| weights.column(&format!("in/{name}"));
    let advice = Advice {
        reward_q: column("qr")?,
        reward_v: column("vr")?,
        violation_q: column("qh")? - learner.feasibility.rates.threshold,
        violation_v: column("vh")? - learner.feasibility.rates.threshold,
    };
    near("weights", &feasibility_weights(&advice, learner.config.weighting()), weights.get(variant)?)
}

fn predict(learner: &Learner, inputs: &Tensors) -> Result<Tensor> {
    let time = inputs.get("time")?.to_kind(Kind::Float);
    Ok(learner.denoiser.predict(inputs.get("act")?, inputs.get("obs")?, &time))
}

impl Fisor {
    fn transition(&self, batch: &Tensors) -> Result<Transition> {
        let stop: Tensor = 1.0 - batch.column("mask")?;
        let cost = batch.column("cost")?;
        let costs = self.learner.config.feasibility == Feasibility::DiscountedCost;
        Ok(Transition {
            state_action: Tensor::cat(&[batch.get("act")?, batch.get("obs")?], 1),
            observation: batch.get("obs")?.shallow_clone(),
            next_observation: batch.get("next_obs")?.shallow_clone(),
            reward: batch.column("rew")?,
            cost: if costs { cost.gt(0.0).to_kind(Kind::Float) } else { cost },
            reward_stop: stop.shallow_clone(),
            cost_stop: stop,
        })
    }
}

fn part(batch: &Transition, from: i64, rows: i64) -> Transition {
    let of = |tensor: &Tensor| tensor.narrow(0, from, rows).contiguous();
    Transition {
        state_action: of(&batch.state_action),
        observation: of(&batch.observation),
        next_observation: of(&batch.next_observation),
        reward: of(&batch.reward),
        cost: of(&batch.cost),
        reward_stop: of(&batch.reward_stop),
        cost_stop: of(&batch.cost_stop),
    }
}

impl Binding for Fisor {
    fn step(&mut self, _step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let batch = self.transition(batch)?;
        let (half, blocks) = (batch.rows() / 2, self.learner.config.denoiser_blocks);
        let mut record = Record::new();
        for update in 0..2 {
            let given = DenoiserDraws {
                level: draws[2 * update].shallow_clone(),
                noise: draws[2 * update + 1].shallow_clone(),
                dropout: vec![],
            };
            let rows = part(&batch, update as i64 * half, half);
            let (step, seen) = probe::watch(|| self.learner.actor_step(&rows, &given));
            let step = step?;
            record.push((format!("loss/actor_{update}"), Tensor::from(step.loss)));
            record.push((format!("loss/weights_mean_{update}"), Tensor::from(step.weight)));
            for (ours, theirs) in [
                ("reward_q", "qr"),
                ("reward_v", "vr"),
                ("violation_q", "qh"),
                ("violation_v", "vh"),
                ("weights", "weights"),
            ] {
                record.push((format!("aux/{theirs}_{update}"), shown_at(&seen, ours, 0)?.squeeze_dim(1)));
            }
            let name = ["grad/score_first", "grad/score_second"][update];
            record.extend(read_denoiser(name, blocks, &self.learner.denoiser.online, true));
        }
        let rows = part(&batch, 0, self.critic_rows);
        let (step, seen) = probe::watch(|| self.learner.critic_step(&rows));
        let step = step?;
        let value = |name| shown_at(&seen, name, 0);
        let (violation, critics) = (value("violation_values")?, value("feasibility_values")?);
        record.extend(
            [
                ("value_loss", step.value_loss),
                ("v", mean(value("values")?)),
                ("critic_loss", step.critic_loss),
                ("q", mean(value("reward_values")?)),
                ("safe_value_loss", step.feasibility_value_loss),
                ("vc", mean(violation)),
                ("vc_max", violation.max().double_value(&[])),
                ("vc_min", violation.min().double_value(&[])),
                ("safe_critic_loss", step.feasibility_critic_loss),
                ("qc", mean(critics)),
                ("qc_max", critics.max().double_value(&[])),
                ("qc_min", critics.min().double_value(&[])),
                ("costs", mean(&rows.cost)),
            ]
            .map(|(name, value)| (format!("loss/{name}"), Tensor::from(value))),
        );
        for (net, arena) in nets(&self.learner) {
            record.extend(net.read(arena, "grad/", true));
        }
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let denoiser = &self.learner.denoiser;
        let blocks = self.learner.config.denoiser_blocks;
        let mut record = read_denoiser("score", blocks, &denoiser.online, false);
        record.extend(read_denoiser("score_target", blocks, &denoiser.average, false));
        for (net, arena) in nets(&self.learner) {
            record.extend(net.read(arena, "", false));
        }
        record
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let (noise, observation) = (inputs.get("noise")?, inputs.get("obs")?);
        let [rows, steps, candidates, actions] = noise.size()[..] else {
            return Err(Error::Shape("eval/in/noise has another rank than 4".into()));
        };
        let policy = self.learner.policy(0);
        let flat = noise.permute([0, 2, 1, 3]).contiguous().view([rows * candidates, steps, actions]);
        let state = observation.repeat_interleave_self_int(candidates, 0i64, None);
        let chain = policy.chain(&flat, &state);
        let stacked = |parts: &[Tensor]| {
            let levels = parts.len() as i64;
            Tensor::stack(parts, 1).view([rows, candidates, levels, actions]).permute([0, 2, 1, 3])
        };
        let found = chain.actions.last().expect("the last level");
        let best = policy.choose(found, &state);
        let (reward, violation) =
            policy.values(found, &state).ok_or_else(|| Error::Data("the policy has no critics".into()))?;
        let first = Tensor::arange(rows, (Kind::Int64, found.device())) * candidates;
        Ok(vec![
            ("eps_init".into(), self.first.shallow_clone()),
            ("eps_trained".into(), predict(&self.learner, inputs)?),
            ("x".into(), stacked(&chain.actions)),
            ("eps".into(), stacked(&chain.noise)),
            ("candidates".into(), found.view([rows, candidates, actions])),
            ("qr".into(), reward.view([rows, candidates])),
            ("qh".into(), violation.view([rows, candidates])),
            ("action".into(), found.index_select(0, &(&best + first))),
            ("best".into(), best),
        ])
    }
}
