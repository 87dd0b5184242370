//! Fixture `cpq`.

use super::names::{
    count, critic_record, critics, hidden, mean_action_density, scalars, task, transition, vae, Members, Names,
};
use crate::{shown, shown_at, Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::cpq::{Cpq as Learner, CpqConfig, CpqDraws};
use drcorl_algos::critics::{bound, Bound, Critics};
use drcorl_algos::frame::{ActorCritic, ActorGroup, Values};
use drcorl_core::error::{Error, Result};
use drcorl_nn::optim::soft_update;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, Arena};
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
        ood_quantile: fixture.hyper(&["quantile"])?,
        ood_scale: fixture.hyper(&["qc_scalar"])?,
        ood_samples: count(fixture, "sample_action_num")?,
        alpha_lr: fixture.hyper(&["alpha_lr"])?,
        values: Values { gamma: fixture.hyper(&["gamma"])?, ..Values::osrl() },
        actor: ActorGroup { actor_hidden: actor_hidden.clone(), actor_lr: fixture.hyper(&["actor_lr"])? },
        critic: critics(fixture, "critic.q_nets.0", reward.len(), init)?,
        vae: vae(fixture, init)?,
        ..CpqConfig::osrl()
    };
    let task = task(fixture, config.values, device)?;
    let mut learner = Learner::new(config, task, &mut Rng::new(0, 0));
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
        let batch = transition(batch)?;
        let (step, seen) = probe::watch(|| self.learner.learn(&batch, &draws));
        let step = step?;
        let learner = &self.learner;
        soft_update(&mut self.lagged_actor, learner.actor.head.online(), learner.config.critic.target_rate);
        let mut record = scalars([
            ("loss/loss_vae", step.vae.loss),
            ("loss/critic_loss", step.reward_loss),
            ("loss/cost_critic_loss", step.cost_loss),
            ("loss/alpha_value", learner.alpha.value()),
            ("loss/actor_loss", step.actor_loss),
            ("state/log_alpha", learner.alpha.log),
        ]);
        record.extend(critic_record("critic", &seen, 0, 1)?);
        record.extend(critic_record("cost_critic", &seen, 1, 1)?);
        record.extend(shown(
            &seen,
            &[("next_cost", "qc_target_min"), ("ood_kl", "ood_kl"), ("ood_threshold", "ood_quantile")],
        ));
        record.extend([
            ("aux/qc_target_min_3".to_string(), shown_at(&seen, "ood_values", 0)?.shallow_clone()),
            ("aux/qc_min".into(), bound(shown_at(&seen, "critic_values", 1)?, Bound::Min)),
            ("aux/qc_min_2".into(), shown_at(&seen, "actor_cost", 0)?.shallow_clone()),
        ]);
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
