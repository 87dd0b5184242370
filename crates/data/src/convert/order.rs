//! Rows put in order by a column of episodes or of times, and what such a column says where nobody asked for it.

use std::collections::HashMap;

use super::mapping::Extra;
use crate::budget::{extend, Budget};
use crate::check::{self, Finding};
use crate::columns::Columns;
use crate::error::{Error, Result};

/// Columns beside the fields, as they came with some rows.
#[derive(Default)]
pub(super) struct Extras {
    pub episodes: Option<(Extra, Vec<u64>)>,
    pub times: Option<(Extra, Vec<f64>)>,
}

/// All rows of a file, kept until they can be put in order.
#[derive(Default)]
pub(super) struct Held {
    columns: Columns,
    episodes: Vec<u64>,
    time: Option<Extra>,
    times: Vec<f64>,
}

/// What [`Held::arrange`] found and changed.
#[derive(Default)]
pub(super) struct Arranged {
    /// Rows in their new order.
    pub order: Vec<usize>,
    /// Episodes that got a timeout at their last row.
    pub ended: u64,
    /// Episodes that were ended at a gap.
    pub gaps: u64,
    pub findings: Vec<Finding>,
}

impl Held {
    /// Takes rows over; they have to fit in memory together.
    pub fn take(&mut self, block: Columns, extras: Extras, budget: &Budget) -> Result<()> {
        let estimate = self.columns.bytes() + block.bytes() + 16 * (self.columns.len() + block.len());
        budget.check(&block.source, None, estimate as u64)?;
        if let Some((_, numbers)) = extras.episodes {
            extend(&mut self.episodes, numbers.into_iter(), &block.source)?;
        }
        if let Some((extra, times)) = extras.times {
            extend(&mut self.times, times.into_iter(), &block.source)?;
            self.time = Some(extra);
        }
        if self.columns.is_empty() {
            self.columns = block;
        } else {
            super::assemble::append(&mut self.columns, &block, 0..block.len())?;
        }
        Ok(())
    }

    /// Entries of an observation and of an action, once there are rows.
    pub fn dims(&self) -> Option<(usize, usize)> {
        (!self.columns.is_empty()).then_some((self.columns.obs_dim, self.columns.act_dim))
    }

    /// Puts rows of an episode together, in the order they have in the file,
    /// and ends episodes where `max_gap` seconds are exceeded.
    ///
    /// `end`: the last row of each ends it, if no flag does.
    pub fn arrange(mut self, max_gap: Option<f64>, end: bool) -> Result<(Columns, Arranged)> {
        let rows = self.columns.len();
        let mut done = Arranged::default();
        let mut group: Vec<usize> = Vec::new();
        extend(&mut done.order, 0..rows, &self.columns.source)?;
        extend(&mut group, (0..rows).map(|_| 0), &self.columns.source)?;
        if self.episodes.len() == rows {
            let mut numbers = HashMap::new();
            for (row, id) in self.episodes.iter().enumerate() {
                let next = numbers.len();
                group[row] = *numbers.entry(id).or_insert(next);
            }
            done.order.sort_by_key(|&row| group[row]);
        }
        let timed = self.times.len() == rows;
        let ends = |columns: &Columns, row: usize| columns.terminals[row] || columns.timeouts[row];
        for at in 0..rows {
            let row = done.order[at];
            let next = done.order.get(at + 1).copied().filter(|&next| group[next] == group[row]);
            if ends(&self.columns, row) {
                continue;
            }
            let Some(next) = next else {
                if end {
                    self.columns.timeouts[row] = true;
                    done.ended += 1;
                }
                continue;
            };
            if let (Some(extra), true) = (self.time.as_ref().filter(|extra| extra.asked), timed) {
                let (from, to) = (self.times[row], self.times[next]);
                if to < from {
                    let problem =
                        format!("runs backwards: {to} in row {next}, {from} in row {row} of the same episode");
                    let remedy = "sort the rows by time, or name the column that tells episodes apart (--episode NAME)";
                    return Err(Error::data(&self.columns.source, Some(&extra.name), &problem, remedy));
                }
                if max_gap.is_some_and(|most| to - from > most) {
                    self.columns.timeouts[row] = true;
                    done.gaps += 1;
                }
            }
        }
        if let (Some(extra), true) = (&self.time, timed) {
            let at = |&row: &usize| self.times[row];
            let (mut times, mut ended) = (Vec::new(), Vec::new());
            extend(&mut times, done.order.iter().map(at), &self.columns.source)?;
            let last = |at: usize| done.order.get(at + 1).is_none_or(|&next| group[next] != group[done.order[at]]);
            let ends = (0..rows).map(|at| ends(&self.columns, done.order[at]) || last(at));
            extend(&mut ended, ends, &self.columns.source)?;
            done.findings = check::times(&extra.name, &times, &ended);
        }
        Ok((self.columns, done))
    }
}

/// What columns of episodes and times say that were found by their names, while rows pass in the file's order.
#[derive(Default)]
pub(super) struct Witness {
    rows: usize,
    episode: Option<Extra>,
    last: Option<(u64, bool)>,
    /// Rows that belong to another episode than the row before, without an end flag in between; and the first of them.
    bridged: Option<(u64, usize)>,
    time: Option<Extra>,
    times: Vec<f64>,
    ends: Vec<bool>,
}

impl Witness {
    pub fn see(&mut self, columns: &Columns, extras: Extras) -> Result<()> {
        let ends = |row: usize| columns.terminals[row] || columns.timeouts[row];
        if let Some((extra, numbers)) = extras.episodes {
            for (row, &number) in numbers.iter().enumerate().take(columns.len()) {
                if self.last.is_some_and(|(last, ended)| last != number && !ended) {
                    self.bridged = self.bridged.map_or(Some((1, self.rows + row)), |(n, first)| Some((n + 1, first)));
                }
                self.last = Some((number, ends(row)));
            }
            self.episode = Some(extra);
        }
        if let Some((extra, times)) = extras.times {
            extend(&mut self.times, times.into_iter(), &columns.source)?;
            extend(&mut self.ends, (0..columns.len()).map(ends), &columns.source)?;
            self.time = Some(extra);
        }
        self.rows += columns.len();
        Ok(())
    }

    /// Refuses rows of several episodes that would be one; else what is odd about the times.
    pub fn judge(self, source: &str) -> Result<Vec<Finding>> {
        if let (Some(extra), Some((rows, first))) = (&self.episode, self.bridged) {
            let problem = format!(
                "changes in {rows} of {} rows without an end flag before (first in row {first}): rows of different episodes would \
                 follow each other as one",
                self.rows
            );
            let remedy = format!("have it tell the episodes apart: --episode {}", extra.name);
            return Err(Error::data(source, Some(&extra.name), &problem, &remedy));
        }
        let Some(extra) = self.time.filter(|_| self.times.len() == self.rows) else { return Ok(Vec::new()) };
        Ok(check::times(&extra.name, &self.times, &self.ends))
    }
}
