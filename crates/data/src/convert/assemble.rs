//! Blocks of rows from any format to one DSRL file.

use std::collections::BTreeMap;
use std::path::Path;

use super::mapping::{Extra, Field, FIELDS};
use super::order::{Extras, Held, Witness};
use super::{ConvertOptions, ConvertReport, BLOCK_ROWS};
use crate::budget::{extend, Budget};
use crate::check::{self, Finding};
use crate::columns::{place, Columns};
use crate::error::{Error, Result};
use crate::hdf5::{read_dsrl_with, ReadOptions};
use crate::watch::Watch;
use crate::write::{DsrlWriter, Written};

/// Some rows: a flat row-major array per field and its entries per row, by [`Field::index`].
#[derive(Default)]
pub(crate) struct Block {
    pub values: Vec<Vec<f32>>,
    pub dims: Vec<usize>,
    /// Which episode each row is of.
    pub episodes: Option<(Extra, Vec<u64>)>,
    /// Seconds.
    pub times: Option<(Extra, Vec<f64>)>,
}

impl Block {
    #[inline(never)]
    pub fn set(&mut self, field: Field, dim: usize, values: Vec<f32>) {
        let index = field.index();
        self.values.resize_with(self.values.len().max(index + 1), Vec::new);
        self.dims.resize(self.values.len(), 0);
        (self.values[index], self.dims[index]) = (values, dim);
    }

    /// Values and entries per row; none before they are set.
    #[inline(never)]
    pub fn get(&self, field: Field) -> (&[f32], usize) {
        self.values.get(field.index()).map_or((&[], 0), |values| (values, self.dims[field.index()]))
    }

    /// Rows of a field.
    pub fn rows_of(&self, field: Field) -> usize {
        let (values, dim) = self.get(field);
        values.len() / dim.max(1)
    }

    fn take(&mut self, field: Field) -> Vec<f32> {
        self.values.get_mut(field.index()).map(std::mem::take).unwrap_or_default()
    }

    fn rows(&self) -> usize {
        self.rows_of(Field::Rewards)
    }
}

pub(crate) struct Assembler<'a> {
    output: &'a Path,
    source: &'a str,
    options: &'a ConvertOptions,
    /// Names of the further columns.
    keep: &'a [String],
    budget: Budget,
    watch: &'a Watch,
    writer: Option<DsrlWriter>,
    /// Rows taken from the input, for messages.
    taken: usize,
    /// With an episode or time column: all rows.
    held: Held,
    witness: Witness,
    /// With `shift`: the last row, which waits for its successor.
    waiting: Columns,
    report: ConvertReport,
    /// Rows since the last end flag.
    open_rows: u64,
}

impl<'a> Assembler<'a> {
    pub fn new(
        output: &'a Path,
        source: &'a str,
        (options, keep): (&'a ConvertOptions, &'a [String]),
        budget: Budget,
        watch: &'a Watch,
    ) -> Result<Self> {
        if options.max_gap.is_some_and(|gap| options.time.is_none() || gap.is_nan() || gap <= 0.0) {
            let problem = "a largest gap needs a column of times, and is above 0";
            return Err(Error::data(source, None, problem, "name the column: --time NAME --max-gap 5m"));
        }
        if options.missing_cost.is_some_and(|cost| !cost.is_finite()) {
            return Err(Error::data(source, Some("costs"), "the missing cost is not a finite number", "give one"));
        }
        Ok(Assembler {
            output,
            source,
            options,
            keep,
            budget,
            watch,
            writer: None,
            taken: 0,
            held: Held::default(),
            witness: Witness::default(),
            waiting: Columns::default(),
            report: ConvertReport::default(),
            open_rows: 0,
        })
    }

    /// Units of progress done; units are bytes of the input.
    pub fn progress(&self, done: u64) -> Result<()> {
        self.watch.set(done);
        self.watch.check(self.source)
    }

    /// A whole episode; `ended`: it had no end flag and was given a timeout.
    pub fn push_episode(&mut self, block: Block, ended: bool) -> Result<()> {
        if self.options.episode.is_some() || self.options.time.is_some() {
            let problem = "its episodes are whole already";
            return Err(Error::data(self.source, None, problem, "leave out --episode and --time"));
        }
        self.report.ended += u64::from(ended);
        self.push(block)
    }

    pub fn push(&mut self, mut block: Block) -> Result<()> {
        let extras = Extras { episodes: block.episodes.take(), times: block.times.take() };
        let lengths = [
            extras.episodes.as_ref().map(|(extra, v)| (&extra.name, v.len())),
            extras.times.as_ref().map(|(extra, v)| (&extra.name, v.len())),
        ];
        let rows = block.rows();
        if let Some((name, len)) = lengths.into_iter().flatten().find(|(_, len)| *len != rows) {
            let problem = format!("has {len} rows, rewards has {rows}");
            return Err(Error::data(self.source, Some(name), &problem, "make all columns equally long"));
        }
        let columns = self.check(block)?;
        if self.taken > 0 && self.held_or_waiting().is_some_and(|dims| dims != (columns.obs_dim, columns.act_dim)) {
            let problem = format!("row {}: the number of entries changes", self.taken);
            return Err(Error::data(self.source, Some("observations"), &problem, "give all rows the same shape"));
        }
        self.taken += columns.len();
        if self.options.episode.is_some() || self.options.time.is_some() {
            return self.held.take(columns, extras, &self.budget);
        }
        self.witness.see(&columns, extras)?;
        self.pass(columns)
    }

    fn held_or_waiting(&self) -> Option<(usize, usize)> {
        let dims = |columns: &Columns| (!columns.is_empty()).then_some((columns.obs_dim, columns.act_dim));
        self.held.dims().or_else(|| dims(&self.waiting))
    }

    /// Rows in their order, to the file.
    fn pass(&mut self, columns: Columns) -> Result<()> {
        if self.options.shift {
            let shifted = self.shift(columns)?;
            return self.write(&shifted);
        }
        self.write(&columns)
    }

    /// All columns as long as each other, all values finite, all flags 0 or 1.
    fn check(&self, mut block: Block) -> Result<Columns> {
        let (rows, keep) = (block.rows(), self.keep);
        for index in 0..FIELDS.len() + keep.len() {
            let (field, key) = match FIELDS.get(index) {
                Some(&field) => (field, field.key()),
                None => (Field::Further(index - FIELDS.len()), keep[index - FIELDS.len()].as_str()),
            };
            let (values, dim) = block.get(field);
            if self.options.shift && field == Field::NextObservations {
                continue;
            }
            let error = |problem: &str, remedy: &str| Error::data(self.source, Some(key), problem, remedy);
            if dim == 0 || values.len() != rows * dim {
                let problem =
                    format!("has {} values, but rewards has {rows} rows and each row takes {dim}", values.len());
                return Err(error(&problem, "make all columns equally long"));
            }
            let flag = matches!(field, Field::Terminals | Field::Timeouts);
            let good = |v: &f32| v.is_finite() && (!flag || *v == 0.0 || *v == 1.0);
            if let Some(index) = values.iter().position(|v| !good(v)) {
                let wanted = if flag { "expected 0 or 1" } else { "not a finite float32" };
                let place = place(self.taken * dim + index, dim);
                return Err(error(&format!("{place} is {}, {wanted}", values[index]), "remove or repair that row"));
            }
        }
        let dim = |field| block.get(field).1;
        let (obs_dim, act_dim) = (dim(Field::Observations), dim(Field::Actions));
        let next_dim = dim(Field::NextObservations);
        if !self.options.shift && next_dim != obs_dim {
            let problem = format!("has rows of {next_dim} entries, observations of {obs_dim}");
            let key = Some(Field::NextObservations.key());
            return Err(Error::data(self.source, key, &problem, "give successors in the same shape"));
        }
        let flags = |values: Vec<f32>| values.into_iter().map(|v| v == 1.0).collect();
        Ok(Columns {
            obs_dim,
            act_dim,
            observations: block.take(Field::Observations),
            next_observations: block.take(Field::NextObservations),
            actions: block.take(Field::Actions),
            rewards: block.take(Field::Rewards),
            costs: block.take(Field::Costs),
            cost_name: None,
            further: keep.iter().enumerate().map(|(i, name)| (name.clone(), block.take(Field::Further(i)))).collect(),
            terminals: flags(block.take(Field::Terminals)),
            timeouts: flags(block.take(Field::Timeouts)),
            source: self.source.to_owned(),
        })
    }

    /// Rows whose successor is known by now, those waiting included.
    fn shift(&mut self, block: Columns) -> Result<Columns> {
        let mut all = std::mem::take(&mut self.waiting);
        if all.is_empty() {
            all = block;
        } else {
            append(&mut all, &block, 0..block.len())?;
        }
        let Some(last) = all.len().checked_sub(1) else {
            return Ok(all);
        };
        let (obs_dim, act_dim) = (all.obs_dim, all.act_dim);
        let mut out = Columns { obs_dim, act_dim, source: all.source.clone(), ..Columns::default() };
        for row in 0..last {
            self.shift_row(&all, row, true, &mut out)?;
        }
        self.waiting = Columns { obs_dim, act_dim, source: all.source.clone(), ..Columns::default() };
        append(&mut self.waiting, &all, last..last + 1)?;
        Ok(out)
    }

    /// Writes `row` to `out` unless it has no successor. `followed`: the next row is there too.
    fn shift_row(&mut self, all: &Columns, row: usize, followed: bool, out: &mut Columns) -> Result<()> {
        let ends_by_time = |row: usize| all.timeouts[row] && !all.terminals[row];
        if ends_by_time(row) || (!followed && !all.terminals[row]) {
            self.report.dropped += 1;
            return Ok(());
        }
        append(out, all, row..row + 1)?;
        // A terminal's successor is never read: its own observation stands in.
        let successor = if all.terminals[row] { row } else { row + 1 };
        let dim = all.obs_dim;
        extend(&mut out.next_observations, all.observations[successor * dim..][..dim].iter().copied(), &all.source)?;
        if followed && !all.terminals[row] && ends_by_time(row + 1) {
            if let Some(flag) = out.timeouts.last_mut() {
                *flag = true;
            }
        }
        Ok(())
    }

    fn write(&mut self, columns: &Columns) -> Result<()> {
        if columns.is_empty() {
            return Ok(());
        }
        for row in 0..columns.len() {
            self.open_rows += 1;
            if columns.terminals[row] || columns.timeouts[row] {
                self.report.episodes += 1;
                self.open_rows = 0;
            }
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(DsrlWriter::create(self.output, columns)?),
        };
        if writer.dims() != (columns.obs_dim, columns.act_dim) {
            let (obs_dim, act_dim) = writer.dims();
            let problem = format!(
                "row {}: {} entries of observation and {} of action, {obs_dim} and {act_dim} before",
                writer.rows(),
                columns.obs_dim,
                columns.act_dim
            );
            return Err(Error::data(self.source, Some("observations"), &problem, "give all rows the same shape"));
        }
        for start in (0..columns.len()).step_by(BLOCK_ROWS) {
            self.watch.check(self.source)?;
            writer.append(columns, start..(start + BLOCK_ROWS).min(columns.len()))?;
        }
        Ok(())
    }

    /// Rows that were kept to be put in order.
    fn release(&mut self) -> Result<()> {
        let options = self.options;
        let (columns, arranged) = std::mem::take(&mut self.held)
            .arrange(options.max_gap, options.episode.is_some() || options.max_gap.is_some())?;
        self.report.ended += arranged.ended;
        self.report.gaps += arranged.gaps;
        self.report.findings.extend(arranged.findings);
        for rows in arranged.order.chunks(BLOCK_ROWS) {
            let (obs_dim, act_dim) = (columns.obs_dim, columns.act_dim);
            let mut block = Columns { obs_dim, act_dim, source: columns.source.clone(), ..Columns::default() };
            rows.iter().try_for_each(|&row| append(&mut block, &columns, row..row + 1))?;
            self.pass(block)?;
        }
        Ok(())
    }

    pub fn finish(
        mut self,
        format: &'static str,
        columns: BTreeMap<String, String>,
        provenance: &str,
    ) -> Result<ConvertReport> {
        if self.held.dims().is_some() {
            self.release()?;
        }
        let witness = std::mem::take(&mut self.witness);
        self.report.findings.extend(witness.judge(self.source)?);
        if self.options.shift && !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            let (obs_dim, act_dim) = (waiting.obs_dim, waiting.act_dim);
            let mut out = Columns { obs_dim, act_dim, ..Columns::default() };
            self.shift_row(&waiting, 0, false, &mut out)?;
            self.write(&out)?;
        }
        let Some(writer) = self.writer.take() else {
            let problem = "holds no transition";
            return Err(Error::data(self.source, None, problem, "give at least one row whose successor is known"));
        };
        let transitions = writer.rows();
        if self.report.episodes == 0 {
            let remedy =
                "map timeouts or terminals to the end flags, or name what tells episodes apart: --episode NAME, or \
                          --time NAME --max-gap 5m";
            return Err(Error::data(self.source, Some("timeouts"), "no row ends an episode", remedy));
        }
        let row_bytes = writer.row_bytes();
        let written = writer.complete(&[("drcorl", provenance.to_owned())])?;
        let mut findings = std::mem::take(&mut self.report.findings);
        findings.extend(self.findings(&written, transitions * row_bytes)?);
        check::accept(self.source, &findings, self.options.strict)?;
        written.persist()?;
        self.report.episodes += u64::from(self.open_rows > 0);
        Ok(ConvertReport { format, transitions, tail: self.open_rows, columns, findings, ..self.report })
    }

    /// Checks of what was written, read once more; left out, with a note, where it does not fit in memory.
    fn findings(&self, written: &Written, memory: u64) -> Result<Vec<Finding>> {
        if Budget::new(self.options.max_memory, memory).check(self.source, None, memory).is_err() {
            return Ok(vec![Finding::not_checked(memory)]);
        }
        self.watch.check(self.source)?;
        let options = ReadOptions { max_memory: Some(u64::MAX), ..ReadOptions::default() };
        Ok(check::check(&read_dsrl_with(written.path(), &options)?))
    }
}

/// Appends rows of `from`; its successors only if it has any.
pub(super) fn append(to: &mut Columns, from: &Columns, rows: std::ops::Range<usize>) -> Result<()> {
    let (obs, act, source) = (from.obs_dim, from.act_dim, &from.source);
    let wide = |dim: usize| rows.start * dim..rows.end * dim;
    extend(&mut to.observations, from.observations[wide(obs)].iter().copied(), source)?;
    extend(&mut to.actions, from.actions[wide(act)].iter().copied(), source)?;
    extend(&mut to.rewards, from.rewards[wide(1)].iter().copied(), source)?;
    extend(&mut to.costs, from.costs[wide(1)].iter().copied(), source)?;
    for (index, (name, values)) in from.further.iter().enumerate() {
        if to.further.len() == index {
            to.further.push((name.clone(), Vec::new()));
        }
        extend(&mut to.further[index].1, values[wide(1)].iter().copied(), source)?;
    }
    extend(&mut to.terminals, from.terminals[wide(1)].iter().copied(), source)?;
    extend(&mut to.timeouts, from.timeouts[wide(1)].iter().copied(), source)?;
    if from.next_observations.is_empty() {
        return Ok(());
    }
    extend(&mut to.next_observations, from.next_observations[wide(obs)].iter().copied(), source)
}
