//! Checkpoints that are not as they were written: each is refused by file, field and value, and nothing panics.

use drcorl_algos::REGISTRY;
use drcorl_core::Trainer;
use drcorl_data::Columns;
use drcorl_nn::digest::sha256;
use drcorl_nn::rng::Rng;
use serde_json::{json, Value};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

fn columns() -> Arc<Columns> {
    let mut rng = Rng::new(21, 0);
    let mut columns = Columns { obs_dim: 2, act_dim: 1, source: "toy".into(), ..Columns::default() };
    for row in 0..200 {
        let mut draw = |n: usize| (0..n).map(|_| 2.0 * rng.unit() - 1.0).collect::<Vec<f32>>();
        columns.observations.extend(draw(2));
        columns.next_observations.extend(draw(2));
        columns.actions.extend(draw(1));
        columns.rewards.extend(draw(1));
        columns.costs.push(f32::from(u8::from(row % 7 == 0)));
        columns.terminals.push(false);
        columns.timeouts.push(row % 20 == 19);
    }
    Arc::new(columns)
}

/// A run of `bc` whose phases take 4, 5 and 3 steps: cloning, audit, certificate.
fn trained(folder: &Path, steps: u64) -> (Trainer, PathBuf) {
    let run = json!({ "device": "cpu", "model_hidden": [4], "model_rollouts": 4, "model_steps": 4, "fqe_steps": 2,
        "model_batch": 8, "audit_members": 2 });
    let config = json!({ "update_steps": 4, "actor_hidden": [4], "batch_size": 8 });
    let all = json!({ "algorithm": "bc", "run": run, "config": config }).to_string();
    let mut trainer = Trainer::new(REGISTRY, columns(), &all).unwrap();
    for _ in 0..steps {
        trainer.run(1, &AtomicBool::new(false)).unwrap();
    }
    let path = folder.join("checkpoint.safetensors");
    trainer.save(&path).unwrap();
    (trainer, path)
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("drcorl-checkpoints-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A checkpoint by its header, which is JSON, and the bytes behind it.
struct File {
    header: Value,
    data: Vec<u8>,
}

impl File {
    fn read(path: &Path) -> File {
        let bytes = fs::read(path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        File { header, data: bytes[8 + length..].to_vec() }
    }

    /// Changes what stands in the run's own part of the header.
    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let text = self.header["__metadata__"]["drcorl"].as_str().unwrap();
        let mut own: Value = serde_json::from_str(text).unwrap();
        change(&mut own);
        self.header["__metadata__"]["drcorl"] = json!(own.to_string());
    }

    /// The bytes of the tensor `name`.
    fn tensor(&mut self, name: &str) -> &mut [u8] {
        let offsets = &self.header[name]["data_offsets"];
        let at = |index: usize| offsets[index].as_u64().unwrap() as usize;
        let range = at(0)..at(1);
        &mut self.data[range]
    }

    /// Written with the digest that belongs to it, as a program would that knows how.
    fn write(&self, path: &Path) {
        let text = self.header.to_string();
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&self.data);
        let key = br#"\"sha256\":\""#;
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
        bytes[at..at + 64].fill(b'0');
        let digest = sha256(&bytes);
        bytes[at..at + 64].copy_from_slice(digest.as_bytes());
        fs::write(path, bytes).unwrap();
    }
}

fn refusal(path: &Path) -> Option<String> {
    let error = Trainer::resume(REGISTRY, columns(), path).err()?;
    assert!(matches!(error.code(), "Data" | "Config"), "{}: {error}", error.code());
    Some(error.to_string())
}

#[test]
fn counters_and_indices_that_no_run_can_have_are_refused_by_name() {
    let folder = folder("forged");
    let (_, path) = trained(&folder, 6);
    let value = |name: &str, text: &str| {
        let mut file = File::read(&path);
        file.edit(|own| {
            assert!(own["values"][name].is_string(), "{name}: {}", own["values"]);
            own["values"][name] = json!(text);
        });
        file
    };
    let tensor = |name: &str, bytes: &[u8]| {
        let mut file = File::read(&path);
        file.tensor(name)[..bytes.len()].copy_from_slice(bytes);
        file
    };
    let most = u64::MAX.to_string();
    let cases = [
        (value("phase", "9"), "phase is 9, this run has 3"),
        (value("phase", &most), "phase is 18446744073709551615"),
        (value("phase", "3"), "phase_step is 2, phase 3 ends at 1"),
        (value("phase_step", "1000000"), "phase_step is 1000000, phase 1 ends at 5"),
        (value("phase_step", &most), "phase_step is 18446744073709551615, phase 1 ends at 5"),
        (value("phase_step", "3"), "step is 6, but phase 1 and phase_step 3 make 7"),
        (value("phase_step", "-1"), "phase_step is -1"),
        (value("step", &most), "step is 18446744073709551615"),
        (value("left_out", "[7]"), "left_out has 7, this run has 3 phases"),
        (value("left_out", "[1]"), "left_out has 1, but phase 1 is not over"),
        (value("algorithm.policy.head.adam.steps", &most), "adam.steps is 18446744073709551615"),
        (value("auditor.dynamics.holdout", "[10]"), "holdout names episode 10, the dataset has 10"),
        (value("data.rows", "3"), "not the dataset this checkpoint was trained on"),
        (value("visits.made", "[{}]"), "visits.made is [{}]"),
        (tensor("auditor.starts", &200i64.to_le_bytes()), "starts names row 200 at 0, the dataset has 200"),
        (tensor("auditor.logged", &(-1i64).to_le_bytes()), "logged names row -1 at 0"),
        (tensor("algorithm.policy.head.online.values", &f32::NAN.to_le_bytes()), "online.values is NaN at 0"),
    ];
    for (file, message) in cases {
        file.write(&path);
        let refused = refusal(&path).unwrap_or_else(|| panic!("accepted: {message}"));
        assert!(refused.contains("checkpoint.safetensors") || refused.contains("toy"), "{refused}");
        assert!(refused.contains(message), "{message}: {refused}");
        trained(&folder, 6);
    }
    assert_eq!(refusal(&path), None);
    fs::remove_dir_all(folder).unwrap();
}

/// A run that says it is done has its certificate, and one that is not has none.
#[test]
fn a_run_is_done_with_its_certificate_only() {
    let folder = folder("done");
    for (steps, certificate) in [(12, json!("null")), (6, Value::Null)] {
        let (_, path) = trained(&folder, 12);
        let done = File::read(&path);
        let mut full = Value::Null;
        let mut file = done;
        file.edit(|own| full = own["values"]["certificate"].clone());
        let (trainer, path) = trained(&folder, steps);
        assert_eq!(trainer.status().done, steps == 12);
        let mut file = File::read(&path);
        file.edit(|own| own["values"]["certificate"] = if certificate.is_null() { full } else { certificate });
        file.write(&path);
        assert!(refusal(&path).unwrap().contains("certificate does not fit the phase"));
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Bytes and bits anywhere, pieces gone, doubled or moved: 600 files.
#[test]
fn damaged_files_are_refused() {
    let folder = folder("damaged");
    let (_, path) = trained(&folder, 6);
    let whole = fs::read(&path).unwrap();
    let mut rng = Rng::new(5, 0);
    for number in 0..600 {
        let mut bytes = whole.clone();
        let at = rng.below(bytes.len());
        match number % 5 {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = bytes[at].wrapping_add(1 + rng.below(255) as u8),
            2 => bytes.truncate(at),
            3 => {
                bytes.drain(at..(at + 1 + rng.below(64)).min(whole.len()));
            }
            _ => {
                let piece = bytes[at..(at + 1 + rng.below(64)).min(whole.len())].to_vec();
                let to = rng.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
        fs::write(&path, &bytes).unwrap();
        let refused = refusal(&path).unwrap_or_else(|| panic!("mutant {number} at {at} was accepted"));
        assert!(refused.contains("checkpoint.safetensors: not a usable checkpoint"), "{refused}");
    }
    fs::remove_dir_all(folder).unwrap();
}
