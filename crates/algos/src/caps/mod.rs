//! CAPS, constraint-adaptive policy switching (Chemingui et al. 2025, [arXiv
//! 2412.18946](https://arxiv.org/abs/2412.18946)), with implicit Q-learning: one policy of several heads,
//! which critics switch among while it acts, for every limit.
//!
//! ```text
//! signals x = r and x = -c, each with twin Q_x, targets Q_x' and V_x:
//! V_x:    min E |tau - 1(u < 0)| u^2,  u = min Q_x'(s, a) - V_x(s)
//! Q_x:    min E (x + gamma (1 - d) V_x(s') - Q_x(s, a))^2,  V_x before its step
//! heads:  w_x = min(exp(beta_x A_x), cap),  A_x = u before the step of V_x
//!         head 0: w_r;  head K-1: w_c;  head i between: w_r + 2i/(K-1) w_c
//!         min -1/K sum_k E w_k log N(a; tanh mu_k(s), sigma_k),  mu_k a linear layer on a shared trunk
//! acting: with kappa = limit - cost so far and n steps left,  B = value of kappa over n steps
//!         C_k = max -Q_c(s, a_k);  of the heads with C_k < B the one with the highest min Q_r(s, a_k),
//!         where there is none the one with the lowest C_k
//! ```
//!
//! Deviations from the published code, each a value of the configuration unless it says so;
//! the preset `published` takes the published one:
//! 1. `head_deviation`: every head has a deviation an action entry that is learnt, in [-5, 2], and is part of the
//!    checkpoint. Published, they are parameters that no optimiser and no file knows, and stay 1.
//! 2. `done`, `cost_threshold`: values go on past a time limit, and what is left of the limit is converted likewise,
//!    `kappa / ((1 - gamma) n)`. Published, both end with the episode, though no observation tells the time.
//! 3. `cost_floor`: a head costs at least 0. Published, critics that are still of the wrong sign make a head look
//!    affordable when the budget is spent.
//! 4. `actor_decay_steps`: the actor's rate falls over the training. Published, over ten times as many steps.
//! 5. `heads`: five. The published configuration has two, its example five.
//! 6. `scaling`, a parameter of the run: observations are standardised and actions taken in the box of the data.
//! 7. An episode that goes on beyond its length has one step left (no option).

pub mod config;
pub mod heads;
pub mod losses;

pub use config::{CapsConfig, CostFloor, HeadDeviation};

use crate::critics::{IqlConfig, IqlCritic, IqlStep};
use crate::frame::{parts, ActorCritic, Parts, Task, Transition};
use drcorl_core::algorithm::Context;
use drcorl_core::dataset::Batch;
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::policy::{copy_layers, FrozenPolicy};
use drcorl_nn::optim::cosine;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, widths, Head};
use heads::{Choice, Deviations};
use losses::{head_weights, heads_likelihood};
use tch::Tensor;

/// Critics of both signals, trunk and heads.
pub struct Caps {
    pub config: CapsConfig,
    pub reward: IqlCritic,
    /// Of negative costs, so that the lower of its twins is the pessimist.
    pub cost: IqlCritic,
    /// `[S, hidden.., K*A]`: the means of head k before their tanh are the outputs from k A on.
    pub actor: Head,
    pub deviations: Deviations,
    /// Steps made.
    pub steps: u64,
    task: Task,
}

/// What one step did.
pub struct CapsStep {
    pub reward: IqlStep,
    pub cost: IqlStep,
    pub actor_loss: f64,
    /// Means of the two weights.
    pub weights: [f64; 2],
}

impl Caps {
    /// The actor's learning rate in step `step`.
    pub fn actor_lr(&self, step: u64) -> f64 {
        let horizon = self.config.actor_decay_steps.unwrap_or(self.config.schedule.update_steps);
        cosine(self.config.actor.actor_lr, 0.0, step, horizon)
    }

    /// One step of trunk and heads on weights `[B,1]` of both signals; the loss.
    fn actor_step(&mut self, batch: &Transition, reward: &Tensor, cost: &Tensor) -> f64 {
        let lr = self.actor_lr(self.steps);
        let weights = head_weights(reward, cost, self.config.heads);
        let action = batch.state_action.narrow(1, 0, self.task.actions);
        let outputs = self.actor.forward(&batch.observation).copy();
        let step = heads_likelihood(&outputs, self.deviations.logarithms(), &action, &weights);
        self.actor.descend(&batch.observation, &step.outputs, lr);
        if self.config.head_deviation == HeadDeviation::Learnt {
            self.deviations.descend(&step.log_std, lr);
        }
        step.loss
    }
}

impl ActorCritic for Caps {
    type Config = CapsConfig;
    type Draws = ();
    type Step = CapsStep;
    const NAME: &'static str = "caps";
    const LABEL: &'static str = "CAPS";
    const SUMMARY: &'static str =
        "Heads from rewarding to safe, cloned by implicit Q-learning; critics switch among them by what is left of the limit.";
    const TAKES_LIMIT: bool = true;
    const METRICS: &'static [Metric] = &[
        Metric::loss("critic_loss", "squared value", "Q of rewards: mean squared error against r + gamma V(s')."),
        Metric::loss("cost_critic_loss", "squared value", "Q of negative costs likewise."),
        Metric::loss("value_loss", "squared value", "V of rewards: expectile loss against the lower target twin."),
        Metric::loss("cost_value_loss", "squared value", "V of negative costs likewise."),
        Metric::loss(
            "actor_loss",
            "nats",
            "Heads: weighted negative log-likelihood of the logged actions, a mean over heads.",
        ),
        Metric::diagnostic("reward_weight", "1", "Mean weight min(exp(reward_temperature A), cap) of a logged action."),
        Metric::diagnostic("cost_weight", "1", "Mean weight by the cost advantage likewise."),
    ];

    fn new(config: CapsConfig, task: Task, rng: &mut Rng) -> Self {
        let Task { observations, actions, device, .. } = task;
        let mut critic = |name: &str, expectile: f64| {
            let CapsConfig { values, critic_lr, value_lr, target_rate, .. } = &config;
            let iql = IqlConfig {
                gamma: values.gamma,
                expectile,
                target_rate: *target_rate,
                q_lr: *critic_lr,
                v_lr: *value_lr,
            };
            IqlCritic::new(name, observations, actions, &config.critic_hidden, iql, device, rng)
        };
        let (reward, cost) = (critic("reward", config.reward_expectile), critic("cost", config.cost_expectile));
        let widths = widths(observations, &config.actor.actor_hidden, config.heads as i64 * actions);
        Caps {
            reward,
            cost,
            actor: Head::new("actor", 1, &widths, false, device, rng),
            deviations: Deviations::new(config.heads, actions, device),
            steps: 0,
            task,
            config,
        }
    }

    fn config(&self) -> &CapsConfig {
        &self.config
    }

    fn draw(&self, _batch: &Batch, _context: &mut Context<'_>) {}

    fn learn(&mut self, batch: &Transition, _draws: &()) -> Result<CapsStep> {
        batch.check()?;
        let Transition { state_action, observation, next_observation, .. } = batch;
        let critic = |critic: &mut IqlCritic, signal: &Tensor, stop: &Tensor| {
            critic.step(state_action, observation, next_observation, signal, stop)
        };
        let reward = critic(&mut self.reward, &batch.reward, &batch.reward_stop)?;
        let cost = critic(&mut self.cost, &-&batch.cost, &batch.cost_stop)?;
        probe::see("advantage", &reward.advantage);
        probe::see("cost_advantage", &cost.advantage);
        let CapsConfig { reward_temperature, cost_temperature, weight_cap, .. } = self.config;
        let weight = |advantage: &Tensor, temperature: f64| (advantage * temperature).exp().clamp_max(weight_cap);
        let weights = [weight(&reward.advantage, reward_temperature), weight(&cost.advantage, cost_temperature)];
        let actor_loss = self.actor_step(batch, &weights[0], &weights[1]);
        self.steps += 1;
        Ok(CapsStep { reward, cost, actor_loss, weights: weights.map(|weight| crate::critics::mean(&weight)) })
    }

    fn metrics(&self, step: &CapsStep) -> Vec<f64> {
        let CapsStep { reward, cost, actor_loss, weights } = step;
        let losses = [reward.critic_loss, cost.critic_loss, reward.value_loss, cost.value_loss, *actor_loss];
        losses.into_iter().chain(*weights).collect()
    }

    fn policy(&self) -> Box<dyn FrozenPolicy> {
        let CapsConfig { heads, cost_floor, values, .. } = self.config;
        let choice = Choice { heads, floor: cost_floor, values, task: self.task };
        let means = copy_layers(self.actor.net(), self.actor.online(), 0);
        Box::new(choice.policy(&means, &self.reward.q, &self.cost.q))
    }

    fn parts(&mut self) -> Parts<'_> {
        parts!(self: reward, cost, actor, deviations, steps)
    }
}

#[cfg(test)]
pub mod problem;
#[cfg(test)]
mod tests;
