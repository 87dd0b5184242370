//! Windows of logged episodes, and what their episodes still bring.

use super::config::{Padding, TrebiConfig, ValueScale};
use crate::cdt::sampler::usable;
use drcorl_core::dataset::Dataset;
use drcorl_core::policy::host;
use drcorl_data::Episode;
use drcorl_nn::rng::Rng;
use tch::{Kind, Tensor};

/// Deviation below which an action entry counts as constant.
const LEAST_DEVIATION: f64 = 1e-6;

/// Discounted sums of `signal` from each row to the end of its episode, the last row of an episode that the environment
/// ended raised by `penalty`.
pub fn sums_to_come(signal: &[f32], episodes: &[Episode], gamma: f64, penalty: f64) -> Vec<f32> {
    let mut sums = vec![0f32; signal.len()];
    for episode in episodes {
        let mut sum = if episode.terminated { penalty / gamma } else { 0.0 };
        for row in (episode.start..episode.end).rev() {
            sum = f64::from(signal[row]) + gamma * sum;
            sums[row] = sum as f32;
        }
    }
    sums
}

/// Mean and deviation; 0 and 1 where they are raw. A constant has deviation 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub mean: f64,
    pub std: f64,
}

impl Scale {
    const RAW: Scale = Scale { mean: 0.0, std: 1.0 };

    fn of(values: &[f32], rows: &[i64]) -> Scale {
        let count = rows.len().max(1) as f64;
        let value = |&row: &i64| f64::from(values[row as usize]);
        let mean = rows.iter().map(value).sum::<f64>() / count;
        let variance = rows.iter().map(|row| (value(row) - mean).powi(2)).sum::<f64>() / count;
        let std = variance.sqrt();
        Scale { mean, std: if std > LEAST_DEVIATION { std } else { 1.0 } }
    }
}

/// Where windows begin, and what they and the values are made of.
pub struct Windows {
    /// First rows, with the row behind the last of their episode and the row that pads.
    starts: Vec<[i64; 3]>,
    /// `[N + pads, A+S]`: standardised actions, normalised observations, then the rows that pad.
    steps: Tensor,
    horizon: usize,
    /// Mean and deviation of actions in [-1,1], `[A]`.
    pub action_mean: Vec<f32>,
    pub action_std: Vec<f32>,
    /// Sums to come of rewards and costs, scaled, a row each.
    sums: [Vec<f32>; 2],
    /// Of rewards and costs.
    pub scales: [Scale; 2],
}

/// Windows of a batch.
pub struct Batch {
    /// `[B,H,A+S]`
    pub plans: Tensor,
    /// Of rewards and costs, `[B,1]`.
    pub values: [Tensor; 2],
}

/// First rows of the windows of episodes.
fn starts(episodes: &[Episode], horizon: usize, padding: Padding) -> Vec<(usize, i64)> {
    let longest = episodes.iter().map(Episode::len).max().unwrap_or(0);
    let windows = |episode: &Episode| match padding {
        Padding::Last => episode.len(),
        // As published; an episode of any length has one window.
        Padding::Zeros => (episode.len() - 1).min(longest.saturating_sub(horizon)).max(1),
    };
    let of = |(index, episode): (usize, &Episode)| {
        (episode.start..episode.start + windows(episode)).map(move |row| (index, row as i64)).collect::<Vec<_>>()
    };
    episodes.iter().enumerate().flat_map(of).collect()
}

impl Windows {
    /// Of the episodes of `data` that ended.
    pub fn new(data: &Dataset, config: &TrebiConfig) -> Windows {
        let episodes = usable(&data.episodes);
        let rows = Tensor::arange(data.len(), (Kind::Int64, data.device()));
        let all = data.gather(&rows);
        let actions = all.action().to_kind(Kind::Double);
        let mean = actions.mean_dim(0i64, true, Kind::Double);
        let std = (&actions - &mean).square().mean_dim(0i64, true, Kind::Double).sqrt();
        let std = std.where_self(&std.gt(LEAST_DEVIATION), &std.ones_like());
        let standardised = ((actions - &mean) / &std).to_kind(Kind::Float);
        let logged = Tensor::cat(&[standardised, all.observation()], 1);
        let pads = match config.padding {
            Padding::Zeros => {
                let (states, width) = (data.columns.obs_dim, data.columns.act_dim);
                let to = |values: Vec<f32>| Tensor::from_slice(&values).to_device(data.device()).unsqueeze(0);
                let action = to(data.normalizer.actions(&vec![0.0; width]).collect()).to_kind(Kind::Double);
                let action = ((action - &mean) / &std).to_kind(Kind::Float);
                Tensor::cat(&[action, to(data.normalizer.observations(&vec![0.0; states]).collect())], 1)
            }
            Padding::Last => {
                let last: Vec<i64> = episodes.iter().map(|episode| episode.end as i64 - 1).collect();
                let last = data.gather(&Tensor::from_slice(&last).to_device(data.device()));
                Tensor::cat(&[last.action().zeros_like(), last.next_observation()], 1)
            }
        };
        let starts: Vec<[i64; 3]> = starts(&episodes, config.horizon, config.padding)
            .into_iter()
            .map(|(index, row)| {
                let pad = if config.padding == Padding::Last { index as i64 } else { 0 };
                [row, episodes[index].end as i64, data.len() + pad]
            })
            .collect();
        let firsts: Vec<i64> = starts.iter().map(|start| start[0]).collect();
        let signal = |signal: &[f32], penalty: f64| {
            let mut sums = sums_to_come(signal, &episodes, config.gamma, penalty);
            let scale = match config.value_scale {
                ValueScale::Raw => Scale::RAW,
                ValueScale::Standardized => Scale::of(&sums, &firsts),
            };
            sums.iter_mut().for_each(|sum| *sum = ((f64::from(*sum) - scale.mean) / scale.std) as f32);
            (sums, scale)
        };
        let (rewards, reward_scale) = signal(&data.columns.rewards, -config.terminal_penalty);
        let (costs, cost_scale) = signal(&data.columns.costs, config.terminal_penalty);
        let numbers = |x: &Tensor| host(x).expect("a tensor of numbers");
        Windows {
            starts,
            steps: Tensor::cat(&[logged, pads], 0),
            horizon: config.horizon,
            action_mean: numbers(&mean),
            action_std: numbers(&std),
            sums: [rewards, costs],
            scales: [reward_scale, cost_scale],
        }
    }

    /// `count` windows drawn uniformly with replacement.
    pub fn sample(&self, count: usize, rng: &mut Rng) -> Batch {
        let chosen: Vec<[i64; 3]> = (0..count).map(|_| self.starts[rng.below(self.starts.len())]).collect();
        let row = |&[first, end, pad]: &[i64; 3], step: i64| if first + step < end { first + step } else { pad };
        let rows: Vec<i64> =
            chosen.iter().flat_map(|start| (0..self.horizon as i64).map(move |step| row(start, step))).collect();
        let device = self.steps.device();
        let plans = self.steps.index_select(0, &Tensor::from_slice(&rows).to_device(device));
        let values = [0, 1].map(|signal| {
            let values: Vec<f32> = chosen.iter().map(|start| self.sums[signal][start[0] as usize]).collect();
            Tensor::from_slice(&values).to_device(device).unsqueeze(1)
        });
        Batch { plans: plans.view([count as i64, self.horizon as i64, -1]), values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(start: usize, end: usize, terminated: bool) -> Episode {
        Episode { start, end, terminated, complete: true, ret: 0.0, cost: 0.0 }
    }

    #[test]
    fn sums_go_to_the_end_of_the_episode_and_terminals_are_penalised_once() {
        let episodes = [episode(0, 3, true), episode(3, 5, false)];
        let sums = sums_to_come(&[1.0, 2.0, 4.0, 8.0, 16.0], &episodes, 0.5, -10.0);
        assert_eq!(sums, [1.0 + 0.5 * (2.0 + 0.5 * -6.0), 2.0 + 0.5 * -6.0, 4.0 - 10.0, 16.0, 16.0]);
        // A second reading is the first: what is stored does not change.
        assert_eq!(sums, sums_to_come(&[1.0, 2.0, 4.0, 8.0, 16.0], &episodes, 0.5, -10.0));
    }

    #[test]
    fn windows_begin_at_every_step_or_where_the_published_ones_do() {
        let episodes = [episode(0, 6, false), episode(6, 8, false)];
        let rows = |padding| starts(&episodes, 4, padding).into_iter().map(|(_, row)| row).collect::<Vec<_>>();
        assert_eq!(rows(Padding::Last), (0..8).collect::<Vec<_>>());
        assert_eq!(rows(Padding::Zeros), [0, 1, 6]);
    }
}
