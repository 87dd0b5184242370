//! How a run goes: exact resumption, cancellation, divergence, refusals.
//! The learning itself is tested with each algorithm.

mod hybrid;
mod profile;
#[path = "../support/mod.rs"]
mod support;

use drcorl_algos::{describe, REGISTRY};
use drcorl_core::algorithm::{find, read};
use drcorl_core::offline::Certificate;
use drcorl_core::run::{MatmulPrecision, RunConfig};
use drcorl_core::trainer::Origin;
use drcorl_core::{memory, Trainer};
use drcorl_data::Columns;
use drcorl_kernels::gemm::{Kernel, Precision};
use serde_json::{json, Value};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

fn columns() -> Arc<Columns> {
    Arc::new(support::columns())
}

/// A configuration of a few small steps a phase for any registered algorithm, by the endings of its parameters' names.
fn brief(algorithm: &str, seed: u64) -> String {
    let description = describe();
    let shrunk = |schema: &Value| support::shrunk(schema, 6, 64);
    let mut run = shrunk(&description["run"]["schema"]);
    let config = shrunk(&description["algorithms"][algorithm]["schema"]);
    run.extend(
        json!({ "seed": seed, "cost_limit": 6.0, "device": "cpu", "model_hidden": [8], "model_rollouts": 4 })
            .as_object()
            .unwrap()
            .clone(),
    );
    json!({ "algorithm": algorithm, "run": run, "config": config }).to_string()
}

fn folder(name: &str) -> std::path::PathBuf {
    support::folder(&format!("trainer-{name}"))
}

fn finish(trainer: &mut Trainer) -> Vec<String> {
    let never = AtomicBool::new(false);
    let mut metrics = Vec::new();
    loop {
        let report = trainer.run(1, &never).unwrap();
        metrics.push(format!("{:?}", report.metrics));
        if report.done {
            return metrics;
        }
    }
}

fn bytes(trainer: &mut Trainer, folder: &Path) -> Vec<u8> {
    let path = folder.join("final.safetensors");
    trainer.save(&path).unwrap();
    std::fs::read(&path).unwrap()
}

/// The models behind the certificate are those of the data and the seed: a run that takes them from another algorithm
/// under another limit ends as it would alone.
#[test]
fn models_of_the_certificate_are_shared_and_change_nothing() {
    let folder = folder("shared-audit");
    let _ = std::fs::remove_dir_all(&folder);
    let made_at = |precision: &str, algorithm: &str, seed: u64, cost_limit: f64, share: Option<&str>| {
        let mut json: Value = serde_json::from_str(&brief(algorithm, seed)).unwrap();
        json["run"]["cost_limit"] = json!(cost_limit);
        json["run"]["matmul_precision"] = json!(precision);
        let mut trainer = Trainer::new(REGISTRY, columns(), &json.to_string()).unwrap();
        share.into_iter().for_each(|data| trainer.share_audit(&folder, data).unwrap());
        trainer
    };
    let made = |algorithm: &str, seed: u64, cost_limit: f64, share: Option<&str>| {
        made_at("highest", algorithm, seed, cost_limit, share)
    };
    let files = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
    let verdict = |trainer: &Trainer| serde_json::to_string(trainer.certificate().unwrap()).unwrap();

    let mut first = made("bc", 3, 6.0, Some("data"));
    finish(&mut first);
    assert_eq!((files(), first.status().audit_models.is_none()), (1, true));

    let mut alone = made("cpq", 3, 2.0, None);
    let steps = finish(&mut alone).len();
    let mut taking = made("cpq", 3, 2.0, Some("data"));
    assert!(finish(&mut taking).len() < steps);
    assert_eq!(verdict(&taking), verdict(&alone));
    assert_eq!(taking.status().step, alone.status().step);
    let taken = taking.status().audit_models.unwrap();
    assert!(taken.file.starts_with("audit-") && taken.seconds.is_some(), "{taken:?}");

    // Other data, another seed, another precision: other files.
    finish(&mut made("bc", 3, 6.0, Some("other data")));
    finish(&mut made("bc", 4, 6.0, Some("data")));
    finish(&mut made_at("high", "bc", 3, 6.0, Some("data")));
    assert_eq!(files(), 4);

    let path = folder.join(&taken.file);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut damaged = made("cpq", 3, 2.0, Some("data"));
    let never = AtomicBool::new(false);
    let error = std::iter::repeat_with(|| damaged.run(1, &never)).find_map(Result::err).unwrap().to_string();
    assert!(error.contains("it is damaged") && error.contains("delete it, and it is made again"), "{error}");
}

/// For every algorithm, the same seed gives the same bits however steps are grouped, another seed gives others, and a
/// run resumed in any phase ends with the same file.
#[test]
fn runs_repeat_and_resume_bit_by_bit() {
    let folder = folder("resume");
    for entry in REGISTRY {
        let mut whole = Trainer::new(REGISTRY, columns(), &brief(entry.name, 0)).unwrap();
        let losses = finish(&mut whole);
        let expected = bytes(&mut whole, &folder);

        let mut grouped = Trainer::new(REGISTRY, columns(), &brief(entry.name, 0)).unwrap();
        let never = AtomicBool::new(false);
        while !grouped.run(4, &never).unwrap().done {}
        assert_eq!(bytes(&mut grouped, &folder), expected, "{}: grouping of steps", entry.name);

        let mut other = Trainer::new(REGISTRY, columns(), &brief(entry.name, 1)).unwrap();
        assert_ne!(finish(&mut other), losses, "{}: seeds", entry.name);

        for stop in [1, losses.len() / 3, losses.len() / 2, losses.len() - 1] {
            let mut first = Trainer::new(REGISTRY, columns(), &brief(entry.name, 0)).unwrap();
            for _ in 0..stop {
                first.run(1, &never).unwrap();
            }
            let path = folder.join("c.safetensors");
            first.save(&path).unwrap();
            drop(first);
            let mut second = Trainer::resume(REGISTRY, columns(), &path).unwrap();
            assert_eq!(finish(&mut second), losses[stop..], "{}: losses after step {stop}", entry.name);
            assert_eq!(bytes(&mut second, &folder), expected, "{}: resumed at step {stop}", entry.name);
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// What a run leaves: its metrics and certificate, its policies, and what it stores.
type Left = [Vec<Vec<u8>>; 3];

/// A run with networks so large that threads share their work.
fn shared_run(algorithm: &str, threads: usize, certificate: bool) -> Left {
    large_run(algorithm, &format!("threads-{threads}"), certificate, 128, &json!({ "threads": threads }))
}

/// A run with networks of that width and these parameters.
fn large_run(algorithm: &str, name: &str, certificate: bool, width: usize, run: &Value) -> Left {
    let json = large(algorithm, certificate, width, run);
    left(&mut Trainer::new(REGISTRY, columns(), &json).unwrap(), &format!("{algorithm}-{name}"))
}

/// What such a run is made from.
fn large(algorithm: &str, certificate: bool, width: usize, run: &Value) -> String {
    let mut json: Value = serde_json::from_str(&brief(algorithm, 0)).unwrap();
    // Sequences and plans are large as they are.
    let plain = !["cdt", "trebi"].contains(&algorithm);
    for (part, rows) in [("run", 256), ("config", if plain { 320 } else { 64 })] {
        for (name, value) in json[part].as_object_mut().unwrap() {
            match name.as_str() {
                _ if name.ends_with("_hidden") && (plain || part == "run") => {
                    *value = if value.is_array() { json!([width, width]) } else { json!(width) };
                }
                _ if name.ends_with("batch") || name.ends_with("batch_size") => *value = json!(rows),
                // The last of them unroll.
                "model_steps" => *value = json!(4),
                _ if name.ends_with("_steps") => *value = json!(2),
                _ => {}
            }
        }
    }
    let judged = ["audit_members", "fqe_steps", "self_test_steps"];
    judged.iter().filter(|_| !certificate).for_each(|key| json["run"][key] = json!(0));
    json["run"]["model_rollouts"] = json!(60);
    json["run"].as_object_mut().unwrap().extend(run.as_object().unwrap().clone());
    json.to_string()
}

/// Ends a run, with a folder of that name on the way.
fn left(trainer: &mut Trainer, name: &str) -> Left {
    let folder = folder(name);
    let mut told = finish(trainer);
    told.push(serde_json::to_string(trainer.certificate().unwrap()).unwrap());
    let written = trainer.write_policies(&folder, &Origin::default()).unwrap();
    let policies = written.iter().map(|one| std::fs::read(folder.join(&one.file)).unwrap()).collect();
    let state = bytes(trainer, &folder);
    std::fs::remove_dir_all(folder).unwrap();
    // The header of a checkpoint names the parameters.
    let header = 8 + u64::from_le_bytes(state[..8].try_into().unwrap()) as usize;
    [told.into_iter().map(String::into_bytes).collect(), policies, vec![state[header..].to_vec()]]
}

/// A run ends with the bits of one thread on any number of threads, also beside other runs.
#[test]
fn threads_change_no_bit() {
    for entry in REGISTRY {
        let whole = ["drcorl", "bc", "cpq"].contains(&entry.name);
        let numbers = if whole { &[2, 3, 8][..] } else { &[3] };
        let [one, several] = [&[1][..], numbers].map(|numbers| {
            std::thread::scope(|scope| {
                let run = |&threads| (threads, scope.spawn(move || shared_run(entry.name, threads, whole)));
                let runs: Vec<_> = numbers.iter().map(run).collect();
                runs.into_iter().map(|(threads, run)| (threads, run.join().unwrap())).collect::<Vec<_>>()
            })
        });
        for (threads, run) in several {
            for (what, (run, one)) in ["metrics", "policies", "state"].iter().zip(run.iter().zip(&one[0].1)) {
                assert!(run == one, "{}: {what} on {threads} threads", entry.name);
            }
        }
    }
}

/// The same precision gives the same bits on any number of threads, also beside runs of others. A lower one gives other
/// bits where something multiplies bf16.
#[test]
fn a_run_keeps_to_its_precision() {
    let run = |precision: &'static str, threads: usize| {
        move || {
            let name = format!("{precision}-{threads}");
            large_run("bc", &name, true, 256, &json!({ "threads": threads, "matmul_precision": precision }))
        }
    };
    let [highest, medium, high, other_high, other_medium] = std::thread::scope(|scope| {
        [run("highest", 1), run("medium", 1), run("high", 3), run("high", 1), run("medium", 3)]
            .map(|run| scope.spawn(run))
            .map(|run| run.join().unwrap())
    });
    assert!(medium == other_medium && high == other_high, "other bits at the same precision");
    let chosen = std::env::var_os("DRCORL_MATMUL").is_none();
    let unit = chosen && Kernel::Amx(Precision::Highest).available();
    let pairs = chosen && Kernel::Bf16.available();
    let states = [&highest, &high, &medium].map(|run| &run[2]);
    assert_eq!([states[1] != states[0], states[2] != states[0]], [unit, unit || pairs]);
    let told = |run: &Left| serde_json::from_slice::<Value>(run[0].last().unwrap()).unwrap();
    for (run, precision) in [(&highest, "highest"), (&high, "high"), (&medium, "medium")] {
        assert_eq!(told(run)["matmul_precision"], precision);
    }
    let mut old = told(&highest);
    old.as_object_mut().unwrap().remove("matmul_precision");
    let old: Certificate = serde_json::from_value(old).unwrap();
    assert_eq!(old.matmul_precision, MatmulPrecision::Highest);
}

/// Under two limits, of every algorithm that takes them, a run repeats and resumes bit by bit as under one.
#[test]
fn runs_under_several_limits_repeat_and_resume() {
    let folder = folder("several");
    let never = AtomicBool::new(false);
    let columns = || {
        let columns = support::columns();
        let wear = columns.actions.chunks(2).map(|action| action[0].abs()).collect();
        Arc::new(Columns { further: vec![("wear".into(), wear)], ..columns })
    };
    let mut taken = 0;
    for entry in REGISTRY.iter().filter(|entry| entry.several_costs(&Value::Null).unwrap()) {
        let mut config: Value = serde_json::from_str(&brief(entry.name, 0)).unwrap();
        config["run"]["limits"] = json!({ "costs": 6.0, "wear": 25.0 });
        if entry.name == "drcorl" {
            config["config"]["gate"] = json!("max");
        }
        let json = config.to_string();
        let mut whole = Trainer::new(REGISTRY, columns(), &json).unwrap();
        let losses = finish(&mut whole);
        let expected = bytes(&mut whole, &folder);
        assert_eq!(whole.certificate().unwrap().costs.len(), 2, "{}", entry.name);
        for stop in [1, losses.len() / 2, losses.len() - 1] {
            let mut first = Trainer::new(REGISTRY, columns(), &json).unwrap();
            (0..stop).for_each(|_| drop(first.run(1, &never).unwrap()));
            let path = folder.join("c.safetensors");
            first.save(&path).unwrap();
            let mut second = Trainer::resume(REGISTRY, columns(), &path).unwrap();
            assert_eq!(finish(&mut second), losses[stop..], "{}: losses after step {stop}", entry.name);
            assert_eq!(bytes(&mut second, &folder), expected, "{}: resumed at step {stop}", entry.name);
        }
        taken += 1;
    }
    assert!(taken >= 3, "{taken}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// For every algorithm, the policy file holds the policy that was judged: it is the same after a reload, and the actor,
/// which knows no tensor library, acts as the judged tensors do, alone and in a batch, and stays in the logged box.
#[test]
fn the_stored_policy_is_the_judged_one() {
    let folder = folder("policy");
    for entry in REGISTRY {
        let mut trainer = Trainer::new(REGISTRY, columns(), &brief(entry.name, 0)).unwrap();
        finish(&mut trainer);
        trainer.write_policies(&folder, &Origin::default()).unwrap();
        let first = std::fs::read(folder.join("policy.safetensors")).unwrap();
        let path = folder.join("c.safetensors");
        trainer.save(&path).unwrap();
        let mut resumed = Trainer::resume(REGISTRY, columns(), &path).unwrap();
        assert_eq!(resumed.certificate(), trainer.certificate());
        resumed.write_policies(&folder, &Origin::default()).unwrap();
        assert_eq!(first, std::fs::read(folder.join("policy.safetensors")).unwrap(), "{}", entry.name);
        stored_equals_judged(&first, &resumed, entry.name);
        let actor = drcorl_actor::Actor::from_bytes(&first).unwrap();
        assert_eq!(actor.settings().contains_key("cost_limit"), entry.takes_limit, "{}: takes_limit", entry.name);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Values of every parameter that is a choice: `(name, value)`.
fn choices(algorithm: &str) -> Vec<(String, Value)> {
    let schema = describe()["algorithms"][algorithm]["schema"].clone();
    let mut found = Vec::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        let Some(reference) = property["$ref"].as_str() else { continue };
        let definition = &schema["$defs"][reference.trim_start_matches("#/$defs/")];
        for choice in definition["oneOf"].as_array().into_iter().flatten() {
            found.push((name.clone(), choice["const"].clone()));
        }
    }
    found
}

/// Every value of every choice trains to the end with finite losses, and what ships is what was judged;
/// or it is refused by name.
#[test]
fn every_choice_trains_and_ships() {
    let folder = folder("choices");
    for entry in REGISTRY {
        for (name, value) in choices(entry.name) {
            let mut config: Value = serde_json::from_str(&brief(entry.name, 0)).unwrap();
            for (key, steps) in config["config"].as_object_mut().unwrap() {
                if key.ends_with("_steps") {
                    *steps = json!(2);
                }
            }
            config["config"][name.as_str()] = value.clone();
            // The certificate is nothing of a choice, and takes most of the time of such a run.
            for key in ["audit_members", "fqe_steps", "self_test_steps"] {
                config["run"][key] = json!(0);
            }
            let mut trainer = match Trainer::new(REGISTRY, columns(), &config.to_string()) {
                Ok(trainer) => trainer,
                Err(error) => {
                    assert!(error.code() == "Config" && error.to_string().contains(&name), "{error}");
                    continue;
                }
            };
            finish(&mut trainer);
            trainer.write_policies(&folder, &Origin::default()).unwrap();
            let file = std::fs::read(folder.join("policy.safetensors")).unwrap();
            stored_equals_judged(&file, &trainer, &format!("{} with {name} {value}", entry.name));
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn stored_equals_judged(file: &[u8], trainer: &Trainer, name: &str) {
    let actor = drcorl_actor::Actor::from_bytes(file).unwrap();
    let observations = columns().observations.clone();
    let mut actions = vec![0f32; observations.len() / 3 * 2];
    actor.play().act(drcorl_actor::Turn::first(&observations), &mut actions).unwrap();
    let mut alone = vec![0f32; 2];
    for (observation, action) in observations.chunks(3).zip(actions.chunks(2)) {
        actor.play().act(drcorl_actor::Turn::first(observation), &mut alone).unwrap();
        assert_eq!(action, alone, "{name}");
    }
    let _no_grad = tch::no_grad_guard();
    let dataset = trainer.data();
    let rows = tch::Tensor::arange(dataset.len(), (tch::Kind::Int64, tch::Device::Cpu));
    let policy = &trainer.policies().unwrap()[0].policy;
    let observation = dataset.gather(&rows).observation();
    let numbers = |tensor: &tch::Tensor| Vec::<f32>::try_from(tensor.contiguous().view([-1])).unwrap();
    let judged = numbers(&policy.act(&observation));
    let candidates = policy.candidates(&observation).map(|of| {
        let drawn = of.scores.size()[1] as usize;
        (numbers(&of.actions), numbers(&of.scores), drawn)
    });
    let (low, high) = (&dataset.normalizer.action_low, &dataset.normalizer.action_high);
    let within = |action: &[f32], unit: &[f32], most: f32| {
        let raw = |(i, unit): (usize, &f32)| low[i] + (unit + 1.0) / 2.0 * (high[i] - low[i]);
        unit.iter().enumerate().map(raw).zip(action).all(|(raw, action)| (action - raw).abs() < most)
    };
    for (row, (action, unit)) in actions.chunks(2).zip(judged.chunks(2)).enumerate() {
        let inside =
            action.iter().zip(low.iter().zip(high)).all(|(action, (low, high))| (low..=high).contains(&action));
        assert!(inside, "{name}: {action:?}");
        if within(action, unit, 1e-5) {
            continue;
        }
        // Of candidates, one of the best score but for its last digits. Their own last digits have gone through all
        // levels of a diffusion, which make 1.3e-5 of them.
        let (drawn, scores, count) = candidates.as_ref().unwrap_or_else(|| panic!("{name}: {action:?} {unit:?}"));
        let scores = &scores[row * count..][..*count];
        let highest = |scores: &mut dyn Iterator<Item = f32>| scores.fold(f32::NEG_INFINITY, f32::max);
        let best = highest(&mut scores.iter().copied());
        let units = drawn[row * count * 2..][..count * 2].chunks(2).zip(scores);
        let taken = highest(&mut units.filter(|(unit, _)| within(action, unit, 1e-4)).map(|(_, &score)| score));
        let text = format!("{name}: {action:?} of score {taken} is taken, the best is {unit:?} of {best}");
        assert!(best - taken <= 1e-5 * best.abs().max(1.0), "{text}");
    }
}

#[test]
fn cancelling_stops_before_the_next_step() {
    let mut trainer = Trainer::new(REGISTRY, columns(), &brief("bc", 0)).unwrap();
    let report = trainer.run(100, &AtomicBool::new(true)).unwrap();
    assert_eq!((report.cancelled, report.step), (true, 0));
}

/// A cancellation that arrives inside a step, during a rollout, gives the step up;
/// made again, it ends with the same bits.
#[test]
fn cancelling_inside_a_step_changes_nothing() {
    let folder = folder("inside");
    let mut config: Value = serde_json::from_str(&brief("drcorl", 0)).unwrap();
    config["config"]["gate"] = json!("model_rollout");
    // Thresholds no model can miss, so that the gate does roll out.
    config["config"]["model_gate_correlation"] = json!(-1.0);
    for (key, value) in [("holdout_fraction", 0.5), ("valid_return_correlation", -1.0), ("valid_return_bias", 1e9)] {
        config["run"][key] = json!(value);
    }
    config["run"]["valid_cost_shortfall"] = json!(1e9);
    let config = config.to_string();
    let mut whole = Trainer::new(REGISTRY, columns(), &config).unwrap();
    finish(&mut whole);
    let expected = bytes(&mut whole, &folder);
    let mut trainer = Trainer::new(REGISTRY, columns(), &config).unwrap();
    let (now, never) = (AtomicBool::new(true), AtomicBool::new(false));
    let mut given_up = 0;
    while !trainer.status().done {
        let _no_grad = tch::no_grad_guard();
        if let Err(error) = trainer.advance(&now) {
            assert_eq!(error.code(), "Cancelled");
            given_up += 1;
            trainer.run(1, &never).unwrap();
        }
    }
    // The tests of both ensembles on held-out episodes, the gate, and the certificate.
    assert!(given_up >= 4, "{given_up}");
    assert_eq!(bytes(&mut trainer, &folder), expected);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn divergence_names_loss_and_step_and_leaves_the_checkpoint() {
    let folder = folder("diverged");
    let mut config: Value = serde_json::from_str(&brief("drcorl", 0)).unwrap();
    config["config"]["critic_lr"] = json!(1e6);
    config["config"]["critic_steps"] = json!(50);
    let mut trainer = Trainer::new(REGISTRY, columns(), &config.to_string()).unwrap();
    let path = folder.join("c.safetensors");
    trainer.save(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let never = AtomicBool::new(false);
    let error = (0..100).find_map(|_| trainer.run(50, &never).err()).unwrap();
    assert_eq!(error.code(), "Diverged");
    assert!(error.to_string().contains("critic_loss") && error.to_string().contains("at step "), "{error}");
    assert_eq!(before, std::fs::read(&path).unwrap());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn unknown_and_impossible_parameters_are_refused_by_name() {
    let refuse = |json: Value, word: &str| {
        let error = Trainer::new(REGISTRY, columns(), &json.to_string()).err().unwrap();
        assert_eq!(error.code(), "Config", "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    refuse(json!({ "algorithm": "ppo" }), "ppo");
    refuse(json!({ "algorithm": "bc", "config": { "learning_rate": 1 } }), "learning_rate is not a parameter of bc");
    refuse(json!({ "algorithm": "bc", "run": { "sed": 1 } }), "sed is not a parameter of a run; did you mean seed?");
    refuse(json!({ "algorithm": "bc", "extra": 1 }), "extra");
    refuse(json!({ "algorithm": "bc", "config": { "actor_lr": 0.0 } }), "actor_lr is 0; give a number above 0");
    refuse(
        json!({ "algorithm": "drcorl", "config": { "gamma": 1.0 } }),
        "gamma is 1; give a number above 0 and below 1",
    );
    refuse(json!({ "algorithm": "drcorl", "config": { "gate_k": -2.0 } }), "gate_k is -2; give a number from 0 to 100");
    refuse(json!({ "algorithm": "bc_safe", "run": { "cost_limit": 0.5 } }), "cheapest");
}

/// Sizes within their bounds that together no machine holds;
/// refused before anything is allocated, so that the process goes on.
#[test]
fn impossible_sizes_are_refused_by_name() {
    for (algorithm, run, config, named) in [
        ("bc", json!({}), json!({ "batch_size": 1e12 }), "batch_size is 1000000000000; give"),
        ("bc", json!({ "model_rollouts": 1e12 }), json!({}), "model_rollouts is 1000000000000; give"),
        ("bc", json!({}), json!({ "actor_hidden": [65536, 65536] }), "actor_hidden is [65536,65536]; give"),
        (
            "bcq_lag",
            json!({}),
            json!({ "batch_size": 1_000_000, "candidates": 1000 }),
            "batch_size is 1000000, candidates is 1000, critics is 2, critic_hidden is [256,256]: the run needs",
        ),
        (
            "bc",
            json!({ "model_rollouts": 100_000, "model_hidden": [8192, 8192, 8192, 8192], "audit_members": 16 }),
            json!({}),
            "model_rollouts is 100000, audit_members is 16, model_hidden is",
        ),
    ] {
        let json = json!({ "algorithm": algorithm, "run": run, "config": config });
        let error = Trainer::new(REGISTRY, columns(), &json.to_string()).err().unwrap();
        assert_eq!(error.code(), "Config", "{error}");
        assert!(error.to_string().starts_with(named), "{error}");
    }
}

/// An estimate that refuses what people run would be worse than none.
#[test]
fn every_preset_fits_a_small_machine() {
    let shape = memory::Shape { rows: 1_000_000, observations: 76, actions: 8 };
    for (name, described) in describe()["algorithms"].as_object().unwrap() {
        let entry = find(REGISTRY, name).unwrap();
        for (preset, values) in described["presets"].as_object().unwrap() {
            let run = read("a run", RunConfig::default(), &values["run"]).unwrap();
            let config = entry.resolve(&values["config"], &run).unwrap();
            let needs = memory::needs(&serde_json::to_value(&run).unwrap(), &config, shape);
            let total: f64 = needs.iter().map(|need| need.bytes).sum();
            assert!((1e9..4e9).contains(&total), "{name} {preset}: {total:.2e} bytes, {needs:?}");
        }
    }
}

#[test]
fn resuming_on_other_data_is_refused() {
    let folder = folder("other");
    let path = folder.join("c.safetensors");
    let mut trainer = Trainer::new(REGISTRY, columns(), &brief("bc", 0)).unwrap();
    trainer.save(&path).unwrap();
    let mut other = (*columns()).clone();
    other.observations[0] += 1.0;
    let error = Trainer::resume(REGISTRY, Arc::new(other), &path).err().unwrap();
    assert_eq!(error.code(), "Data");
    assert!(error.to_string().contains("not the dataset"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// Every metric is declared once, with a name for a column and a sentence for a reader. That steps report no other, in
/// this order, is an error of the trainer, which every run of these tests would meet.
#[test]
fn every_metric_says_what_it_is() {
    for entry in REGISTRY {
        let declared: Vec<_> = drcorl_core::metrics::declared(entry.metrics).collect();
        for (index, metric) in declared.iter().enumerate() {
            let column = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(metric.name.chars().all(column), "{}: {}", entry.name, metric.name);
            assert!(!metric.unit.is_empty() && metric.meaning.ends_with('.'), "{}: {}", entry.name, metric.name);
            assert!(declared[..index].iter().all(|other| other.name != metric.name), "{}: {}", entry.name, metric.name);
        }
    }
}
