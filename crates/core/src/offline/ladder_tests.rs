//! What a stretch is refused for, each fault alone, and the horizon of a ladder.

use super::*;

/// Six episodes without fault: two without cost, three around a limit of 10, one far above.
fn logged() -> Replay {
    Replay {
        returns: vec![100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0],
        costs: vec![0.0, 0.0, 6.0, 8.0, 10.0, 12.0, 14.0, 50.0],
        lengths: vec![100.0; 8],
    }
}

fn run() -> RunConfig {
    RunConfig { cost_limit: 10.0, valid_cost_shortfall: 0.1, ..RunConfig::default() }
}

/// Faults of predictions that differ from the log by one change.
fn faults_of(change: impl FnOnce(&mut Replay)) -> Vec<String> {
    let mut predicted = logged();
    change(&mut predicted);
    rung(20, &predicted, &logged(), &run()).reasons
}

#[test]
fn each_fault_of_a_stretch_is_named_alone() {
    let only = |words: &str, change: &dyn Fn(&mut Replay)| {
        let found = faults_of(change);
        assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
    };
    assert_eq!(faults_of(|_| {}), Vec::<String>::new());
    only("costs are 20 % too low", &|p| p.costs.iter_mut().for_each(|c| *c *= if *c > 20.0 { 0.6 } else { 1.0 }));
    only("costs are 30 % too high", &|p| p.costs.iter_mut().for_each(|c| *c *= 1.3));
    only("returns correlate -1.00", &|p| p.returns.reverse());
    only("returns are off by 30 %", &|p| p.returns.iter_mut().for_each(|r| *r *= 1.3));
    only("predicted ends make episodes 20 % too short", &|p| p.lengths.fill(80.0));
    only("episodes without cost are read at 25 % of the limit", &|p| p.costs[..2].fill(2.5));
}

/// Models that say nothing about cost used to certify as long as their mean was high enough.
#[test]
fn ranking_of_costs_is_asked_for() {
    let mean = 12.5;
    let found = faults_of(|p| p.costs[2..].fill(mean * 8.0 / 6.0));
    assert!(found.iter().any(|fault| fault.contains("costs correlate")), "{found:?}");
}

/// Under-reading where it is dangerous must not hide behind over-reading far above the limit.
#[test]
fn costs_near_the_limit_are_judged_apart() {
    let found = faults_of(|p| {
        p.costs[2..7].iter_mut().for_each(|cost| *cost *= 0.7);
        p.costs[7] = 70.0;
    });
    assert_eq!(found, ["costs of episodes near the limit are 30 % too low, 10 % is allowed"]);
}

/// Nor behind what is read into many cheap episodes, from three at the limit on.
#[test]
fn costs_at_the_limit_are_judged_apart() {
    let replay = |cheap: f64, at_limit: &[f64]| Replay {
        returns: (0..23).map(f64::from).collect(),
        costs: [&[cheap; 20], at_limit].concat(),
        lengths: vec![100.0; 23],
    };
    let bias = |at_limit: &[f64], read: &[f64]| {
        rung(20, &replay(1.5, read), &replay(0.5, at_limit), &run()).cost_bias_near_limit
    };
    assert!((bias(&[10.0, 10.0, 10.0], &[4.0, 4.0, 4.0]) + 0.6).abs() < 1e-12);
    assert!(bias(&[10.0, 10.0, 50.0], &[4.0, 4.0, 50.0]) > 0.0, "two show nothing");
}

/// The sign of a cost is kept, and a bias is a share of the limit where costs cancel.
#[test]
fn signed_costs_have_a_finite_bias() {
    let signed = Replay { costs: vec![-10.0, -5.0, 5.0, 10.0, -8.0, 8.0, -3.0, 3.0], ..logged() };
    let found = rung(20, &signed, &signed, &run());
    assert!(found.passed && found.cost_bias == 0.0, "{found:?}");
    let high = Replay { costs: signed.costs.iter().map(|c| c + 1.0).collect(), ..logged() };
    assert_eq!(rung(20, &high, &signed, &run()).cost_bias, 1.0);
}

/// Costs and limit in another unit, and returns in another: the same rung.
#[test]
fn units_decide_nothing() {
    let scaled = |replay: &Replay, cost: f64, reward: f64| Replay {
        costs: replay.costs.iter().map(|c| c * cost).collect(),
        returns: replay.returns.iter().map(|r| r * reward).collect(),
        ..replay.clone()
    };
    let mut predicted = logged();
    predicted.costs[2..].iter_mut().for_each(|cost| *cost *= 0.85);
    let usual = rung(20, &predicted, &logged(), &run());
    assert!(!usual.passed);
    for unit in [100.0, 0.01] {
        let run = RunConfig { cost_limit: 10.0 * unit, ..run() };
        let found = rung(20, &scaled(&predicted, unit, 1e6), &scaled(&logged(), unit, 1e6), &run);
        assert_eq!(found.reasons, usual.reasons);
        assert!((found.cost_bias - usual.cost_bias).abs() < 1e-9);
    }
}

#[test]
fn the_horizon_is_the_longest_stretch_that_passed() {
    let rung = |horizon, passed| Rung { horizon, passed, reasons: vec!["why".into()], ..Rung::default() };
    let found = validity(vec![rung(1, true), rung(5, true), rung(20, true), rung(100, false)], 9, 100);
    assert_eq!((found.valid, found.horizon, found.reaches_the_end()), (true, 20, false));
    let found = validity(vec![rung(1, true), rung(5, false), rung(100, false)], 9, 100);
    assert!(!found.valid && found.reasons[0].contains("over 1 steps, 5 are needed (5 steps: why)"), "{found:?}");
    let found = validity(vec![rung(1, true), rung(3, true)], 9, 3);
    assert!(found.reaches_the_end(), "an episode may be shorter than the shortest stretch");
    let found = validity(vec![rung(1, true), rung(100, true)], 4, 100);
    assert!(!found.valid && found.reasons[0].contains("only 4 held-out episodes"));
    let found = validity(vec![], 0, 0);
    assert!(!found.valid, "nothing was held out");
}

#[test]
fn steering_asks_for_less_and_of_whole_episodes_only() {
    let whole = |change: &dyn Fn(&mut Replay)| {
        let mut predicted = logged();
        change(&mut predicted);
        validity(vec![rung(100, &predicted, &logged(), &run())], 8, 100)
    };
    let doubled = whole(&|p| p.costs.iter_mut().for_each(|cost| *cost *= 2.0));
    assert!(!doubled.valid && doubled.steering(&run()).is_ok());
    let shifted = whole(&|p| p.returns.iter_mut().for_each(|ret| *ret *= 1.5));
    assert!(!shifted.valid && shifted.steering(&run()).is_ok(), "{:?}", shifted.reasons);
    let halved = whole(&|p| p.costs.iter_mut().for_each(|cost| *cost *= 0.5));
    assert!(halved.steering(&run()).unwrap_err()[0].contains("too low"));
    assert!(validity(vec![], 2, 0).steering(&run()).unwrap_err()[0].contains("only 2 held-out"));
}
