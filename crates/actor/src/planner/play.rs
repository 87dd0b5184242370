//! Planning during episodes.

use std::sync::Arc;

use super::plan::Work;
use super::{Choices, Planner};
use crate::actor::{Frame, Play, Turn};
use crate::draws::Draws;

/// Steps of plans made at a time: their activations fit in the second-level cache.
const STEPS_AT_ONCE: usize = 2048;

/// What is kept of a row's episode.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// Steps that were taken.
    step: usize,
    /// Of the budget; see [`super::Budget::spend`].
    left: f64,
    /// Actions of the plan that were taken; as many as are kept if none is left.
    taken: usize,
}

/// The best plan of a row so far.
#[derive(Debug, Clone, Copy)]
struct Best {
    within: bool,
    /// Its reward value, or less its cost value where it is above the budget.
    value: f32,
}

pub(super) struct PlannerPlay {
    policy: Arc<Planner>,
    choices: Choices,
    rows: Vec<Row>,
    /// The next actions of every row, `[rows, replan_interval, A]`, in [-1, 1].
    actions: Vec<f32>,
    /// Normalised observations of all rows.
    states: Vec<f32>,
    /// Rows that need a plan, with the best one.
    due: Vec<(usize, Option<Best>)>,
    /// Of the plans that are made together.
    plan_states: Vec<f32>,
    kappas: Vec<f32>,
    draws: Vec<Draws>,
    work: Work,
}

impl PlannerPlay {
    pub fn new(policy: Arc<Planner>, choices: Choices) -> Self {
        PlannerPlay {
            policy,
            choices,
            rows: Vec::new(),
            actions: Vec::new(),
            states: Vec::new(),
            due: Vec::new(),
            plan_states: Vec::new(),
            kappas: Vec::new(),
            draws: Vec::new(),
            work: Work::default(),
        }
    }

    /// Takes in what the environment answered; `due` are the rows whose plan has ended.
    fn observe(&mut self, frame: &Frame, turn: Turn<'_>) {
        let (obs_dim, budget) = (frame.obs_dim(), self.policy.budget);
        self.due.clear();
        for (number, observation) in turn.observations.chunks_exact(obs_dim).enumerate() {
            frame.normalize(observation, &mut self.states[number * obs_dim..][..obs_dim]);
            let row = &mut self.rows[number];
            row.left = match row.step {
                0 => budget.start(self.choices.cost_limit),
                _ => budget.spend(row.left, f64::from(turn.costs.get(number).copied().unwrap_or(0.0))),
            };
            if row.step == 0 || row.taken == self.choices.replan_interval {
                self.due.push((number, None));
            }
        }
    }

    /// Makes plans `first..first + count` of all candidates of all due rows, and keeps the best of each row.
    fn plan(&mut self, first: usize, count: usize) {
        let policy = Arc::clone(&self.policy);
        let (networks, candidates) = (&policy.networks, self.choices.candidates);
        let states = networks.observations;
        self.plan_states.clear();
        self.kappas.clear();
        self.draws.clear();
        for job in first..first + count {
            let (row, _) = self.due[job / candidates];
            let Row { step, left, .. } = self.rows[row];
            let state = &self.states[row * states..][..states];
            self.plan_states.extend_from_slice(state);
            self.kappas.push(policy.budget.kappa(left, step) as f32);
            // A generator of its own: a plan is the same whatever others are made beside it.
            self.draws.push(Draws::new(policy.seed, step as u64, state).branch((job % candidates) as u64));
        }
        let draws = &mut self.draws;
        let mut noise = |plan: usize, numbers: &mut [f32]| {
            let draws = &mut draws[plan];
            numbers.fill_with(|| draws.normal());
        };
        let how = (&self.choices.guidance, candidates > 1);
        networks.make((&self.plan_states, &self.kappas), how, &mut self.work, &mut noise, &mut ());
        for plan in 0..count {
            self.keep(plan, (first + plan) / candidates);
        }
    }

    /// Keeps the actions of plan number `plan` if it is the best yet of the due row number `due`.
    fn keep(&mut self, plan: usize, due: usize) {
        let policy = &self.policy;
        let (reward, cost) = (self.work.rewards[plan], self.work.costs[plan]);
        let within = cost <= self.kappas[plan];
        let new = Best { within, value: if within { reward } else { -cost } };
        let (row, best) = &mut self.due[due];
        if best.is_some_and(|old| (old.within, old.value) >= (new.within, new.value)) {
            return;
        }
        *best = Some(new);
        let (act_dim, kept) = (policy.networks.actions, self.choices.replan_interval);
        let steps = self.work.plans[plan * policy.networks.size()..].chunks_exact(policy.networks.entries());
        let actions = self.actions[*row * kept * act_dim..][..kept * act_dim].chunks_exact_mut(act_dim);
        for (action, step) in actions.zip(steps) {
            let scale = policy.action_mean.iter().zip(&policy.action_std);
            for ((action, x), (mean, std)) in action.iter_mut().zip(step).zip(scale) {
                // NaN stays NaN, so that an overflow is found.
                *action = (mean + std * x).clamp(-1.0, 1.0);
            }
        }
    }
}

impl Play for PlannerPlay {
    fn reset(&mut self, rows: &[usize]) {
        for &row in rows {
            if let Some(row) = self.rows.get_mut(row) {
                *row = Row::default();
            }
        }
    }

    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]) {
        let (act_dim, kept) = (frame.act_dim(), self.choices.replan_interval);
        let rows = turn.observations.len() / frame.obs_dim();
        if self.rows.len() < rows {
            self.rows.resize(rows, Row::default());
            self.actions.resize(rows * kept * act_dim, 0.0);
            self.states.resize(rows * frame.obs_dim(), 0.0);
        }
        self.observe(frame, turn);
        let jobs = self.due.len() * self.choices.candidates;
        let at_once = (STEPS_AT_ONCE / self.policy.networks.steps).max(1);
        for first in (0..jobs).step_by(at_once) {
            self.plan(first, at_once.min(jobs - first));
        }
        for &(row, _) in &self.due {
            self.rows[row].taken = 0;
        }
        for (number, out) in out.chunks_exact_mut(act_dim).enumerate() {
            let row = &mut self.rows[number];
            let action = &self.actions[(number * kept + row.taken) * act_dim..][..act_dim];
            out.iter_mut().enumerate().for_each(|(i, out)| *out = frame.action(i, action[i]));
            row.taken += 1;
            row.step += 1;
        }
    }
}
