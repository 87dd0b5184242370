//! Fixture `coptidice`: three f-divergences, and one step without the cost bound.

use super::names::{by_variant, count, hidden, mean_action_density, scalars, transition, Members, Names};
use crate::{Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::coptidice::divergence::Divergence;
use drcorl_algos::coptidice::rows::{average, column};
use drcorl_algos::coptidice::{Coptidice as Learner, CoptidiceConfig, CoptidiceDraws, Initial, Scales};
use drcorl_algos::shared::mean;
use drcorl_core::error::{Error, Result};
use drcorl_nn::optim::ScalarAdam;
use drcorl_nn::rng::Rng;
use tch::{Device, Tensor};

struct Coptidice {
    learner: Learner,
    actor: Names,
    nu: Members,
    chi: Members,
}

pub fn bind(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let (states, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    let nu = Members::new("nu_network", &["q_nets"], "nu", 0, init);
    let chi = Members::new("chi_network", &["q_nets"], "chi", 0, init);
    let actor_hidden = hidden("actor.net", 0, init)?;
    let divergence = match variant.split('_').next().unwrap_or_default() {
        "softchi" => Divergence::Softchi,
        "chi2" => Divergence::Chi2,
        "kl" => Divergence::Kl,
        other => return Err(Error::Data(format!("unknown variant {other}"))),
    };
    let config = CoptidiceConfig {
        gamma: fixture.hyper(&["gamma"])?,
        divergence,
        alpha: fixture.hyper(&["alpha"])?,
        cost_bound_epsilon: by_variant(fixture, "cost_ub_epsilon", variant)?,
        actor_hidden: actor_hidden.clone(),
        critic_hidden: hidden("nu_network.q_nets.0", 1, init)?,
        critics: nu.len(),
        actor_lr: fixture.hyper(&["actor_lr"])?,
        nu_lr: fixture.hyper(&["nu_lr"])?,
        chi_lr: fixture.hyper(&["chi_lr"])?,
        scalar_lr: fixture.hyper(&["scalar_lr"])?,
        ..CoptidiceConfig::osrl()
    };
    let inputs = fixture.group(variant, "eval/in");
    let scales = Scales {
        limit: config.limit(fixture.hyper(&["cost_limit"])?, count(fixture, "episode_len")?),
        initial_share: fixture.hyper(&["init_state_proportion"])?,
        observation_std: inputs.get("obs_std")?.shallow_clone(),
        action_std: inputs.get("act_std")?.shallow_clone(),
    };
    let mut learner = Learner::new(config, (states, actions), scales, device, &mut Rng::new(0, 0));
    learner.raw_tau = ScalarAdam::new(mean(init.get("tau")?));
    learner.raw_lambda = ScalarAdam::new(mean(init.get("lmbda")?));
    let actor = Names::squashed("actor", actor_hidden.len(), actions);
    actor.load(learner.actor.head.online(), init)?;
    nu.load(&mut learner.nu, init)?;
    chi.load(&mut learner.chi, init)?;
    Ok(Plan::Run(Box::new(Coptidice { learner, actor, nu, chi })))
}

impl Binding for Coptidice {
    fn step(&mut self, _step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let [observation, action, ..] = draws else { return Err(Error::Data("expected two draws a step".into())) };
        let draws = CoptidiceDraws { observation: observation.shallow_clone(), action: action.shallow_clone() };
        let initial = Initial::Flags(batch.column("is_init")?);
        let step = self.learner.learn(&transition(batch)?, &initial, &draws)?;
        let learner = &self.learner;
        let mut record = scalars([
            ("loss/chi_loss", step.chi_loss),
            ("loss/tau_loss", step.tau_loss),
            ("loss/D_kl", step.kl),
            ("loss/Df", step.divergence),
            ("loss/td_error", average(step.ratios[0].e.len(), |i| step.ratios[0].e[i].powi(2))),
            ("loss/nu_loss", step.nu_loss),
            ("loss/lmbda_loss", step.lambda_loss),
            ("loss/actor_loss", step.actor_loss),
            ("loss/tau", step.tau),
            ("loss/lmbda", step.lambda),
            ("grad/tau", learner.raw_tau.gradient),
            ("grad/lmbda", learner.raw_lambda.gradient),
        ]);
        for (suffix, ratio) in ["", "_2"].iter().zip(step.ratios) {
            let columns = [("nu", ratio.nu), ("nu_next", ratio.nu_next), ("e", ratio.e), ("w", ratio.w)];
            record.extend(columns.map(|(name, values)| (format!("aux/{name}{suffix}"), column(&values, Device::Cpu))));
        }
        record.extend(self.actor.gradients(learner.actor.head.online()));
        record.extend(self.nu.gradients(&learner.nu));
        record.extend(self.chi.gradients(&learner.chi));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let learner = &self.learner;
        let mut record = self.actor.values(learner.actor.head.online());
        record.extend(self.nu.values(&learner.nu));
        record.extend(self.chi.values(&learner.chi));
        record.extend(scalars([("tau", learner.raw_tau.value), ("lmbda", learner.raw_lambda.value)]));
        record
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let gaussian = self.learner.actor.evaluate(inputs.get("obs")?);
        let density = mean_action_density(&gaussian.mu, &gaussian.log_std);
        Ok(vec![("action".into(), gaussian.mu.tanh()), ("logp".into(), density)])
    }
}
