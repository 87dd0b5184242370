//! Relabelled episodes: logged behaviour under targets of cost and return that lie above the Pareto front.
//!
//! 1. Episodes are thinned by a grid in the plane of cost and return.
//! 2. A polynomial of return on cost is laid through the Pareto front.
//! 3. Targets: costs evenly over the range, returns drawn between the polynomial and the best.
//! 4. Each target takes the nearest episode that costs no more; one that was taken before is replaced by a neighbour.
//! 5. The episode's costs and returns to go are shifted so that they begin at the target. Nothing else changes.

use super::config::{AugmentDistance, AugmentPairing, CdtConfig};
use crate::error::Result;
use crate::frontier::{evaluate, pareto_front, polynomial, Point};
use crate::rng::Rng;

/// Bins over costs and returns; a bin with more than `most` episodes keeps so many of them, one with at most `fewest` none.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub cost_bins: usize,
    pub return_bins: usize,
    pub most: usize,
    pub fewest: usize,
}

/// The published grid.
pub const GRID: Grid = Grid { cost_bins: 10, return_bins: 50, most: 10, fewest: 2 };

/// A logged episode under a target of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relabelled {
    /// Number of the episode.
    pub episode: usize,
    pub target: Point,
}

fn range(points: &[Point], of: fn(&Point) -> f64) -> (f64, f64) {
    let values = || points.iter().map(of);
    (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
}

/// Numbers of the points that stay, bin by bin in the order in which bins are met. `sample` picks `most` of a full bin's numbers.
///
/// A point on the upper edge has a bin of its own; where all costs or all returns are equal there is one bin.
pub fn grid_filter(points: &[Point], grid: Grid, mut sample: impl FnMut(&[usize], usize) -> Vec<usize>) -> Vec<usize> {
    let axis = |of: fn(&Point) -> f64, bins: usize| {
        let (low, high) = range(points, of);
        let step = (high - low) / bins as f64;
        move |point: &Point| if step > 0.0 { ((of(point) - low) / step).floor() as usize } else { 0 }
    };
    let (by_cost, by_return) = (axis(|p| p.cost, grid.cost_bins), axis(|p| p.ret, grid.return_bins));
    let mut bins: Vec<((usize, usize), Vec<usize>)> = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let place = (by_cost(point), by_return(point));
        match bins.iter_mut().find(|(other, _)| *other == place) {
            Some((_, members)) => members.push(index),
            None => bins.push((place, vec![index])),
        }
    }
    let kept = bins.into_iter().flat_map(|(_, members)| match members.len() {
        n if n > grid.most => sample(&members, grid.most),
        n if n <= grid.fewest => Vec::new(),
        _ => members,
    });
    kept.collect()
}

/// `count` targets: costs evenly from the lowest to the highest of `points`, the return of each at `draws[i]` in [0,1) of the way from
/// `lowest(cost)` to `highest(cost)`.
pub fn targets(
    points: &[Point],
    draws: &[f64],
    lowest: impl Fn(f64) -> f64,
    highest: impl Fn(f64) -> f64,
) -> Vec<Point> {
    let (low, high) = range(points, |p| p.cost);
    let step = if draws.len() > 1 { (high - low) / (draws.len() - 1) as f64 } else { 0.0 };
    let last = draws.len().saturating_sub(1);
    let target = |(i, &draw): (usize, &f64)| {
        let cost = if i == last && i > 0 { high } else { low + i as f64 * step };
        let from = lowest(cost);
        Point { cost, ret: from + draw * (highest(cost) - from) }
    };
    draws.iter().enumerate().map(target).collect()
}

/// The plane of [`AugmentDistance`]: what costs and returns are divided by.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    cost: f64,
    ret: f64,
}

impl Plane {
    /// The plane for these points.
    pub fn new(distance: AugmentDistance, points: &[Point]) -> Plane {
        let width = |of: fn(&Point) -> f64| {
            let (low, high) = range(points, of);
            if high > low {
                high - low
            } else {
                1.0
            }
        };
        match distance {
            AugmentDistance::Raw => Plane { cost: 1.0, ret: 1.0 },
            AugmentDistance::Scaled => Plane { cost: width(|p| p.cost), ret: width(|p| p.ret) },
        }
    }

    fn distance(&self, a: Point, b: Point) -> f64 {
        ((a.cost - b.cost) / self.cost).hypot((a.ret - b.ret) / self.ret)
    }
}

/// For each target the number of the nearest point that costs no more; the first of equals.
pub fn nearest(points: &[Point], targets: &[Point], plane: Plane) -> Vec<usize> {
    let of = |&target: &Point| {
        let allowed = points.iter().enumerate().filter(|(_, point)| point.cost <= target.cost);
        let best = allowed.map(|(i, &point)| (i, plane.distance(point, target))).min_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(0, |(i, _)| i)
    };
    targets.iter().map(of).collect()
}

/// How episodes are replaced that several targets chose.
#[derive(Clone, Copy, Debug)]
pub struct Replacement {
    pub pairing: AugmentPairing,
    pub plane: Plane,
    /// How much less the return of a replacement may be.
    pub max_decrease: f64,
    /// Added to distances.
    pub beta: f64,
}

/// The episodes to relabel, one for each of `chosen`: the first to choose an episode gets it, any other a neighbour that costs no
/// more, drawn in inverse proportion to the distance by `draw` in [0,1).
pub fn emit(points: &[Point], chosen: &[usize], rule: Replacement, mut draw: impl FnMut() -> f64) -> Vec<usize> {
    let mut replace = |index: usize| {
        let own = points[index];
        let near = |point: &Point| point.cost <= own.cost && point.ret >= own.ret - rule.max_decrease;
        let candidates: Vec<usize> = (0..points.len()).filter(|&i| near(&points[i])).collect();
        let weight = |&i: &usize| 1.0 / (rule.plane.distance(points[i], own) + rule.beta);
        let total: f64 = candidates.iter().map(weight).sum();
        let mut left = draw() * total;
        let found = candidates.iter().find(|i| {
            left -= weight(i);
            left < 0.0
        });
        found.or(candidates.last()).copied().unwrap_or(index)
    };
    let first = |position: usize| !chosen[..position].contains(&chosen[position]);
    match rule.pairing {
        AugmentPairing::Positional => chosen
            .iter()
            .enumerate()
            .map(|(position, &index)| if first(position) { index } else { replace(index) })
            .collect(),
        AugmentPairing::Regrouped => {
            let mut out = Vec::new();
            for (position, &index) in chosen.iter().enumerate().filter(|&(position, _)| first(position)) {
                out.push(index);
                let again = chosen[position + 1..].iter().filter(|&&other| other == index).count();
                out.extend((0..again).map(|_| replace(index)));
            }
            out
        }
    }
}

/// The relabelled episodes for logged `points`.
pub fn augment(points: &[Point], config: &CdtConfig, rng: &mut Rng) -> Result<Vec<Relabelled>> {
    let sample = |members: &[usize], count: usize| {
        let mut members = members.to_vec();
        rng.shuffle(&mut members);
        members.truncate(count);
        members
    };
    let kept = grid_filter(points, GRID, sample);
    let subset: Vec<Point> = kept.iter().map(|&i| points[i]).collect();
    let count = (config.augment_fraction * subset.len() as f64).floor() as usize;
    if count == 0 {
        return Ok(Vec::new());
    }
    let front: Vec<Point> = pareto_front(&subset).into_iter().map(|i| subset[i]).collect();
    let curve = polynomial(&front, config.augment_degree)?;
    let (worst, best) = range(&subset, |p| p.ret);
    let lowest = |cost: f64| evaluate(&curve, cost) + config.augment_min_return;
    let highest = |cost: f64| config.augment_max_return.unwrap_or_else(|| best.max(lowest(cost)));
    let draws: Vec<f64> = (0..count).map(|_| f64::from(rng.unit())).collect();
    let targets = targets(&subset, &draws, lowest, highest);
    let plane = Plane::new(config.augment_distance, &subset);
    let rule = Replacement {
        pairing: config.augment_pairing,
        plane,
        max_decrease: config.augment_max_decrease.unwrap_or((best - worst) / 8.0),
        beta: config.augment_beta,
    };
    let chosen = nearest(&subset, &targets, plane);
    let emitted = emit(&subset, &chosen, rule, || f64::from(rng.unit()));
    let relabelled = emitted.into_iter().zip(targets).map(|(i, target)| Relabelled { episode: kept[i], target });
    Ok(relabelled.collect())
}
