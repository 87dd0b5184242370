//! Guidance that looks ahead: a few steps in the dynamics models before a critic's value, model-based value expansion
//! (Feinberg et al. 2018, arXiv:1803.00101). Ours, not the paper's, whose guidance is the critics' alone.
//!
//! A critic's slope is wrong where the policy leaves the data, and a frozen one never learns of it. Over
//! `value_expansion` steps the models say what the action does, under the policy of now,
//! and the critic's share is discounted.

use super::critics::Guidance;
use super::score_step::ScoreStep;
use super::Drcorl;
use crate::critics::join;
use drcorl_core::algorithm::Context;
use drcorl_core::hybrid::Mode;
use drcorl_core::offline::{Foresight, Moment, Outlook, Signal};
use drcorl_core::policy::FrozenPolicy;
use drcorl_nn::Traced;
use tch::{Kind, Tensor};

/// The models, and where the rows of the batch are in them.
pub(super) struct Ahead {
    foresight: Foresight,
    start: Moment,
}

impl Drcorl {
    /// Before the policy step on the logged rows `[B]`: where they are in the models, if these may steer.
    pub(super) fn look_from(&mut self, rows: &Tensor, context: &Context<'_>) {
        // What was collected on a visit stands in no log, and so has no past.
        let unfit = |drcorl: &Self| (0..context.run.costs()).any(|k| drcorl.models_unfit(k, context).is_some());
        let collects = context.run.mode == Mode::HybridData;
        if self.config.value_expansion == 0 || collects || unfit(self) {
            return;
        }
        let known = self.ahead.take().map(|ahead| ahead.foresight).or_else(|| context.judge.foresight());
        self.ahead = known.map(|foresight| Ahead { start: foresight.moment(context.data, rows), foresight });
    }

    /// What the reward says at the policy's actions.
    pub(super) fn reward_guidance(&mut self, score: &ScoreStep) -> Guidance {
        let Some(ahead) = &self.ahead else { return self.critics.reward_guidance(score) };
        let q = &self.critics.reward.q;
        let (values, gradient) = self.foreseen(ahead, score, Signal::Reward, &Traced::of(q.net(), q.target()), 0.0);
        self.critics.scaled_reward(values, &gradient)
    }

    /// What cost `k` says at the policy's actions, with `cost_guidance_k` deviations.
    pub(super) fn cost_guidance(&mut self, score: &ScoreStep, k: usize) -> Guidance {
        let tail = {
            let q = &self.critics.of_cost(k).q;
            Traced::of(q.net(), q.target())
        };
        let Some(ahead) = &self.ahead else { return self.critics.cost_guidance(score, k) };
        let deviations = self.config.cost_guidance_k;
        let (values, gradient) = self.foreseen(ahead, score, Signal::Cost(k), &tail, deviations);
        self.critics.scaled_cost(values, &gradient, k)
    }

    /// Values `[B,1]` and their slopes `[B,A]`; the tail is the mean of the critics plus `k` deviations.
    fn foreseen(&self, ahead: &Ahead, score: &ScoreStep, signal: Signal, critics: &Traced, k: f64) -> (Tensor, Tensor) {
        let live = self.policy.live();
        let value = |action: &Tensor, observation: &Tensor| {
            let members = critics.run(&join(action, observation).unsqueeze(0));
            let mean = members.mean_dim(0i64, false, Kind::Float);
            if k == 0.0 || critics.members() == 1 {
                return mean;
            }
            mean + members.std_dim(0i64, true, false) * k
        };
        let factor = match signal {
            Signal::Reward => self.facts.reward_factor,
            Signal::Cost(_) => self.config.unit(),
        };
        let outlook = Outlook {
            signal,
            steps: self.config.value_expansion,
            gamma: self.config.gamma,
            factor,
            act: &|observation| live.act(observation),
            value: &value,
        };
        ahead.foresight.slope(&ahead.start, &score.action, &outlook)
    }
}
