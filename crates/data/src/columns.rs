//! A dataset as columns in host memory, and its episodes.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::summary::Summary;

/// `N` transitions, row-major, in recorded order.
///
/// The fields are public so that a caller can fill them; [`Columns::validate`] makes the guarantees that
/// the other methods rely on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Columns {
    /// Number `S` of observation entries.
    pub obs_dim: usize,
    /// Number `A` of action entries.
    pub act_dim: usize,
    /// `[N, S]`, observation before the step.
    pub observations: Vec<f32>,
    /// `[N, S]`, observation after the step: the true successor, also at the end of an episode.
    pub next_observations: Vec<f32>,
    /// `[N, A]`, action as the environment executed it.
    pub actions: Vec<f32>,
    /// `[N]`, reward of the step.
    pub rewards: Vec<f32>,
    /// `[N]`, cost of the step.
    pub costs: Vec<f32>,
    /// Name of the column that stands in [`Columns::costs`]; None for `costs` itself.
    pub cost_name: Option<String>,
    /// Further columns of one number a step by their names, `[N]` each, in the order they were asked for.
    pub further: Vec<(String, Vec<f32>)>,
    /// `[N]`, the environment ended the episode at this step.
    pub terminals: Vec<bool>,
    /// `[N]`, the time limit ended the episode at this step.
    pub timeouts: Vec<bool>,
    /// Where the data came from: a path, or a name for data made in memory. Error messages begin with it.
    pub source: String,
}

/// The column of costs that every dataset has.
pub(crate) const COSTS: &str = "costs";

/// Stands before the name of a further column wherever it is copied.
pub(crate) const FURTHER: &str = "further/";

/// The error of a cost that is not there.
#[cold]
#[inline(never)]
pub(crate) fn no_cost(source: &str, name: &str, known: &[&str]) -> Error {
    let problem = format!("is no column of one number a step (those are: {})", known.join(", "));
    Error::data(source, Some(name), &problem, "give a limit to one of these, or add the column")
}

/// A run of rows that ends at a terminal or a timeout; the last one of a dataset may lack its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Episode {
    /// First row.
    pub start: usize,
    /// One past the last row.
    pub end: usize,
    /// Undiscounted sum of rewards, summed in `f64`.
    pub ret: f64,
    /// Undiscounted sum of costs, summed in `f64`.
    pub cost: f64,
    /// The last row is a terminal (it may be a timeout as well).
    pub terminated: bool,
    /// The last row carries an end flag. False only for a tail that was cut off.
    pub complete: bool,
}

impl Episode {
    /// Number of transitions, at least 1.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Always false: an episode has at least one transition.
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }
}

impl Columns {
    /// Bytes that the columns take in memory.
    pub fn bytes(&self) -> usize {
        let floats = [&self.observations, &self.next_observations, &self.actions, &self.rewards, &self.costs];
        let further = self.further.iter().map(|(_, column)| column);
        floats.into_iter().chain(further).map(|column| column.len() * size_of::<f32>()).sum::<usize>()
            + self.terminals.len()
            + self.timeouts.len()
    }

    /// Makes room for `rows` more transitions, or says that the memory is not there: growing would end the process.
    pub(crate) fn reserve(&mut self, rows: usize) -> Option<()> {
        let (states, actions) = (rows.checked_mul(self.obs_dim)?, rows.checked_mul(self.act_dim)?);
        self.observations.try_reserve(states).ok()?;
        self.next_observations.try_reserve(states).ok()?;
        self.actions.try_reserve(actions).ok()?;
        self.rewards.try_reserve(rows).ok()?;
        self.costs.try_reserve(rows).ok()?;
        self.further.iter_mut().try_for_each(|(_, column)| column.try_reserve(rows).ok())?;
        self.terminals.try_reserve(rows).ok()?;
        self.timeouts.try_reserve(rows).ok()
    }

    /// Copies the values of a column from flat index `from` on; a flag is 0 or 1. A further column is `further/NAME`.
    ///
    /// # Errors
    /// `Data` for a name that is none.
    pub fn copy_values(&self, column: &str, from: usize, into: &mut [f32]) -> Result<usize> {
        let floats: &[f32] = match column {
            "observations" => &self.observations,
            "next_observations" => &self.next_observations,
            "actions" => &self.actions,
            "rewards" => &self.rewards,
            COSTS => &self.costs,
            "terminals" | "timeouts" => {
                let flags = if column == "terminals" { &self.terminals } else { &self.timeouts };
                let left = flags.get(from..).unwrap_or_default();
                let pairs = into.iter_mut().zip(left);
                return Ok(pairs.map(|(to, &flag)| *to = f32::from(u8::from(flag))).count());
            }
            // Set apart, because the own costs may be a further column.
            name => match name.strip_prefix(FURTHER).and_then(|name| self.further(name)) {
                Some(values) => values,
                None => return Err(self.error(column, "is no column of the dataset", "name one that it has")),
            },
        };
        let left = floats.get(from..).unwrap_or_default();
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        Ok(count)
    }

    /// Name of the column in [`Columns::costs`].
    pub fn cost_name(&self) -> &str {
        self.cost_name.as_deref().unwrap_or(COSTS)
    }

    /// The further column of that name, `[N]`.
    pub fn further(&self, name: &str) -> Option<&[f32]> {
        self.further.iter().find(|(known, _)| known == name).map(|(_, values)| values.as_slice())
    }

    /// With these columns as costs, in this order: the first in [`Columns::costs`], the others further ones. `costs` is
    /// the dataset's own column. What is not named is given up.
    ///
    /// # Errors
    /// `Data` for a name that is there twice or not at all, listing those that are.
    pub fn with_costs(mut self, names: &[String]) -> Result<Self> {
        let mut chosen = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                return Err(self.error(name, "is named twice", "give each cost one limit"));
            }
            let found = match (self.cost_name() == name, self.further.iter().position(|(known, _)| known == name)) {
                (true, _) => Some(self.costs.clone()),
                (false, Some(at)) => Some(self.further[at].1.clone()),
                (false, None) => None,
            };
            let Some(values) = found else { return Err(self.no_cost(name)) };
            chosen.push((name.clone(), values));
        }
        if !chosen.is_empty() {
            let (name, costs) = chosen.remove(0);
            self.cost_name = (name != COSTS).then_some(name);
            (self.costs, self.further) = (costs, chosen);
        }
        Ok(self)
    }

    fn no_cost(&self, name: &str) -> Error {
        let known = std::iter::once(self.cost_name()).chain(self.further.iter().map(|(known, _)| known.as_str()));
        no_cost(&self.source, name, &known.collect::<Vec<_>>())
    }

    /// Number `N` of transitions.
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// True if there is no transition.
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }

    /// Returns the columns if they agree in length, have at least one row, entry and finite values only.
    ///
    /// # Errors
    /// `Data`, naming the first column that is wrong, with the row and the value where one value is at fault.
    pub fn validate(self) -> Result<Self> {
        self.check_lengths()?;
        self.check_finite("observations", &self.observations, self.obs_dim)?;
        self.check_finite("next_observations", &self.next_observations, self.obs_dim)?;
        self.check_finite("actions", &self.actions, self.act_dim)?;
        self.check_finite("rewards", &self.rewards, 1)?;
        self.check_finite(self.cost_name(), &self.costs, 1)?;
        self.further.iter().try_for_each(|(name, values)| self.check_finite(name, values, 1))?;
        Ok(self)
    }

    fn check_lengths(&self) -> Result<()> {
        for (key, dim) in [("observations", self.obs_dim), ("actions", self.act_dim)] {
            if dim == 0 {
                let remedy = "give at least one entry per row";
                return Err(self.error(key, "has rows of 0 entries", remedy));
            }
        }
        let rows = self.len();
        if rows == 0 {
            let remedy = "give at least one transition";
            return Err(self.error("rewards", "has 0 rows, the dataset is empty", remedy));
        }
        let fixed = [
            ("observations", self.observations.len(), self.obs_dim),
            ("next_observations", self.next_observations.len(), self.obs_dim),
            ("actions", self.actions.len(), self.act_dim),
            ("costs", self.costs.len(), 1),
            ("terminals", self.terminals.len(), 1),
            ("timeouts", self.timeouts.len(), 1),
        ];
        let further = self.further.iter().map(|(name, values)| (name.as_str(), values.len(), 1));
        for (key, len, dim) in fixed.into_iter().chain(further) {
            if rows.checked_mul(dim) != Some(len) {
                let problem = format!("has {len} values, but rewards has {rows} rows and each row takes {dim}");
                return Err(self.error(key, &problem, "make all columns equally long"));
            }
        }
        Ok(())
    }

    fn check_finite(&self, key: &str, values: &[f32], dim: usize) -> Result<()> {
        // A block without a branch inside is vectorised.
        const BLOCK: usize = 4096;
        for (block, chunk) in values.chunks(BLOCK).enumerate() {
            if chunk.iter().fold(true, |ok, v| ok & v.is_finite()) {
                continue;
            }
            if let Some(offset) = chunk.iter().position(|v| !v.is_finite()) {
                let index = block * BLOCK + offset;
                let place = place(index, dim);
                let problem = format!("{place} is {}, not a finite number", chunk[offset]);
                let remedy = "remove or repair that transition";
                return Err(self.error(key, &problem, remedy));
            }
        }
        Ok(())
    }

    /// Refuses a dataset with an episode of more than `limit` transitions, the cut-off tail included.
    ///
    /// # Errors
    /// `Data`, naming the first such episode: its end flag is missing, or `limit` is another task's.
    pub fn check_episode_length(&self, limit: usize) -> Result<()> {
        let episodes = self.episodes();
        let Some((index, episode)) = episodes.iter().enumerate().find(|(_, e)| e.len() > limit) else {
            return Ok(());
        };
        let problem = format!(
            "episode {index} (rows {} to {}) has {} transitions, more than the stated episode length {limit}",
            episode.start,
            episode.end - 1,
            episode.len()
        );
        let remedy = "state the task's true length, or set timeouts to 1 where an episode ends";
        Err(self.error("timeouts", &problem, remedy))
    }

    /// Splits the rows at every terminal or timeout. Rows after the last end flag are one incomplete episode.
    pub fn episodes(&self) -> Vec<Episode> {
        let mut episodes = Vec::new();
        let mut start = 0;
        for end in 1..=self.len() {
            let terminated = self.terminals[end - 1];
            let complete = terminated || self.timeouts[end - 1];
            if complete || end == self.len() {
                let sum = |values: &[f32]| values[start..end].iter().map(|&v| f64::from(v)).sum();
                episodes.push(Episode {
                    start,
                    end,
                    ret: sum(&self.rewards),
                    cost: sum(&self.costs),
                    terminated,
                    complete,
                });
                start = end;
            }
        }
        episodes
    }

    /// Statistics for a person and for reports. Costs one pass over rewards, costs and actions.
    pub fn summary(&self) -> Summary {
        Summary::of(self)
    }

    fn error(&self, key: &str, problem: &str, remedy: &str) -> Error {
        Error::data(&self.source, Some(key), problem, remedy)
    }
}

/// Name of the value at a flat `index`: its row, and its entry if rows have several.
pub(crate) fn place(index: usize, dim: usize) -> String {
    if dim == 1 {
        format!("row {index}")
    } else {
        format!("row {}, entry {}", index / dim, index % dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 7 rows: an episode ended by a terminal (3), one by a timeout (2), a tail (2).
    fn columns() -> Columns {
        Columns {
            obs_dim: 2,
            act_dim: 1,
            observations: vec![0.5; 14],
            next_observations: vec![1.5; 14],
            actions: vec![0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7],
            rewards: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
            costs: vec![0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0],
            terminals: vec![false, false, true, false, false, false, false],
            timeouts: vec![false, false, false, false, true, false, false],
            source: "memory".to_owned(),
            ..Columns::default()
        }
    }

    #[test]
    fn costs_are_chosen_by_name_in_the_order_asked_for() {
        let further = vec![("alarm".to_owned(), vec![2.0; 7]), ("energy".to_owned(), vec![0.5; 7])];
        let all = Columns { further, ..columns() };
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let one = all.clone().with_costs(&names(&["energy"])).unwrap().validate().unwrap();
        assert_eq!((one.cost_name(), one.episodes()[0].cost, one.further.len()), ("energy", 1.5, 0));
        let two = all.clone().with_costs(&names(&["energy", "costs"])).unwrap();
        assert_eq!((two.costs[0], two.further("costs").unwrap()), (0.5, columns().costs.as_slice()));
        let mut copied = [9.0; 3];
        assert_eq!((two.copy_values("costs", 5, &mut copied).unwrap(), copied), (2, [0.5, 0.5, 9.0]));
        assert_eq!((two.copy_values("further/costs", 4, &mut copied).unwrap(), copied), (3, [0.0, 1.0, 1.0]));
        assert_eq!(all.clone().with_costs(&[]).unwrap(), all);
        let refused = |asked: &[&str]| all.clone().with_costs(&names(asked)).unwrap_err().message;
        assert!(refused(&["speed"])
            .contains("memory: speed: is no column of one number a step (those are: costs, alarm, energy)"));
        assert!(refused(&["alarm", "alarm"]).contains("memory: alarm: is named twice"));
    }

    #[test]
    fn episodes_end_at_flags_and_keep_the_tail() {
        let episode =
            |start, end, ret, cost, terminated, complete| Episode { start, end, ret, cost, terminated, complete };
        let expected = [
            episode(0, 3, 6.0, 1.0, true, true),
            episode(3, 5, 9.0, 0.0, false, true),
            episode(5, 7, 13.0, 2.0, false, false),
        ];
        assert_eq!(columns().validate().unwrap().episodes(), expected);
    }

    #[test]
    fn sums_are_taken_in_f64() {
        let mut columns = columns();
        columns.rewards = vec![16_777_216.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(columns.episodes()[0].ret, 16_777_218.0);
    }

    #[test]
    fn refuses_bad_columns_by_name() {
        type Change = fn(&mut Columns);
        let cases: [(&str, &str, Change); 11] = [
            ("observations", "rows of 0 entries", |c| c.obs_dim = 0),
            ("actions", "rows of 0 entries", |c| c.act_dim = 0),
            ("rewards", "the dataset is empty", |c| c.rewards.clear()),
            ("observations", "has 13 values", |c| c.observations.truncate(13)),
            ("terminals", "has 8 values", |c| c.terminals.push(true)),
            ("observations", "each row takes", |c| c.obs_dim = usize::MAX),
            ("next_observations", "row 4, entry 1 is NaN", |c| {
                c.next_observations[9] = f32::NAN;
            }),
            ("rewards", "row 6 is -inf", |c| c.rewards[6] = f32::NEG_INFINITY),
            ("actions", "row 0 is inf", |c| c.actions[0] = f32::INFINITY),
            ("energy", "row 1 is NaN", |c| {
                c.further = vec![("energy".into(), vec![0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0, 0.0])]
            }),
            ("energy", "has 2 values", |c| c.further = vec![("energy".into(), vec![0.0; 2])]),
        ];
        for (key, text, change) in cases {
            let mut columns = columns();
            change(&mut columns);
            let error = columns.validate().unwrap_err();
            assert_eq!((error.code(), error.key.as_deref()), ("Data", Some(key)));
            assert!(error.message.starts_with(&format!("memory: {key}: ")), "{error}");
            assert!(error.message.contains(text), "{error}");
        }
    }

    #[test]
    fn finds_the_first_bad_value_of_a_long_column() {
        let mut values = vec![0.0; 10_000];
        values[9_001] = f32::NAN;
        values[9_999] = f32::NAN;
        let error = columns().check_finite("observations", &values, 2).unwrap_err();
        assert!(error.message.contains("row 4500, entry 1"), "{error}");
    }

    #[test]
    fn the_length_bound_covers_the_tail() {
        assert!(columns().check_episode_length(3).is_ok());
        let mut columns = columns();
        columns.timeouts[4] = false;
        let error = columns.check_episode_length(3).unwrap_err();
        let text = "episode 1 (rows 3 to 6) has 4 transitions, more than the stated episode length 3";
        assert!(error.message.contains(text), "{error}");
    }
}
