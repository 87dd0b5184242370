//! A `diffusion` policy at play: candidates of one row or several, block by block through all levels.

use std::sync::Arc;

use drcorl_kernels::activations::mish_in_place;
use drcorl_kernels::affine::{affine, Layer, Rows};
use drcorl_kernels::norms::layer_norm_rows;

use super::{Block, Choice, Denoiser, Diffusion, Ranking};
use crate::actor::{Frame, Play, Turn};
use crate::draws::Draws;
use crate::network::{Buffers, Network, BLOCK};

/// How good an action is: of two, the one of the higher class, in a class the one of the higher value.
type Score = (u8, f32);

/// Activations of a block of candidates.
struct Scratch {
    joined: Vec<f32>,
    trunk: Vec<f32>,
    normal: Vec<f32>,
    wide: Vec<f32>,
    narrow: Vec<f32>,
}

impl Scratch {
    fn of(denoiser: &Denoiser) -> Self {
        let rows = |width: usize| vec![0.0; BLOCK * width];
        let inner = denoiser.blocks.iter().map(|block| block.inner.width()).max().unwrap_or(0);
        let hidden = denoiser.input.width();
        Scratch {
            joined: rows(denoiser.input.inputs()),
            trunk: rows(hidden),
            normal: rows(hidden),
            wide: rows(inner),
            narrow: rows(hidden.max(denoiser.output.width())),
        }
    }
}

pub(super) struct DiffusionPlay {
    policy: Arc<Diffusion>,
    scratch: Scratch,
    buffers: Buffers,
    /// Step of its episode a row is at.
    steps: Vec<u64>,
    /// Of every candidate of a block: normalised observation `[S]`, action `[A]`, noise to come `[T, A]`.
    states: Vec<f32>,
    actions: Vec<f32>,
    noise: Vec<f32>,
    reward: Vec<f32>,
    violation: Vec<f32>,
}

impl DiffusionPlay {
    pub fn new(policy: Arc<Diffusion>) -> Self {
        let critics = policy.ranking.iter().flat_map(|ranking| ranking.reward.iter().chain(&ranking.feasibility));
        DiffusionPlay {
            scratch: Scratch::of(&policy.denoiser),
            buffers: Buffers::for_networks(critics, BLOCK),
            steps: Vec::new(),
            states: Vec::new(),
            actions: Vec::new(),
            noise: Vec::new(),
            reward: vec![0.0; BLOCK],
            violation: vec![0.0; BLOCK],
            policy,
        }
    }

    /// Takes the actions of `count` candidates from noise to what may be played.
    fn denoise(&mut self, act_dim: usize, obs_dim: usize, count: usize) {
        let (policy, levels) = (Arc::clone(&self.policy), self.policy.levels.len());
        for (taken, (index, level)) in policy.levels.iter().enumerate().rev().enumerate() {
            self.join(act_dim, obs_dim, count);
            let stride = policy.denoiser.run(&mut self.scratch, index, count);
            let predicted = self.scratch.narrow.chunks_exact(stride);
            let chains = self.noise.chunks_exact(levels * act_dim);
            for ((action, predicted), chain) in self.actions.chunks_exact_mut(act_dim).zip(predicted).zip(chains) {
                for (i, x) in action.iter_mut().enumerate() {
                    *x = (*x - level.pull * predicted[i]) * level.gain;
                    if index > 0 {
                        *x += level.spread * chain[(taken + 1) * act_dim + i];
                    }
                    if policy.clip_levels || index == 0 {
                        *x = x.clamp(-1.0, 1.0);
                    }
                }
            }
        }
    }

    /// Writes `[action, state]` of every candidate where the denoiser reads its input.
    fn join(&mut self, act_dim: usize, obs_dim: usize, count: usize) {
        let rows = self.scratch.joined.chunks_exact_mut(act_dim + obs_dim).take(count);
        let inputs = self.actions.chunks_exact(act_dim).zip(self.states.chunks_exact(obs_dim));
        for (row, (action, state)) in rows.zip(inputs) {
            row[..act_dim].copy_from_slice(action);
            row[act_dim..].copy_from_slice(state);
        }
    }

    /// Values of `count` candidates, which `scratch.joined` holds, by the critics that the choice asks.
    fn value(&mut self, ranking: &Ranking, count: usize) {
        let DiffusionPlay { buffers, scratch, reward, violation, .. } = self;
        let of = |buffers: &mut Buffers, member: &Network, out: &mut [f32], pick: fn(f32, f32) -> f32| {
            let inputs = &scratch.joined[..count * member.inputs()];
            buffers.rows()[..inputs.len()].copy_from_slice(inputs);
            let stride = member.run(buffers, count);
            out.iter_mut()
                .zip(buffers.rows().chunks_exact(stride))
                .for_each(|(out, value)| *out = pick(*out, value[0]));
        };
        reward[..count].fill(f32::INFINITY);
        violation[..count].fill(f32::NEG_INFINITY);
        if ranking.choice != Choice::Safest {
            ranking.reward.iter().for_each(|member| of(buffers, member, &mut reward[..count], f32::min));
        }
        if ranking.choice != Choice::Best {
            ranking.feasibility.iter().for_each(|member| of(buffers, member, &mut violation[..count], f32::max));
        }
    }

    fn score(&self, candidate: usize) -> Score {
        let Some(ranking) = &self.policy.ranking else { return (0, 0.0) };
        let (reward, violation) = (self.reward[candidate], self.violation[candidate]);
        match ranking.choice {
            Choice::Safest => (0, -violation),
            Choice::Best => (0, reward),
            Choice::Feasible if violation <= ranking.threshold => (1, reward),
            Choice::Feasible => (0, -violation),
        }
    }
}

impl Play for DiffusionPlay {
    fn reset(&mut self, rows: &[usize]) {
        for &row in rows {
            if let Some(step) = self.steps.get_mut(row) {
                *step = 0;
            }
        }
    }

    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]) {
        let policy = Arc::clone(&self.policy);
        let (obs_dim, act_dim, candidates) = (frame.obs_dim(), frame.act_dim(), policy.candidates);
        let levels = policy.levels.len();
        let rows = turn.observations.len() / obs_dim;
        if self.steps.len() < rows {
            self.steps.resize(rows, 0);
        }
        let mut draws = Draws::new(policy.seed, 0, &[]);
        let mut best: Score = (0, f32::NEG_INFINITY);
        for first in (0..rows * candidates).step_by(BLOCK) {
            let count = BLOCK.min(rows * candidates - first);
            self.states.resize(count * obs_dim, 0.0);
            self.actions.resize(count * act_dim, 0.0);
            self.noise.resize(count * levels * act_dim, 0.0);
            for place in 0..count {
                let (row, candidate) = ((first + place) / candidates, (first + place) % candidates);
                let state = &mut self.states[place * obs_dim..][..obs_dim];
                frame.normalize(&turn.observations[row * obs_dim..][..obs_dim], state);
                if candidate == 0 {
                    draws = Draws::new(policy.seed, self.steps[row], state);
                }
                let chain = &mut self.noise[place * levels * act_dim..][..levels * act_dim];
                chain.fill_with(|| draws.normal());
                self.actions[place * act_dim..][..act_dim].copy_from_slice(&chain[..act_dim]);
            }
            self.denoise(act_dim, obs_dim, count);
            if let Some(ranking) = &policy.ranking {
                self.join(act_dim, obs_dim, count);
                self.value(ranking, count);
            }
            for place in 0..count {
                let (row, candidate) = ((first + place) / candidates, (first + place) % candidates);
                let score = self.score(place);
                if candidate == 0 || score > best {
                    best = score;
                    let action = &self.actions[place * act_dim..][..act_dim];
                    for (i, value) in out[row * act_dim..][..act_dim].iter_mut().enumerate() {
                        *value = frame.action(i, action[i]);
                    }
                }
            }
        }
        self.steps[..rows].iter_mut().for_each(|step| *step += 1);
    }
}

impl Denoiser {
    /// Predicts the noise of `count` rows of `scratch.joined` at level `level`, into rows of `scratch.narrow`; returns
    /// their stride.
    fn run(&self, scratch: &mut Scratch, level: usize, count: usize) -> usize {
        let (hidden, stride) = (self.input.outputs(), self.input.width());
        let Scratch { joined, trunk, normal, wide, narrow } = scratch;
        let through = |layer: &Layer, values: &[f32], stride: usize, out: &mut [f32]| {
            affine(self.set, layer, false, Rows { values, stride, count }, out);
        };
        through(&self.input, joined, self.input.inputs(), trunk);
        let level = &self.level_bias[level * hidden..][..hidden];
        for row in trunk.chunks_exact_mut(stride).take(count) {
            row.iter_mut().zip(level).for_each(|(x, bias)| *x += bias);
        }
        for Block { weight, bias, inner, outer } in &self.blocks {
            for (row, out) in trunk.chunks_exact(stride).zip(normal.chunks_exact_mut(stride)).take(count) {
                layer_norm_rows(self.set, &row[..hidden], weight, bias, self.norm_eps, &mut out[..hidden]);
            }
            through(inner, normal, stride, wide);
            mish_in_place(self.set, &mut wide[..count * inner.width()]);
            through(outer, wide, inner.width(), narrow);
            let sums = trunk[..count * stride].iter_mut().zip(narrow.iter());
            sums.for_each(|(x, change)| *x += change);
        }
        mish_in_place(self.set, &mut trunk[..count * stride]);
        through(&self.output, trunk, stride, narrow);
        self.output.width()
    }
}
