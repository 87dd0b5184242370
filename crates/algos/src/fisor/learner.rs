//! The networks of FISOR and its step.

use super::config::FisorConfig;
use super::denoiser::{Denoiser, DenoiserDraws};
use super::losses::{feasibility_weights, Advice, Weighting};
use crate::critics::iql::value_step;
use crate::critics::{bound, mean, regress, Bound};
use crate::feasibility::critics::{FeasibilityCritic, Rates};
use crate::frame::{widths, Transition};
use drcorl_core::error::Result;
use drcorl_core::policy::FrozenDiffusion;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, Head};
use tch::{Device, Kind, Tensor};

/// The networks.
pub struct Learner {
    pub config: FisorConfig,
    pub denoiser: Denoiser,
    /// Q_r, twins with targets, and V_r.
    pub reward: Head,
    pub value: Head,
    /// Q_h and V_h.
    pub feasibility: FeasibilityCritic,
}

/// What one update of the actor did.
pub struct ActorStep {
    pub loss: f64,
    /// Mean weight of a logged action.
    pub weight: f64,
    /// Share of states that are feasible.
    pub feasible: f64,
}

/// What one step of the critics did: four losses.
pub struct CriticStep {
    pub value_loss: f64,
    pub critic_loss: f64,
    pub feasibility_value_loss: f64,
    pub feasibility_critic_loss: f64,
}

impl Learner {
    /// Fresh networks; `threshold` is 0 for reachability and the limit as a discounted sum for costs.
    pub fn new(
        config: FisorConfig,
        (states, actions): (i64, i64),
        threshold: f64,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let denoiser = Denoiser::new(&config, states, actions, device, rng);
        let mut head = |name: &str, members: usize, inputs: i64| {
            let head = Head::new(name, members, &widths(inputs, &config.critic_hidden, 1), members > 1, device, rng);
            super::xavier(head.online(), rng);
            head
        };
        let mut twins = |name: &str| {
            let mut head = head(name, 2, actions + states);
            head.follow(1.0);
            head
        };
        let (reward, q) = (twins("reward"), twins("feasibility"));
        let (value, v) = (head("value", 1, states), head("feasibility_value", 1, states));
        let feasibility = FeasibilityCritic { rates: config.rates(threshold), q, v };
        Learner { denoiser, reward, value, feasibility, config }
    }

    /// Weights `[B,1]` of logged actions, by targets and values as they are, and the share of feasible states.
    pub fn weights(&mut self, batch: &Transition) -> (Tensor, f64) {
        let threshold = self.feasibility.rates.threshold;
        let advice = Advice {
            reward_q: bound(&self.reward.evaluate_target(&batch.state_action), Bound::Min),
            reward_v: self.value.evaluate(&batch.observation),
            violation_q: self.feasibility.above(&batch.state_action),
            violation_v: self.feasibility.v.evaluate(&batch.observation) - threshold,
        };
        let weights = feasibility_weights(&advice, self.config.weighting());
        probe::see("reward_q", &advice.reward_q);
        probe::see("reward_v", &advice.reward_v);
        probe::see_with("violation_q", || &advice.violation_q + threshold);
        probe::see_with("violation_v", || &advice.violation_v + threshold);
        probe::see("weights", &weights);
        let feasible = mean(&advice.violation_v.le(0.0).to_kind(Kind::Float));
        (weights, feasible)
    }

    /// One update of the denoiser on logged actions, weighted.
    pub fn actor_step(&mut self, batch: &Transition, draws: &DenoiserDraws) -> Result<ActorStep> {
        batch.check()?;
        let (weights, feasible) = self.weights(batch);
        let action = batch.state_action.narrow(1, 0, batch.actions());
        let loss = self.denoiser.step(&batch.observation, &action, &weights, draws);
        Ok(ActorStep { loss, weight: mean(&weights), feasible })
    }

    /// One update of every value and critic; each critic looks at its value after that one's update. `batch.cost` is
    /// the violation h, or the cost where that is learnt.
    pub fn critic_step(&mut self, batch: &Transition) -> Result<CriticStep> {
        batch.check()?;
        let FisorConfig { gamma, reward_expectile, critic_lr, value_lr, target_rate, .. } = self.config;
        let (input, next) = (&batch.state_action, &batch.next_observation);

        let target = bound(&self.reward.evaluate_target(input), Bound::Min);
        let value_loss = value_step(&mut self.value, &batch.observation, &target, reward_expectile, value_lr);
        let target = &batch.reward + (1.0 - &batch.reward_stop) * self.value.evaluate(next) * gamma;
        let critic_loss = regress(&mut self.reward, input, &target, critic_lr, target_rate);
        let (feasibility_value_loss, feasibility_critic_loss) = self.feasibility.step(batch);
        probe::see_with("reward_values", || self.reward.outputs());
        probe::see_with("values", || self.value.outputs());
        Ok(CriticStep { value_loss, critic_loss, feasibility_value_loss, feasibility_critic_loss })
    }

    /// The averaged denoiser, whose draws the target critics rank.
    pub fn policy(&self, seed: u64) -> FrozenDiffusion {
        let FisorConfig { act_candidates, choice, .. } = self.config;
        let single = self.denoiser.freeze(&self.config, seed);
        let FeasibilityCritic { rates, q, .. } = &self.feasibility;
        single.with_choice(act_candidates, choice, rates.threshold, &self.reward, q)
    }

    /// Saves or restores everything that changes with training.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("denoiser", |state| self.denoiser.persist(state))?;
        state.group("reward", |state| self.reward.persist(state))?;
        state.group("value", |state| self.value.persist(state))?;
        self.feasibility.persist(state)
    }
}

impl FisorConfig {
    /// How the feasibility critic learns; `threshold` separates feasible from infeasible.
    fn rates(&self, threshold: f64) -> Rates {
        let FisorConfig { feasibility, gamma, feasibility_expectile, critic_lr, value_lr, target_rate, .. } = *self;
        Rates { feasibility, gamma, expectile: feasibility_expectile, critic_lr, value_lr, target_rate, threshold }
    }

    /// Temperatures and caps of the weights.
    pub fn weighting(&self) -> Weighting {
        Weighting {
            reward_temperature: self.reward_temperature,
            reward_cap: self.reward_weight_cap,
            feasibility_temperature: self.feasibility_temperature,
            feasibility_cap: self.feasibility_weight_cap,
        }
    }
}
