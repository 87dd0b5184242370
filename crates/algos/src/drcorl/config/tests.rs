//! What the presets are, and what they refuse.

use super::*;
use drcorl_core::algorithm::ForTasks;

#[test]
fn presets_pass_their_own_check() {
    for preset in DrcorlConfig::presets() {
        preset.config.check(&preset.run).unwrap();
        for script in preset.tasks {
            script.config.check(&preset.run).unwrap();
        }
    }
}

/// Nine scripts for 13 tasks: two of them as `release` is, for AntVelocity and by themselves.
#[test]
fn every_published_script_has_its_tasks() {
    let scripts = DrcorlConfig::scripts();
    let tasks: Vec<&str> = scripts.iter().flat_map(|script| script.tasks).copied().collect();
    assert_eq!(tasks.len(), 12);
    assert!(tasks.iter().all(|task| tasks.iter().filter(|other| *other == task).count() == 1));
    for ForTasks { tasks, config } in &scripts {
        let last = config.beta(config.adaptation_steps - 1);
        assert!((last - 0.01 * (config.adaptation_steps as f64).sqrt()).abs() < 5e-4, "{tasks:?}");
        assert_eq!([config.warmup_lr, config.actor_lr_final], [config.actor_lr; 2], "{tasks:?}");
    }
}

/// What the table prints, one line a row of it.
#[test]
fn the_paper_preset_is_the_printed_table() {
    let paper = DrcorlConfig::paper();
    assert_eq!((paper.actor_batch, paper.critic_batch), (256, 256));
    assert_eq!(paper.warmup_steps + paper.adaptation_steps, 2050);
    assert_eq!(
        (paper.actor_hidden.as_slice(), paper.critic_hidden.as_slice()),
        ([256, 256].as_slice(), [256, 256].as_slice())
    );
    assert_eq!([paper.actor_lr, paper.actor_lr_final, paper.critic_lr], [6e-4; 3]);
    assert_eq!((paper.gamma, paper.reward_target_rate, paper.cost_target_rate), (0.99, 0.005, 0.005));
    assert_eq!((paper.slack_above, paper.slack_below, paper.slack_schedule), (0.2, 0.2, SlackSchedule::Linear));
    assert_eq!(paper.pid, [0.1, 0.003, 0.001]);
    assert_eq!((paper.cost_members, paper.gate_k, paper.pessimism_alpha), (4, 2.0, 0.2));
    assert_eq!((paper.beta(0), paper.beta(1999)), (0.04, 1.0));
}

/// The published temperature 0.01 sqrt(epoch), to what the last epochs round.
#[test]
fn the_release_preset_has_the_published_temperature() {
    let release = DrcorlConfig::release();
    for step in [0u64, 500, 1999] {
        assert!((release.beta(step) - 0.01 * (step as f64).sqrt()).abs() < 5e-4, "{step}");
    }
}

#[test]
fn beta_follows_its_schedule() {
    let at = |schedule, step| {
        DrcorlConfig {
            beta_schedule: schedule,
            adaptation_steps: 101,
            beta_initial: 0.2,
            beta_final: 1.0,
            ..DrcorlConfig::default()
        }
        .beta(step)
    };
    assert_eq!((at(BetaSchedule::Linear, 0), at(BetaSchedule::Linear, 100)), (0.2, 1.0));
    assert!((at(BetaSchedule::Linear, 50) - 0.6).abs() < 1e-12);
    assert!((at(BetaSchedule::Sqrt, 25) - 0.6).abs() < 1e-12);
    assert_eq!(at(BetaSchedule::Constant, 3), 1.0);
}

#[test]
fn a_stepwise_constraint_needs_critics() {
    let stepwise = DrcorlConfig { constraint: Constraint::Stepwise, ..DrcorlConfig::default() };
    stepwise.check(&RunConfig::default()).unwrap();
    let measured = RunConfig { mode: Mode::HybridEval, ..RunConfig::default() };
    assert!(stepwise.check(&measured).is_err());
    let gated = DrcorlConfig { gate: Gate::Max, ..stepwise };
    assert!(gated.check(&RunConfig::default()).unwrap_err().to_string().contains("constraint is stepwise"));
}

#[test]
fn a_model_gate_without_models_is_refused() {
    let run = RunConfig { model_members: 0, ..RunConfig::default() };
    assert!(DrcorlConfig::quick().check(&run).err().unwrap().to_string().contains("critic_ucb"));
    DrcorlConfig { gate: Gate::CriticUcb, ..DrcorlConfig::quick() }.check(&run).unwrap();
}
