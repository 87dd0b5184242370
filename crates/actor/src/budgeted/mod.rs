//! Kind `budgeted`: a network of the observation and of what is left of the limit on costs (CCAC).

use std::collections::BTreeMap;
use std::sync::Arc;

use drcorl_kernels::InstructionSet;

use crate::actor::{Frame, Kind, Play, Turn};
use crate::budget::{Exchange, Ledger};
use crate::error::Result;
use crate::file::Fields;
use crate::network::{Buffers, Hidden, Network, BLOCK};

/// `a = tanh(actor([s, kappa]))`, kappa what is left of the limit, never below 0, or the cost value of that.
#[derive(Debug)]
struct Budgeted {
    actor: Network,
    exchange: Exchange,
    /// True if the network reads cost values.
    value: bool,
}

/// Reads the kind's own fields.
pub(crate) fn read(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Arc<dyn Kind>> {
    fields.number("setting.cost_limit")?;
    Ok(Arc::new(Budgeted {
        actor: Network::read(fields, "actor", frame.obs_dim() + 1, frame.act_dim(), Hidden::Relu, set)?,
        exchange: Exchange::read(fields)?,
        value: fields.choice("budget", &[("value", true), ("remaining", false)])?,
    }))
}

impl Kind for Budgeted {
    fn remembers(&self) -> bool {
        true
    }

    fn play(self: Arc<Self>, settings: &BTreeMap<String, f64>) -> Box<dyn Play> {
        Box::new(BudgetedPlay {
            limit: settings.get("cost_limit").copied().unwrap_or_default(),
            buffers: Buffers::for_networks([&self.actor], BLOCK),
            ledger: Ledger::default(),
            policy: self,
        })
    }
}

struct BudgetedPlay {
    policy: Arc<Budgeted>,
    /// Costs an episode may have.
    limit: f64,
    buffers: Buffers,
    ledger: Ledger,
}

impl Play for BudgetedPlay {
    fn reset(&mut self, rows: &[usize]) {
        self.ledger.reset(rows);
    }

    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]) {
        let (obs_dim, act_dim) = (frame.obs_dim(), frame.act_dim());
        self.ledger.observe(&turn, turn.observations.len() / obs_dim);
        let Budgeted { actor, exchange, value } = &*self.policy;
        let blocks = turn.observations.chunks(BLOCK * obs_dim).zip(out.chunks_mut(BLOCK * act_dim));
        for (block, (observations, out)) in blocks.enumerate() {
            let inputs = self.buffers.rows().chunks_exact_mut(obs_dim + 1);
            for (row, (input, observation)) in inputs.zip(observations.chunks_exact(obs_dim)).enumerate() {
                let (step, spent) = self.ledger.at(block * BLOCK + row);
                let left = (self.limit - spent).max(0.0);
                frame.normalize(observation, input);
                input[obs_dim] = if *value { exchange.value(left, step) } else { exchange.scaled(left) } as f32;
            }
            let stride = actor.run(&mut self.buffers, observations.len() / obs_dim);
            let results = self.buffers.rows().chunks_exact(stride);
            for (action, result) in out.chunks_exact_mut(act_dim).zip(results) {
                for (i, value) in action.iter_mut().enumerate() {
                    *value = frame.action(i, result[i].tanh());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
