//! Score-regularised policy steps, by the production path: warm-up, reward, cost, Lagrangian,
//! and the parts of the band.

use super::critics::{load_policy, scalars, twins};
use super::score::{given, load_behavior, DIFFUSED};
use crate::mlp::Mlp;
use crate::{shown, shown_at, Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::critics::mean;
use drcorl_algos::drcorl::config::DrcorlConfig;
use drcorl_algos::drcorl::diffusion::ScoreWeight;
use drcorl_algos::drcorl::facts::Facts;
use drcorl_algos::drcorl::options::{Adaptation, BetaSchedule, CostStep, GuidanceScale, ManipulationSpace};
use drcorl_algos::drcorl::Drcorl;
use drcorl_core::error::{Error, Result};
use drcorl_nn::optim::cosine;
use drcorl_nn::probe;
use drcorl_nn::rng::Rng;
use tch::{Device, Tensor};

/// Estimates, as a share of the limit, that take the reward branch and the cost branch at any step.
const LOW: f64 = 0.0;
const HIGH: f64 = 1e9;

#[derive(Clone, Copy, PartialEq)]
enum Objective {
    Behavior,
    Reward,
    Cost,
    Lagrangian,
}

/// DRCORL with the networks and constants of a fixture.
fn learner(fixture: &Fixture, variant: &str, init: &Tensors, beta: f64, device: Device) -> Result<Drcorl> {
    let has = |word: &str| variant.split('_').any(|part| part == word);
    let score_weight = match () {
        () if has("stable") => ScoreWeight::Stable,
        () if has("score") => ScoreWeight::Score,
        () => ScoreWeight::Vds,
    };
    let widths = Mlp::widths("reward.q0_target.q1", init)?;
    let gain = |i: usize| fixture.hyper_value(&["pid"])[i].as_f64().unwrap_or(0.0);
    let config = DrcorlConfig {
        score_weight,
        control_variate: has("cv"),
        critic_hidden: widths[1..widths.len() - 1].to_vec(),
        cost_members: 2,
        guidance_scale: if has("regq") { GuidanceScale::RowRms } else { GuidanceScale::Raw },
        cost_guidance_k: 0.0,
        beta_final: beta,
        beta_schedule: BetaSchedule::Constant,
        adaptation: Adaptation::Band,
        manipulation_space: ManipulationSpace::Update,
        manipulation_cap: f64::INFINITY,
        cost_step: match variant {
            "lagrangian_fixed" => CostStep::LagrangianFixed,
            "lagrangian_pid" => CostStep::LagrangianPid,
            _ => CostStep::Cost,
        },
        multiplier: fixture.hyper(&["fixed_multiplier"])?,
        pid: [gain(0), gain(1), gain(2)],
        actor_lr: fixture.hyper(&["policy_lr"])?,
        actor_lr_final: 0.0,
        adaptation_steps: cosine_horizon(fixture)?,
        ..DrcorlConfig::default()
    };
    let facts = Facts { set_point: fixture.hyper(&["pid_threshold"])?, ..Facts::default() };
    let sizes = (fixture.dim("obs")?, fixture.dim("act")?);
    let mut learner = Drcorl::new(config, sizes, facts, device, &mut Rng::new(0, 0));
    learner.policy = load_policy(init, device)?;
    learner.behavior = load_behavior(fixture, init, device)?.0;
    let absent = || Error::Data("no target".into());
    let (reward, cost) = (&mut learner.critics.reward.q, &mut learner.critics.costs[0].critic.q);
    for (reward_twin, cost_twin) in twins("reward.q0_target", "reward_q").iter().zip(twins("cost.q0_target", "cost_q"))
    {
        reward_twin.load(reward.target_mut().ok_or_else(absent)?, init)?;
        cost_twin.load(cost.target_mut().ok_or_else(absent)?, init)?;
    }
    Ok(learner)
}

/// The manifest states the horizon in a sentence: "... T_max=10 ...".
fn cosine_horizon(fixture: &Fixture) -> Result<u64> {
    let text = fixture.hyper_value(&["lr_schedule"]).as_str().unwrap_or_default();
    let digits: String =
        text.split("T_max=").nth(1).unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| Error::Data(format!("hyper.lr_schedule names no T_max: {text}")))
}

/// The learning rate of optimiser step `step`.
fn rate(config: &DrcorlConfig, step: usize) -> f64 {
    cosine(config.actor_lr, config.actor_lr_final, step as u64, config.adaptation_steps)
}

fn policy_names() -> Mlp {
    Mlp::new("policy.net", "policy", 0)
}

struct PolicySteps {
    learner: Drcorl,
    objective: Objective,
}

pub fn bind_policy(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let objective = match variant {
        name if name.starts_with("lagrangian_") => Objective::Lagrangian,
        name if name.starts_with("bc_") => Objective::Behavior,
        name if name.starts_with("reward_") => Objective::Reward,
        name if name.starts_with("cost_") => Objective::Cost,
        name => return Err(Error::Data(format!("unknown variant {name}"))),
    };
    let learner = learner(fixture, variant, init, fixture.hyper(&["beta"])?, device)?;
    Ok(Plan::Run(Box::new(PolicySteps { learner, objective })))
}

impl PolicySteps {
    /// One step along the objective; the loss.
    fn descend(&mut self, step: usize, observation: &Tensor, draws: &[Tensor]) -> f64 {
        let learner = &mut self.learner;
        let draws = given(draws);
        match self.objective {
            Objective::Behavior => {
                let score = learner.score(observation, &draws);
                // The reference evaluates its guidance here too, and does not follow it.
                learner.critics.reward_guidance(&score);
                let result = score.gradient(&mut learner.policy, None);
                learner.policy.apply(&result.gradient, rate(&learner.config, step), 0.0);
                result.loss
            }
            Objective::Reward => learner.policy_step(step as u64, &[LOW], observation, &draws),
            Objective::Cost | Objective::Lagrangian => learner.policy_step(step as u64, &[HIGH], observation, &draws),
        }
    }
}

impl Binding for PolicySteps {
    fn step(&mut self, step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let observation = batch.get("obs")?;
        let (loss, seen) = probe::watch(|| self.descend(step, observation, draws));
        let Drcorl { config, pid, policy, .. } = &self.learner;
        let (values, guidance) = match self.objective {
            Objective::Behavior | Objective::Reward => ("reward_values", shown_at(&seen, "reward_guidance", 0)?.copy()),
            Objective::Cost => ("cost_values", shown_at(&seen, "cost_guidance", 0)?.copy()),
            Objective::Lagrangian => {
                let pid_controlled = config.cost_step == CostStep::LagrangianPid;
                let multiplier = if pid_controlled { pid.multiplier } else { config.multiplier };
                let (reward, cost) = (shown_at(&seen, "reward_guidance", 0)?, shown_at(&seen, "cost_guidance", 0)?);
                ("reward_values", reward - cost * multiplier)
            }
        };
        let mut record = scalars([
            ("loss/policy", loss),
            ("loss/mean_q", mean(shown_at(&seen, values, 0)?)),
            ("state/lr_next", rate(config, step + 1)),
            ("state/pid_error_old", pid.error_old),
            ("state/pid_integral", pid.integral),
        ]);
        record.extend(policy_names().gradients(policy.arena()));
        record.extend(shown(&seen, &DIFFUSED));
        record.extend(shown(&seen, &[("action", "action")]));
        record.push(("aux/guidance_raw".into(), guidance));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        policy_names().values(self.learner.policy.arena())
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        Ok(vec![("action".into(), self.learner.policy.act(inputs.get("obs")?))])
    }
}

/// The band as released: two optimiser steps on shared moments, each with its own noise, whose moves are combined by
/// (12). It is our band in the space of updates, which shares the noise.
struct ReleasedBand(Drcorl);

pub fn bind_adaptation(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let beta = fixture.hyper(&["beta", variant])?;
    Ok(Plan::Run(Box::new(ReleasedBand(learner(fixture, variant, init, beta, device)?))))
}

impl Binding for ReleasedBand {
    fn step(&mut self, step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let ReleasedBand(learner) = self;
        let observation = batch.get("obs")?;
        let rates = [0, 1].map(|part| rate(&learner.config, 2 * step + part));
        let (losses, seen) = probe::watch(|| {
            let [reward, cost] = [0, 2].map(|first| learner.score(observation, &given(&draws[first..])));
            learner.band_update([&reward, &cost], learner.config.beta(step as u64), false, rates)
        });
        let mut record = scalars([
            ("loss/policy_reward", losses[0]),
            ("loss/policy_cost", losses[1]),
            ("loss/mean_q", mean(shown_at(&seen, "reward_values", 0)?)),
            ("loss/mean_qc", mean(shown_at(&seen, "cost_values", 0)?)),
            ("state/lr_next", rate(&learner.config, 2 * step + 2)),
        ]);
        for (gradient, prefix) in [("reward_gradient", "grad/"), ("cost_gradient", "grad2/")] {
            let arena = learner.policy.arena();
            arena.gradients().shallow_clone().copy_(shown_at(&seen, gradient, 0)?);
            let named = policy_names().gradients(arena);
            record.extend(named.into_iter().map(|(name, value)| (name.replacen("grad/", prefix, 1), value)));
        }
        record.extend(shown(&seen, &DIFFUSED));
        record.extend(shown(&seen, &[("action", "action"), ("reward_guidance", "guidance_raw")]));
        record.extend(shown(&seen, &[("inner_product", "inner_product")]));
        record.push(("aux/guidance_raw_2".to_string(), shown_at(&seen, "cost_guidance", 0)?.copy()));
        let updates = [("reward_update", "update_reward"), ("cost_update", "update_cost"), ("update", "update_final")];
        record.extend(shown(&seen, &updates));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        policy_names().values(self.0.policy.arena())
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        Ok(vec![("action".into(), self.0.policy.act(inputs.get("obs")?))])
    }
}
