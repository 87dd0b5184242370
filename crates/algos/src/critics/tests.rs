//! Critics on problems whose answer is known, and guards against the published faults.

use super::*;
use drcorl_nn::optim::cosine;
use drcorl_nn::rng::Rng;
use drcorl_nn::Cache;
use tch::Device;

fn cpu(values: &[f32]) -> Tensor {
    Tensor::from_slice(values)
}

fn config(gamma: f64) -> CostCriticConfig {
    CostCriticConfig {
        kind: CostCriticKind::Td,
        expectile: 0.5,
        gamma,
        target_rate: 0.05,
        lr: 3e-3,
        backup: CostBackup::Own,
        backup_k: 0.0,
        pessimism: Pessimism::None,
        alpha: 0.0,
        clamp: None,
    }
}

fn critic(config: CostCriticConfig, members: usize) -> CostCritic {
    CostCritic::new("c", 1, 1, members, &[32, 32], config, Device::Cpu, &mut Rng::new(0, 0))
}

/// A `[B]` column is refused in every loss.
#[test]
fn flat_columns_are_refused() {
    let mut cost = critic(config(0.9), 2);
    let mut rng = Rng::new(1, 0);
    let state_action = rng.normal(&[8, 2], Device::Cpu);
    let (flat, column) = (rng.uniform(&[8], Device::Cpu), rng.uniform(&[8, 1], Device::Cpu));
    let error = cost.step(&state_action, &flat, &column, &state_action, None).err().unwrap();
    assert_eq!(error.code(), "Shape");
    assert!(error.to_string().contains("[8, 1]"), "{error}");
    assert!(cost.step(&state_action, &column, &flat, &state_action, None).is_err());
    assert!(cost.regress(&state_action, &flat).is_err());
    let rates = IqlConfig { gamma: 0.9, expectile: 0.7, target_rate: 0.01, q_lr: 1e-3, v_lr: 1e-3 };
    let mut iql = IqlCritic::new("r", 1, 1, &[8], rates, Device::Cpu, &mut rng);
    let state = state_action.narrow(1, 1, 1);
    assert!(iql.step(&state_action, &state, &state, &flat, &column).is_err());
    assert!(iql.follow(&state_action, &state_action, &flat, &column).is_err());
    assert!(iql.regress(&state_action, &state, &flat).is_err());
}

/// Cost = 1{a > 0} is learnt as such; against the mean of the column, which a broadcast amounts to, it is not.
#[test]
fn the_cost_critic_separates_actions() {
    let gap = |broadcast: bool| {
        let mut rng = Rng::new(2, 0);
        let mut cost = critic(config(0.5), 2);
        for step in 0..600 {
            cost.config.lr = cosine(3e-3, 1e-4, step, 600);
            let state = rng.uniform(&[64, 1], Device::Cpu);
            let action = rng.uniform(&[64, 1], Device::Cpu) * 2.0 - 1.0;
            let signal = action.gt(0.0).to_kind(Kind::Float);
            let signal = if broadcast { signal.ones_like() * signal.mean(Kind::Float) } else { signal };
            let state_action = Tensor::cat(&[&action, &state], 1);
            let next = Tensor::cat(&[&(action.zeros_like() - 0.5), &state], 1);
            cost.step(&state_action, &signal, &signal.zeros_like(), &next, None).unwrap();
        }
        let at = |a: f32| {
            cost.q
                .net()
                .forward(cost.q.online(), &cpu(&[a, 0.5]).view([1, 2]), &mut Cache::default())
                .mean(Kind::Float)
                .double_value(&[])
        };
        at(0.6) - at(-0.6)
    };
    assert!(gap(false) > 0.5, "{}", gap(false));
    assert!(gap(true).abs() < 0.1, "{}", gap(true));
}

/// The minimiser of the expectile loss on a discrete law.
#[test]
fn expectiles_of_a_discrete_law() {
    let law = cpu(&[0.0, 1.0, 2.0, 5.0]).to_kind(Kind::Double);
    let solve = |tau: f64| {
        let (mut low, mut high) = (0.0, 5.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            let u = &law - middle;
            let slope = (expectile_weight(&u, tau) * u).sum(Kind::Double).double_value(&[]);
            if slope > 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    };
    assert!((solve(0.5) - 2.0).abs() < 1e-6);
    // .7 sum of excesses above = .3 sum below: m = (.7 * 5 + .3 * 3) / (.7 + .9) for m in [2, 5].
    assert!((solve(0.7) - 4.4 / 1.6).abs() < 1e-3);
    assert!(solve(0.999) > 4.9 && solve(0.3) < 2.0);
}

/// A two-state, two-action chain: state is one-hot in one number (0 or 1), action is -1 or 1; action 1 flips the state.
fn chain(rng: &mut Rng, rows: i64) -> (Tensor, Tensor, Tensor, Tensor) {
    let state = rng.uniform(&[rows, 1], Device::Cpu).lt(0.5).to_kind(Kind::Float);
    let action = rng.uniform(&[rows, 1], Device::Cpu).lt(0.5).to_kind(Kind::Float) * 2.0 - 1.0;
    let flips = action.gt(0.0).to_kind(Kind::Float);
    let next = &state * (1.0 - &flips) + (1.0 - &state) * &flips;
    // Cost 1 in state 1.
    let cost = state.shallow_clone();
    (state, action, next, cost)
}

/// TD on the policy "flip in state 1, stay in state 0" converges to (I - gamma P)^-1 c.
#[test]
fn the_cost_critic_solves_a_small_chain() {
    let gamma = 0.8;
    let (own, max) = (CostBackup::Own, CostBackup::Max);
    for (kind, backup) in [(CostCriticKind::Td, own), (CostCriticKind::Td, max), (CostCriticKind::TdDouble, own)] {
        let mut rng = Rng::new(3, 0);
        let mut cost = critic(CostCriticConfig { kind, backup, ..config(gamma) }, 2);
        for step in 0..2500 {
            cost.config.lr = cosine(3e-3, 1e-5, step, 2500);
            let (state, action, next, signal) = chain(&mut rng, 64);
            let chosen = &next * 2.0 - 1.0;
            cost.step(&join(&action, &state), &signal, &signal.zeros_like(), &join(&chosen, &next), None).unwrap();
        }
        // V(0) = 0, V(1) = 1, so Q(s, stay) = s + gamma s, Q(s, flip) = s + gamma (1 - s).
        for (state, action, exact) in [(0.0, -1.0, 0.0), (0.0, 1.0, gamma), (1.0, -1.0, 1.0 + gamma), (1.0, 1.0, 1.0)] {
            let value = cost.values(&cpu(&[action, state]).view([1, 2])).mean(Kind::Double).double_value(&[]);
            assert!((value - exact).abs() < 0.03, "{kind:?} {backup:?} Q({state},{action}) = {value}, exact {exact}");
        }
    }
}

/// Twins that follow a policy converge to its values, whatever was logged: of "flip in state 1, stay in state 0",
/// rewarded in state 1, V(0) = 0 and V(1) = 1.
#[test]
fn reward_twins_follow_a_policy() {
    let gamma = 0.8;
    let mut rng = Rng::new(5, 0);
    let rates = IqlConfig { gamma, expectile: 0.9, target_rate: 0.05, q_lr: 3e-3, v_lr: 3e-3 };
    let mut critic = IqlCritic::new("r", 1, 1, &[32, 32], rates, Device::Cpu, &mut rng);
    for step in 0..2500 {
        critic.config.q_lr = cosine(3e-3, 1e-5, step, 2500);
        let (state, action, next, reward) = chain(&mut rng, 64);
        let next = join(&(&next * 2.0 - 1.0), &next);
        critic.follow(&join(&action, &state), &next, &reward, &reward.zeros_like()).unwrap();
    }
    for (state, action, exact) in [(0.0, -1.0, 0.0), (0.0, 1.0, gamma), (1.0, -1.0, 1.0 + gamma), (1.0, 1.0, 1.0)] {
        let value = critic.guidance(&cpu(&[action, state]).view([1, 2]), 1).0.double_value(&[0, 0]);
        assert!((value - exact).abs() < 0.05, "Q({state},{action}) = {value}, exact {exact}");
    }
}

/// The IQL value lies between the behavior's and the optimal one, and grows with the expectile.
#[test]
fn iql_values_lie_between_behavior_and_optimum() {
    let gamma = 0.8;
    let value = |expectile: f64| {
        let mut rng = Rng::new(4, 0);
        let rates = IqlConfig { gamma, expectile, target_rate: 0.05, q_lr: 3e-3, v_lr: 3e-3 };
        let mut critic = IqlCritic::new("r", 1, 1, &[32, 32], rates, Device::Cpu, &mut rng);
        for step in 0..2500 {
            critic.config.q_lr = cosine(3e-3, 1e-5, step, 2500);
            critic.config.v_lr = critic.config.q_lr;
            let (state, action, next, reward) = chain(&mut rng, 64);
            critic.step(&Tensor::cat(&[&action, &state], 1), &state, &next, &reward, &reward.zeros_like()).unwrap();
        }
        critic.v.evaluate(&cpu(&[0.0]).view([1, 1])).double_value(&[0, 0])
    };
    // Uniform behavior: V(1) - V(0) = 1, V(0) = gamma (V(0) + .5), so V(0) = 2.
    // Optimal: flip once, then stay: gamma / (1 - gamma) = 4.
    let (mean, middle, high) = (value(0.5), value(0.7), value(0.9));
    assert!((mean - 2.0).abs() < 0.1, "{mean}");
    assert!(mean < middle && middle < high && high < 4.05, "{mean} {middle} {high}");
}

/// The implicit cost value of logged actions: its mean at an expectile of 1/2, above it at a higher one, whatever the
/// policy does.
#[test]
fn the_implicit_cost_critic_reads_logged_actions() {
    let gamma = 0.8;
    let value = |expectile: f64, chosen: f32| {
        let mut rng = Rng::new(9, 0);
        let mut cost = critic(CostCriticConfig { kind: CostCriticKind::Iql, expectile, ..config(gamma) }, 2);
        for step in 0..2500 {
            cost.config.lr = cosine(3e-3, 1e-5, step, 2500);
            let (state, action, next, signal) = chain(&mut rng, 64);
            let next_action = next.ones_like() * f64::from(chosen);
            cost.step(&join(&action, &state), &signal, &signal.zeros_like(), &join(&next_action, &next), None).unwrap();
        }
        mean(&cost.values(&cpu(&[-1.0, 0.0]).view([1, 2])))
    };
    // Uniform behavior: V(0) = 2 as of rewards below, and staying in state 0 costs nothing now.
    let plain = value(0.5, 1.0);
    assert!((plain - gamma * 2.0).abs() < 0.08, "{plain}");
    assert_eq!(plain, value(0.5, -1.0));
    assert!(value(0.8, 1.0) > plain + 0.2);
}

/// Of twins the higher one speaks, to whoever asks: values, bootstrap and guidance.
#[test]
fn the_higher_twin_speaks() {
    let mut rng = Rng::new(10, 0);
    let double = CostCriticConfig { kind: CostCriticKind::TdDouble, ..config(0.9) };
    let mut cost = critic(double, 3);
    let state_action = rng.normal(&[5, 2], Device::Cpu);
    let networks = cost.q.evaluate_target(&state_action);
    assert_eq!(networks.size(), [5, 6]);
    let values = cost.values(&state_action);
    for (row, member) in (0..5).flat_map(|row| (0..3).map(move |member| (row, member))) {
        let twin = |i: i64| networks.double_value(&[row, 2 * member + i]);
        assert_eq!(values.double_value(&[row, member]), twin(0).max(twin(1)));
    }
    let zero = Tensor::zeros([5, 1], (Kind::Float, Device::Cpu));
    let target = cost.target(&zero, &zero, &state_action);
    assert!((target - &values * 0.9).abs().max().double_value(&[]) < 1e-6);
    for k in [0.0, 1.5] {
        let (upper, gradient) = cost.guidance(&state_action, 1, k);
        assert!((upper - upper_confidence(&values, k)).abs().max().double_value(&[]) < 1e-6);
        let step = Tensor::from_slice(&[1e-2f32, 0.0]).view([1, 2]);
        let mut at = |sign: f64| cost.guidance(&(&state_action + &step * sign), 1, k).0;
        let numeric = (at(1.0) - at(-1.0)) / 2e-2;
        assert!((numeric - gradient).abs().max().double_value(&[]) < 2e-2, "k {k}");
    }
}

/// With one state and no bootstrap, the fixed point of (18) at the policy's action is Q + alpha pi(a|s) / (2
/// pi_b(a|s)).
#[test]
fn pessimism_raises_values_by_the_stated_amount() {
    let at_policy = |alpha: f64| {
        let mut rng = Rng::new(5, 0);
        let mut cost = critic(CostCriticConfig { pessimism: Pessimism::Cql, alpha, ..config(0.0) }, 2);
        for step in 0..1500 {
            cost.config.lr = cosine(3e-3, 1e-5, step, 1500);
            let action = rng.uniform(&[64, 1], Device::Cpu).lt(0.5).to_kind(Kind::Float) * 2.0 - 1.0;
            let state = action.zeros_like();
            let signal = action.gt(0.0).to_kind(Kind::Float);
            let policy = Tensor::cat(&[&action.ones_like(), &state], 1);
            cost.step(&Tensor::cat(&[&action, &state], 1), &signal, &signal.zeros_like(), &policy, Some(&policy))
                .unwrap();
        }
        cost.values(&cpu(&[1.0, 0.0]).view([1, 2])).mean(Kind::Double).double_value(&[])
    };
    let (none, some, more) = (at_policy(0.0), at_policy(0.2), at_policy(0.4));
    assert!((none - 1.0).abs() < 0.02, "{none}");
    // pi = 1 and pi_b = 1/2 there: the shift is alpha.
    assert!((some - none - 0.2).abs() < 0.02 && (more - none - 0.4).abs() < 0.02, "{none} {some} {more}");
}

/// Exact values, and independence of what other states look like.
#[test]
fn the_upper_confidence_value_is_per_state() {
    let values = cpu(&[1.0, 2.0, 3.0, 10.0, 10.0, 10.0]).view([2, 3]);
    let ucb = |k: f64| upper_confidence(&values, k);
    assert_eq!(ucb(2.0).size(), [2, 1]);
    assert!((ucb(2.0).double_value(&[0, 0]) - (2.0 + 2.0 * 1.0)).abs() < 1e-6);
    assert!((ucb(2.0).double_value(&[1, 0]) - 10.0).abs() < 1e-6);
    assert!((ucb(0.0).double_value(&[0, 0]) - 2.0).abs() < 1e-6);
    let linear = ucb(1.0).double_value(&[0, 0]) - ucb(0.0).double_value(&[0, 0]);
    assert!((ucb(3.0).double_value(&[0, 0]) - ucb(0.0).double_value(&[0, 0]) - 3.0 * linear).abs() < 1e-5);
    let permuted = values.index_select(1, &Tensor::from_slice(&[2i64, 0, 1]));
    assert!((upper_confidence(&permuted, 2.0) - ucb(2.0)).abs().max().double_value(&[]) < 1e-6);
    // States far apart, members in agreement: no uncertainty. The published formula would report a large one.
    let spread = cpu(&[0.0, 0.0, 100.0, 100.0]).view([2, 2]);
    assert!((upper_confidence(&spread, 2.0).mean(Kind::Double).double_value(&[]) - 50.0).abs() < 1e-6);
    assert!(spread.std(true).double_value(&[]) > 50.0);
    assert!((upper_confidence(&cpu(&[4.0]).view([1, 1]), 2.0).double_value(&[0, 0]) - 4.0).abs() < 1e-6);
}

/// Over random chains and bootstrapped estimates of their value, mean + 2 sd covers far more often than the mean; the
/// spread of a trained ensemble grows away from its data.
#[test]
fn upper_confidence_covers_and_grows_off_the_data() {
    let mut rng = Rng::new(6, 0);
    let (mut covered, mut covered_by_mean) = (0, 0);
    let worlds = 300;
    for _ in 0..worlds {
        // Away from 0 and 1, where a resample can show no spread at all.
        let truth = 0.2 + 0.6 * rng.unit();
        let sample: Vec<f32> = (0..100).map(|_| f32::from(u8::from(rng.unit() < truth))).collect();
        let members: Vec<f32> =
            (0..16).map(|_| (0..100).map(|_| sample[rng.below(100)]).sum::<f32>() / 100.0).collect();
        let values = cpu(&members).view([1, 16]);
        covered += u32::from(upper_confidence(&values, 2.0).double_value(&[0, 0]) >= f64::from(truth));
        covered_by_mean += u32::from(upper_confidence(&values, 0.0).double_value(&[0, 0]) >= f64::from(truth));
    }
    assert!(covered * 100 >= worlds * 95, "{covered} of {worlds}");
    assert!(covered_by_mean * 100 <= worlds * 70, "{covered_by_mean} of {worlds}");

    let mut cost = critic(config(0.0), 4);
    for _ in 0..600 {
        let action = rng.uniform(&[64, 1], Device::Cpu) * 0.5;
        let state_action = Tensor::cat(&[&action, &action.zeros_like()], 1);
        cost.step(&state_action, &action, &action.zeros_like(), &state_action, None).unwrap();
    }
    let mut spread = |a: f32| cost.values(&cpu(&[a, 0.0]).view([1, 2])).std(true).double_value(&[]);
    assert!(spread(-3.0) > 3.0 * spread(0.25), "{} {}", spread(-3.0), spread(0.25));
}

/// The gradient of mean + k sd over members equals finite differences.
#[test]
fn guidance_is_the_gradient_of_the_upper_confidence_value() {
    let mut rng = Rng::new(7, 0);
    let mut cost = critic(config(0.9), 3);
    let state_action = rng.normal(&[4, 2], Device::Cpu);
    for k in [0.0, 1.5] {
        let (_, gradient) = cost.guidance(&state_action, 1, k);
        for row in 0..4 {
            let mut at = |step: f64| {
                let moved = state_action.copy();
                let _ = moved.get(row).narrow(0, 0, 1).g_add_scalar_(step);
                cost.guidance(&moved, 1, k).0.double_value(&[row, 0])
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((numeric - gradient.double_value(&[row, 0])).abs() < 2e-2, "k {k} row {row}");
        }
    }
}

/// The bootstrap variants order as they should, and the clamp holds.
#[test]
fn backups_order_and_clamp() {
    let mut rng = Rng::new(8, 0);
    let (state_action, cost, terminal) = (
        rng.normal(&[6, 2], Device::Cpu),
        rng.uniform(&[6, 1], Device::Cpu),
        Tensor::zeros([6, 1], (Kind::Float, Device::Cpu)),
    );
    let target = |change: CostCriticConfig| critic(change, 3).target(&cost, &terminal, &state_action);
    let own = target(config(0.9));
    assert_eq!(own.size(), [6, 3]);
    let max = target(CostCriticConfig { backup: CostBackup::Max, ..config(0.9) });
    assert!((max - own.amax(1i64, true)).abs().max().double_value(&[]) < 1e-6);
    let raised = target(CostCriticConfig { pessimism: Pessimism::TargetUcb, alpha: 0.5, ..config(0.9) });
    assert!((&raised - &own).min().double_value(&[]) > 0.0);
    let clamped = target(CostCriticConfig { clamp: Some((0.2, 0.3)), ..config(0.9) });
    assert!(clamped.min().double_value(&[]) >= 0.2 - 1e-7 && clamped.max().double_value(&[]) <= 0.3 + 1e-7);
    let ended = critic(config(0.9), 3).target(&cost, &terminal.ones_like(), &state_action);
    assert!((ended - &cost).abs().max().double_value(&[]) < 1e-7);
}
