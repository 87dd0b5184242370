//! Kind `latent`: actions decoded from latent draws and perturbed (BCQ),
//! the best of several by critics where the file has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use drcorl_kernels::InstructionSet;

use crate::actor::{Frame, Kind, Play, Turn};
use crate::draws::Draws;
use crate::error::{Error, Result};
use crate::file::Fields;
use crate::network::{Buffers, Hidden, Network, BLOCK};

/// `b = tanh(decoder([z, s]))`, `a = clip(b + phi tanh(perturbation([b, s])), -1, 1)` with
/// `z ~ clip(N(0, 1), -bound, bound)`; of `candidates` such actions the one with the highest
/// `min Q(a, s) - multiplier max Qc(a, s)`.
#[derive(Debug)]
struct Latent {
    decoder: Network,
    perturbation: Network,
    /// Members of the reward and of the cost critic; both empty where there is one candidate.
    reward: Vec<Network>,
    cost: Vec<Network>,
    latents: usize,
    bound: f32,
    phi: f32,
    multiplier: f32,
    candidates: usize,
    seed: u64,
}

/// Reads the kind's own fields.
pub(crate) fn read(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Arc<dyn Kind>> {
    let (states, actions) = (frame.obs_dim(), frame.act_dim());
    let hidden = fields.choice("perturbation_activation", &[("relu", Hidden::Relu), ("tanh", Hidden::Tanh)])?;
    let (latents, candidates) = (fields.count("latents")?, fields.count("candidates")?);
    let critic = |name: &str| -> Result<Vec<Network>> {
        let members = (0..).map(|member| format!("{name}.{member}"));
        members
            .take_while(|member| fields.has(&format!("{member}.0.weight")))
            .map(|member| Network::read(fields, &member, actions + states, 1, Hidden::Relu, set))
            .collect()
    };
    let latent = Latent {
        decoder: Network::read(fields, "decoder", latents + states, actions, Hidden::Relu, set)?,
        perturbation: Network::read(fields, "perturbation", actions + states, actions, hidden, set)?,
        reward: critic("reward_critic")?,
        cost: critic("cost_critic")?,
        latents,
        bound: fields.number("latent_bound")? as f32,
        phi: fields.number("phi")? as f32,
        multiplier: fields.number("multiplier")? as f32,
        candidates,
        seed: fields.whole("seed")?,
    };
    if candidates > 1 && (latent.reward.is_empty() || latent.cost.is_empty()) {
        let text = "is missing: a choice among candidates needs both critics; use a policy file written by drcorl";
        return Err(Error::data("reward_critic.0.0.weight or cost_critic.0.0.weight", text));
    }
    if latent.bound <= 0.0 {
        return Err(Error::data("metadata latent_bound", &format!("is {}, expected a positive number", latent.bound)));
    }
    Ok(Arc::new(latent))
}

impl Kind for Latent {
    fn remembers(&self) -> bool {
        false
    }

    fn play(self: Arc<Self>, _settings: &BTreeMap<String, f64>) -> Box<dyn Play> {
        let critics = self.reward.iter().chain(&self.cost);
        let rows = BLOCK.max(self.candidates);
        let buffers = Buffers::for_networks([&self.decoder, &self.perturbation].into_iter().chain(critics), rows);
        Box::new(LatentPlay {
            policy: self,
            buffers,
            steps: Vec::new(),
            states: Vec::new(),
            actions: Vec::new(),
            scores: Vec::new(),
            worst: Vec::new(),
        })
    }
}

struct LatentPlay {
    policy: Arc<Latent>,
    buffers: Buffers,
    /// Step of its episode a row is at.
    steps: Vec<u64>,
    /// Normalised observations of a block, `[rows, S]`.
    states: Vec<f32>,
    /// Candidates of a block, `[rows * n, A]`, each row's next to each other.
    actions: Vec<f32>,
    /// Reward value less the weighted cost value of every candidate, and its highest cost value.
    scores: Vec<f32>,
    worst: Vec<f32>,
}

impl Play for LatentPlay {
    fn reset(&mut self, rows: &[usize]) {
        for &row in rows {
            if let Some(step) = self.steps.get_mut(row) {
                *step = 0;
            }
        }
    }

    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]) {
        let (obs_dim, act_dim, candidates) = (frame.obs_dim(), frame.act_dim(), self.policy.candidates);
        let rows = turn.observations.len() / obs_dim;
        if self.steps.len() < rows {
            self.steps.resize(rows, 0);
        }
        let block = (BLOCK / candidates).max(1);
        for (index, out) in out.chunks_mut(block * act_dim).enumerate() {
            let first = index * block;
            let count = out.len() / act_dim;
            self.propose(frame, &turn.observations[first * obs_dim..][..count * obs_dim], first);
            for (row, action) in out.chunks_exact_mut(act_dim).enumerate() {
                let best = row * candidates + if candidates > 1 { self.best(row) } else { 0 };
                for (i, value) in action.iter_mut().enumerate() {
                    *value = frame.action(i, self.actions[best * act_dim + i]);
                }
            }
        }
        self.steps[..rows].iter_mut().for_each(|step| *step += 1);
    }
}

impl LatentPlay {
    /// Fills `actions`, and with several candidates `scores`, for a block of observations whose first row is `first`.
    fn propose(&mut self, frame: &Frame, observations: &[f32], first: usize) {
        let policy = Arc::clone(&self.policy);
        let (obs_dim, act_dim, candidates) = (frame.obs_dim(), frame.act_dim(), policy.candidates);
        let count = observations.len() / obs_dim;
        self.states.resize(observations.len(), 0.0);
        for (state, observation) in self.states.chunks_exact_mut(obs_dim).zip(observations.chunks_exact(obs_dim)) {
            frame.normalize(observation, state);
        }
        let inputs = self.buffers.rows().chunks_exact_mut((policy.latents + obs_dim) * candidates);
        for ((input, state), row) in inputs.zip(self.states.chunks_exact(obs_dim)).zip(first..) {
            let mut draws = Draws::new(policy.seed, self.steps[row], state);
            for candidate in input.chunks_exact_mut(policy.latents + obs_dim) {
                let (latent, rest) = candidate.split_at_mut(policy.latents);
                latent.fill_with(|| draws.normal().clamp(-policy.bound, policy.bound));
                rest.copy_from_slice(state);
            }
        }
        self.actions.resize(count * candidates * act_dim, 0.0);
        let stride = policy.decoder.run(&mut self.buffers, count * candidates);
        let decoded = self.buffers.rows().chunks_exact(stride);
        for (action, raw) in self.actions.chunks_exact_mut(act_dim).zip(decoded) {
            action.iter_mut().zip(raw).for_each(|(a, x)| *a = x.tanh());
        }
        self.join(obs_dim, act_dim);
        let stride = policy.perturbation.run(&mut self.buffers, count * candidates);
        let shifts = self.buffers.rows().chunks_exact(stride);
        for (action, raw) in self.actions.chunks_exact_mut(act_dim).zip(shifts) {
            action.iter_mut().zip(raw).for_each(|(a, x)| *a = (*a + policy.phi * x.tanh()).clamp(-1.0, 1.0));
        }
        if candidates > 1 {
            self.score(obs_dim, act_dim, count * candidates);
        }
    }

    /// `min Q - multiplier max Qc` of every candidate.
    fn score(&mut self, obs_dim: usize, act_dim: usize, count: usize) {
        let policy = Arc::clone(&self.policy);
        self.scores.clear();
        self.scores.resize(count, f32::INFINITY);
        for member in &policy.reward {
            self.join(obs_dim, act_dim);
            let stride = member.run(&mut self.buffers, count);
            let values = self.buffers.rows().chunks_exact(stride);
            self.scores.iter_mut().zip(values).for_each(|(score, value)| *score = score.min(value[0]));
        }
        self.worst.clear();
        self.worst.resize(count, f32::NEG_INFINITY);
        for member in &policy.cost {
            self.join(obs_dim, act_dim);
            let stride = member.run(&mut self.buffers, count);
            let values = self.buffers.rows().chunks_exact(stride);
            self.worst.iter_mut().zip(values).for_each(|(worst, value)| *worst = worst.max(value[0]));
        }
        self.scores.iter_mut().zip(&self.worst).for_each(|(score, cost)| *score -= policy.multiplier * cost);
    }

    /// Writes `[action, state]` of every candidate where a network reads its input.
    fn join(&mut self, obs_dim: usize, act_dim: usize) {
        let rows = self.buffers.rows().chunks_exact_mut(act_dim + obs_dim);
        for (index, (row, action)) in rows.zip(self.actions.chunks_exact(act_dim)).enumerate() {
            let state = index / self.policy.candidates * obs_dim;
            row[..act_dim].copy_from_slice(action);
            row[act_dim..].copy_from_slice(&self.states[state..][..obs_dim]);
        }
    }

    /// Number of the best candidate of a row; the first of equals.
    fn best(&self, row: usize) -> usize {
        let scores = &self.scores[row * self.policy.candidates..][..self.policy.candidates];
        (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
    }
}

#[cfg(test)]
mod tests;
