//! Fixtures of DRCORL's parts: denoiser, critics, policy steps, gradient manipulation, PID multiplier.

use super::mlp::Mlp;
use super::{Binding, Fixture, Plan, Record, Tensors};
use crate::algos::drcorl::config::GuidanceScale;
use crate::algos::drcorl::policy_step::{GuidanceScaler, ScoreStep};
use crate::critics::{CostBackup, CostCritic, CostCriticConfig, IqlConfig, IqlCritic, Pessimism};
use crate::diffusion::{schedule, BehaviorModel, ScoreWeight};
use crate::error::{Error, Result};
use crate::gradient::manipulate;
use crate::lagrange::{infinite_horizon_episode_cost, Pid, PidConfig};
use crate::nn::score_net::ScoreNetShape;
use crate::nn::Arena;
use crate::optim::cosine;
use crate::policy::Policy;
use crate::rng::Rng;
use tch::{Device, Kind, Tensor};

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
    let both = |(theirs, ours): (String, String)| ["weight", "bias"].map(|kind| (format!("{theirs}.{kind}"), format!("{ours}.{kind}")));
    layers.into_iter().flat_map(both).collect()
}

fn load_behavior(fixture: &Fixture, init: &Tensors, device: Device) -> Result<(BehaviorModel, usize)> {
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

    fn evaluate(&mut self, inputs: &Tensors) -> Result<Record> {
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
        let step = self.model.step(batch.get("obs")?, batch.get("act")?, &draws[0], &draws[1], vec![], self.lr);
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

    fn evaluate(&mut self, inputs: &Tensors) -> Result<Record> {
        let predicted = self.model.predict(inputs.get("noisy_act")?, inputs.get("obs")?, inputs.get("t")?);
        Ok(vec![("eps_hat".into(), predicted)])
    }
}

/// Concatenation in the order of the critics' input.
fn join(action: &Tensor, observation: &Tensor) -> Tensor {
    Tensor::cat(&[action, observation], 1)
}

fn scalars(values: impl IntoIterator<Item = (&'static str, f64)>) -> Record {
    values.into_iter().map(|(name, value)| (name.to_string(), Tensor::from(value))).collect()
}

struct Iql {
    critic: IqlCritic,
    signal: &'static str,
}

fn twins(fixture: &str, arena: &'static str) -> [Mlp; 2] {
    [Mlp::new(format!("{fixture}.q1"), arena, 0), Mlp::new(format!("{fixture}.q2"), arena, 1)]
}

pub fn bind_iql(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    if variant == "cost_broadcast" {
        return Ok(Plan::Skip("pins the [B] x [B,1] broadcast of the release (D1), which our shapes refuse"));
    }
    let widths = Mlp::widths("critic.q0.q1", init)?;
    let config = IqlConfig {
        gamma: fixture.hyper(&["gamma"])?,
        expectile: fixture.hyper(&["expectile"])?,
        target_rate: fixture.hyper(&["target_ema"])?,
        q_lr: fixture.hyper(&["q_lr"])?,
        v_lr: fixture.hyper(&["v_lr"])?,
    };
    let hidden = &widths[1..widths.len() - 1];
    let mut critic = IqlCritic::new("c", fixture.dim("obs")?, fixture.dim("act")?, hidden, config, device, &mut Rng::new(0, 0));
    for (live, lagged) in twins("critic.q0", "c_q").iter().zip(twins("critic.q0_target", "c_q")) {
        live.load(critic.q.online_mut(), init)?;
        lagged.load(critic.q.target_mut().ok_or_else(|| Error::Data("no target".into()))?, init)?;
    }
    Mlp::new("critic.vf.v", "c_v", 0).load(critic.v.online_mut(), init)?;
    Ok(Plan::Run(Box::new(Iql { critic, signal: if variant == "reward" { "rew" } else { "cost" } })))
}

impl Binding for Iql {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let state_action = join(batch.get("act")?, batch.get("obs")?);
        let (signal, terminal) = (batch.column(self.signal)?, batch.column("done")?);
        let step = self.critic.step(&state_action, batch.get("obs")?, batch.get("next_obs")?, &signal, &terminal)?;
        let mut record = scalars([
            ("loss/value", step.value_loss),
            ("loss/critic", step.critic_loss),
            ("loss/mean_target_q", step.mean_target_q),
            ("loss/mean_next_v", step.mean_next_v),
        ]);
        for twin in twins("critic.q0", "c_q") {
            record.extend(twin.gradients(self.critic.q.online()));
        }
        record.extend(Mlp::new("critic.vf.v", "c_v", 0).gradients(self.critic.v.online()));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let mut record = Mlp::new("critic.vf.v", "c_v", 0).values(self.critic.v.online());
        for (live, lagged) in twins("critic.q0", "c_q").iter().zip(twins("critic.q0_target", "c_q")) {
            record.extend(live.values(self.critic.q.online()));
            record.extend(lagged.values(self.critic.q.target()));
        }
        record
    }

    fn evaluate(&mut self, inputs: &Tensors) -> Result<Record> {
        let state_action = join(inputs.get("act")?, inputs.get("obs")?);
        let live = self.critic.q.evaluate(&state_action);
        Ok(vec![
            ("q1".into(), live.narrow(1, 0, 1)),
            ("q2".into(), live.narrow(1, 1, 1)),
            ("q_target_min".into(), self.critic.q.evaluate_target(&state_action).amin(1i64, true)),
            ("v".into(), self.critic.v.evaluate(inputs.get("obs")?)),
        ])
    }
}

struct TdCost {
    critic: CostCritic,
    policy: Policy,
    names: Vec<(Mlp, Mlp)>,
    episode_length: usize,
    ucb_k: f64,
    twin: bool,
}

pub fn bind_td_cost(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let twin = init.has("cost.q0.q1.0.weight");
    let member = |target: &str, i: usize| {
        if twin {
            format!("cost.q0{target}.q{}", i + 1)
        } else {
            format!("cost.q0{target}.qs.{i}")
        }
    };
    let members = (0..).take_while(|&i| init.has(&format!("{}.0.weight", member("", i)))).count();
    let names: Vec<(Mlp, Mlp)> = (0..members)
        .map(|i| (Mlp::new(member("", i), "c_q", i as i64), Mlp::new(member("_target", i), "c_q", i as i64)))
        .collect();
    let widths = Mlp::widths(&member("", 0), init)?;
    let config = CostCriticConfig {
        gamma: fixture.hyper(&["gamma"])?,
        target_rate: fixture.hyper(&["target_ema"])?,
        lr: fixture.hyper(&["q_lr"])?,
        backup: CostBackup::Own,
        backup_k: 0.0,
        pessimism: Pessimism::None,
        alpha: 0.0,
        clamp: None,
        value: Some((fixture.hyper(&["v_lr"])?, fixture.hyper(&["expectile"])?)),
    };
    let (states, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    let hidden = &widths[1..widths.len() - 1];
    let mut critic = CostCritic::new("c", states, actions, members, hidden, config, device, &mut Rng::new(0, 0));
    for (live, lagged) in &names {
        live.load(critic.q.online_mut(), init)?;
        lagged.load(critic.q.target_mut().ok_or_else(|| Error::Data("no target".into()))?, init)?;
    }
    if let Some(v) = &mut critic.v {
        Mlp::new("cost.vf.v", "c_v", 0).load(v.online_mut(), init)?;
    }
    let policy = load_policy(init, device)?;
    let episode_length = fixture.hyper(&["episode_len_for_estimate"])? as usize;
    Ok(Plan::Run(Box::new(TdCost { critic, policy, names, episode_length, ucb_k: fixture.hyper(&["ucb_k"])?, twin })))
}

fn load_policy(init: &Tensors, device: Device) -> Result<Policy> {
    let widths = Mlp::widths("policy.net", init)?;
    let last = widths.len() - 1;
    let mut policy = Policy::new(widths[0], widths[last], &widths[1..last], false, device, &mut Rng::new(0, 0));
    Mlp::new("policy.net", "policy", 0).load(policy.arena_mut(), init)?;
    Ok(policy)
}

impl Binding for TdCost {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let next = batch.get("next_obs")?;
        let next_state_action = join(&self.policy.act(next), next);
        let state_action = join(batch.get("act")?, batch.get("obs")?);
        let (cost, terminal) = (batch.column("cost")?, batch.column("done")?);
        let loss = self.critic.step(&state_action, &cost, &terminal, &next_state_action, None)?;
        let mut record = scalars([("loss/critic", loss)]);
        for (live, _) in &self.names {
            record.extend(live.gradients(self.critic.q.online()));
        }
        if let Some(v) = &self.critic.v {
            record.extend(Mlp::new("cost.vf.v", "c_v", 0).gradients(v.online()));
        }
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let mut record = Record::new();
        for (live, lagged) in &self.names {
            record.extend(live.values(self.critic.q.online()));
            record.extend(lagged.values(self.critic.q.target()));
        }
        if let Some(v) = &self.critic.v {
            record.extend(Mlp::new("cost.vf.v", "c_v", 0).values(v.online()));
        }
        record.extend(Mlp::new("policy.net", "policy", 0).values(self.policy.arena()));
        record
    }

    fn evaluate(&mut self, inputs: &Tensors) -> Result<Record> {
        let observation = inputs.get("obs")?;
        let action = self.policy.act(observation);
        let state_action = join(&action, observation);
        // Recorded on the lagged copies for the twins, on the live members for the ensemble.
        let values = if self.twin { self.critic.values(&state_action) } else { self.critic.q.evaluate(&state_action) };
        let mean = values.mean(Kind::Double).double_value(&[]);
        let estimate = infinite_horizon_episode_cost(mean, self.critic.config.gamma, self.episode_length);
        // The release's spread is over members and states together (D3); ours is `upper_confidence`.
        let release = mean + self.ucb_k * values.std(true).double_value(&[]);
        let mut record = scalars([("offline_cost_estimate", estimate), ("ucb_release", release)]);
        record.extend([("action".to_string(), action), ("q_members".into(), values.tr().contiguous())]);
        Ok(record)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Objective {
    Behavior,
    Reward,
    Cost,
    LagrangianFixed,
    LagrangianPid,
}

struct PolicySteps {
    policy: Policy,
    behavior: BehaviorModel,
    reward: IqlCritic,
    cost: CostCritic,
    objective: Objective,
    weight: ScoreWeight,
    control_variate: bool,
    scale: GuidanceScale,
    scaler: GuidanceScaler,
    pid: Pid,
    beta: f64,
    multiplier: f64,
    lr: f64,
    horizon: u64,
}

pub fn bind_policy(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let objective = match variant {
        "lagrangian_fixed" => Objective::LagrangianFixed,
        "lagrangian_pid" => Objective::LagrangianPid,
        name if name.starts_with("bc_") => Objective::Behavior,
        name if name.starts_with("reward_") => Objective::Reward,
        name if name.starts_with("cost_") => Objective::Cost,
        name => return Err(Error::Data(format!("unknown variant {name}"))),
    };
    let has = |word: &str| variant.split('_').any(|part| part == word);
    let weight = match () {
        () if has("stable") => ScoreWeight::Stable,
        () if has("score") => ScoreWeight::Score,
        () => ScoreWeight::Vds,
    };
    let widths = Mlp::widths("reward.q0_target.q1", init)?;
    let hidden = &widths[1..widths.len() - 1];
    let (states, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    let mut rng = Rng::new(0, 0);
    let rates = IqlConfig { gamma: 0.99, expectile: 0.7, target_rate: 0.005, q_lr: 1e-3, v_lr: 1e-3 };
    let mut reward = IqlCritic::new("r", states, actions, hidden, rates, device, &mut rng);
    let cost_rates = CostCriticConfig {
        gamma: 0.99,
        target_rate: 0.005,
        lr: 1e-3,
        backup: CostBackup::Own,
        backup_k: 0.0,
        pessimism: Pessimism::None,
        alpha: 0.0,
        clamp: None,
        value: None,
    };
    let mut cost = CostCritic::new("c", states, actions, 2, hidden, cost_rates, device, &mut rng);
    let absent = || Error::Data("no target".into());
    for (reward_twin, cost_twin) in twins("reward.q0_target", "r_q").iter().zip(twins("cost.q0_target", "c_q")) {
        reward_twin.load(reward.q.target_mut().ok_or_else(absent)?, init)?;
        cost_twin.load(cost.q.target_mut().ok_or_else(absent)?, init)?;
    }
    let gain = |i: usize| fixture.hyper_value(&["pid"])[i].as_f64().unwrap_or(0.0);
    let set_point = fixture.hyper(&["pid_threshold"])?;
    let unbounded = f64::INFINITY;
    Ok(Plan::Run(Box::new(PolicySteps {
        policy: load_policy(init, device)?,
        behavior: load_behavior(fixture, init, device)?.0,
        reward,
        cost,
        objective,
        weight,
        control_variate: has("cv"),
        scale: if has("regq") { GuidanceScale::RowRms } else { GuidanceScale::Raw },
        scaler: GuidanceScaler::default(),
        pid: Pid::new(PidConfig { kp: gain(0), ki: gain(1), kd: gain(2), set_point, integral_cap: unbounded, multiplier_cap: unbounded }),
        beta: fixture.hyper(&["beta"])?,
        multiplier: fixture.hyper(&["fixed_multiplier"])?,
        lr: fixture.hyper(&["policy_lr"])?,
        horizon: cosine_horizon(fixture)?,
    })))
}

/// The manifest states the horizon in a sentence: "... T_max=10 ...".
fn cosine_horizon(fixture: &Fixture) -> Result<u64> {
    let text = fixture.hyper_value(&["lr_schedule"]).as_str().unwrap_or_default();
    let digits: String = text.split("T_max=").nth(1).unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| Error::Data(format!("hyper.lr_schedule names no T_max: {text}")))
}

impl PolicySteps {
    /// Value and action gradient the recorded step was guided by.
    fn guidance(&mut self, state_action: &Tensor, actions: i64) -> (Tensor, Tensor) {
        let (reward_value, reward) = self.reward.guidance(state_action, actions);
        let (cost_value, cost) = self.cost.guidance(state_action, actions, 0.0);
        let multiplier = match self.objective {
            Objective::Behavior | Objective::Reward => return (reward_value, reward),
            Objective::Cost => return (cost_value, cost),
            Objective::LagrangianFixed => self.multiplier,
            Objective::LagrangianPid => self.pid.update(cost_value.mean(Kind::Double).double_value(&[])),
        };
        (reward_value - cost_value * multiplier, reward - cost * multiplier)
    }
}

impl Binding for PolicySteps {
    fn step(&mut self, step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let observation = batch.get("obs")?;
        let (weight, control) = (self.weight, self.control_variate);
        let score =
            ScoreStep::new(&mut self.policy, &self.behavior, observation.shallow_clone(), &draws[0], &draws[1], weight, control);
        let (value, guidance) = self.guidance(&join(&score.action, observation), score.action.size()[1]);
        let scaled = self.scaler.scale(&guidance, self.scale);
        let push = match self.objective {
            Objective::Behavior => None,
            Objective::Cost => Some(scaled * -self.beta),
            _ => Some(scaled * self.beta),
        };
        let result = score.gradient(&mut self.policy, push.as_ref());
        let lr = |step: usize| cosine(self.lr, 0.0, step as u64, self.horizon);
        let (now, next) = (lr(step), lr(step + 1));
        self.policy.apply(&result.gradient, now, 0.0);
        let mut record = scalars([
            ("loss/policy", result.loss),
            ("loss/mean_q", value.mean(Kind::Double).double_value(&[])),
            ("state/lr_next", next),
            ("state/pid_error_old", self.pid.error_old),
            ("state/pid_integral", self.pid.integral),
        ]);
        record.extend(Mlp::new("policy.net", "policy", 0).gradients(self.policy.arena()));
        record.extend([
            ("aux/action".to_string(), score.action),
            ("aux/t".into(), score.diffused.time),
            ("aux/alpha".into(), score.diffused.alpha),
            ("aux/sigma".into(), score.diffused.sigma),
            ("aux/eps_hat".into(), score.predicted),
            ("aux/guidance_raw".into(), guidance),
        ]);
        Ok(record)
    }

    fn parameters(&self) -> Record {
        Mlp::new("policy.net", "policy", 0).values(self.policy.arena())
    }

    fn evaluate(&mut self, inputs: &Tensors) -> Result<Record> {
        Ok(vec![("action".into(), self.policy.act(inputs.get("obs")?))])
    }
}

pub fn bind_adaptation(_fixture: &Fixture, _variant: &str, _init: &Tensors, _device: Device) -> Result<Plan> {
    Ok(Plan::Skip("pins two optimiser steps on shared moments (D8); ours combines raw gradients and makes one step"))
}

struct GradientManipulation;

pub fn bind_gradient_manipulation(_fixture: &Fixture, _variant: &str, _init: &Tensors, _device: Device) -> Result<Plan> {
    Ok(Plan::Run(Box::new(GradientManipulation)))
}

impl Binding for GradientManipulation {
    fn step(&mut self, _step: usize, _batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        Ok(Record::new())
    }

    fn evaluate(&mut self, inputs: &Tensors) -> Result<Record> {
        let (reward, cost) = (inputs.get("g_reward")?, inputs.get("g_cost")?);
        let cases: Vec<_> = (0..reward.size()[0]).map(|row| manipulate(&reward.get(row), &cost.get(row), f64::INFINITY)).collect();
        let combined: Vec<Tensor> = cases.iter().map(|case| case.gradient.shallow_clone()).collect();
        let inner: Vec<f64> = cases.iter().map(|case| case.inner).collect();
        Ok(vec![("g".into(), Tensor::stack(&combined, 0)), ("inner_product".into(), Tensor::from_slice(&inner))])
    }
}

struct PidSequence {
    gains: [f64; 3],
}

pub fn bind_pid(fixture: &Fixture, _variant: &str, _init: &Tensors, _device: Device) -> Result<Plan> {
    let gains = [fixture.hyper(&["KP"])?, fixture.hyper(&["KI"])?, fixture.hyper(&["KD"])?];
    Ok(Plan::Run(Box::new(PidSequence { gains })))
}

impl Binding for PidSequence {
    fn step(&mut self, _step: usize, _batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        Ok(Record::new())
    }

    fn evaluate(&mut self, inputs: &Tensors) -> Result<Record> {
        let (batches, thresholds) = (inputs.get("qc")?, inputs.get("thresholds")?);
        let [kp, ki, kd] = self.gains;
        let mut columns: [Vec<f64>; 3] = Default::default();
        for threshold in 0..thresholds.size()[0] {
            let set_point = thresholds.double_value(&[threshold]);
            let mut pid = Pid::new(PidConfig { kp, ki, kd, set_point, integral_cap: f64::INFINITY, multiplier_cap: f64::INFINITY });
            for call in 0..batches.size()[0] {
                let multiplier = pid.update(batches.get(call).mean(Kind::Double).double_value(&[]));
                for (column, value) in columns.iter_mut().zip([multiplier, pid.error_old, pid.integral]) {
                    column.push(value);
                }
            }
        }
        let names = ["multiplier", "error_old", "integral"];
        Ok(names.into_iter().zip(columns).map(|(name, column)| (name.to_string(), Tensor::from_slice(&column))).collect())
    }
}
