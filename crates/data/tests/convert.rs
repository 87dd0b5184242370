//! Every format to the same DSRL file. The inputs are written by h5py, NumPy and pyarrow (`make_convert_fixtures.py`).

use std::path::{Path, PathBuf};

use drcorl_data::{convert, read_dsrl, Columns, ConvertOptions, ConvertReport, Error, Watch};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn options(map: &[(&str, &str)], shift: bool) -> ConvertOptions {
    ConvertOptions { map: map.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(), shift }
}

/// Converts and reads; nothing but the output may be left, and nothing at all after an error.
fn run(input: &Path, options: &ConvertOptions) -> Result<(Columns, ConvertReport), Error> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.hdf5");
    let result = convert(input, &output, options, &Watch::default());
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, usize::from(result.is_ok()), "files are left");
    let report = result?;
    let columns = read_dsrl(&output).unwrap();
    Ok((Columns { source: String::new(), ..columns }, report))
}

fn expected() -> Columns {
    Columns { source: String::new(), ..read_dsrl(&fixture("contiguous.hdf5")).unwrap() }
}

const SPREAD: [(&str, &str); 7] = [
    ("observations", "s_*"),
    ("next_observations", "t*"),
    ("actions", "left,right"),
    ("rewards", "r"),
    ("costs", "c"),
    ("terminals", "done"),
    ("timeouts", "cut"),
];

#[test]
fn every_format_gives_the_same_columns() {
    for (name, format, map) in [
        ("convert/minari.hdf5", "minari", &[][..]),
        ("contiguous.hdf5", "hdf5", &[]),
        ("convert/all.npz", "npz", &[]),
        ("convert/lists.parquet", "parquet", &[]),
        ("convert/spread.parquet", "parquet", &SPREAD),
        ("convert/gzip.parquet", "parquet", &SPREAD),
    ] {
        let (columns, report) = run(&fixture(name), &options(map, false)).unwrap();
        assert_eq!(columns, expected(), "{name}");
        assert_eq!((report.format, report.episodes, report.transitions), (format, 4, 24), "{name}");
        assert_eq!((report.dropped, report.ended, report.tail), (0, 0, 0), "{name}");
    }
}

#[test]
fn the_report_names_what_was_taken() {
    let (_, report) = run(&fixture("convert/spread.parquet"), &options(&SPREAD, false)).unwrap();
    assert_eq!(report.columns["observations"], "s_9,s_10,s_11");
    let (_, report) = run(&fixture("convert/minari.hdf5"), &options(&[], false)).unwrap();
    assert_eq!(report.columns["costs"], "infos/cost");
    assert_eq!(report.columns["timeouts"], "truncations");
}

#[test]
fn an_episode_that_was_cut_off_gets_a_timeout() {
    let (columns, report) = run(&fixture("convert/minari_cut.hdf5"), &options(&[], false)).unwrap();
    assert_eq!(columns, expected());
    assert_eq!(report.ended, 1);
}

#[test]
fn successors_can_be_taken_from_the_next_row() {
    let (columns, report) = run(&fixture("convert/d4rl.hdf5"), &options(&[], true)).unwrap();
    let whole = expected();
    // The rows that a time limit ended have no successor; the terminal one (5) stands for its own.
    let kept: Vec<usize> = (0..24).filter(|row| ![11, 17, 23].contains(row)).collect();
    assert_eq!((columns.len(), report.dropped, report.episodes), (21, 3, 4));
    for (row, &from) in kept.iter().enumerate() {
        assert_eq!(columns.observations[row * 3..][..3], whole.observations[from * 3..][..3]);
        let successor = if from == 5 { &whole.observations } else { &whole.next_observations };
        assert_eq!(columns.next_observations[row * 3..][..3], successor[from * 3..][..3], "row {from}");
        assert_eq!(columns.terminals[row], from == 5);
        assert_eq!(columns.timeouts[row], [10, 16, 22].contains(&from), "row {from}");
        assert_eq!((columns.rewards[row], columns.costs[row]), (whole.rewards[from], whole.costs[from]));
    }
    let error = run(&fixture("convert/d4rl.hdf5"), &options(&[], false)).unwrap_err();
    assert!(error.message.contains("next_observations: is not there"), "{error}");
    assert!(error.message.contains("--shift"), "{error}");
}

/// The columns as CSV, with `change` applied to each line's text.
fn csv(rows: usize, change: impl Fn(usize, String) -> String) -> (tempfile::TempDir, PathBuf) {
    let mut text =
        "obs_1, obs_0,obs_2,action_0,action_1,next_obs_0,next_obs_1,next_obs_2,reward,cost,terminated,truncated\n"
            .to_owned();
    for row in 0..rows {
        let x = row as f64;
        let end = |flag: bool| if flag { "true" } else { "False" };
        let line = format!(
            "{},{},{},{},{},{},{},{},{},{},{},{}",
            x + 0.25,
            x,
            x + 0.5,
            x / 32.0 - 0.5,
            0.25 - x / 64.0,
            x + 1.0,
            x + 1.25,
            x + 1.5,
            x / 8.0,
            u8::from(row % 3 == 0),
            end(row == 5),
            end([11, 17, 23].contains(&(row % 24)) && row != 5)
        );
        text += &format!("{}\n", change(row, line));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.csv");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn csv_is_read_by_its_header_and_in_blocks() {
    let (_folder, path) = csv(24, |_, line| line);
    let (columns, report) = run(&path, &options(&[], false)).unwrap();
    assert_eq!(columns, expected());
    assert_eq!(report.columns["observations"], "obs_0,obs_1,obs_2");

    // More rows than a block, with and without shift: the seams must not show.
    let (_folder, path) = csv(24 * 400, |_, line| line);
    let (columns, _) = run(&path, &options(&[], false)).unwrap();
    let (shifted, report) = run(&path, &options(&[("costs", "0")], true)).unwrap();
    assert_eq!((columns.len(), report.dropped), (9600, 1200));
    assert_eq!(shifted.len(), 8400);
    assert!(shifted.costs.iter().all(|&cost| cost == 0.0));
    let kept: Vec<usize> = (0..9600).filter(|row| ![11, 17, 23].contains(&(row % 24))).collect();
    for (row, from) in kept.into_iter().enumerate() {
        let successor = if from == 5 { from } else { from + 1 };
        assert_eq!(shifted.next_observations[row * 3], successor as f32, "row {from}");
    }
}

#[test]
fn bad_input_names_place_value_and_remedy() {
    let with = |row: usize, from: &'static str, to: &'static str| {
        move |at: usize, line: String| if at == row { line.replace(from, to) } else { line }
    };
    type Change = Box<dyn Fn(usize, String) -> String>;
    let cases: [(Change, &str); 5] = [
        (Box::new(with(7, "0.875", "abc")), "reward: line 9 is \"abc\", not a finite float32"),
        (Box::new(with(7, "0.875", "1e99")), "reward: line 9 is \"1e99\""),
        (Box::new(with(7, "0.875", "")), "reward: line 9 is \"\""),
        (Box::new(with(5, "true", "2")), "terminals: row 5 is 2, expected 0 or 1"),
        (Box::new(with(7, ",0.875", "")), "found record with 11 fields"),
    ];
    for (change, text) in cases {
        let (_folder, path) = csv(24, change);
        let error = run(&path, &options(&[], false)).unwrap_err();
        assert_eq!(error.code(), "Data");
        assert!(error.message.contains(text) && error.message.contains("in.csv"), "{error}");
    }
    let (_folder, path) = csv(5, |_, line| line);
    for (map, shift, text) in [
        (&[][..], false, "timeouts: no row ends an episode"),
        (&[("costs", "price")], false, "costs: is mapped to \"price\", which is not there (found: obs_1, obs_0"),
        (&[("rewards", "obs_0,obs_1")], false, "rewards: is mapped to 2 columns, and takes one"),
        (&[("prices", "cost")], false, "prices: is no field of a DSRL file; map one of observations, next_"),
        (&[("next_observations", "obs_*")], true, "next_observations: is mapped, and taken from the next row"),
        (&[("next_observations", "obs_0")], false, "next_observations: has rows of 1 entries, observations of 3"),
    ] {
        let error = run(&path, &options(map, shift)).unwrap_err();
        assert!(error.message.contains(text), "{error}");
    }
    for (name, text) in [
        ("convert/dictionary.hdf5", "episode_0/observations: is a group"),
        ("convert/fortran.npz", "observations: is stored column by column"),
        ("convert/strings.npz", "costs: has the type"),
        ("convert/images.npz", "observations: has shape [24, 2, 2]"),
        ("convert/null.parquet", "rewards: has a null or an empty list among the rows 0 to 23"),
        ("convert/ragged.parquet", "actions: row 1 of its row group has 2 entries, 1 before"),
        ("convert/text.parquet", "rewards: has the type BYTE_ARRAY"),
        ("integers_latest.txt", "no such file"),
        ("../make_fixtures.py", "has the extension \"py\""),
    ] {
        let error = run(&fixture(name), &options(&[], false)).unwrap_err();
        assert!(error.message.contains(text), "{name}: {error}");
    }
}

#[test]
fn damaged_files_are_refused_and_nothing_panics() {
    for name in ["convert/minari.hdf5", "convert/all.npz", "convert/lists.parquet", "convert/d4rl.hdf5"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Path::new(name).file_name().unwrap());
        let mut refused = 0;
        for round in 0..60 {
            let mut bytes = bytes.clone();
            let at = round * 7919 % bytes.len();
            if round % 2 == 0 {
                bytes.truncate(at);
            } else {
                let end = (at + 16).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
            std::fs::write(&path, bytes).unwrap();
            if let Err(error) = run(&path, &options(&[], true)) {
                assert!(error.message.contains(&*path.to_string_lossy()), "{error}");
                refused += 1;
            }
        }
        assert!(refused > 30, "{name}: {refused}");
    }
}
