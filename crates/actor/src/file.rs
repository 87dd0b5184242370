//! The policy file: safetensors with float32 tensors and string metadata.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors};

use crate::actor::{LayerParts, Parts};
use crate::error::{Error, ErrorKind, Result};

/// Value of the metadata key `format`.
pub const FORMAT: &str = "drcorl-policy/1";

/// Metadata that decides what the tensors mean, with the only values this version computes.
const FIXED: [(&str, &str); 3] = [("format", FORMAT), ("hidden_activation", "relu"), ("output_activation", "tanh")];

/// Reads the parts and the metadata; shapes are checked as far as single tensors go.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Parts, BTreeMap<String, String>)> {
    let not_a_file = |e: safetensors::SafeTensorError| {
        let text =
            format!("is not a safetensors file, or is truncated ({} bytes: {e}); write the policy again", bytes.len());
        Error::new(ErrorKind::Data, None, &text)
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_a_file)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(not_a_file)?;
    let metadata: BTreeMap<String, String> =
        header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    check_metadata(&metadata)?;

    let mut layers = Vec::new();
    let mut known = vec![
        "observation.mean".to_owned(),
        "observation.std".to_owned(),
        "action.low".to_owned(),
        "action.high".to_owned(),
    ];
    while layers.is_empty() || tensors.names().contains(&weight_name(layers.len()).as_str()) {
        let (weight_name, bias_name) = (weight_name(layers.len()), bias_name(layers.len()));
        let (shape, weight) = tensor(&tensors, &weight_name, 2)?;
        let (bias_shape, bias) = tensor(&tensors, &bias_name, 1)?;
        if shape[0] != bias_shape[0] {
            let text = format!("has shape {shape:?}, but {bias_name} has {bias_shape:?}");
            return Err(Error::shape(&weight_name, &text));
        }
        layers.push(LayerParts { weight, bias });
        known.extend([weight_name, bias_name]);
    }
    let parts = Parts {
        layers,
        observation_mean: tensor(&tensors, "observation.mean", 1)?.1,
        observation_std: tensor(&tensors, "observation.std", 1)?.1,
        action_low: tensor(&tensors, "action.low", 1)?.1,
        action_high: tensor(&tensors, "action.high", 1)?.1,
    };
    let mut names = tensors.names();
    names.sort_unstable();
    if let Some(name) = names.iter().find(|name| !known.iter().any(|k| k == **name)) {
        let text = "is not a tensor of this format; a layer before it may be missing";
        return Err(Error::data(name, text));
    }
    Ok((parts, metadata))
}

fn weight_name(layer: usize) -> String {
    format!("actor.{layer}.weight")
}

fn bias_name(layer: usize) -> String {
    format!("actor.{layer}.bias")
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<()> {
    for (key, expected) in FIXED {
        let text = match metadata.get(key) {
            Some(value) if value == expected => continue,
            Some(value) => format!("is {value:?}, this version reads {expected:?}"),
            None => format!("is missing, this version reads {expected:?}"),
        };
        let text = format!("{text}; use a policy file written by drcorl");
        return Err(Error::data(&format!("metadata {key}"), &text));
    }
    Ok(())
}

/// Shape and values of a float32 tensor of the given rank.
fn tensor(file: &SafeTensors, name: &str, rank: usize) -> Result<(Vec<usize>, Vec<f32>)> {
    let view = file.tensor(name).map_err(|_| Error::data(name, "is missing; use a policy file written by drcorl"))?;
    if view.dtype() != Dtype::F32 {
        let text = format!("has the type {:?}, expected F32", view.dtype());
        return Err(Error::data(name, &text));
    }
    if view.shape().len() != rank {
        let text = format!("has shape {:?}, expected rank {rank}", view.shape());
        return Err(Error::shape(name, &text));
    }
    let values = view.data().chunks_exact(4);
    let values = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok((view.shape().to_vec(), values.collect()))
}

/// Writes the file. Not with the safetensors crate: it keeps metadata in a hash map, so that equal policies would
/// give files of different bytes.
pub(crate) fn format(parts: &Parts, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut all = metadata.clone();
    all.extend(FIXED.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), serde_json::json!(all));
    let mut data: Vec<u8> = Vec::new();
    let mut add = |name: String, shape: &[usize], values: &[f32]| {
        let start = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    };
    for (name, values) in [("action.high", &parts.action_high), ("action.low", &parts.action_low)] {
        add(name.to_owned(), &[values.len()], values);
    }
    for (index, layer) in parts.layers.iter().enumerate() {
        let outputs = layer.bias.len();
        let inputs = layer.weight.len() / outputs.max(1);
        add(bias_name(index), &[outputs], &layer.bias);
        add(weight_name(index), &[outputs, inputs], &layer.weight);
    }
    for (name, values) in [("observation.mean", &parts.observation_mean), ("observation.std", &parts.observation_std)] {
        add(name.to_owned(), &[values.len()], values);
    }
    let mut text = serde_json::Value::Object(header).to_string();
    // Readers map tensors in place: the data begins at a multiple of 8 bytes.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    bytes.extend(data);
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::TensorView;

    use super::*;
    use crate::Actor;

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
        let parts = actor.parts();
        assert_eq!(parts.layers[0].weight, tensors()["actor.0.weight"].2);
        assert_eq!(parts.observation_std, [1.0, 2.0, 0.5]);

        let bytes = actor.to_bytes(&metadata());
        let again = Actor::from_bytes(&bytes).unwrap();
        assert_eq!(again.parts(), parts);
        assert_eq!(again.metadata(), &metadata());
        assert_eq!(again.to_bytes(&metadata()), bytes);
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().len(), 8);
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(header % 8, 0);
    }

    #[test]
    fn the_format_cannot_be_overridden() {
        let actor = Actor::from_bytes(&file(&tensors(), &metadata())).unwrap();
        let wrong = BTreeMap::from([("format".to_owned(), "other".to_owned())]);
        let again = Actor::from_bytes(&actor.to_bytes(&wrong)).unwrap();
        assert_eq!(again.metadata()["format"], FORMAT);
    }

    #[test]
    fn refuses_foreign_metadata_by_key() {
        for (key, value) in [
            ("format", Some("drcorl-policy/2")),
            ("format", None),
            ("hidden_activation", Some("tanh")),
            ("output_activation", Some("none")),
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
            ("actor.1.bias", "not a tensor of this format", |t| drop(t.remove("actor.1.weight"))),
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
                    let _ = actor.act(&obs, &mut out, &mut actor.scratch());
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
}
