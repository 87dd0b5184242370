//! What a policy that keeps a budget remembers of every row's episode: how far it is and what it has cost.

use crate::actor::Turn;
use crate::error::{Error, Result};
use crate::file::Fields;

/// One row's episode.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// Steps begun.
    begun: u64,
    spent: f64,
}

/// Every row's episode.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Vec<Row>);

impl Ledger {
    /// Forgets these rows.
    pub fn reset(&mut self, rows: &[usize]) {
        for &row in rows {
            if let Some(row) = self.0.get_mut(row) {
                *row = Row::default();
            }
        }
    }

    /// Begins a step of the first `rows` rows. The cost of the step before belongs to the episode;
    /// what comes before its first step does not.
    pub fn observe(&mut self, turn: &Turn<'_>, rows: usize) {
        if self.0.len() < rows {
            self.0.resize(rows, Row::default());
        }
        for (index, row) in self.0[..rows].iter_mut().enumerate() {
            if row.begun > 0 {
                row.spent += f64::from(turn.costs.get(index).copied().unwrap_or(0.0));
            }
            row.begun += 1;
        }
    }

    /// Number of the step at hand, from 0, and the costs before it.
    pub fn at(&self, row: usize) -> (u64, f64) {
        let Row { begun, spent } = self.0[row];
        (begun.saturating_sub(1), spent)
    }
}

/// The value of costs that stands for what is left of a budget, by the convention of the critics it is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    gamma: f64,
    /// Steps of an episode L.
    length: u64,
    finite: bool,
    cost_scale: f64,
}

impl Exchange {
    /// Reads metadata `gamma`, `episode_length`, `cost_threshold` and `cost_scale`.
    pub fn read(fields: &Fields) -> Result<Self> {
        let gamma = fields.number("gamma")?;
        if !(gamma > 0.0 && gamma < 1.0) {
            return Err(Error::data("metadata gamma", &format!("is {gamma}, expected a number between 0 and 1")));
        }
        let length = fields.whole("episode_length")?;
        if length == 0 {
            return Err(Error::data("metadata episode_length", "is 0, expected at least one step"));
        }
        let finite = fields.choice("cost_threshold", &[("finite_horizon", true), ("infinite_horizon", false)])?;
        let cost_scale = fields.number("cost_scale")?;
        Ok(Exchange { gamma, length, finite, cost_scale })
    }

    /// The value for `budget` before step `step`: with n steps left, `budget (1 - gamma^n) / ((1 - gamma) n)` for
    /// values that end with the episode and `budget / ((1 - gamma) n)` for values that go on. A budget that is used up
    /// is worth 0; an episode beyond its length has one step left.
    pub fn value(&self, budget: f64, step: u64) -> f64 {
        let left = self.length.saturating_sub(step).max(1) as f64;
        let end = if self.finite { 1.0 - self.gamma.powf(left) } else { 1.0 };
        self.scaled(budget.max(0.0)) * end / ((1.0 - self.gamma) * left)
    }

    /// Costs in the critics' unit.
    pub fn scaled(&self, costs: f64) -> f64 {
        self.cost_scale * costs
    }
}
