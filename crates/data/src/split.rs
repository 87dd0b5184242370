//! A dataset in two parts by whole episodes: one to learn from, one that nothing which learns may see.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::columns::{Columns, Episode};
use crate::draws::{sample, Pcg};
use crate::error::{Error, Result};
use crate::watch::Watch;
use crate::write::write_together;

/// Stream of a seed; the filters have 1 to 3.
const STREAM: u64 = 4;

/// What is set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitOptions {
    /// Of the complete episodes, above 0 and below 1.
    pub share: f64,
    /// Seed of the draw.
    pub seed: u64,
}

/// A dataset in two parts; every row is in one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Rows after the last end flag are here.
    pub train: Columns,
    pub held_out: Columns,
    /// Of each episode of the whole, in its order: whether it was set aside.
    pub held: Vec<bool>,
}

/// What a split made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitReport {
    pub train: PartReport,
    pub held_out: PartReport,
    /// Rows after the last end flag; they stay with the training part.
    pub tail: usize,
}

/// One part of a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartReport {
    /// Complete ones.
    pub episodes: usize,
    pub transitions: usize,
}

/// Splits by episode. The same episodes, share and seed give the same parts whatever the rows hold.
///
/// # Errors
/// `Data` if the share is out of range, if no episode is complete, or if a part would be without any.
pub fn split(columns: &Columns, options: &SplitOptions) -> Result<Split> {
    let SplitOptions { share, seed } = *options;
    let refuse = |problem: &str, remedy: &str| Err(Error::data(&columns.source, Some("share"), problem, remedy));
    if !(share > 0.0 && share < 1.0) {
        return refuse(&format!("{share} is not allowed"), "give a share above 0 and below 1");
    }
    let episodes = columns.episodes();
    let complete: Vec<usize> = (0..episodes.len()).filter(|&i| episodes[i].complete).collect();
    if complete.is_empty() {
        let problem = "holds no complete episode: no row has a terminal or a timeout";
        return Err(Error::data(&columns.source, Some("timeouts"), problem, "set timeouts where episodes end"));
    }
    let count = (share * complete.len() as f64).round() as usize;
    if count == 0 || count == complete.len() {
        let (what, remedy) = if count == 0 { ("none", "a larger share") } else { ("all", "a smaller share") };
        let problem = format!("{share} of {} complete episodes is {what} of them", complete.len());
        return refuse(&problem, &format!("give {remedy}, or more episodes"));
    }
    let mut held = vec![false; episodes.len()];
    sample(complete, count, &mut Pcg::new(seed, STREAM)).into_iter().for_each(|i| held[i] = true);
    let part = |wanted: bool| {
        let kept = episodes.iter().zip(&held).filter(|(_, &held)| held == wanted);
        take(columns, &kept.map(|(episode, _)| *episode).collect::<Vec<_>>())
    };
    Ok(Split { train: part(false), held_out: part(true), held })
}

/// The rows of these episodes.
fn take(columns: &Columns, kept: &[Episode]) -> Columns {
    fn rows<T: Copy>(values: &[T], dim: usize, kept: &[Episode]) -> Vec<T> {
        kept.iter().flat_map(|episode| &values[episode.start * dim..episode.end * dim]).copied().collect()
    }
    let Columns { obs_dim, act_dim, .. } = *columns;
    Columns {
        obs_dim,
        act_dim,
        observations: rows(&columns.observations, obs_dim, kept),
        next_observations: rows(&columns.next_observations, obs_dim, kept),
        actions: rows(&columns.actions, act_dim, kept),
        rewards: rows(&columns.rewards, 1, kept),
        costs: rows(&columns.costs, 1, kept),
        cost_name: columns.cost_name.clone(),
        further: columns.further.iter().map(|(name, values)| (name.clone(), rows(values, 1, kept))).collect(),
        terminals: rows(&columns.terminals, 1, kept),
        timeouts: rows(&columns.timeouts, 1, kept),
        source: columns.source.clone(),
    }
}

impl Split {
    /// Writes both parts; neither file appears without the other being complete. Attributes as [`crate::write_dsrl`].
    ///
    /// # Errors
    /// As [`crate::write_dsrl`].
    pub fn write(
        &self,
        train: (&Path, &[(&str, String)]),
        held_out: (&Path, &[(&str, String)]),
        watch: &Watch,
    ) -> Result<()> {
        write_together(&[(train.0, &self.train, train.1), (held_out.0, &self.held_out, held_out.1)], watch)
    }

    /// Sizes of the parts.
    pub fn report(&self) -> SplitReport {
        let part = |columns: &Columns| {
            let complete = columns.episodes().iter().filter(|episode| episode.complete).count();
            PartReport { episodes: complete, transitions: columns.len() }
        };
        let tail = self.train.episodes().last().filter(|last| !last.complete).map_or(0, Episode::len);
        SplitReport { train: part(&self.train), held_out: part(&self.held_out), tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Episodes of 3 rows, numbered by their rewards, and `tail` rows without an end flag.
    fn columns(episodes: usize, tail: usize) -> Columns {
        let rows = 3 * episodes + tail;
        Columns {
            obs_dim: 2,
            act_dim: 1,
            observations: (0..2 * rows).map(|i| i as f32).collect(),
            next_observations: (0..2 * rows).map(|i| i as f32 + 0.5).collect(),
            actions: (0..rows).map(|i| -(i as f32)).collect(),
            rewards: (0..rows).map(|i| (i / 3) as f32).collect(),
            costs: (0..rows).map(|i| (i % 2) as f32).collect(),
            terminals: (0..rows).map(|i| i < 3 * episodes && i % 6 == 2).collect(),
            timeouts: (0..rows).map(|i| i < 3 * episodes && i % 6 == 5).collect(),
            source: "memory".into(),
            ..Columns::default()
        }
    }

    fn parts(episodes: usize, tail: usize, share: f64, seed: u64) -> Split {
        split(&columns(episodes, tail), &SplitOptions { share, seed }).unwrap()
    }

    #[test]
    fn the_parts_are_disjoint_and_complete_and_repeat() {
        for (episodes, tail, share, seed) in [(10, 0, 0.2, 0), (23, 2, 0.5, 7), (2, 1, 0.5, 1), (100, 0, 0.01, 3)] {
            let whole = columns(episodes, tail);
            let Split { train, held_out, held } = parts(episodes, tail, share, seed);
            assert_eq!(held_out.episodes().len(), (share * episodes as f64).round() as usize);
            let mut rows: Vec<i64> = train.actions.iter().chain(&held_out.actions).map(|a| -(*a as i64)).collect();
            rows.sort_unstable();
            assert_eq!(rows, (0..whole.len() as i64).collect::<Vec<_>>());
            for part in [&train, &held_out] {
                for (at, action) in part.actions.iter().enumerate() {
                    let row = -action as usize;
                    assert_eq!(part.observations[2 * at..][..2], whole.observations[2 * row..][..2]);
                    assert_eq!(part.next_observations[2 * at..][..2], whole.next_observations[2 * row..][..2]);
                    assert_eq!((part.rewards[at], part.costs[at]), (whole.rewards[row], whole.costs[row]));
                    assert_eq!((part.terminals[at], part.timeouts[at]), (whole.terminals[row], whole.timeouts[row]));
                }
            }
            assert_eq!(held.len(), whole.episodes().len());
            assert!(tail == 0 || !held[episodes], "rows without an end flag are no episode to test on");
            assert_eq!(parts(episodes, tail, share, seed), Split { train, held_out, held });
        }
    }

    #[test]
    fn the_seed_chooses_and_the_content_does_not() {
        let held = |seed| parts(40, 0, 0.25, seed).held;
        assert_ne!(held(0), held(1));
        let mut other = columns(40, 0);
        other.rewards.fill(9.0);
        other.costs.fill(1.0);
        assert_eq!(split(&other, &SplitOptions { share: 0.25, seed: 0 }).unwrap().held, held(0));
    }

    #[test]
    fn what_leaves_a_part_empty_is_refused() {
        let refusal = |episodes, tail, share| {
            split(&columns(episodes, tail), &SplitOptions { share, seed: 0 }).unwrap_err().to_string()
        };
        for share in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(refusal(10, 0, share).contains("is not allowed"), "{share}");
        }
        assert!(refusal(10, 0, 0.01).contains("0.01 of 10 complete episodes is none of them"));
        assert!(refusal(10, 0, 0.99).contains("all of them"));
        assert!(refusal(0, 6, 0.5).contains("no complete episode"));
    }

    #[test]
    fn both_files_appear_or_neither() {
        let folder = tempfile::tempdir().unwrap();
        let [train, held] = ["train.hdf5", "held.hdf5"].map(|name| folder.path().join(name));
        let made = parts(10, 0, 0.3, 0);
        let watch = Watch::default();
        watch.cancel();
        made.write((&train, &[]), (&held, &[]), &watch).unwrap_err();
        let missing = folder.path().join("missing/held.hdf5");
        made.write((&train, &[]), (&missing, &[]), &Watch::default()).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let origin = [("drcorl_split", "{}".to_owned())];
        let watch = Watch::default();
        made.write((&train, &origin), (&held, &origin), &watch).unwrap();
        assert_eq!(watch.progress(), (30, 30));
        for (path, part) in [(train, &made.train), (held, &made.held_out)] {
            assert_eq!(crate::read_dsrl(&path).unwrap().observations, part.observations);
        }
    }
}
