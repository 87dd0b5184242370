//! `reward_critic: both`: two courses of adaptation from the same beginning, of which the models choose.

use super::*;

fn brief(change: Value) -> Value {
    let mut config = small(json!({
        "reward_critic": "both", "reward_updates_per_step": 1, "adaptation_steps": 40, "candidate_interval": 10, "mixture_iterates": 0,
        "behavior_steps": 50, "warmup_steps": 50, "critic_steps": 20, "critic_init_steps": 20, "model_gate_correlation": -1.0
    }));
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    config
}

/// Everything in the checkpoint whose name begins so, at the end of that phase.
fn adapted(config: Value, phase: &str) -> Vec<(String, Vec<u8>)> {
    let mut run = trainer("drcorl", 2.0, config);
    let never = AtomicBool::new(false);
    while run.status().phase != phase {
        run.run(1000, &never).unwrap();
    }
    while run.status().phase == phase {
        run.run(1, &never).unwrap();
    }
    let path = std::env::temp_dir().join(format!(
        "drcorl-courses-{}-{:?}.safetensors",
        std::process::id(),
        std::thread::current().id()
    ));
    run.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let learnt = ["algorithm.policy.", "algorithm.reward.", "algorithm.cost."];
    let mut found: Vec<(String, Vec<u8>)> = stored
        .tensors()
        .into_iter()
        .filter(|(name, _)| learnt.iter().any(|prefix| name.starts_with(prefix)))
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect();
    found.sort();
    assert!(found.len() > 10, "{}", found.len());
    found
}

/// In every bit the first course is the run whose reward critic rests, and the second that of `td`.
#[test]
fn courses_are_the_runs_that_would_have_had_no_other() {
    let rests = json!({ "reward_critic": "iql", "reward_updates_per_step": 0 });
    assert!(adapted(brief(json!({})), "adaptation") == adapted(brief(rests), "adaptation"));
    let follows = adapted(brief(json!({ "reward_critic": "td" })), "adaptation");
    assert!(adapted(brief(json!({})), "following") == follows);
}

/// Stopped anywhere, the first course included, a run goes on to the same bits; and what ships says its course.
#[test]
fn a_run_that_was_stopped_between_courses_goes_on() {
    let never = AtomicBool::new(false);
    let path = std::env::temp_dir().join(format!("drcorl-stopped-{}.safetensors", std::process::id()));
    let finished = |run: &mut Trainer| {
        while !run.run(1000, &never).unwrap().done {}
        run.save(&path).unwrap();
        (std::fs::read(&path).unwrap(), serde_json::to_value(run.certificate()).unwrap())
    };
    let (expected, certificate) = finished(&mut trainer("drcorl", 2.0, brief(json!({}))));
    let course = certificate["selected"]["course"].as_str().unwrap();
    assert!(["adaptation", "following"].contains(&course), "{certificate}");
    for (phase, step) in [("adaptation", 7), ("following", 0), ("following", 7)] {
        let mut run = trainer("drcorl", 2.0, brief(json!({})));
        while run.status().phase != phase || run.status().phase_step < step {
            run.run(if run.status().phase == phase { 1 } else { 1000 }, &never).unwrap();
        }
        run.save(&path).unwrap();
        let mut resumed = Trainer::resume(crate::REGISTRY, logged(300), &path).unwrap();
        assert!(finished(&mut resumed).0 == expected, "{phase} {step}");
    }
    std::fs::remove_file(path).unwrap();
}

/// Where no models could choose, the first course is left out, and its steps count as made.
#[test]
fn where_nothing_chooses_there_is_the_second_alone() {
    let mut run = trainer("drcorl", 2.0, brief(json!({ "model_gate_correlation": 1.0 })));
    let never = AtomicBool::new(false);
    let mut seen = Vec::new();
    loop {
        let report = run.run(1, &never).unwrap();
        if !report.metrics.is_empty() {
            seen.push(report.phase);
        }
        if report.done {
            assert_eq!(report.step, report.steps);
            let out: Vec<&str> = report.phases.iter().filter(|phase| phase.left_out).map(|phase| phase.name).collect();
            assert_eq!(out, ["adaptation"]);
            break;
        }
    }
    assert!(!seen.contains(&"adaptation") && seen.contains(&"following"), "{seen:?}");
    let certificate = serde_json::to_value(run.certificate()).unwrap();
    let counted = |name: &str| certificate["branches"][name].as_u64().unwrap();
    assert_eq!(counted("reward") + counted("band") + counted("cost"), 40);
}

/// The environment is met in the second course, and the first is left out.
#[test]
fn where_the_environment_is_met_there_is_the_second_alone() {
    let run = json!({ "cost_limit": 2.0, "device": "cpu", "mode": "hybrid-eval", "hybrid_interval": 40, "model_members": 1, "audit_members": 0, "model_steps": 5, "fqe_steps": 0, "self_test_steps": 0, "model_rollouts": 4 });
    let all = json!({ "algorithm": "drcorl", "run": run, "config": brief(json!({})) });
    let mut run = Trainer::new(crate::REGISTRY, logged(50), &all.to_string()).unwrap();
    let never = AtomicBool::new(false);
    let mut met = 0;
    loop {
        let report = run.run(1000, &never).unwrap();
        if report.visit.is_some() {
            met += 1;
            run.visited(&[Played { cost: 1.0, length: 10, ..Played::default() }], None).unwrap();
        } else if report.done {
            assert!(report.phases.iter().any(|phase| phase.left_out && phase.name == "adaptation"));
            break;
        }
    }
    assert_eq!(met, 1);
}
