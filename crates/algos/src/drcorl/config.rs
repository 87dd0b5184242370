//! Parameters of DRCORL, their defaults and what follows from them; the presets are in [`presets`].

mod presets;

use super::diffusion::ScoreWeight;
use super::divergence::{Divergence, Weighing};
use super::options::{
    Adaptation, BehaviorData, BetaSchedule, Constraint, CostStep, Gate, GateStates, GuidanceScale, ManipulationSpace,
    PolicyClass, RewardCritic, RewardScaling, Ships, SlackSchedule, ValueUnit,
};
use crate::critics::{CostBackup, CostCriticKind, Pessimism};
use drcorl_core::error::Result;
use drcorl_core::hybrid::Mode;
use drcorl_core::policy::Spread;
use drcorl_core::run::{require, RunConfig};
use drcorl_core::schema::most;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of DRCORL. The defaults are the paper's numbers where it states them, but for the number of updates.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DrcorlConfig {
    /// Discount gamma of all critics.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub gamma: f64,

    /// Episodes the behavior model learns from.
    pub behavior_data: BehaviorData,
    /// Width of the behavior model.
    #[schemars(range(min = 1, max = most::WIDTH))]
    pub behavior_hidden: i64,
    /// Residual blocks of the behavior model.
    #[schemars(range(min = 1, max = 32))]
    pub behavior_blocks: usize,
    /// Inner width of a block as a multiple of behavior_hidden.
    #[schemars(range(min = 1, max = 16))]
    pub behavior_expansion: i64,
    /// Dropout before the layer norm of each block.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub behavior_dropout: f64,
    /// Decoupled weight decay of the behavior model.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub behavior_weight_decay: f64,
    /// Learning rate of the behavior model.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub behavior_lr: f64,
    /// Learning rate at the end of the behavior phase (cosine).
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub behavior_lr_final: f64,
    /// Rows in a batch of the behavior model.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub behavior_batch: usize,
    /// Gradient steps of the behavior model.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub behavior_steps: u64,

    /// Class of policies. A Gaussian ships as its mean; its file draws where the setting sample is 1.
    pub policy_class: PolicyClass,
    /// Standard deviation of gaussian_constant, and the one gaussian begins with, in actions mapped to [-1, 1].
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub policy_std: f64,
    /// Divergence from the data.
    pub divergence: Divergence,
    /// Hidden layer widths of the actor.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub actor_hidden: Vec<i64>,
    /// Rows in a batch of the actor.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub actor_batch: usize,
    /// Policy steps along the score term only, before the limit is looked at.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub warmup_steps: u64,
    /// Learning rate of the actor in the warm-up.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub warmup_lr: f64,
    /// Weight of the score term over diffusion time.
    pub score_weight: ScoreWeight,
    /// Subtract the drawn noise from the predicted one: same mean, a hundredth of the variance.
    pub control_variate: bool,

    /// Hidden layer widths of the critics.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub critic_hidden: Vec<i64>,
    /// Rows in a batch of the critics.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub critic_batch: usize,
    /// Learning rate of the critics.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub critic_lr: f64,
    /// Steps of regression on Monte-Carlo returns before bootstrapping.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub critic_init_steps: u64,
    /// Steps of bootstrapping before adaptation.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub critic_steps: u64,
    /// Unit of the critics' values.
    pub value_unit: ValueUnit,
    /// Scaling of rewards.
    pub reward_scaling: RewardScaling,
    /// Whose actions the reward critic learns from in adaptation.
    pub reward_critic: RewardCritic,
    /// Expectile of the reward critic's state value.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub reward_expectile: f64,
    /// Rate at which reward targets follow.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub reward_target_rate: f64,
    /// How the cost critics learn.
    pub cost_critic: CostCriticKind,
    /// Expectile of the state value of cost_critic iql; above 1/2 it is pessimistic.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub cost_expectile: f64,
    /// Members E of the cost ensemble.
    #[schemars(range(min = 1, max = 64))]
    pub cost_members: usize,
    /// What cost members bootstrap from.
    pub cost_backup: CostBackup,
    /// Standard deviations in the ucb backup.
    #[schemars(range(min = 0.0, max = most::DEVIATIONS))]
    pub cost_backup_k: f64,
    /// Pessimism of the cost critic.
    pub pessimism: Pessimism,
    /// Strength alpha of the pessimism.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub pessimism_alpha: f64,
    /// Keep cost targets in the range the logged costs allow.
    pub cost_clamp: bool,
    /// Rate at which cost targets follow before adaptation.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub cost_target_rate: f64,

    /// Policy steps of Safe Adaptation.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub adaptation_steps: u64,
    /// Learning rate of the actor in adaptation.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub actor_lr: f64,
    /// Learning rate of the actor at the end of adaptation (cosine).
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub actor_lr_final: f64,
    /// Steps in the dynamics models before a critic's value, in the guidance of a policy step; 0 leaves the guidance to
    /// the critics, as in the paper, and so do models that may not steer and mode hybrid-data.
    #[schemars(range(min = 0, max = 1000))]
    pub value_expansion: usize,
    /// Cost critic updates before each policy step.
    #[schemars(range(min = 0, max = 1000))]
    pub cost_updates_per_step: u64,
    /// Reward critic updates before each policy step.
    #[schemars(range(min = 0, max = 1000))]
    pub reward_updates_per_step: u64,
    /// Rate at which targets follow in adaptation: those of cost, of feasibility where it follows the policy, and of
    /// reward where reward_critic is td.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub adaptation_target_rate: f64,
    /// Scale of the guidance.
    pub guidance_scale: GuidanceScale,
    /// Standard deviations over members in the cost guidance.
    #[schemars(range(min = 0.0, max = most::DEVIATIONS))]
    pub cost_guidance_k: f64,
    /// Temperature beta at the start of adaptation: the weight of the guidance against the score term.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub beta_initial: f64,
    /// Temperature beta at its end.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub beta_final: f64,
    /// Course of beta.
    pub beta_schedule: BetaSchedule,
    /// What is switched near the limit, and how.
    pub adaptation: Adaptation,
    /// Adaptation state and auto: steps of the classifier that knows violations.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub margin_steps: u64,
    /// Adaptation state and auto: steps of the critic that knows whether they can be avoided, after it.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub feasibility_steps: u64,
    /// Adaptation state and auto: discount of that critic. The nearer to 1, the further ahead a violation may lie that
    /// makes a state infeasible.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub feasibility_gamma: f64,
    /// Adaptation state and auto: updates of that critic before each policy step, along the policy's actions; with 0 it
    /// stays as logged actions have made it.
    #[schemars(range(min = 0, max = 1000))]
    pub feasibility_updates_per_step: u64,
    /// Adaptation state and auto: how far a policy step moves the threshold between reward and avoidance, which lies
    /// between -1 and 1; falls as actor_lr does.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold_rate: f64,
    /// What a step above the limit follows.
    pub cost_step: CostStep,
    /// First steps of adaptation that follow the reward whatever the estimate says.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub prologue_steps: u64,
    /// Course of the slacks.
    pub slack_schedule: SlackSchedule,
    /// Upper slack h+ at the start, as a share of the limit.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub slack_above: f64,
    /// Lower slack h- at the start, as a share of the limit.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub slack_below: f64,
    /// What the combination (12) combines.
    pub manipulation_space: ManipulationSpace,
    /// Largest weight of one gradient in the combination (12).
    #[schemars(range(max = most::FACTOR), extend("exclusiveMinimum" = 0.0))]
    pub manipulation_cap: f64,
    /// Multiplier of the fixed Lagrangian step.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub multiplier: f64,
    /// Gains KP, KI, KD of the PID Lagrangian step.
    #[schemars(inner(range(min = 0.0, max = most::FACTOR)))]
    pub pid: [f64; 3],

    /// What the limit bounds.
    pub constraint: Constraint,
    /// The estimate that is compared with the limit.
    pub gate: Gate,
    /// Share of the limit the models' estimate is steered to. Below 1 it leaves room for the error of the estimate.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub model_gate_margin: f64,
    /// Least correlation of replayed with logged costs, over held-out episodes, of models that are the gate;
    /// critics take the place of others.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub model_gate_correlation: f64,
    /// States of the critics' gate.
    pub gate_states: GateStates,
    /// Standard deviations over members in the critics' gate.
    #[schemars(range(min = 0.0, max = most::DEVIATIONS))]
    pub gate_k: f64,
    /// Policy steps between two estimates.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub gate_interval: u64,
    /// States in one estimate by the critics.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub gate_batch: usize,
    /// Initial states in one estimate by the dynamics models.
    #[schemars(range(min = 1, max = most::ROLLOUTS))]
    pub gate_rollouts: usize,
    /// Weight of the past in the running average of the policy, which is what ships.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub average_keep: f64,
    /// Policy steps between two candidates for the offline-selected policy.
    #[schemars(range(min = 1, max = most::STEPS))]
    pub candidate_interval: u64,
    /// Which running average is the policy to use.
    pub ships: Ships,
    /// Iterates of adaptation that are kept for the mixture policy; 0 keeps none.
    #[schemars(range(min = 0, max = 64))]
    pub mixture_iterates: usize,
}

impl Default for DrcorlConfig {
    fn default() -> Self {
        DrcorlConfig {
            gamma: 0.99,
            behavior_data: BehaviorData::All,
            behavior_hidden: 256,
            behavior_blocks: 3,
            behavior_expansion: 4,
            behavior_dropout: 0.1,
            behavior_weight_decay: 0.01,
            behavior_lr: 3e-4,
            behavior_lr_final: 3e-4,
            behavior_batch: 2048,
            behavior_steps: 2_000_000,
            policy_class: PolicyClass::Dirac,
            policy_std: 0.1,
            divergence: Divergence::Diffused,
            actor_hidden: vec![256, 256],
            actor_batch: 256,
            warmup_steps: 50_000,
            warmup_lr: 6e-4,
            score_weight: ScoreWeight::Vds,
            control_variate: true,
            critic_hidden: vec![256, 256],
            critic_batch: 256,
            critic_lr: 6e-4,
            critic_init_steps: 0,
            critic_steps: 500_000,
            value_unit: ValueUnit::Discounted,
            reward_scaling: RewardScaling::ReturnRange,
            reward_critic: RewardCritic::Iql,
            reward_expectile: 0.7,
            reward_target_rate: 0.005,
            cost_critic: CostCriticKind::Td,
            cost_expectile: 0.7,
            cost_members: 4,
            cost_backup: CostBackup::Own,
            cost_backup_k: 2.0,
            pessimism: Pessimism::Cql,
            pessimism_alpha: 0.2,
            cost_clamp: true,
            cost_target_rate: 0.005,
            adaptation_steps: 50_000,
            actor_lr: 6e-4,
            actor_lr_final: 6e-4,
            value_expansion: 0,
            cost_updates_per_step: 1,
            reward_updates_per_step: 1,
            adaptation_target_rate: 0.005,
            guidance_scale: GuidanceScale::Raw,
            cost_guidance_k: 0.0,
            beta_initial: 0.04,
            beta_final: 1.0,
            beta_schedule: BetaSchedule::Linear,
            adaptation: Adaptation::Band,
            margin_steps: 2000,
            feasibility_steps: 10_000,
            feasibility_gamma: 0.99,
            feasibility_updates_per_step: 0,
            threshold_rate: 0.001,
            cost_step: CostStep::Cost,
            prologue_steps: 0,
            slack_schedule: SlackSchedule::Linear,
            slack_above: 0.2,
            slack_below: 0.2,
            manipulation_space: ManipulationSpace::Gradient,
            manipulation_cap: 10.0,
            multiplier: 0.1,
            pid: [0.1, 0.003, 0.001],
            constraint: Constraint::Episodic,
            gate: Gate::CriticUcb,
            model_gate_margin: 1.0,
            model_gate_correlation: 0.6,
            gate_states: GateStates::Dataset,
            gate_k: 2.0,
            gate_interval: 50,
            gate_batch: 1024,
            gate_rollouts: 64,
            average_keep: 0.99,
            candidate_interval: 500,
            ships: Ships::Selected,
            mixture_iterates: 8,
        }
    }
}

impl DrcorlConfig {
    /// Refuses what no field can refuse alone.
    pub fn check(&self, run: &RunConfig) -> Result<()> {
        let stepwise = self.constraint == Constraint::Stepwise;
        require(
            !stepwise || (self.gate == Gate::CriticUcb && run.mode != Mode::HybridEval),
            "constraint",
            "stepwise",
            "only critics tell one time of an episode from another: give --gate critic_ucb, and no --mode hybrid-eval",
        )?;
        require(
            self.reward_critic == RewardCritic::Iql || self.reward_updates_per_step > 0,
            "reward_updates_per_step",
            0,
            "reward_critic td and both learn in adaptation: give at least 1",
        )?;
        let needs_model = self.gate != Gate::CriticUcb && run.model_members == 0;
        require(
            !needs_model,
            "model_members",
            0,
            "gate model_rollout and max need a dynamics ensemble: give at least 1, or --gate critic_ucb",
        )
    }

    /// True unless something that is chosen speaks of one cost: multipliers, combined updates.
    pub fn takes_several_costs(&self) -> bool {
        self.cost_step == CostStep::Cost && self.manipulation_space == ManipulationSpace::Gradient
    }

    /// True where states may be switched by themselves.
    pub fn may_switch_states(&self) -> bool {
        match self.adaptation {
            Adaptation::Band | Adaptation::Crpo => false,
            Adaptation::State => true,
            Adaptation::Auto => self.gate != Gate::CriticUcb,
        }
    }

    /// True where adaptation has two courses.
    pub fn adapts_twice(&self) -> bool {
        self.reward_critic == RewardCritic::Both
    }

    /// Factor on a signal before a critic sees it.
    pub fn unit(&self) -> f64 {
        match self.value_unit {
            ValueUnit::PerStep => 1.0 - self.gamma,
            ValueUnit::Discounted => 1.0,
        }
    }

    /// The episodic cost that estimates are held against.
    pub fn bound(&self, run: &RunConfig) -> f64 {
        match self.constraint {
            Constraint::Hard => 0.0,
            Constraint::Episodic | Constraint::Stepwise => run.cost_limit,
        }
    }

    /// What stands around the mean of the policy.
    pub fn spread(&self) -> Spread {
        match self.policy_class {
            PolicyClass::Dirac => Spread::None,
            PolicyClass::GaussianConstant => Spread::Constant(self.policy_std),
            PolicyClass::Gaussian => Spread::Learnt(self.policy_std),
        }
    }

    /// How the divergence from the data is weighed.
    pub fn weighing(&self) -> Weighing {
        Weighing { divergence: self.divergence, weight: self.score_weight, control_variate: self.control_variate }
    }

    /// Temperature at `step` of adaptation.
    pub fn beta(&self, step: u64) -> f64 {
        let progress = step as f64 / (self.adaptation_steps.max(2) - 1) as f64;
        let share = match self.beta_schedule {
            BetaSchedule::Constant => 1.0,
            BetaSchedule::Sqrt => progress.sqrt(),
            BetaSchedule::Linear => progress,
        };
        self.beta_initial + (self.beta_final - self.beta_initial) * share
    }
}

#[cfg(test)]
mod tests;
