//! Fixture `ccac`.

use super::names::{count, critics, hidden, mean_action_density, scalars, transition, Members, Names};
use crate::{shown_at, Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::ccac::{BudgetBatch, CcacConfig, CcacDraws, EncoderStep, Learner};
use drcorl_algos::frame::{ActorGroup, Task, Transition, Values};
use drcorl_core::error::{Error, Result};
use drcorl_nn::optim::soft_update;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, Arena};
use tch::{Device, Kind, Tensor};

struct Ccac {
    learner: Learner,
    /// Autoencoder and classifier alone.
    warmup: bool,
    cvae: Names,
    classifier: Names,
    actor: [Names; 2],
    /// The reference keeps a lagged actor that nothing reads.
    lagged_actor: Arena,
    reward: Members,
    cost: Members,
    raise: Names,
    hold: Names,
}

/// `e1, e2, mean, log_std` and `sa_d1, sa_d2, sa_d3`; inputs in their order.
fn autoencoder(latents: i64) -> Names {
    let name = |part: &str| format!("cvae.{part}");
    let layers = |arena: &str, parts: &[&str]| {
        let list: Vec<(String, usize)> = parts.iter().enumerate().map(|(i, part)| (name(part), i)).collect();
        Names::list(arena, 0, 0, &list)
    };
    layers("encoder", &["e1", "e2"])
        .and(Names::stacked("encoder.2", &[name("mean"), name("log_std")], latents))
        .and(layers("decoder", &["sa_d1", "sa_d2", "sa_d3"]))
}

pub fn bind(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let (observations, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    // Their state is [observation, budget].
    let states = observations + 1;
    let (reward, cost) = (
        Members::new("critic", &["q_nets"], "reward", states, init),
        Members::new("cost_critic", &["q_nets"], "cost", states, init),
    );
    let actor_hidden = hidden("actor.net", 0, init)?;
    let (encoder, latents) = (count(fixture, "cvae_hidden")? as i64, count(fixture, "cvae_latent")? as i64);
    let config = CcacConfig {
        values: Values { gamma: fixture.hyper(&["gamma"])?, ..CcacConfig::published().values },
        ood_threshold: fixture.hyper(&["ood_threshold"])?,
        most_log_multiplier: fixture.hyper(&["max_log_multiplier"])?,
        multiplier_decay: fixture.hyper(&["multiplier_l2"])?,
        multiplier_lr: fixture.hyper(&["multiplier_lr"])?,
        encoder_hidden: encoder,
        latents,
        encoder_beta: fixture.hyper(&["beta_kl"])?,
        encoder_lr: fixture.hyper(&["cvae_lr"])?,
        actor: ActorGroup { actor_hidden: actor_hidden.clone(), actor_lr: fixture.hyper(&["actor_lr"])? },
        critic: critics(fixture, "critic.q_nets.0", reward.len(), init)?,
        ..CcacConfig::published()
    };
    let task = Task { observations, actions, cost_limit: 0.0, episode_length: 1, threshold: 0.0, seed: 0, device };
    let inputs = fixture.group(variant, "eval/in");
    let range = [("state_min", -1.0), ("state_max", 1.0)].map(|(name, side)| {
        let action = Tensor::full([1, actions], side, (Kind::Float, device));
        inputs.get(name).map(|state| Tensor::cat(&[state.view([1, -1]), action], 1))
    });
    let [least, most] = range;
    let learner = Learner::new(config, task, [least?, most?], &mut Rng::new(0, 0));
    let squashed = |fixture: &str| Names::squashed(fixture, actor_hidden.len(), actions);
    let names = Ccac {
        warmup: variant == "warmup",
        cvae: autoencoder(latents),
        classifier: Names::mlp("classifier.net", "classifier", 0, 3, 0),
        actor: [squashed("actor"), squashed("actor_old")],
        lagged_actor: learner.actor.head.online().duplicate(),
        reward,
        cost,
        raise: Names::mlp("qc_lag.net", "raise", 0, 3, 0),
        hold: Names::mlp("actor_lag.net", "hold", 0, 3, 0),
        learner,
    };
    let mut binding = names;
    let learner = &mut binding.learner;
    binding.cvae.load(learner.cvae.arena(), init)?;
    binding.classifier.load(learner.classifier.online(), init)?;
    binding.actor[0].load(learner.actor.head.online(), init)?;
    binding.actor[1].load(&binding.lagged_actor, init)?;
    binding.reward.load(&mut learner.reward.head, init)?;
    binding.cost.load(&mut learner.cost.head, init)?;
    binding.raise.load(learner.raise.head.online(), init)?;
    binding.hold.load(learner.hold.head.online(), init)?;
    Ok(Plan::Run(Box::new(binding)))
}

fn budgeted(batch: &Tensors) -> Result<BudgetBatch> {
    let recorded = transition(batch)?;
    Ok(BudgetBatch {
        transition: Transition { cost_stop: recorded.reward_stop.shallow_clone(), ..recorded },
        action: batch.get("act")?.shallow_clone(),
        budget: batch.column("budget")?,
        next_budget: batch.column("next_budget")?,
    })
}

fn encoder_record(step: &EncoderStep) -> Record {
    scalars([
        ("loss/recon_loss_sa", step.cvae.reconstruction),
        ("loss/kl_loss", step.cvae.kl),
        ("loss/loss_vae", step.cvae.loss),
        ("loss/loss_class", step.classifier_loss),
        ("loss/pred_acc", step.accuracy),
    ])
}

impl Binding for Ccac {
    fn step(&mut self, _step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record> {
        let batch = budgeted(batch)?;
        if self.warmup {
            let [noise] = draws else { return Err(Error::Data("expected one draw a step".into())) };
            return Ok(encoder_record(&self.learner.encode(&batch, noise)));
        }
        let [encoder, reward, cost, generated, actor] = draws else {
            return Err(Error::Data("expected five draws a step".into()));
        };
        let draws = CcacDraws {
            encoder: encoder.shallow_clone(),
            reward: reward.shallow_clone(),
            cost: cost.shallow_clone(),
            generated: generated.shallow_clone(),
            actor: actor.shallow_clone(),
        };
        let (step, seen) = probe::watch(|| self.learner.learn(&batch, &draws));
        let step = step?;
        let learner = &self.learner;
        soft_update(&mut self.lagged_actor, learner.actor.head.online(), learner.config.critic.target_rate);
        let mut record = encoder_record(&step.encoder);
        record.extend(scalars([
            ("loss/critic_loss", step.reward_loss),
            ("loss/qr", step.next_values[0]),
            ("loss/cost_critic_loss", step.cost_loss),
            ("loss/qc", step.next_values[1]),
            ("loss/loss_qc_lag", step.raise_loss),
            ("loss/actor_loss", step.actor_loss),
            ("loss/loss_actor_lag", step.multiplier_loss),
        ]));
        for (index, name) in ["critic_target", "cost_critic_target"].iter().enumerate() {
            record.push((format!("aux/{name}"), shown_at(&seen, "critic_target", index)?.squeeze_dim(1)));
        }
        record.push(("aux/gen_sac".into(), shown_at(&seen, "generated", 0)?.shallow_clone()));
        record.push(("aux/ood_label".into(), shown_at(&seen, "flagged", 0)?.squeeze_dim(1)));
        record.extend(self.cvae.gradients(learner.cvae.arena()));
        record.extend(self.classifier.gradients(learner.classifier.online()));
        record.extend(self.actor[0].gradients(learner.actor.head.online()));
        record.extend(self.reward.gradients(&learner.reward.head));
        record.extend(self.cost.gradients(&learner.cost.head));
        record.extend(self.raise.gradients(learner.raise.head.online()));
        record.extend(self.hold.gradients(learner.hold.head.online()));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let learner = &self.learner;
        let mut record = self.cvae.values(learner.cvae.arena());
        record.extend(self.classifier.values(learner.classifier.online()));
        record.extend(self.actor[0].values(learner.actor.head.online()));
        record.extend(self.actor[1].values(&self.lagged_actor));
        record.extend(self.reward.values(&learner.reward.head));
        record.extend(self.cost.values(&learner.cost.head));
        record.extend(self.raise.values(learner.raise.head.online()));
        record.extend(self.hold.values(learner.hold.head.online()));
        record
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let state = Tensor::cat(&[inputs.get("obs")?, &inputs.column("budget")?], 1);
        let gaussian = self.learner.actor.evaluate(&state);
        let density = mean_action_density(&gaussian.mu, &gaussian.log_std);
        Ok(vec![("action".into(), gaussian.mu.tanh()), ("logp".into(), density)])
    }
}
