//! Successors that are not what they are called.

use super::statistics::Statistics;
use super::Finding;
use crate::columns::Columns;

/// Distance in standard deviations, root mean square over entries, above which a successor is not the next row's
/// observation.
pub const SUCCESSORS_APART: f64 = 0.01;
/// Share of rows from which on that is no accident.
const SHARE: f64 = 0.05;
/// Two random rows differ by 2 variances in the mean square, whatever the number of entries. A state this near to that
/// is as far from its successor as from nearly any row.
const UNRELATED: f64 = 1.2;
/// Below this many pairs a mean says nothing.
const PAIRS: usize = 100;

pub(super) fn check(columns: &Columns, observations: &Statistics) -> Vec<Finding> {
    let dim = columns.obs_dim;
    let scales: Vec<f64> =
        observations.entries.iter().map(|entry| if entry.std > 0.0 { 1.0 / entry.std } else { 0.0 }).collect();
    let varying = scales.iter().filter(|scale| **scale > 0.0).count();
    if varying == 0 {
        return Vec::new();
    }
    // Root mean square over the entries that vary; one outlier moves it in one pair only.
    let distance = |a: &[f32], b: &[f32]| {
        let square: f64 =
            a.iter().zip(b).zip(&scales).map(|((a, b), s)| ((f64::from(*a) - f64::from(*b)) * s).powi(2)).sum();
        (square / varying as f64).sqrt()
    };
    let of = |row: usize| &columns.observations[row * dim..(row + 1) * dim];
    let next_of = |row: usize| &columns.next_observations[row * dim..(row + 1) * dim];
    let (mut pairs, mut apart, mut first) = (0_u64, 0_u64, 0);
    let (mut moves, mut moved) = (0_u64, 0.0);
    for row in 0..columns.len() {
        // What follows a terminal is never read, and may be anything.
        if !columns.terminals[row] {
            moves += 1;
            moved += distance(of(row), next_of(row)).powi(2);
        }
        if columns.terminals[row] || columns.timeouts[row] || row + 1 == columns.len() {
            continue;
        }
        pairs += 1;
        if distance(next_of(row), of(row + 1)) > SUCCESSORS_APART {
            if apart == 0 {
                first = row as u64;
            }
            apart += 1;
        }
    }
    let mut findings = Vec::new();
    if pairs >= 10 && apart as f64 > SHARE * pairs as f64 {
        let meaning = format!(
            "are not the observations of the next rows in {:.0} % of the rows inside episodes: the rows are shuffled, shifted, or end flags are missing",
            100.0 * apart as f64 / pairs as f64
        );
        let remedy =
            "keep rows in recorded order, or have successors taken from the next rows (drcorl data convert --shift); \
                      noise on observations explains it too";
        findings.push(Finding::warning("successors_misaligned", "next_observations", meaning, remedy).at(apart, first));
    }
    if moves as usize >= PAIRS && moved / moves as f64 > UNRELATED {
        let meaning = format!(
            "are {:.1} variances away from their observations in the mean square, as any two rows are (2.0): rows of several episodes may be mixed",
            moved / moves as f64
        );
        let remedy = "name the column that tells episodes or environments apart: drcorl data convert --episode NAME";
        findings.push(Finding::warning("successors_unrelated", "next_observations", meaning, remedy).at(moves, 0));
    }
    findings
}
