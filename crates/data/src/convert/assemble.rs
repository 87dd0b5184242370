//! Blocks of rows from any format to one DSRL file.

use std::collections::BTreeMap;
use std::path::Path;

use super::mapping::{Field, FIELDS};
use super::{ConvertReport, BLOCK_ROWS};
use crate::columns::{place, Columns};
use crate::error::{Error, Result};
use crate::watch::Watch;
use crate::write::DsrlWriter;

/// Some rows: a flat row-major array per field, in the order of [`FIELDS`], and its entries per row.
#[derive(Default)]
pub(crate) struct Block {
    pub values: [Vec<f32>; 7],
    pub dims: [usize; 7],
}

impl Block {
    pub fn set(&mut self, field: Field, dim: usize, values: Vec<f32>) {
        self.values[field as usize] = values;
        self.dims[field as usize] = dim;
    }

    fn rows(&self) -> usize {
        self.values[Field::Rewards as usize].len()
    }
}

pub(crate) struct Assembler<'a> {
    output: &'a Path,
    source: &'a str,
    shift: bool,
    watch: &'a Watch,
    writer: Option<DsrlWriter>,
    /// Rows taken from the input, for messages.
    taken: usize,
    /// With `shift`: the last row, which waits for its successor.
    waiting: Columns,
    report: ConvertReport,
    /// Rows since the last end flag.
    open_rows: u64,
}

impl<'a> Assembler<'a> {
    pub fn new(output: &'a Path, source: &'a str, shift: bool, watch: &'a Watch) -> Self {
        let waiting = Columns::default();
        let report = ConvertReport::default();
        Assembler { output, source, shift, watch, writer: None, taken: 0, waiting, report, open_rows: 0 }
    }

    /// Units of progress done; units are bytes of the input.
    pub fn progress(&self, done: u64) -> Result<()> {
        self.watch.set(done);
        self.watch.check(self.source)
    }

    /// An episode without an end flag was given a timeout.
    pub fn count_ended(&mut self) {
        self.report.ended += 1;
    }

    pub fn push(&mut self, block: Block) -> Result<()> {
        let columns = self.check(block)?;
        self.taken += columns.len();
        if self.shift {
            let shifted = self.shift(columns)?;
            return self.write(&shifted);
        }
        self.write(&columns)
    }

    /// All columns as long as each other, all values finite, all flags 0 or 1.
    fn check(&self, block: Block) -> Result<Columns> {
        let rows = block.rows();
        for field in FIELDS {
            let (values, dim) = (&block.values[field as usize], block.dims[field as usize]);
            if self.shift && field == Field::NextObservations {
                continue;
            }
            let error = |problem: &str, remedy: &str| Error::data(self.source, Some(field.key()), problem, remedy);
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
        let dims = block.dims;
        let [observations, next_observations, actions, rewards, costs, terminals, timeouts] = block.values;
        let (obs_dim, act_dim) = (dims[Field::Observations as usize], dims[Field::Actions as usize]);
        let next_dim = dims[Field::NextObservations as usize];
        if !self.shift && next_dim != obs_dim {
            let problem = format!("has rows of {next_dim} entries, observations of {obs_dim}");
            let key = Some(Field::NextObservations.key());
            return Err(Error::data(self.source, key, &problem, "give successors in the same shape"));
        }
        let flags = |values: Vec<f32>| values.into_iter().map(|v| v == 1.0).collect();
        Ok(Columns {
            obs_dim,
            act_dim,
            observations,
            next_observations,
            actions,
            rewards,
            costs,
            terminals: flags(terminals),
            timeouts: flags(timeouts),
            source: self.source.to_owned(),
        })
    }

    /// Rows whose successor is known by now, those waiting included.
    fn shift(&mut self, block: Columns) -> Result<Columns> {
        let mut all = std::mem::take(&mut self.waiting);
        if all.is_empty() {
            all = block;
        } else {
            self.same_dims(&all, &block)?;
            append_rows(&mut all, &block, 0..block.len());
        }
        let Some(last) = all.len().checked_sub(1) else {
            return Ok(all);
        };
        let (obs_dim, act_dim) = (all.obs_dim, all.act_dim);
        let mut out = Columns { obs_dim, act_dim, source: all.source.clone(), ..Columns::default() };
        for row in 0..last {
            self.shift_row(&all, row, true, &mut out);
        }
        self.waiting = Columns { obs_dim, act_dim, source: all.source.clone(), ..Columns::default() };
        append_rows(&mut self.waiting, &all, last..last + 1);
        Ok(out)
    }

    /// Writes `row` to `out` unless it has no successor. `followed`: the next row is there too.
    fn shift_row(&mut self, all: &Columns, row: usize, followed: bool, out: &mut Columns) {
        let ends_by_time = |row: usize| all.timeouts[row] && !all.terminals[row];
        if ends_by_time(row) || (!followed && !all.terminals[row]) {
            self.report.dropped += 1;
            return;
        }
        append_rows(out, all, row..row + 1);
        // A terminal's successor is never read: its own observation stands in.
        let successor = if all.terminals[row] { row } else { row + 1 };
        let dim = all.obs_dim;
        out.next_observations.extend_from_slice(&all.observations[successor * dim..][..dim]);
        if followed && !all.terminals[row] && ends_by_time(row + 1) {
            if let Some(flag) = out.timeouts.last_mut() {
                *flag = true;
            }
        }
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
            None => self.writer.insert(DsrlWriter::create(self.output, columns.obs_dim, columns.act_dim)?),
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

    fn same_dims(&self, a: &Columns, b: &Columns) -> Result<()> {
        if (a.obs_dim, a.act_dim) == (b.obs_dim, b.act_dim) {
            return Ok(());
        }
        let problem = format!("row {}: the number of entries changes", self.taken);
        Err(Error::data(self.source, Some("observations"), &problem, "give all rows the same shape"))
    }

    pub fn finish(
        mut self,
        format: &'static str,
        columns: BTreeMap<&'static str, String>,
        provenance: &str,
    ) -> Result<ConvertReport> {
        if self.shift && !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            let (obs_dim, act_dim) = (waiting.obs_dim, waiting.act_dim);
            let mut out = Columns { obs_dim, act_dim, ..Columns::default() };
            self.shift_row(&waiting, 0, false, &mut out);
            self.write(&out)?;
        }
        let Some(writer) = self.writer.take() else {
            let problem = "holds no transition";
            return Err(Error::data(self.source, None, problem, "give at least one row whose successor is known"));
        };
        let transitions = writer.rows();
        if self.report.episodes == 0 {
            let problem = "no row ends an episode";
            return Err(Error::data(
                self.source,
                Some("timeouts"),
                problem,
                "map timeouts or terminals to the end flags",
            ));
        }
        writer.finish(&[("drcorl", provenance.to_owned())])?;
        self.report.episodes += u64::from(self.open_rows > 0);
        Ok(ConvertReport { format, transitions, tail: self.open_rows, columns, ..self.report })
    }
}

/// Appends rows of `from`; its successors only if it has any.
fn append_rows(to: &mut Columns, from: &Columns, rows: std::ops::Range<usize>) {
    let (obs, act) = (from.obs_dim, from.act_dim);
    to.observations.extend_from_slice(&from.observations[rows.start * obs..rows.end * obs]);
    to.actions.extend_from_slice(&from.actions[rows.start * act..rows.end * act]);
    to.rewards.extend_from_slice(&from.rewards[rows.clone()]);
    to.costs.extend_from_slice(&from.costs[rows.clone()]);
    to.terminals.extend_from_slice(&from.terminals[rows.clone()]);
    to.timeouts.extend_from_slice(&from.timeouts[rows]);
}
