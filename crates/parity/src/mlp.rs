//! Names of plain MLPs in fixtures: layers are numbered 0, 2, 4.. (activations take the odd numbers).

use super::{Record, Tensors};
use drcorl_core::error::{Error, Result};
use drcorl_nn::Arena;

/// Where one network of a fixture lives in an arena.
pub struct Mlp {
    /// Name in the fixture, for example `critic.q0.q1`.
    pub fixture: String,
    /// Name of the ensemble in the arena, for example `reward_q`.
    pub arena: &'static str,
    pub member: i64,
}

impl Mlp {
    pub fn new(fixture: impl Into<String>, arena: &'static str, member: i64) -> Self {
        Mlp { fixture: fixture.into(), arena, member }
    }

    /// Layer widths [in, hidden.., out] of the stored network.
    pub fn widths(fixture: &str, init: &Tensors) -> Result<Vec<i64>> {
        let mut widths = vec![init.get(&format!("{fixture}.0.weight"))?.size()[1]];
        let mut layer = 0;
        while init.has(&format!("{fixture}.{layer}.weight")) {
            widths.push(init.get(&format!("{fixture}.{layer}.weight"))?.size()[0]);
            layer += 2;
        }
        Ok(widths)
    }

    fn pairs(&self, arena: &Arena) -> Vec<(String, String)> {
        arena
            .names()
            .filter_map(|name| {
                let rest = name.strip_prefix(self.arena)?.strip_prefix('.')?;
                let (layer, kind) = rest.split_once('.')?;
                let layer: usize = layer.parse().ok()?;
                Some((format!("{}.{}.{kind}", self.fixture, 2 * layer), name.to_string()))
            })
            .collect()
    }

    /// Copies the stored parameters into the arena.
    pub fn load(&self, arena: &mut Arena, init: &Tensors) -> Result<()> {
        for (fixture, name) in self.pairs(arena) {
            let stored = init.get(&fixture)?;
            let view = arena.named(&name).ok_or_else(|| Error::Data(name.clone()))?.0.select(0, self.member);
            if view.size() != stored.size() {
                return Err(Error::Shape(format!("{fixture} is {:?}, {name} needs {:?}", stored.size(), view.size())));
            }
            view.shallow_clone().copy_(stored);
        }
        Ok(())
    }

    /// Current values under the fixture's names.
    pub fn values(&self, arena: &Arena) -> Record {
        self.read(arena, "", false)
    }

    /// Current gradients under `grad/` and the fixture's names.
    pub fn gradients(&self, arena: &Arena) -> Record {
        self.read(arena, "grad/", true)
    }

    fn read(&self, arena: &Arena, prefix: &str, gradient: bool) -> Record {
        let pick = |name: &str| {
            arena.named(name).map(|(value, grad)| if gradient { grad } else { value }.select(0, self.member).copy())
        };
        self.pairs(arena)
            .into_iter()
            .filter_map(|(fixture, name)| Some((format!("{prefix}{fixture}"), pick(&name)?)))
            .collect()
    }
}
