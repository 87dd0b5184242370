//! Hybrid modes: visits at their steps, what is learnt from them, and refusals.

use super::{brief, bytes, columns, finish, folder, support};
use drcorl_algos::REGISTRY;
use drcorl_core::algorithm::Metrics;
use drcorl_core::hybrid::Played;
use drcorl_core::Trainer;
use serde_json::{json, Value};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A configuration of DRCORL that visits the environment before steps 0, 2 and 4 of its last phase.
fn hybrid(mode: &str) -> String {
    let mut config: Value = serde_json::from_str(&brief("drcorl", 0)).unwrap();
    for (key, value) in [("mode", json!(mode)), ("hybrid_interval", json!(2)), ("hybrid_share", json!(0.5))] {
        config["run"][key] = value;
    }
    config.to_string()
}

/// Runs to the end and answers every visit with one episode of the given cost;
/// returns the metrics of each call and the visits.
fn finish_with_visits(trainer: &mut Trainer, cost: f64) -> (Vec<Metrics>, u64) {
    let (never, mut calls, mut visits) = (AtomicBool::new(false), Vec::new(), 0);
    loop {
        let report = trainer.run(1, &never).unwrap();
        if let Some(visit) = report.visit.filter(|_| report.metrics.is_empty()) {
            let fresh = visit.transitions.then(columns);
            trainer.visited(&[Played { ret: 1.0, cost, length: 400, ..Played::default() }], fresh.as_deref()).unwrap();
            visits += 1;
            continue;
        }
        calls.push(report.metrics);
        if report.done {
            return (calls, visits);
        }
    }
}

/// B.3: visits are asked for at their steps and nowhere else; what they find reaches gate, metrics and certificate.
#[test]
fn hybrid_runs_stop_for_their_visits_and_resume_exactly() {
    let folder = folder("hybrid");
    for mode in ["hybrid-eval", "hybrid-data"] {
        let mut whole = Trainer::new(REGISTRY, columns(), &hybrid(mode)).unwrap();
        let (calls, visits) = finish_with_visits(&mut whole, 50.0);
        assert_eq!(visits, 3, "{mode}");
        let certificate = whole.certificate().unwrap();
        assert_eq!((certificate.environment_steps, certificate.visits[2].step), (1200, 4));
        let measured = calls.iter().filter(|metrics| metrics.contains(&("cost_measured", 50.0)));
        assert_eq!(measured.count(), 6, "{mode}");
        let branches = &certificate.diagnostics["branches"];
        if mode == "hybrid-eval" {
            assert_eq!(branches["cost"], 6, "a measured cost far above the limit opens the cost branch only");
        }
        let expected = bytes(&mut whole, &folder);

        // Interrupted where a visit is due, and between two.
        for stop in [calls.len() - 12, calls.len() - 9] {
            let mut first = Trainer::new(REGISTRY, columns(), &hybrid(mode)).unwrap();
            let never = AtomicBool::new(false);
            let mut done = 0;
            while done < stop {
                let report = first.run(1, &never).unwrap();
                if let Some(visit) = report.visit.filter(|_| report.metrics.is_empty()) {
                    let fresh = visit.transitions.then(columns);
                    first
                        .visited(&[Played { ret: 1.0, cost: 50.0, length: 400, ..Played::default() }], fresh.as_deref())
                        .unwrap();
                } else {
                    done += 1;
                }
            }
            let path = folder.join("c.safetensors");
            first.save(&path).unwrap();
            let mut second = Trainer::resume(REGISTRY, columns(), &path).unwrap();
            finish_with_visits(&mut second, 50.0);
            assert_eq!(bytes(&mut second, &folder), expected, "{mode}: resumed after call {stop}");
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// B.3: what is collected teaches the policy too, where no critic learns from it; and where the environment only
/// measures, costs alone are read.
#[test]
fn visits_teach_the_policy_or_measure_its_cost_alone() {
    let weights = |mode: &str, played: &Played, shift: f32| {
        let mut config: Value = serde_json::from_str(&hybrid(mode)).unwrap();
        for name in ["cost_updates_per_step", "reward_updates_per_step"] {
            config["config"][name] = json!(0);
        }
        let mut trainer = Trainer::new(REGISTRY, columns(), &config.to_string()).unwrap();
        let never = AtomicBool::new(false);
        loop {
            let report = trainer.run(1, &never).unwrap();
            if let Some(visit) = report.visit.filter(|_| report.metrics.is_empty()) {
                let mut met = support::columns();
                met.observations.iter_mut().for_each(|x| *x += shift);
                trainer.visited(std::slice::from_ref(played), visit.transitions.then_some(&met)).unwrap();
            } else if report.done {
                break;
            }
        }
        let _no_grad = tch::no_grad_guard();
        let rows = tch::Tensor::arange(8, (tch::Kind::Int64, tch::Device::Cpu));
        trainer.policies().unwrap()[0].policy.act(&trainer.data().gather(&rows).observation())
    };
    let played = Played { ret: 1.0, cost: 50.0, length: 400, ..Played::default() };
    let offline_gate = weights("hybrid-data", &played, 0.0);
    assert_ne!(offline_gate, weights("hybrid-data", &played, 0.5));
    let measured = weights("hybrid-eval", &played, 0.0);
    assert_eq!(measured, weights("hybrid-eval", &Played { ret: -1e9, ..played.clone() }, 0.5));
    assert_ne!(measured, weights("hybrid-eval", &Played { cost: 0.0, ..played }, 0.0));
}

#[test]
fn visits_are_refused_where_none_is_due_and_modes_where_none_can_be() {
    let mut trainer = Trainer::new(REGISTRY, columns(), &brief("drcorl", 0)).unwrap();
    let error = trainer.visited(&[Played { length: 1, ..Played::default() }], None).unwrap_err();
    assert_eq!(error.code(), "Config");
    assert_eq!(trainer.write_visitor(Path::new("/nowhere")).unwrap_err().code(), "Config");
    finish(&mut trainer);
    assert_eq!(trainer.certificate().unwrap().environment_steps, 0);

    let config = r#"{"algorithm":"bc","run":{"mode":"hybrid-eval"}}"#;
    let error = Trainer::new(REGISTRY, columns(), config).err().unwrap();
    assert!(error.code() == "Config" && error.to_string().contains("bc has no use for an environment"), "{error}");
}
