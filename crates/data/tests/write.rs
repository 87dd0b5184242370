//! What the writer writes, read back by our reader; `check_with_h5py.py` beside it does the same with libhdf5.

use std::path::Path;

use drcorl_data::{read_dsrl, write_dsrl, Columns, Watch};

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
