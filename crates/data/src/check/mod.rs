//! Data checks: what a dataset holds that cannot be what its owner means.
//!
//! Everything here is legal data: shapes agree, values are finite. Each [`Finding`] is counted, says where it begins,
//! what it means for learning and what to do. Errors are those after which learning is meaningless; the rest are
//! warnings. All thresholds are beside their checks, with the reason.

mod actions;
mod columns;
mod episodes;
mod statistics;
mod successors;

use serde::Serialize;

use crate::columns::Columns;
use crate::error::{Error, Result};
use statistics::Statistics;

pub(crate) use episodes::times;
pub use successors::SUCCESSORS_APART;

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Learning from these data is possible, and may not be what is meant.
    Warning,
    /// Nothing that is learnt from these data has a meaning.
    Error,
}

/// Something odd about a dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Stable name, snake_case.
    pub code: &'static str,
    /// Whether to go on.
    pub severity: Severity,
    /// Column concerned.
    pub column: String,
    /// Entries of its rows that are concerned, if not all.
    pub entries: Vec<usize>,
    /// How many rows.
    pub rows: u64,
    /// The first of them.
    pub first_row: u64,
    /// What was found and what it means, without the name of the column.
    pub meaning: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    fn warning(code: &'static str, column: &str, meaning: String, remedy: &str) -> Self {
        Finding {
            code,
            severity: Severity::Warning,
            column: column.to_owned(),
            entries: Vec::new(),
            rows: 0,
            first_row: 0,
            meaning,
            remedy: remedy.to_owned(),
        }
    }

    fn error(code: &'static str, column: &str, meaning: String, remedy: &str) -> Self {
        Finding { severity: Severity::Error, ..Finding::warning(code, column, meaning, remedy) }
    }

    fn at(self, rows: u64, first_row: u64) -> Self {
        Finding { rows, first_row, ..self }
    }

    fn entries(self, entries: Vec<usize>) -> Self {
        Finding { entries, ..self }
    }

    /// The data were too large to be read once more after a conversion.
    pub(crate) fn not_checked(bytes: u64) -> Self {
        let meaning = format!("was not checked: it takes {} of memory", crate::budget::human(bytes));
        Finding::warning("not_checked", "dataset", meaning, "look at it where there is more: drcorl data info FILE")
    }

    /// Column with its entries: `observations[3,5]`.
    pub fn place(&self) -> String {
        const SHOWN: usize = 8;
        if self.entries.is_empty() {
            return self.column.clone();
        }
        let shown: Vec<String> = self.entries.iter().take(SHOWN).map(usize::to_string).collect();
        let rest =
            if self.entries.len() > SHOWN { format!(",.. ({} in all)", self.entries.len()) } else { String::new() };
        format!("{}[{}{rest}]", self.column, shown.join(","))
    }
}

/// All findings about validated columns, errors first. A few passes over the data.
pub fn check(columns: &Columns) -> Vec<Finding> {
    if columns.is_empty() {
        return Vec::new();
    }
    let episodes = columns.episodes();
    let observations = Statistics::of(&columns.observations, columns.obs_dim);
    let actions = Statistics::of(&columns.actions, columns.act_dim);
    let mut findings = Vec::new();
    findings.extend(actions::check(columns, &actions));
    findings.extend(episodes::check(columns, &episodes));
    findings.extend(successors::check(columns, &observations));
    findings.extend(columns::check(columns, &observations, &actions));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Lets data pass whose findings allow it: no error, and with `strict` no warning either.
pub(crate) fn accept(file: &str, findings: &[Finding], strict: bool) -> Result<()> {
    let refused: Vec<&Finding> = findings.iter().filter(|f| strict || f.severity == Severity::Error).collect();
    let Some((first, more)) = refused.split_first() else { return Ok(()) };
    let others: Vec<&str> = more.iter().map(|finding| finding.code).collect();
    let rest = if others.is_empty() { String::new() } else { format!(" (also: {})", others.join(", ")) };
    Err(Error::data(file, Some(&first.place()), &first.meaning, &format!("{}{rest}", first.remedy)))
}

#[cfg(test)]
mod tests;
