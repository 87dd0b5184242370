//! The logged data on the device, normalised once, and the batches drawn from it.

use crate::error::{Error, Result};
use crate::normalizer::{varying, Normalizer};
use crate::run::{RunConfig, Scaling};
use drcorl_data::{Columns, Episode};
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use std::borrow::Cow;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Transitions on the device. One row of the table is [action | observation | next_observation | reward | cost |
/// terminal | end | start | further costs], so that a batch is one gather and a critic's input [action | observation]
/// is a view.
pub struct Dataset {
    /// Of one number a row; observations and actions stand in the table only, and are left out here.
    pub columns: Columns,
    pub episodes: Vec<Episode>,
    pub normalizer: Normalizer,
    /// Steps of a full episode L: the longest episode seen, unless the run names one.
    pub episode_length: usize,
    /// The task's length where the run names it.
    pub stated_length: Option<usize>,
    /// Entries of an observation that are not constant to float32's precision, ascending.
    pub varying: Vec<i64>,
    /// Numbers of the episodes that no model may learn from, in order: models are tested on them. Empty where whoever
    /// tests a model draws episodes of its own.
    pub held_out: Vec<usize>,
    table: Tensor,
    /// Episodic sums of the further costs, one an episode, in the order of [`Columns::further`].
    further: Vec<Vec<f64>>,
    /// Transitions met during training `[M, width]`, as the table's rows; no statistics and no estimate read them.
    collected: Option<Tensor>,
    device: Device,
}

/// Rows drawn from a [`Dataset`]; all views of one gathered matrix.
pub struct Batch {
    /// Row numbers `[B]`.
    pub rows: Tensor,
    table: Tensor,
    actions: i64,
    observations: i64,
}

impl Batch {
    fn column(&self, from: i64, width: i64) -> Tensor {
        self.table.narrow(1, from, width)
    }

    /// Number of rows B.
    pub fn len(&self) -> i64 {
        self.table.size()[0]
    }

    /// True for a batch without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[B, A+S]`
    pub fn state_action(&self) -> Tensor {
        self.column(0, self.actions + self.observations)
    }

    /// `[B, A+2S]`: action, observation, next observation
    pub fn transition(&self) -> Tensor {
        self.column(0, self.actions + 2 * self.observations)
    }

    /// `[B, A]`, in [-1,1]
    pub fn action(&self) -> Tensor {
        self.column(0, self.actions)
    }

    /// `[B, S]`, normalised
    pub fn observation(&self) -> Tensor {
        self.column(self.actions, self.observations)
    }

    /// `[B, S]`, normalised
    pub fn next_observation(&self) -> Tensor {
        self.column(self.actions + self.observations, self.observations)
    }

    /// `[B, 1]`, raw
    pub fn reward(&self) -> Tensor {
        self.column(self.actions + 2 * self.observations, 1)
    }

    /// `[B, 1]`, raw
    pub fn cost(&self) -> Tensor {
        self.column(self.actions + 2 * self.observations + 1, 1)
    }

    /// `[B, 1]`, raw: cost `k` of those that are bounded, the first being [`Batch::cost`].
    pub fn cost_of(&self, k: usize) -> Tensor {
        match k {
            0 => self.cost(),
            k => self.column(self.actions + 2 * self.observations + 4 + k as i64, 1),
        }
    }

    /// `[B, 1]`, 1 where the environment ended the episode; time limits are bootstrapped through
    pub fn terminal(&self) -> Tensor {
        self.column(self.actions + 2 * self.observations + 2, 1)
    }

    /// `[B, 1]`, 1 where the episode ended, by a terminal or by its time limit
    pub fn end(&self) -> Tensor {
        self.column(self.actions + 2 * self.observations + 3, 1)
    }

    /// `[B, 1]`, 1 at the first step of an episode
    pub fn start(&self) -> Tensor {
        self.column(self.actions + 2 * self.observations + 4, 1)
    }
}

impl Dataset {
    /// Copies the columns to `device`, standardised.
    ///
    /// Errs as [`Dataset::scaled`] does.
    pub fn new(columns: Arc<Columns>, episode_length: Option<usize>, device: Device) -> Result<Self> {
        Dataset::scaled(columns, episode_length, Scaling::Standardized, device)
    }

    /// Copies the columns to `device` in the chosen scaling.
    ///
    /// Errs if the data are empty or an episode is longer than the `episode_length` the user stated, or if the
    /// data do not suit the scaling.
    pub fn scaled(
        columns: Arc<Columns>,
        episode_length: Option<usize>,
        scaling: Scaling,
        device: Device,
    ) -> Result<Self> {
        let normalizer = match scaling {
            _ if columns.is_empty() => return Err(Error::Data(format!("{}: no transitions", columns.source))),
            Scaling::Standardized => Normalizer::fit(&columns),
            Scaling::Raw => Normalizer::raw(&columns)?,
        };
        Dataset::normalized(columns, episode_length, normalizer, device)
    }

    /// Copies the columns to `device` by a normaliser that may come from other data.
    ///
    /// Errs as [`Dataset::scaled`] does.
    pub fn normalized(
        columns: Arc<Columns>,
        episode_length: Option<usize>,
        normalizer: Normalizer,
        device: Device,
    ) -> Result<Self> {
        let episodes = columns.episodes();
        let longest = episodes.iter().map(Episode::len).max().unwrap_or(0);
        if let Some(stated) = episode_length {
            if let Some((index, episode)) = episodes.iter().enumerate().find(|(_, episode)| episode.len() > stated) {
                return Err(Error::Data(format!(
                    "{}: episode {index} (rows {} to {}) has {} steps, more than episode_length {stated}; state the task's episode length or leave it out",
                    columns.source, episode.start, episode.end, episode.len()
                )));
            }
        }
        let table = table(&columns, &episodes, &normalizer, device)?;
        let varying = varying(&columns);
        let sums = |(_, values): &(String, Vec<f32>)| {
            let sum = |episode: &Episode| values[episode.start..episode.end].iter().map(|&v| f64::from(v)).sum();
            episodes.iter().map(sum).collect()
        };
        let further = columns.further.iter().map(sums).collect();
        Ok(Dataset {
            columns: narrow(columns),
            episodes,
            normalizer,
            episode_length: episode_length.unwrap_or(longest),
            stated_length: episode_length,
            varying,
            held_out: Vec::new(),
            further,
            table,
            collected: None,
            device,
        })
    }

    /// Number of transitions N.
    pub fn len(&self) -> i64 {
        self.table.size()[0]
    }

    /// True without transitions; never the case after [`Dataset::new`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Width of an observation S.
    pub fn observations(&self) -> i64 {
        self.columns.obs_dim as i64
    }

    /// Width of an action A.
    pub fn actions(&self) -> i64 {
        self.columns.act_dim as i64
    }

    /// Where the tensors live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The rows with these numbers, `[B] int64`.
    pub fn gather(&self, rows: &Tensor) -> Batch {
        Batch {
            rows: rows.shallow_clone(),
            table: self.table.index_select(0, rows),
            actions: self.actions(),
            observations: self.observations(),
        }
    }

    /// `size` rows drawn uniformly with replacement.
    pub fn sample(&self, size: usize, rng: &mut Rng) -> Batch {
        self.gather(&rng.rows(size, self.len(), self.device))
    }

    /// `size` rows drawn uniformly with replacement from `candidates [M] int64`.
    pub fn sample_from(&self, candidates: &Tensor, size: usize, rng: &mut Rng) -> Batch {
        let picks = rng.rows(size, candidates.size()[0], self.device);
        self.gather(&candidates.index_select(0, &picks))
    }

    /// Keeps transitions that were met during training, for [`Dataset::sample_mixed`].
    /// They are normalised as the logged ones.
    pub fn collect(&mut self, columns: &Columns) -> Result<()> {
        if (columns.obs_dim, columns.act_dim) != (self.columns.obs_dim, self.columns.act_dim) {
            return Err(Error::Shape(format!(
                "{}: {} observations and {} actions, the dataset has {} and {}",
                columns.source, columns.obs_dim, columns.act_dim, self.columns.obs_dim, self.columns.act_dim
            )));
        }
        let new = table(columns, &columns.episodes(), &self.normalizer, self.device)?;
        if new.size()[1] != self.table.size()[1] {
            return Err(Error::Shape(format!("{}: not the costs of the dataset", columns.source)));
        }
        self.collected = Some(match self.collected.take() {
            Some(earlier) => Tensor::cat(&[earlier, new], 0),
            None => new,
        });
        Ok(())
    }

    /// Number of collected transitions M.
    pub fn collected(&self) -> i64 {
        self.collected.as_ref().map_or(0, |table| table.size()[0])
    }

    /// As [`Dataset::sample`], with the share `share` of the rows drawn from the collected transitions, where there are
    /// any. Collected row i has number N + i.
    pub fn sample_mixed(&self, size: usize, share: f64, rng: &mut Rng) -> Batch {
        let fresh = (size as f64 * share).round() as usize;
        let Some(collected) = self.collected.as_ref().filter(|_| fresh > 0) else { return self.sample(size, rng) };
        let logged = self.sample(size - fresh, rng);
        let picks = rng.rows(fresh, self.collected(), self.device);
        Batch {
            rows: Tensor::cat(&[&logged.rows, &(&picks + self.len())], 0),
            table: Tensor::cat(&[&logged.table, &collected.index_select(0, &picks)], 0),
            actions: self.actions(),
            observations: self.observations(),
        }
    }

    /// Numbers of all rows of the episodes that pass `keep`, `[M] int64`.
    pub fn rows_where(&self, keep: impl Fn(&Episode) -> bool) -> Tensor {
        self.rows_of(&self.episodes.iter().map(keep).collect::<Vec<_>>())
    }

    /// Numbers of all rows of the episodes whose flag is set, `[M] int64`.
    pub fn rows_of(&self, keep: &[bool]) -> Tensor {
        let kept: Vec<usize> = (0..self.episodes.len()).filter(|&number| keep[number]).collect();
        self.rows_in(&kept)
    }

    /// Numbers of all rows of the episodes with these numbers, in their order, `[M] int64`.
    pub fn rows_in(&self, episodes: &[usize]) -> Tensor {
        let episodes = episodes.iter().map(|&number| &self.episodes[number]);
        let rows: Vec<i64> = episodes.flat_map(|episode| episode.start as i64..episode.end as i64).collect();
        Tensor::from_slice(&rows).to_device(self.device)
    }

    /// True for an episode that shows how one ends: by the environment or by the time limit. A tail that was cut off
    /// does not, nor one that ends before the stated length; what it would have cost is not known.
    pub fn whole(&self, episode: &Episode) -> bool {
        episode.terminated || (episode.complete && self.stated_length.is_none_or(|length| episode.len() >= length))
    }

    /// True for a whole episode whose cost is within `limit`.
    pub fn safe(&self, episode: &Episode, limit: f64) -> bool {
        self.whole(episode) && episode.cost <= limit
    }

    /// The episodes with cost `k` of those that are bounded in the place of the first.
    pub fn episodes_of(&self, k: usize) -> Cow<'_, [Episode]> {
        match k {
            0 => Cow::Borrowed(&self.episodes),
            k => {
                let costs = &self.further[k - 1];
                self.episodes.iter().zip(costs).map(|(episode, &cost)| Episode { cost, ..*episode }).collect()
            }
        }
    }

    /// Cost `k` of every step `[N]`.
    pub fn costs_of(&self, k: usize) -> &[f32] {
        match k {
            0 => &self.columns.costs,
            k => &self.columns.further[k - 1].1,
        }
    }

    /// Of every episode: whole, and within all limits of `run`.
    pub fn within_limits(&self, run: &RunConfig) -> Vec<bool> {
        let mut within = vec![true; self.episodes.len()];
        for k in 0..run.costs() {
            let limit = run.of_cost(k).cost_limit;
            within.iter_mut().zip(self.episodes_of(k).iter()).for_each(|(ok, e)| *ok &= self.safe(e, limit));
        }
        within
    }

    /// Numbers of the first rows of all episodes, `[K] int64`.
    pub fn starts(&self) -> Tensor {
        let rows: Vec<i64> = self.episodes.iter().map(|episode| episode.start as i64).collect();
        Tensor::from_slice(&rows).to_device(self.device)
    }

    /// Saves the normaliser, or checks that the stored one is this dataset's; saves or restores what was collected.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        let mut normalizer = self.normalizer.clone();
        let mut rows = self.len();
        state.value("normalizer", &mut normalizer)?;
        state.value("rows", &mut rows)?;
        state.optional_rows("collected", &mut self.collected, self.table.size()[1], self.device)?;
        if normalizer != self.normalizer || rows != self.len() {
            return Err(drcorl_nn::Error::Data(format!(
                "{}: not the dataset this checkpoint was trained on ({rows} transitions there, {} here, or other values); resume with the original file",
                self.columns.source,
                self.len()
            )));
        }
        Ok(())
    }
}

/// The columns without what the table has: given up where nobody else holds them.
fn narrow(columns: Arc<Columns>) -> Columns {
    match Arc::try_unwrap(columns) {
        Ok(columns) => Columns { observations: vec![], next_observations: vec![], actions: vec![], ..columns },
        Err(shared) => Columns {
            obs_dim: shared.obs_dim,
            act_dim: shared.act_dim,
            rewards: shared.rewards.clone(),
            costs: shared.costs.clone(),
            cost_name: shared.cost_name.clone(),
            further: shared.further.clone(),
            terminals: shared.terminals.clone(),
            timeouts: shared.timeouts.clone(),
            source: shared.source.clone(),
            ..Columns::default()
        },
    }
}

/// Rows that are put together on the host before they go to the device.
const TABLE_ROWS: usize = 4096;

/// The table, the only copy of the data that is made: it is filled in blocks.
fn table(columns: &Columns, episodes: &[Episode], normalizer: &Normalizer, device: Device) -> Result<Tensor> {
    let (states, actions) = (columns.obs_dim, columns.act_dim);
    let width = actions + 2 * states + 5 + columns.further.len();
    let mut first = vec![false; columns.len()];
    episodes.iter().for_each(|episode| first[episode.start] = true);
    let flag = |flag: bool| f32::from(u8::from(flag));
    let table = Tensor::f_empty([columns.len() as i64, width as i64], (Kind::Float, device))?;
    let mut block = Vec::with_capacity(TABLE_ROWS.min(columns.len()) * width);
    for start in (0..columns.len()).step_by(TABLE_ROWS) {
        let end = columns.len().min(start + TABLE_ROWS);
        block.clear();
        for i in start..end {
            block.extend(normalizer.actions(&columns.actions[i * actions..(i + 1) * actions]));
            for observations in [&columns.observations, &columns.next_observations] {
                block.extend(normalizer.observations(&observations[i * states..(i + 1) * states]));
            }
            block.extend([columns.rewards[i], columns.costs[i]]);
            block.extend([columns.terminals[i], columns.terminals[i] || columns.timeouts[i], first[i]].map(flag));
            block.extend(columns.further.iter().map(|(_, values)| values[i]));
        }
        let rows = Tensor::from_slice(&block).view([-1, width as i64]);
        table.narrow(0, start as i64, (end - start) as i64).copy_(&rows);
    }
    Ok(table)
}

/// Discounted sums to the end of each episode of `(1 - gamma) * signal`, one a row.
///
/// An episode that ended by its time limit would have gone on: its tail is valued at the episode's mean signal.
/// A terminal ends it at 0.
pub fn discounted_returns(signal: &[f32], episodes: &[Episode], gamma: f64) -> Vec<f32> {
    let mut returns = vec![0f32; signal.len()];
    for episode in episodes {
        let steps = &signal[episode.start..episode.end];
        let mut value = if episode.terminated {
            0.0
        } else {
            steps.iter().map(|&x| f64::from(x)).sum::<f64>() / steps.len() as f64
        };
        for (offset, &x) in steps.iter().enumerate().rev() {
            value = (1.0 - gamma) * f64::from(x) + gamma * value;
            returns[episode.start + offset] = value as f32;
        }
    }
    returns
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn columns(rows: usize, end: impl Fn(usize) -> (bool, bool)) -> Columns {
        Columns {
            obs_dim: 2,
            act_dim: 1,
            observations: (0..rows * 2).map(|i| i as f32).collect(),
            next_observations: (2..rows * 2 + 2).map(|i| i as f32).collect(),
            actions: (0..rows).map(|i| if i % 2 == 0 { -0.5 } else { 1.5 }).collect(),
            rewards: (0..rows).map(|i| i as f32).collect(),
            costs: (0..rows).map(|i| (i % 3 == 0) as u8 as f32).collect(),
            terminals: (0..rows).map(|i| end(i).0).collect(),
            timeouts: (0..rows).map(|i| end(i).1).collect(),
            source: "test".into(),
            ..Columns::default()
        }
    }

    #[test]
    fn batches_are_views_with_the_stated_shapes() {
        let data = Dataset::new(Arc::new(columns(12, |i| (i == 3, i == 7))), None, Device::Cpu).unwrap();
        assert_eq!((data.episodes.len(), data.episode_length), (3, 4));
        let batch = data.gather(&Tensor::from_slice(&[3i64, 4]));
        assert_eq!(batch.state_action().size(), [2, 3]);
        for column in [batch.reward(), batch.cost(), batch.terminal(), batch.end(), batch.start()] {
            assert_eq!(column.size(), [2, 1]);
        }
        assert_eq!(batch.reward().double_value(&[1, 0]), 4.0);
        assert_eq!((batch.terminal().double_value(&[0, 0]), batch.terminal().double_value(&[1, 0])), (1.0, 0.0));
        assert_eq!((batch.start().double_value(&[0, 0]), batch.start().double_value(&[1, 0])), (0.0, 1.0));
        let ends = data.gather(&Tensor::from_slice(&[3i64, 7, 8])).end();
        assert_eq!((0..3).map(|i| ends.double_value(&[i, 0])).collect::<Vec<_>>(), [1.0, 1.0, 0.0]);
        assert_eq!((batch.action().double_value(&[0, 0]), batch.action().double_value(&[1, 0])), (1.0, -1.0));
        let all = data.gather(&Tensor::arange(12, (tch::Kind::Int64, Device::Cpu))).observation();
        assert!(all.mean_dim(0i64, false, tch::Kind::Float).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn further_costs_stand_behind_the_first() {
        let energy: Vec<f32> = (0..12).map(|i| i as f32 / 2.0).collect();
        let logged = Columns { further: vec![("energy".into(), energy)], ..columns(12, |i| (i == 3, i == 7)) };
        let data = Dataset::new(Arc::new(logged), None, Device::Cpu).unwrap();
        let batch = data.gather(&Tensor::from_slice(&[3i64, 4]));
        let numbers = |k| Vec::<f32>::try_from(batch.cost_of(k).flatten(0, 1)).unwrap();
        assert_eq!((numbers(0), numbers(1)), (vec![1.0, 0.0], vec![1.5, 2.0]));
        assert_eq!(batch.start().double_value(&[1, 0]), 1.0);
        let sums = |k: usize| data.episodes_of(k).iter().map(|episode| episode.cost).collect::<Vec<_>>();
        assert_eq!((sums(0), sums(1)), (vec![2.0, 1.0, 1.0], vec![3.0, 11.0, 19.0]));
        let limits = vec![("costs".to_string(), 1.0), ("energy".to_string(), 12.0)];
        let run = RunConfig { cost_limit: 1.0, limits, ..RunConfig::default() };
        assert_eq!(data.within_limits(&run), [false, true, false], "the last is a tail");
    }

    #[test]
    fn collected_transitions_have_their_share_of_a_mixed_batch() {
        let mut data = Dataset::new(Arc::new(columns(12, |i| (i == 3, i == 7))), None, Device::Cpu).unwrap();
        let mut rng = Rng::new(1, 0);
        assert!(data.sample_mixed(8, 0.25, &mut rng).rows.max().int64_value(&[]) < 12, "nothing was collected yet");
        let fresh = Columns { rewards: vec![100.0; 5], ..columns(5, |i| (false, i == 4)) };
        data.collect(&fresh).unwrap();
        data.collect(&fresh).unwrap();
        assert_eq!((data.collected(), data.len(), data.episodes.len()), (10, 12, 3));
        let batch = data.sample_mixed(8, 0.25, &mut rng);
        assert_eq!(batch.reward().eq(100.0).sum(tch::Kind::Int64).int64_value(&[]), 2);
        assert_eq!(batch.rows.ge(12).sum(tch::Kind::Int64).int64_value(&[]), 2);
        let other = Columns { obs_dim: 1, ..columns(4, |_| (false, false)) };
        assert_eq!(data.collect(&other).unwrap_err().code(), "Shape");
    }

    #[test]
    fn raw_scaling_changes_nothing_and_needs_actions_in_the_unit_box() {
        let mut logged = columns(12, |i| (i == 3, i == 7));
        let error = Dataset::scaled(Arc::new(logged.clone()), None, Scaling::Raw, Device::Cpu).err().unwrap();
        assert!(error.to_string().contains("action 0 of row 1 is 1.5") && error.code() == "Data", "{error}");
        logged.actions.iter_mut().for_each(|action| *action /= 2.0);
        let data = Dataset::scaled(Arc::new(logged.clone()), None, Scaling::Raw, Device::Cpu).unwrap();
        let batch = data.gather(&Tensor::from_slice(&[5i64]));
        assert_eq!(batch.observation().double_value(&[0, 1]), f64::from(logged.observations[11]));
        assert_eq!(batch.action().double_value(&[0, 0]), f64::from(logged.actions[5]));
    }

    /// Columns that someone else still holds stay as they are.
    #[test]
    fn shared_columns_are_left_to_their_owner() {
        let shared = Arc::new(columns(12, |i| (i == 3, i == 7)));
        let data = Dataset::new(Arc::clone(&shared), None, Device::Cpu).unwrap();
        assert_eq!(shared.observations.len(), 24);
        assert_eq!((&data.columns.rewards, &data.columns.timeouts), (&shared.rewards, &shared.timeouts));
        assert!(data.columns.observations.is_empty() && data.columns.actions.is_empty());
    }

    #[test]
    fn an_episode_longer_than_stated_is_refused_by_name() {
        let error = Dataset::new(Arc::new(columns(12, |i| (false, i == 8))), Some(5), Device::Cpu).err().unwrap();
        assert_eq!(error.code(), "Data");
        assert!(error.to_string().contains("episode 0") && error.to_string().contains("9 steps"), "{error}");
    }

    /// A tail that was cut off, and a log that stops before the task does, have no known cost.
    #[test]
    fn episodes_that_were_cut_off_are_not_whole_and_not_safe() {
        let whole = |length: Option<usize>| {
            let data = Dataset::new(Arc::new(columns(12, |i| (i == 3, i == 7))), length, Device::Cpu).unwrap();
            data.episodes.iter().map(|e| (data.whole(e), data.safe(e, 1.0))).collect::<Vec<_>>()
        };
        // Rows 0, 3, 6 and 9 cost 1: the terminated episode 2, the timed out and the cut off one 1 each.
        assert_eq!(whole(None), [(true, false), (true, true), (false, false)]);
        assert_eq!(whole(Some(5)), [(true, false), (false, false), (false, false)]);
    }

    #[test]
    fn entries_that_never_change_are_known() {
        let mut logged = columns(12, |i| (i == 3, i == 7));
        assert_eq!(Dataset::new(Arc::new(logged.clone()), None, Device::Cpu).unwrap().varying, [0, 1]);
        for row in [&mut logged.observations, &mut logged.next_observations] {
            row.iter_mut().step_by(2).for_each(|x| *x = -7.5);
        }
        assert_eq!(Dataset::new(Arc::new(logged), None, Device::Cpu).unwrap().varying, [1]);
    }

    /// A constant signal has a constant normalised value, whatever the episode's length, unless the episode terminated.
    #[test]
    fn discounted_returns_continue_through_time_limits() {
        let data = columns(8, |i| (i == 7, i == 3));
        let returns = discounted_returns(&[2.0; 8], &data.episodes(), 0.9);
        assert!(returns[..4].iter().all(|r| (r - 2.0).abs() < 1e-6));
        assert!((f64::from(returns[4]) - 2.0 * (1.0 - 0.9f64.powi(4))).abs() < 1e-6);
    }
}
