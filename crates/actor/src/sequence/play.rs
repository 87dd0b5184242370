//! A `sequence` policy at play: each row's window of tokens, its sums to go and its last action.

use std::sync::Arc;

use drcorl_kernels::activations::gelu_in_place;

use super::network::{apply, Scratch, Window};
use super::{CostFeature, Sequence, STEP};
use crate::actor::{Frame, Play, Turn};

/// One row's episode.
#[derive(Debug, Default)]
struct Memory {
    window: Window,
    /// Number of the coming step in its episode.
    step: usize,
    return_to_go: f32,
    cost_to_go: f32,
    /// Last action, in [-1, 1].
    action: Vec<f32>,
    /// Steps in the window.
    held: usize,
}

pub(super) struct SequencePlay {
    policy: Arc<Sequence>,
    /// Scaled return and cost an episode begins with.
    targets: (f32, f32),
    memories: Vec<Memory>,
    scratch: Scratch,
    state: Vec<f32>,
    embedded: Vec<f32>,
    /// The cost token before its norm.
    cost: Vec<f32>,
    normal: Vec<f32>,
    product: Vec<f32>,
    feature: Vec<f32>,
}

impl SequencePlay {
    pub fn new(policy: Arc<Sequence>, targets: (f32, f32)) -> Self {
        SequencePlay {
            policy,
            targets,
            memories: Vec::new(),
            scratch: Scratch::default(),
            state: Vec::new(),
            embedded: Vec::new(),
            cost: Vec::new(),
            normal: Vec::new(),
            product: Vec::new(),
            feature: Vec::new(),
        }
    }

    /// Embeds `input` as a token at `step`; what it is before the norm stays in `embedded`.
    fn embed(&mut self, row: usize, token: usize, step: usize, input: &[f32]) {
        let policy = &self.policy;
        let e = policy.transformer.embedding;
        let layer = &policy.embeddings[token];
        apply(policy.transformer.set, layer, input, &mut self.product, &mut self.embedded);
        let last = policy.time.len() / e - 1;
        let time = &policy.time[step.min(last) * e..][..e];
        self.embedded.iter_mut().zip(time).for_each(|(x, t)| *x += t);
        self.push(row);
    }

    /// Adds the embedded token to the row's window.
    fn push(&mut self, row: usize) {
        self.policy.transformer.norm_in.apply(self.policy.transformer.set, &self.embedded, &mut self.normal);
        self.memories[row].window.tokens.extend_from_slice(&self.normal);
    }

    /// Takes in what the environment answered, and the new state.
    fn observe(&mut self, row: usize, reward: f32, cost: f32) {
        let policy = Arc::clone(&self.policy);
        let e = policy.transformer.embedding;
        let prefix = usize::from(policy.prefix.is_some());
        let step = self.memories[row].step;
        if step == 0 {
            let memory = &mut self.memories[row];
            (memory.return_to_go, memory.cost_to_go) = self.targets;
            if let Some(layer) = &policy.prefix {
                let cost = [self.targets.1];
                apply(policy.transformer.set, layer, &cost, &mut self.product, &mut self.embedded);
                self.push(row);
            }
        } else {
            let memory = &mut self.memories[row];
            memory.return_to_go -= (f64::from(reward) * policy.reward_scale) as f32;
            memory.cost_to_go -= (f64::from(cost) * policy.cost_scale) as f32;
            let action = std::mem::take(&mut memory.action);
            self.embed(row, 3, step - 1, &action);
            let memory = &mut self.memories[row];
            memory.action = action;
            if memory.held == policy.context {
                memory.window.slide(prefix, STEP, e);
                memory.held -= 1;
            }
        }
        let Memory { return_to_go, cost_to_go, .. } = self.memories[row];
        self.embed(row, 0, step, &[return_to_go]);
        let state = std::mem::take(&mut self.state);
        self.embed(row, 1, step, &[policy.cost_offset + policy.cost_sign * cost_to_go]);
        std::mem::swap(&mut self.embedded, &mut self.cost);
        self.embed(row, 2, step, &state);
        self.state = state;
        let memory = &mut self.memories[row];
        memory.held += 1;
        memory.step += 1;
    }

    /// The action in [-1, 1] that follows the newest state.
    fn decide(&mut self, row: usize) {
        let policy = Arc::clone(&self.policy);
        let memory = &mut self.memories[row];
        policy.transformer.newest(&mut memory.window, &mut self.scratch, &mut self.feature);
        let (feature, cost) = (&mut self.feature, &self.cost);
        match policy.cost_feature {
            CostFeature::None => {}
            CostFeature::Add => feature.iter_mut().zip(cost).for_each(|(x, c)| *x += c),
            CostFeature::Multiply => feature.iter_mut().zip(cost).for_each(|(x, c)| *x *= c),
            CostFeature::Concatenate => feature.extend_from_slice(cost),
        }
        for (index, layer) in policy.head.iter().enumerate() {
            let set = policy.transformer.set;
            apply(set, layer, feature, &mut self.product, &mut self.normal);
            if index + 1 < policy.head.len() {
                gelu_in_place(set, &mut self.normal);
            }
            std::mem::swap(feature, &mut self.normal);
        }
        memory.action.clear();
        // NaN stays NaN, so that an overflow is found.
        memory.action.extend(feature.iter().map(|x| x.clamp(-1.0, 1.0)));
    }
}

impl Play for SequencePlay {
    fn reset(&mut self, rows: &[usize]) {
        for &row in rows {
            if let Some(memory) = self.memories.get_mut(row) {
                memory.window.clear();
                (memory.step, memory.held) = (0, 0);
            }
        }
    }

    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]) {
        let (obs_dim, act_dim) = (frame.obs_dim(), frame.act_dim());
        let rows = turn.observations.len() / obs_dim;
        if self.memories.len() < rows {
            self.memories.resize_with(rows, Memory::default);
        }
        let answer = |answers: &[f32], row: usize| answers.get(row).copied().unwrap_or(0.0);
        for (row, observation) in turn.observations.chunks_exact(obs_dim).enumerate() {
            self.state.resize(obs_dim, 0.0);
            frame.normalize(observation, &mut self.state);
            self.observe(row, answer(turn.rewards, row), answer(turn.costs, row));
            self.decide(row);
            let action = &self.memories[row].action;
            for (i, (out, &unit)) in out[row * act_dim..][..act_dim].iter_mut().zip(action).enumerate() {
                *out = frame.action(i, unit);
            }
        }
    }
}
