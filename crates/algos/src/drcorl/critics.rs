//! The critics of DRCORL: reward by implicit Q-learning on logged actions, (16) and (17), cost by a pessimistic
//! ensemble on the policy's actions, (18); how both learn from a batch, and where they push an action.

use super::config::DrcorlConfig;
use super::facts::{CostFacts, Facts};
use super::options::GuidanceScale;
use super::score_step::ScoreStep;
use crate::critics::{join, CostCritic, CostCriticConfig, CostCriticKind, IqlConfig, IqlCritic, Pessimism};
use drcorl_core::dataset::Batch;
use drcorl_core::error::Result;
use drcorl_core::policy::Policy;
use drcorl_nn::checkpoint::State;
use drcorl_nn::probe;
use drcorl_nn::rng::Rng;
use tch::{Device, Kind, Tensor};

/// The critics, the units they learn in and the scale of what they say to the policy.
pub struct RewardAndCost {
    pub reward: IqlCritic,
    /// Of every cost that is bounded.
    pub costs: Vec<BoundedCost>,
    reward_factor: f64,
    /// Factor on costs.
    unit: f64,
    guidance_scale: GuidanceScale,
    guidance_k: f64,
    reward_scaler: GuidanceScaler,
}

/// The critics of one cost.
pub struct BoundedCost {
    pub critic: CostCritic,
    scaler: GuidanceScaler,
}

/// What a critic says at the policy's actions.
pub struct Guidance {
    /// `[B,1]`
    pub values: Tensor,
    /// Its gradient for the action in the chosen scale, `[B,A]`.
    pub push: Tensor,
}

impl RewardAndCost {
    /// Fresh critics.
    pub fn new(
        config: &DrcorlConfig,
        (states, actions): (i64, i64),
        facts: &Facts,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let hidden = &config.critic_hidden;
        let reward = IqlCritic::new("reward", states, actions, hidden, reward_rates(config), device, rng);
        let bounded = |(k, facts): (usize, &CostFacts)| {
            let (name, rates) = (name_of(k), cost_rates(config, facts.range));
            let critic = CostCritic::new(&name, states, actions, config.cost_members, hidden, rates, device, rng);
            BoundedCost { critic, scaler: GuidanceScaler::default() }
        };
        RewardAndCost {
            reward,
            costs: facts.costs.iter().enumerate().map(bounded).collect(),
            reward_factor: facts.reward_factor,
            unit: config.unit(),
            guidance_scale: config.guidance_scale,
            guidance_k: config.cost_guidance_k,
            reward_scaler: GuidanceScaler::default(),
        }
    }

    /// Sets the target rate of all cost critics.
    pub fn follow_costs(&mut self, target_rate: f64) {
        self.costs.iter_mut().for_each(|cost| cost.critic.config.target_rate = target_rate);
    }

    /// One step of all on Monte-Carlo returns `[B,1+K]` of reward and costs;
    /// the loss of reward and the mean one of costs.
    pub fn regress(&mut self, batch: &Batch, returns: &Tensor) -> Result<(f64, f64)> {
        let (state_action, observation) = (batch.state_action(), batch.observation());
        let reward = self.reward.regress(&state_action, &observation, &returns.narrow(1, 0, 1))?;
        let mut loss = 0.0;
        for (k, cost) in self.costs.iter_mut().enumerate() {
            loss += cost.critic.regress(&state_action, &returns.narrow(1, 1 + k as i64, 1))?;
        }
        Ok((reward, loss / self.costs.len() as f64))
    }

    /// One step of (16) and (17).
    pub fn update_reward(&mut self, batch: &Batch) -> Result<f64> {
        let signal = batch.reward() * self.reward_factor;
        let step = self.reward.step(
            &batch.state_action(),
            &batch.observation(),
            &batch.next_observation(),
            &signal,
            &batch.terminal(),
        )?;
        Ok(step.critic_loss)
    }

    /// One step of the reward critic along the actions of `policy`, as it draws them.
    pub fn follow_reward(&mut self, batch: &Batch, policy: &mut Policy, rng: &mut Rng) -> Result<f64> {
        let next = acting(policy, &batch.next_observation(), rng);
        let signal = batch.reward() * self.reward_factor;
        self.reward.follow(&batch.state_action(), &next, &signal, &batch.terminal())
    }

    /// One step of (18) for every cost on the actions of `policy`, as it draws them; the mean loss.
    pub fn update_cost(&mut self, batch: &Batch, policy: &mut Policy, rng: &mut Rng) -> Result<f64> {
        let CostCriticConfig { kind, pessimism, .. } = self.costs[0].critic.config;
        let next = match kind {
            // Reads the state alone.
            CostCriticKind::Iql => join(&batch.action(), &batch.next_observation()),
            _ => acting(policy, &batch.next_observation(), rng),
        };
        let here = (pessimism == Pessimism::Cql).then(|| acting(policy, &batch.observation(), rng));
        let mut loss = 0.0;
        for (k, cost) in self.costs.iter_mut().enumerate() {
            let signal = batch.cost_of(k) * self.unit;
            loss += cost.critic.step(&batch.state_action(), &signal, &batch.terminal(), &next, here.as_ref())?;
        }
        Ok(loss / self.costs.len() as f64)
    }

    /// Mean of the lagged reward twins, and `grad_a Q_r`.
    pub fn reward_guidance(&mut self, score: &ScoreStep) -> Guidance {
        let (values, gradient) = self.reward.guidance(&score.state_action(), score.action.size()[1]);
        probe::see("reward_values", &values);
        probe::see("reward_guidance", &gradient);
        self.scaled_reward(values, &gradient)
    }

    /// Values and slopes of the reward in the chosen scale.
    pub fn scaled_reward(&mut self, values: Tensor, gradient: &Tensor) -> Guidance {
        Guidance { values, push: self.reward_scaler.scale(gradient, self.guidance_scale) }
    }

    /// Of cost `k`: mean of the lagged members plus `cost_guidance_k` deviations, and `grad_a Q_c`.
    pub fn cost_guidance(&mut self, score: &ScoreStep, k: usize) -> Guidance {
        let critic = &mut self.costs[k].critic;
        let (values, gradient) = critic.guidance(&score.state_action(), score.action.size()[1], self.guidance_k);
        probe::see("cost_values", &values);
        probe::see("cost_guidance", &gradient);
        self.scaled_cost(values, &gradient, k)
    }

    /// Values and slopes of cost `k` in the chosen scale.
    pub fn scaled_cost(&mut self, values: Tensor, gradient: &Tensor, k: usize) -> Guidance {
        Guidance { values, push: self.costs[k].scaler.scale(gradient, self.guidance_scale) }
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("reward", |state| self.reward.persist(state))?;
        state.value("reward_target_rate", &mut self.reward.config.target_rate)?;
        state.group("reward_scaler", |state| self.reward_scaler.persist(state))?;
        for (k, BoundedCost { critic, scaler }) in self.costs.iter_mut().enumerate() {
            let name = name_of(k);
            state.group(&name, |state| critic.persist(state))?;
            state.value(&format!("{name}_target_rate"), &mut critic.config.target_rate)?;
            state.group(&format!("{name}_scaler"), |state| scaler.persist(state))?;
        }
        Ok(())
    }
}

/// Of the critic of cost `k` in a checkpoint.
fn name_of(k: usize) -> String {
    if k == 0 {
        "cost".into()
    } else {
        format!("cost_{k}")
    }
}

/// `[a | s]` of the actions that `policy` draws at `observation [B,S]`.
pub(super) fn acting(policy: &mut Policy, observation: &Tensor, rng: &mut Rng) -> Tensor {
    let observation = observation.contiguous();
    join(&policy.sample(&observation, rng), &observation)
}

fn reward_rates(config: &DrcorlConfig) -> IqlConfig {
    IqlConfig {
        gamma: config.gamma,
        expectile: config.reward_expectile,
        target_rate: config.reward_target_rate,
        q_lr: config.critic_lr,
        v_lr: config.critic_lr,
    }
}

fn cost_rates(config: &DrcorlConfig, (low, high): (f32, f32)) -> CostCriticConfig {
    let scale = config.unit() / (1.0 - config.gamma);
    CostCriticConfig {
        kind: config.cost_critic,
        expectile: config.cost_expectile,
        gamma: config.gamma,
        target_rate: config.cost_target_rate,
        lr: config.critic_lr,
        backup: config.cost_backup,
        backup_k: config.cost_backup_k,
        pessimism: config.pessimism,
        alpha: config.pessimism_alpha,
        // A terminal ends the costs, so 0 is always reachable.
        clamp: config.cost_clamp.then(|| (f64::from(low.min(0.0)) * scale, f64::from(high.max(0.0)) * scale)),
    }
}

/// Scales guidance; keeps the running root mean square of one critic.
#[derive(Default)]
pub struct GuidanceScaler {
    mean_square: f64,
    started: bool,
}

/// Weight of the past in the running mean square.
const KEEP: f64 = 0.99;

impl GuidanceScaler {
    /// `guidance [B,A]` in the chosen scale.
    pub fn scale(&mut self, guidance: &Tensor, scale: GuidanceScale) -> Tensor {
        match scale {
            GuidanceScale::Raw => guidance.shallow_clone(),
            GuidanceScale::RowRms => {
                guidance / guidance.square().mean_dim(1i64, true, Kind::Float).sqrt().clamp_min(1e-12)
            }
            GuidanceScale::BatchRms => {
                let now = guidance.square().mean(Kind::Double).double_value(&[]);
                self.mean_square = if self.started { KEEP * self.mean_square + (1.0 - KEEP) * now } else { now };
                self.started = true;
                guidance / self.mean_square.sqrt().max(1e-12)
            }
        }
    }

    /// Saves or restores the running mean square.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.value("mean_square", &mut self.mean_square)?;
        state.value("started", &mut self.started)
    }
}
