use std::collections::HashMap;

use safetensors::tensor::TensorView;

use super::*;
use crate::{Actor, Turn};

/// What an MLP's file says, with the only values this version computes.
const FIXED: [(&str, &str); 3] = [("format", FORMAT), ("hidden_activation", "relu"), ("output_activation", "tanh")];

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<f32>)>;

/// A valid policy 3 -> 4 -> 2.
fn tensors() -> Tensors {
    let ramp = |n: usize| (0..n).map(|i| i as f32 / 10.0 - 0.5).collect::<Vec<f32>>();
    let list = [
        ("actor.0.weight", vec![4, 3], ramp(12)),
        ("actor.0.bias", vec![4], ramp(4)),
        ("actor.1.weight", vec![2, 4], ramp(8)),
        ("actor.1.bias", vec![2], ramp(2)),
        ("observation.mean", vec![3], ramp(3)),
        ("observation.std", vec![3], vec![1.0, 2.0, 0.5]),
        ("action.low", vec![2], vec![-1.0, -2.0]),
        ("action.high", vec![2], vec![1.0, 3.0]),
    ];
    let entry = |(name, shape, values): (&str, _, _)| (name.to_owned(), (Dtype::F32, shape, values));
    list.into_iter().map(entry).collect()
}

fn metadata() -> BTreeMap<String, String> {
    let all = FIXED.iter().chain(&[("algorithm", "bc"), ("name", "a"), ("created_by", "test")]);
    all.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// A file written by the safetensors crate.
fn file(tensors: &Tensors, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, _, values))| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, _))| (name, TensorView::new(*dtype, shape.clone(), &bytes[name]).unwrap()));
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

#[test]
fn round_trip_keeps_every_value_and_the_bytes() {
    let actor = Actor::from_bytes(&file(&tensors(), &metadata())).unwrap();
    assert_eq!((actor.obs_dim(), actor.act_dim()), (3, 2));
    assert_eq!(actor.metadata(), &metadata());
    let content = PolicyFile::from_bytes(&file(&tensors(), &metadata())).unwrap();
    assert_eq!(content.tensors["actor.0.weight"].values, tensors()["actor.0.weight"].2);
    assert_eq!(content.tensors["observation.std"].values, [1.0, 2.0, 0.5]);

    let bytes = content.to_bytes();
    let again = PolicyFile::from_bytes(&bytes).unwrap();
    assert_eq!(again, content);
    assert_eq!(again.to_bytes(), bytes);
    assert_eq!(SafeTensors::deserialize(&bytes).unwrap().len(), 8);
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(header % 8, 0);
}

/// Files from before there were kinds name none.
#[test]
fn a_file_without_a_kind_is_an_mlp() {
    let mut named = metadata();
    named.insert("kind".to_owned(), "mlp".to_owned());
    let act = |metadata: &BTreeMap<String, String>| {
        let mut action = [0.0; 2];
        let mut player = Actor::from_bytes(&file(&tensors(), metadata)).unwrap().play();
        player.act(Turn::first(&[0.1, 0.2, 0.3]), &mut action).unwrap();
        action
    };
    assert_eq!(act(&metadata()), act(&named));
}

#[test]
fn refuses_foreign_metadata_by_key() {
    for (key, value) in [
        ("format", Some("drcorl-policy/2")),
        ("format", None),
        ("hidden_activation", Some("tanh")),
        ("output_activation", Some("none")),
        ("kind", Some("tree")),
    ] {
        let mut metadata = metadata();
        match value {
            Some(value) => metadata.insert(key.to_owned(), value.to_owned()),
            None => metadata.remove(key),
        };
        let error = Actor::from_bytes(&file(&tensors(), &metadata)).unwrap_err();
        assert_eq!(error.code(), "Data");
        assert!(error.message.contains(&format!("metadata {key}: is")), "{error}");
    }
}

#[test]
fn refuses_wrong_tensors_by_name() {
    type Change = fn(&mut Tensors);
    let cases: [(&str, &str, Change); 8] = [
        ("actor.0.weight", "is missing", |t| drop(t.remove("actor.0.weight"))),
        ("actor.1.bias", "is missing", |t| drop(t.remove("actor.1.bias"))),
        ("actor.1.weight", "is missing", |t| drop(t.remove("actor.1.weight"))),
        ("action.high", "is missing", |t| drop(t.remove("action.high"))),
        ("actor.0.bias", "expected F32", |t| {
            if let Some(bias) = t.get_mut("actor.0.bias") {
                bias.0 = Dtype::I32;
            }
        }),
        ("actor.0.weight", "rank 2", |t| {
            if let Some(weight) = t.get_mut("actor.0.weight") {
                weight.1 = vec![12];
            }
        }),
        ("actor.1.weight", "has shape [4, 2]", |t| {
            if let Some(weight) = t.get_mut("actor.1.weight") {
                weight.1 = vec![4, 2];
            }
        }),
        ("critic.0.bias", "not a tensor of this format", |t| {
            t.insert("critic.0.bias".to_owned(), (Dtype::F32, vec![1], vec![0.0]));
        }),
    ];
    for (field, text, change) in cases {
        let mut tensors = tensors();
        change(&mut tensors);
        let error = Actor::from_bytes(&file(&tensors, &metadata())).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(error.message.contains(text), "{error}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = file(&tensors(), &metadata());
    for len in 0..bytes.len() {
        let error = Actor::from_bytes(&bytes[..len]).unwrap_err();
        assert!(error.message.contains("truncated"), "{len}: {error}");
    }
}

#[test]
fn no_changed_byte_panics() {
    let bytes = file(&tensors(), &metadata());
    for index in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[index] ^= flip;
            if let Ok(actor) = Actor::from_bytes(&bytes) {
                let mut out = vec![0.0; actor.act_dim()];
                let obs = vec![0.5; actor.obs_dim()];
                // Either answer is fine: a changed weight is a valid file.
                let _ = actor.play().act(Turn::first(&obs), &mut out);
            }
        }
    }
}

#[test]
fn load_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.safetensors");
    let error = Actor::load(&path).unwrap_err();
    assert_eq!(error.code(), "Io");
    assert!(error.message.contains("policy.safetensors"), "{error}");
    std::fs::write(&path, b"hello").unwrap();
    let error = Actor::load(&path).unwrap_err();
    assert_eq!(error.code(), "Data");
    assert!(error.message.contains("policy.safetensors: is not a safetensors file"), "{error}");
    std::fs::write(&path, file(&tensors(), &metadata())).unwrap();
    Actor::load(&path).unwrap();
}

/// What is no policy is known by its kind, its size and its header, before it is read.
#[test]
fn load_reads_regular_files_of_the_size_their_header_states() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.safetensors");
    let refused = |path: &Path| Actor::load(path).unwrap_err().message;
    std::fs::write(&path, file(&tensors(), &metadata())).unwrap();
    let open = File::options().write(true).open(&path).unwrap();
    // Sparse: what is behind the end was never written.
    open.set_len(200 << 20).unwrap();
    assert!(refused(&path).contains("its header speaks of"), "{}", refused(&path));
    open.set_len(3 << 30).unwrap();
    assert!(refused(&path).contains("has 3221225472 bytes, a policy at most 268435456"), "{}", refused(&path));
    assert!(refused(dir.path()).contains("it is no regular file"));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "this system has no such files")]
fn a_pipe_and_a_file_without_end_are_refused_before_they_are_read() {
    let refused = |path: &Path| Actor::load(path).unwrap_err().message;
    assert!(refused(Path::new("/dev/zero")).contains("/dev/zero: cannot be read: it is no regular file"));
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(refused(&pipe).contains("it is no regular file"));
}
