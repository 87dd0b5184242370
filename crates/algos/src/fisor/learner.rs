//! The networks of FISOR and its step.

use super::config::{Feasibility, FisorConfig};
use super::denoiser::{Denoiser, DenoiserDraws};
use super::losses::{feasibility_weights, reach_target, reversed_expectile, Advice, Weighting};
use crate::critics::iql::value_step;
use crate::critics::{bound, mean, Bound};
use crate::frame::{widths, Transition};
use drcorl_core::error::Result;
use drcorl_core::policy::FrozenDiffusion;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, Head};
use tch::{Device, Kind, Tensor};

/// Networks, and the value that separates feasible from infeasible.
pub struct Learner {
    pub config: FisorConfig,
    pub denoiser: Denoiser,
    /// Q_r, twins with targets, and V_r.
    pub reward: Head,
    pub value: Head,
    /// Q_h, twins with targets, and V_h.
    pub feasibility: Head,
    pub feasibility_value: Head,
    pub threshold: f64,
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
        let (reward, feasibility) = (twins("reward"), twins("feasibility"));
        let (value, feasibility_value) = (head("value", 1, states), head("feasibility_value", 1, states));
        Learner { denoiser, reward, value, feasibility, feasibility_value, threshold, config }
    }

    /// Weights `[B,1]` of logged actions, by targets and values as they are, and the share of feasible states.
    pub fn weights(&mut self, batch: &Transition) -> (Tensor, f64) {
        let advice = Advice {
            reward_q: bound(&self.reward.evaluate_target(&batch.state_action), Bound::Min),
            reward_v: self.value.evaluate(&batch.observation),
            violation_q: bound(&self.feasibility.evaluate_target(&batch.state_action), Bound::Max) - self.threshold,
            violation_v: self.feasibility_value.evaluate(&batch.observation) - self.threshold,
        };
        let weights = feasibility_weights(&advice, self.config.weighting());
        probe::see("reward_q", &advice.reward_q);
        probe::see("reward_v", &advice.reward_v);
        probe::see_with("violation_q", || &advice.violation_q + self.threshold);
        probe::see_with("violation_v", || &advice.violation_v + self.threshold);
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
        let FisorConfig { gamma, reward_expectile, feasibility_expectile, value_lr, .. } = self.config;
        let (input, next) = (&batch.state_action, &batch.next_observation);

        let target = bound(&self.reward.evaluate_target(input), Bound::Min);
        let value_loss = value_step(&mut self.value, &batch.observation, &target, reward_expectile, value_lr);
        let target = &batch.reward + (1.0 - &batch.reward_stop) * self.value.evaluate(next) * gamma;
        let critic_loss = self.regress(input, &target, |learner| &mut learner.reward);

        let target = bound(&self.feasibility.evaluate_target(input), Bound::Max);
        let values = self.feasibility_value.forward(&batch.observation);
        let (feasibility_value_loss, gradient) = reversed_expectile(values, &target, feasibility_expectile);
        self.feasibility_value.descend(&batch.observation, &gradient, value_lr);
        let ahead = self.feasibility_value.evaluate(next);
        let target = match self.config.feasibility {
            Feasibility::Reachability => reach_target(&batch.cost, &ahead, &batch.cost_stop, gamma),
            Feasibility::DiscountedCost => &batch.cost + (1.0 - &batch.cost_stop) * ahead * gamma,
        };
        let feasibility_critic_loss = self.regress(input, &target, |learner| &mut learner.feasibility);
        probe::see_with("reward_values", || self.reward.outputs());
        probe::see_with("values", || self.value.outputs());
        probe::see_with("feasibility_values", || self.feasibility.outputs());
        probe::see_with("violation_values", || self.feasibility_value.outputs());
        Ok(CriticStep { value_loss, critic_loss, feasibility_value_loss, feasibility_critic_loss })
    }

    /// One step of both twins towards `target [B,1]`, which their targets follow; the mean squared error before it.
    fn regress(&mut self, input: &Tensor, target: &Tensor, pick: fn(&mut Learner) -> &mut Head) -> f64 {
        let (lr, rate) = (self.config.critic_lr, self.config.target_rate);
        let head = pick(self);
        let count = (input.size()[0] * head.members()) as f64;
        head.regress(input, target, 2.0 / count, lr, rate) / count
    }

    /// The averaged denoiser, whose draws the target critics rank.
    pub fn policy(&self, seed: u64) -> FrozenDiffusion {
        let FisorConfig { act_candidates, choice, .. } = self.config;
        let single = self.denoiser.freeze(&self.config, seed);
        single.with_choice(act_candidates, choice, self.threshold, &self.reward, &self.feasibility)
    }

    /// Saves or restores everything that changes with training.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("denoiser", |state| self.denoiser.persist(state))?;
        state.group("reward", |state| self.reward.persist(state))?;
        state.group("value", |state| self.value.persist(state))?;
        state.group("feasibility", |state| self.feasibility.persist(state))?;
        state.group("feasibility_value", |state| self.feasibility_value.persist(state))
    }
}

impl FisorConfig {
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
