//! Every format to the same DSRL file. The inputs are written by h5py, NumPy and pyarrow (`make_convert_fixtures.py`).

use std::path::{Path, PathBuf};

use drcorl_data::{
    convert, read_dsrl, read_dsrl_with, Columns, ConvertOptions, ConvertReport, Costs, Error, ReadOptions, Watch,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn options(map: &[(&str, &str)], shift: bool) -> ConvertOptions {
    let map = map.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    ConvertOptions { map, shift, ..ConvertOptions::default() }
}

/// Converts and reads; nothing but the output may be left, and nothing at all after an error.
fn run(input: &Path, options: &ConvertOptions) -> Result<(Columns, ConvertReport), Error> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.hdf5");
    let result = convert(input, &output, options, &Watch::default());
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, usize::from(result.is_ok()), "files are left");
    let report = result?;
    let columns = read_dsrl_with(&output, &ReadOptions { costs: Costs::All, ..ReadOptions::default() }).unwrap();
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
        ("convert/fortran.npz", "npz", &[]),
        ("convert/half.npz", "npz", &[]),
        ("convert/checksums.parquet", "parquet", &SPREAD),
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
fn every_format_keeps_further_columns() {
    for (name, map, wear) in [
        ("convert/minari.hdf5", &[][..], "infos/cost"),
        ("contiguous.hdf5", &[], "costs"),
        ("convert/all.npz", &[], "costs"),
        ("convert/lists.parquet", &[], "costs"),
        ("convert/spread.parquet", &SPREAD, "c"),
    ] {
        let map: Vec<_> = map.iter().copied().chain([("further/wear", wear)]).collect();
        let (columns, report) = run(&fixture(name), &options(&map, false)).unwrap();
        assert_eq!(columns.further("wear"), Some(columns.costs.as_slice()), "{name}");
        assert_eq!(Columns { further: Vec::new(), ..columns }, expected(), "{name}");
        assert_eq!(report.columns["wear"], wear, "{name}");
    }
    let shifted = options(&[("further/r2", "rewards")], true);
    let (columns, _) = run(&fixture("convert/d4rl.hdf5"), &shifted).unwrap();
    assert_eq!(columns.further("r2"), Some(columns.rewards.as_slice()));
    let refused =
        |key: &str, name: &str| run(&fixture("contiguous.hdf5"), &options(&[(key, name)], false)).unwrap_err().message;
    assert!(refused("further/rewards", "rewards").contains("further/rewards: is no field of a DSRL file"));
    assert!(refused("further/a/b", "rewards").contains("further/a/b: is no field of a DSRL file"));
    assert!(refused("further/wear", "wear").contains("wear: is mapped to \"wear\", which is not there (found: "));
    assert!(refused("ware", "costs").contains("or keep it (--keep ware)"));
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

/// A text as `in.csv`.
fn table(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.csv");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn refusal(input: &Path, options: &ConvertOptions, text: &str) {
    let error = run(input, options).unwrap_err();
    assert!(error.code() == "Data" && error.message.contains(text), "{error}");
}

#[test]
fn entries_of_a_dictionary_are_joined_in_the_order_of_the_map() {
    let map = ("observations", "observations/observation,observations/desired_goal");
    let given = ConvertOptions { missing_cost: Some(0.0), ..options(&[map], false) };
    let (columns, report) = run(&fixture("convert/goal.hdf5"), &given).unwrap();
    let mut wanted = expected();
    // The third episode has no cost.
    wanted.costs[12..18].fill(0.0);
    assert_eq!((columns, report.columns["observations"].as_str()), (wanted, map.1));
    refusal(&fixture("convert/goal.hdf5"), &options(&[map], false), "costs: is not there");
    let text = "episode_0/observations: is a group, as of a dictionary of observations; say which entries, joined in this order: \
                --map observations=observations/desired_goal,observations/observation";
    refusal(&fixture("convert/goal.hdf5"), &options(&[], false), text);
}

#[test]
fn minari_metadata_tell_discrete_actions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main_data.hdf5");
    std::fs::copy(fixture("convert/minari.hdf5"), &path).unwrap();
    let write = |space: &str| {
        let metadata = serde_json::json!({ "action_space": space });
        std::fs::write(folder.path().join("metadata.json"), metadata.to_string()).unwrap();
    };
    write(r#"{"type": "Discrete", "dtype": "int64", "start": 0, "n": 4}"#);
    let text = "actions: the action space is Discrete(4) by metadata.json";
    refusal(&path, &options(&[], false), text);
    write(r#"{"type": "Box", "shape": [2]}"#);
    assert!(run(&path, &options(&[], false)).is_ok());
    std::fs::write(folder.path().join("metadata.json"), "{").unwrap();
    assert!(run(&path, &options(&[], false)).is_ok());
}

/// A copy of a folder whose files may be changed.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).unwrap();
        }
    }
}

#[test]
fn minari_folders_of_arrow_are_read() {
    let map = ("observations", "observations/observation,observations/desired_goal");
    for path in ["convert/arrow", "convert/arrow/data"] {
        let (columns, report) = run(&fixture(path), &options(&[], false)).unwrap();
        assert_eq!((columns, report.format, report.episodes), (expected(), "minari", 4), "{path}");
        assert_eq!(report.columns["costs"], "infos/cost");
    }
    let (columns, report) = run(&fixture("convert/arrow_goal"), &options(&[map], false)).unwrap();
    assert_eq!((columns, report.columns["observations"].as_str()), (expected(), map.1));
    let text =
        "observations: is a group, as of a dictionary of observations; say which entries, joined in this order: \
                --map observations=observations/desired_goal,observations/observation";
    refusal(&fixture("convert/arrow_goal"), &options(&[], false), text);
    let text = "costs: has the type Utf8, which is not read";
    refusal(
        &fixture("convert/arrow"),
        &options(&[("costs", "infos/note")], false),
        &text.replace("costs", "infos/note"),
    );
}

#[test]
fn a_minari_folder_of_arrow_is_whole_and_has_amounts_for_actions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case-v0");
    copy(&fixture("convert/arrow"), &path);
    let metadata = |text: &str| std::fs::write(path.join("data/metadata.json"), text).unwrap();
    metadata(r#"{"data_format": "arrow", "action_space": "{\"type\": \"Discrete\", \"n\": 4}"}"#);
    refusal(&path, &options(&[], false), "actions: the action space is Discrete(4) by metadata.json");
    metadata(r#"{"data_format": "arrow", "total_episodes": 5}"#);
    refusal(&path, &options(&[], false), "metadata.json states 5 episodes, 4 are there");
    metadata(r#"{"data_format": "arrow"}"#);
    assert!(run(&path, &options(&[], false)).is_ok());
    std::fs::write(path.join("data/2/metadata.json"), r#"{"total_steps": 7}"#).unwrap();
    refusal(&path, &options(&[], false), "2/: has 7 rows, where 7 steps and the last observation are due");
    let file = path.join("data/0/part-0.arrow");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 9]).unwrap();
    refusal(&path, &options(&[], false), "0/part-0.arrow: is not a whole Arrow file");
}

#[test]
fn a_virtual_column_is_named() {
    refusal(&fixture("virtual.hdf5"), &options(&[], false), "observations: is a virtual dataset");
}

#[test]
fn an_episode_per_row_is_read_from_lists_of_lists() {
    let (columns, report) = run(&fixture("convert/nested.parquet"), &options(&[], false)).unwrap();
    let mut wanted = expected();
    wanted.terminals[5] = false;
    wanted.timeouts[5] = true;
    assert_eq!((columns, report.ended, report.episodes), (wanted, 4, 4));
}

#[test]
fn a_column_tells_interleaved_episodes_apart() {
    let (wanted, missing) = (expected(), Some(1.0));
    let given = ConvertOptions { episode: Some("env".into()), missing_cost: missing, ..options(&[], true) };
    let (columns, report) = run(&fixture("convert/log.parquet"), &given).unwrap();
    // Rows in turn: 0, 6, 12, 18, 1, 7, ..; the last of each environment has no successor.
    assert_eq!((report.episodes, report.transitions, report.dropped, report.ended), (4, 20, 4, 4));
    let kept: Vec<usize> = (0..24).filter(|row| row % 6 != 5).collect();
    assert_eq!(columns.timeouts.iter().filter(|&&end| end).count(), 4);
    for (row, &from) in kept.iter().enumerate() {
        assert_eq!(columns.rewards[row], wanted.rewards[from], "row {from}");
        assert_eq!(columns.next_observations[row * 3], wanted.observations[(from + 1) * 3], "row {from}");
    }
    // The cost that nobody logged: of the third step of the second environment.
    assert_eq!((columns.costs[7], wanted.costs[8]), (1.0, 0.0));
}

/// Rows of two environments in turn: `step,env,x,a,r,c`, 12 rows of each.
fn interleaved(header: &str, flags: bool) -> String {
    let mut text = format!("{header}{}\n", if flags { ",terminated,truncated" } else { "" });
    for step in 0..12 {
        for env in 0..2 {
            let x = step as f64 / 10.0 + f64::from(env);
            text += &format!("{step},{env},{x},{},{step},0", x / 7.0);
            text += if flags { [",0,0\n", ",0,1\n"][usize::from(step == 11)] } else { "\n" };
        }
    }
    text
}

#[test]
fn interleaved_rows_are_put_in_order_or_refused() {
    let (_folder, path) = table(&interleaved("step,episode,obs_0,action_0,reward,cost", true));
    let text = "episode: changes in 22 of 24 rows without an end flag before (first in row 1)";
    refusal(&path, &options(&[], true), text);
    let given = ConvertOptions { episode: Some("episode".into()), ..options(&[], true) };
    let (columns, report) = run(&path, &given).unwrap();
    assert_eq!((report.episodes, report.transitions, report.dropped, report.ended), (2, 22, 2, 0));
    assert_eq!(columns.observations[..3], [0.0, 0.1, 0.2]);
    assert_eq!(columns.next_observations[..3], [0.1, 0.2, 0.3]);
    // Known by their number alone, and never as a flag.
    let (_folder, path) = table(&interleaved("step,episode,obs_0,action_0,reward,cost", false));
    let (again, report) = run(&path, &given).unwrap();
    assert_eq!((again.observations, report.ended), (columns.observations, 2));
    refusal(
        &path,
        &ConvertOptions { episode: Some("run".into()), ..options(&[], true) },
        "run: --episode names it, and it is not there",
    );
}

#[test]
fn gaps_in_time_end_episodes_or_are_told() {
    let mut text = "timestamp,obs_0,action_0,reward,cost\n".to_owned();
    for row in 0..30 {
        let hour = 8 + 3 * (row / 10);
        text += &format!(
            "2026-01-31 {hour:02}:{:02}:00,{row},{},1.5,{}\n",
            row % 10,
            f64::from(row % 7) / 10.0,
            (row + 1) % 2
        );
    }
    let (_folder, path) = table(&text);
    let by_time = |max_gap| ConvertOptions { time: Some("timestamp".into()), max_gap, ..options(&[], true) };
    let (columns, report) = run(&path, &by_time(Some(300.0))).unwrap();
    assert_eq!((report.episodes, report.gaps, report.ended, report.transitions), (3, 2, 1, 27));
    assert!(columns.next_observations.iter().zip(&columns.observations).all(|(next, x)| next - x == 1.0));
    // Without a largest gap, the file's flags count; that time jumps is told, asked for or not.
    let flags = [("terminals", "0"), ("timeouts", "cost")];
    for options in [options(&flags, true), ConvertOptions { map: options(&flags, true).map, ..by_time(None) }] {
        let (_, report) = run(&path, &options).unwrap();
        let found: Vec<_> = report.findings.iter().filter(|finding| finding.code == "gaps_bridged").collect();
        assert_eq!((found.len(), found[0].rows, found[0].first_row), (1, 2, 10), "{:?}", report.findings);
    }
    refusal(&path, &ConvertOptions { time: None, ..by_time(Some(300.0)) }, "a largest gap needs a column of times");
    let (_folder, path) = table(&text.replace("2026-01-31 08:05", "2026-01-31 08:01"));
    refusal(&path, &by_time(Some(300.0)), "timestamp: runs backwards");
}

#[test]
fn numbered_columns_have_no_gaps() {
    let (_folder, path) = table("obs_0,obs_2,action_0,reward,cost,terminated,truncated\n1,2,3,4,0,0,1\n");
    let text = "observations: obs_2 is there, but no obs_1; add that column, or list those meant: --map observations=obs_0,obs_2";
    refusal(&path, &options(&[], true), text);
    refusal(&path, &options(&[("observations", "obs_*")], true), "but no obs_1");
    let (_folder, path) = table("obs_1,obs_2,obs_02,action_0,reward,cost,terminated,truncated\n1,2,2,3,4,0,0,1\n");
    refusal(&path, &options(&[], true), "obs_02 is there twice");
}

#[test]
fn semicolons_decimal_commas_and_arrays_of_one_number() {
    let plain = "obs_0,action_0,reward,cost,terminated,truncated\n0.5,0.25,-1.5,0,0,0\n1.5,0.5,2,1,0,1\n";
    let rows = |text: &str| {
        let (_folder, path) = table(text);
        run(&path, &options(&[("next_observations", "obs_0")], false)).unwrap().0
    };
    let wanted = rows(plain);
    assert_eq!(rows(&plain.replace(',', ";").replace('.', ",")), wanted);
    assert_eq!(rows(&plain.replace(',', ";")), wanted);
    assert_eq!(rows(&plain.replace(',', "\t")), wanted);
    assert_eq!(rows(&plain.replace("-1.5", "[-1.5]").replace("0.25", "[ 0.25 ]")), wanted);
    let (_folder, path) = table(&plain.replace("0.25", "\"[0.25, 1]\""));
    refusal(
        &path,
        &options(&[], true),
        "line 2 is \"[0.25, 1]\", not one number but a list; write a column for each entry",
    );
}

#[test]
fn a_missing_cost_is_stated_or_refused() {
    let text = "obs_0,action_0,reward,cost,terminated,truncated\n0.5,0.25,1,1,0,0\n1.5,0.5,2,,0,1\n";
    let map = [("next_observations", "obs_0")];
    let stated = ConvertOptions { missing_cost: Some(0.5), ..options(&map, false) };
    let (_folder, path) = table(text);
    refusal(&path, &options(&map, false), "cost: line 3 is \"\"");
    assert_eq!(run(&path, &stated).unwrap().0.costs, [1.0, 0.5]);
    let (_folder, path) = table(&text.replace("cost", "price"));
    refusal(&path, &options(&map, false), "(--missing-cost 0)");
    assert_eq!(run(&path, &stated).unwrap().0.costs, [0.5, 0.5]);
}

#[test]
fn discrete_actions_are_refused_and_warnings_by_strict() {
    let mut text = "obs_0,action,reward,cost,terminated,truncated\n".to_owned();
    (0..40)
        .for_each(|row| text += &format!("{},{},1,0,0,{}\n", f64::from(row) / 9.0, row % 4, u8::from(row % 10 == 9)));
    let (_folder, path) = table(&text);
    refusal(&path, &options(&[], true), "actions[0]: take only the whole numbers 0, 1, 2, 3: these look like names");
    let mild = text
        .lines()
        .map(|line| line.replace(",1,0,", ",1.5,0,").replace(",2,1", ",0.25,1"))
        .collect::<Vec<_>>()
        .join("\n");
    let (_folder, path) = table(&mild.replace(",3,", ",-1.5,"));
    let (_, report) = run(&path, &options(&[], true)).unwrap();
    assert!(report.findings.iter().any(|finding| finding.code == "no_costs"), "{:?}", report.findings);
    refusal(&path, &ConvertOptions { strict: true, ..options(&[], true) }, "; ");
}

/// Every flip of a bit within the data of an .npz, and every one under a checksum of a page.
#[test]
fn damaged_bytes_under_a_checksum_are_found() {
    for (name, map) in [("convert/all.npz", &[][..]), ("convert/half.npz", &[]), ("convert/checksums.parquet", &SPREAD)]
    {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Path::new(name).file_name().unwrap());
        let wanted = run(&fixture(name), &options(map, false)).unwrap().0;
        let mut refused = 0;
        for at in (40..bytes.len()).step_by(5) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&path, changed).unwrap();
            match run(&path, &options(map, false)) {
                Ok((columns, _)) => assert_eq!(columns, wanted, "{name}: byte {at} was changed and read"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > bytes.len() / 20, "{name}: {refused} of {}", bytes.len() / 5);
    }
}

/// 80 kB of an array of zeros that states 80 MB.
#[test]
fn small_archives_of_large_arrays_are_refused() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let method = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    zip.start_file("observations.npy", method).unwrap();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (20000000, 1), }";
    let header = format!("{header:<117}\n");
    zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
    zip.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
    zip.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 4 << 20];
    (0..19).for_each(|_| zip.write_all(&zeros).unwrap());
    zip.write_all(&zeros[..80_000_000 - 19 * (4 << 20)]).unwrap();
    zip.finish().unwrap();
    refusal(
        &path,
        &options(&[], false),
        "observations: would take 76.3 MB of memory, more than 64 MB, the limit for a file of",
    );
    let raised = ConvertOptions { max_memory: Some(1 << 30), ..options(&[], false) };
    refusal(&path, &raised, "next_observations: is not there");
}

/// A footer of a gigabyte in a file without a byte on disk.
#[test]
fn a_footer_beyond_the_memory_is_refused_before_it_is_read() {
    use std::io::{Seek, SeekFrom, Write};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"PAR1").unwrap();
    file.seek(SeekFrom::Start(4 + (1 << 30))).unwrap();
    file.write_all(&(1_u32 << 30).to_le_bytes()).unwrap();
    file.write_all(b"PAR1").unwrap();
    let given = ConvertOptions { max_memory: Some(100 << 20), ..options(&[], false) };
    refusal(&path, &given, "would take 1 GB of memory, more than 100 MB, the limit that was stated");
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
