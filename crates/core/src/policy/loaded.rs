//! A policy from a file, played where the judges play policies.

use super::played::begun;
use super::{host, FrozenPolicy, Player, Turn};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::normalizer::Normalizer;
use drcorl_actor::{Actor, PolicyFile};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tch::Tensor;

/// How far beyond the logged actions, as a share of their range, an action still counts as one of them.
const ACTION_MARGIN: f32 = 0.05;

/// Any kind of policy file among data of its own scale.
///
/// The file has the normaliser and the box of the data it was learnt from, a judge those of the data it judges by: an
/// observation goes back to its units before the policy sees it, and an action comes in the judge's box. One outside of
/// it is handed on as it is, and counted.
pub struct LoadedPolicy {
    actor: Actor,
    file: PolicyFile,
    data: Normalizer,
    played: AtomicU64,
    outside: AtomicU64,
}

impl LoadedPolicy {
    /// Reads a policy file; `settings` are what it is asked for instead of what it says.
    ///
    /// Errs if it is no such file, if it has no such setting,
    /// or if it is for other observations or actions than `data`.
    pub fn load(path: &Path, settings: &BTreeMap<String, f64>, data: &Dataset) -> Result<Self> {
        let file = PolicyFile::load(path)?;
        let mut actor = Actor::load(path)?;
        for (name, value) in settings {
            actor.set(name, *value).map_err(|error| Error::Data(format!("{}: {error}", path.display())))?;
        }
        let sizes = [
            ("observation", actor.obs_dim() as i64, data.observations()),
            ("action", actor.act_dim() as i64, data.actions()),
        ];
        if let Some((what, own, theirs)) = sizes.into_iter().find(|(_, own, theirs)| own != theirs) {
            return Err(Error::Shape(format!(
                "{}: has {own} entries in an {what}, the episodes of {} have {theirs}; give episodes of the policy's own task",
                path.display(),
                data.columns.source
            )));
        }
        let data = data.normalizer.clone();
        Ok(LoadedPolicy { actor, file, data, played: AtomicU64::new(0), outside: AtomicU64::new(0) })
    }

    /// Share of the actions played in rollouts that left the range of the logged ones; 0 before any was.
    pub fn outside(&self) -> f64 {
        let [outside, played] = [&self.outside, &self.played].map(|count| count.load(Ordering::Relaxed) as f64);
        outside / played.max(1.0)
    }

    fn player(&self, rows: i64, counts: bool) -> LoadedPlayer<'_> {
        LoadedPlayer { policy: self, player: begun(&self.actor, rows), counts }
    }
}

impl FrozenPolicy for LoadedPolicy {
    fn start(&self, rows: i64) -> Box<dyn Player + '_> {
        Box::new(self.player(rows, true))
    }

    fn remembers(&self) -> bool {
        self.actor.remembers()
    }

    fn work(&self) -> f64 {
        self.actor.work()
    }

    fn act(&self, observation: &Tensor) -> Tensor {
        self.player(observation.size()[0], false).act_on(observation, &[], &[])
    }

    fn file(&self) -> Result<PolicyFile> {
        Ok(self.file.clone())
    }
}

struct LoadedPlayer<'a> {
    policy: &'a LoadedPolicy,
    player: drcorl_actor::Player,
    /// False where actions are asked for in states that are not its own.
    counts: bool,
}

impl LoadedPlayer<'_> {
    fn act_on(&mut self, observation: &Tensor, rewards: &[f32], costs: &[f32]) -> Tensor {
        let Normalizer { observation_mean: mean, observation_std: std, action_low: low, action_high: high } =
            &self.policy.data;
        let (rows, actions) = (observation.size()[0] as usize, low.len());
        let scaled = host(observation).expect("an observation tensor");
        let observations: Vec<f32> =
            scaled.iter().enumerate().map(|(i, x)| x * std[i % std.len()] + mean[i % mean.len()]).collect();
        let mut out = vec![0.0; rows * actions];
        let turn = drcorl_actor::Turn { observations: &observations, rewards, costs };
        // What no policy can act on, and an action that overflowed, is no estimate either.
        let played = self.player.act(turn, &mut out).is_ok();
        let mut outside = 0;
        for row in out.chunks_exact_mut(actions) {
            let mut left = false;
            for (i, value) in row.iter_mut().enumerate() {
                let (low, high) = (low[i], high[i]);
                let (half, size) = ((high - low) / 2.0, low.abs().max(high.abs()));
                let margin = ACTION_MARGIN * (high - low).max(ACTION_MARGIN * size);
                left |= !(low - margin..=high + margin).contains(&*value);
                *value = match played {
                    true if half > 1e-6 * size => (*value - low) / half - 1.0,
                    true => 0.0,
                    false => f32::NAN,
                };
            }
            outside += u64::from(left);
        }
        if self.counts {
            self.policy.played.fetch_add(rows as u64, Ordering::Relaxed);
            self.policy.outside.fetch_add(outside, Ordering::Relaxed);
        }
        Tensor::from_slice(&out).view([rows as i64, actions as i64]).to_device(observation.device())
    }
}

impl Player for LoadedPlayer<'_> {
    fn act(&mut self, turn: &Turn<'_>) -> Tensor {
        let [rewards, costs] = [turn.reward, turn.cost].map(|column| host(column).expect("a column"));
        self.act_on(turn.observation, &rewards, &costs)
    }
}
