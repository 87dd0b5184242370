//! Draws slices of logged and relabelled episodes.

use super::augment::{augment, Relabelled};
use super::config::{CdtConfig, CostSampling, SampleCostOffset};
use super::sequences::{mask, Sequences};
use crate::frontier::Point;
use drcorl_core::dataset::Dataset;
use drcorl_core::error::{Error, Result};
use drcorl_data::Episode;
use drcorl_nn::rng::Rng;
use tch::Tensor;

/// Published costs and what the offset of `limit` adds to them.
const OFFSET: f64 = 70.0;
const ABOVE_LIMIT: f64 = 30.0;
/// Added to costs under `inverse` sampling.
const INVERSE: f64 = 10.0;

/// Rows of one episode, and what is added to all its sums to go.
#[derive(Clone, Copy, Debug)]
struct Trajectory {
    start: usize,
    length: usize,
    return_shift: f32,
    cost_shift: f32,
}

/// Episodes to draw from. A relabelled one shares the rows of the logged one.
pub struct Sampler {
    trajectories: Vec<Trajectory>,
    /// Sums to the end of the episode, a row of the dataset each; raw.
    returns: Vec<f32>,
    costs: Vec<f32>,
    /// Probability that an episode up to this one is drawn.
    cumulative: Vec<f64>,
    context: usize,
    reward_scale: f32,
    cost_scale: f32,
}

/// Undiscounted sums of `signal` from each row to the end of its episode.
pub fn sums_to_go(signal: &[f32], episodes: &[Episode]) -> Vec<f32> {
    let mut sums = vec![0f32; signal.len()];
    for episode in episodes {
        let mut sum = 0f64;
        for row in (episode.start..episode.end).rev() {
            sum += f64::from(signal[row]);
            sums[row] = sum as f32;
        }
    }
    sums
}

/// Probability of each episode, given its cost.
pub fn probabilities(costs: &[f64], sampling: CostSampling, offset: SampleCostOffset, cost_limit: f64) -> Vec<f64> {
    let offset = match offset {
        SampleCostOffset::Seventy => OFFSET,
        SampleCostOffset::Limit => OFFSET.max(cost_limit + ABOVE_LIMIT),
    };
    let weight = |&cost: &f64| match sampling {
        CostSampling::Linear => (offset - cost).max(0.0),
        CostSampling::Inverse => 1.0 / (cost + INVERSE),
        CostSampling::Uniform => 1.0,
    };
    let total: f64 = costs.iter().map(weight).sum();
    costs.iter().map(|cost| weight(cost) / total).collect()
}

/// Episodes that ended; all where none did. A tail that was cut off has no sums to go.
pub fn usable(episodes: &[Episode]) -> Vec<Episode> {
    let complete: Vec<Episode> = episodes.iter().copied().filter(|episode| episode.complete).collect();
    if complete.is_empty() {
        episodes.to_vec()
    } else {
        complete
    }
}

impl Sampler {
    /// Over the episodes of `data` and the ones relabelled from them.
    pub fn new(data: &Dataset, config: &CdtConfig, cost_limit: f64, rng: &mut Rng) -> Result<Sampler> {
        let episodes = usable(&data.episodes);
        let points: Vec<Point> = episodes.iter().map(|e| Point { cost: e.cost, ret: e.ret }).collect();
        let relabelled = augment(&points, config, rng)?;
        let logged =
            episodes.iter().map(|e| Trajectory { start: e.start, length: e.len(), return_shift: 0.0, cost_shift: 0.0 });
        let moved = relabelled.iter().map(|&Relabelled { episode, target }| {
            let (e, own) = (episodes[episode], points[episode]);
            Trajectory {
                start: e.start,
                length: e.len(),
                return_shift: (target.ret - own.ret) as f32,
                cost_shift: (target.cost - own.cost) as f32,
            }
        });
        let trajectories = logged.chain(moved).collect();
        let costs: Vec<f64> = points.iter().map(|p| p.cost).chain(relabelled.iter().map(|r| r.target.cost)).collect();
        let probabilities = probabilities(&costs, config.cost_sampling, config.sample_cost_offset, cost_limit);
        if probabilities.iter().any(|p| !p.is_finite()) {
            let cheapest = costs.iter().copied().fold(f64::INFINITY, f64::min);
            return Err(Error::Config(format!(
                "cost_sampling is linear, which draws no episode of a cost of {OFFSET} or more, but the cheapest logged episode costs {cheapest}; give inverse or uniform"
            )));
        }
        let mut sum = 0.0;
        let cumulative = probabilities.iter().map(|p| {
            sum += p;
            sum
        });
        Ok(Sampler {
            trajectories,
            returns: sums_to_go(&data.columns.rewards, &episodes),
            costs: sums_to_go(&data.columns.costs, &episodes),
            cumulative: cumulative.collect(),
            context: config.context_length,
            reward_scale: config.reward_scale as f32,
            cost_scale: config.cost_scale as f32,
        })
    }

    fn draw(&self, rng: &mut Rng) -> (Trajectory, usize) {
        let unit = f64::from(rng.unit());
        let index = self.cumulative.partition_point(|&sum| sum <= unit).min(self.trajectories.len() - 1);
        let trajectory = self.trajectories[index];
        (trajectory, rng.below(trajectory.length))
    }

    /// `count` slices: the episode by its cost, the first step uniformly.
    pub fn sample(&self, data: &Dataset, count: usize, rng: &mut Rng) -> Sequences {
        let size = count * self.context;
        let mut rows = vec![0i64; size];
        let mut time_steps = vec![0i64; size];
        let [mut returns, mut costs_to_go, mut costs] = [(); 3].map(|()| vec![0f32; size]);
        let (mut episode_cost, mut lengths) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for sequence in 0..count {
            let (trajectory, first) = self.draw(rng);
            let length = self.context.min(trajectory.length - first);
            for step in 0..length {
                let (at, row) = (sequence * self.context + step, trajectory.start + first + step);
                rows[at] = row as i64;
                time_steps[at] = (first + step) as i64;
                returns[at] = (self.returns[row] + trajectory.return_shift) * self.reward_scale;
                costs_to_go[at] = (self.costs[row] + trajectory.cost_shift) * self.cost_scale;
                costs[at] = data.columns.costs[row];
            }
            // Positions after the last step, like the published collator's, count on.
            for step in length..self.context {
                time_steps[sequence * self.context + step] = (first + step) as i64;
            }
            episode_cost.push((self.costs[trajectory.start] + trajectory.cost_shift) * self.cost_scale);
            lengths.push(length);
        }
        let (device, shape) = (data.device(), [count as i64, self.context as i64]);
        let table = |values: &[f32]| Tensor::from_slice(values).view(shape).to_device(device);
        let batch = data.gather(&Tensor::from_slice(&rows).to_device(device));
        let mask = mask(&lengths, shape[1], device).view([-1, 1]);
        let padded = |x: Tensor| (x * &mask).view([shape[0], shape[1], -1]);
        Sequences {
            states: padded(batch.observation()),
            actions: padded(batch.action()),
            returns: table(&returns),
            costs_to_go: table(&costs_to_go),
            time_steps: Tensor::from_slice(&time_steps).view(shape).to_device(device),
            costs: table(&costs),
            episode_cost: Tensor::from_slice(&episode_cost).to_device(device),
            lengths,
        }
    }
}
