//! Outliers, inpaint and epsilon.

use super::{Rules, ScoreRange, Selection, StepReport};
use crate::columns::Columns;
use crate::draws::{sample, Draws};
use crate::error::{Error, Result};

/// What DSRL multiplies the rewards of an outlier with.
const OUTLIER_REWARD: f32 = 1.5;

/// Makes costly episodes of high return look safe: `k` steps of cost 1, `k` below the limit, and rewards times 1.5.
pub(super) fn outliers(
    columns: &mut Columns,
    selection: &mut Selection,
    fraction: f64,
    limit: f64,
    range: &ScoreRange,
    draws: &mut dyn Draws,
) -> Result<StepReport> {
    let left = selection.left();
    let wanted = ((left.len() as f64 * fraction) as usize).max(1);
    let (cost, ret) = (range.max_cost / 2.0, range.max_return / 2.0);
    let costly = |&i: &usize| selection.episodes[i].cost >= cost && selection.episodes[i].ret >= ret;
    let candidates: Vec<usize> = left.into_iter().filter(costly).collect();
    if candidates.is_empty() {
        let problem = format!("no episode has both a cost of at least {cost} and a return of at least {ret}");
        return Err(Error::data(&columns.source, Some("outliers"), &problem, "leave outliers out for these data"));
    }
    let found = candidates.len();
    let chosen = sample(candidates, wanted, draws);
    for &index in &chosen {
        let episode = selection.episodes[index];
        let rows = episode.start..episode.end;
        let steps = draws.below((limit as usize).max(1)).min(episode.len());
        columns.costs[rows.clone()].fill(0.0);
        for row in sample(rows.clone().collect(), steps, draws) {
            columns.costs[row] = 1.0;
        }
        for reward in &mut columns.rewards[rows] {
            *reward *= OUTLIER_REWARD;
        }
        selection.outlier[index] = true;
        selection.episodes[index].cost = steps as f64;
        selection.episodes[index].ret *= f64::from(OUTLIER_REWARD);
    }
    let short = if found < wanted { format!(", all there are, instead of {wanted}") } else { String::new() };
    let note = format!("{} of cost at least {cost} and return at least {ret}{short}", chosen.len());
    Ok(StepReport { step: "outliers", removed: 0, changed: chosen.len(), note })
}

/// Removes a window of the plane: first a range of costs, then a range of the returns found in it. Outliers stay.
pub(super) fn inpaint(selection: &mut Selection, window: &[f64; 4], range: &ScoreRange) -> StepReport {
    let within = |value: f64, (low, high): (f64, f64), from: f64, to: f64| {
        (low + from * (high - low)..=low + to * (high - low)).contains(&value)
    };
    let costs = (range.min_cost, range.max_cost);
    let in_cost = |&i: &usize| within(selection.episodes[i].cost, costs, window[0], window[1]);
    let members: Vec<usize> = selection.left().into_iter().filter(in_cost).collect();
    let return_of = |&i: &usize| selection.episodes[i].ret;
    let low = members.iter().map(return_of).fold(f64::INFINITY, f64::min);
    let high = members.iter().map(return_of).fold(f64::NEG_INFINITY, f64::max);
    let in_return = |&i: &usize| within(return_of(&i), (low, high), window[2], window[3]) && !selection.outlier[i];
    let removed: Vec<usize> = members.iter().copied().filter(in_return).collect();
    removed.iter().for_each(|&index| selection.keep[index] = false);
    let note = format!("window {window:?}: {} episodes in its range of costs", members.len());
    StepReport { step: "inpaint", removed: removed.len(), changed: 0, note }
}

/// Removes the best of the safe episodes (`epsilon` above 0) or of the unsafe ones (below 0).
pub(super) fn epsilon(selection: &mut Selection, epsilon: f64, limit: f64, rules: Rules) -> StepReport {
    let asked = |&i: &usize| {
        let safe = selection.episodes[i].cost <= limit;
        let counts = rules == Rules::Dsrl || !selection.outlier[i];
        counts && if epsilon > 0.0 { safe } else { !safe }
    };
    let kind = if epsilon > 0.0 { "safe" } else { "unsafe" };
    let members: Vec<usize> = selection.left().into_iter().filter(asked).collect();
    let best = members.iter().map(|&i| selection.episodes[i].ret).fold(f64::NEG_INFINITY, f64::max);
    let near = |i: &usize| epsilon != 0.0 && selection.episodes[*i].ret >= best - epsilon.abs();
    let removed: Vec<usize> = members.into_iter().filter(near).collect();
    removed.iter().for_each(|&index| selection.keep[index] = false);
    let note = if epsilon == 0.0 {
        "0 removes nothing".to_owned()
    } else if removed.is_empty() {
        format!("there is no {kind} episode")
    } else {
        format!("{kind} episodes of return {:.6} to {best:.6}", best - epsilon.abs())
    };
    StepReport { step: "epsilon", removed: removed.len(), changed: 0, note }
}
