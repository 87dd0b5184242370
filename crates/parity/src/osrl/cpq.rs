//! Fixture `cpq`.

use super::names::{count, critic_record, hidden, mean_action_density, scalars, transition, Members, Names};
use crate::{Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::cpq::{Cpq as Learner, CpqConfig, CpqDraws};
use drcorl_algos::shared::{bound, Bound, Critics};
use drcorl_core::error::{Error, Result};
use drcorl_nn::optim::soft_update;
use drcorl_nn::rng::Rng;
use drcorl_nn::Arena;
use tch::{Device, Tensor};

struct Cpq {
    learner: Learner,
    vae: Names,
    actor: [Names; 2],
    /// The reference keeps a lagged actor that nothing reads.
    lagged_actor: Arena,
    reward: Members,
    cost: Members,
}

pub fn bind(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let (states, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    let (reward, cost) = (
        Members::new("critic", &["q_nets"], "reward", states, init),
        Members::new("cost_critic", &["q_nets"], "cost", states, init),
    );
    let actor_hidden = hidden("actor.net", 0, init)?;
    let config = CpqConfig {
        gamma: fixture.hyper(&["gamma"])?,
        ood_quantile: fixture.hyper(&["quantile"])?,
        ood_scale: fixture.hyper(&["qc_scalar"])?,
        ood_samples: count(fixture, "sample_action_num")?,
        alpha_lr: fixture.hyper(&["alpha_lr"])?,
        actor_hidden: actor_hidden.clone(),
        critic_hidden: hidden("critic.q_nets.0", 1, init)?,
        critics: reward.len(),
        vae_hidden: init.get("vae.e1.weight")?.size()[0],
        vae_beta: fixture.hyper(&["beta_vae"])?,
        actor_lr: fixture.hyper(&["actor_lr"])?,
        critic_lr: fixture.hyper(&["critic_lr"])?,
        vae_lr: fixture.hyper(&["vae_lr"])?,
        target_rate: fixture.hyper(&["tau"])?,
        ..CpqConfig::osrl()
    };
    let threshold = config.values().threshold(fixture.hyper(&["cost_limit"])?, count(fixture, "episode_len")?);
    let mut learner = Learner::new(config, (states, actions), threshold, device, &mut Rng::new(0, 0));
    learner.alpha.log = fixture.hyper(&["log_alpha_init"])?;
    let names = |fixture: &str| Names::squashed(fixture, actor_hidden.len(), actions);
    let (vae, actor) = (Names::vae(states, learner.vae.latents()), [names("actor"), names("actor_old")]);
    let lagged_actor = learner.actor.head.online().duplicate();
    // The reference counts its cost critics separately.
    let shape = (1, cost.len());
    let (inputs, side) = (states + actions, learner.config.cost_ensemble);
    let widths = hidden("cost_critic.q_nets.0", 1, init)?;
    learner.cost = Critics::new("cost", inputs, shape, &widths, side, device, &mut Rng::new(0, 0));
    vae.load(learner.vae.arena(), init)?;
    actor[0].load(learner.actor.head.online(), init)?;
    actor[1].load(&lagged_actor, init)?;
    reward.load(&mut learner.reward.head, init)?;
    cost.load(&mut learner.cost.head, init)?;
    Ok(Plan::Run(Box::new(Cpq { learner, vae, actor, lagged_actor, reward, cost })))
}

impl Binding for Cpq {
    fn step(&mut self, _step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let [vae, reward, cost, _unused, ood, _unused_too, actor] = draws else {
            return Err(Error::Data("expected seven draws a step".into()));
        };
        let draws = CpqDraws {
            vae: vae.shallow_clone(),
            reward: reward.shallow_clone(),
            cost: cost.shallow_clone(),
            ood: ood.shallow_clone(),
            actor: actor.shallow_clone(),
        };
        let step = self.learner.learn(&transition(batch)?, &draws)?;
        let learner = &self.learner;
        soft_update(&mut self.lagged_actor, learner.actor.head.online(), learner.config.target_rate);
        let mut record = scalars([
            ("loss/loss_vae", step.vae.loss),
            ("loss/critic_loss", step.reward.loss),
            ("loss/cost_critic_loss", step.cost.loss),
            ("loss/alpha_value", learner.alpha.value()),
            ("loss/actor_loss", step.actor_loss),
            ("state/log_alpha", learner.alpha.log),
            ("aux/ood_quantile", step.ood.threshold),
        ]);
        record.extend(critic_record("critic", &step.reward, 1));
        record.extend(critic_record("cost_critic", &step.cost, 1));
        let [next_cost, own_next_cost, actor_cost] = step.cost_values;
        let logged_cost = bound(&step.cost.values, Bound::Min);
        let values = step.ood.values.ok_or_else(|| Error::Data("the penalty is not detached".into()))?;
        let columns = [
            ("qc_target_min", next_cost),
            ("qc_target_min_2", own_next_cost),
            ("qc_target_min_3", values),
            ("qc_min", logged_cost),
            ("qc_min_2", actor_cost),
            ("ood_kl", step.ood.kl),
        ];
        record.extend(columns.map(|(name, column)| (format!("aux/{name}"), column)));
        record.extend(self.vae.gradients(learner.vae.arena()));
        record.extend(self.actor[0].gradients(learner.actor.head.online()));
        record.extend(self.reward.gradients(&learner.reward.head));
        record.extend(self.cost.gradients(&learner.cost.head));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let mut record = self.vae.values(self.learner.vae.arena());
        record.extend(self.actor[0].values(self.learner.actor.head.online()));
        record.extend(self.actor[1].values(&self.lagged_actor));
        record.extend(self.reward.values(&self.learner.reward.head));
        record.extend(self.cost.values(&self.learner.cost.head));
        record
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let gaussian = self.learner.actor.evaluate(inputs.get("obs")?);
        let density = mean_action_density(&gaussian.mu, &gaussian.log_std);
        Ok(vec![("action".into(), gaussian.mu.tanh()), ("logp".into(), density)])
    }
}
