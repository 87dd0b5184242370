//! Fixture `bcql`.

use super::names::{count, critic_record, critics, hidden, pid, scalars, task, transition, vae, Members, Names};
use crate::{shown_at, Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::bcq_lag::{BcqDraws, BcqLag, BcqLagConfig};
use drcorl_algos::critics::Critics;
use drcorl_algos::frame::{ActorCritic, ActorGroup, PidGroup, Values};
use drcorl_core::error::{Error, Result};
use drcorl_nn::probe;
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
        candidates: count(fixture, "sample_action_num")?,
        phi: fixture.hyper(&["phi"])?,
        lambda: fixture.hyper(&["lmbda"])?,
        pid: PidGroup { pid: pid(fixture)?, multiplier_cap: None },
        values: Values { gamma: fixture.hyper(&["gamma"])?, ..Values::osrl() },
        actor: ActorGroup { actor_hidden: actor_hidden.clone(), actor_lr: fixture.hyper(&["actor_lr"])? },
        critic: critics(fixture, "critic.q1_nets.0", reward.len() / 2, init)?,
        vae: vae(fixture, init)?,
        ..BcqLagConfig::osrl()
    };
    let task = task(fixture, config.values, device)?;
    let mut learner = BcqLag::new(config, task, &mut Rng::new(0, 0));
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
        let batch = transition(batch)?;
        let (step, seen) = probe::watch(|| self.learner.learn(&batch, &draws));
        let step = step?;
        let mut record = scalars([
            ("loss/loss_vae", step.vae.loss),
            ("loss/critic_loss", step.reward_loss),
            ("loss/cost_critic_loss", step.cost_loss),
            ("loss/actor_loss", step.actor.loss),
            ("loss/qc_penalty", step.actor.penalty),
            ("loss/lagrangian", self.learner.pid.multiplier),
            ("state/pid_error_old", self.learner.pid.error_old),
            ("state/pid_integral", self.learner.pid.integral),
        ]);
        record.extend(critic_record("critic", &seen, 0, 2)?);
        record.extend(critic_record("cost_critic", &seen, 1, 2)?);
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
        let observation = inputs.get("obs")?;
        let (action, seen) = probe::watch(|| self.learner.act(draw, observation));
        Ok(vec![("action".into(), action), ("vae_action".into(), shown_at(&seen, "decoded", 0)?.shallow_clone())])
    }
}
