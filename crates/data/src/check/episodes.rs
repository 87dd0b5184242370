//! Ends of episodes that are missing, or in the wrong places.

use super::Finding;
use crate::columns::{Columns, Episode};

/// Share of the complete episodes that must have one length before a longer one is odd.
const USUAL_SHARE: f64 = 0.8;
/// Fewer episodes have no usual length, unless all have one or a multiple of it.
const EPISODES: usize = 10;
/// Episodes of one length beside which a multiple of it is odd.
const ALIKE: usize = 3;
/// A step of time this many times the usual one is a gap.
const GAP: f64 = 10.0;

pub(super) fn check(columns: &Columns, episodes: &[Episode]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(tail(columns, episodes));
    findings.extend(longer_than_usual(episodes));
    findings.extend(of_one_row(episodes));
    findings
}

/// Rows after the last end flag.
fn tail(columns: &Columns, episodes: &[Episode]) -> Option<Finding> {
    let last = episodes.last().filter(|episode| !episode.complete)?;
    let rows = last.len() as u64;
    if episodes.len() == 1 {
        let meaning = format!("and terminals end no episode: all {rows} rows are 1 episode without an end flag");
        let remedy = "set timeouts to 1 where an episode ends, or convert with --episode NAME";
        return Some(Finding::warning("no_end_flags", "timeouts", meaning, remedy).at(columns.len() as u64, 0));
    }
    let meaning =
        format!("and terminals leave 1 episode of {rows} rows without an end flag: its return and cost are cut off");
    let remedy = "set its flag if it is whole, or remove it (drcorl data filter)";
    Some(Finding::warning("cut_off_tail", "timeouts", meaning, remedy).at(rows, last.start as u64))
}

/// Where nearly all episodes have one length, a longer one is two whose flag is missing.
fn longer_than_usual(episodes: &[Episode]) -> Option<Finding> {
    let complete: Vec<&Episode> = episodes.iter().filter(|episode| episode.complete).collect();
    if complete.len() <= ALIKE {
        return None;
    }
    let mut lengths: Vec<usize> = complete.iter().map(|episode| episode.len()).collect();
    lengths.sort_unstable();
    let usual = lengths[lengths.len() / 2];
    if usual == 1 {
        return None;
    }
    let of_usual = lengths.iter().filter(|&&length| length == usual).count();
    let usually = complete.len() >= EPISODES && of_usual as f64 >= USUAL_SHARE * lengths.len() as f64;
    let multiples = of_usual >= ALIKE && lengths.iter().all(|length| length.is_multiple_of(usual));
    if !usually && !multiples {
        return None;
    }
    let longer: Vec<&&Episode> = complete.iter().filter(|episode| episode.len() > usual).collect();
    let first = longer.first()?;
    let rows: usize = longer.iter().map(|episode| episode.len()).sum();
    let meaning = format!(
        "and terminals leave {} episodes longer than the {usual} rows of the others (the first has {}): end flags are missing",
        longer.len(),
        first.len()
    );
    let remedy = "set timeouts to 1 where those episodes end";
    Some(Finding::warning("missing_end_flags", "timeouts", meaning, remedy).at(rows as u64, first.start as u64))
}

/// Rows of environments that ran side by side carry their flags together: most episodes are then a single row.
fn of_one_row(episodes: &[Episode]) -> Option<Finding> {
    let single: Vec<&Episode> = episodes.iter().filter(|episode| episode.len() == 1).collect();
    if episodes.len() < EPISODES || single.len() * 2 <= episodes.len() {
        return None;
    }
    let meaning = format!(
        "and terminals make {} of {} episodes one row long: rows of several environments may be mixed",
        single.len(),
        episodes.len()
    );
    let remedy = "name the column that tells episodes or environments apart: drcorl data convert --episode NAME";
    Some(
        Finding::warning("one_row_episodes", "timeouts", meaning, remedy)
            .at(single.len() as u64, single[0].start as u64),
    )
}

/// Steps of time within episodes that are far longer than the usual one, or negative.
/// `ends` tells the last rows of episodes.
pub(crate) fn times(column: &str, times: &[f64], ends: &[bool]) -> Vec<Finding> {
    let step = |row: usize| times[row + 1] - times[row];
    let within: Vec<usize> = (0..times.len().saturating_sub(1)).filter(|&row| !ends[row]).collect();
    let mut findings = Vec::new();
    let back: Vec<usize> = within.iter().copied().filter(|&row| step(row) < 0.0).collect();
    if let Some(&first) = back.first() {
        let meaning = "runs backwards within episodes: rows are out of order, or of several episodes".to_owned();
        let remedy = "sort the rows, or name the column that tells episodes apart: --episode NAME";
        findings
            .push(Finding::warning("time_runs_back", column, meaning, remedy).at(back.len() as u64, first as u64 + 1));
    }
    let mut steps: Vec<f64> = within.iter().map(|&row| step(row)).filter(|&step| step > 0.0).collect();
    if steps.is_empty() {
        return findings;
    }
    steps.sort_by(f64::total_cmp);
    let usual = steps[steps.len() / 2];
    let gaps: Vec<usize> = within.into_iter().filter(|&row| step(row) > GAP * usual).collect();
    if let Some(&first) = gaps.first() {
        let meaning = format!(
            "jumps by {:.4} s where {usual:.4} s are usual: the row after a gap is no successor of the row before",
            step(first)
        );
        let remedy = format!("end episodes at gaps: --time {column} --max-gap {:.0}s", (GAP * usual).ceil());
        findings
            .push(Finding::warning("gaps_bridged", column, meaning, &remedy).at(gaps.len() as u64, first as u64 + 1));
    }
    findings
}
