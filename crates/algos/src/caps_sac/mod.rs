//! CAPS, constraint-adaptive policy switching (Chemingui et al. 2025, [arXiv
//! 2412.18946](https://arxiv.org/abs/2412.18946)), with soft actor-critics: heads that follow critics of their own
//! actions instead of clones. Acting is that of [`crate::caps`].
//!
//! ```text
//! heads:   a_k ~ pi_k(s) = tanh N(mu_k, sigma_k), layers on a shared trunk
//! critics: of x = r and x = -c,  y = x + gamma (1 - d) (mean_k min Q_x'(s', a'_k) - alpha mean_k log pi_k(a'_k | s'))
//!          (the entropy in the critics of rewards alone)
//! mixture: Q_k = min Q_r + 2k/(K-1) min Q_c for k < K-1;  Q_{K-1} = min Q_c
//! policy:  min sum_k E[alpha log pi_k(a_k | s) - 2.5 / mean|Q_k| Q_k(s, a_k)] + mean (a_k - a)^2
//! alpha:   min alpha (E[-log pi_k] - target),  target = -A
//! ```
//!
//! Deviations from the published code, each a value of the configuration unless it says so;
//! the preset `published` takes the published one:
//! 1. `entropy_backup`: the entropy of the next action is discounted and ends with its value, and costs have none.
//!    Published, it is added to the targets of both signals as it is.
//! 2. `done`, `cost_threshold`: as with CAPS.
//! 3. `heads`: five. The published configuration has two.
//! 4. `scaling`, a parameter of the run: observations are standardised and actions taken in the box of the data.
//! 5. No lagged actor is kept (no option): nothing reads the published one.
//! 6. The temperature is part of the checkpoint (no option).

pub mod config;
pub mod losses;

pub use config::{CapsSacConfig, EntropyBackup};

use crate::caps::heads::Choice;
use crate::caps::losses::mixture;
use crate::critics::{join, mean, Bound, Critics};
use crate::frame::{normals, parts, repeat, ActorCritic, Parts, Task, Transition};
use crate::losses::{mse, through_tanh};
use crate::metrics::{COST_CRITIC_LOSS, CRITIC_LOSS};
use drcorl_core::algorithm::Context;
use drcorl_core::dataset::Batch;
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::policy::{copy_layers, FrozenPolicy};
use drcorl_nn::optim::ScalarAdam;
use drcorl_nn::rng::Rng;
use drcorl_nn::squashed::LOG_STD;
use drcorl_nn::{widths, Gaussian, Head};
use losses::{log_density, log_density_slopes};
use tch::{Kind, Tensor};

/// Trunk and heads, critics of both signals, temperature.
pub struct CapsSac {
    pub config: CapsSacConfig,
    /// `[S, hidden.., K*2A]`: mu and log sigma of one head, then of the next.
    pub actor: Head,
    pub reward: Critics,
    /// Of negative costs, so that the lowest is the pessimist.
    pub cost: Critics,
    pub log_temperature: ScalarAdam,
    task: Task,
}

/// Standard normal draws of one step, `[B*K,A]` each, a state's heads next to each other.
pub struct CapsSacDraws {
    pub next: Tensor,
    pub actor: Tensor,
}

/// What one step did.
pub struct CapsSacStep {
    pub reward_loss: f64,
    pub cost_loss: f64,
    pub actor_loss: f64,
    /// Mean over heads.
    pub entropy: f64,
}

impl CapsSac {
    fn heads(&self) -> i64 {
        self.config.heads as i64
    }

    /// The weight of the entropy.
    pub fn temperature(&self) -> f64 {
        self.log_temperature.value.exp()
    }

    /// The Gaussians of all heads, a row each, of outputs `[B,K*2A]`.
    fn gaussians(&self, outputs: &Tensor) -> Gaussian {
        Gaussian::of(&outputs.view([-1, 2 * self.task.actions]), LOG_STD)
    }

    /// One step of the critics of both signals; their losses.
    fn critic_step(&mut self, batch: &Transition, noise: &Tensor) -> (f64, f64) {
        let (values, lr, heads) = (self.config.values, self.config.critic.critic_lr, self.heads());
        let outputs = self.actor.evaluate(&batch.next_observation);
        let gaussian = self.gaussians(&outputs);
        let next = join(&gaussian.sample(noise).tanh(), &repeat(&batch.next_observation, heads));
        let average = |x: Tensor| x.view([-1, heads]).mean_dim(1i64, true, Kind::Float);
        let entropy = average(log_density(&gaussian, noise)) * -self.temperature();
        let [reward, cost] = [&mut self.reward, &mut self.cost].map(|critics| average(critics.target(&next)));
        // Costs negative, as their critics have them.
        let (reward, cost) = match self.config.entropy_backup {
            EntropyBackup::Discounted => {
                (values.reward_target(batch, &(reward + entropy)), -values.cost_target(batch, &-cost))
            }
            EntropyBackup::Added => {
                (values.reward_target(batch, &reward) + &entropy, entropy - values.cost_target(batch, &-cost))
            }
        };
        let input = &batch.state_action;
        (self.reward.regress(input, &reward, lr), self.cost.regress(input, &cost, lr))
    }

    /// The gradient of the loss of every head for its action `[B*K,A]`, without the entropy; and that loss, summed over
    /// heads.
    fn follow(&mut self, action: &Tensor, batch: &Transition) -> (f64, Tensor) {
        let (heads, actions, rows) = (self.heads(), self.task.actions, batch.rows());
        let input = join(action, &repeat(&batch.observation, heads));
        let (reward, reward_pull) = self.reward.pull(&input, actions);
        let (cost, cost_pull) = self.cost.pull(&input, actions);
        let logged = batch.state_action.narrow(1, 0, actions);
        let of = |tensor: &Tensor, head: i64| tensor.view([rows, heads, -1]).select(1, head);
        let (mut loss, mut gradients) = (0.0, Vec::new());
        for head in 0..heads {
            let last = head == heads - 1;
            let (follow, avoid) = if last { (0.0, 1.0) } else { (1.0, mixture(head as usize, heads as usize)) };
            let mix = |reward: &Tensor, cost: &Tensor| of(reward, head) * follow + of(cost, head) * avoid;
            let value = mix(&reward, &cost);
            // A constant, as far as gradients go.
            let scale = self.config.value_weight / mean(&value.abs()).max(1e-8);
            let (distance, away) = mse(&of(action, head), &logged);
            loss += distance - scale * mean(&value);
            gradients.push(away - mix(&reward_pull, &cost_pull) * (scale / rows as f64));
        }
        (loss, Tensor::stack(&gradients, 1).view([rows * heads, actions]))
    }

    /// One step of trunk and heads, then of the temperature; the loss and the mean entropy.
    fn actor_step(&mut self, batch: &Transition, noise: &Tensor) -> (f64, f64) {
        let (rows, heads, actions) = (batch.rows(), self.heads(), self.task.actions);
        let outputs = self.actor.forward(&batch.observation).copy();
        let gaussian = self.gaussians(&outputs);
        let action = gaussian.sample(noise).tanh();
        let (loss, gradient) = self.follow(&action, batch);
        let (entropy, share) = (-mean(&log_density(&gaussian, noise)), self.temperature() / rows as f64);
        let (sample, own) = log_density_slopes(&action);
        let [mu, log_std] = gaussian.through_sample(noise, &(through_tanh(&action, &gradient) + sample * share));
        let gradient = gaussian.through([mu, log_std + own * share]);
        let loss = loss - self.temperature() * entropy * heads as f64;
        let gradient = gradient.view([rows, heads * 2 * actions]);
        self.actor.descend(&batch.observation, &gradient, self.config.actor.actor_lr);
        let slope = self.temperature() * (entropy + actions as f64);
        self.log_temperature.step(slope, self.config.temperature_lr);
        (loss, entropy)
    }
}

impl ActorCritic for CapsSac {
    type Config = CapsSacConfig;
    type Draws = CapsSacDraws;
    type Step = CapsSacStep;
    const NAME: &'static str = "caps_sac";
    const LABEL: &'static str = "CAPS-SAC";
    const SUMMARY: &'static str =
        "CAPS with heads that follow soft critics near the logged actions instead of cloning them by their advantage.";
    const TAKES_LIMIT: bool = true;
    const METRICS: &'static [Metric] = &[
        CRITIC_LOSS,
        COST_CRITIC_LOSS,
        Metric::loss(
            "actor_loss",
            "1",
            "Heads, summed: alpha log pi, less value_weight times the value over its mean size, plus the squared distance to the logged action.",
        ),
        Metric::temperature("temperature", "1", "Weight alpha of the entropy, learnt so that a head's is -A."),
        Metric::diagnostic("entropy", "nats", "Entropy of a head's action, a mean over heads."),
    ];

    fn new(config: CapsSacConfig, task: Task, rng: &mut Rng) -> Self {
        let widths = widths(task.observations, &config.actor.actor_hidden, config.heads as i64 * 2 * task.actions);
        CapsSac {
            actor: Head::new("actor", 1, &widths, false, task.device, rng),
            reward: config.critic.build("reward", 1, Bound::Min, &task, rng),
            cost: config.critic.build("cost", 1, Bound::Min, &task, rng),
            log_temperature: ScalarAdam::new(config.temperature.ln()),
            task,
            config,
        }
    }

    fn config(&self) -> &CapsSacConfig {
        &self.config
    }

    fn draw(&self, batch: &Batch, context: &mut Context<'_>) -> CapsSacDraws {
        let shape = [batch.len() * self.heads(), context.data.actions()];
        let mut normal = normals(context);
        CapsSacDraws { next: normal(&shape), actor: normal(&shape) }
    }

    fn learn(&mut self, batch: &Transition, draws: &CapsSacDraws) -> Result<CapsSacStep> {
        batch.check()?;
        let (reward_loss, cost_loss) = self.critic_step(batch, &draws.next);
        let (actor_loss, entropy) = self.actor_step(batch, &draws.actor);
        let rate = self.config.critic.target_rate;
        [&mut self.reward, &mut self.cost].into_iter().for_each(|critics| critics.head.follow(rate));
        Ok(CapsSacStep { reward_loss, cost_loss, actor_loss, entropy })
    }

    fn metrics(&self, step: &CapsSacStep) -> Vec<f64> {
        vec![step.reward_loss, step.cost_loss, step.actor_loss, self.temperature(), step.entropy]
    }

    fn policy(&self) -> Box<dyn FrozenPolicy> {
        let CapsSacConfig { heads, cost_floor, values, .. } = self.config;
        let mut layers = copy_layers(self.actor.net(), self.actor.online(), 0);
        if let Some((weight, bias)) = layers.last_mut() {
            // The means of every head, without its log deviations.
            let actions = self.task.actions;
            let means = |of: &Tensor| {
                let rows = |head: i64| of.narrow(0, head * 2 * actions, actions);
                Tensor::cat(&(0..heads as i64).map(rows).collect::<Vec<_>>(), 0)
            };
            (*weight, *bias) = (means(weight), means(bias));
        }
        let choice = Choice { heads, floor: cost_floor, values, task: self.task };
        Box::new(choice.policy(&layers, &self.reward.head, &self.cost.head))
    }

    fn parts(&mut self) -> Parts<'_> {
        parts!(self: actor, reward, cost, log_temperature)
    }
}

#[cfg(test)]
mod tests;
