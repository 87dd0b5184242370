//! Logged behavior sorted into kinds: k-means over what an episode did and what it brought.

use super::stats::{deviation, mean};
use crate::dataset::Dataset;
use drcorl_data::Episode;
use std::borrow::Cow;
use tch::Kind;

/// Most kinds of behavior.
const MOST: usize = 8;
/// Fewest episodes of a kind.
const LEAST: usize = 5;
/// Episodes for each kind that is looked for.
const EPISODES: usize = 10;
const ROUNDS: usize = 20;

/// Numbers of the whole episodes of each kind; kinds with too few are left out.
pub(super) fn behaviors(data: &Dataset, costs: usize) -> Vec<Vec<usize>> {
    let whole: Vec<usize> = (0..data.episodes.len()).filter(|&i| data.whole(&data.episodes[i])).collect();
    let kinds = MOST.min(whole.len() / EPISODES);
    if kinds < 2 {
        return Vec::new();
    }
    let episodes: Vec<_> = (0..costs).map(|k| data.episodes_of(k)).collect();
    let points = standardised(whole.iter().map(|&i| features(data, &episodes, i)).collect(), 1 + costs);
    let mut by_cost: Vec<usize> = (0..whole.len()).collect();
    by_cost.sort_by(|&a, &b| data.episodes[whole[a]].cost.total_cmp(&data.episodes[whole[b]].cost));
    let first: Vec<usize> = (0..whole.len()).map(|rank| rank * kinds / whole.len()).collect();
    let mut kind = vec![0; whole.len()];
    by_cost.iter().zip(first).for_each(|(&point, quantile)| kind[point] = quantile);
    for _ in 0..ROUNDS {
        let centers: Vec<Option<Vec<f64>>> = (0..kinds).map(|k| center(&points, &kind, k)).collect();
        let nearest = |point: &Vec<f64>| {
            let distance = |k: &usize| centers[*k].as_ref().map_or(f64::INFINITY, |c| squared_distance(point, c));
            (0..kinds).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
        };
        let moved: Vec<usize> = points.iter().map(nearest).collect();
        if moved == kind {
            break;
        }
        kind = moved;
    }
    let members = |k: usize| (0..whole.len()).filter(|&i| kind[i] == k).map(|i| whole[i]).collect::<Vec<_>>();
    (0..kinds).map(members).filter(|episodes| episodes.len() >= LEAST).collect()
}

/// Mean and deviation of each action entry, further costs, cost and return a step. The last two, and with several costs
/// all of these, count as much as all actions together.
fn features(data: &Dataset, costs: &[Cow<'_, [Episode]>], number: usize) -> Vec<f64> {
    let episode = &data.episodes[number];
    let rows = tch::Tensor::arange_start(episode.start as i64, episode.end as i64, (Kind::Int64, data.device()));
    let actions = data.gather(&rows).action();
    let columns = [actions.mean_dim(0i64, false, Kind::Float), actions.std_dim(0i64, false, false)];
    let mut found: Vec<f64> = columns
        .iter()
        .flat_map(|column| (0..column.size()[0]).map(|i| column.double_value(&[i])).collect::<Vec<_>>())
        .collect();
    let steps = episode.len() as f64;
    found.extend(costs.iter().rev().map(|episodes| episodes[number].cost / steps));
    found.push(episode.ret / steps);
    found
}

fn standardised(mut points: Vec<Vec<f64>>, brought: usize) -> Vec<Vec<f64>> {
    let width = points.first().map_or(0, Vec::len);
    let outcomes = ((width - brought) as f64 / brought as f64).max(1.0).sqrt();
    for column in 0..width {
        let values: Vec<f64> = points.iter().map(|point| point[column]).collect();
        let (center, scale) = (mean(&values), deviation(&values));
        let weight = if column + brought >= width { outcomes } else { 1.0 };
        for point in &mut points {
            point[column] = if scale > 0.0 { weight * (point[column] - center) / scale } else { 0.0 };
        }
    }
    points
}

fn center(points: &[Vec<f64>], kind: &[usize], k: usize) -> Option<Vec<f64>> {
    let mine: Vec<&Vec<f64>> = points.iter().zip(kind).filter(|(_, &own)| own == k).map(|(point, _)| point).collect();
    let column = |i: usize| mine.iter().map(|point| point[i]).sum::<f64>() / mine.len() as f64;
    (!mine.is_empty()).then(|| (0..points[0].len()).map(column).collect())
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum()
}
