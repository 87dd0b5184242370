//! Episodes that training must not see, and policies that are judged again by other episodes, for every algorithm.

mod support;

use drcorl_actor::{Array, PolicyFile};
use drcorl_algos::{describe, REGISTRY};
use drcorl_core::offline::Verdict;
use drcorl_core::policy::{FrozenPolicy, LoadedPolicy};
use drcorl_core::trainer::Origin;
use drcorl_core::{Certifier, Trainer};
use drcorl_data::{split, Columns, SplitOptions};
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use support::columns;

static NEVER: AtomicBool = AtomicBool::new(false);
const HOLDOUT: f64 = 0.25;

/// The same data with other observations, rewards and costs in the episodes that are held out.
fn altered() -> Columns {
    let mut columns = columns();
    let held = split(&columns, &SplitOptions { share: HOLDOUT, seed: 0 }).unwrap().held;
    for (episode, held) in columns.episodes().into_iter().zip(held) {
        for row in (episode.start..episode.end).filter(|_| held) {
            columns.rewards[row] = 50.0 - columns.rewards[row];
            columns.costs[row] = 1.0 - columns.costs[row];
            columns.observations[3 * row] *= 3.0;
        }
    }
    columns
}

fn shrunk(schema: &Value) -> Map<String, Value> {
    support::shrunk(schema, 4, 32)
}

fn run(holdout: f64) -> Map<String, Value> {
    let mut run = shrunk(&describe()["run"]["schema"]);
    let own = json!({
        "cost_limit": 6.0, "device": "cpu", "model_hidden": [8], "model_rollouts": 4, "holdout": holdout,
        "audit_members": 2
    });
    run.extend(own.as_object().unwrap().clone());
    run
}

fn trainer(algorithm: &str, holdout: f64, columns: Columns) -> Trainer {
    let config = shrunk(&describe()["algorithms"][algorithm]["schema"]);
    let config = json!({ "algorithm": algorithm, "run": run(holdout), "config": config }).to_string();
    Trainer::new(REGISTRY, Arc::new(columns), &config).unwrap()
}

fn finished(mut trainer: Trainer) -> Trainer {
    while !trainer.run(50, &NEVER).unwrap().done {}
    trainer
}

/// Every number of the policy that ships, by name.
fn policy(trainer: &mut Trainer, folder: &Path) -> BTreeMap<String, Array> {
    trainer.write_policies(folder, &Origin::default()).unwrap();
    PolicyFile::load(&folder.join("policy.safetensors")).unwrap().tensors
}

fn folder(name: &str) -> PathBuf {
    support::folder(&format!("held-out-{name}"))
}

#[test]
fn held_out_episodes_do_not_change_one_bit_of_the_policy() {
    let folder = folder("policy");
    for entry in REGISTRY {
        let name = entry.name;
        let mut whole = finished(trainer(name, HOLDOUT, columns()));
        let wanted = policy(&mut whole, &folder);
        let mut other = finished(trainer(name, HOLDOUT, altered()));
        assert!(policy(&mut other, &folder) == wanted, "{name}: the policy has seen episodes that were held out");
        let mut seen = finished(trainer(name, 0.0, altered()));
        let mut unaltered = finished(trainer(name, 0.0, columns()));
        assert!(policy(&mut seen, &folder) != policy(&mut unaltered, &folder), "{name}: this test sees nothing");

        let certificate = whole.certificate().unwrap();
        let held = certificate.held_out.as_ref().unwrap();
        assert_eq!((held.share, held.seed, held.episodes, held.transitions), (HOLDOUT, 0, 3, 120));
        assert_eq!(certificate.validity.as_ref().unwrap().held_out_episodes, 3);
        assert!(certificate.validity != other.certificate().unwrap().validity, "{name}: the test is on others");
        assert_eq!(seen.certificate().unwrap().held_out, None);

        let mut first = trainer(name, HOLDOUT, columns());
        for _ in 0..first.status().steps / 2 {
            first.run(1, &NEVER).unwrap();
        }
        let path = folder.join("c.safetensors");
        first.save(&path).unwrap();
        let mut resumed = finished(Trainer::resume(REGISTRY, Arc::new(columns()), &path).unwrap());
        assert!(policy(&mut resumed, &folder) == wanted, "{name}: resumed");
        assert_eq!(resumed.certificate(), whole.certificate());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_share_that_holds_nothing_out_is_refused_by_name() {
    let config = json!({ "algorithm": REGISTRY[0].name, "run": { "holdout": 0.01, "device": "cpu" } }).to_string();
    let error = Trainer::new(REGISTRY, Arc::new(columns()), &config).err().unwrap();
    assert_eq!(error.code(), "Config");
    assert!(error.to_string().starts_with("holdout is 0.01: toy: share: 0.01 of 10 complete episodes"), "{error}");
}

fn certifier(policies: &[PathBuf], columns: Columns) -> Certifier {
    let policies: Vec<Value> = policies.iter().map(|path| json!({ "path": path })).collect();
    let config = json!({ "run": run(0.0), "policies": policies }).to_string();
    Certifier::new(Arc::new(columns), &config).unwrap()
}

fn judged(mut certifier: Certifier) -> Certifier {
    while !certifier.run(50, &NEVER).unwrap().done {}
    certifier
}

/// Policy files of every algorithm, and the file as the judges play it is what was trained.
#[test]
fn every_policy_is_judged_again_and_alike_in_any_company() {
    let folder = folder("judged");
    let mut paths = Vec::new();
    for entry in REGISTRY {
        let mut trainer = finished(trainer(entry.name, 0.0, columns()));
        let own = folder.join(entry.name);
        std::fs::create_dir_all(&own).unwrap();
        policy(&mut trainer, &own);
        paths.push(own.join("policy.safetensors"));
        let _no_grad = tch::no_grad_guard();
        let data = trainer.data();
        let loaded = LoadedPolicy::load(paths.last().unwrap(), &BTreeMap::new(), data).unwrap();
        let live = &trainer.policies().unwrap()[0].policy;
        assert_eq!(loaded.remembers(), live.remembers(), "{}", entry.name);
        let observation = data.gather(&data.starts()).observation();
        let difference = (loaded.act(&observation) - live.act(&observation)).abs().max().double_value(&[]);
        assert!(difference < 1e-4, "{}: {difference}", entry.name);
        assert_eq!(loaded.outside(), 0.0);
    }
    let together = judged(certifier(&paths, columns()));
    assert_eq!(together.certificates().len(), paths.len());
    paths.reverse();
    let reversed = judged(certifier(&paths, columns()));
    assert!(reversed.certificates().iter().rev().eq(together.certificates()));
    let alone = judged(certifier(&paths[..1], columns()));
    assert_eq!(alone.certificates()[0], reversed.certificates()[0]);
    for certificate in together.certificates() {
        assert!(certificate.estimates.model_rollout.as_ref().unwrap().cost.upper.is_finite());
        assert!(certificate.estimates.critic_ucb.is_none());
        assert_eq!(certificate.diagnostics["actions_outside"], json!(0.0));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_policy_among_data_of_smaller_actions_is_refused() {
    let folder = folder("outside");
    policy(&mut finished(trainer(REGISTRY[0].name, 0.0, columns())), &folder);
    let mut small = columns();
    small.actions.iter_mut().for_each(|action| *action = 0.4 + *action * 1e-3);
    let path = [folder.join("policy.safetensors")];
    let certifier = judged(certifier(&path, small));
    let certificate = &certifier.certificates()[0];
    assert_eq!(certificate.verdict, Verdict::NotCertified);
    assert!(certificate.diagnostics["actions_outside"].as_f64().unwrap() > 0.5);
    assert!(certificate.reasons.last().unwrap().contains("outside the range of the logged ones"));

    let narrow = Columns { obs_dim: 1, observations: vec![0.5; 400], next_observations: vec![0.5; 400], ..columns() };
    let config = json!({ "run": run(0.0), "policies": [{ "path": path[0] }] }).to_string();
    let error = Certifier::new(Arc::new(narrow), &config).err().unwrap();
    assert_eq!(error.code(), "Shape");
    assert!(error.to_string().contains("has 3 entries in an observation, the episodes of toy have 1"), "{error}");
    let config = json!({ "run": run(0.0), "policies": [{ "path": folder.join("none.safetensors") }] }).to_string();
    assert_eq!(Certifier::new(Arc::new(columns()), &config).err().unwrap().code(), "Io");
    let config = json!({ "policies": [] }).to_string();
    assert_eq!(Certifier::new(Arc::new(columns()), &config).err().unwrap().code(), "Config");
    std::fs::remove_dir_all(folder).unwrap();
}
