//! Statistics of a dataset.

use serde::Serialize;

use crate::columns::{Columns, Episode};

/// Cost limits for which [`Summary::best_returns`] is given; the three limits of the DSRL benchmark.
const COST_LIMITS: [f64; 3] = [10.0, 20.0, 40.0];

/// Statistics of a dataset, ready for JSON (snake_case keys, `null` for what is undefined).
///
/// Lengths, returns and costs are over the complete episodes. Only a dataset without any complete
/// episode uses its cut-off tail instead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Where the data came from.
    pub source: String,
    /// Number of transitions.
    pub transitions: usize,
    /// Number of episodes, a cut-off tail included.
    pub episodes: usize,
    /// 1 if the last rows have no end flag, else 0.
    pub incomplete_episodes: usize,
    /// Entries of an observation.
    pub obs_dim: usize,
    /// Entries of an action.
    pub act_dim: usize,
    /// Transitions per episode.
    pub episode_length: LengthRange,
    /// Quantiles 0, 10, .. 100 % of the episode return, linearly interpolated (NumPy's default). 11 values.
    pub return_deciles: Vec<f64>,
    /// Quantiles 0, 10, .. 100 % of the episode cost. 11 values.
    pub cost_deciles: Vec<f64>,
    /// Pearson correlation of episode return and cost; none if either is constant.
    pub return_cost_correlation: Option<f64>,
    /// Best return among the episodes with cost at most 10, 20 and 40.
    pub best_returns: Vec<BestReturn>,
    /// Rows whose terminal flag is set.
    pub terminals: usize,
    /// Rows whose timeout flag is set.
    pub timeouts: usize,
    /// Smallest action per entry, `[A]`.
    pub action_min: Vec<f32>,
    /// Largest action per entry, `[A]`.
    pub action_max: Vec<f32>,
}

/// Transitions per episode.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LengthRange {
    /// Shortest.
    pub min: usize,
    /// Median; halfway between the middle two of an even number.
    pub median: f64,
    /// Longest.
    pub max: usize,
}

/// Best return under a cost limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BestReturn {
    /// Episodes count if their cost is at most this.
    pub cost_limit: f64,
    /// How many do.
    pub episodes: usize,
    /// The best return among them; none if there is none.
    pub best_return: Option<f64>,
}

impl Summary {
    pub(crate) fn of(columns: &Columns) -> Self {
        let all = columns.episodes();
        let complete: Vec<Episode> = all.iter().copied().filter(|e| e.complete).collect();
        let counted = if complete.is_empty() { &all } else { &complete };
        let lengths = sorted(counted.iter().map(|e| e.len() as f64));
        let returns = sorted(counted.iter().map(|e| e.ret));
        let costs = sorted(counted.iter().map(|e| e.cost));
        let (action_min, action_max) = ranges(&columns.actions, columns.act_dim);
        Summary {
            source: columns.source.clone(),
            transitions: columns.len(),
            episodes: all.len(),
            incomplete_episodes: all.iter().filter(|e| !e.complete).count(),
            obs_dim: columns.obs_dim,
            act_dim: columns.act_dim,
            episode_length: LengthRange {
                min: quantile(&lengths, 0.0) as usize,
                median: quantile(&lengths, 0.5),
                max: quantile(&lengths, 1.0) as usize,
            },
            return_deciles: deciles(&returns),
            cost_deciles: deciles(&costs),
            return_cost_correlation: correlation(counted),
            best_returns: COST_LIMITS.map(|limit| best_return(counted, limit)).into(),
            terminals: count(&columns.terminals),
            timeouts: count(&columns.timeouts),
            action_min,
            action_max,
        }
    }
}

fn count(flags: &[bool]) -> usize {
    flags.iter().filter(|&&flag| flag).count()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Linear interpolation between order statistics; 0 for no values (an unvalidated, empty dataset).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let position = q * last as f64;
    let low = position.floor() as usize;
    let high = (low + 1).min(last);
    sorted[low] + (position - low as f64) * (sorted[high] - sorted[low])
}

fn deciles(sorted: &[f64]) -> Vec<f64> {
    (0..=10).map(|i| quantile(sorted, f64::from(i) / 10.0)).collect()
}

fn correlation(episodes: &[Episode]) -> Option<f64> {
    let n = episodes.len() as f64;
    let mean_return = episodes.iter().map(|e| e.ret).sum::<f64>() / n;
    let mean_cost = episodes.iter().map(|e| e.cost).sum::<f64>() / n;
    let (mut rr, mut rc, mut cc) = (0.0, 0.0, 0.0);
    for episode in episodes {
        let (r, c) = (episode.ret - mean_return, episode.cost - mean_cost);
        rr += r * r;
        rc += r * c;
        cc += c * c;
    }
    let scale = (rr * cc).sqrt();
    (scale > 0.0).then(|| rc / scale)
}

fn best_return(episodes: &[Episode], cost_limit: f64) -> BestReturn {
    let within = episodes.iter().filter(|e| e.cost <= cost_limit);
    BestReturn {
        cost_limit,
        episodes: within.clone().count(),
        best_return: within.map(|e| e.ret).max_by(f64::total_cmp),
    }
}

fn ranges(values: &[f32], dim: usize) -> (Vec<f32>, Vec<f32>) {
    let Some(first) = values.get(..dim) else {
        return (Vec::new(), Vec::new());
    };
    let (mut min, mut max) = (first.to_vec(), first.to_vec());
    for row in values.chunks_exact(dim.max(1)) {
        for ((low, high), &value) in min.iter_mut().zip(&mut max).zip(row) {
            *low = low.min(value);
            *high = high.max(value);
        }
    }
    (min, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Episodes of 1, 2, .. rows with the given returns and costs, then a tail of 2 rows.
    fn columns(episodes: &[(f32, f32)]) -> Columns {
        let mut columns = Columns { obs_dim: 1, act_dim: 2, source: "memory".to_owned(), ..Columns::default() };
        let mut push = |ret, cost, end| {
            columns.rewards.push(ret);
            columns.costs.push(cost);
            columns.terminals.push(false);
            columns.timeouts.push(end);
        };
        for (index, &(ret, cost)) in episodes.iter().enumerate() {
            (0..index).for_each(|_| push(0.0, 0.0, false));
            push(ret, cost, true);
        }
        push(1000.0, 0.0, false);
        push(1000.0, 0.0, false);
        let rows = columns.rewards.len();
        columns.observations = vec![0.0; rows];
        columns.next_observations = vec![0.0; rows];
        let action = |row: usize| [row as f32, -2.0 * row as f32];
        columns.actions = (0..rows).flat_map(action).collect();
        columns
    }

    #[test]
    fn statistics_are_over_complete_episodes() {
        let columns = columns(&[(4.0, 20.0), (1.0, 5.0), (3.0, 40.0), (2.0, 11.0)]);
        let summary = columns.validate().unwrap().summary();
        assert_eq!((summary.transitions, summary.episodes), (12, 5));
        assert_eq!((summary.incomplete_episodes, summary.timeouts), (1, 4));
        let lengths = summary.episode_length;
        assert_eq!((lengths.min, lengths.median, lengths.max), (1, 2.5, 4));
        let deciles = [1.0, 1.3, 1.6, 1.9, 2.2, 2.5, 2.8, 3.1, 3.4, 3.7, 4.0];
        for (found, expected) in summary.return_deciles.iter().zip(deciles) {
            assert!((found - expected).abs() < 1e-12);
        }
        assert_eq!(summary.cost_deciles[5], 15.5);
        // numpy.corrcoef([4, 1, 3, 2], [20, 5, 40, 11])
        let correlation = summary.return_cost_correlation.unwrap();
        assert!((correlation - 0.624_522_609_701_594_3).abs() < 1e-10, "{correlation}");
        let best: Vec<(usize, Option<f64>)> =
            summary.best_returns.iter().map(|b| (b.episodes, b.best_return)).collect();
        assert_eq!(best, [(1, Some(1.0)), (3, Some(4.0)), (4, Some(4.0))]);
        assert_eq!(summary.action_min, [0.0, -22.0]);
        assert_eq!(summary.action_max, [11.0, 0.0]);
    }

    #[test]
    fn what_is_undefined_is_null_in_json() {
        let summary = columns(&[(1.0, 99.0)]).summary();
        let json = serde_json::to_value(&summary).unwrap();
        assert!(json["return_cost_correlation"].is_null());
        assert!(json["best_returns"][2]["best_return"].is_null());
        assert_eq!(json["best_returns"][2]["cost_limit"], 40.0);
        assert_eq!(json["episode_length"]["median"], 1.0);
        assert_eq!(json["cost_deciles"], serde_json::json!(vec![99.0; 11]));
    }

    #[test]
    fn a_lone_tail_is_counted_and_an_empty_dataset_does_not_panic() {
        let summary = columns(&[]).summary();
        assert_eq!((summary.episodes, summary.incomplete_episodes), (1, 1));
        assert_eq!(summary.return_deciles, [2000.0; 11]);
        assert_eq!(Columns::default().summary().episodes, 0);
    }
}
