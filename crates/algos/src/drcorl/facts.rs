//! What the data say once and for all, before anything is learnt.

use super::config::DrcorlConfig;
use super::options::{BehaviorData, Constraint, RewardScaling};
use crate::lagrange::infinite_horizon_threshold;
use drcorl_core::dataset::{discounted_returns, Dataset};
use drcorl_core::error::{Error, Result};
use drcorl_core::run::RunConfig;
use tch::{Device, Kind, Tensor};

/// What the data say about one cost.
#[derive(Clone, Copy, Debug)]
pub struct CostFacts {
    /// Lowest and highest logged cost.
    pub range: (f32, f32),
    /// The limit on the cost of an episode.
    pub limit: f64,
}

/// What the data say.
pub struct Facts {
    /// Factor on rewards before the critic sees them.
    pub reward_factor: f64,
    /// Of every cost that is bounded.
    pub costs: Vec<CostFacts>,
    /// The value, in the cost critic's unit, that stands for the limit.
    pub set_point: f64,
    /// Rows the behavior model learns from, `[M]`.
    pub behavior_rows: Tensor,
    /// Rows of the episodes within all limits, `[K]`, if there are any.
    pub safe_rows: Option<Tensor>,
    /// Rows of every stretch of the time of an episode, each `[K]`; only where each is bounded for itself.
    pub stretches: Vec<Tensor>,
    /// Monte-Carlo values of reward and every cost in the critics' unit, `[N,1+K]`.
    pub monte_carlo: Tensor,
}

impl Default for CostFacts {
    /// Of no data.
    fn default() -> Self {
        CostFacts { range: (0.0, 1.0), limit: 0.0 }
    }
}

impl Default for Facts {
    /// Of no data.
    fn default() -> Self {
        let none = || Tensor::empty([0], (Kind::Int64, Device::Cpu));
        Facts {
            reward_factor: 1.0,
            costs: vec![CostFacts::default()],
            set_point: 0.0,
            behavior_rows: none(),
            safe_rows: None,
            stretches: Vec::new(),
            monte_carlo: none(),
        }
    }
}

impl Facts {
    /// Of `data` under the limits of `run`.
    ///
    /// Errs with `Config` where only safe episodes are to be learnt from and there is none.
    pub fn of(data: &Dataset, config: &DrcorlConfig, run: &RunConfig) -> Result<Self> {
        let reward_factor = reward_factor(data, config.reward_scaling) * config.unit();
        let safe = data.rows_of(&data.within_limits(run));
        let safe_rows = (safe.numel() > 0).then_some(safe);
        let behavior_rows = match (config.behavior_data, &safe_rows) {
            (BehaviorData::Safe, Some(rows)) => rows.shallow_clone(),
            (BehaviorData::Safe, None) => {
                let limit = match run.costs() {
                    1 => format!("the cost_limit {}", run.cost_limit),
                    count => format!("all {count} limits"),
                };
                return Err(Error::Config(format!(
                    "behavior_data is safe, but no whole logged episode is within {limit}; raise it, or give behavior_data all"
                )));
            }
            (BehaviorData::All, _) => data.rows_where(|_| true),
        };
        let range = |k: usize| {
            let costs = data.costs_of(k).iter();
            costs.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &c| (low.min(c), high.max(c)))
        };
        let of = |k: usize| CostFacts { range: range(k), limit: config.bound(&run.of_cost(k)) };
        Ok(Facts {
            reward_factor,
            costs: (0..run.costs()).map(of).collect(),
            set_point: infinite_horizon_threshold(config.bound(run), config.gamma, data.episode_length) * config.unit(),
            behavior_rows,
            safe_rows,
            stretches: if config.constraint == Constraint::Stepwise { stretches(data) } else { Vec::new() },
            monte_carlo: monte_carlo(data, config, run.costs(), reward_factor),
        })
    }
}

/// Stretches an episode is cut into, at most: a time of its own for every step would leave few rows each.
const STRETCHES: usize = 10;

/// The rows of each tenth of the time of an episode, where the data have any.
fn stretches(data: &Dataset) -> Vec<Tensor> {
    let count = STRETCHES.min(data.episode_length.max(1));
    let mut rows: Vec<Vec<i64>> = vec![Vec::new(); count];
    for episode in &data.episodes {
        for (time, row) in (episode.start..episode.end).enumerate() {
            rows[(time * count / data.episode_length.max(1)).min(count - 1)].push(row as i64);
        }
    }
    let filled = rows.into_iter().filter(|rows| !rows.is_empty());
    filled.map(|rows| Tensor::from_slice(&rows).to_device(data.device())).collect()
}

/// Factor that brings rewards to the scale the critic expects: episodes end where they are flagged to end.
pub fn reward_factor(data: &Dataset, scaling: RewardScaling) -> f64 {
    let rewards = &data.columns.rewards;
    let count = rewards.len() as f64;
    let scale = match scaling {
        RewardScaling::Magnitude => {
            let mean = rewards.iter().map(|&r| f64::from(r)).sum::<f64>() / count;
            let magnitude = rewards.iter().map(|&r| f64::from(r).abs()).sum::<f64>() / count;
            let variance = rewards.iter().map(|&r| (f64::from(r) - mean).powi(2)).sum::<f64>() / count;
            magnitude + variance.sqrt()
        }
        RewardScaling::ReturnRange => {
            let returns = data.episodes.iter().map(|episode| episode.ret);
            let (low, high) =
                returns.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), r| (low.min(r), high.max(r)));
            (high - low) / 1000.0
        }
    };
    if scale > 0.0 {
        1.0 / scale
    } else {
        1.0
    }
}

fn monte_carlo(data: &Dataset, config: &DrcorlConfig, costs: usize, reward_factor: f64) -> Tensor {
    // `discounted_returns` gives (1 - gamma) times the sum of its signal.
    let per_step = 1.0 / (1.0 - config.gamma);
    let column = |signal: &[f32], factor: f64| {
        let scaled: Vec<f32> = signal.iter().map(|&x| (f64::from(x) * factor * per_step) as f32).collect();
        Tensor::from_slice(&discounted_returns(&scaled, &data.episodes, config.gamma)).unsqueeze(1)
    };
    let mut columns = vec![column(&data.columns.rewards, reward_factor)];
    columns.extend((0..costs).map(|k| column(data.costs_of(k), config.unit())));
    Tensor::cat(&columns, 1).to_device(data.device())
}
