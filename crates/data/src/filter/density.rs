//! Thinning of dense cells in the plane of cost and return.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{range_of, Rules, ScoreRange, Selection, StepReport};
use crate::draws::{sample, Draws};

/// Cells of equal size over the plane of episodic cost and return, and how many episodes each may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Cells along the cost.
    pub cost_bins: usize,
    /// Cells along the return.
    pub return_bins: usize,
    /// A cell with more episodes keeps this many, drawn at random.
    pub most: usize,
    /// A cell with this many episodes or fewer loses all.
    pub least: usize,
}

pub(super) fn apply(
    selection: &mut Selection,
    grid: &Grid,
    rules: Rules,
    task: &ScoreRange,
    draws: &mut dyn Draws,
) -> StepReport {
    let before = selection.left().len();
    let cells = cells(selection, grid, rules, task);
    let (mut thinned, mut emptied) = (0, 0);
    selection.keep.fill(false);
    let count = cells.len();
    for members in cells.into_values() {
        let kept = if members.len() > grid.most {
            thinned += 1;
            sample(members, grid.most, draws)
        } else if members.len() <= grid.least {
            emptied += 1;
            continue;
        } else {
            members
        };
        kept.into_iter().for_each(|index| selection.keep[index] = true);
    }
    let removed = before - selection.left().len();
    let note = format!("{count} cells hold episodes; {thinned} were thinned, {emptied} emptied");
    StepReport { step: "density", removed, changed: 0, note }
}

/// Episodes by cell. Cells come in a fixed order, so that a seed always gives the same choice.
pub(super) fn cells(
    selection: &Selection,
    grid: &Grid,
    rules: Rules,
    task: &ScoreRange,
) -> BTreeMap<(usize, usize), Vec<usize>> {
    let mut range = range_of(&selection.episodes);
    if rules == Rules::Dsrl {
        range.min_cost = range.min_cost.max(task.min_cost);
        range.max_cost = range.max_cost.min(task.max_cost);
        range.min_return = range.min_return.max(task.min_return);
        range.max_return = range.max_return.min(task.max_return);
    }
    let mut cells: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for index in selection.left() {
        let episode = &selection.episodes[index];
        let cost = bin(episode.cost, range.min_cost, range.max_cost, grid.cost_bins, rules);
        let ret = bin(episode.ret, range.min_return, range.max_return, grid.return_bins, rules);
        if let (Some(cost), Some(ret)) = (cost, ret) {
            cells.entry((cost, ret)).or_default().push(index);
        }
    }
    cells
}

/// Bin of a value; none outside [low, high].
fn bin(value: f64, low: f64, high: f64, bins: usize, rules: Rules) -> Option<usize> {
    if !(low..=high).contains(&value) {
        return None;
    }
    let step = (high - low) / bins as f64;
    if step <= 0.0 {
        return Some(0);
    }
    let last = if rules == Rules::Dsrl { bins } else { bins - 1 };
    Some((((value - low) / step) as usize).min(last))
}
