//! Files written by h5py (`make_fixtures.py`), whose values have formulas.

use std::path::{Path, PathBuf};

use drcorl_data::{read_dsrl, read_dsrl_with, ErrorKind, ReadOptions};

const ROWS: usize = 24;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.hdf5"))
}

#[test]
fn every_encoding_gives_the_same_columns() {
    for name in ["float32_gzip", "float64_bool_column", "integers_latest", "contiguous"] {
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

#[test]
fn an_unknown_compression_is_named() {
    // The observations of this file are stored as they are: LZF does not make 288 bytes of them smaller.
    let error = read_dsrl(&fixture("lzf")).unwrap_err();
    assert_eq!((error.kind, error.key.as_deref()), (ErrorKind::Data, Some("costs")));
    assert!(error.message.contains("write the file with gzip"), "{error}");
}

#[test]
fn an_episode_longer_than_stated_is_named() {
    let read = |length| {
        let episode_length = Some(length);
        read_dsrl_with(&fixture("contiguous"), &ReadOptions { episode_length })
    };
    assert!(read(6).is_ok());
    let error = read(5).unwrap_err();
    assert_eq!(error.code(), "Data");
    let expected = "timeouts: episode 0 (rows 0 to 5) has 6 transitions, more than the stated episode length 5";
    assert!(error.message.contains(expected), "{error}");
}
