//! What the data can show about costs, whatever learns from them.

use crate::dataset::Dataset;
use crate::run::RunConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An episode of at least this share of the limit has a cost near it or above.
pub(super) const NEAR: f64 = 0.5;

/// What the data can show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataFacts {
    pub episodes: usize,
    /// Episodes that ended by the environment or by the task's time limit; tails that were cut off are none.
    pub whole_episodes: usize,
    /// Of those, the ones within the limit.
    pub safe_episodes: usize,
    /// Highest cost of a whole episode; 0 where there is none.
    pub highest_cost: f64,
    /// True if some logged step has a cost other than 0.
    pub costs_seen: bool,
    /// Held-out episodes whose cost is at least half the limit: where a mistake would be dangerous.
    pub held_out_near_limit: usize,
    /// Steps of a full episode, as the estimates take it.
    pub episode_length: usize,
    /// True if the run states it; false if it is that of the longest logged episode.
    pub length_stated: bool,
    /// Whole episodes that ended by the time limit after that many steps.
    pub full_episodes: usize,
    /// Steps of the longest logged episode.
    pub longest_episode: usize,
}

impl DataFacts {
    /// Of the data by cost `k`, whose limit is that of `run`, with these episodes held out.
    pub fn of(data: &Dataset, k: usize, held_out: &[usize], run: &RunConfig) -> Self {
        let episodes = data.episodes_of(k);
        let whole = || episodes.iter().filter(|episode| data.whole(episode));
        let near = |&&number: &&usize| episodes[number].cost >= NEAR * run.cost_limit;
        DataFacts {
            episodes: data.episodes.len(),
            whole_episodes: whole().count(),
            safe_episodes: whole().filter(|episode| data.safe(episode, run.cost_limit)).count(),
            highest_cost: whole().map(|episode| episode.cost).reduce(f64::max).unwrap_or(0.0),
            costs_seen: data.costs_of(k).iter().any(|&cost| cost != 0.0),
            held_out_near_limit: held_out.iter().filter(near).count(),
            episode_length: data.episode_length,
            length_stated: data.stated_length.is_some(),
            full_episodes: whole().filter(|e| !e.terminated && e.len() == data.episode_length).count(),
            longest_episode: data.episodes.iter().map(drcorl_data::Episode::len).max().unwrap_or(0),
        }
    }
}
