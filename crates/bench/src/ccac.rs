//! The second phase of CCAC as its preset `fixed` makes it, batch 512, beside a plain version: a step of autoencoder,
//! classifier, four critics of reward and of cost, policy and both multipliers.

use crate::baselines::{gaussian, group, task, transition};
use crate::plain::Group;
use crate::{flop, Step, ACTIONS, STATES};
use drcorl_algos::ccac::{BudgetBatch, CcacConfig, CcacDraws, Learner};
use drcorl_algos::critics::join;
use drcorl_nn::gaussian::kl;
use drcorl_nn::rng::Rng;
use tch::{Device, Kind, Tensor};

const GAMMA: f64 = 0.99;
const RATE: f64 = 0.005;
const PAIR: i64 = STATES + ACTIONS;

/// The networks as one would write them.
struct Plain {
    config: CcacConfig,
    encoder: Group,
    decoder: Group,
    classifier: Group,
    actor: Group,
    reward: Group,
    cost: Group,
    raise: Group,
    hold: Group,
}

impl Plain {
    fn copy_of(learner: &Learner, device: Device) -> Plain {
        let config = learner.config.clone();
        let arena = learner.cvae.arena();
        let half = |name: &str| Group::copy_of(arena, arena, name, 1, config.encoder_lr, device);
        let multiplier = |head, name: &str| group(head, name, config.multiplier_lr, device);
        Plain {
            encoder: half("encoder"),
            decoder: half("decoder"),
            classifier: group(&learner.classifier, "classifier", config.encoder_lr, device),
            actor: group(&learner.actor.head, "actor", config.actor.actor_lr, device),
            reward: group(&learner.reward.head, "reward", config.critic.critic_lr, device),
            cost: group(&learner.cost.head, "cost", config.critic.critic_lr, device),
            raise: multiplier(&learner.raise.head, "raise"),
            hold: multiplier(&learner.hold.head, "hold"),
            config,
        }
    }

    fn decode(&self, latent: &Tensor, budget: &Tensor) -> Tensor {
        self.decoder.values(&Tensor::cat(&[latent, budget], 1)).clamp(-1.0, 1.0)
    }

    fn encoder_step(&mut self, pairs: &Tensor, budget: &Tensor, noise: &Tensor) -> f64 {
        let output = self.encoder.values(&Tensor::cat(&[pairs, budget], 1));
        let latents = self.config.latents;
        let (center, log_std) = (output.narrow(1, 0, latents), output.narrow(1, latents, latents).clamp(-4.0, 15.0));
        let decoded = self.decode(&(&center + log_std.exp() * noise), budget);
        let loss = (&decoded - pairs).square().mean(Kind::Float)
            + kl(&center, &log_std).mean(Kind::Float) * self.config.encoder_beta;
        self.encoder.optimizer.zero_grad();
        self.decoder.optimizer.zero_grad();
        loss.backward();
        self.encoder.optimizer.step();
        self.decoder.optimizer.step();

        let query = budget.roll([-1i64], [0i64]);
        let label = budget.gt_tensor(&query).to_kind(Kind::Float);
        let asked = [pairs, &decoded.detach()].map(|pairs| Tensor::cat(&[pairs, &query], 1));
        let logits = self.classifier.values(&Tensor::cat(&asked, 0));
        let labels = Tensor::cat(&[&label, &label], 0);
        let wrong = logits.binary_cross_entropy_with_logits::<&Tensor>(&labels, None, None, tch::Reduction::Mean);
        self.classifier.optimizer.backward_step(&wrong);
        loss.double_value(&[]) + wrong.double_value(&[])
    }

    /// `exp` of a multiplier network.
    fn weight(network: &Group, budget: &Tensor, most: f64) -> Tensor {
        network.values(budget).clamp(-20.0, most).exp()
    }

    fn multiplier_step(network: &mut Group, budget: &Tensor, slope: &Tensor, most: f64, decay: f64) {
        let weight = Self::weight(network, budget, most);
        let penalty = network
            .optimizer
            .trainable_variables()
            .iter()
            .fold(Tensor::from(0.0f32), |sum, parameter| sum + parameter.square().sum(Kind::Float));
        network.optimizer.backward_step(&((weight * slope).mean(Kind::Float) + penalty * decay));
    }

    fn cost_step(&mut self, batch: &BudgetBatch, input: &Tensor, target: &Tensor, noise: &Tensor) -> f64 {
        let (most, decay) = (self.config.most_log_multiplier, self.config.multiplier_decay);
        let (pairs, flagged) = tch::no_grad(|| {
            let pairs = self.decode(&noise.clamp(-1.0, 1.0), &batch.budget);
            let joined = Tensor::cat(&[&pairs, &batch.budget], 1);
            let flagged = self.classifier.values(&joined).sigmoid().gt(self.config.ood_threshold);
            (joined, flagged.squeeze_dim(1).nonzero().squeeze_dim(1))
        });
        let pairs = pairs.index_select(0, &flagged);
        let budget = batch.budget.index_select(0, &flagged);
        let raised =
            Tensor::cat(&[pairs.narrow(1, STATES, ACTIONS), pairs.narrow(1, 0, STATES), budget.shallow_clone()], 1);
        let weight = tch::no_grad(|| Self::weight(&self.raise, &budget, most));
        let excess = self.cost.values(&raised).softplus().amax(1i64, true) - &budget;
        let errors = (self.cost.values(input).softplus() - target).square();
        let loss = errors.mean_dim(0i64, false, Kind::Float).sum(Kind::Float) - (weight * &excess).mean(Kind::Float);
        self.cost.optimizer.backward_step(&loss);
        Self::multiplier_step(&mut self.raise, &budget, &excess.detach(), most, decay);
        loss.double_value(&[])
    }

    fn actor_step(&mut self, budget: &Tensor, state: &Tensor, noise: &Tensor) -> f64 {
        let (most, decay) = (self.config.most_log_multiplier, self.config.multiplier_decay);
        let (mu, log_std) = gaussian(&self.actor.values(state));
        let input = join(&(mu + log_std.exp() * noise).tanh(), state);
        let value = self.reward.frozen(|reward| reward.values(&input).amin(1i64, true));
        let excess = self.cost.frozen(|cost| cost.values(&input).softplus().amax(1i64, true)) - budget;
        let weight = tch::no_grad(|| Self::weight(&self.hold, budget, most));
        let loss = (weight * &excess).mean(Kind::Float) - value.mean(Kind::Float);
        self.actor.optimizer.backward_step(&loss);
        Self::multiplier_step(&mut self.hold, budget, &-excess.detach(), most, decay);
        loss.double_value(&[])
    }

    fn step(&mut self, batch: &BudgetBatch, draws: &CcacDraws) -> f64 {
        let BudgetBatch { transition, action, budget, next_budget } = batch;
        let encoder_loss =
            self.encoder_step(&Tensor::cat(&[&transition.observation, action], 1), budget, &draws.encoder);
        let state = Tensor::cat(&[&transition.observation, budget], 1);
        let next_state = Tensor::cat(&[&transition.next_observation, next_budget], 1);
        let (mu, log_std) = tch::no_grad(|| gaussian(&self.actor.values(&next_state)));
        let next = |noise: &Tensor| join(&(&mu + log_std.exp() * noise).tanh(), &next_state);
        let alive: Tensor = 1.0 - &transition.reward_stop;
        let ahead = self.reward.lagged_values(&next(&draws.reward)).amin(1i64, true);
        let target = &transition.reward * self.config.values.reward_scale + &alive * ahead * GAMMA;
        let input = join(action, &state);
        let errors = (self.reward.values(&input) - target).square();
        let reward_loss = errors.mean_dim(0i64, false, Kind::Float).sum(Kind::Float);
        self.reward.optimizer.backward_step(&reward_loss);
        let ahead = self.cost.lagged_values(&next(&draws.cost)).softplus().amax(1i64, true);
        let target = &transition.cost + &alive * ahead * GAMMA;
        let cost_loss = self.cost_step(batch, &input, &target, &draws.generated);
        let actor_loss = self.actor_step(budget, &state, &draws.actor);
        [&mut self.reward, &mut self.cost].into_iter().for_each(|group| group.follow(RATE));
        encoder_loss + reward_loss.double_value(&[]) + cost_loss + actor_loss
    }
}

/// CCAC after its autoencoder has been trained alone.
pub fn step(device: Device) -> Step {
    let mut rng = Rng::new(8, 0);
    let config = CcacConfig::default();
    let (hidden, latents, members) = (config.encoder_hidden, config.latents, config.critic.critics as f64);
    let range = [-1.0f32, 1.0].map(|bound| Tensor::full([1, PAIR], f64::from(bound), (Kind::Float, device)));
    let mut ours = Learner::new(config, task(device), range, &mut rng);
    let mut plain = Plain::copy_of(&ours, device);
    let transition = transition(device, &mut rng);
    let rows = transition.rows();
    let action = transition.state_action.narrow(1, 0, ACTIONS).contiguous();
    let mut budget = || rng.uniform(&[rows, 1], device) * 2.0;
    let (budget, next_budget) = (budget(), budget());
    let batch = BudgetBatch { transition, action, budget, next_budget };
    let mut normal = |width: i64| rng.normal(&[rows, width], device);
    let draws = CcacDraws {
        encoder: normal(latents),
        reward: normal(ACTIONS),
        cost: normal(ACTIONS),
        generated: normal(latents),
        actor: normal(ACTIONS),
    };
    let batch = std::rc::Rc::new((batch, draws));
    let again = std::rc::Rc::clone(&batch);
    let critics = {
        let (forward, both) = flop(rows, &[PAIR + 1, 256, 256, 1]);
        (members * forward, members * both)
    };
    let decoder = flop(rows, &[latents + 1, hidden, hidden, PAIR]);
    let classifier = [PAIR + 1, hidden, hidden, 1];
    let actor = flop(rows, &[STATES + 1, 256, 256, 2 * ACTIONS]);
    let multiplier = flop(rows, &[1, hidden, hidden, 1]);
    let flop = flop(rows, &[PAIR + 1, hidden, hidden, 2 * latents]).1
        + decoder.0
        + decoder.1
        + flop(rows, &classifier).0
        + flop(2 * rows, &classifier).1
        + actor.0
        + actor.1
        // Both targets, both fits, raised pairs, and what both say of the policy's actions.
        + 2.0 * (critics.0 + critics.1)
        + critics.1
        + 2.0 * (critics.1 - critics.0)
        + 2.0 * (multiplier.0 + multiplier.1);
    Step {
        flop,
        ours: Box::new(move || {
            let step = tch::no_grad(|| ours.learn(&batch.0, &batch.1)).expect("shapes fit");
            let encoder = step.encoder.cvae.loss + step.encoder.classifier_loss;
            encoder + step.reward_loss + step.cost_loss + step.actor_loss
        }),
        plain: Box::new(move || plain.step(&again.0, &again.1)),
    }
}
