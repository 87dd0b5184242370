//! The offline-selected policy: the candidate of the highest estimated return among the safe ones.
//! It ships, or is kept beside the average of the last step.

use super::options::Ships;
use super::{Course, Drcorl};
use crate::critics::join;
use crate::lagrange::infinite_horizon_episode_cost;
use drcorl_core::algorithm::Context;
use drcorl_core::error::Result;
use drcorl_core::policy::{FrozenMlp, FrozenPolicy};
use drcorl_nn::checkpoint::State;
use tch::{Kind, Tensor};

/// Spreads of the estimate that a candidate must have room for, in those of the certificate: one that the certificate
/// adds, and one by which its models, which are others, may read more.
const SPREADS: f64 = 2.0;

/// The best averaged policy so far by the offline estimate.
pub(super) struct Selected {
    pub policy: FrozenMlp,
    pub found: bool,
    pub step: u64,
    /// True if it is of the second course.
    pub second: bool,
    pub ret: f64,
    /// True if dynamics models estimated it, not the critics.
    pub by_models: bool,
}

impl Selected {
    /// Nothing yet; `policy` says of what shape it will be.
    pub fn none(policy: FrozenMlp) -> Self {
        Selected { policy, found: false, step: 0, second: false, ret: f64::NEG_INFINITY, by_models: false }
    }

    /// Saves or restores the policy and what is known of it.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.value("selected_found", &mut self.found)?;
        state.value("selected_step", &mut self.step)?;
        state.value("selected_second", &mut self.second)?;
        state.value("selected_by_models", &mut self.by_models)?;
        // Negative infinity is no JSON number; before anything is found the comparison value follows from that.
        let mut ret = if self.found { self.ret } else { 0.0 };
        state.value("selected_return", &mut ret)?;
        self.ret = if self.found { ret } else { f64::NEG_INFINITY };
        state.group("selected", |state| self.policy.persist(state))
    }
}

impl Drcorl {
    /// Every `candidate_interval` steps: keeps the averaged policy if its estimate is within the margin and its
    /// estimated return is the best so far.
    pub(super) fn consider(&mut self, step: u64, course: Course, context: &mut Context<'_>) -> Result<()> {
        if step == 0 || !step.is_multiple_of(self.config.candidate_interval) {
            return Ok(());
        }
        let averaged = self.policy.averaged();
        let run = context.run;
        // A candidate is believed where every cost can be read, and read by models that have not steered it,
        // if they may.
        let model = if self.models_steer(context) {
            let count = Some(self.config.gate_rollouts);
            let reads = self.reads(context.reader, run);
            let reader = if reads { &mut *context.reader } else { &mut *context.judge };
            reader
                .rollout(context.data, count, context.cancel, &mut |observation: &Tensor| averaged.act(observation))?
        } else {
            None
        };
        let by_models = model.is_some();
        let (costs, ret) = match model {
            Some(model) => (model.iter().map(|cost| cost.upper(SPREADS * run.certificate_k)).collect(), model[0].ret),
            None => {
                let sets = self.bounded_states(context);
                let (mut costs, mut value) = (vec![f64::NEG_INFINITY; self.costs()], 0.0);
                for observation in &sets {
                    let action = averaged.act(observation);
                    let reward = self.critics.reward.guidance(&join(&action, observation), action.size()[1]).0;
                    value += reward.mean(Kind::Double).double_value(&[]) / sets.len() as f64;
                    for (k, cost) in costs.iter_mut().enumerate() {
                        let gate_k = self.config.gate_k;
                        *cost = cost.max(self.critic_estimate(k, &action, observation, gate_k, context.data).ucb);
                    }
                }
                let discounted = value / self.facts.reward_factor;
                (costs, infinite_horizon_episode_cost(discounted, self.config.gamma, context.data.episode_length))
            }
        };
        let within = |(k, cost): (usize, &f64)| *cost <= run.certificate_margin * self.bound(k);
        if costs.iter().enumerate().all(within) && ret > self.selected.ret {
            self.selected =
                Selected { policy: averaged, found: true, step, second: course == Course::Second, ret, by_models };
        }
        Ok(())
    }

    /// True if the selected candidate is the policy to use.
    pub(super) fn ships_selected(&self) -> bool {
        self.config.ships == Ships::Selected && self.selected.found && self.selected.by_models
    }
}
