//! Actions that are no amounts.

use std::collections::BTreeSet;

use super::statistics::Statistics;
use super::Finding;
use crate::columns::Columns;

/// More distinct whole numbers than this are taken for amounts.
const FEW: usize = 64;
/// Fewer rows prove nothing.
const ROWS: usize = 20;

pub(super) fn check(columns: &Columns, actions: &Statistics) -> Vec<Finding> {
    let rows = columns.len() as u64;
    let all = columns.act_dim;
    let constant = actions.which(|entry| entry.is_constant());
    if constant.len() == all {
        let meaning = "never change: there is nothing to choose, and nothing to learn".to_owned();
        let remedy = "check that the column holds the actions";
        return vec![Finding::error("constant_actions", "actions", meaning, remedy).at(rows, 0)];
    }
    let mut findings = Vec::new();
    if !constant.is_empty() {
        let meaning = "never change in these entries: a policy will always give that value".to_owned();
        let remedy = "leave the entries out, unless they are meant";
        findings.push(Finding::warning("constant_action", "actions", meaning, remedy).entries(constant).at(rows, 0));
    }
    if columns.len() < ROWS {
        return findings;
    }
    let values: Vec<(usize, BTreeSet<i64>)> =
        (0..all).filter_map(|entry| Some((entry, few_whole(columns, actions, entry)?))).collect();
    let choices = |set: &BTreeSet<i64>| set.len() >= 3 && set.first().is_some_and(|&least| least >= 0);
    let text = |set: &BTreeSet<i64>| {
        let shown: Vec<String> = set.iter().take(8).map(i64::to_string).collect();
        format!("{}{}", shown.join(", "), if set.len() > 8 { ", .." } else { "" })
    };
    let Some((_, first)) = values.first() else { return findings };
    let entries: Vec<usize> = values.iter().map(|(entry, _)| *entry).collect();
    let found = format!("take only the whole numbers {}", text(first));
    if values.len() == all && values.iter().all(|(_, set)| choices(set)) {
        let meaning =
            format!("{found}: these look like names of discrete choices, and a continuous policy would mix them");
        let remedy =
            "record continuous actions; if the numbers are amounts, scale them so that they are not 0, 1, 2, ..";
        findings.push(Finding::error("discrete_actions", "actions", meaning, remedy).entries(entries).at(rows, 0));
    } else {
        let meaning = format!("{found} in these entries: a continuous policy gives values in between");
        let remedy = "make sure that the environment takes them, or record continuous actions";
        findings.push(Finding::warning("few_actions", "actions", meaning, remedy).entries(entries).at(rows, 0));
    }
    findings
}

/// The values of an entry, if they are few whole numbers and more than one.
fn few_whole(columns: &Columns, actions: &Statistics, entry: usize) -> Option<BTreeSet<i64>> {
    if !actions.entries[entry].whole || actions.entries[entry].is_constant() {
        return None;
    }
    let mut found = BTreeSet::new();
    for row in columns.actions.chunks_exact(columns.act_dim) {
        found.insert(row[entry] as i64);
        if found.len() > FEW {
            return None;
        }
    }
    Some(found)
}
