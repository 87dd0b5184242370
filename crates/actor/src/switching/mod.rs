//! Kind `switching`: several heads on one trunk, from the most rewarding to the safest; at every step critics choose
//! among them by what is left of the budget (CAPS).

use std::collections::BTreeMap;
use std::sync::Arc;

use drcorl_kernels::InstructionSet;

use crate::actor::{Frame, Kind, Play, Turn};
use crate::budget::{Exchange, Ledger};
use crate::error::{Error, Result};
use crate::file::Fields;
use crate::network::{Buffers, Hidden, Network, BLOCK};

/// Candidates `a_k = tanh(heads(trunk(s)))`; among those with `C_k = max Qc(a_k, s)` below the value of the remaining
/// budget the one with the highest `min Q(a_k, s)`, else the one with the lowest `C_k`. The reward critic is asked
/// where there are several of the former, and of those alone.
#[derive(Debug)]
struct Switching {
    /// Trunk and heads: the outputs are K times A.
    actor: Network,
    /// Members of the reward and of the cost critic.
    reward: Vec<Network>,
    cost: Vec<Network>,
    heads: usize,
    /// The least a cost is taken for; minus infinity where a critic's word stands.
    floor: f32,
    exchange: Exchange,
}

/// Number of the head to play: among those whose cost is below `limit` the one with the highest reward, where there is
/// none the one with the lowest cost; the first of equals. `rewards` and `costs` are `[K]`, K at least 1.
pub fn choose(rewards: &[f32], costs: &[f32], limit: f64) -> usize {
    let best = |better: &dyn Fn(usize, usize) -> bool, from: &mut dyn Iterator<Item = usize>| {
        from.fold(None, |best, k| if best.is_none_or(|best| better(k, best)) { Some(k) } else { best })
    };
    let mut feasible = (0..costs.len()).filter(|&k| f64::from(costs[k]) < limit);
    best(&|k, than| rewards[k] > rewards[than], &mut feasible)
        .or_else(|| best(&|k, than| costs[k] < costs[than], &mut (0..costs.len())))
        .unwrap_or_default()
}

/// Reads the kind's own fields.
pub(crate) fn read(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Arc<dyn Kind>> {
    let (states, actions) = (frame.obs_dim(), frame.act_dim());
    let heads = fields.count("heads")?;
    let critic = |name: &str| -> Result<Vec<Network>> {
        let members = (0..).map(|member| format!("{name}.{member}"));
        members
            .take_while(|member| *member == format!("{name}.0") || fields.has(&format!("{member}.0.weight")))
            .map(|member| Network::read(fields, &member, actions + states, 1, Hidden::Relu, set))
            .collect()
    };
    fields.number("setting.cost_limit")?;
    let floor = fields.choice("cost_floor", &[("none", f32::NEG_INFINITY), ("zero", 0.0)])?;
    if heads < 2 {
        return Err(Error::data("metadata heads", &format!("is {heads}, expected at least 2 to choose among")));
    }
    Ok(Arc::new(Switching {
        actor: Network::read(fields, "actor", states, heads * actions, Hidden::Relu, set)?,
        reward: critic("reward_critic")?,
        cost: critic("cost_critic")?,
        heads,
        floor,
        exchange: Exchange::read(fields)?,
    }))
}

impl Kind for Switching {
    fn remembers(&self) -> bool {
        true
    }

    fn play(self: Arc<Self>, settings: &BTreeMap<String, f64>) -> Box<dyn Play> {
        let critics = self.reward.iter().chain(&self.cost);
        let buffers = Buffers::for_networks([&self.actor].into_iter().chain(critics), BLOCK.max(self.heads));
        Box::new(SwitchingPlay {
            limit: settings.get("cost_limit").copied().unwrap_or_default(),
            policy: self,
            buffers,
            ledger: Ledger::default(),
            states: Vec::new(),
            actions: Vec::new(),
            rewards: Vec::new(),
            costs: Vec::new(),
            asked: Vec::new(),
        })
    }
}

struct SwitchingPlay {
    policy: Arc<Switching>,
    /// Costs an episode may have.
    limit: f64,
    buffers: Buffers,
    ledger: Ledger,
    /// Normalised observations of a block, `[rows, S]`.
    states: Vec<f32>,
    /// Of every head in a block, each row's next to each other: actions `[rows * K, A]`, and what the critics say.
    actions: Vec<f32>,
    rewards: Vec<f32>,
    costs: Vec<f32>,
    /// Of the block's heads those that a critic is asked about.
    asked: Vec<usize>,
}

impl Play for SwitchingPlay {
    fn reset(&mut self, rows: &[usize]) {
        self.ledger.reset(rows);
    }

    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]) {
        let (obs_dim, act_dim, heads) = (frame.obs_dim(), frame.act_dim(), self.policy.heads);
        let rows = turn.observations.len() / obs_dim;
        self.ledger.observe(&turn, rows);
        let block = (BLOCK / heads).max(1);
        for (index, out) in out.chunks_mut(block * act_dim).enumerate() {
            let (first, count) = (index * block, out.len() / act_dim);
            self.propose(frame, &turn.observations[first * obs_dim..][..count * obs_dim]);
            self.value_costs(obs_dim, act_dim, count * heads);
            self.value_rewards(obs_dim, act_dim, first);
            for (row, action) in out.chunks_exact_mut(act_dim).enumerate() {
                let head = self.choice(row, first + row);
                for (i, value) in action.iter_mut().enumerate() {
                    let unit = head.map_or(f32::NAN, |head| self.actions[(row * heads + head) * act_dim + i]);
                    *value = frame.action(i, unit);
                }
            }
        }
    }
}

impl SwitchingPlay {
    /// Value of the costs that row `index` of all may still have, in the critics' unit.
    fn allowed(&self, index: usize) -> f64 {
        let (step, spent) = self.ledger.at(index);
        self.policy.exchange.value(self.limit - spent, step)
    }

    /// The head for row `row` of the block, which is row `index` of all.
    /// None where an overflow left nothing to compare.
    fn choice(&self, row: usize, index: usize) -> Option<usize> {
        let heads = self.policy.heads;
        let (rewards, costs) = (&self.rewards[row * heads..][..heads], &self.costs[row * heads..][..heads]);
        let finite = rewards.iter().chain(costs).all(|value| value.is_finite());
        finite.then(|| choose(rewards, costs, self.allowed(index)))
    }

    /// Fills `actions` for a block of observations.
    fn propose(&mut self, frame: &Frame, observations: &[f32]) {
        let policy = Arc::clone(&self.policy);
        let (obs_dim, act_dim, heads) = (frame.obs_dim(), frame.act_dim(), policy.heads);
        let count = observations.len() / obs_dim;
        self.states.resize(observations.len(), 0.0);
        for (state, observation) in self.states.chunks_exact_mut(obs_dim).zip(observations.chunks_exact(obs_dim)) {
            frame.normalize(observation, state);
        }
        self.buffers.rows()[..self.states.len()].copy_from_slice(&self.states);
        let stride = policy.actor.run(&mut self.buffers, count);
        self.actions.resize(count * heads * act_dim, 0.0);
        let outputs = self.buffers.rows().chunks_exact(stride);
        for (actions, outputs) in self.actions.chunks_exact_mut(heads * act_dim).zip(outputs) {
            actions.iter_mut().zip(outputs).for_each(|(a, x)| *a = x.tanh());
        }
    }

    /// Fills `costs` for the `total` heads of a block.
    fn value_costs(&mut self, obs_dim: usize, act_dim: usize, total: usize) {
        let policy = Arc::clone(&self.policy);
        self.costs.clear();
        self.costs.resize(total, policy.floor);
        self.asked.clear();
        self.asked.extend(0..total);
        for member in &policy.cost {
            let stride = self.judge(member, obs_dim, act_dim);
            let values = self.buffers.rows().chunks_exact(stride);
            self.costs.iter_mut().zip(values).for_each(|(high, value)| *high = -lower(-*high, -value[0]));
        }
    }

    /// Fills `rewards` of the heads that a choice is left among, for a block whose first row is row `first` of all; the
    /// others' are 0.
    fn value_rewards(&mut self, obs_dim: usize, act_dim: usize, first: usize) {
        let policy = Arc::clone(&self.policy);
        let mut asked = std::mem::take(&mut self.asked);
        asked.clear();
        for (row, costs) in self.costs.chunks_exact(policy.heads).enumerate() {
            let (limit, before) = (self.allowed(first + row), asked.len());
            let within = costs.iter().enumerate().filter(|(_, &cost)| f64::from(cost) < limit);
            asked.extend(within.map(|(head, _)| row * policy.heads + head));
            if asked.len() == before + 1 {
                asked.truncate(before);
            }
        }
        self.asked = asked;
        self.rewards.clear();
        self.rewards.resize(self.costs.len(), 0.0);
        if self.asked.is_empty() {
            return;
        }
        self.asked.iter().for_each(|&head| self.rewards[head] = f32::INFINITY);
        for member in &policy.reward {
            let stride = self.judge(member, obs_dim, act_dim);
            let values = self.buffers.rows().chunks_exact(stride);
            for (&head, value) in self.asked.iter().zip(values) {
                self.rewards[head] = lower(self.rewards[head], value[0]);
            }
        }
    }

    /// Takes every head of `asked` through one critic; `buffers` then holds its values, with the stride it returns.
    fn judge(&mut self, member: &Network, obs_dim: usize, act_dim: usize) -> usize {
        let inputs = self.buffers.rows().chunks_exact_mut(act_dim + obs_dim);
        for (input, &head) in inputs.zip(&self.asked) {
            input[..act_dim].copy_from_slice(&self.actions[head * act_dim..][..act_dim]);
            input[act_dim..].copy_from_slice(&self.states[head / self.policy.heads * obs_dim..][..obs_dim]);
        }
        member.run(&mut self.buffers, self.asked.len())
    }
}

/// The lower of two; NaN, which `f32::min` passes over, where one of them is.
fn lower(a: f32, b: f32) -> f32 {
    if a.is_nan() || a <= b {
        a
    } else {
        b
    }
}

#[cfg(test)]
mod tests;
