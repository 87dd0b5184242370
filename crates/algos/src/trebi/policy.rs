//! The trained networks as a policy: a file of kind `planner`, which `drcorl-actor` plays for everyone.

use super::config::{CostWeightBy, GuideEntries, PlanBudgetUnit, Ranking, TrebiConfig, ValueScale};
use super::windows::{Scale, Windows};
use drcorl_actor::PolicyFile;
use drcorl_core::error::Result;
use drcorl_core::policy::{host, PlayedFile};
use drcorl_nn::Arena;

/// Adds the parameters of a network under `name`.
pub fn insert(file: &mut PolicyFile, name: &str, arena: &Arena) -> Result<()> {
    for parameter in arena.names() {
        let Some((value, _)) = arena.named(parameter) else { continue };
        let shape: Vec<usize> = value.size().iter().map(|&d| d as usize).collect();
        file.insert(&format!("{name}.{parameter}"), &shape, host(value)?);
    }
    Ok(())
}

/// Lets the last layer of a value net give sums instead of scaled ones.
fn unscale(file: &mut PolicyFile, name: &str, scale: Scale) {
    for (parameter, offset) in [("weight", 0.0), ("bias", scale.mean)] {
        if let Some(array) = file.tensors.get_mut(&format!("{name}.final_block.2.{parameter}")) {
            array.values.iter_mut().for_each(|x| *x = (f64::from(*x) * scale.std + offset) as f32);
        }
    }
}

/// The policy of averaged networks: the denoiser's, and the value nets' of reward and cost.
pub fn freeze(
    [denoiser, reward, cost]: [&Arena; 3],
    config: &TrebiConfig,
    windows: &Windows,
    (cost_limit, episode_length, seed): (f64, usize, u64),
    [states, actions]: [usize; 2],
) -> Result<PlayedFile> {
    let mut file = PolicyFile::new("planner");
    for (name, arena) in [("denoiser", denoiser), ("reward_value", reward), ("cost_value", cost)] {
        insert(&mut file, name, arena)?;
    }
    unscale(&mut file, "reward_value", windows.scales[0]);
    unscale(&mut file, "cost_value", windows.scales[1]);
    file.insert("plan.action_mean", &[actions], windows.action_mean.clone());
    file.insert("plan.action_std", &[actions], windows.action_std.clone());
    file.set("plan_length", config.horizon);
    file.set("noise_levels", config.noise_levels);
    file.set("denoiser_levels", config.denoiser_hidden.len());
    file.set("value_levels", config.value_hidden.len());
    file.set("gamma", config.gamma);
    file.set("episode_length", episode_length);
    file.set("seed", seed);
    file.set("guide_repeats", config.guide_repeats);
    file.set("guide_stop", config.guide_stop);
    let units = match config.value_scale {
        ValueScale::Raw => [1.0; 2],
        ValueScale::Standardized => [windows.scales[0].std, windows.scales[1].std],
    };
    file.set("reward_unit", units[0]);
    file.set("cost_unit", units[1]);
    let budget = match config.budget {
        PlanBudgetUnit::Limit => "limit",
        PlanBudgetUnit::Even => "even",
        PlanBudgetUnit::Remaining => "remaining",
    };
    file.set("budget", budget);
    let by = match config.cost_weight_by {
        CostWeightBy::Constant => "constant",
        CostWeightBy::Relative => "relative",
        CostWeightBy::Guarded => "guarded",
    };
    file.set("cost_weight_by", by);
    file.set("guide_entries", if config.guide_entries == GuideEntries::All { "all" } else { "actions" });
    file.set("ranking", if config.ranking == Ranking::Stale { "stale" } else { "final" });
    file.set_setting("cost_limit", cost_limit);
    file.set_setting("candidates", config.plans as f64);
    file.set_setting("replan_interval", config.replan_interval as f64);
    file.set_setting("guide_scale", config.guide_scale);
    file.set_setting("cost_weight", config.cost_weight);
    Ok(PlayedFile::new(file, states as i64, actions as i64))
}
