//! A profile of a run: it changes nothing, and it adds up.

use super::{columns, large, left};
use drcorl_algos::REGISTRY;
use drcorl_core::profile::{PhaseProfile, TrainerProfile};
use drcorl_core::Trainer;
use drcorl_nn::profile::Part;
use serde_json::json;

fn trainer(algorithm: &str, threads: usize) -> Trainer {
    let json = large(algorithm, true, 128, &json!({ "threads": threads }));
    Trainer::new(REGISTRY, columns(), &json).unwrap()
}

/// Parts are within what holds them, in seconds and products.
fn require_sums(name: &str, seconds: f64, gflop: f64, parts: &[Part]) {
    let gflop_of = |part: &Part| part.products.iter().map(|one| one.gflop).sum::<f64>();
    let inside: f64 = parts.iter().map(|part| part.seconds).sum();
    assert!(inside <= seconds, "{name}: {inside} s in parts of {seconds} s");
    assert!(parts.iter().map(gflop_of).sum::<f64>() <= gflop * (1.0 + 1e-9), "{name}");
    parts.iter().for_each(|part| require_sums(part.name, part.seconds, gflop_of(part), &part.parts));
}

fn names(phase: &PhaseProfile) -> Vec<&'static str> {
    phase.parts.iter().map(|part| part.name).collect()
}

/// With a profile a run leaves the bits that it leaves without one, and says the same of its products on any number of
/// threads.
#[test]
fn a_profile_changes_no_bit_and_adds_up() {
    for algorithm in ["drcorl", "bc", "cdt"] {
        let without = left(&mut trainer(algorithm, 1), &format!("{algorithm}-without-profile"));
        let counted = [1, 3].map(|threads| {
            let mut watched = trainer(algorithm, threads);
            watched.start_profile().unwrap();
            let run = left(&mut watched, &format!("{algorithm}-profile-{threads}"));
            assert!(run == without, "{algorithm} on {threads} threads");
            let profile = watched.profile().unwrap().unwrap();
            require_whole(&profile, &watched);
            profile.kernels.iter().map(|kernel| (kernel.products.kernel, kernel.products.gflop)).collect::<Vec<_>>()
        });
        for (one, several) in counted[0].iter().zip(&counted[1]) {
            assert!(one.0 == several.0 && (one.1 - several.1).abs() < 1e-9 * one.1, "{algorithm}: {counted:?}");
        }
    }
}

fn require_whole(profile: &TrainerProfile, trainer: &Trainer) {
    let status = trainer.status();
    let made: u64 = status.phases.iter().filter(|phase| !phase.left_out).map(|phase| phase.steps).sum();
    assert_eq!(profile.phases.iter().map(|phase| phase.steps).sum::<u64>(), made);
    for phase in &profile.phases {
        let gflop = phase.products.iter().map(|one| one.gflop).sum();
        require_sums(phase.name, phase.seconds, gflop, &phase.parts);
    }
    let of = |name: &str| profile.phases.iter().find(|phase| phase.name == name).unwrap();
    assert_eq!(names(of("audit"))[..1], ["training"]);
    assert!(names(of("certificate")).contains(&"rollouts"));
    let sum: f64 = profile.phases.iter().flat_map(|phase| &phase.products).map(|one| one.gflop).sum();
    let kernels: f64 = profile.kernels.iter().map(|kernel| kernel.products.gflop).sum();
    assert!(sum > 0.0 && (sum - kernels).abs() < 1e-9 * sum, "{sum} {kernels}");
    assert!(profile.peak.gflop_per_s > 0.0 && profile.kernels.iter().all(|kernel| kernel.share_of_peak > 0.0));
}

/// Where nobody asked there is none, and one that begins late tells what came then.
#[test]
fn a_profile_begins_when_it_is_asked_for() {
    let mut run = trainer("bc", 1);
    assert!(run.profile().unwrap().is_none());
    let never = std::sync::atomic::AtomicBool::new(false);
    run.run(1, &never).unwrap();
    run.start_profile().unwrap();
    run.run(1, &never).unwrap();
    let profile = run.profile().unwrap().unwrap();
    assert_eq!(profile.phases.iter().map(|phase| phase.steps).collect::<Vec<_>>(), [1]);
}
