//! The networks of CCAC and their step, a function of a batch and its draws.

use super::config::{BudgetQuery, CcacConfig, RewardOutput};
use super::cvae::{Cvae, CvaeStep, LATENT_BOUND};
use super::losses::{cross_entropy, weighted_excess, Clamp, Output};
use super::networks::{BudgetCritics, Multiplier, Raise};
use crate::critics::{join, mean, Bound};
use crate::frame::{Task, Transition};
use crate::losses::through_tanh;
use drcorl_core::error::Result;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, widths, Head, SquashedActor};
use tch::{Kind, Tensor};

/// A batch with the budget beside every state.
pub struct BudgetBatch {
    pub transition: Transition,
    /// `[B,A]`
    pub action: Tensor,
    /// `[B,1]`, at the state and at the next one.
    pub budget: Tensor,
    pub next_budget: Tensor,
}

impl BudgetBatch {
    /// `[s, a]`, as the autoencoder has it.
    fn pairs(&self) -> Tensor {
        Tensor::cat(&[&self.transition.observation, &self.action], 1)
    }
}

/// Standard normal draws of one step: `[B,L]`, `[B,A]`, `[B,A]`, `[B,L]`, `[B,A]`.
pub struct CcacDraws {
    pub encoder: Tensor,
    pub reward: Tensor,
    pub cost: Tensor,
    pub generated: Tensor,
    pub actor: Tensor,
}

/// What a step of autoencoder and classifier did.
pub struct EncoderStep {
    pub cvae: CvaeStep,
    pub classifier_loss: f64,
    pub accuracy: f64,
}

/// What one step did.
pub struct CcacStep {
    pub encoder: EncoderStep,
    pub reward_loss: f64,
    /// Mean lagged values of the next actions.
    pub next_values: [f64; 2],
    pub cost_loss: f64,
    pub raise_loss: f64,
    pub actor_loss: f64,
    pub multiplier_loss: f64,
    /// Means of lambda_3 and lambda_1.
    pub multiplier: f64,
    pub raise_multiplier: f64,
    pub flagged_share: f64,
}

/// All networks.
pub struct Learner {
    pub config: CcacConfig,
    pub cvae: Cvae,
    /// Of [s, a, query].
    pub classifier: Head,
    /// Of [s, kappa].
    pub actor: SquashedActor,
    pub reward: BudgetCritics,
    pub cost: BudgetCritics,
    /// lambda_1, which raises the cost of flagged pairs.
    pub raise: Multiplier,
    /// lambda_3, which holds the policy to its budget.
    pub hold: Multiplier,
    task: Task,
}

impl Learner {
    /// Fresh networks; `range` are least and most of every entry of a pair [s, a], `[1,S+A]`.
    pub fn new(config: CcacConfig, task: Task, range: [Tensor; 2], rng: &mut Rng) -> Self {
        let Task { observations, actions, device, .. } = task;
        let ([least, most], gradient) = (range, config.clamp_gradient);
        let (hidden, states) = (config.encoder_hidden, observations + 1);
        let cvae = Cvae::new(hidden, config.latents, Clamp { least, most, gradient }, device, rng);
        let classifier = [states + actions, hidden, hidden, 1];
        let critic = widths(actions + states, &config.critic.critic_hidden, 1);
        let mut critics = |name: &str, output, side| {
            BudgetCritics::new(Head::new(name, config.critic.critics, &critic, true, device, rng), output, side)
        };
        let output = match config.reward_output {
            RewardOutput::Linear => Output::Linear,
            RewardOutput::Softplus => Output::Softplus,
        };
        let (reward, cost) =
            (critics("reward", output, Bound::Min), critics("cost", Output::Softplus, config.cost_ensemble));
        let limits = (config.most_log_multiplier, config.multiplier_decay);
        let mut multiplier = |name: &str| Multiplier::new(name, hidden, limits, gradient, device, rng);
        Learner {
            raise: multiplier("raise"),
            hold: multiplier("hold"),
            classifier: Head::new("classifier", 1, &classifier, false, device, rng),
            actor: SquashedActor::new(states, actions, &config.actor.actor_hidden, false, device, rng),
            cvae,
            reward,
            cost,
            task,
            config,
        }
    }

    /// One step of autoencoder and classifier, with `noise [B,L]`.
    pub fn encode(&mut self, batch: &BudgetBatch, noise: &Tensor) -> EncoderStep {
        let (beta, lr) = (self.config.encoder_beta, self.config.encoder_lr);
        let pairs = batch.pairs();
        let cvae = self.cvae.step(&pairs, &batch.budget, noise, beta, lr);
        let query = match self.config.budget_query {
            BudgetQuery::First => batch.budget.narrow(0, 0, 1).expand_as(&batch.budget),
            BudgetQuery::Neighbor => batch.budget.roll([-1i64], [0i64]),
        };
        let label = beyond(&batch.budget, &query);
        let input = Tensor::cat(&[Tensor::cat(&[&pairs, &query], 1), Tensor::cat(&[&cvae.decoded, &query], 1)], 0);
        let labels = Tensor::cat(&[&label, &label], 0);
        let logits = self.classifier.forward(&input).copy();
        let (classifier_loss, gradient) = cross_entropy(&logits, &labels);
        self.classifier.descend(&input, &gradient, lr);
        let right = logits.gt(0.0).to_kind(Kind::Float).eq_tensor(&labels).to_kind(Kind::Float);
        EncoderStep { cvae, classifier_loss, accuracy: mean(&right) }
    }

    /// Generated pairs `[B,S+A]` of the batch's budgets, and the rows of those that cost more than these.
    fn generate(&mut self, budget: &Tensor, noise: &Tensor) -> (Tensor, Tensor) {
        let pairs = self.cvae.decode(&noise.clamp(-LATENT_BOUND, LATENT_BOUND), budget);
        let joined = Tensor::cat(&[&pairs, budget], 1);
        let flagged = self.classifier.evaluate(&joined).sigmoid().gt(self.config.ood_threshold);
        probe::see("generated", &joined);
        probe::see("flagged", &flagged);
        (pairs, flagged.squeeze_dim(1).nonzero().squeeze_dim(1))
    }

    /// One step of the cost critics towards `target [B,1]`, and of the multiplier of the flagged pairs: the losses of
    /// both, the mean multiplier and the share of flagged pairs.
    fn cost_step(&mut self, batch: &BudgetBatch, input: &Tensor, target: &Tensor, noise: &Tensor) -> [f64; 4] {
        let (lr, states) = (self.config.critic.critic_lr, self.task.observations);
        let (pairs, rows) = self.generate(&batch.budget, noise);
        let share = rows.size()[0] as f64 / batch.budget.size()[0] as f64;
        if share == 0.0 {
            return [self.cost.regress(input, target, None, lr).0, 0.0, 0.0, share];
        }
        let (pairs, budget) = (pairs.index_select(0, &rows), batch.budget.index_select(0, &rows));
        let state = pairs.narrow(1, 0, states);
        let raised = Tensor::cat(&[&pairs.narrow(1, states, self.task.actions), &state, &budget], 1);
        let weight = self.raise.value(&budget);
        let raise = Raise { input: &raised, budget: &budget, weight: &weight };
        let (loss, values) = self.cost.regress(input, target, Some(&raise), lr);
        let excess = values.expect("pairs were raised") - &budget;
        let raise_loss = self.raise.descend(&budget, &excess, self.config.multiplier_lr);
        [loss, raise_loss, mean(&weight), share]
    }

    /// One step of the policy, and of the multiplier that holds it to its budget: the losses of both, and the mean
    /// multiplier.
    fn actor_step(&mut self, batch: &BudgetBatch, state: &Tensor, noise: &Tensor) -> [f64; 3] {
        let (rows, actions) = (state.size()[0] as f64, self.task.actions);
        let gaussian = self.actor.forward(state);
        let action = gaussian.sample(noise).tanh();
        let input = join(&action, state);
        let (reward, reward_pull) = self.reward.pull(&input, actions);
        let (cost, cost_pull) = self.cost.pull(&input, actions);
        let weight = self.hold.value(&batch.budget);
        let (excess, slope) = weighted_excess(&cost, &batch.budget, &weight);
        let loss = excess - mean(&reward);
        let gradient = through_tanh(&action, &(cost_pull * slope - reward_pull / rows));
        self.actor.descend_samples(state, &gaussian, noise, &gradient, self.config.actor.actor_lr);
        let slack = &batch.budget - cost;
        let multiplier_loss = self.hold.descend(&batch.budget, &slack, self.config.multiplier_lr);
        [loss, multiplier_loss, mean(&weight)]
    }

    /// One step of all networks.
    pub fn learn(&mut self, batch: &BudgetBatch, draws: &CcacDraws) -> Result<CcacStep> {
        batch.transition.check()?;
        let (values, lr) = (self.config.values, self.config.critic.critic_lr);
        let encoder = self.encode(batch, &draws.encoder);
        let state = Tensor::cat(&[&batch.transition.observation, &batch.budget], 1);
        let next_state = Tensor::cat(&[&batch.transition.next_observation, &batch.next_budget], 1);
        let gaussian = self.actor.evaluate(&next_state);
        let next = |noise: &Tensor| join(&gaussian.sample(noise).tanh(), &next_state);
        let input = join(&batch.action, &state);
        let next_reward = self.reward.target(&next(&draws.reward));
        let next_cost = self.cost.target(&next(&draws.cost));
        let target = values.reward_target(&batch.transition, &next_reward);
        let (reward_loss, _) = self.reward.regress(&input, &target, None, lr);
        let target = values.cost_target(&batch.transition, &next_cost);
        let [cost_loss, raise_loss, raise_multiplier, flagged_share] =
            self.cost_step(batch, &input, &target, &draws.generated);
        let [actor_loss, multiplier_loss, multiplier] = self.actor_step(batch, &state, &draws.actor);
        let rate = self.config.critic.target_rate;
        [&mut self.reward, &mut self.cost].into_iter().for_each(|critics| critics.head.follow(rate));
        Ok(CcacStep {
            encoder,
            reward_loss,
            next_values: [mean(&next_reward), mean(&next_cost)],
            cost_loss,
            raise_loss,
            actor_loss,
            multiplier_loss,
            multiplier,
            raise_multiplier,
            flagged_share,
        })
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("cvae", |state| self.cvae.persist(state))?;
        state.group("classifier", |state| self.classifier.persist(state))?;
        state.group("actor", |state| self.actor.persist(state))?;
        state.group("reward", |state| self.reward.head.persist(state))?;
        state.group("cost", |state| self.cost.head.persist(state))?;
        state.group("raise", |state| self.raise.persist(state))?;
        state.group("hold", |state| self.hold.persist(state))
    }
}

/// The classifier's label: 1 where a pair's own budget is above the one it is asked about.
pub fn beyond(budget: &Tensor, query: &Tensor) -> Tensor {
    budget.gt_tensor(query).to_kind(Kind::Float)
}
