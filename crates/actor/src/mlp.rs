//! Kind `mlp`: a network of the observation, and where it has one of a setting the user conditions it on.

use std::collections::BTreeMap;
use std::sync::Arc;

use drcorl_kernels::InstructionSet;

use crate::actor::{Frame, Kind, Play, Turn};
use crate::error::Result;
use crate::file::Fields;
use crate::network::{Buffers, Hidden, Network, BLOCK};

/// How the network's outputs become actions in [-1, 1].
#[derive(Debug, Clone, Copy)]
enum Squash {
    Tanh,
    Clamp,
}

/// The network with its output rule.
#[derive(Debug)]
struct Mlp {
    network: Network,
    squash: Squash,
    /// Name, mean and standard deviation of a setting that follows the observation in the network's input.
    condition: Option<(String, f32, f32)>,
}

/// Reads the kind's own fields: `actor.*`, metadata `output_activation`,
/// and with metadata `condition` the tensor of that name.
pub(crate) fn read(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Arc<dyn Kind>> {
    fields.choice("hidden_activation", &[("relu", ())])?;
    let squash = fields.choice("output_activation", &[("tanh", Squash::Tanh), ("clamp", Squash::Clamp)])?;
    let condition = match fields.text("condition") {
        None => None,
        Some(name) => {
            fields.number(&format!("setting.{name}"))?;
            let scale = fields.vector("condition.scale", 2)?;
            Some((name.to_owned(), scale[0], scale[1]))
        }
    };
    let inputs = frame.obs_dim() + usize::from(condition.is_some());
    let network = Network::read(fields, "actor", inputs, frame.act_dim(), Hidden::Relu, set)?;
    Ok(Arc::new(Mlp { network, squash, condition }))
}

impl Kind for Mlp {
    fn remembers(&self) -> bool {
        false
    }

    fn play(self: Arc<Self>, settings: &BTreeMap<String, f64>) -> Box<dyn Play> {
        let condition = self.condition.as_ref().map(|(name, mean, std)| {
            let value = settings.get(name).copied().unwrap_or_default() as f32;
            (value - mean) / std
        });
        let buffers = Buffers::for_networks([&self.network], BLOCK);
        Box::new(MlpPlay { policy: self, condition, buffers })
    }
}

struct MlpPlay {
    policy: Arc<Mlp>,
    condition: Option<f32>,
    buffers: Buffers,
}

impl Play for MlpPlay {
    fn reset(&mut self, _rows: &[usize]) {}

    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]) {
        let (obs_dim, act_dim) = (frame.obs_dim(), frame.act_dim());
        let inputs = obs_dim + usize::from(self.condition.is_some());
        for (observations, out) in turn.observations.chunks(BLOCK * obs_dim).zip(out.chunks_mut(BLOCK * act_dim)) {
            let count = observations.len() / obs_dim;
            let rows = self.buffers.rows().chunks_exact_mut(inputs);
            for (row, observation) in rows.zip(observations.chunks_exact(obs_dim)) {
                frame.normalize(observation, row);
                if let Some(condition) = self.condition {
                    row[obs_dim] = condition;
                }
            }
            let stride = self.policy.network.run(&mut self.buffers, count);
            let results = self.buffers.rows().chunks_exact(stride);
            for (action, result) in out.chunks_exact_mut(act_dim).zip(results) {
                for (i, value) in action.iter_mut().enumerate() {
                    *value = match self.policy.squash {
                        Squash::Tanh => frame.action(i, result[i].tanh()),
                        // NaN stays NaN, so that an overflow is found.
                        Squash::Clamp => frame.action(i, result[i].clamp(-1.0, 1.0)),
                    };
                }
            }
        }
    }
}
