//! Values that no learner can use as they are: constant, tiny, far away, or of the wrong sign.

use super::statistics::{Entry, Statistics};
use super::Finding;
use crate::columns::Columns;

/// A deviation below this is a sensor in an unusual unit: `--scaling raw` leaves it as it is, and no network sees it.
const TINY: f64 = 1e-4;
/// Relative step between neighbouring float32 numbers.
const STEP: f64 = 1.2e-7;
/// Steps of float32 within one deviation below which most of a column's digits are lost.
const STEPS: f64 = 1000.0;
/// An outlier lies this many times the range of all other values outside of it.
/// Heavy tails of contact forces reach about 5.
const RANGES: f64 = 10.0;
/// Share of values at each end that may be outliers, and the least number.
const TAIL: (f64, usize) = (1e-4, 3);
/// Below this many rows a range says nothing.
const ROWS: usize = 50;

pub(super) fn check(columns: &Columns, observations: &Statistics, actions: &Statistics) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(constant(columns, observations));
    findings.extend(scale(columns, observations));
    let scalar = |values: &[f32]| Statistics::of(values, 1);
    let parts: [(&str, &[f32], &Statistics); 5] = [
        ("observations", &columns.observations, observations),
        ("next_observations", &columns.next_observations, &Statistics::of(&columns.next_observations, columns.obs_dim)),
        ("actions", &columns.actions, actions),
        ("rewards", &columns.rewards, &scalar(&columns.rewards)),
        ("costs", &columns.costs, &scalar(&columns.costs)),
    ];
    findings.extend(parts.into_iter().filter_map(|(name, values, statistics)| outliers(name, values, statistics)));
    findings.extend(rewards_and_costs(columns));
    findings
}

fn constant(columns: &Columns, observations: &Statistics) -> Option<Finding> {
    let entries = observations.which(Entry::is_constant);
    if entries.is_empty() {
        return None;
    }
    let meaning = "never change in these entries: they carry no information".to_owned();
    let remedy = "leave them out, unless a policy has to take them";
    let found = Finding::warning("constant_observation", "observations", meaning, remedy);
    Some(found.entries(entries).at(columns.len() as u64, 0))
}

fn scale(columns: &Columns, observations: &Statistics) -> Vec<Finding> {
    let rows = columns.len() as u64;
    let varies = |entry: &Entry| !entry.is_constant();
    let coarse = |entry: &Entry| entry.std < STEPS * STEP * entry.mean.abs();
    let lost = observations.which(|entry| varies(entry) && coarse(entry));
    let tiny = observations.which(|entry| varies(entry) && !coarse(entry) && entry.std < TINY);
    let mut findings = Vec::new();
    if !lost.is_empty() {
        let meaning = "vary so little around a large mean that float32 keeps less than three digits of it".to_owned();
        let remedy = "subtract the mean before converting (for times: the start of the episode)";
        findings.push(Finding::warning("lost_digits", "observations", meaning, remedy).entries(lost).at(rows, 0));
    }
    if !tiny.is_empty() {
        let meaning =
            format!("vary by less than {TINY}: the unit is unusually large, and --scaling raw would hide them");
        let remedy = "choose a smaller unit, or keep --scaling standardized";
        findings.push(Finding::warning("tiny_unit", "observations", meaning, remedy).entries(tiny).at(rows, 0));
    }
    findings
}

/// A few values far outside the range of all others.
fn outliers(name: &str, values: &[f32], statistics: &Statistics) -> Option<Finding> {
    let dim = statistics.entries.len();
    let rows = values.len() / dim.max(1);
    if rows < ROWS {
        return None;
    }
    let tail = ((rows as f64 * TAIL.0) as usize).max(TAIL.1);
    let (mut entries, mut count, mut first, mut worst) = (Vec::new(), 0, usize::MAX, 0_f32);
    for (index, entry) in statistics.entries.iter().enumerate() {
        // One value that holds all of the variance is sqrt(rows) deviations away; sorting is for those that come near.
        let away = f64::from(entry.max) - entry.mean;
        let away = away.max(entry.mean - f64::from(entry.min));
        if entry.is_constant() || away < 0.3 * (rows as f64 / tail as f64).sqrt().min(30.0) * entry.std {
            continue;
        }
        let mut sorted: Vec<f32> = values.iter().skip(index).step_by(dim).copied().collect();
        sorted.select_nth_unstable_by(tail, f32::total_cmp);
        let low = f64::from(sorted[tail]);
        sorted.select_nth_unstable_by(rows - 1 - tail, f32::total_cmp);
        let high = f64::from(sorted[rows - 1 - tail]);
        // Rare events (a cost, a goal) are no outliers: all other values are equal.
        if high <= low {
            continue;
        }
        let margin = RANGES * (high - low);
        let is_outlier = |value: f32| f64::from(value) > high + margin || f64::from(value) < low - margin;
        let found: Vec<usize> = (0..rows).filter(|row| is_outlier(values[row * dim + index])).collect();
        if let Some(&row) = found.first() {
            entries.push(index);
            count += found.len();
            if row < first {
                (first, worst) = (row, values[row * dim + index]);
            }
        }
    }
    if entries.is_empty() {
        return None;
    }
    let meaning = match name {
        "actions" => format!(
            "hold {worst}, over {RANGES} times the range of all others away: the box of actions is stretched to it, and all others become one point"
        ),
        _ => format!("hold {worst}, over {RANGES} times the range of all others away: it outweighs them in every mean"),
    };
    let remedy = "repair or remove those rows (a sensor's error value, a unit, a decimal point?)";
    let entries = if dim == 1 { Vec::new() } else { entries };
    Some(Finding::warning("outliers", name, meaning, remedy).entries(entries).at(count as u64, first as u64))
}

fn rewards_and_costs(columns: &Columns) -> Vec<Finding> {
    let rows = columns.len() as u64;
    let mut findings = Vec::new();
    let negative = |cost: &f32| *cost < 0.0;
    if let Some(first) = columns.costs.iter().position(negative) {
        let count = columns.costs.iter().filter(|cost| negative(cost)).count() as u64;
        let meaning = format!(
            "hold {}: below 0, which no limit on a sum of costs expects; estimates take such costs for 0",
            columns.costs[first]
        );
        let remedy = "store costs as amounts of 0 and more (a reward with its sign changed is no cost)";
        findings.push(Finding::warning("negative_costs", "costs", meaning, remedy).at(count, first as u64));
    }
    let same = |values: &[f32]| values.iter().all(|value| *value == values[0]);
    if same(&columns.costs) {
        let (code, meaning) = match columns.costs[0] == 0.0 {
            true => ("no_costs", "are all 0: no row tells what is unsafe, and every policy looks safe".to_owned()),
            false => ("constant_costs", format!("are all {}: no row tells what is unsafe", columns.costs[0])),
        };
        let remedy = "check that the column holds the costs";
        findings.push(Finding::warning(code, "costs", meaning, remedy).at(rows, 0));
    }
    if same(&columns.rewards) {
        let meaning = format!("are all {}: no row is better than another", columns.rewards[0]);
        let remedy = "check that the column holds the rewards";
        findings.push(Finding::warning("constant_rewards", "rewards", meaning, remedy).at(rows, 0));
    }
    findings
}
