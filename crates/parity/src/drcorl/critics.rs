//! The critics: implicit Q-learning on dataset actions, TD on the policy's actions.

use crate::mlp::Mlp;
use crate::{shown_at, Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::critics::iql::value_step;
use drcorl_algos::critics::{
    bound, join, mean, Bound, CostBackup, CostCritic, CostCriticConfig, CostCriticKind, IqlConfig, IqlCritic, Pessimism,
};
use drcorl_algos::lagrange::infinite_horizon_episode_cost;
use drcorl_core::error::{Error, Result};
use drcorl_core::policy::Policy;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, Head};
use tch::{Device, Kind, Tensor};

pub(super) fn scalars(values: impl IntoIterator<Item = (&'static str, f64)>) -> Record {
    values.into_iter().map(|(name, value)| (name.to_string(), Tensor::from(value))).collect()
}

struct Iql {
    critic: IqlCritic,
    signal: &'static str,
}

pub(super) fn twins(fixture: &str, arena: &'static str) -> [Mlp; 2] {
    [Mlp::new(format!("{fixture}.q1"), arena, 0), Mlp::new(format!("{fixture}.q2"), arena, 1)]
}

pub fn bind_iql(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    if variant == "cost_broadcast" {
        return Ok(Plan::Skip("pins the [B] x [B,1] broadcast of the release, which our shapes refuse"));
    }
    let widths = Mlp::widths("critic.q0.q1", init)?;
    let config = IqlConfig {
        gamma: fixture.hyper(&["gamma"])?,
        expectile: fixture.hyper(&["expectile"])?,
        target_rate: fixture.hyper(&["target_ema"])?,
        q_lr: fixture.hyper(&["q_lr"])?,
        v_lr: fixture.hyper(&["v_lr"])?,
    };
    let hidden = &widths[1..widths.len() - 1];
    let mut critic =
        IqlCritic::new("c", fixture.dim("obs")?, fixture.dim("act")?, hidden, config, device, &mut Rng::new(0, 0));
    for (live, lagged) in twins("critic.q0", "c_q").iter().zip(twins("critic.q0_target", "c_q")) {
        live.load(critic.q.online_mut(), init)?;
        lagged.load(critic.q.target_mut().ok_or_else(|| Error::Data("no target".into()))?, init)?;
    }
    Mlp::new("critic.vf.v", "c_v", 0).load(critic.v.online_mut(), init)?;
    Ok(Plan::Run(Box::new(Iql { critic, signal: if variant == "reward" { "rew" } else { "cost" } })))
}

impl Binding for Iql {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let state_action = join(batch.get("act")?, batch.get("obs")?);
        let (signal, terminal) = (batch.column(self.signal)?, batch.column("done")?);
        let (observation, next) = (batch.get("obs")?, batch.get("next_obs")?);
        let (step, seen) = probe::watch(|| self.critic.step(&state_action, observation, next, &signal, &terminal));
        let step = step?;
        let mut record = scalars([
            ("loss/value", step.value_loss),
            ("loss/critic", step.critic_loss),
            ("loss/mean_target_q", mean(shown_at(&seen, "target_q", 0)?)),
            ("loss/mean_next_v", mean(shown_at(&seen, "next_v", 0)?)),
        ]);
        for twin in twins("critic.q0", "c_q") {
            record.extend(twin.gradients(self.critic.q.online()));
        }
        record.extend(Mlp::new("critic.vf.v", "c_v", 0).gradients(self.critic.v.online()));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let mut record = Mlp::new("critic.vf.v", "c_v", 0).values(self.critic.v.online());
        for (live, lagged) in twins("critic.q0", "c_q").iter().zip(twins("critic.q0_target", "c_q")) {
            record.extend(live.values(self.critic.q.online()));
            record.extend(lagged.values(self.critic.q.target()));
        }
        record
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let state_action = join(inputs.get("act")?, inputs.get("obs")?);
        let live = self.critic.q.evaluate(&state_action);
        Ok(vec![
            ("q1".into(), live.narrow(1, 0, 1)),
            ("q2".into(), live.narrow(1, 1, 1)),
            ("q_target_min".into(), self.critic.q.evaluate_target(&state_action).amin(1i64, true)),
            ("v".into(), self.critic.v.evaluate(inputs.get("obs")?)),
        ])
    }
}

struct TdCost {
    critic: CostCritic,
    /// The reference regresses a state value on the lowest lagged member, which nothing reads.
    v: Head,
    expectile: f64,
    v_lr: f64,
    policy: Policy,
    names: Vec<(Mlp, Mlp)>,
    episode_length: usize,
    ucb_k: f64,
    twin: bool,
}

pub fn bind_td_cost(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let twin = init.has("cost.q0.q1.0.weight");
    let member = |target: &str, i: usize| {
        if twin {
            format!("cost.q0{target}.q{}", i + 1)
        } else {
            format!("cost.q0{target}.qs.{i}")
        }
    };
    let members = (0..).take_while(|&i| init.has(&format!("{}.0.weight", member("", i)))).count();
    let names: Vec<(Mlp, Mlp)> = (0..members)
        .map(|i| (Mlp::new(member("", i), "c_q", i as i64), Mlp::new(member("_target", i), "c_q", i as i64)))
        .collect();
    let widths = Mlp::widths(&member("", 0), init)?;
    let config = CostCriticConfig {
        kind: CostCriticKind::Td,
        expectile: 0.5,
        gamma: fixture.hyper(&["gamma"])?,
        target_rate: fixture.hyper(&["target_ema"])?,
        lr: fixture.hyper(&["q_lr"])?,
        backup: CostBackup::Own,
        backup_k: 0.0,
        pessimism: Pessimism::None,
        alpha: 0.0,
        clamp: None,
    };
    let (states, actions) = (fixture.dim("obs")?, fixture.dim("act")?);
    let hidden = &widths[1..widths.len() - 1];
    let mut critic = CostCritic::new("c", states, actions, members, hidden, config, device, &mut Rng::new(0, 0));
    for (live, lagged) in &names {
        live.load(critic.q.online_mut(), init)?;
        lagged.load(critic.q.target_mut().ok_or_else(|| Error::Data("no target".into()))?, init)?;
    }
    let mut v = Head::new("c_v", 1, &Mlp::widths("cost.vf.v", init)?, false, device, &mut Rng::new(0, 0));
    Mlp::new("cost.vf.v", "c_v", 0).load(v.online_mut(), init)?;
    let policy = load_policy(init, device)?;
    let episode_length = fixture.hyper(&["episode_len_for_estimate"])? as usize;
    Ok(Plan::Run(Box::new(TdCost {
        critic,
        v,
        expectile: fixture.hyper(&["expectile"])?,
        v_lr: fixture.hyper(&["v_lr"])?,
        policy,
        names,
        episode_length,
        ucb_k: fixture.hyper(&["ucb_k"])?,
        twin,
    })))
}

pub(super) fn load_policy(init: &Tensors, device: Device) -> Result<Policy> {
    let widths = Mlp::widths("policy.net", init)?;
    let last = widths.len() - 1;
    let mut policy = Policy::new(widths[0], widths[last], &widths[1..last], false, device, &mut Rng::new(0, 0));
    Mlp::new("policy.net", "policy", 0).load(policy.arena_mut(), init)?;
    Ok(policy)
}

impl Binding for TdCost {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let next = batch.get("next_obs")?;
        let next_state_action = join(&self.policy.act(next), next);
        let state_action = join(batch.get("act")?, batch.get("obs")?);
        let (cost, terminal) = (batch.column("cost")?, batch.column("done")?);
        let lowest = bound(&self.critic.values(&state_action), Bound::Min);
        value_step(&mut self.v, batch.get("obs")?, &lowest, self.expectile, self.v_lr);
        let loss = self.critic.step(&state_action, &cost, &terminal, &next_state_action, None)?;
        let mut record = scalars([("loss/critic", loss)]);
        for (live, _) in &self.names {
            record.extend(live.gradients(self.critic.q.online()));
        }
        record.extend(Mlp::new("cost.vf.v", "c_v", 0).gradients(self.v.online()));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let mut record = Record::new();
        for (live, lagged) in &self.names {
            record.extend(live.values(self.critic.q.online()));
            record.extend(lagged.values(self.critic.q.target()));
        }
        record.extend(Mlp::new("cost.vf.v", "c_v", 0).values(self.v.online()));
        record.extend(Mlp::new("policy.net", "policy", 0).values(self.policy.arena()));
        record
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let observation = inputs.get("obs")?;
        let action = self.policy.act(observation);
        let state_action = join(&action, observation);
        // Recorded on the lagged copies for the twins, on the live members for the ensemble.
        let values = if self.twin { self.critic.values(&state_action) } else { self.critic.q.evaluate(&state_action) };
        let mean = values.mean(Kind::Double).double_value(&[]);
        let estimate = infinite_horizon_episode_cost(mean, self.critic.config.gamma, self.episode_length);
        // The release's spread is over members and states together; ours is `upper_confidence`.
        let release = mean + self.ucb_k * values.std(true).double_value(&[]);
        let mut record = scalars([("offline_cost_estimate", estimate), ("ucb_release", release)]);
        record.extend([("action".to_string(), action), ("q_members".into(), values.tr().contiguous())]);
        Ok(record)
    }
}
