//! Fixture `bearl`: the kernels of the discrepancy, and a delayed start of the reward term.

use super::names::{
    by_variant, count, critic_record, critics, hidden, mean_action_density, pid, scalars, task, transition, vae,
    Members, Names,
};
use crate::{shown, Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::bear_lag::{BearDraws, BearLag, BearLagConfig};
use drcorl_algos::critics::Critics;
use drcorl_algos::frame::{ActorCritic, ActorGroup, PidGroup, Values};
use drcorl_algos::losses::mmd::Kernel;
use drcorl_core::error::{Error, Result};
use drcorl_nn::probe;
use drcorl_nn::rng::Rng;
use tch::{Device, Tensor};

struct Bearl {
    learner: BearLag,
    vae: Names,
    actor: [Names; 2],
    reward: Members,
    cost: Members,
}

pub fn bind(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let (states, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    let groups = ["q1_nets", "q2_nets"];
    let (reward, cost) = (
        Members::new("critic", &groups, "reward", states, init),
        Members::new("cost_critic", &groups, "cost", states, init),
    );
    let actor_hidden = hidden("actor.net", 0, init)?;
    let config = BearLagConfig {
        mmd_kernel: if variant.contains("laplacian") { Kernel::Laplacian } else { Kernel::Gaussian },
        mmd_sigma: fixture.hyper(&["mmd_sigma"])?,
        mmd_threshold: fixture.hyper(&["mmd_threshold"])?,
        mmd_samples: count(fixture, "num_mmd_samples")?,
        alpha_lr: fixture.hyper(&["alpha_lr"])?,
        imitation_steps: by_variant(fixture, "start_update_policy_step", variant)? as u64,
        candidates: count(fixture, "sample_action_num")?,
        lambda: fixture.hyper(&["lmbda"])?,
        pid: PidGroup { pid: pid(fixture)?, multiplier_cap: None },
        values: Values { gamma: fixture.hyper(&["gamma"])?, ..Values::osrl() },
        actor: ActorGroup { actor_hidden: actor_hidden.clone(), actor_lr: fixture.hyper(&["actor_lr"])? },
        critic: critics(fixture, "critic.q1_nets.0", reward.len() / 2, init)?,
        vae: vae(fixture, init)?,
        ..BearLagConfig::osrl()
    };
    let task = task(fixture, config.values, device)?;
    let mut learner = BearLag::new(config, task, &mut Rng::new(0, 0));
    learner.alpha.log = fixture.hyper(&["log_alpha_init"])?;
    let names = |fixture: &str| Names::squashed(fixture, actor_hidden.len(), actions);
    let (vae, actor) = (Names::vae(states, learner.vae.latents()), [names("actor"), names("actor_old")]);
    // The reference counts its cost critics separately.
    let shape = (2, cost.len() / 2);
    let (inputs, side) = (states + actions, learner.config.cost_ensemble);
    let widths = hidden("cost_critic.q1_nets.0", 1, init)?;
    learner.cost = Critics::new("cost", inputs, shape, &widths, side, device, &mut Rng::new(0, 0));
    vae.load(learner.vae.arena(), init)?;
    actor[0].load(learner.actor.head.online(), init)?;
    actor[1].load(learner.actor.head.target(), init)?;
    reward.load(&mut learner.reward.head, init)?;
    cost.load(&mut learner.cost.head, init)?;
    Ok(Plan::Run(Box::new(Bearl { learner, vae, actor, reward, cost })))
}

impl Binding for Bearl {
    fn step(&mut self, _step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let [vae, reward, cost, latents, policy] = draws else {
            return Err(Error::Data("expected five draws a step".into()));
        };
        let rows = vae.size()[0];
        let actions = policy.size()[1];
        let draws = BearDraws {
            vae: vae.shallow_clone(),
            reward: reward.view([rows, -1, actions]),
            cost: Some(cost.view([rows, -1, actions])),
            latents: latents.shallow_clone(),
            policy: policy.view([rows, -1, actions]),
        };
        let batch = transition(batch)?;
        let (step, seen) = probe::watch(|| self.learner.learn(&batch, &draws));
        let step = step?;
        let learner = &self.learner;
        let mut record = scalars([
            ("loss/loss_vae", step.vae.loss),
            ("loss/critic_loss", step.reward_loss),
            ("loss/cost_critic_loss", step.cost_loss),
            ("loss/actor_loss", step.actor.loss),
            ("loss/mmd_loss", step.actor.mmd),
            ("loss/qc_penalty", step.actor.penalty),
            ("loss/lagrangian", learner.pid.multiplier),
            ("loss/alpha_value", learner.alpha.value()),
            ("state/log_alpha", learner.alpha.log),
            ("state/pid_error_old", learner.pid.error_old),
            ("state/pid_integral", learner.pid.integral),
            ("state/train_steps", learner.steps as f64),
        ]);
        record.extend(critic_record("critic", &seen, 0, 2)?);
        record.extend(critic_record("cost_critic", &seen, 1, 2)?);
        record.extend(shown(&seen, &["mmd", "vae_raw", "policy_raw"].map(|name| (name, name))));
        record.extend(self.vae.gradients(learner.vae.arena()));
        record.extend(self.actor[0].gradients(learner.actor.head.online()));
        record.extend(self.reward.gradients(&learner.reward.head));
        record.extend(self.cost.gradients(&learner.cost.head));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let mut record = self.vae.values(self.learner.vae.arena());
        record.extend(self.actor[0].values(self.learner.actor.head.online()));
        record.extend(self.actor[1].values(self.learner.actor.head.target()));
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
