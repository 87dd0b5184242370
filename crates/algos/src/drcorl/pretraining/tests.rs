//! What is listed is what is shared: a run that takes over what another one made is the run that makes it itself.

use super::PRETRAINING;
use crate::drcorl::tests::{logged, LENGTH};
use drcorl_core::Trainer;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

const EPISODES: usize = 60;

/// A few small steps of every phase, with dynamics models as the gate; `change` goes where the key belongs.
fn brief(change: &Value) -> Value {
    let mut all = json!({
        "algorithm": "drcorl",
        "run": {
            "cost_limit": 3.0, "device": "cpu", "model_members": 2, "model_steps": 12, "model_hidden": [8], "model_batch": 16,
            "model_rollouts": 4, "audit_members": 2, "fqe_steps": 3, "self_test_steps": 2
        },
        "config": {
            "behavior_hidden": 8, "behavior_blocks": 1, "behavior_batch": 16, "behavior_steps": 4, "actor_hidden": [8], "actor_batch": 16,
            "warmup_steps": 4, "critic_hidden": [8], "critic_batch": 16, "critic_init_steps": 2, "critic_steps": 3, "gamma": 0.5,
            "adaptation_steps": 6, "gate": "model_rollout", "gate_interval": 2, "gate_batch": 16, "gate_rollouts": 4, "candidate_interval": 2,
            "model_gate_correlation": -1.0, "mixture_iterates": 2
        }
    });
    for (key, value) in change.as_object().unwrap() {
        all[part(key)][key] = value.clone();
    }
    all
}

fn run_schema() -> Value {
    crate::describe()["run"]["schema"].clone()
}

fn own_schema() -> Value {
    crate::describe()["algorithms"]["drcorl"]["schema"].clone()
}

fn part(key: &str) -> &'static str {
    if run_schema()["properties"].get(key).is_some() {
        "run"
    } else {
        "config"
    }
}

fn fresh(change: &Value) -> Trainer {
    Trainer::new(crate::REGISTRY, logged(EPISODES), &brief(change).to_string()).unwrap()
}

/// Steps on to where the pretraining ends.
fn pretrain(trainer: &mut Trainer) {
    while !trainer.status().pretrained {
        trainer.run(1, &AtomicBool::new(false)).unwrap();
    }
}

fn finish(trainer: &mut Trainer) {
    while !trainer.run(100, &AtomicBool::new(false)).unwrap().done {}
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("drcorl-pretraining-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn bytes(&self, trainer: &mut Trainer) -> Vec<u8> {
        let path = self.0.join("state.safetensors");
        trainer.save(&path).unwrap();
        std::fs::read(path).unwrap()
    }

    /// The pretraining of a run.
    fn made(&self, change: &Value) -> PathBuf {
        let path = self.0.join("pretraining.safetensors");
        let mut trainer = fresh(change);
        pretrain(&mut trainer);
        trainer.save(&path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn reuse(change: &Value, path: &Path) -> drcorl_core::Result<Trainer> {
    Trainer::reuse(crate::REGISTRY, logged(EPISODES), &brief(change).to_string(), path)
}

/// The issue of it all: under the same limit and under others the end is that of a run trained alone, in every bit of
/// its state, certificate included; also where it was stopped and went on.
#[test]
fn a_run_that_takes_it_over_ends_as_one_that_makes_it() {
    ends_alike("plain", &json!({}));
}

/// So it is with states that are switched by themselves, by choice or because the models do not order what was held
/// out, and with two courses.
#[test]
fn so_it_is_with_every_form_of_adaptation() {
    let brief =
        json!({ "margin_steps": 3, "feasibility_steps": 3, "reward_critic": "both", "reward_updates_per_step": 1 });
    for (name, change) in [
        ("state", json!({ "adaptation": "state" })),
        ("auto-state", json!({ "adaptation": "auto", "model_gate_correlation": 1.0 })),
        ("auto-band", json!({ "adaptation": "auto" })),
    ] {
        let mut all = brief.clone();
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        ends_alike(name, &all);
    }
}

fn ends_alike(name: &str, change: &Value) {
    let folder = Folder::new(name);
    let path = folder.made(change);
    for limit in [3.0, 0.5, 100.0] {
        let mut change = change.clone();
        change["cost_limit"] = json!(limit);
        let mut alone = fresh(&change);
        finish(&mut alone);
        let expected = folder.bytes(&mut alone);
        let mut taken = reuse(&change, &path).unwrap();
        assert!(taken.status().pretrained && taken.status().step > 0);
        finish(&mut taken);
        assert_eq!(taken.certificate(), alone.certificate(), "{name} {limit}");
        assert!(folder.bytes(&mut taken) == expected, "{name} {limit}");

        let mut stopped = reuse(&change, &path).unwrap();
        stopped.run(3, &AtomicBool::new(false)).unwrap();
        let at = folder.0.join("stopped.safetensors");
        stopped.save(&at).unwrap();
        let mut resumed = Trainer::resume(crate::REGISTRY, logged(EPISODES), &at).unwrap();
        finish(&mut resumed);
        assert!(folder.bytes(&mut resumed) == expected, "{name} {limit}, resumed");
    }
}

/// Another value than `value`, within the bounds of the schema.
fn another(schema: &Value, key: &str, value: &Value) -> Value {
    let property = &schema["properties"][key];
    let choices = |node: &Value| -> Vec<Value> {
        let all = node["enum"].as_array().into_iter().flatten().cloned();
        all.chain(
            node["oneOf"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|one| one["enum"].as_array().cloned().unwrap_or_else(|| vec![one["const"].clone()])),
        )
        .collect()
    };
    let referred = property["$ref"].as_str().map(|text| schema["$defs"][text.rsplit('/').next().unwrap()].clone());
    if let Some(other) = choices(referred.as_ref().unwrap_or(property)).into_iter().find(|other| other != value) {
        return other;
    }
    match value {
        Value::Bool(on) => json!(!on),
        Value::Null => json!(LENGTH),
        Value::Object(_) => json!({ "wear": 2.0 }),
        Value::String(_) => json!("auto"),
        Value::Array(items) => items.iter().map(|item| json!(item.as_f64().unwrap() * 2.0)).collect(),
        _ if value.is_u64() => {
            let up = value.as_u64().unwrap() + 1;
            json!(property["maximum"].as_u64().map_or(up, |most| up.min(most)))
        }
        _ => {
            let number = value.as_f64().unwrap();
            let up = if number == 0.0 { 0.5 } else { number * 0.75 };
            json!(up)
        }
    }
}

/// Every parameter of the run and of the algorithm with the value that the brief run has.
fn parameters() -> Vec<(String, Value, Value)> {
    let resolved = fresh(&json!({})).config().clone();
    let mut all = Vec::new();
    for (part, schema) in [("run", run_schema()), ("config", own_schema())] {
        for (key, value) in resolved[part].as_object().unwrap() {
            let mut other = another(&schema, key, value);
            if value.as_array().is_some_and(|items| items.iter().all(Value::is_u64)) {
                other = json!([9]);
            }
            assert_ne!(&other, value, "{key}");
            all.push((key.clone(), value.clone(), other));
        }
    }
    all
}

/// Nothing reads these before adaptation: with another value, what is taken over is in every bit what a run of that
/// value would have made. All others are refused, by name and both values.
#[test]
fn the_list_is_exactly_what_adaptation_alone_reads() {
    let folder = Folder::new("list");
    let path = folder.made(&json!({}));
    let mut listed = 0;
    for (key, value, other) in parameters() {
        let mut change = json!({ key.as_str(): other });
        if key == "reward_critic" {
            change["reward_updates_per_step"] = json!(1);
        }
        if key == "limits" {
            change["cost_limit"] = json!(2.0);
        }
        if key == "constraint" {
            change["constraint"] = json!("hard");
        }
        if PRETRAINING.later().any(|later| later == key) {
            let mut alone = fresh(&change);
            pretrain(&mut alone);
            let mut taken = reuse(&change, &path).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert!(folder.bytes(&mut taken) == folder.bytes(&mut alone), "{key} is read before adaptation");
            listed += 1;
        } else {
            let error = reuse(&change, &path).err().unwrap_or_else(|| panic!("{key} was not compared"));
            assert_eq!(error.code(), "Config", "{key}: {error}");
            let text = error.to_string();
            assert!(text.starts_with(&format!("{key} is ")) && text.contains(&format!("but {value} in ")), "{text}");
            assert!(text.contains("pretraining.safetensors") && text.contains("give the same value"), "{text}");
        }
    }
    assert_eq!(listed, PRETRAINING.later().count(), "every name is that of a parameter");
}

/// The same costs under other limits share what is made before adaptation.
#[test]
fn limits_on_the_same_costs_share_a_pretraining() {
    let folder = Folder::new("named");
    let limits = |limit: f64| json!({ "cost_limit": limit, "limits": { "costs": limit } });
    let path = folder.made(&limits(2.0));
    let mut alone = fresh(&limits(0.5));
    finish(&mut alone);
    let mut taken = reuse(&limits(0.5), &path).unwrap();
    finish(&mut taken);
    assert!(folder.bytes(&mut taken) == folder.bytes(&mut alone));
}

/// Where the behavior model learns from the episodes within the limit, another limit is another behavior model.
#[test]
fn a_limit_that_chose_the_data_is_not_changed() {
    let folder = Folder::new("safe");
    let path = folder.made(&json!({ "behavior_data": "safe" }));
    let error = reuse(&json!({ "behavior_data": "safe", "cost_limit": 2.0 }), &path).err().unwrap().to_string();
    assert!(error.starts_with("cost_limit is 2.0, but 3.0 in "), "{error}");
    assert!(error.contains("behavior_data safe learns from the episodes within the limit"), "{error}");
    let change = json!({ "behavior_data": "safe", "slack_above": 0.5 });
    let mut alone = fresh(&change);
    finish(&mut alone);
    let mut taken = reuse(&change, &path).unwrap();
    finish(&mut taken);
    assert!(folder.bytes(&mut taken) == folder.bytes(&mut alone));
}

/// A file of another algorithm or of another moment, other data, and an algorithm that shares nothing.
#[test]
fn what_is_no_pretraining_is_refused() {
    let folder = Folder::new("refused");
    let path = folder.made(&json!({}));
    let refused = |result: drcorl_core::Result<Trainer>, message: &str| {
        let error = result.err().unwrap_or_else(|| panic!("accepted: {message}")).to_string();
        assert!(error.contains(message), "{message}: {error}");
    };
    let bc = json!({ "algorithm": "bc", "run": { "device": "cpu" }, "config": {} }).to_string();
    refused(
        Trainer::reuse(crate::REGISTRY, logged(EPISODES), &bc, &path),
        "algorithm is bc, which has no pretraining to share; drcorl has",
    );
    let other = folder.0.join("bc.safetensors");
    Trainer::new(crate::REGISTRY, logged(EPISODES), &bc).unwrap().save(&other).unwrap();
    refused(reuse(&json!({}), &other), "is of a run of bc");

    let mut trainer = fresh(&json!({}));
    let never = AtomicBool::new(false);
    for moment in ["early", "late"] {
        if moment == "late" {
            pretrain(&mut trainer);
        }
        trainer.run(1, &never).unwrap();
        let at = folder.0.join(format!("{moment}.safetensors"));
        trainer.save(&at).unwrap();
        refused(reuse(&json!({}), &at), "was not saved where the pretraining ends");
    }

    let mut columns = (*logged(EPISODES)).clone();
    columns.observations[0] += 1.0;
    let json = brief(&json!({})).to_string();
    refused(
        Trainer::reuse(crate::REGISTRY, Arc::new(columns), &json, &path),
        "not the dataset this checkpoint was trained on",
    );
}
