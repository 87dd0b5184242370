//! Fixture `caps_iql`.

use super::names::{hidden, layers, scalars, transition, Names};
use crate::{shown_at, Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::caps::heads::{choose, judged};
use drcorl_algos::caps::{Caps as Learner, CapsConfig};
use drcorl_algos::critics::IqlCritic;
use drcorl_algos::frame::{ActorCritic, ActorGroup, Task, Transition, Values};
use drcorl_core::error::{Error, Result};
use drcorl_core::policy::Turn;
use drcorl_nn::probe;
use drcorl_nn::rng::Rng;
use tch::{Device, Kind, Tensor};

/// Q (a pair: its lagged copy) and V of one signal.
struct Critic {
    twins: Vec<(Names, Names)>,
    v: Names,
}

impl Critic {
    /// Under `SIGNAL_q.q1`, `SIGNAL_q_target.q1` and `SIGNAL_v.v`.
    fn new(signal: &str, observation: i64, init: &Tensors) -> Self {
        let (arena, count) = (format!("{signal}_q"), layers(&format!("{signal}_q.q1.net"), init));
        let twin =
            |base: &str, i: i64| Names::mlp(&format!("{signal}_{base}.q{}.net", i + 1), &arena, i, count, observation);
        let twins = (0..2).map(|i| (twin("q", i), twin("q_target", i))).collect();
        Critic { twins, v: Names::mlp(&format!("{signal}_v.v.net"), &format!("{signal}_v"), 0, count, 0) }
    }

    fn load(&self, critic: &mut IqlCritic, init: &Tensors) -> Result<()> {
        for (live, lagged) in &self.twins {
            live.load(critic.q.online(), init)?;
            lagged.load(critic.q.target(), init)?;
        }
        self.v.load(critic.v.online(), init)
    }

    fn gradients(&self, critic: &IqlCritic) -> Record {
        let twins = self.twins.iter().flat_map(|(live, _)| live.gradients(critic.q.online()));
        twins.chain(self.v.gradients(critic.v.online())).collect()
    }

    fn values(&self, critic: &IqlCritic) -> Record {
        let pairs = self.twins.iter();
        let twins = pairs.flat_map(|(live, lagged)| [live.values(critic.q.online()), lagged.values(critic.q.target())]);
        twins.flatten().chain(self.v.values(critic.v.online())).collect()
    }
}

struct Caps {
    learner: Learner,
    reward: Critic,
    cost: Critic,
    actor: Names,
    budget: f64,
    length: usize,
}

pub fn bind(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let (observations, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    let heads = fixture.hyper(&["num_heads", variant])? as usize;
    let horizon = fixture.hyper_value(&["actor_lr_schedule"]).as_str().unwrap_or_default();
    let horizon = horizon.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    let horizon = horizon.ok_or_else(|| Error::Data("the manifest has no length of actor_lr_schedule".into()))?;
    let actor_hidden = hidden("actor.net", 0, init)?;
    let config = CapsConfig {
        values: Values { gamma: fixture.hyper(&["gamma"])?, ..CapsConfig::published().values },
        heads,
        reward_temperature: fixture.hyper(&["beta"])?,
        cost_temperature: fixture.hyper(&["beta_cost"])?,
        weight_cap: fixture.hyper(&["weight_clip"])?,
        reward_expectile: fixture.hyper(&["expectile_reward"])?,
        cost_expectile: fixture.hyper(&["expectile_cost"])?,
        actor: ActorGroup { actor_hidden: actor_hidden.clone(), actor_lr: fixture.hyper(&["actor_lr"])? },
        actor_decay_steps: Some(horizon),
        critic_hidden: hidden("reward_q.q1.net", 1, init)?,
        critic_lr: fixture.hyper(&["q_lr"])?,
        value_lr: fixture.hyper(&["value_lr"])?,
        target_rate: fixture.hyper(&["tau"])?,
        ..CapsConfig::published()
    };
    let (budget, length) = (fixture.hyper(&["rollout_budget"])?, fixture.hyper(&["episode_len"])? as usize);
    let task = Task {
        observations,
        actions,
        cost_limit: budget,
        episode_length: length,
        threshold: config.values.threshold(budget, length),
        seed: 0,
        device,
    };
    let mut learner = Learner::new(config, task, &mut Rng::new(0, 0));
    let (reward, cost) = (Critic::new("reward", observations, init), Critic::new("cost", observations, init));
    let means: Vec<String> = (0..heads).map(|head| format!("actor.tasks.a_{head}")).collect();
    let actor = Names::mlp("actor.net", "actor", 0, actor_hidden.len(), 0).and(Names::stacked(
        &format!("actor.{}", actor_hidden.len()),
        &means,
        actions,
    ));
    reward.load(&mut learner.reward, init)?;
    cost.load(&mut learner.cost, init)?;
    actor.load(learner.actor.online(), init)?;
    Ok(Plan::Run(Box::new(Caps { learner, reward, cost, actor, budget, length })))
}

impl Caps {
    /// Head actions `[B,K,A]`, costs and rewards `[B,K]` at `observation [B,S]`.
    fn heads(&mut self, observation: &Tensor) -> (Tensor, Tensor, Tensor) {
        let heads = self.learner.config.heads as i64;
        let outputs = self.learner.actor.evaluate(observation);
        let (actions, rewards) = judged(&outputs, &mut self.learner.reward.q, observation, heads);
        let (_, negative) = judged(&outputs, &mut self.learner.cost.q, observation, heads);
        (actions, -negative, rewards)
    }

    /// The policy file in a scripted environment whose answers do not depend on it.
    fn rollout(&mut self, inputs: &Tensors) -> Result<Record> {
        let (observations, costs) = (inputs.get("rollout_obs")?, inputs.get("rollout_cost")?);
        let policy = self.learner.policy();
        let mut player = policy.start(1);
        let zero = Tensor::zeros([1, 1], (Kind::Float, observations.device()));
        let (mut kappa, mut cost) = (self.budget, zero.shallow_clone());
        let (mut limits, mut actions, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        for step in 0..costs.size()[0] {
            let observation = observations.narrow(0, step, 1);
            let values = self.learner.config.values;
            limits.push(values.threshold(kappa.max(0.0), self.length - step as usize));
            let action = player.act(&Turn { observation: &observation, reward: &zero, cost: &cost });
            let distance = (self.heads(&observation).0 - action.unsqueeze(1)).square();
            heads.push(distance.sum_dim_intlist(2i64, false, Kind::Float).argmin(1, false));
            actions.push(action);
            cost = costs.narrow(0, step, 1).view([1, 1]);
            kappa -= cost.double_value(&[0, 0]);
        }
        Ok(vec![
            ("rollout_limit".into(), Tensor::from_slice(&limits)),
            ("rollout_action".into(), Tensor::cat(&actions, 0)),
            ("rollout_head".into(), Tensor::cat(&heads, 0)),
            ("rollout_cost_sum".into(), costs.sum(Kind::Double)),
            ("rollout_return".into(), inputs.get("rollout_rew")?.sum(Kind::Double)),
        ])
    }
}

/// The limits the recording asks at: below every head's cost, above, or that far between the least and the most.
fn limits(costs: &Tensor, places: &Tensor) -> Vec<f64> {
    let (least, most) = (costs.amin(1i64, false), costs.amax(1i64, false));
    let at = |row: i64| {
        let [place, least, most] = [places, &least, &most].map(|of| of.double_value(&[row]));
        match place {
            place if place <= 0.0 => least - 0.05,
            place if place > 1.0 => most + 0.05,
            place => least + place * (most - least) + 1e-3,
        }
    };
    (0..costs.size()[0]).map(at).collect()
}

impl Binding for Caps {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let recorded = transition(batch)?;
        let batch = Transition { cost_stop: recorded.reward_stop.shallow_clone(), ..recorded };
        let (step, seen) = probe::watch(|| self.learner.learn(&batch, &()));
        let step = step?;
        let learner = &self.learner;
        let mut record = scalars([
            ("loss/reward_value_loss", step.reward.value_loss),
            ("loss/cost_value_loss", step.cost.value_loss),
            ("loss/reward_q_loss", step.reward.critic_loss),
            ("loss/cost_q_loss", step.cost.critic_loss),
            ("loss/actor_loss", step.actor_loss),
            ("state/actor_lr_next", learner.actor_lr(learner.steps)),
        ]);
        for (ours, theirs) in [("advantage", "adv_reward"), ("cost_advantage", "adv_cost")] {
            record.push((format!("aux/{theirs}"), shown_at(&seen, ours, 0)?.squeeze_dim(1)));
        }
        record.extend(self.reward.gradients(&learner.reward));
        record.extend(self.cost.gradients(&learner.cost));
        record.extend(self.actor.gradients(learner.actor.online()));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let mut record = self.reward.values(&self.learner.reward);
        record.extend(self.cost.values(&self.learner.cost));
        record.extend(self.actor.values(self.learner.actor.online()));
        record
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let (actions, costs, rewards) = self.heads(inputs.get("obs")?);
        let limits = limits(&costs, inputs.get("limit_quantile")?);
        let row = |of: &Tensor, row: i64| Ok::<_, Error>(Vec::<f32>::try_from(of.select(0, row))?);
        let mut chosen = Vec::new();
        for (index, limit) in limits.iter().enumerate() {
            let index = index as i64;
            chosen.push(choose(&row(&rewards, index)?, &row(&costs, index)?, *limit) as i64);
        }
        let picked = chosen.iter().zip(0i64..).map(|(&head, row)| actions.select(0, row).narrow(0, head, 1));
        let mut record = vec![
            ("action".into(), Tensor::cat(&picked.collect::<Vec<_>>(), 0)),
            ("head".into(), Tensor::from_slice(&chosen)),
            ("limit".into(), Tensor::from_slice(&limits)),
            ("head_actions".into(), actions),
            ("head_cost".into(), costs),
            ("head_reward".into(), rewards),
        ];
        record.extend(self.rollout(inputs)?);
        Ok(record)
    }
}
