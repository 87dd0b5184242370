//! Score-regularised policy steps: warm-up, reward, cost, Lagrangian.

use super::critics::{load_policy, scalars, twins};
use super::score::load_behavior;
use crate::mlp::Mlp;
use crate::{Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::critics::{join, CostBackup, CostCritic, CostCriticConfig, IqlConfig, IqlCritic, Pessimism};
use drcorl_algos::diffusion::{BehaviorModel, ScoreWeight};
use drcorl_algos::drcorl::options::GuidanceScale;
use drcorl_algos::drcorl::policy_step::{GuidanceScaler, ScoreStep};
use drcorl_algos::lagrange::Pid;
use drcorl_core::error::{Error, Result};
use drcorl_core::policy::Policy;
use drcorl_nn::optim::cosine;
use drcorl_nn::rng::Rng;
use tch::{Device, Kind, Tensor};

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
        pid: Pid::new([gain(0), gain(1), gain(2)], set_point, None),
        beta: fixture.hyper(&["beta"])?,
        multiplier: fixture.hyper(&["fixed_multiplier"])?,
        lr: fixture.hyper(&["policy_lr"])?,
        horizon: cosine_horizon(fixture)?,
    })))
}

/// The manifest states the horizon in a sentence: "... T_max=10 ...".
fn cosine_horizon(fixture: &Fixture) -> Result<u64> {
    let text = fixture.hyper_value(&["lr_schedule"]).as_str().unwrap_or_default();
    let digits: String =
        text.split("T_max=").nth(1).unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
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
        let score = ScoreStep::new(
            &mut self.policy,
            &self.behavior,
            observation.shallow_clone(),
            &draws[0],
            &draws[1],
            weight,
            control,
        );
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

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        Ok(vec![("action".into(), self.policy.act(inputs.get("obs")?))])
    }
}

pub fn bind_adaptation(_fixture: &Fixture, _variant: &str, _init: &Tensors, _device: Device) -> Result<Plan> {
    Ok(Plan::Skip("pins two optimiser steps on shared moments (D8); ours combines raw gradients and makes one step"))
}
