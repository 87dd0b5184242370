//! What the targets share: an input as a file, and what holds of columns that were taken.

use drcorl_data::{convert, read_dsrl_with, ConvertOptions, ReadOptions, Watch};
use std::path::{Path, PathBuf};

/// No input of the fuzzer's size needs more.
const MEMORY: u64 = 256 << 20;

/// A folder with the input as a file of that name in it; both go with the folder.
pub fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a place for temporary files");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("room for temporary files");
    (folder, path)
}

/// Reads a DSRL file; one that is taken has finite columns of one length.
pub fn read(path: &Path) {
    let options = ReadOptions { max_memory: Some(MEMORY), ..ReadOptions::default() };
    let Ok(columns) = read_dsrl_with(path, &options) else { return };
    let rows = columns.rewards.len();
    for (values, length) in [
        (&columns.observations, rows * columns.obs_dim),
        (&columns.next_observations, rows * columns.obs_dim),
        (&columns.actions, rows * columns.act_dim),
        (&columns.rewards, rows),
        (&columns.costs, rows),
    ] {
        assert!(values.len() == length && values.iter().all(|value| value.is_finite()));
    }
}

/// Converts what lies at `path`, and reads what became of it.
pub fn converted(path: &Path, shift: bool) {
    let out = path.with_file_name("out.hdf5");
    let options = ConvertOptions { shift, max_memory: Some(MEMORY), ..ConvertOptions::default() };
    if convert(path, &out, &options, &Watch::default()).is_ok() {
        read(&out);
    }
}
