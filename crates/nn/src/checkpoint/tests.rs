use super::*;
use crate::digest::sha256;
use std::fs;

fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("drcorl-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn written(path: &Path) -> Tensor {
    let mut tensor = Tensor::from_slice(&[1.0f32, -0.0, f32::MIN_POSITIVE]);
    let mut state = State::saving();
    state.group("a", |state| state.tensor("x", &mut tensor)).unwrap();
    state.tensor("rows", &mut Tensor::from_slice(&[2i64, 0])).unwrap();
    state.value("n", &mut 0.1f64).unwrap();
    state.counter("steps", &mut 7, MOST_STEPS).unwrap();
    state.episodes("held", &mut vec![0, 1]).unwrap();
    state.write(path, &serde_json::json!({ "k": [1, 2] })).unwrap();
    tensor
}

/// Takes everything out of a file of `written`.
fn taken(path: &Path) -> Result<Tensor> {
    let mut state = State::read(path)?.0.over(3, 2);
    let mut restored = Tensor::zeros([3], (Kind::Float, Device::Cpu));
    state.group("a", |state| state.tensor("x", &mut restored))?;
    state.tensor("rows", &mut Tensor::from_slice(&[0i64, 0]))?;
    state.value("n", &mut 0.0f64)?;
    state.counter("steps", &mut 0, MOST_STEPS)?;
    state.episodes("held", &mut vec![])?;
    state.finish()?;
    Ok(restored)
}

/// The file with `from` in its header put as `to`, and the digest that belongs to that.
fn forged(path: &Path, from: &str, to: &str) -> Vec<u8> {
    let data = fs::read(path).unwrap();
    let length = u64::from_le_bytes(data[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(data[8..8 + length].to_vec()).unwrap();
    assert!(header.contains(from), "{from} is not in {header}");
    let mut header = header.replacen(from, to, 1).trim_end().to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    sealed([&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data[8 + length..]].concat())
}

/// The bytes with the digest that belongs to them.
fn sealed(mut data: Vec<u8>) -> Vec<u8> {
    let key = br#"\"sha256\":\""#;
    let at = data.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    data[at..at + 64].fill(b'0');
    let digest = sha256(&data);
    data[at..at + 64].copy_from_slice(digest.as_bytes());
    data
}

#[test]
fn a_state_comes_back_exactly_and_its_file_is_the_same_twice() {
    let folder = folder("roundtrip");
    let path = folder.join("c.safetensors");
    let tensor = written(&path);
    let first = fs::read(&path).unwrap();
    let _ = written(&path);
    assert_eq!(first, fs::read(&path).unwrap());
    assert_eq!(taken(&path).unwrap(), tensor);
    let (mut state, config) = State::read(&path).unwrap();
    assert_eq!(config["k"][1], 2);
    assert!(state.finish().err().unwrap().to_string().contains("a.x is nothing this run has"));
    let mut n = 0.0;
    state.value("n", &mut n).unwrap();
    assert_eq!(n, 0.1);
    let mut other_shape = Tensor::zeros([2], (Kind::Float, Device::Cpu));
    let error = state.tensor("absent", &mut other_shape).err().unwrap();
    assert!(error.code() == "Data" && error.to_string().contains("absent is missing"), "{error}");
    let error = state.group("a", |state| state.tensor("x", &mut other_shape)).err().unwrap();
    assert!(error.to_string().contains("a.x is Float [3], this run needs Float [2]"), "{error}");
    fs::remove_dir_all(folder).unwrap();
}

/// Every bit of the file, every length of it, and bytes after it.
#[test]
fn no_bit_of_a_file_can_be_another() {
    let folder = folder("bits");
    let path = folder.join("c.safetensors");
    let _ = written(&path);
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let error = State::read(&path).err().unwrap_or_else(|| panic!("{what} was accepted"));
        assert_eq!(error.code(), "Data", "{what}: {error}");
        assert!(error.to_string().contains("c.safetensors: not a usable checkpoint"), "{what}: {error}");
    };
    for bit in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refused(&bytes, &format!("bit {bit}"));
    }
    for length in (0..whole.len()).step_by(3) {
        refused(&whole[..length], &format!("{length} bytes"));
    }
    refused(&[whole.as_slice(), &[0]].concat(), "a byte more");
    fs::write(&path, &whole).unwrap();
    assert!(taken(&path).is_ok());
    fs::remove_dir_all(folder).unwrap();
}

/// With a digest that fits: what a program, not an accident, has changed.
#[test]
fn what_no_run_can_have_is_refused_by_name_and_value() {
    let folder = folder("forged");
    let path = folder.join("c.safetensors");
    let _ = written(&path);
    let cases = [
        (forged(&path, r#"\"steps\":\"7\""#, r#"\"steps\":\"18446744073709551615\""#), "steps is 18446744073709551615"),
        (forged(&path, r#"\"steps\":\"7\""#, r#"\"steps\":\"-1\""#), "steps is -1"),
        (forged(&path, r#"\"held\":\"[0,1]\""#, r#"\"held\":\"[0,2]\""#), "held names episode 2, the dataset has 2"),
        (forged(&path, r#"\"n\":\"0.1\""#, r#"\"n\":\"1e999\""#), "n is 1e999"),
        (forged(&path, r#"\"n\":\"0.1\""#, r#"\"m\":\"0.1\""#), "n is missing"),
        (forged(&path, r#"\"n\":\"0.1\""#, r#"\"n\":\"0.1\",\"m\":\"1\""#), "m is nothing this run has"),
        (forged(&path, "drcorl-checkpoint/2", "drcorl-checkpoint/1"), "has no sha256 of its content"),
        (forged(&path, "drcorl-checkpoint/2", "drcorl-checkpoint/3"), "format is drcorl-checkpoint/3"),
    ];
    let number = |kind: &str, value: &[u8]| {
        let mut data = fs::read(&path).unwrap();
        // Names in the order of their alignment: row numbers, then floats.
        let at = if kind == "row" { data.len() - 12 - 16 } else { data.len() - 12 };
        data[at..at + value.len()].copy_from_slice(value);
        sealed(data)
    };
    let numbers = [
        (number("row", &3i64.to_le_bytes()), "rows names row 3 at 0, the dataset has 3"),
        (number("row", &(-1i64).to_le_bytes()), "rows names row -1 at 0"),
        (number("row", &i64::MAX.to_le_bytes()), "rows names row 9223372036854775807 at 0"),
        (number("float", &f32::NAN.to_le_bytes()), "a.x is NaN at 0, not a finite number"),
        (number("float", &f32::NEG_INFINITY.to_le_bytes()), "a.x is -inf at 0, not a finite number"),
    ];
    for (bytes, message) in cases.into_iter().chain(numbers) {
        fs::write(&path, bytes).unwrap();
        let error = taken(&path).err().unwrap_or_else(|| panic!("accepted: {message}")).to_string();
        assert!(error.contains("c.safetensors: ") && error.contains(message), "{message}: {error}");
        let _ = written(&path);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn foreign_and_odd_files_are_refused_by_name() {
    let folder = folder("foreign");
    let path = folder.join("c.safetensors");
    let foreign = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
    fs::write(&path, foreign).unwrap();
    assert!(State::read(&path).err().unwrap().to_string().contains("not written by drcorl"));
    assert_eq!(State::read(&folder.join("absent")).err().unwrap().code(), "Io");
    assert!(State::read(&folder).err().unwrap().to_string().contains("no regular file"));
    // A sparse file: its bytes are not read, for its header does not speak of them.
    let _ = written(&path);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(State::read(&path).err().unwrap().to_string().contains("it has another number"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_state_that_is_not_finite_is_not_written() {
    let folder = folder("finite");
    let path = folder.join("c.safetensors");
    let _ = written(&path);
    let before = fs::read(&path).unwrap();
    let mut state = State::saving();
    state.tensor("x", &mut Tensor::from_slice(&[0.0f32, f32::NAN])).unwrap();
    let error = state.write(&path, &Value::Null).err().unwrap().to_string();
    assert!(error.contains("x is NaN at 1"), "{error}");
    assert_eq!(before, fs::read(&path).unwrap());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_failed_write_leaves_neither_a_partial_file_nor_a_temporary() {
    let folder = folder("atomic");
    // The target is a folder: the rename must fail, after the temporary was written.
    let path = folder.join("taken");
    fs::create_dir_all(path.join("inside")).unwrap();
    assert_eq!(write_atomically(&path, b"data").err().unwrap().code(), "Io");
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["taken"]);
    fs::remove_dir_all(folder).unwrap();
}
