//! Relabelled episodes: logged behavior under targets of cost and return that lie above the Pareto front.
//!
//! 1. Episodes are thinned by a grid in the plane of cost and return.
//! 2. A polynomial of return on cost is laid through the Pareto front.
//! 3. Targets: costs evenly over the range, returns drawn between the polynomial and the best.
//! 4. Each target takes the nearest episode that costs no more; one that was taken before is replaced by a neighbour.
//! 5. The episode's costs and returns to go are shifted so that they begin at the target. Nothing else changes.

use super::config::{AugmentDistance, AugmentPairing, CdtConfig};
use crate::frontier::{evaluate, pareto_front, polynomial, Point};
use drcorl_core::error::Result;
use drcorl_nn::rng::Rng;

/// Bins over costs and returns; a bin with more than `most` episodes keeps so many of them,
/// one with at most `fewest` none.
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

/// Numbers of the points that stay, bin by bin in the order in which bins are met.
/// `sample` picks `most` of a full bin's numbers.
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

/// `count` targets: costs evenly from the lowest to the highest of `points`, the return of each at `draws[i]` in [0,1)
/// of the way from `lowest(cost)` to `highest(cost)`.
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

/// The episodes to relabel, one for each of `chosen`: the first to choose an episode gets it, any other a neighbour
/// that costs no more, drawn in inverse proportion to the distance by `draw` in [0,1).
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

#[cfg(test)]
mod tests {
    use super::*;

    fn points(list: &[(f64, f64)]) -> Vec<Point> {
        list.iter().map(|&(cost, ret)| Point { cost, ret }).collect()
    }

    /// Four by four cells over [0,4] x [0,4]: by hand.
    #[test]
    fn a_full_bin_is_thinned_and_a_sparse_one_dropped() {
        let grid = Grid { cost_bins: 4, return_bins: 4, most: 3, fewest: 1 };
        let mut list = vec![(0.0, 0.0), (4.0, 4.0), (4.0, 4.0), (2.5, 0.5), (0.5, 0.9)];
        list.extend([(1.0, 1.0), (1.2, 1.2), (1.4, 1.4), (1.9, 1.9)]);
        let asked = std::cell::RefCell::new(Vec::new());
        let kept = grid_filter(&points(&list), grid, |members, most| {
            asked.borrow_mut().push(members.to_vec());
            members[members.len() - most..].to_vec()
        });
        // (0,0) and (0.5,0.9) share a cell, the upper corner has one of its own, (2.5,0.5) is alone,
        // the last four are too many.
        assert_eq!(kept, [0, 4, 1, 2, 6, 7, 8]);
        assert_eq!(*asked.borrow(), [vec![5, 6, 7, 8]]);
        let equal = points(&[(2.0, 1.0), (2.0, 5.0), (2.0, 9.0)]);
        assert!(grid_filter(&equal, Grid { fewest: 0, ..grid }, |members, _| members.to_vec()).len() == 3);
    }

    #[test]
    fn targets_lie_between_the_curve_and_the_best() {
        let logged = points(&[(2.0, 1.0), (10.0, 9.0)]);
        let found = targets(&logged, &[0.0, 0.5, 1.0], |cost| cost + 1.0, |_| 21.0);
        assert_eq!(found, points(&[(2.0, 3.0), (6.0, 14.0), (10.0, 21.0)]));
        assert_eq!(targets(&logged, &[0.25], |_| 0.0, |_| 4.0), points(&[(2.0, 1.0)]));
    }

    #[test]
    fn the_nearest_episode_costs_no_more_than_the_target() {
        let logged = points(&[(0.0, 0.0), (5.0, 100.0), (6.0, 140.0)]);
        let wanted = points(&[(5.5, 150.0), (0.0, 140.0), (9.0, 60.0)]);
        assert_eq!(nearest(&logged, &wanted, Plane::new(AugmentDistance::Raw, &logged)), [1, 0, 1]);
        // In units of the ranges, 6 and 140, a cost of 4 is further than a return of 60.
        let far = points(&[(9.0, 60.0), (2.0, 100.0)]);
        let logged = points(&[(0.0, 0.0), (2.0, 40.0), (6.0, 140.0)]);
        assert_eq!(nearest(&logged, &far, Plane::new(AugmentDistance::Raw, &logged)), [1, 1]);
        assert_eq!(nearest(&logged, &far, Plane::new(AugmentDistance::Scaled, &logged)), [2, 1]);
    }

    fn rule(pairing: AugmentPairing) -> Replacement {
        Replacement { pairing, plane: Plane { cost: 1.0, ret: 1.0 }, max_decrease: 5.0, beta: 1.0 }
    }

    /// Published, the second target of an episode moves all targets after it by one place,
    /// and each of those gets its neighbour's.
    #[test]
    fn an_episode_keeps_the_target_it_was_found_for() {
        let logged = points(&[(1.0, 10.0), (2.0, 90.0), (8.0, 60.0)]);
        let wanted = points(&[(1.0, 12.0), (2.0, 95.0), (3.0, 11.0), (8.0, 70.0)]);
        let chosen = nearest(&logged, &wanted, Plane::new(AugmentDistance::Raw, &logged));
        assert_eq!(chosen, [0, 1, 0, 2]);
        assert_eq!(emit(&logged, &chosen, rule(AugmentPairing::Positional), || 0.0), chosen);
        // The episode of return 90 is told 11, and one of return 10 is told 95.
        assert_eq!(emit(&logged, &chosen, rule(AugmentPairing::Regrouped), || 0.0), [0, 0, 1, 2]);
    }

    /// Candidates and their weights by hand: the episode itself 1, one at distance 3 a quarter;
    /// one too poor and one too costly are out.
    #[test]
    fn replacements_are_drawn_in_inverse_proportion_to_the_distance() {
        let logged = points(&[(5.0, 50.0), (5.0, 47.0), (5.0, 40.0), (6.0, 50.0)]);
        let draw = |unit: f64| emit(&logged, &[0, 0], rule(AugmentPairing::Positional), || unit)[1];
        assert_eq!((draw(0.0), draw(0.79), draw(0.81), draw(0.999)), (0, 0, 1, 1));
    }

    #[test]
    fn relabelled_episodes_get_more_than_they_cost_and_better_than_the_front() {
        let logged: Vec<Point> =
            (0..400).map(f64::from).map(|i| Point { cost: i % 20.0, ret: (i * 7.0) % 100.0 }).collect();
        let config = CdtConfig { augment_degree: 1, ..CdtConfig::default() };
        let relabelled = augment(&logged, &config, &mut Rng::new(1, 0)).unwrap();
        assert!(!relabelled.is_empty());
        for Relabelled { episode, target } in relabelled {
            assert!(logged[episode].cost <= target.cost && target.ret.is_finite());
        }
        let none = CdtConfig { augment_fraction: 0.0, ..config };
        assert!(augment(&logged, &none, &mut Rng::new(1, 0)).unwrap().is_empty());
    }
}
