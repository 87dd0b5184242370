//! What the writer writes, read back by our reader; `check_with_h5py.py` beside it does the same with libhdf5.

use std::path::Path;

use drcorl_data::{read_dsrl, read_dsrl_with, write_dsrl, Columns, Costs, ReadOptions, Watch};

/// Episodes of 7 rows; every value is another one.
fn columns(rows: usize, obs_dim: usize) -> Columns {
    let ramp = |n: usize, scale: f32| (0..n).map(|i| (i as f32 * 0.37).sin() * scale).collect::<Vec<f32>>();
    Columns {
        obs_dim,
        act_dim: 2,
        observations: ramp(rows * obs_dim, 1.0),
        next_observations: ramp(rows * obs_dim, 2.0),
        actions: ramp(rows * 2, 0.5),
        rewards: ramp(rows, 10.0),
        costs: (0..rows).map(|i| (i % 3) as f32).collect(),
        terminals: (0..rows).map(|i| i % 14 == 6).collect(),
        timeouts: (0..rows).map(|i| i % 14 == 13).collect(),
        source: String::new(),
        ..Columns::default()
    }
}

fn round_trip(columns: &Columns) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.hdf5");
    write_dsrl(&path, columns, &[("drcorl", "{\"a\": 1}".to_owned())], &Watch::default()).unwrap();
    let read = read_dsrl(&path).unwrap();
    assert_eq!(Columns { source: String::new(), ..read }, *columns);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn what_is_written_is_read() {
    // One row; fewer rows than a chunk has; flags in one chunk but observations in several; an index of two levels
    // (more than 64 chunks of observations).
    for (rows, obs_dim) in [(1, 1), (100, 3), (40_000, 5), (70_000, 130)] {
        round_trip(&columns(rows, obs_dim));
    }
}

fn named(names: &[&str]) -> Costs {
    Costs::Named(names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn further_columns_are_written_and_read_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.hdf5");
    let further: Vec<(String, Vec<f32>)> = ["alarm", "b", "energy", "z"]
        .iter()
        .enumerate()
        .map(|(i, name)| (name.to_string(), vec![i as f32; 50]))
        .collect();
    let written = Columns { further, ..columns(50, 3) };
    write_dsrl(&path, &written, &[], &Watch::default()).unwrap();
    let read = |costs: Costs| {
        let read = read_dsrl_with(&path, &ReadOptions { costs, ..ReadOptions::default() })?;
        Ok::<_, drcorl_data::Error>(Columns { source: String::new(), ..read })
    };
    assert_eq!(read(Costs::All).unwrap(), written);
    assert_eq!(read(Costs::Own).unwrap(), Columns { further: Vec::new(), ..written.clone() });
    let two = ["energy".to_owned(), "alarm".to_owned()];
    assert_eq!(read(named(&["energy", "alarm"])).unwrap(), written.clone().with_costs(&two).unwrap());
    let error = read(named(&["alarm", "speed"])).unwrap_err();
    let text = "out.hdf5: speed: is no column of one number a step (those are: costs, alarm, b, energy, z)";
    assert!(error.message.contains(text), "{error}");
    // Without costs of its own, and with a column that is no number at one step.
    let mut other = written.with_costs(&two).unwrap();
    other.further[0].1[7] = f32::NAN;
    write_dsrl(&path, &other, &[], &Watch::default()).unwrap();
    let one = read(named(&["energy"])).unwrap();
    assert_eq!((one.cost_name(), one.costs[0], one.further.len()), ("energy", 2.0, 0));
    assert!(read(named(&["alarm"])).unwrap_err().message.contains("alarm: row 7 is NaN"));
    assert!(read(named(&["speed"])).unwrap_err().message.contains("(those are: alarm, energy)"));
    assert!(read(Costs::All).unwrap_err().message.contains("costs: is missing"));
}

#[test]
fn cancelling_and_bad_targets_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let watch = Watch::default();
    watch.cancel();
    let error = write_dsrl(&folder.path().join("out.hdf5"), &columns(10, 1), &[], &watch).unwrap_err();
    assert_eq!(error.code(), "Cancelled");
    for path in [folder.path().to_owned(), folder.path().join("absent/out.hdf5")] {
        let error = write_dsrl(&path, &columns(10, 1), &[], &Watch::default()).unwrap_err();
        assert_eq!(error.code(), "Io", "{error}");
        assert!(error.message.contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Files for `tests/check_with_h5py.py`, which checks them with libhdf5.
#[test]
#[ignore = "needs a folder in DRCORL_H5PY_OUT; run by hand: see tests/check_with_h5py.py"]
fn files_for_h5py() {
    let folder = std::env::var("DRCORL_H5PY_OUT").expect("DRCORL_H5PY_OUT names a folder");
    for (rows, obs_dim) in [(1, 1), (100, 3), (40_000, 5), (70_000, 130)] {
        let path = Path::new(&folder).join(format!("{rows}x{obs_dim}.hdf5"));
        let attributes = [("drcorl", "{\"é\": 1}".to_owned())];
        write_dsrl(&path, &columns(rows, obs_dim), &attributes, &Watch::default()).unwrap();
    }
}
