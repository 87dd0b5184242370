//! A policy that exists only as a file: `drcorl-actor` plays it for everyone, the offline judges included.

use super::{host, FrozenPolicy, Player, Turn};
use crate::error::{Error, Result};
use drcorl_actor::{Actor, PolicyFile};
use tch::{Kind, Tensor};

/// A file without normaliser and action box, and its actor on normalised observations with actions in [-1,1].
pub struct PlayedFile {
    file: PolicyFile,
    actor: Actor,
    remembers: bool,
}

impl PlayedFile {
    /// Of a policy of `states` observations and `actions`, which remembers its episode or not. Errs if the actor cannot
    /// read it.
    pub fn new(file: PolicyFile, states: usize, actions: usize, remembers: bool) -> Result<PlayedFile> {
        let mut framed = file.clone();
        for (name, width, value) in [
            ("observation.mean", states, 0.0),
            ("observation.std", states, 1.0),
            ("action.low", actions, -1.0),
            ("action.high", actions, 1.0),
        ] {
            framed.insert(name, &[width], vec![value; width]);
        }
        let actor = Actor::new(&framed).map_err(|error| Error::Data(error.to_string()))?;
        Ok(PlayedFile { file, actor, remembers })
    }
}

/// The actor at play on tensors.
struct TensorPlayer {
    player: drcorl_actor::Player,
    actions: usize,
}

impl Player for TensorPlayer {
    fn act(&mut self, turn: &Turn<'_>) -> Tensor {
        let [observations, rewards, costs] =
            [turn.observation, turn.reward, turn.cost].map(|x| host(x).expect("a float tensor can be copied"));
        let rows = turn.observation.size()[0];
        let mut actions = vec![0f32; rows as usize * self.actions];
        let turn_of = drcorl_actor::Turn { observations: &observations, rewards: &rewards, costs: &costs };
        // Values that are not finite are refused there; here they stay what they are, and the caller sees them.
        if self.player.act(turn_of, &mut actions).is_err() {
            actions.fill(f32::NAN);
        }
        Tensor::from_slice(&actions).view([rows, -1]).to_device(turn.observation.device()).to_kind(Kind::Float)
    }
}

impl FrozenPolicy for PlayedFile {
    fn start(&self, _rows: i64) -> Box<dyn Player + '_> {
        Box::new(TensorPlayer { actions: self.actor.act_dim(), player: self.actor.play() })
    }

    fn remembers(&self) -> bool {
        self.remembers
    }

    fn work(&self) -> f64 {
        self.actor.work()
    }

    fn file(&self) -> Result<PolicyFile> {
        Ok(self.file.clone())
    }
}
