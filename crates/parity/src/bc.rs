//! Fixture `bc`: one regression step on raw observations and actions.

use super::mlp::Mlp;
use super::{Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::bc::regress;
use drcorl_core::error::Result;
use drcorl_core::policy::Policy;
use drcorl_nn::rng::Rng;
use tch::{Device, Tensor};

struct Bc {
    policy: Policy,
    actor: Mlp,
    lr: f64,
}

pub fn bind(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let widths = Mlp::widths("actor.pi", init)?;
    let last = widths.len() - 1;
    let mut policy = Policy::new(widths[0], widths[last], &widths[1..last], false, device, &mut Rng::new(0, 0));
    let actor = Mlp::new("actor.pi", "policy", 0);
    actor.load(policy.arena_mut(), init)?;
    Ok(Plan::Run(Box::new(Bc { policy, actor, lr: fixture.hyper(&["actor_lr"])? })))
}

impl Binding for Bc {
    fn step(&mut self, _step: usize, batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let loss = regress(&mut self.policy, batch.get("obs")?, batch.get("act")?, self.lr);
        let mut record = self.actor.gradients(self.policy.arena());
        record.push(("loss/actor_loss".into(), Tensor::from(loss)));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        self.actor.values(self.policy.arena())
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        Ok(vec![("action".into(), self.policy.act(inputs.get("obs")?))])
    }
}
