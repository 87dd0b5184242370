//! Guidance that looks ahead: a few steps in the dynamics models before a critic's value, model-based value expansion
//! (Feinberg et al. 2018, arXiv:1803.00101). Ours, not the paper's, whose guidance is the critics' alone.
//!
//! A critic's slope is wrong where the policy leaves the data, and a frozen one never learns of it. Over
//! `value_expansion` steps the models say what the action does, under the policy of now,
//! and the critic's share is discounted.

use super::critics::Guidance;
use super::score_step::ScoreStep;
use super::Drcorl;
use crate::critics::{join, upper_confidence};
use drcorl_core::algorithm::Context;
use drcorl_core::hybrid::Mode;
use drcorl_core::offline::{Foresight, Moment, Outlook, Signal};
use drcorl_core::policy::FrozenPolicy;
use tch::Tensor;

/// The models, and where the rows of the batch are in them.
pub(super) struct Ahead {
    foresight: Foresight,
    start: Moment,
}

impl Drcorl {
    /// Before the policy step on the logged rows `[B]`: where they are in the models, if these may steer.
    pub(super) fn look_from(&mut self, rows: &Tensor, context: &Context<'_>) {
        // What was collected on a visit stands in no log, and so has no past.
        let collects = context.run.mode == Mode::HybridData;
        if self.config.value_expansion == 0 || collects || !self.models_steer(context) {
            return;
        }
        let known = self.ahead.take().map(|ahead| ahead.foresight).or_else(|| context.judge.foresight());
        self.ahead = known.map(|foresight| Ahead { start: foresight.moment(context.data, rows), foresight });
    }

    /// What the reward says at the policy's actions.
    pub(super) fn reward_guidance(&mut self, score: &ScoreStep) -> Guidance {
        let Some(ahead) = &self.ahead else { return self.critics.reward_guidance(score) };
        let twins = self.critics.reward.q.traced_target();
        let tail = |input: &Tensor| upper_confidence(&twins.values(input), 0.0);
        let (values, gradient) = self.foreseen(ahead, score, (Signal::Reward, self.facts.reward_factor), &tail);
        self.critics.scaled_reward(values, &gradient)
    }

    /// What cost `k` says at the policy's actions, with `cost_guidance_k` deviations.
    pub(super) fn cost_guidance(&mut self, score: &ScoreStep, k: usize) -> Guidance {
        let Some(ahead) = &self.ahead else { return self.critics.cost_guidance(score, k) };
        let members = self.critics.costs[k].critic.traced_values();
        let tail = |input: &Tensor| upper_confidence(&members(input), self.config.cost_guidance_k);
        let (values, gradient) = self.foreseen(ahead, score, (Signal::Cost(k), self.config.unit()), &tail);
        self.critics.scaled_cost(values, &gradient, k)
    }

    /// Values `[B,1]` and their slopes `[B,A]`: of a signal times a factor, and of what `tail` says of `[a | s]` then.
    fn foreseen(
        &self,
        ahead: &Ahead,
        score: &ScoreStep,
        (signal, factor): (Signal, f64),
        tail: &dyn Fn(&Tensor) -> Tensor,
    ) -> (Tensor, Tensor) {
        let live = self.policy.live();
        let outlook = Outlook {
            signal,
            steps: self.config.value_expansion,
            gamma: self.config.gamma,
            factor,
            act: &|observation| live.act(observation),
            value: &|action, observation| tail(&join(action, observation)),
        };
        ahead.foresight.slope(&ahead.start, &score.action, &outlook)
    }
}
