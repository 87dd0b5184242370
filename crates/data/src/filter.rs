//! DSRL's pre-processing of a dataset: density, outliers, inpaint, epsilon, noise, in that order.
//!
//! DSRL (arXiv 2306.09303) makes harder and easier variants of a dataset this way. [`Rules::Dsrl`] follows the
//! published code; [`Rules::Fixed`], the default, differs where that code is wrong or fails:
//!
//! 1. Density: the last bin of each axis is closed, so there are exactly `cost_bins * return_bins` of them. The
//!    published one puts points on the upper edge into a bin of their own. An axis of zero range is one bin; the
//!    published one divides by zero. The plane is the range of the data; the published one also cuts it to the task's
//!    constants, which drops the best episodes by rounding or if the data are not the official ones.
//! 2. Outliers: where there are fewer candidates than wanted all are taken, and no more steps get a cost than an
//!    episode has. The published one fails.
//! 3. Inpaint: an empty window removes nothing. The published one fails, also for several windows of unequal size.
//! 4. Epsilon looks at the episodes that are left, outliers excluded: these were put in as a temptation and would be
//!    the best safe ones. The published one looks at all, with indices of another list.
//! 5. Noise: one standard deviation per entry of an observation, and the state between two steps gets the same noise as
//!    successor and as observation. The published one pools all entries and draws both anew, so that the successor of a
//!    step is no longer the observation of the next.
//!
//! Rows after the last end flag are dropped under both rules.

mod density;
mod noise;
mod steps;

use serde::{Deserialize, Serialize};

use crate::columns::{Columns, Episode};
use crate::draws::{Draws, Pcg};
use crate::error::{Error, Result};
use crate::watch::Watch;
pub use density::Grid;

/// Which faults of the published pre-processing are kept; the module says which there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rules {
    /// None.
    #[default]
    Fixed,
    /// All that have an outcome.
    Dsrl,
}

/// Extremes of episodic return and cost that outliers and inpaint measure by, and [`Rules::Dsrl`] density too.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreRange {
    /// Smallest episodic cost.
    pub min_cost: f64,
    /// Largest episodic cost.
    pub max_cost: f64,
    /// Smallest episodic return.
    pub min_return: f64,
    /// Largest episodic return.
    pub max_return: f64,
}

/// What to do with a dataset. The default drops an incomplete tail and nothing else.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterOptions {
    /// Seed of all draws. Every step has a stream of its own, so adding one does not change another's draws.
    pub seed: u64,
    /// How the published faults are treated.
    pub rules: Rules,
    /// Episodic cost up to which an episode is safe; outliers and epsilon need it.
    pub cost_limit: Option<f64>,
    /// Thin dense cells of the plane of cost and return.
    pub density: Option<Grid>,
    /// Fraction of episodes, above 0 and at most 1, to turn into safe-looking ones of high reward.
    pub outliers: Option<f64>,
    /// Windows to remove: `[cost from, cost to, return from, return to]`, fractions of the ranges.
    pub inpaint: Vec<[f64; 4]>,
    /// Above 0: remove safe episodes within this much of the best safe return (harder). Below 0: the same among unsafe
    /// ones (easier). 0 removes nothing.
    pub epsilon: Option<f64>,
    /// Standard deviation of the noise on observations, as a multiple of their own.
    pub noise: Option<f64>,
    /// The task's extremes; those of the data if none are given.
    pub score_range: Option<ScoreRange>,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// `tail`, `density`, `outliers`, `inpaint`, `epsilon` or `noise`.
    pub step: &'static str,
    /// Episodes removed.
    pub removed: usize,
    /// Episodes changed in place.
    pub changed: usize,
    /// What happened, in a sentence.
    pub note: String,
}

/// What filtering did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilterReport {
    /// Complete episodes before.
    pub episodes_before: usize,
    /// Episodes after.
    pub episodes: usize,
    /// Rows before, an incomplete tail included.
    pub transitions_before: usize,
    /// Rows after.
    pub transitions: usize,
    /// Extremes used.
    pub score_range: ScoreRange,
    /// The steps in their order.
    pub steps: Vec<StepReport>,
}

/// The episodes of a dataset with their fate.
pub(crate) struct Selection {
    pub episodes: Vec<Episode>,
    pub keep: Vec<bool>,
    /// Turned into outliers.
    pub outlier: Vec<bool>,
}

impl Selection {
    /// Indices of the episodes that are left.
    pub fn left(&self) -> Vec<usize> {
        (0..self.episodes.len()).filter(|&i| self.keep[i]).collect()
    }
}

/// Applies the steps that `options` asks for, in place.
///
/// # Errors
/// `Data` if an option is out of range, if there is no complete episode, or if nothing would be left; `Cancelled` by
/// the watch.
pub fn filter(columns: Columns, options: &FilterOptions, watch: &Watch) -> Result<(Columns, FilterReport)> {
    let draws = |stream: u64| Box::new(Pcg::new(options.seed, stream)) as Box<dyn Draws>;
    filter_with(columns, options, watch, &draws)
}

/// [`filter`] with any source of draws: one for each stream.
pub(crate) fn filter_with(
    mut columns: Columns,
    options: &FilterOptions,
    watch: &Watch,
    draws: &dyn Fn(u64) -> Box<dyn Draws>,
) -> Result<(Columns, FilterReport)> {
    check(options, &columns.source)?;
    let transitions_before = columns.len();
    let mut episodes = columns.episodes();
    let tail = episodes.pop_if(|last| !last.complete);
    let mut steps = Vec::new();
    if let Some(tail) = tail {
        let note = format!("{} rows after the last end flag", tail.len());
        steps.push(StepReport { step: "tail", removed: 0, changed: 0, note });
    }
    if episodes.is_empty() {
        let problem = "holds no complete episode: no row has a terminal or a timeout";
        return Err(Error::data(&columns.source, Some("timeouts"), problem, "set timeouts where episodes end"));
    }
    let episodes_before = episodes.len();
    let range = options.score_range.unwrap_or_else(|| range_of(&episodes));
    let all = vec![true; episodes_before];
    let mut selection = Selection { keep: all, outlier: vec![false; episodes_before], episodes };

    if let Some(grid) = &options.density {
        steps.push(density::apply(&mut selection, grid, options.rules, &range, draws(1).as_mut()));
    }
    watch.check(&columns.source)?;
    let limit = options.cost_limit.unwrap_or(0.0);
    if let Some(fraction) = options.outliers {
        steps.push(steps::outliers(&mut columns, &mut selection, fraction, limit, &range, draws(2).as_mut())?);
    }
    for window in &options.inpaint {
        steps.push(steps::inpaint(&mut selection, window, &range));
    }
    if let Some(epsilon) = options.epsilon {
        steps.push(steps::epsilon(&mut selection, epsilon, limit, options.rules));
    }
    watch.check(&columns.source)?;
    let left = selection.left();
    if left.is_empty() {
        let problem = format!("no episode of {episodes_before} is left after {}", names(&steps));
        return Err(Error::data(&columns.source, None, &problem, "filter less"));
    }
    retain(&mut columns, &left.iter().map(|&i| selection.episodes[i]).collect::<Vec<_>>());
    if let Some(scale) = options.noise {
        steps.push(noise::apply(&mut columns, scale, options.rules, watch, draws(3).as_mut())?);
    }
    let report = FilterReport {
        episodes_before,
        episodes: left.len(),
        transitions_before,
        transitions: columns.len(),
        score_range: range,
        steps,
    };
    Ok((columns, report))
}

fn names(steps: &[StepReport]) -> String {
    steps.iter().map(|step| step.step).collect::<Vec<_>>().join(", ")
}

fn check(options: &FilterOptions, source: &str) -> Result<()> {
    let refuse = |key: &str, value: &str, remedy: &str| {
        let problem = format!("{value} is not allowed");
        Err(Error::data(source, Some(key), &problem, remedy))
    };
    let finite = |value: f64| value.is_finite();
    if let Some(limit) = options.cost_limit {
        if !finite(limit) || limit < 0.0 {
            return refuse("cost_limit", &limit.to_string(), "give a number, 0 or more");
        }
    } else if options.outliers.is_some() || options.epsilon.is_some() {
        let key = if options.outliers.is_some() { "outliers" } else { "epsilon" };
        let problem = "depends on which episodes are safe, and no cost limit is given";
        return Err(Error::data(source, Some(key), problem, "give a cost limit"));
    }
    if let Some(fraction) = options.outliers.filter(|&f| !(f > 0.0 && f <= 1.0)) {
        return refuse("outliers", &fraction.to_string(), "give a fraction above 0 and at most 1");
    }
    if let Some(epsilon) = options.epsilon.filter(|&e| !finite(e)) {
        return refuse("epsilon", &epsilon.to_string(), "give a number");
    }
    if let Some(scale) = options.noise.filter(|&s| !(finite(s) && s >= 0.0)) {
        return refuse("noise", &scale.to_string(), "give a number, 0 or more");
    }
    for window in &options.inpaint {
        let ordered = |from: f64, to: f64| (0.0..=1.0).contains(&from) && (0.0..=1.0).contains(&to) && from <= to;
        if !ordered(window[0], window[1]) || !ordered(window[2], window[3]) {
            let remedy = "give four fractions of 0 to 1: cost from, cost to, return from, return to";
            return refuse("inpaint", &format!("{window:?}"), remedy);
        }
    }
    if let Some(grid) = options.density.filter(|g| g.cost_bins == 0 || g.return_bins == 0 || g.most == 0) {
        let value = format!("{} x {} bins of at most {}", grid.cost_bins, grid.return_bins, grid.most);
        return refuse("density", &value, "give at least one bin an axis and one episode a bin");
    }
    Ok(())
}

pub(crate) fn range_of(episodes: &[Episode]) -> ScoreRange {
    let fold = |value: fn(&Episode) -> f64, pick: fn(f64, f64) -> f64, start: f64| {
        episodes.iter().map(value).fold(start, pick)
    };
    ScoreRange {
        min_cost: fold(|e| e.cost, f64::min, f64::INFINITY),
        max_cost: fold(|e| e.cost, f64::max, f64::NEG_INFINITY),
        min_return: fold(|e| e.ret, f64::min, f64::INFINITY),
        max_return: fold(|e| e.ret, f64::max, f64::NEG_INFINITY),
    }
}

/// Keeps the rows of the given episodes, which are in their order.
fn retain(columns: &mut Columns, kept: &[Episode]) {
    fn compact<T: Copy>(values: &mut Vec<T>, dim: usize, kept: &[Episode]) {
        let mut end = 0;
        for episode in kept {
            values.copy_within(episode.start * dim..episode.end * dim, end);
            end += episode.len() * dim;
        }
        values.truncate(end);
    }
    compact(&mut columns.observations, columns.obs_dim, kept);
    compact(&mut columns.next_observations, columns.obs_dim, kept);
    compact(&mut columns.actions, columns.act_dim, kept);
    compact(&mut columns.rewards, 1, kept);
    compact(&mut columns.costs, 1, kept);
    columns.further.iter_mut().for_each(|(_, values)| compact(values, 1, kept));
    compact(&mut columns.terminals, 1, kept);
    compact(&mut columns.timeouts, 1, kept);
}

#[cfg(test)]
mod tests;
