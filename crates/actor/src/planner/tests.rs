//! The planner kind: what its memory and draws depend on, gradients, and which files are refused.
//! That it computes what was trained is tested with the algorithm, and by recorded plans.

use super::*;
use crate::draws::Draws;
use crate::{Actor, Turn};

#[path = "../../tests/files/planner.rs"]
mod files;

const S: usize = 3;
const A: usize = 2;
const STEPS: usize = 4;
const LEVELS: usize = 3;

const SHAPE: files::Shape =
    files::Shape { observations: S, actions: A, steps: STEPS, levels: LEVELS, denoiser: &[8, 16], value: &[32] };

fn file() -> PolicyFile {
    files::planner(&SHAPE)
}

fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut draws = Draws::new(seed, 1, &[]);
    (0..count).map(|_| draws.normal()).collect()
}

/// Finite differences in double the step: the kernels are in single precision.
#[test]
fn gradients_of_the_value_nets_are_finite_differences() {
    let mut replay = PlanReplay::new(&file(), [A, S]).unwrap();
    let size = STEPS * (A + S);
    let x = noise(2 * size, 1);
    for level in 0..LEVELS {
        let found = replay.values(&x, level).unwrap();
        for (net, (_, gradient)) in found.iter().enumerate() {
            for (at, &gradient) in gradient.iter().enumerate() {
                const H: f32 = 2e-2;
                let mut moved = |by: f32| {
                    let mut x = x.clone();
                    x[at] += by;
                    let values = &replay.values(&x, level).unwrap()[net].0;
                    f64::from(values[0]) + f64::from(values[1])
                };
                let (near, far) = ((moved(H) - moved(-H)) / 2.0, (moved(2.0 * H) - moved(-2.0 * H)) / 4.0);
                // Richardson's extrapolation of the central difference.
                let wanted = (4.0 * near - far) / 3.0 / f64::from(H);
                let gradient = f64::from(gradient);
                assert!((gradient - wanted).abs() < 2e-3 + 2e-2 * wanted.abs(), "{net} {at}: {gradient} {wanted}");
            }
        }
    }
}

fn guidance() -> Guidance {
    Guidance {
        scale: 0.5,
        cost_weight: 2.0,
        cost_weight_by: CostWeight::Guarded,
        repeats: 2,
        stop: 1,
        actions_only: false,
        reward_unit: 1.0,
        cost_unit: 1.0,
        ranking: Ranking::Final,
    }
}

/// Looks whether every plan begins where it should.
struct Begins<'a>(&'a [f32]);

impl Watch for Begins<'_> {
    fn guided(&mut self, _: usize, _: [&[f32]; 2], _: [&[f32]; 2], plans: &[f32]) {
        self.denoised(0, plans);
    }

    fn denoised(&mut self, _: usize, plans: &[f32]) {
        for (plan, state) in plans.chunks_exact(STEPS * (A + S)).zip(self.0.chunks_exact(S)) {
            assert_eq!(&plan[A..A + S], state);
        }
    }
}

#[test]
fn every_step_begins_at_the_state_and_guidance_raises_what_it_follows() {
    let mut replay = PlanReplay::new(&file(), [A, S]).unwrap();
    let states = noise(8 * S, 2);
    let mut mean = |guidance: Guidance, kappa: f32| {
        let mut draws: Vec<Draws> = (0..8).map(|plan| Draws::new(plan, 0, &[])).collect();
        let noise = |plan: usize, out: &mut [f32]| out.fill_with(|| draws[plan].normal());
        let [_, rewards, costs] = replay.make(&states, &[kappa; 8], &guidance, noise, &mut Begins(&states));
        [rewards, costs].map(|values| values.iter().sum::<f32>() / 8.0)
    };
    let free = mean(Guidance { scale: 0.0, ..guidance() }, 1e9);
    let led = mean(guidance(), 1e9);
    assert!(led[0] > free[0], "{led:?} {free:?}");
    let bound = mean(Guidance { cost_weight: 20.0, ..guidance() }, -1e9);
    assert!(bound[1] < free[1], "{bound:?} {free:?}");
}

/// The first of equals, feasible before all others, the cheapest where none is.
#[test]
fn plans_are_ranked_by_reward_within_the_budget() {
    for (rewards, costs, kappa, best) in [
        ([1.0, 3.0, 2.0], [0.0, 9.0, 5.0], 5.0, 2),
        ([1.0, 3.0, 2.0], [6.0, 9.0, 7.0], 5.0, 0),
        ([1.0, 3.0, 3.0], [0.0, 0.0, 0.0], 5.0, 1),
        ([1.0, 3.0, 2.0], [-1.0, 0.5, -3.0], -2.0, 2),
    ] {
        assert_eq!(rank(&rewards, &costs, &[kappa; 3], &mut [0.0; 3]), best);
    }
}

#[test]
fn budgets_follow_their_recursions() {
    let budget = |unit, gamma| Budget { unit, gamma, length: 4 };
    // With gamma 1 all are what is left.
    for unit in [BudgetUnit::Limit, BudgetUnit::Even, BudgetUnit::Remaining] {
        let budget = budget(unit, 1.0);
        let left = budget.spend(budget.spend(budget.start(5.0), 1.0), 2.0);
        assert_eq!((left, budget.kappa(left, 2)), (2.0, 2.0));
    }
    let limit = budget(BudgetUnit::Limit, 0.5);
    assert_eq!(limit.spend(limit.start(5.0), 1.0), 8.0);
    // Of an even spending: 5/4 (1 + 1/2 + 1/4 + 1/8).
    let even = budget(BudgetUnit::Even, 0.5);
    assert!((even.start(5.0) - 1.25 * 1.875).abs() < 1e-12);
    let remaining = budget(BudgetUnit::Remaining, 0.5);
    assert!((remaining.kappa(3.0, 2) - 1.5 * 1.5).abs() < 1e-12);
    assert_eq!(remaining.kappa(3.0, 3), 3.0);
    assert_eq!(remaining.kappa(3.0, 9), 3.0, "an episode may be longer than it was said to be");
}

/// Actions `[steps][A]` of one row that sees the same observation; every step costs `cost`.
fn play(actor: &Actor, steps: usize, cost: f32) -> Vec<f32> {
    let mut player = actor.play();
    let mut actions = Vec::new();
    for step in 0..steps {
        let mut out = [0.0; A];
        let costs = [if step > 0 { cost } else { 0.0 }];
        player.act(Turn { observations: &[0.3, -0.2, 1.0], rewards: &[0.0], costs: &costs }, &mut out).unwrap();
        actions.extend(out);
    }
    actions
}

#[test]
fn actions_follow_the_costs_and_the_limit() {
    let mut actor = Actor::new(&file()).unwrap();
    let base = play(&actor, 4, 0.0);
    assert_eq!(base, play(&actor, 4, 0.0), "an episode repeats");
    assert_ne!(base[..A], base[A..2 * A], "every step draws anew");
    let costly = play(&actor, 4, 1000.0);
    assert_eq!(base[..A], costly[..A]);
    assert_ne!(base[A..], costly[A..]);
    actor.set("cost_limit", -1000.0).unwrap();
    assert_ne!(play(&actor, 1, 0.0), base[..A]);
    assert!(actor.work() > 0.0);
}

/// A plan of two actions is made at every other step.
#[test]
fn an_interval_takes_actions_of_one_plan() {
    let mut actor = Actor::new(&file()).unwrap();
    let each = play(&actor, 3, 0.0);
    actor.set("replan_interval", 2.0).unwrap();
    let work = actor.work();
    let both = play(&actor, 3, 0.0);
    assert_eq!(each[..A], both[..A]);
    assert_ne!(each[A..2 * A], both[A..2 * A]);
    assert_eq!(each[2 * A..], both[2 * A..]);
    actor.set("replan_interval", 1.0).unwrap();
    assert!((actor.work() / work - 2.0).abs() < 1e-9);
}

#[test]
fn a_row_acts_the_same_alone_and_in_any_batch() {
    let mut actor = Actor::new(&file()).unwrap();
    // More plans than are made at once.
    actor.set("candidates", 300.0).unwrap();
    let observations = noise(5 * S, 3);
    let mut together = [0.0; 5 * A];
    actor.play().act(Turn::first(&observations), &mut together).unwrap();
    for (observation, wanted) in observations.chunks_exact(S).zip(together.chunks_exact(A)) {
        let mut alone = [0.0; A];
        actor.play().act(Turn::first(observation), &mut alone).unwrap();
        assert_eq!(alone, wanted);
    }
}

#[test]
fn settings_that_cannot_be_played_are_refused() {
    let mut actor = Actor::new(&file()).unwrap();
    for (name, value) in [
        ("candidates", 0.0),
        ("candidates", 2.5),
        ("candidates", 1e9),
        ("replan_interval", 5.0),
        ("guide_scale", -1.0),
        ("plan_length", 8.0),
    ] {
        let error = actor.set(name, value).unwrap_err();
        assert!(error.message.contains(name), "{error}");
    }
}

#[test]
fn foreign_fields_are_refused_by_name() {
    type Change = fn(&mut PolicyFile);
    let cases: [(&str, Change); 9] = [
        ("metadata plan_length", |f| f.set("plan_length", 5)),
        ("metadata noise_levels", |f| f.set("noise_levels", 0)),
        ("metadata budget", |f| f.set("budget", "other")),
        ("metadata gamma", |f| f.set("gamma", 1.5)),
        ("metadata cost_unit", |f| f.set("cost_unit", 0)),
        ("metadata setting.candidates", |f| f.set("setting.candidates", 0.5)),
        ("metadata setting.guide_scale", |f| drop(f.metadata.remove("setting.guide_scale"))),
        ("denoiser.mid_block1.blocks.0.block.0.weight", |f| {
            f.insert("denoiser.mid_block1.blocks.0.block.0.weight", &[16, 16, 3], vec![0.0; 768])
        }),
        ("plan.action_std", |f| drop(f.tensors.remove("plan.action_std"))),
    ];
    for (field, change) in cases {
        let mut file = file();
        change(&mut file);
        let error = Actor::new(&file).unwrap_err();
        assert!(error.message.contains(field), "{field}: {error}");
    }
}
