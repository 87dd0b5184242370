//! Which rows a mode of behavior cloning learns from.

use super::CloningMode;
use crate::frontier::{evaluate, pareto_front, polynomial, Point};
use drcorl_core::dataset::Dataset;
use drcorl_core::error::{Error, Result};
use tch::Tensor;

/// Degrees that are tried for the frontier, and the share of the variance that is enough.
const DEGREES: std::ops::RangeInclusive<usize> = 0..=2;
const ENOUGH: f64 = 0.9;

/// Row numbers `[M]` of the episodes of `mode`; errs if there are none.
pub fn select(mode: CloningMode, width: f64, data: &Dataset, limit: f64) -> Result<Tensor> {
    let points: Vec<Point> = data.episodes.iter().map(|e| Point { cost: e.cost, ret: e.ret }).collect();
    let mut keep = chosen(mode, width, &points, limit)?;
    if mode == CloningMode::Safe {
        // What a tail that was cut off would have cost is not known.
        keep.iter_mut().zip(&data.episodes).for_each(|(keep, episode)| *keep &= data.whole(episode));
    }
    let rows = data.rows_of(&keep);
    if rows.numel() > 0 {
        return Ok(rows);
    }
    let (cheapest, dearest) = points
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| (low.min(point.cost), high.max(point.cost)));
    Err(Error::Config(format!(
        "cost_limit is {limit}, but the cheapest logged episode costs {cheapest} and the dearest {dearest}: no episode is {}; change the limit or cloning_mode",
        what(mode)
    )))
}

fn what(mode: CloningMode) -> &'static str {
    match mode {
        CloningMode::All | CloningMode::MultiTask => "there",
        CloningMode::Safe => "within it",
        CloningMode::Risky => "at twice the limit or beyond",
        CloningMode::Boundary => "between half and one and a half times the limit",
        CloningMode::Frontier => "near the frontier",
    }
}

/// For each episode, whether it belongs to `mode`.
fn chosen(mode: CloningMode, width: f64, points: &[Point], limit: f64) -> Result<Vec<bool>> {
    let by_cost = |keep: &dyn Fn(f64) -> bool| Ok(points.iter().map(|point| keep(point.cost)).collect());
    match mode {
        CloningMode::All | CloningMode::MultiTask => by_cost(&|_| true),
        CloningMode::Safe => by_cost(&|cost| cost <= limit),
        CloningMode::Risky => by_cost(&|cost| cost >= 2.0 * limit),
        CloningMode::Boundary => by_cost(&|cost| 0.5 * limit < cost && cost <= 1.5 * limit),
        CloningMode::Frontier => {
            let curve = frontier(points)?;
            let returns = || points.iter().map(|point| point.ret);
            let range = returns().fold(f64::NEG_INFINITY, f64::max) - returns().fold(f64::INFINITY, f64::min);
            let near = |point: &Point| (point.ret - evaluate(&curve, point.cost)).abs() <= width * range;
            Ok(points.iter().map(near).collect())
        }
    }
}

/// Coefficients, the highest power first, of the first polynomial through the Pareto front that explains 90 % of its
/// variance, else of the last tried. A constant explains none, so that the first that can is a line.
pub fn frontier(points: &[Point]) -> Result<Vec<f64>> {
    let front: Vec<Point> = pareto_front(points).into_iter().map(|i| points[i]).collect();
    let mut coefficients = Vec::new();
    for degree in DEGREES {
        coefficients = polynomial(&front, degree)?;
        if explained(&coefficients, &front) >= ENOUGH {
            break;
        }
    }
    Ok(coefficients)
}

/// R^2 of a polynomial on `points`; 0 where the returns do not vary.
fn explained(coefficients: &[f64], points: &[Point]) -> f64 {
    let mean = points.iter().map(|point| point.ret).sum::<f64>() / points.len() as f64;
    let total: f64 = points.iter().map(|point| (point.ret - mean).powi(2)).sum();
    let rest: f64 = points.iter().map(|point| (point.ret - evaluate(coefficients, point.cost)).powi(2)).sum();
    if total > 0.0 {
        1.0 - rest / total
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(list: &[(f64, f64)]) -> Vec<Point> {
        list.iter().map(|&(cost, ret)| Point { cost, ret }).collect()
    }

    /// Limit 10: every boundary of every mode, on episodes whose cost sits exactly on it.
    #[test]
    fn modes_select_by_cost_with_their_boundaries() {
        let costs = [0.0, 5.0, 5.5, 10.0, 10.5, 15.0, 15.5, 19.5, 20.0, 40.0];
        let all: Vec<Point> = costs.iter().map(|&cost| Point { cost, ret: 1.0 }).collect();
        let select = |mode| -> Vec<f64> {
            let flags = chosen(mode, 0.2, &all, 10.0).unwrap();
            costs.iter().zip(flags).filter_map(|(&cost, keep)| keep.then_some(cost)).collect()
        };
        assert_eq!(select(CloningMode::All), costs);
        assert_eq!(select(CloningMode::MultiTask), costs);
        assert_eq!(select(CloningMode::Safe), [0.0, 5.0, 5.5, 10.0]);
        assert_eq!(select(CloningMode::Risky), [20.0, 40.0]);
        assert_eq!(select(CloningMode::Boundary), [5.5, 10.0, 10.5, 15.0]);
    }

    /// A straight front is a line, a curved one a parabola, and noise without a trend the last degree;
    /// points below are left out.
    #[test]
    fn the_frontier_is_the_first_polynomial_that_fits() {
        let line: Vec<(f64, f64)> = (0..10).map(|i| (f64::from(i), 3.0 + 2.0 * f64::from(i))).collect();
        let found = frontier(&points(&line)).unwrap();
        assert_eq!(found.len(), 2);
        assert!((found[0] - 2.0).abs() < 1e-9 && (found[1] - 3.0).abs() < 1e-9);

        let root: Vec<(f64, f64)> =
            (0..30).map(|i| (f64::from(i), if i == 0 { 0.0 } else { 100.0 + 0.1 * f64::from(i) })).collect();
        assert_eq!(frontier(&points(&root)).unwrap().len(), 3);

        let mut mixed = line.clone();
        // Far below the line: dominated, and outside a band of a fifth of the range of returns (4.2).
        mixed.push((9.0, 10.0));
        mixed.push((9.0, 17.5));
        let flags = chosen(CloningMode::Frontier, 0.2, &points(&mixed), 10.0).unwrap();
        assert_eq!(flags.iter().filter(|keep| **keep).count(), 11);
        assert_eq!(flags[10..], [false, true]);
    }

    /// R^2 by hand: residuals 1, 1, 1 around a total of 6.
    #[test]
    fn the_explained_share_is_r_squared() {
        let three = points(&[(0.0, 1.0), (1.0, 3.0), (2.0, 2.0), (3.0, 4.0)]);
        // Mean 2.5, total 5; the line 1.3 + 0.8 x leaves 1.8.
        assert!((explained(&[0.8, 1.3], &three) - (1.0 - 1.8 / 5.0)).abs() < 1e-12);
        assert_eq!(explained(&[2.5], &three), 0.0);
        assert_eq!(explained(&[1.0], &points(&[(0.0, 1.0), (1.0, 1.0)])), 0.0);
    }
}
