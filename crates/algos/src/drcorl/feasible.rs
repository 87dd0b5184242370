//! The switch of every state (`adaptation: state`, and `auto` where models do not steer).
//! Ours, not the paper's, whose switch is one for all states.
//!
//! A feasibility critic of logged actions, as FISOR's, says how violent the worst is that follows an action, from -1,
//! none by far, to 1. A state whose action stays below a threshold follows the reward; any other one moves away from
//! violations. In adaptation it may follow the policy: what the best of the data keeps free of violations the policy
//! need not. Algorithm 2 moves the threshold: up while the estimated cost leaves room below the limit, down while it
//! is above. Where no dynamics model can say what an episode costs nothing moves it from 0, the border of what can be
//! kept free of violations.

use super::adaptation::Branch;
use super::config::DrcorlConfig;
use super::critics::{acting, GuidanceScaler};
use super::diffusion::Draws;
use super::gate::REPORT_ROWS;
use super::options::{Adaptation, Gate};
use super::report::FeasibilityReport;
use super::score_step::StepGradient;
use super::Drcorl;
use crate::critics::{join, mean};
use crate::feasibility::critics::{FeasibilityCritic, Rates};
use crate::feasibility::margin::{costly, Classifier};
use crate::feasibility::Feasibility;
use crate::frame::Transition;
use drcorl_core::algorithm::{Context, Metrics};
use drcorl_core::dataset::{Batch, Dataset};
use drcorl_core::error::Result;
use drcorl_core::hybrid::Mode;
use drcorl_core::policy::FrozenPolicy;
use drcorl_core::run::RunConfig;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use tch::{Kind, Tensor};

/// Of the draws its networks begin with: a run that needs none of it draws as one that has none.
const STREAM: u64 = 0x6665_6173;
/// Rows in a batch.
const ROWS: usize = 256;
/// The classifier behind the margin: hidden layers, learning rate, the logit that stands for certainty.
const MARGIN: ([i64; 2], f64, f64) = ([256, 256], 1e-3, 4.0);
/// Learning rate of the critic, and the rate at which its targets follow.
const LEARNING: (f64, f64) = (1e-3, 0.01);
/// Expectile of V_h, FISOR's.
const EXPECTILE: f64 = 0.9;
/// Feasibility values over which a state goes from one guidance to the other.
const BAND: f64 = 0.2;
/// Cross entropy of the classifier, as a share of that of the mere frequency, from which on it knows too little.
const MOST_DOUBT: f64 = 0.5;
/// Least share of logged steps that cost nothing: where nearly all cost something, a violation is no event.
const LEAST_FREE: f64 = 0.1;

/// What knows whether violations can be avoided, and how many of them are allowed.
pub(super) struct Feasible {
    classifier: Classifier,
    critic: FeasibilityCritic,
    scaler: GuidanceScaler,
    /// False where costs cannot be told from actions and next states: all states then have one switch.
    sees: bool,
    /// Up to which feasibility value a state follows the reward.
    threshold: f64,
    /// Share of the last batch that followed the reward alone.
    share: f64,
}

impl Feasible {
    fn new(data: &Dataset, config: &DrcorlConfig, rng: &mut Rng) -> Self {
        let (sizes, device) = ((data.observations(), data.actions()), data.device());
        let (hidden, lr, logit) = MARGIN;
        let rates = Rates {
            feasibility: Feasibility::Reachability,
            gamma: config.feasibility_gamma,
            expectile: EXPECTILE,
            critic_lr: LEARNING.0,
            value_lr: LEARNING.0,
            target_rate: LEARNING.1,
            threshold: 0.0,
        };
        Feasible {
            classifier: Classifier::new(sizes.0 + sizes.1, &hidden, (lr, logit), device, rng),
            critic: FeasibilityCritic::new(rates, sizes, &config.critic_hidden, device, rng),
            scaler: GuidanceScaler::default(),
            sees: true,
            threshold: 0.0,
            share: 1.0,
        }
    }

    /// A batch as the critic sees it, which reads no rewards.
    fn transition(&mut self, batch: &Batch) -> Transition {
        let stop = batch.terminal();
        Transition {
            state_action: batch.state_action(),
            observation: batch.observation().contiguous(),
            reward: batch.reward(),
            next_observation: batch.next_observation().contiguous(),
            cost: self.classifier.margin(&outcome(batch)),
            cost_stop: stop.shallow_clone(),
            reward_stop: stop,
        }
    }

    /// Of the last step.
    pub fn metrics(&self) -> [(&'static str, f64); 2] {
        [("feasible_share", self.share), ("violation_threshold", self.threshold)]
    }

    /// Saves or restores everything that changes with training.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("margin", |state| self.classifier.head.persist(state))?;
        state.group("critic", |state| self.critic.persist(state))?;
        state.group("scaler", |state| self.scaler.persist(state))?;
        state.value("sees", &mut self.sees)?;
        state.value("threshold", &mut self.threshold)
    }
}

/// Weight `[B,1]` of the reward for feasibility values `[B,1]` less the threshold: 1 well below 0, 0 well above.
fn room(above: &Tensor) -> Tensor {
    let share: Tensor = 0.5 - above / BAND;
    share.clamp(0.0, 1.0)
}

/// What costs are read off, `[a | s']`: torques and speeds of now, places of then.
fn outcome(batch: &Batch) -> Tensor {
    join(&batch.action(), &batch.next_observation())
}

/// 1 where a transition has any of the first `costs` costs, `[B,1]`.
fn violates(batch: &Batch, costs: usize) -> Tensor {
    (1..costs).fold(costly(batch, 0), |any, k| any.maximum(&costly(batch, k)))
}

/// Share of logged steps without any of the costs that are bounded.
fn free(data: &Dataset, run: &RunConfig) -> f64 {
    let rows = data.columns.rewards.len();
    let costs: Vec<&[f32]> = (0..run.costs()).map(|k| data.costs_of(k)).collect();
    let count = (0..rows).filter(|&row| costs.iter().all(|cost| cost[row] <= 0.0)).count();
    count as f64 / rows as f64
}

impl Drcorl {
    /// What `adaptation: state` and `auto` need; None where all states have one switch, as they do where a violation is
    /// no event in the data: no step costs anything, or nearly every one does.
    pub(super) fn feasible(data: &Dataset, config: &DrcorlConfig, run: &RunConfig) -> Option<Feasible> {
        let events = || (LEAST_FREE..1.0).contains(&free(data, run));
        let mut rng = Rng::new(run.seed, STREAM);
        (config.may_switch_states() && events()).then(|| Feasible::new(data, config, &mut rng))
    }

    /// One step of the classifier first, then of the critic.
    pub(super) fn feasibility_step(&mut self, step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let Some(feasible) = &mut self.feasible else { return Ok(Metrics::new()) };
        let costs = context.run.costs();
        if step == self.config.margin_steps {
            let batch = context.data.sample(REPORT_ROWS, context.rng);
            let (loss, least) = feasible.classifier.doubt(&outcome(&batch), &violates(&batch, costs));
            feasible.sees = loss < MOST_DOUBT * least;
        }
        if !feasible.sees {
            return Ok(Metrics::new());
        }
        let batch = context.data.sample(ROWS, context.rng);
        if step < self.config.margin_steps {
            let loss = feasible.classifier.step(&outcome(&batch), &violates(&batch, costs));
            return Ok(vec![("margin_loss", loss)]);
        }
        let batch = feasible.transition(&batch);
        Ok(vec![("feasibility_loss", feasible.critic.step(&batch).1)])
    }

    /// The steps of the critic in a round of adaptation, on the actions of the policy as it draws them.
    pub(super) fn follow_feasibility(&mut self, context: &mut Context<'_>) {
        let Some(feasible) = &mut self.feasible else { return };
        for _ in 0..self.config.feasibility_updates_per_step {
            let batch = feasible.transition(&context.data.sample_mixed(ROWS, context.run.hybrid_share, context.rng));
            let next = acting(&mut self.policy, &batch.next_observation, context.rng);
            feasible.critic.follow(&batch, &next, self.config.adaptation_target_rate);
        }
    }

    /// True where every state is switched by itself.
    pub(super) fn by_states(&self, context: &Context<'_>) -> bool {
        let ordered = self.config.adaptation == Adaptation::Auto && self.models_order(context);
        self.config.may_switch_states() && !ordered && self.feasible.as_ref().is_some_and(|feasible| feasible.sees)
    }

    /// True where nothing can say what an episode costs, if states are switched by themselves: the models that were
    /// asked are not fit, and critics do not take their place.
    pub(super) fn blind(&self, context: &Context<'_>) -> bool {
        let asked = self.config.gate != Gate::CriticUcb && context.run.mode != Mode::HybridEval;
        asked && !self.models_steer(context)
    }

    /// One optimiser step on `observation [B,S]` by what each state has room for. `normalised` is `Chat / l` of every
    /// cost, by which Algorithm 2 moves the threshold; of none where nothing can say it. Returns the loss.
    pub(super) fn state_step(&mut self, step: u64, normalised: &[f64], observation: &Tensor, draws: &Draws) -> f64 {
        let (score, beta, lr) = (self.score(observation, draws), self.config.beta(step), self.actor_rate(step));
        let mut push = self.reward_guidance(&score).push;
        let moved = match self.followed(step, normalised).branch {
            _ if normalised.is_empty() => 0.0,
            Branch::Reward => 1.0,
            Branch::Band => 0.0,
            Branch::Cost => -1.0,
        };
        if let Some(feasible) = &mut self.feasible {
            // As slowly in the end as the policy that answers it.
            let rate = self.config.threshold_rate * lr / self.config.actor_lr;
            feasible.threshold = (feasible.threshold + rate * moved).clamp(-1.0, 1.0 + BAND / 2.0);
            let (value, slope) = feasible.critic.guidance(&score.state_action(), score.action.size()[1]);
            let room = room(&(value - feasible.threshold));
            push = push * &room - feasible.scaler.scale(&slope, self.config.guidance_scale) * (1.0 - &room);
            feasible.share = mean(&room.ge(1.0).to_kind(Kind::Float));
            self.branches.count_states(&room);
        }
        let StepGradient { gradient, loss } = score.gradient(&mut self.policy, Some(&(push * beta)));
        self.policy.apply(&gradient, lr, self.config.average_keep);
        loss
    }

    /// What the certificate says of it; None where all states have one switch.
    pub(super) fn feasibility(
        &mut self,
        policy: &dyn FrozenPolicy,
        context: &mut Context<'_>,
    ) -> Option<FeasibilityReport> {
        let by_states = self.by_states(context);
        let feasible = self.feasible.as_mut().filter(|_| by_states)?;
        let batch = context.data.sample(REPORT_ROWS, context.rng);
        let observation = batch.observation().contiguous();
        let played = join(&policy.act(&observation), &observation);
        let mut share = |input: &Tensor| mean(&feasible.critic.above(input).le(0.0).to_kind(Kind::Float));
        let (logged_actions, policy_actions) = (share(&batch.state_action()), share(&played));
        Some(FeasibilityReport { threshold: feasible.threshold, logged_actions, policy_actions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state's weight of the reward falls from 1 to 0 over the band around the threshold.
    #[test]
    fn room_of_states() {
        let values = Tensor::from_slice(&[-1.0_f32, -0.1, -0.05, 0.0, 0.1, 1.0]).view([6, 1]);
        let found = Vec::<f32>::try_from(room(&values).flatten(0, 1)).unwrap();
        for (found, exact) in found.into_iter().zip([1.0, 1.0, 0.75, 0.5, 0.0, 0.0]) {
            assert!((found - exact).abs() < 1e-6, "{found} {exact}");
        }
    }
}
