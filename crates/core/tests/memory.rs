//! The columns of a dataset are held once: as columns, or as the table that batches are gathered from.

#![cfg(target_os = "linux")]

use drcorl_core::dataset::Dataset;
use drcorl_data::Columns;
use std::fs;
use std::sync::Arc;
use tch::Device;

/// A line of this process's status, in bytes.
fn status(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

/// Forgets the peak so far.
fn forget() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn columns(rows: usize, states: usize, actions: usize) -> Columns {
    let values = |count: usize| (0..count).map(|i| (i % 997) as f32).collect::<Vec<f32>>();
    Columns {
        obs_dim: states,
        act_dim: actions,
        observations: values(rows * states),
        next_observations: values(rows * states),
        actions: values(rows * actions),
        rewards: values(rows),
        costs: values(rows),
        terminals: vec![false; rows],
        timeouts: (0..rows).map(|row| row % 1000 == 999).collect(),
        source: "synthetic".into(),
        ..Columns::default()
    }
}

/// What allocators keep, and the columns of one number a row.
const SLACK: f64 = 24e6;

#[test]
fn columns_are_given_up_once_the_table_stands() {
    let (rows, states, actions) = (400_000, 28, 2);
    // libtorch's own memory is taken before anything is measured.
    drop(Dataset::new(Arc::new(columns(2000, states, actions)), None, Device::Cpu).unwrap());
    let before = status("VmRSS:");
    let columns = columns(rows, states, actions);
    let table = (4 * rows * (2 * states + actions + 5)) as f64;
    let held = columns.bytes() as f64;
    forget();
    let data = Dataset::new(Arc::new(columns), None, Device::Cpu).unwrap();
    let (peak, after) = (status("VmHWM:") - before, status("VmRSS:") - before);
    println!("columns {held:.2e}, table {table:.2e}: peak {:.2}, then {:.2} of the columns", peak / held, after / held);
    assert!(peak <= held + table + SLACK, "peak {peak:.2e}, columns {held:.2e}, table {table:.2e}");
    assert!(after <= table + SLACK, "after {after:.2e}, table {table:.2e}");
    assert_eq!(data.len(), rows as i64);
    assert!(data.columns.observations.is_empty() && data.columns.costs.len() == rows);
}
