//! The hand-written gradients against autograd, and what the repaired choices mean.

use super::divergence::Divergence;
use super::*;
use crate::critics::join;
use crate::frame::{ActorGroup, Done};
use drcorl_nn::Arena;
use tch::Device;

const STATES: i64 = 3;
const ACTIONS: i64 = 2;
const ROWS: i64 = 24;

struct Setting {
    learner: Coptidice,
    batch: Transition,
    draws: CoptidiceDraws,
}

fn setting(config: CoptidiceConfig) -> Setting {
    let mut rng = Rng::new(3, 0);
    let mut normal = |columns: i64| rng.normal(&[ROWS, columns], Device::Cpu);
    let observation = normal(STATES);
    let batch = Transition {
        state_action: join(&normal(ACTIONS).tanh(), &observation),
        next_observation: normal(STATES),
        reward: normal(1),
        cost: normal(1).gt(0.3).to_kind(Kind::Float),
        reward_stop: normal(1).gt(1.0).to_kind(Kind::Float),
        cost_stop: normal(1).zeros_like(),
        observation,
    };
    let initial = match config.initial_states {
        InitialStates::InBatch => Initial::Flags(normal(1).gt(0.5).to_kind(Kind::Float)),
        InitialStates::Separate => Initial::States(normal(STATES).narrow(0, 0, 7)),
    };
    let draws = CoptidiceDraws { initial, observation: normal(STATES), action: normal(ACTIONS) };
    let scales = Scales {
        limit: 0.2,
        unit: 1.0,
        initial_share: 0.3,
        observation_std: Tensor::ones([1, STATES], (Kind::Float, Device::Cpu)),
        action_std: Tensor::ones([1, ACTIONS], (Kind::Float, Device::Cpu)),
    };
    let task = Task {
        observations: STATES,
        actions: ACTIONS,
        cost_limit: 1.0,
        episode_length: 100,
        threshold: 0.2,
        seed: 0,
        device: Device::Cpu,
    };
    let learner = Coptidice { scales, ..Coptidice::new(config, task, &mut Rng::new(1, 0)) };
    Setting { learner, batch, draws }
}

fn small(initial_states: InitialStates) -> CoptidiceConfig {
    CoptidiceConfig {
        initial_states,
        actor: ActorGroup { actor_hidden: vec![8, 8], actor_lr: 1e-4 },
        critic_hidden: vec![8, 8],
        ..CoptidiceConfig::default()
    }
}

/// The lowest of both members at `states`, tracked.
fn lowest(parameters: &[(String, Tensor)], name: &str, states: &Tensor) -> Tensor {
    let at = |key: String| &parameters.iter().find(|(found, _)| *found == key).unwrap().1;
    let member = |member: i64| {
        (0..3).fold(states.shallow_clone(), |x, i| {
            let weight = at(format!("{name}.{i}.weight")).select(0, member);
            let y = x.linear(&weight, Some(&at(format!("{name}.{i}.bias")).select(0, member)));
            if i < 2 {
                y.relu()
            } else {
                y
            }
        })
    };
    Tensor::cat(&[member(0), member(1)], 1).amin(1i64, true)
}

fn tracked(arena: &Arena) -> Vec<(String, Tensor)> {
    let copy = |name: &str| (name.to_string(), arena.named(name).unwrap().0.copy().set_requires_grad(true));
    arena.names().map(copy).collect()
}

fn compare(arena: &Arena, parameters: &[(String, Tensor)]) {
    for (name, parameter) in parameters {
        let error = (arena.named(name).unwrap().1 - parameter.grad()).abs().max().double_value(&[]);
        assert!(error < 1e-6, "{name}: {error}");
    }
}

/// Both losses written out once more, differentiated by libtorch.
#[test]
fn gradients_of_nu_and_chi_equal_autograd() {
    for choice in [InitialStates::InBatch, InitialStates::Separate] {
        let Setting { mut learner, batch, draws } = setting(small(choice));
        let (nu, chi) = (tracked(learner.nu.online()), tracked(learner.chi.online()));
        let (gamma, alpha) = (0.99, 0.5);
        let (lambda, tau) = (learner.lambda.value(), learner.tau.value());
        let alive: Tensor = (1.0 - &batch.reward_stop) * gamma;
        let start = |parameters: &[(String, Tensor)], name: &str| match &draws.initial {
            Initial::Flags(flags) => lowest(parameters, name, &batch.observation) * flags / 0.3,
            Initial::States(states) => lowest(parameters, name, states).mean(Kind::Float).view([1, 1]),
        };
        let (now, next) = (lowest(&nu, "nu", &batch.observation), lowest(&nu, "nu", &batch.next_observation));
        let e: Tensor = &batch.reward - &batch.cost * lambda + &alive * next - now;
        // Softchi, as it is defined: both pieces and where they meet.
        let scaled = &e / alpha;
        let w = scaled.clamp_max(0.0).exp().where_self(&scaled.lt(0.0), &(&scaled + 1.0)).relu();
        let value = (&w * (w.log() - 1.0) + 1.0).where_self(&w.lt(1.0), &((&w - 1.0).square() * 0.5));
        let loss: Tensor =
            start(&nu, "nu").mean(Kind::Float) * (1.0 - gamma) + (&w * &e - value * alpha).mean(Kind::Float);
        loss.backward();
        let (now, next) = (lowest(&chi, "chi", &batch.observation), lowest(&chi, "chi", &batch.next_observation));
        let residual = start(&chi, "chi") * (1.0 - gamma) + w.detach() * (&batch.cost + &alive * next - now);
        let weight = (&residual / tau).softmax(0, Kind::Float) * ROWS as f64;
        let chi_loss = (weight * residual).mean(Kind::Float);
        chi_loss.backward();
        let step = tch::no_grad(|| learner.learn(&batch, &draws)).unwrap();
        assert!((step.nu_loss - loss.double_value(&[])).abs() < 1e-5);
        assert!((step.bound.chi_loss - chi_loss.double_value(&[])).abs() < 1e-5);
        compare(learner.nu.online(), &nu);
        compare(learner.chi.online(), &chi);
    }
}

/// The published limit is a discounted sum, ten times and more the per-step average it is compared with.
#[test]
fn the_limit_is_in_the_unit_of_the_bound() {
    let at = |limit_unit, done| CoptidiceConfig { limit_unit, done, ..CoptidiceConfig::default() }.limit(10.0, 300);
    assert!((at(LimitUnit::PerStep, Done::Terminals) - 10.0 / 300.0).abs() < 1e-12);
    let before_the_end = 1.0 - 0.99f64.powi(300);
    assert!((at(LimitUnit::PerStep, Done::TerminalsAndTimeouts) - before_the_end * 10.0 / 300.0).abs() < 1e-12);
    assert!((at(LimitUnit::Discounted, Done::TerminalsAndTimeouts) - 3.170).abs() < 1e-3);
}

/// Weak duality: the loss of nu is at least what any distribution earns that obeys the flow of the data. Where an
/// episode's last row flows on, to a state that no row starts from, none does, and the loss has no lower end.
#[test]
fn the_dual_is_bounded_if_time_limits_end_the_flow() {
    const STEPS: i64 = 20;
    let (gamma, alpha, count) = (0.9f64, 0.5, STEPS as f64);
    // A walk along a line with reward 1 a step; its discounted visits, as ratios to the data's.
    let floor: f64 = (0..STEPS)
        .map(|t| count * (1.0 - gamma) * gamma.powi(t as i32))
        .map(|w| (w - alpha * Divergence::Softchi.value(w)) / count)
        .sum();
    let lowest_loss = |last_stop: f64| {
        let config = CoptidiceConfig { gamma, alpha, nu_lr: 1e-2, ..small(InitialStates::Separate) };
        let Setting { mut learner, .. } = setting(config);
        let ones = Tensor::ones([STEPS, 1], (Kind::Float, Device::Cpu));
        let place = (Tensor::arange(STEPS + 1, (Kind::Float, Device::Cpu)) / count).view([-1, 1]);
        let state = Tensor::cat(&[&place, &place.zeros_like(), &place.ones_like()], 1);
        let observation = state.narrow(0, 0, STEPS);
        let reward_stop = ones.zeros_like();
        let _ = reward_stop.narrow(0, STEPS - 1, 1).fill_(last_stop);
        let batch = Transition {
            state_action: join(&Tensor::zeros([STEPS, ACTIONS], (Kind::Float, Device::Cpu)), &observation),
            next_observation: state.narrow(0, 1, STEPS),
            reward: ones.shallow_clone(),
            cost: ones.zeros_like(),
            cost_stop: ones.zeros_like(),
            reward_stop,
            observation: observation.shallow_clone(),
        };
        let rows = Rows::of(&batch, &Initial::States(state.narrow(0, 0, 1)), gamma, 1.0);
        let step = |_| tch::no_grad(|| learner.nu_step(&rows, 0.0)).0.loss;
        (0..2000).map(step).fold(f64::INFINITY, f64::min)
    };
    let ended = lowest_loss(1.0);
    assert!((floor..floor + 0.2).contains(&ended), "{ended}, floor {floor}");
    let open = lowest_loss(0.0);
    assert!(open < floor - 1.0, "{open}, floor {floor}");
    assert_eq!(CoptidiceConfig::default().done, Done::TerminalsAndTimeouts);
}

/// The fitted policy acts as the logged action does; the published one shrinks it.
#[test]
fn a_fit_reproduces_the_action() {
    for (policy_fit, expected) in
        [(PolicyFit::Clamped, 0.9), (PolicyFit::Squashed, 0.9), (PolicyFit::RawNormal, 0.9f64.tanh())]
    {
        let config = CoptidiceConfig { policy_fit, ..small(InitialStates::Separate) };
        let config = CoptidiceConfig { actor: ActorGroup { actor_lr: 1e-2, ..config.actor.clone() }, ..config };
        let Setting { mut learner, batch, mut draws, .. } = setting(config);
        let mut batch = batch;
        batch.state_action = join(&batch.state_action.narrow(1, 0, ACTIONS).full_like(0.9), &batch.observation);
        draws.action = draws.action.zeros_like();
        let w = vec![1.0; ROWS as usize];
        tch::no_grad(|| (0..500).for_each(|_| _ = learner.actor_step(&batch, &w, &draws)));
        let policy = learner.policy();
        let acted = mean(&policy.act(&batch.observation));
        assert!((acted - expected).abs() < 0.02, "{policy_fit:?}: {acted}");
    }
}
