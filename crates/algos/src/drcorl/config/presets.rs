//! Presets of DRCORL: what they change of the defaults.

use super::DrcorlConfig;
use crate::critics::{CostCriticKind, Pessimism};
use crate::drcorl::diffusion::ScoreWeight;
use crate::drcorl::options::{
    Adaptation, BetaSchedule, CostStep, Gate, GateStates, GuidanceScale, ManipulationSpace, RewardCritic,
    RewardScaling, Ships, SlackSchedule, ValueUnit,
};
use drcorl_core::algorithm::{ForTasks, Preset};
use drcorl_core::run::{RunConfig, Scaling};

impl DrcorlConfig {
    /// Minutes on one core; found on one task and then left alone (shared settings of the prototype's measurements).
    pub fn quick() -> Self {
        DrcorlConfig {
            behavior_hidden: 128,
            behavior_expansion: 2,
            behavior_dropout: 0.0,
            behavior_lr: 1e-3,
            behavior_lr_final: 5e-5,
            behavior_batch: 256,
            behavior_steps: 8000,
            warmup_steps: 3000,
            warmup_lr: 1e-3,
            score_weight: ScoreWeight::Stable,
            critic_hidden: vec![128, 128],
            critic_lr: 5e-4,
            critic_init_steps: 1500,
            critic_steps: 8000,
            value_unit: ValueUnit::PerStep,
            reward_scaling: RewardScaling::Magnitude,
            reward_target_rate: 0.02,
            // Free, unlike the extra forward pass of (18): every backup adds a hundredth of the spread,
            // some 1/(1-gamma) backups deep.
            pessimism: Pessimism::TargetUcb,
            pessimism_alpha: 0.01,
            cost_target_rate: 0.02,
            adaptation_steps: 2500,
            actor_lr: 1e-4,
            actor_lr_final: 1e-5,
            cost_updates_per_step: 4,
            // Neither is better everywhere: values that follow the policy return 666 on BallCircle (three seeds), those
            // of logged actions 644; on point-circle (two seeds) 247 and 262.
            reward_critic: RewardCritic::Both,
            reward_updates_per_step: 2,
            adaptation_target_rate: 0.1,
            guidance_scale: GuidanceScale::BatchRms,
            beta_initial: 0.1,
            beta_final: 0.3,
            adaptation: Adaptation::Auto,
            feasibility_gamma: 0.98,
            feasibility_updates_per_step: 2,
            gate: Gate::ModelRollout,
            model_gate_margin: 0.6,
            gate_states: GateStates::Safe,
            gate_interval: 10,
            average_keep: 0.997,
            candidate_interval: 100,
            ..DrcorlConfig::default()
        }
    }

    /// Half an hour on one core: `quick` with networks twice as wide and twice the updates.
    pub fn full() -> Self {
        DrcorlConfig {
            behavior_hidden: 256,
            behavior_steps: 12_000,
            critic_hidden: vec![256, 256],
            critic_init_steps: 3000,
            critic_steps: 16_000,
            adaptation_steps: 5000,
            gate_interval: 20,
            average_keep: 0.9985,
            candidate_interval: 200,
            ..Self::quick()
        }
    }

    /// Table 2 of the paper as printed: 2,050 updates of the policy, of which the first 50 are those of the warm-up.
    /// What the paper leaves blank keeps its default.
    pub fn paper() -> Self {
        DrcorlConfig {
            warmup_steps: 50,
            cost_critic: CostCriticKind::TdDouble,
            cost_clamp: false,
            adaptation_steps: 2000,
            manipulation_space: ManipulationSpace::Update,
            gate_interval: 1,
            ships: Ships::Last,
            ..DrcorlConfig::default()
        }
    }

    /// What the published scripts set that have no flags of their own, but for what cannot be meant.
    pub fn release() -> Self {
        DrcorlConfig {
            warmup_lr: 3e-4,
            control_variate: false,
            critic_lr: 3e-4,
            cost_members: 2,
            pessimism: Pessimism::None,
            cost_clamp: false,
            adaptation_steps: 2000,
            actor_lr: 3e-4,
            actor_lr_final: 3e-4,
            // 0.01 sqrt(epoch), an epoch being one update.
            beta_initial: 0.0,
            beta_final: 0.447,
            beta_schedule: BetaSchedule::Sqrt,
            prologue_steps: 500,
            slack_schedule: SlackSchedule::Constant,
            slack_above: 0.5,
            slack_below: 0.5,
            manipulation_space: ManipulationSpace::Update,
            manipulation_cap: 1e6,
            gate_k: 0.0,
            gate_interval: 1,
            average_keep: 0.0,
            ships: Ships::Last,
            ..DrcorlConfig::default()
        }
    }

    /// The published scripts that have flags of their own, by their tasks.
    pub(super) fn scripts() -> Vec<ForTasks<Self>> {
        let script = |actor_lr: f64, warmup_steps: u64, adaptation_steps: u64| DrcorlConfig {
            warmup_lr: actor_lr,
            actor_lr,
            actor_lr_final: actor_lr,
            warmup_steps,
            adaptation_steps,
            beta_final: (10.0 * (adaptation_steps as f64).sqrt()).round() / 1000.0,
            ..Self::release()
        };
        let large = |config| DrcorlConfig { actor_batch: 512, critic_batch: 512, ..config };
        let careful = || DrcorlConfig { critic_lr: 1e-4, ..script(1e-5, 100_000, 2000) };
        let goal = large(script(1e-4, 100_000, 4000));
        let bullet = DrcorlConfig { cost_step: CostStep::LagrangianPid, ..script(1e-4, 100_000, 4000) };
        let cheetah = DrcorlConfig { critic_lr: 6e-4, ..script(1e-4, 50_000, 2000) };
        vec![
            ForTasks { tasks: &["HalfCheetahVelocity"], config: cheetah },
            ForTasks { tasks: &["HopperVelocity"], config: script(3e-4, 100_000, 4000) },
            ForTasks { tasks: &["Walker2dVelocity"], config: script(5e-5, 50_000, 8000) },
            ForTasks { tasks: &["CarGoal1"], config: goal },
            ForTasks { tasks: &["CarGoal2", "PointButton1"], config: large(careful()) },
            ForTasks { tasks: &["PointCircle1", "PointGoal1", "PointGoal2"], config: careful() },
            ForTasks { tasks: &["BallCircle", "CarCircle", "CarRun"], config: bullet },
        ]
    }

    /// Presets, the recommended one first.
    pub fn presets() -> Vec<Preset<Self>> {
        let run = || RunConfig {
            model_steps: 20_000,
            model_batch: 256,
            fqe_steps: 20_000,
            model_hidden: vec![256, 256],
            ..RunConfig::default()
        };
        let preset = |name, summary, config, run| Preset { name, summary, config, run, tasks: Vec::new() };
        vec![
            preset(
                "quick",
                "Minutes on one core: small networks, critics started from Monte-Carlo returns, the validated model gate.",
                Self::quick(),
                RunConfig::default(),
            ),
            preset(
                "full",
                "Half an hour on one core: quick with networks twice as wide and twice the updates.",
                Self::full(),
                RunConfig::default(),
            ),
            preset(
                "long",
                "The defaults: the published networks and pretraining, 50,000 steps of adaptation; days on a CPU.",
                Self::default(),
                run(),
            ),
            preset(
                "paper",
                "The paper's table as printed, with its 2,050 updates of the policy; days on a CPU for the pretraining.",
                Self::paper(),
                run(),
            ),
            Preset {
                tasks: Self::scripts(),
                ..preset(
                    "release",
                    "The published scripts without their faults, each for its tasks, on raw data; days on a CPU.",
                    Self::release(),
                    RunConfig { scaling: Scaling::Raw, ..run() },
                )
            },
        ]
    }
}
