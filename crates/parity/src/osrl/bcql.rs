//! Fixture `bcql`.

use super::names::{count, critic_record, hidden, pid, scalars, transition, Members, Names};
use crate::{Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::bcq_lag::{BcqDraws, BcqLag, BcqLagConfig};
use drcorl_algos::shared::Critics;
use drcorl_core::error::{Error, Result};
use drcorl_nn::rng::Rng;
use tch::{Device, Tensor};

struct Bcql {
    learner: BcqLag,
    vae: Names,
    actor: [Names; 2],
    reward: Members,
    cost: Members,
}

pub fn bind(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let (states, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    let groups = ["q1_nets", "q2_nets"];
    let (reward, cost) = (
        Members::new("critic", &groups, "reward", states, init),
        Members::new("cost_critic", &groups, "cost", states, init),
    );
    let actor_hidden = hidden("actor.pi", 1, init)?;
    let config = BcqLagConfig {
        gamma: fixture.hyper(&["gamma"])?,
        candidates: count(fixture, "sample_action_num")?,
        phi: fixture.hyper(&["phi"])?,
        lambda: fixture.hyper(&["lmbda"])?,
        pid: pid(fixture)?,
        critic_hidden: hidden("critic.q1_nets.0", 1, init)?,
        critics: reward.len() / 2,
        vae_hidden: init.get("vae.e1.weight")?.size()[0],
        vae_beta: fixture.hyper(&["beta_vae"])?,
        actor_lr: fixture.hyper(&["actor_lr"])?,
        critic_lr: fixture.hyper(&["critic_lr"])?,
        vae_lr: fixture.hyper(&["vae_lr"])?,
        target_rate: fixture.hyper(&["tau"])?,
        actor_hidden: actor_hidden.clone(),
        ..BcqLagConfig::osrl()
    };
    let threshold = config.values().threshold(fixture.hyper(&["cost_limit"])?, count(fixture, "episode_len")?);
    let mut learner = BcqLag::new(config, (states, actions), threshold, 0, device, &mut Rng::new(0, 0));
    let names = |fixture: &str| Names::mlp(&format!("{fixture}.pi"), "actor", 0, actor_hidden.len() + 1, states);
    let (vae, actor) = (Names::vae(states, learner.vae.latents()), [names("actor"), names("actor_old")]);
    // The reference counts its cost critics separately.
    let shape = (2, cost.len() / 2);
    let (inputs, side) = (states + actions, learner.config.cost_ensemble);
    let widths = hidden("cost_critic.q1_nets.0", 1, init)?;
    learner.cost = Critics::new("cost", inputs, shape, &widths, side, device, &mut Rng::new(0, 0));
    vae.load(learner.vae.arena(), init)?;
    actor[0].load(learner.actor.online(), init)?;
    actor[1].load(learner.actor.target(), init)?;
    reward.load(&mut learner.reward.head, init)?;
    cost.load(&mut learner.cost.head, init)?;
    Ok(Plan::Run(Box::new(Bcql { learner, vae, actor, reward, cost })))
}

impl Binding for Bcql {
    fn step(&mut self, _step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let [vae, reward, cost, actor] = draws else { return Err(Error::Data("expected four draws a step".into())) };
        let draws = BcqDraws {
            vae: vae.shallow_clone(),
            reward: reward.shallow_clone(),
            cost: Some(cost.shallow_clone()),
            actor: actor.shallow_clone(),
        };
        let step = self.learner.learn(&transition(batch)?, &draws)?;
        let mut record = scalars([
            ("loss/loss_vae", step.vae.loss),
            ("loss/critic_loss", step.reward.loss),
            ("loss/cost_critic_loss", step.cost.loss),
            ("loss/actor_loss", step.actor_loss),
            ("loss/qc_penalty", step.penalty),
            ("loss/lagrangian", self.learner.pid.multiplier),
            ("state/pid_error_old", self.learner.pid.error_old),
            ("state/pid_integral", self.learner.pid.integral),
        ]);
        record.extend(critic_record("critic", &step.reward, 2));
        record.extend(critic_record("cost_critic", &step.cost, 2));
        record.extend(self.vae.gradients(self.learner.vae.arena()));
        record.extend(self.actor[0].gradients(self.learner.actor.online()));
        record.extend(self.reward.gradients(&self.learner.reward.head));
        record.extend(self.cost.gradients(&self.learner.cost.head));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let mut record = self.vae.values(self.learner.vae.arena());
        record.extend(self.actor[0].values(self.learner.actor.online()));
        record.extend(self.actor[1].values(self.learner.actor.target()));
        record.extend(self.reward.values(&self.learner.reward.head));
        record.extend(self.cost.values(&self.learner.cost.head));
        record
    }

    fn evaluate(&mut self, inputs: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let draw = draws.first().ok_or_else(|| Error::Data("the fixture has no eval/rand".into()))?;
        let (action, decoded) = self.learner.act(draw, inputs.get("obs")?);
        Ok(vec![("action".into(), action), ("vae_action".into(), decoded)])
    }
}
