//! DRCORL: diffusion-regularised constrained offline reinforcement learning (arXiv 2502.12391),
//! the paper's Algorithm 1.
//!
//! 1. *behavior*: a diffusion model `eps(a_t, s, t)` of the logged actions, (5); then it is frozen.
//! 2. *warm-up*: the policy, `a = tanh(MLP(s))` or a Gaussian around it, follows the score term of (21) alone to a mode
//!    of the data.
//! 3. *critics*: reward by implicit Q-learning on logged actions, (16) and (17); cost by an ensemble, of the policy's
//!    actions unless it is chosen otherwise, with pessimism, (18).
//! 4. *adaptation*: critic steps, then one policy step by Algorithm 2: the offline estimate `Chat` of the episodic cost
//!    chooses the reward step (19) while `Chat/l <= 1 - h-`, both steps combined by gradient manipulation (12) up to
//!    `1 + h+`, the cost step (20) above. The slacks h go to 0 linearly, the temperature beta rises.
//!    What ships is the running average of the policy, of the last step or of the one that models think best.
//!
//! Two phases are ours and only there where they are asked for: *feasibility*, before adaptation, learns from which
//! states violations can be avoided, for a switch of every state by itself; *following*, after it, is adaptation once
//! more from the same beginning, with a reward critic that follows the policy.
//!
//! Deviations from the published code, all of them repairs: costs are `[B,1]` and asserted; the cost critic is
//! pessimistic; the spread is over members at one state; no environment is ever stepped, neither for the gate nor for
//! selection; the PID set point is the limit in the critics' unit, with anti-windup; (12) acts on raw gradients of the
//! same noise, followed by one optimiser step, unless it is asked for in the space of updates; returns are summed over
//! episodes as flagged; the control variate is on. Deviation from the paper: critics start after the warm-up,
//! so that the cost ensemble is evaluated on the actions of a policy and not of an untrained network.

pub mod adaptation;
pub mod behavior;
pub mod config;
pub mod critics;
pub mod diffusion;
pub mod divergence;
mod expansion;
pub mod facts;
mod feasible;
mod gate;
pub mod gradient;
mod metrics;
mod mixture;
pub mod options;
mod pretraining;
mod report;
pub mod score_step;
mod selection;

use crate::lagrange::Pid;
use adaptation::{Branch, BranchCounts, Followed};
use behavior::BehaviorModel;
use config::DrcorlConfig;
use critics::RewardAndCost;
use diffusion::Draws;
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset, Pretraining};
use drcorl_core::error::Result;
use drcorl_core::hybrid::Mode;
use drcorl_core::metrics::Metric;
use drcorl_core::offline::CriticEstimates;
use drcorl_core::policy::{FrozenPolicy, Policy};
use drcorl_core::results::schema_of;
use drcorl_core::run::RunConfig;
use drcorl_nn::checkpoint::{Snapshot, State};
use drcorl_nn::optim::cosine;
use drcorl_nn::profile;
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use expansion::Ahead;
use facts::Facts;
use feasible::Feasible;
use gate::GateEstimate;
use mixture::Mixture;
use options::{Adaptation, Gate, ManipulationSpace, RewardCritic};
use report::Diagnostics;
use schemars::Schema;
use score_step::{ScoreStep, StepGradient};
use selection::Selected;
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};

/// Upper bound of the PID multiplier of the Lagrangian cost step.
const MULTIPLIER_CAP: f64 = 100.0;

/// Which of the courses of adaptation; `reward_critic: both` has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    First,
    Second,
}

/// A row of Algorithm 1.
struct Stage {
    name: &'static str,
    steps: fn(&DrcorlConfig) -> u64,
    step: fn(&mut Drcorl, u64, &mut Context<'_>) -> Result<Metrics>,
    /// True if the policy meets the environment in the hybrid modes.
    visits: fn(&DrcorlConfig) -> bool,
    /// True where a run has no use for it, asked once the dynamics models are tested.
    left_out: fn(&Drcorl, &Context<'_>) -> bool,
}

/// A row that never meets the environment and is always made.
const PLAIN: Stage =
    Stage { name: "", steps: |_| 0, step: |_, _, _| Ok(Metrics::new()), visits: |_| false, left_out: |_, _| false };

/// Algorithm 1.
const STAGES: [Stage; 6] = [
    Stage { name: "behavior", steps: |config| config.behavior_steps, step: Drcorl::behavior_step, ..PLAIN },
    Stage { name: "warm-up", steps: |config| config.warmup_steps, step: Drcorl::warmup_step, ..PLAIN },
    Stage {
        name: "critics",
        steps: |config| config.critic_init_steps + config.critic_steps,
        step: Drcorl::critic_step,
        ..PLAIN
    },
    Stage {
        name: "feasibility",
        steps: |config| if config.may_switch_states() { config.margin_steps + config.feasibility_steps } else { 0 },
        step: Drcorl::feasibility_step,
        left_out: |drcorl, context| !drcorl.by_states(context),
        ..PLAIN
    },
    Stage {
        name: "adaptation",
        steps: |config| config.adaptation_steps,
        step: |drcorl, step, context| drcorl.adaptation_step(step, Course::First, context),
        visits: |config| !config.adapts_twice(),
        // The first of two courses, where no models could choose between them or the environment is met.
        left_out: |drcorl, context| {
            drcorl.config.adapts_twice() && (context.run.mode != Mode::Offline || !drcorl.models_steer(context))
        },
    },
    Stage {
        name: "following",
        steps: |config| if config.adapts_twice() { config.adaptation_steps } else { 0 },
        step: |drcorl, step, context| drcorl.adaptation_step(step, Course::Second, context),
        visits: |_| true,
        ..PLAIN
    },
];

/// The state of a run.
pub struct Drcorl {
    pub config: DrcorlConfig,
    facts: Facts,
    pub behavior: BehaviorModel,
    pub policy: Policy,
    pub critics: RewardAndCost,
    pub pid: Pid,
    /// What the switch reads, one a cost.
    estimates: Vec<GateEstimate>,
    branches: BranchCounts,
    selected: Selected,
    mixture: Mixture,
    /// Made in every round; None where the critics guide alone.
    ahead: Option<Ahead>,
    /// None where all states have one switch.
    feasible: Option<Feasible>,
    /// Everything that adaptation changes, as it was before the first of two courses; until the second begins with it.
    beginning: Option<Snapshot>,
    /// Entries of an observation and of an action.
    sizes: [i64; 2],
}

impl Drcorl {
    /// Fresh networks for `(S, A)`.
    pub fn new(
        config: DrcorlConfig,
        (states, actions): (i64, i64),
        facts: Facts,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let shape = ScoreNetShape {
            observations: states,
            actions,
            hidden: config.behavior_hidden,
            blocks: config.behavior_blocks,
            expansion: config.behavior_expansion,
        };
        let behavior = BehaviorModel::new(shape, config.behavior_dropout, config.behavior_weight_decay, device, rng);
        let policy = Policy::spread(states, actions, &config.actor_hidden, config.spread(), true, device, rng);
        Drcorl {
            critics: RewardAndCost::new(&config, (states, actions), &facts, device, rng),
            // The gains are those of errors in discounted sums, whatever unit the critics speak.
            pid: Pid::new(config.pid.map(|gain| gain / config.unit()), facts.set_point, Some(MULTIPLIER_CAP)),
            // Made at the first step of adaptation. Until then nothing of the state knows the limit.
            estimates: vec![GateEstimate { cost: f64::MAX, target: 0.0 }; facts.costs.len()],
            branches: BranchCounts::default(),
            selected: Selected::none(policy.averaged()),
            // A run has slots, which are drawn by its seed.
            mixture: Mixture::of(&policy, 0, 0),
            ahead: None,
            feasible: None,
            beginning: None,
            sizes: [states, actions],
            config,
            facts,
            behavior,
            policy,
        }
    }

    /// One step of the denoiser along (5).
    fn behavior_step(&mut self, step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let config = &self.config;
        let batch = context.data.sample_from(&self.facts.behavior_rows, config.behavior_batch, context.rng);
        let draws = Draws::take(batch.len(), context);
        let dropout = self.behavior.draw_dropout(context.rng);
        let lr = cosine(config.behavior_lr, config.behavior_lr_final, step, config.behavior_steps);
        let loss = self.behavior.step(&batch.observation(), &batch.action(), &draws, &dropout, lr);
        Ok(vec![("behavior_loss", loss)])
    }

    /// One policy step along the score term of (21) alone.
    fn warmup_step(&mut self, step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let batch = context.data.sample(self.config.actor_batch, context.rng);
        let draws = Draws::of_policy(batch.len(), self.policy.draws(), context);
        let score = self.score(&batch.observation(), &draws);
        let result = score.gradient(&mut self.policy, None);
        let lr = cosine(self.config.warmup_lr, 0.1 * self.config.warmup_lr, step, self.config.warmup_steps);
        self.policy.apply(&result.gradient, lr, self.config.average_keep);
        let error = (&score.action - batch.action()).square().mean(Kind::Double).double_value(&[]);
        Ok(vec![("policy_loss", result.loss), ("action_mse", error)])
    }

    /// One step of both critics: on Monte-Carlo returns first, then along (16), (17) and (18).
    fn critic_step(&mut self, step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let batch = context.data.sample(self.config.critic_batch, context.rng);
        let (reward, cost) = if step < self.config.critic_init_steps {
            self.critics.regress(&batch, &self.facts.monte_carlo.index_select(0, &batch.rows))?
        } else {
            (self.critics.update_reward(&batch)?, self.critics.update_cost(&batch, &mut self.policy, context.rng)?)
        };
        Ok(vec![("reward_critic_loss", reward), ("cost_critic_loss", cost)])
    }

    /// One round of the loop of Algorithm 1: the estimate, the critics on the policy of now, the policy.
    fn adaptation_step(&mut self, step: u64, course: Course, context: &mut Context<'_>) -> Result<Metrics> {
        if step == 0 {
            self.begin(course, context)?;
        }
        // Estimates first: they may be cancelled, and nothing that cannot be repeated has happened yet.
        let by_states = self.by_states(context) && step >= self.config.prologue_steps;
        let blind = by_states && self.blind(context);
        if !blind {
            let _estimates = profile::open("gate and selection");
            self.consider(step, course, context)?;
            self.refresh_estimate(step, context)?;
        }
        let cost_loss = {
            let _critics = profile::open("critics");
            if by_states {
                self.follow_feasibility(context);
            }
            self.update_critics(course, context)?
        };
        let _policy = profile::open("policy");
        let batch = context.data.sample_mixed(self.config.actor_batch, context.run.hybrid_share, context.rng);
        let draws = Draws::of_policy(batch.len(), self.policy.draws(), context);
        self.look_from(&batch.rows, context);
        let gated = if blind { Vec::new() } else { self.gated(context) };
        let normalised: Vec<f64> = gated.into_iter().map(GateEstimate::normalised).collect();
        let policy_loss = if by_states {
            self.state_step(step, &normalised, &batch.observation(), &draws)
        } else {
            let iterate = self.mixture.iterate(&self.policy);
            let loss = self.policy_step(step, &normalised, &batch.observation(), &draws);
            self.mixture.offer(step, iterate);
            loss
        };
        let mut metrics = vec![("policy_loss", policy_loss), ("cost_critic_loss", cost_loss)];
        metrics.extend((!blind).then(|| ("cost_estimate", self.estimates[0].cost)));
        if normalised.len() > 1 {
            metrics.push(("limit_use", normalised.iter().fold(f64::NEG_INFINITY, |most, &use_| most.max(use_))));
        }
        metrics.extend(self.feasible.iter().filter(|_| by_states).flat_map(Feasible::metrics));
        metrics.extend(context.visit.map(|visit| ("cost_measured", visit.cost)));
        metrics.push(("beta", self.config.beta(step)));
        Ok(metrics)
    }

    /// Before the first step of a course. The second begins where the first has, draws included: it is the run that
    /// would have had no other.
    fn begin(&mut self, course: Course, context: &mut Context<'_>) -> Result<()> {
        let (twice, beginning) = (self.config.adapts_twice(), self.beginning.take());
        let all = |state: &mut State| {
            state.value("rng", &mut *context.rng)?;
            self.persist_adapted(state)
        };
        match (course, beginning) {
            (Course::First, _) if twice => self.beginning = Some(Snapshot::take(all)?),
            (Course::Second, Some(beginning)) => beginning.put_back(all)?,
            _ => {}
        }
        self.mixture.restart();
        self.policy.restart_average();
        self.critics.follow_costs(self.config.adaptation_target_rate);
        if self.reward_learning(course) == Some(RewardCritic::Td) {
            self.critics.reward.config.target_rate = self.config.adaptation_target_rate;
        }
        Ok(())
    }

    /// Saves or restores what adaptation changes, but for what is counted and selected over all of it.
    fn persist_adapted(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("policy", |state| self.policy.persist(state))?;
        self.critics.persist(state)?;
        state.group("pid", |state| self.pid.persist(state))?;
        match &mut self.feasible {
            Some(feasible) => state.group("feasible", |state| feasible.persist(state)),
            None => Ok(()),
        }
    }

    /// How the reward critic learns in a course; None where it rests, as the logged actions have made it.
    fn reward_learning(&self, course: Course) -> Option<RewardCritic> {
        match (self.config.reward_critic, course) {
            (RewardCritic::Both, Course::First) => None,
            (RewardCritic::Both, Course::Second) => Some(RewardCritic::Td),
            (chosen, _) => Some(chosen),
        }
    }

    /// The critic steps of a round; the mean loss of the cost critic.
    fn update_critics(&mut self, course: Course, context: &mut Context<'_>) -> Result<f64> {
        let (rows, share) = (self.config.critic_batch, context.run.hybrid_share);
        let learning = self.reward_learning(course);
        for _ in 0..learning.map_or(0, |_| self.config.reward_updates_per_step) {
            let batch = context.data.sample_mixed(rows, share, context.rng);
            match learning {
                Some(RewardCritic::Iql) => self.critics.update_reward(&batch)?,
                _ => self.critics.follow_reward(&batch, &mut self.policy, context.rng)?,
            };
        }
        let updates = self.config.cost_updates_per_step;
        let mut cost_loss = 0.0;
        for _ in 0..updates {
            let batch = context.data.sample_mixed(rows, share, context.rng);
            cost_loss += self.critics.update_cost(&batch, &mut self.policy, context.rng)? / updates as f64;
        }
        Ok(cost_loss)
    }

    /// Algorithm 2, Safe Adaptation, for `Chat / l` of every cost: one optimiser step of the policy on
    /// `observation [B,S]`. Returns the loss.
    pub fn policy_step(&mut self, step: u64, normalised: &[f64], observation: &Tensor, draws: &Draws) -> f64 {
        let score = self.score(observation, draws);
        let beta = self.config.beta(step);
        let lr = self.actor_rate(step);
        let Followed { branch, costs, over } = self.followed(step, normalised);
        self.branches.count(branch);
        self.mixture.weigh(branch, step < self.config.prologue_steps);
        if branch == Branch::Band && self.config.manipulation_space == ManipulationSpace::Update {
            let [reward, cost] = self.band_update([&score, &score], beta, over.is_some(), [lr; 2]);
            return 0.5 * (reward + cost);
        }
        let StepGradient { gradient, loss } = match branch {
            Branch::Reward => self.reward_gradient(&score, beta), // (19)
            Branch::Band => self.band_gradient(&score, beta, &costs, over), // (12)
            Branch::Cost => self.costs_gradient(&score, beta, &costs), // (20)
        };
        self.policy.apply(&gradient, lr, self.config.average_keep);
        loss
    }

    /// Learning rate of the actor at `step` of adaptation.
    fn actor_rate(&self, step: u64) -> f64 {
        cosine(self.config.actor_lr, self.config.actor_lr_final, step, self.config.adaptation_steps)
    }

    /// The policy's actions at `observation [B,S]` and the pull of the data on them.
    pub fn score(&mut self, observation: &Tensor, draws: &Draws) -> ScoreStep {
        ScoreStep::new(&mut self.policy, &self.behavior, observation, draws, &self.config)
    }
}

impl Drcorl {
    /// The average or the candidate that ships, and what is kept beside it.
    fn kept(&self) -> Result<Vec<NamedPolicy>> {
        let selected = self.selected.policy.duplicate();
        let mut policies = Vec::new();
        if self.ships_selected() {
            policies.push(NamedPolicy::new("averaged", selected));
        } else {
            policies.push(NamedPolicy::new("averaged", self.policy.averaged()));
            policies.extend(self.selected.found.then(|| NamedPolicy::new("selected", selected)));
        }
        policies.extend(self.mixed()?.map(|mixture| NamedPolicy::new("mixture", mixture)));
        Ok(policies)
    }
}

impl Define for Drcorl {
    type Config = DrcorlConfig;
    const NAME: &'static str = "drcorl";
    const LABEL: &'static str = "DRCORL";
    const SUMMARY: &'static str = "Diffusion-regularised policy, pessimistic cost critics, gradient manipulation, Safe Adaptation behind an offline gate.";
    const DIAGNOSTICS: Option<fn() -> Schema> = Some(schema_of::<Diagnostics>);
    const METRICS: &'static [Metric] = metrics::METRICS;
    const PRETRAINING: Option<&'static Pretraining> = Some(&pretraining::PRETRAINING);

    fn defaults() -> DrcorlConfig {
        DrcorlConfig::default()
    }

    fn presets() -> Vec<Preset<DrcorlConfig>> {
        DrcorlConfig::presets()
    }

    fn check(config: &DrcorlConfig, run: &RunConfig) -> Result<()> {
        config.check(run)
    }

    fn several_costs(config: &DrcorlConfig) -> bool {
        config.takes_several_costs()
    }

    fn build(config: DrcorlConfig, context: &mut Context<'_>) -> Result<Self> {
        let data = context.data;
        let facts = Facts::of(data, &config, context.run)?;
        let iterates = config.mixture_iterates;
        let sizes = (data.observations(), data.actions());
        let mut drcorl = Drcorl::new(config, sizes, facts, data.device(), context.rng);
        drcorl.mixture = Mixture::of(&drcorl.policy, iterates, context.run.seed);
        drcorl.feasible = Drcorl::feasible(data, &drcorl.config, context.run);
        Ok(drcorl)
    }
}

impl Algorithm for Drcorl {
    fn phases(&self) -> Vec<Phase> {
        STAGES.iter().map(|stage| Phase { name: stage.name, steps: (stage.steps)(&self.config) }).collect()
    }

    fn needs_model(&self) -> bool {
        self.config.gate != Gate::CriticUcb
    }

    fn needs_reader(&self, context: &Context<'_>) -> bool {
        self.config.adaptation != Adaptation::Auto || self.models_order(context)
    }

    fn leaves_out(&self, phase: usize, context: &Context<'_>) -> bool {
        (STAGES[phase].left_out)(self, context)
    }

    fn visitor(&self, phase: usize) -> Option<Box<dyn FrozenPolicy>> {
        (STAGES.get(phase)?.visits)(&self.config).then(|| Box::new(self.policy.live()) as Box<dyn FrozenPolicy>)
    }

    fn step(&mut self, phase: usize, step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        (STAGES[phase].step)(self, step, context)
    }

    fn policies(&self) -> Result<Vec<NamedPolicy>> {
        self.kept()
    }

    fn critic_estimates(
        &mut self,
        policy: &dyn FrozenPolicy,
        cost: usize,
        context: &mut Context<'_>,
    ) -> Option<CriticEstimates> {
        // Critics look at single states, and who plays in one of the mixture depends on how its episode began.
        (!policy.remembers()).then(|| self.estimates_on_all_sets(cost, policy, context))
    }

    fn diagnostics(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Map<String, Value> {
        match serde_json::to_value(self.report(policy, context)) {
            Ok(Value::Object(facts)) => facts,
            _ => Map::new(),
        }
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("behavior", |state| self.behavior.persist(state))?;
        self.persist_adapted(state)?;
        for (k, estimate) in self.estimates.iter_mut().enumerate() {
            let name = if k == 0 { "estimate".to_string() } else { format!("estimate_{k}") };
            state.value(&name, estimate)?;
        }
        state.snapshot("beginning", &mut self.beginning)?;
        state.value("branches", &mut self.branches)?;
        self.selected.persist(state)?;
        state.group("mixture", |state| self.mixture.persist(state))
    }
}

#[cfg(test)]
mod tests;
