//! Files written by h5py (`make_fixtures.py`), whose values have formulas.

use std::path::{Path, PathBuf};

use drcorl_data::{read_dsrl, read_dsrl_with, ErrorKind, ReadOptions};

const ROWS: usize = 24;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.hdf5"))
}

#[test]
fn every_encoding_gives_the_same_columns() {
    let names = ["float32_gzip", "float64_bool_column", "integers_latest", "contiguous", "lzf", "zstd", "float16"];
    for name in names {
        let columns = read_dsrl(&fixture(name)).unwrap();
        assert_eq!((columns.len(), columns.obs_dim, columns.act_dim), (ROWS, 3, 2), "{name}");
        for row in 0..ROWS {
            let x = row as f32;
            let observation = [x, x + 0.25, x + 0.5];
            assert_eq!(columns.observations[row * 3..][..3], observation, "{name}");
            let next = observation.map(|v| v + 1.0);
            assert_eq!(columns.next_observations[row * 3..][..3], next, "{name}");
            let action = [x / 32.0 - 0.5, 0.25 - x / 64.0];
            assert_eq!(columns.actions[row * 2..][..2], action, "{name}");
            assert_eq!(columns.rewards[row], x / 8.0, "{name}");
            assert_eq!(columns.costs[row], f32::from(u8::from(row % 3 == 0)), "{name}");
            assert_eq!(columns.terminals[row], row == 5, "{name}");
            assert_eq!(columns.timeouts[row], [11, 17, 23].contains(&row), "{name}");
        }
        assert!(columns.source.ends_with(&format!("{name}.hdf5")));
    }
}

#[test]
fn episodes_end_at_terminals_and_timeouts() {
    let columns = read_dsrl(&fixture("contiguous")).unwrap();
    let episodes = columns.episodes();
    let ends: Vec<(usize, usize, bool)> = episodes.iter().map(|e| (e.start, e.end, e.terminated)).collect();
    assert_eq!(ends, [(0, 6, true), (6, 12, false), (12, 18, false), (18, 24, false)]);
    assert!(episodes.iter().all(|e| e.complete && e.cost == 2.0));
    assert_eq!(episodes[1].ret, (6..12).sum::<i32>() as f64 / 8.0);
}

/// What `read_dsrl` says about a file that it refuses, without the file's name.
fn refusal(name: &str, key: &str) -> String {
    let error = read_dsrl(&fixture(name)).unwrap_err();
    assert_eq!((error.kind, error.key.as_deref()), (ErrorKind::Data, Some(key)), "{name}: {error}");
    error.message.split_once(".hdf5: ").unwrap().1.to_owned()
}

#[test]
fn an_unknown_compression_is_named() {
    let text = refusal("blosc", "observations");
    assert!(text.contains("is compressed with blosc (HDF5 filter 32001)") && text.contains("h5repack"), "{text}");
    let text = refusal("bfloat16", "rewards");
    assert!(text.contains("has the type float16"), "{text}");
}

/// HDF5 gives zeros for rows that nobody wrote, and an episode whose costs are zeros looks safe.
#[test]
fn rows_that_were_never_written_are_refused() {
    assert!(
        refusal("unwritten", "costs").contains("was never written: the file has no storage for it; write those rows")
    );
    assert!(refusal("unwritten_chunked", "costs").contains("was never written"));
    assert!(refusal("missing_chunk", "costs").contains("rows 8 to 15 were never written: a chunk is missing"));
}

#[test]
fn data_in_other_files_are_named() {
    assert!(refusal("external", "observations").contains("is a link to another file, contiguous.hdf5; copy the data"));
    assert!(refusal("virtual", "observations").contains("is a virtual dataset: its rows lie in other files; copy"));
}

#[test]
fn a_damaged_byte_under_a_checksum_is_found() {
    // Fletcher-32 of `float64_bool_column`: the last bytes of a stored chunk, which gzip's own checksum does not cover.
    let bytes = std::fs::read(fixture("float64_bool_column")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.hdf5");
    let good = read_dsrl(&fixture("float64_bool_column")).unwrap();
    let (mut damaged, mut same) = (0, 0);
    for at in bytes.windows(2).enumerate().filter(|(_, pair)| *pair == [0x78, 0x5e]).map(|(at, _)| at) {
        for offset in 4..60 {
            let mut changed = bytes.clone();
            changed[at + offset] ^= 0x10;
            std::fs::write(&path, changed).unwrap();
            match read_dsrl(&path) {
                Err(error) => damaged += usize::from(error.message.contains("damaged chunk")),
                Ok(columns) => {
                    assert_eq!(columns.observations, good.observations, "a changed value was read");
                    same += 1;
                }
            }
        }
    }
    assert!(damaged > 100, "{damaged} refused, {same} read as before");
}

#[test]
fn an_episode_longer_than_stated_is_named() {
    let read = |length| {
        let episode_length = Some(length);
        read_dsrl_with(&fixture("contiguous"), &ReadOptions { episode_length, ..ReadOptions::default() })
    };
    assert!(read(6).is_ok());
    let error = read(5).unwrap_err();
    assert_eq!(error.code(), "Data");
    let expected = "timeouts: episode 0 (rows 0 to 5) has 6 transitions, more than the stated episode length 5";
    assert!(error.message.contains(expected), "{error}");
}
