//! Kind `mixture`: several policies of kind `mlp` or `gaussian` with weights; at the start of an episode one is drawn,
//! and plays all of it.
//!
//! The draw is keyed on the policy's seed, the seed of the episode where the caller has one, and its first observation:
//! a row is played by the same member alone and in any batch, and an evaluation repeats exactly. By the observation
//! alone, an environment that always begins in the same state would always meet the same member.

use std::collections::BTreeMap;
use std::sync::Arc;

use drcorl_kernels::InstructionSet;

use crate::actor::{Frame, Kind, Play, Read, Turn};
use crate::draws::Draws;
use crate::error::{Error, Result};
use crate::file::Fields;
use crate::{gaussian, mlp};

/// Kinds whose action depends on nothing but the observation, chance and the step.
const MEMBERS: &[(&str, Read)] = &[("mlp", mlp::read), ("gaussian", gaussian::read)];

#[derive(Debug)]
struct Mixture {
    members: Vec<Arc<dyn Kind>>,
    /// Sums of the weights up to and with each member, `[K]`.
    sums: Vec<f64>,
    seed: u64,
}

/// Reads the kind's own fields: tensor `weights [K]`, metadata `member_kind` and `seed`, and of every member k the
/// tensors of its kind under `member.k.`; its metadata are common to all.
pub(crate) fn read(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Arc<dyn Kind>> {
    let read = fields.choice("member_kind", MEMBERS)?;
    let weights = &fields.tensor("weights", 1)?.values;
    if let Some((k, weight)) = weights.iter().enumerate().find(|(_, &weight)| weight <= 0.0) {
        return Err(Error::data("weights", &format!("value {k} is {weight}, not positive")));
    }
    let sums: Vec<f64> = (weights.iter())
        .scan(0.0, |sum, &weight| {
            *sum += f64::from(weight);
            Some(*sum)
        })
        .collect();
    if sums.is_empty() {
        return Err(Error::shape("weights", "has no entries"));
    }
    let member = |k: usize| {
        let prefix = format!("member.{k}.");
        read(&fields.within(&prefix), frame, set).map_err(|error| error.in_part(&prefix))
    };
    let members = (0..sums.len()).map(member).collect::<Result<_>>()?;
    Ok(Arc::new(Mixture { members, sums, seed: fields.whole("seed")? }))
}

impl Mixture {
    /// The member for an episode of that seed that begins at the normalised `observation`.
    fn draw(&self, seed: u64, observation: &[f32]) -> usize {
        let last = self.sums.len() - 1;
        let point = Draws::new(self.seed, seed, observation).unit() * self.sums[last];
        self.sums[..last].iter().position(|&sum| point < sum).unwrap_or(last)
    }
}

impl Kind for Mixture {
    fn remembers(&self) -> bool {
        true
    }

    fn refuses(&self, name: &str, value: f64) -> Option<String> {
        self.members[0].refuses(name, value)
    }

    fn play(self: Arc<Self>, settings: &BTreeMap<String, f64>) -> Box<dyn Play> {
        let members = self.members.iter().map(|member| Arc::clone(member).play(settings)).collect();
        Box::new(MixturePlay { policy: self, members, rows: Vec::new(), turn: Gathered::default() })
    }
}

/// One row's episode.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    seed: u64,
    step: u64,
    /// Who plays it; none before its first step.
    member: Option<usize>,
}

/// The rows that one member plays, next to each other.
#[derive(Debug, Default)]
struct Gathered {
    rows: Vec<usize>,
    steps: Vec<u64>,
    observations: Vec<f32>,
    actions: Vec<f32>,
}

impl Gathered {
    /// Room for all of `rows` rows, so that a member that comes to play more of them allocates nothing.
    fn reserve(&mut self, rows: usize, (obs_dim, act_dim): (usize, usize)) {
        fn hold<T>(values: &mut Vec<T>, count: usize) {
            values.reserve(count.saturating_sub(values.len()));
        }
        hold(&mut self.rows, rows);
        hold(&mut self.steps, rows);
        hold(&mut self.observations, rows * obs_dim);
        hold(&mut self.actions, rows * act_dim);
    }
}

struct MixturePlay {
    policy: Arc<Mixture>,
    members: Vec<Box<dyn Play>>,
    rows: Vec<Row>,
    turn: Gathered,
}

impl Play for MixturePlay {
    fn reset(&mut self, rows: &[usize]) {
        self.begin(rows, &[]);
    }

    fn begin(&mut self, rows: &[usize], seeds: &[u64]) {
        for (index, &row) in rows.iter().enumerate() {
            let seed = seeds.get(index).copied().unwrap_or_default();
            // A row without a seed needs no entry before it acts; one number too large must not take the memory.
            if seed != 0 && row < MOST_SEEDED && self.rows.len() <= row {
                self.rows.resize(row + 1, Row::default());
            }
            if let Some(entry) = self.rows.get_mut(row) {
                *entry = Row { seed, ..Row::default() };
            }
        }
    }

    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]) {
        let (obs_dim, act_dim) = (frame.obs_dim(), frame.act_dim());
        let rows = turn.observations.len() / obs_dim;
        if self.rows.len() < rows {
            self.rows.resize(rows, Row::default());
        }
        let observation = |row: usize| &turn.observations[row * obs_dim..][..obs_dim];
        let gathered = &mut self.turn;
        for (row, entry) in self.rows[..rows].iter_mut().enumerate().filter(|(_, entry)| entry.member.is_none()) {
            gathered.observations.resize(obs_dim, 0.0);
            frame.normalize(observation(row), &mut gathered.observations);
            entry.member = Some(self.policy.draw(entry.seed, &gathered.observations[..obs_dim]));
        }
        gathered.reserve(rows, (obs_dim, act_dim));
        for (index, member) in self.members.iter_mut().enumerate() {
            gathered.rows.clear();
            gathered.steps.clear();
            gathered.observations.clear();
            for (row, entry) in self.rows[..rows].iter().enumerate().filter(|(_, entry)| entry.member == Some(index)) {
                gathered.rows.push(row);
                gathered.steps.push(entry.step);
                gathered.observations.extend_from_slice(observation(row));
            }
            gathered.actions.resize(gathered.rows.len() * act_dim, 0.0);
            member.act_at(frame, &gathered.steps, Turn::first(&gathered.observations), &mut gathered.actions);
            for (&row, action) in gathered.rows.iter().zip(gathered.actions.chunks_exact(act_dim)) {
                out[row * act_dim..][..act_dim].copy_from_slice(action);
            }
        }
        self.rows[..rows].iter_mut().for_each(|row| row.step += 1);
    }
}

/// Rows whose seeds are kept before they act: more are never played side by side.
const MOST_SEEDED: usize = 1 << 20;

#[cfg(test)]
mod tests;
