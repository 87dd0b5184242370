//! Limits on several costs at once: who keeps them, what refuses them, which cost a step follows.

use super::*;

/// The toy problem with a further cost: half of 1 + a, so that a limit of 4 on it asks for a mean action of -0.2, and
/// that of the first cost for 0.2.
fn with_speed(episodes: usize) -> Arc<Columns> {
    let columns = Arc::unwrap_or_clone(logged(episodes));
    let speed = columns.actions.iter().map(|action| 0.5 * (1.0 + action)).collect();
    Arc::new(Columns { further: vec![("speed".into(), speed)], ..columns })
}

fn limited(limits: Value, change: Value) -> Result<Trainer> {
    let run = json!({ "limits": limits, "device": "cpu", "model_members": 1, "audit_members": 0, "model_steps": 5, "fqe_steps": 0, "self_test_steps": 0, "model_rollouts": 4 });
    let all = json!({ "algorithm": "drcorl", "run": run, "config": small(change) });
    Trainer::new(crate::REGISTRY, with_speed(300), &all.to_string())
}

/// The tighter of two limits decides, whichever it is.
#[test]
fn several_limits_are_kept_together() {
    let by_critics = || json!({ "gate": "critic_ucb" });
    let learn = |costs: f64, speed: f64| {
        let limits = json!({ "costs": costs, "speed": speed });
        outcome(&mut limited(limits, by_critics()).unwrap())
    };
    let (loose, cost, certificate) = learn(2.0, 100.0);
    assert!(cost <= 2.0 && loose > 10.0, "return {loose}, cost {cost}");
    let branches = &certificate["branches"];
    assert!(branches["band"].as_u64().unwrap() > 0, "{branches}");
    let (slow, ..) = learn(2.0, 4.0);
    assert!(slow / 2.0 <= 4.0 && slow > 5.0, "speed {}", slow / 2.0);
    let (other, cost, _) = learn(2.0, 6.5);
    assert!(cost <= 2.0 && other > slow, "return {other}, cost {cost}");
    assert_eq!(learn(2.0, 4.0).0, slow, "a run repeats");
}

/// With the models' gate, the estimates of all costs come from one play.
#[test]
fn models_steer_by_every_cost() {
    let run = json!({ "limits": { "costs": 2.0, "speed": 4.0 }, "device": "cpu", "model_steps": 800, "model_hidden": [48, 48], "model_batch": 128, "fqe_steps": 50, "self_test_steps": 50, "model_rollouts": 64 });
    let all = json!({ "algorithm": "drcorl", "run": run, "config": small(json!({})) });
    let mut trainer = Trainer::new(crate::REGISTRY, with_speed(300), &all.to_string()).unwrap();
    let (ret, _, certificate) = outcome(&mut trainer);
    assert!(ret / 2.0 <= 4.0, "speed {}", ret / 2.0);
    assert_eq!(certificate["gate"]["used"], "model_rollout", "{}", certificate["gate"]);
    let speed = &certificate["costs"][1];
    let read = speed["estimates"]["model_rollout"]["cost"]["mean"].as_f64().unwrap();
    assert!((read - ret / 2.0).abs() < 0.7, "{read} {ret}");
    assert!(speed["estimates"]["fqe"].is_object() && speed["estimates"]["critic_ucb"].is_object());
}

#[test]
fn what_speaks_of_one_cost_refuses_several() {
    let limits = || json!({ "costs": 2.0, "speed": 4.0 });
    for change in [json!({ "cost_step": "lagrangian_fixed" }), json!({ "manipulation_space": "update" })] {
        let error = limited(limits(), change).err().unwrap().to_string();
        assert!(error.contains("drcorl learns under one limit"), "{error}");
    }
    let given = |algorithm: &str, run: Value| {
        let all = json!({ "algorithm": algorithm, "run": run });
        Trainer::new(crate::REGISTRY, with_speed(20), &all.to_string()).err().unwrap().to_string()
    };
    let error = given("bear_lag", json!({ "limits": limits() }));
    assert!(error.contains("limits is {\"costs\":2") && error.contains("bear_lag learns under one limit"), "{error}");
    assert!(error.contains("choose drcorl"), "{error}");
    let error = given("drcorl", json!({ "limits": { "costs": 2.0, "wear": 4.0 } }));
    assert!(
        error.contains("limits bounds costs, wear, but the dataset was loaded with the costs costs, speed"),
        "{error}"
    );
}

/// The worst branch of any cost is the step's, for all costs that have it, the worst first.
#[test]
fn the_worst_cost_chooses_the_branch() {
    let config: DrcorlConfig =
        serde_json::from_value(small(json!({ "slack_above": 0.2, "slack_below": 0.2, "slack_schedule": "constant" })))
            .unwrap();
    let facts = Facts { costs: vec![crate::drcorl::facts::CostFacts::default(); 3], ..Facts::default() };
    let drcorl = Drcorl::new(config, (2, 1), facts, Device::Cpu, &mut Rng::new(0, 0));
    let follow = |costs: [f64; 3]| {
        let Followed { branch, costs, over } = drcorl.followed(0, &costs);
        (branch, costs, over)
    };
    assert_eq!(follow([0.1, 0.2, 0.3]), (Branch::Reward, vec![2, 1, 0], None));
    assert_eq!(follow([0.9, 0.2, 1.1]), (Branch::Band, vec![2, 0], Some(2)));
    assert_eq!(follow([0.9, 0.2, 0.95]), (Branch::Band, vec![2, 0], None));
    assert_eq!(follow([1.3, 1.1, 2.0]), (Branch::Cost, vec![2, 0], Some(2)));
}

/// B.3 under several limits: a visit measures every cost, and one above its limit opens the cost branch,
/// whichever it is.
#[test]
fn visits_measure_every_cost() {
    let branches = |costs: f64, speed: f64| {
        let run = json!({ "limits": { "costs": 2.0, "speed": 4.0 }, "device": "cpu", "mode": "hybrid-eval", "model_members": 1, "audit_members": 0, "model_steps": 5, "fqe_steps": 0, "self_test_steps": 0, "model_rollouts": 4 });
        let change = json!({ "gate": "critic_ucb", "adaptation_steps": 40 });
        let all = json!({ "algorithm": "drcorl", "run": run, "config": small(change) });
        let mut trainer = Trainer::new(crate::REGISTRY, with_speed(50), &all.to_string()).unwrap();
        let played = Played {
            cost: costs,
            costs: [("costs".into(), costs), ("speed".into(), speed)].into(),
            length: 20,
            ..Played::default()
        };
        let never = AtomicBool::new(false);
        loop {
            let report = trainer.run(100, &never).unwrap();
            if report.visit.is_some() {
                let missing = trainer.visited(&[Played { cost: costs, ..Played::default() }], None).unwrap_err();
                assert!(missing.to_string().contains("no finite cost called costs"), "{missing}");
                trainer.visited(std::slice::from_ref(&played), None).unwrap();
            } else if report.done {
                break;
            }
        }
        let certificate = trainer.certificate().unwrap();
        assert_eq!((certificate.visits[0].cost_of(Some("speed")), certificate.environment_steps), (speed, 20));
        let of = |branch: &str| certificate.diagnostics["branches"][branch].as_u64().unwrap();
        [of("reward"), of("band"), of("cost")]
    };
    assert_eq!(branches(0.0, 0.0), [40, 0, 0]);
    assert_eq!(branches(0.0, 50.0), [0, 0, 40]);
    assert_eq!(branches(50.0, 0.0), [0, 0, 40]);
}
