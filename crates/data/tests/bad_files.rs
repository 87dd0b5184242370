//! Every kind of bad file: one error that names file, key, value and remedy; never a panic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use drcorl_data::{read_dsrl, read_dsrl_with, Error, ErrorKind, ReadOptions};
use hdf5_writer::{DatasetBuilder, FilterDescription, Hdf5Builder, WriteOptions, FILTER_DEFLATE, FILTER_SHUFFLE};
use tempfile::TempDir;

const ROWS: usize = 40;

/// Shape and values of every dataset of a file.
type Content = BTreeMap<&'static str, (Vec<u64>, Vec<f32>)>;

fn content() -> Content {
    let ramp = |n: usize| (0..n).map(|i| (i % 97) as f32 / 8.0).collect::<Vec<f32>>();
    let ends = |i: usize| f32::from(u8::from(i % 10 == 9));
    let rows = ROWS as u64;
    BTreeMap::from([
        ("observations", (vec![rows, 4], ramp(ROWS * 4))),
        ("next_observations", (vec![rows, 4], ramp(ROWS * 4))),
        ("actions", (vec![rows, 2], ramp(ROWS * 2))),
        ("rewards", (vec![rows], ramp(ROWS))),
        ("costs", (vec![rows, 1], vec![0.0; ROWS])),
        ("terminals", (vec![rows], vec![0.0; ROWS])),
        ("timeouts", (vec![rows, 1], (0..ROWS).map(ends).collect())),
    ])
}

/// `chunked` files use gzip and shuffle as DSRL's do, with several chunks per dataset.
fn encode(content: &Content, chunked: bool) -> Vec<u8> {
    let mut file = Hdf5Builder::new();
    for (key, (shape, values)) in content {
        let mut dataset = DatasetBuilder::typed_data(*key, shape.clone(), values).unwrap();
        if chunked {
            let chunk: Vec<u64> = shape.iter().enumerate().map(|(axis, &d)| if axis == 0 { 16 } else { d }).collect();
            let filter = |id, client_data| FilterDescription { id, name: None, client_data };
            dataset =
                dataset.chunked(chunk).filter(filter(FILTER_SHUFFLE, vec![4])).filter(filter(FILTER_DEFLATE, vec![6]));
        }
        file = file.dataset(dataset);
    }
    file.into_plan().unwrap().encode(WriteOptions::default()).unwrap()
}

fn write(dir: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join("data.hdf5");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn refuse(content: &Content, key: &str, text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, &encode(content, false));
    expect(&read_dsrl(&path).unwrap_err(), &path, Some(key), text);
}

fn expect(error: &Error, path: &Path, key: Option<&str>, text: &str) {
    assert_eq!(error.kind, ErrorKind::Data, "{error}");
    assert_eq!(error.key.as_deref(), key, "{error}");
    let name = path.display().to_string();
    assert!(error.message.starts_with(&name), "{error}");
    assert!(error.message.contains(text), "{error}");
    assert!(error.message.contains("; "), "no remedy: {error}");
}

#[test]
fn both_layouts_read() {
    let dir = tempfile::tempdir().unwrap();
    let plain = read_dsrl(&write(&dir, &encode(&content(), false))).unwrap();
    let chunked = read_dsrl(&write(&dir, &encode(&content(), true))).unwrap();
    assert_eq!(plain, chunked);
    assert_eq!(plain.episodes().len(), 4);
    assert_eq!(plain.actions, content()["actions"].1);
}

#[test]
fn missing_keys() {
    for key in content().into_keys() {
        let mut content = content();
        content.remove(key);
        refuse(&content, key, "is missing (found: ");
    }
    let mut d4rl = content();
    d4rl.remove("costs");
    refuse(&d4rl, "costs", "D4RL files have no costs");
    let mut grouped = content();
    let moved = grouped.remove("actions").unwrap();
    grouped.insert("actions/inner", moved);
    refuse(&grouped, "actions", "is a group, not a dataset");
}

#[test]
fn wrong_shapes() {
    let cases: [(&str, Vec<u64>, &str); 6] = [
        ("observations", vec![160], "has shape [160], expected [N, entries]"),
        ("actions", vec![20, 2, 2], "has shape [20, 2, 2]"),
        ("next_observations", vec![80, 2], "has rows of 2 entries, observations of 4"),
        ("rewards", vec![20, 2], "has shape [20, 2], expected [N] or [N, 1]"),
        ("terminals", vec![4, 10], "has shape [4, 10]"),
        ("timeouts", vec![1, 40], "has shape [1, 40]"),
    ];
    for (key, shape, text) in cases {
        let mut content = content();
        content.entry(key).and_modify(|entry| entry.0 = shape);
        refuse(&content, key, text);
    }
}

#[test]
fn lengths_that_disagree() {
    for key in content().into_keys().filter(|&key| key != "observations") {
        let mut content = content();
        content.entry(key).and_modify(|(shape, values)| {
            let dim = values.len() / ROWS;
            shape[0] -= 3;
            values.truncate(37 * dim);
        });
        refuse(&content, key, "has 37 rows, observations has 40");
    }
}

#[test]
fn empty_datasets() {
    let mut content = content();
    for (shape, values) in content.values_mut() {
        shape[0] = 0;
        values.clear();
    }
    refuse(&content, "observations", "has 0 rows");
}

#[test]
fn values_that_are_not_finite() {
    let keys = ["observations", "next_observations", "actions", "rewards", "costs"];
    for (key, value) in keys.into_iter().zip([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::INFINITY]) {
        let mut content = content();
        let values = &mut content.get_mut(key).unwrap().1;
        let last = values.len() - 1;
        values[last] = value;
        refuse(&content, key, "row 39");
        refuse(&content, key, &format!("is {value}, not a finite number"));
    }
    let mut content = content();
    content.get_mut("observations").unwrap().1[18] = f32::NAN;
    refuse(&content, "observations", "row 4, entry 2 is NaN");
}

#[test]
fn flags_other_than_0_and_1() {
    for (key, value) in [("terminals", 2.0), ("timeouts", 0.5), ("terminals", f32::NAN), ("timeouts", -1.0)] {
        let mut content = content();
        content.get_mut(key).unwrap().1[7] = value;
        refuse(&content, key, &format!("row 7 is {value}, expected 0 or 1"));
    }
}

#[test]
fn wrong_types() {
    let dir = tempfile::tempdir().unwrap();
    let mut strings = Hdf5Builder::new();
    for (key, (shape, values)) in content() {
        let dataset = match key {
            "rewards" => DatasetBuilder::fixed_string_data(key, shape, &["x"; ROWS]).unwrap(),
            _ => DatasetBuilder::typed_data(key, shape, &values).unwrap(),
        };
        strings = strings.dataset(dataset);
    }
    let bytes = strings.into_plan().unwrap().encode(WriteOptions::default()).unwrap();
    let path = write(&dir, &bytes);
    expect(&read_dsrl(&path).unwrap_err(), &path, Some("rewards"), "has the type string");
}

#[test]
fn float64_beyond_float32() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = Hdf5Builder::new();
    for (key, (shape, values)) in content() {
        let mut wide: Vec<f64> = values.into_iter().map(f64::from).collect();
        if key == "actions" {
            wide[5] = 1e300;
        }
        file = file.dataset(DatasetBuilder::typed_data(key, shape, &wide).unwrap());
    }
    let path = write(&dir, &file.into_plan().unwrap().encode(WriteOptions::default()).unwrap());
    let text = "row 2, entry 1 is 1000000";
    expect(&read_dsrl(&path).unwrap_err(), &path, Some("actions"), text);
}

/// A megabyte that holds two hundred of zeros.
#[test]
fn a_small_file_of_large_columns_is_refused_before_memory_is_asked_for() {
    let rows = 7_000_000;
    let mut content = content();
    for (key, (shape, values)) in &mut content {
        let dim = if matches!(*key, "observations" | "next_observations" | "actions") { 1 } else { 0 };
        *shape = if dim == 1 { vec![rows as u64, 1] } else { vec![rows as u64] };
        *values = vec![0.0; rows];
    }
    let mut file = Hdf5Builder::new();
    for (key, (shape, values)) in &content {
        let mut chunk = shape.clone();
        chunk[0] = 1 << 20;
        let filter = FilterDescription { id: FILTER_DEFLATE, name: None, client_data: vec![1] };
        file = file
            .dataset(DatasetBuilder::typed_data(*key, shape.clone(), values).unwrap().chunked(chunk).filter(filter));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, &file.into_plan().unwrap().encode(WriteOptions::default()).unwrap());
    let error = read_dsrl(&path).unwrap_err();
    expect(&error, &path, None, "MB, the limit for a file of");
    assert!(error.message.contains("--max-memory"), "{error}");
    let options = ReadOptions { max_memory: Some(1 << 30), ..ReadOptions::default() };
    assert_eq!(read_dsrl_with(&path, &options).unwrap().len(), rows);
}

#[test]
fn files_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let error = read_dsrl(dir.path()).unwrap_err();
    assert_eq!(error.code(), "Io");
    assert!(error.message.contains("is a directory"), "{error}");

    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("metadata.json"), r#"{"data_format": "arrow", "total_episodes": 3}"#).unwrap();
    for path in [dir.path(), &data] {
        let error = read_dsrl(path).unwrap_err();
        let remedy = format!("is a folder of Minari, not a file; convert it: drcorl data convert {}", path.display());
        assert!(error.message.contains(&remedy), "{error}");
    }
    std::fs::write(data.join("metadata.json"), r#"{"data_format": "parquet", "total_episodes": 3}"#).unwrap();
    let error = read_dsrl(dir.path()).unwrap_err();
    assert!(error.message.contains("Minari in the format \"parquet\", which is not read; copy"), "{error}");
    std::fs::write(data.join("main_data.hdf5"), b"").unwrap();
    let error = read_dsrl(dir.path()).unwrap_err();
    assert!(error.message.contains("data convert ") && error.message.contains("data/main_data.hdf5 OUT"), "{error}");

    let absent = dir.path().join("absent.hdf5");
    let error = read_dsrl(&absent).unwrap_err();
    assert_eq!(error.code(), "Io");
    assert!(error.message.contains("absent.hdf5: no such file; check the path"), "{error}");

    let path = write(&dir, b"");
    expect(&read_dsrl(&path).unwrap_err(), &path, None, "is empty (0 bytes)");
    let path = write(&dir, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    expect(&read_dsrl(&path).unwrap_err(), &path, None, "is not an HDF5 file");
}

#[test]
fn every_truncation_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = encode(&content(), true);
    for len in (1..bytes.len()).step_by(41) {
        let path = write(&dir, &bytes[..len]);
        assert_eq!(read_dsrl(&path).unwrap_err().code(), "Data", "{len} bytes");
    }
    let path = write(&dir, &bytes[..bytes.len() - 1]);
    expect(&read_dsrl(&path).unwrap_err(), &path, None, "is truncated");
}

#[test]
fn a_damaged_chunk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = encode(&content(), true);
    // A zlib stream of level 6 begins with 78 9c; the first one belongs to the first dataset, `actions`.
    let at = bytes.windows(2).position(|pair| pair == [0x78, 0x9c]).unwrap();
    bytes[at + 4..at + 12].fill(0xff);
    let path = write(&dir, &bytes);
    let first = read_dsrl(&path).unwrap_err();
    expect(&first, &path, Some("actions"), "damaged chunk");
    assert!((0..20).all(|_| read_dsrl(&path).unwrap_err() == first));
}

/// Seeded xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

#[test]
fn no_corruption_panics() {
    let fixture = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        std::fs::read(folder.join(name)).unwrap()
    };
    let files = [
        encode(&content(), true),
        encode(&content(), false),
        fixture("float32_gzip.hdf5"),
        fixture("float64_bool_column.hdf5"),
        fixture("integers_latest.hdf5"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(20);
    let (mut read, mut refused) = (0, 0);
    for round in 0..600 {
        let mut bytes = files[round % files.len()].clone();
        match random.below(4) {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => {
                let start = random.below(bytes.len());
                let end = (start + 64).min(bytes.len());
                bytes[start..end].fill([0x00, 0xff][random.below(2)]);
            }
            _ => {
                for _ in 0..1 + random.below(30) {
                    let index = random.below(bytes.len());
                    bytes[index] = random.below(256) as u8;
                }
            }
        }
        let path = write(&dir, &bytes);
        match read_dsrl(&path) {
            Ok(_) => read += 1,
            Err(error) => {
                // The guard's message: a panic inside the decoder would show here.
                assert!(!error.message.contains("decoder failed"), "round {round}");
                refused += 1;
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
}
