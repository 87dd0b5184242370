//! A policy that lives in its file alone and is played by `drcorl-actor` for everyone, the offline judges included: for
//! kinds whose acting is worth writing down once.

use super::{host, FrozenPolicy, Player, Turn};
use crate::error::Result;
use drcorl_actor::{Actor, PolicyFile};
use std::cell::OnceCell;
use tch::{Kind, Tensor};

/// The file of such a policy, without what the trainer adds; its action depends on the course of the episode.
pub struct PlayedFile {
    file: PolicyFile,
    observations: usize,
    actions: usize,
    /// Made when it first plays: most copies are only written, or asked whether they remember.
    actor: OnceCell<Actor>,
}

impl PlayedFile {
    /// Of a policy of so many observations and actions.
    pub fn new(file: PolicyFile, observations: i64, actions: i64) -> Self {
        let (observations, actions) = (observations as usize, actions as usize);
        PlayedFile { file, observations, actions, actor: OnceCell::new() }
    }

    /// The policy on normalised observations, with actions in [-1,1].
    fn actor(&self) -> &Actor {
        self.actor.get_or_init(|| {
            let mut file = self.file.clone();
            for (name, width, value) in [
                ("observation.mean", self.observations, 0.0),
                ("observation.std", self.observations, 1.0),
                ("action.low", self.actions, -1.0),
                ("action.high", self.actions, 1.0),
            ] {
                file.insert(name, &[width], vec![value; width]);
            }
            Actor::new(&file).expect("a file of this program can be read")
        })
    }
}

/// The policy at the start of `rows` episodes, whose seeds are their numbers.
pub(super) fn begun(actor: &Actor, rows: i64) -> drcorl_actor::Player {
    let mut player = actor.play();
    let rows: Vec<usize> = (0..rows as usize).collect();
    let seeds: Vec<u64> = rows.iter().map(|&row| row as u64).collect();
    player.begin(&rows, &seeds);
    player
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
    fn start(&self, rows: i64) -> Box<dyn Player + '_> {
        Box::new(TensorPlayer { player: begun(self.actor(), rows), actions: self.actions })
    }

    fn remembers(&self) -> bool {
        true
    }

    fn work(&self) -> f64 {
        self.actor().work()
    }

    fn file(&self) -> Result<PolicyFile> {
        Ok(self.file.clone())
    }
}
