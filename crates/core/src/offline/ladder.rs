//! How far the models can be believed: held-out episodes are replayed with their logged actions, the models restarted
//! at logged states every H steps, and predicted sums compared with logged ones.
//! The largest H that passes is the horizon.
//!
//! Open-loop replay of whole episodes is far too harsh where the world is chaotic or partly observed, and says nothing
//! about shorter stretches: measured on held-out episodes, costs correlate .96 at H = 50 and nothing at 1,000 on
//! HopperVelocity, .91 at 20 and .35 at 200 on CarRun.

use super::dynamics::Dynamics;
use super::facts;
use super::play::per_member;
use super::stats::{correlation, deviation, larger, mean};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::results::nullable;
use crate::run::RunConfig;
use drcorl_data::Episode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::atomic::AtomicBool;
use tch::Tensor;

/// Stretches that are tried; the whole episode is the last.
const LADDER: [usize; 9] = [1, 5, 10, 20, 50, 100, 200, 500, 1000];
/// Most held-out episodes worth replaying.
const REPLAY_CAP: usize = 200;
/// Fewest held-out episodes that say anything.
pub(super) const LEAST_EPISODES: usize = 5;
/// Shortest horizon an estimate is made from. One step says only that costs can be read off states.
pub(super) const LEAST_HORIZON: usize = 5;
/// Most the mean cost may be read too high before a stretch counts as not understood.
const EXCESS: f64 = 0.25;
/// Most cost, as a share of the limit, that may be read into episodes without any.
const FALSE_COST: f64 = 0.2;
/// Up to this many limits an episode counts as near the limit.
const NEAR: f64 = 2.0;
/// Fewest episodes between [`super::facts::NEAR`] and [`NEAR`] limits that are judged by themselves.
const LEAST_AT_LIMIT: usize = 3;
/// Most the predicted length of an episode may be wrong.
const LENGTH_ERROR: f64 = 0.1;

/// One stretch H: held-out episodes replayed with the models restarted at logged states every H steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rung {
    /// Steps H between restarts.
    pub horizon: usize,
    pub passed: bool,
    /// Why not, a sentence each.
    pub reasons: Vec<String>,
    /// Of predicted and logged costs of episodes.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub cost_correlation: f64,
    /// (predicted - logged) mean cost, over the larger of the logged mean and a tenth of the limit.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub cost_bias: f64,
    /// The same of the episodes with a cost of at most twice the limit, over the larger of their logged mean and a
    /// quarter of the limit, or of those of them from half the limit on where it is lower; 0 for fewer than 5, or 3.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub cost_bias_near_limit: f64,
    /// Mean predicted cost of episodes without any, as a share of the limit.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub false_cost: f64,
    /// Of predicted and logged returns.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub return_correlation: f64,
    /// (predicted - logged) mean return, over the larger of |logged mean| and the logged returns' deviation.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub return_bias: f64,
    /// (predicted - logged) mean length, over the logged one; 0 for data without terminals.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub length_bias: f64,
}

/// Result of the test on held-out episodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validity {
    /// An estimate can be made: some stretch of at least 5 steps passed.
    pub valid: bool,
    /// Why not, a sentence each.
    pub reasons: Vec<String>,
    pub held_out_episodes: usize,
    /// Steps of the past that the models see beside the state; 0 where the state tells as much.
    #[serde(default)]
    pub history: usize,
    /// Largest stretch that passed, in steps; 0 where none did.
    pub horizon: usize,
    /// Steps of the longest held-out episode: at this horizon whole episodes are rolled out.
    pub whole: usize,
    /// Every stretch that was tried, the shortest first.
    pub ladder: Vec<Rung>,
}

impl Validity {
    /// The stretch of whole episodes.
    pub fn whole_rung(&self) -> Option<&Rung> {
        self.ladder.last()
    }

    /// Why the models cannot steer a policy over whole episodes, if they cannot; the stretch of whole episodes if they
    /// can. Weaker than what a certificate asks for: too much cost is survived, ranking costs is the algorithm's own
    /// matter, and returns are only compared with each other, so that one error of all leaves their order.
    pub fn steering(&self, run: &RunConfig) -> std::result::Result<&Rung, Vec<String>> {
        self.without(&[Fault::CostShortfall, Fault::ReturnCorrelation], run)
    }

    /// As [`Validity::steering`], of what no limit decides: whether returns are ordered as the logged ones.
    pub fn ordering(&self, run: &RunConfig) -> std::result::Result<&Rung, Vec<String>> {
        self.without(&[Fault::ReturnCorrelation], run)
    }

    /// The stretch of whole episodes if it has none of `wanted`, else those it has, a sentence each.
    fn without(&self, wanted: &[Fault], run: &RunConfig) -> std::result::Result<&Rung, Vec<String>> {
        let Some(whole) = self.whole_rung().filter(|_| self.held_out_episodes >= LEAST_EPISODES) else {
            return Err(vec![too_few(self.held_out_episodes)]);
        };
        let faults = faults(whole, run, wanted);
        if faults.is_empty() {
            Ok(whole)
        } else {
            Err(faults)
        }
    }

    /// How much too low held-out costs are read at the horizon, all or those near the limit: the larger share, 0 where
    /// neither is.
    pub(super) fn shortfall(&self) -> f64 {
        let rung = self.ladder.iter().find(|rung| rung.horizon == self.horizon);
        rung.map_or(0.0, |rung| (-rung.cost_bias).max(-rung.cost_bias_near_limit).max(0.0))
    }

    /// Of models that read held-out costs too low by this share.
    #[cfg(test)]
    pub(super) fn short(share: f64) -> Self {
        let rung = Rung { horizon: 1, passed: true, cost_bias: -share, ..Rung::default() };
        validity(vec![rung], LEAST_EPISODES, 1)
    }

    /// True where whole episodes pass.
    pub fn reaches_the_end(&self) -> bool {
        self.valid && self.horizon >= self.whole
    }

    /// True where episodes of `length` steps pass: held-out ones may all be shorter.
    pub(super) fn covers(&self, length: usize) -> bool {
        self.reaches_the_end() && self.whole >= length
    }
}

/// Predicted and logged sums of the same episodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    pub returns: Vec<f64>,
    pub costs: Vec<f64>,
    pub lengths: Vec<f64>,
}

impl Replay {
    /// What the log says.
    pub fn logged(episodes: &[Episode]) -> Self {
        let of = |f: fn(&Episode) -> f64| episodes.iter().map(f).collect();
        Replay { returns: of(|e| e.ret), costs: of(|e| e.cost), lengths: of(|e| e.len() as f64) }
    }
}

impl Dynamics {
    /// Tries every stretch, one result a cost; see the module's first lines for why.
    pub(super) fn validate(&mut self, data: &Dataset, run: &RunConfig, cancel: &AtomicBool) -> Result<Vec<Validity>> {
        let chosen_of = |k: usize| -> Vec<Episode> {
            let episodes = data.episodes_of(k);
            self.split.holdout.iter().take(REPLAY_CAP).map(|&number| episodes[number]).collect()
        };
        let chosen = chosen_of(0);
        let asked: Vec<(Replay, RunConfig)> =
            (0..run.costs()).map(|k| (Replay::logged(&chosen_of(k)), run.of_cost(k))).collect();
        let whole = chosen.iter().map(Episode::len).max().unwrap_or(0);
        let mut ladders = vec![Vec::new(); asked.len()];
        for horizon in LADDER.into_iter().filter(|&h| h < whole).chain([whole]).filter(|&h| h > 0) {
            let predicted = self.replay(data, &chosen, horizon, cancel)?;
            for (ladder, (predicted, (logged, run))) in ladders.iter_mut().zip(predicted.iter().zip(&asked)) {
                ladder.push(rung(horizon, predicted, logged, run));
            }
        }
        let history = if self.frame.remembers { self.frame.history } else { 0 };
        let seen = |ladder| Validity { history, ..validity(ladder, chosen.len(), whole) };
        Ok(ladders.into_iter().map(seen).collect())
    }

    /// Predicted sums of each episode under its own actions, averaged over members; one replay a cost.
    pub(super) fn replay(
        &mut self,
        data: &Dataset,
        episodes: &[Episode],
        horizon: usize,
        cancel: &AtomicBool,
    ) -> Result<Vec<Replay>> {
        let stretches: Vec<(usize, i64, i64)> = episodes
            .iter()
            .enumerate()
            .flat_map(|(number, e)| {
                let parts = (e.start..e.end).step_by(horizon);
                parts.map(move |start| (number, start as i64, horizon.min(e.end - start) as i64))
            })
            .collect();
        let column = |f: fn(&(usize, i64, i64)) -> i64| {
            Tensor::from_slice(&stretches.iter().map(f).collect::<Vec<_>>()).to_device(data.device())
        };
        let (starts, lengths) = (column(|s| s.1), column(|s| s.2));
        let members = self.members();
        let spread = |rows: Tensor| rows.repeat_interleave_self_int(members, 0i64, None);
        let played = self.play(data, &spread(starts.shallow_clone()), horizon, None, cancel, &mut |_, time, _| {
            // Shorter stretches stay at their last action and no longer count.
            let offset = (&lengths - 1).clamp_max(time as i64);
            let under_way = lengths.gt(time as i64).to_kind(tch::Kind::Float).unsqueeze(1);
            (spread(data.gather(&(&starts + offset)).action()), Some(spread(under_way)))
        })?;
        let sums = |column: &Tensor| -> Result<Vec<f64>> {
            let mut sums = vec![0.0; episodes.len()];
            for member in per_member(column, members)? {
                for ((number, ..), value) in stretches.iter().zip(member) {
                    sums[*number] += value / members as f64;
                }
            }
            Ok(sums)
        };
        let (returns, lengths) = (sums(&played.returns)?, sums(&played.lengths)?);
        let replay = |k| {
            let costs = sums(&played.costs.narrow(1, k as i64, 1))?;
            Ok(Replay { returns: returns.clone(), costs, lengths: lengths.clone() })
        };
        (0..self.frame.costs.len()).map(replay).collect()
    }
}

fn too_few(held_out_episodes: usize) -> String {
    format!("only {held_out_episodes} held-out episodes, at least {LEAST_EPISODES} are needed")
}

/// The horizon of a ladder: the largest stretch that passed.
pub(super) fn validity(ladder: Vec<Rung>, held_out_episodes: usize, whole: usize) -> Validity {
    let horizon = ladder.iter().filter(|rung| rung.passed).map(|rung| rung.horizon).max().unwrap_or(0);
    let least = LEAST_HORIZON.min(whole);
    let mut reasons = Vec::new();
    if held_out_episodes < LEAST_EPISODES {
        reasons.push(too_few(held_out_episodes));
    }
    if horizon < least {
        // The shortest stretch that would have been enough says best what is wrong.
        let failed = ladder.iter().find(|rung| rung.horizon >= least);
        let why = failed.map(|rung| format!(" ({} steps: {})", rung.horizon, rung.reasons.join("; ")));
        reasons.push(format!(
            "the dynamics models can be believed over {horizon} steps, {least} are needed{}",
            why.unwrap_or_default()
        ));
    }
    Validity { valid: reasons.is_empty(), reasons, held_out_episodes, history: 0, horizon, whole, ladder }
}

/// Applies the run's thresholds to predicted and logged sums of held-out episodes.
pub(super) fn rung(horizon: usize, predicted: &Replay, logged: &Replay, run: &RunConfig) -> Rung {
    let limit = run.cost_limit;
    let bias = |keep: &dyn Fn(f64) -> bool, floor: f64| {
        let pairs = predicted.costs.iter().zip(&logged.costs).filter(|(_, &cost)| keep(cost));
        let (mine, theirs): (Vec<f64>, Vec<f64>) = pairs.unzip();
        (theirs.len(), (mean(&mine) - mean(&theirs)) / mean(&theirs).abs().max(floor * limit).max(f64::MIN_POSITIVE))
    };
    let (_, cost_bias) = bias(&|_| true, 0.1);
    let (near, cost_bias_near_limit) = bias(&|cost| cost != 0.0 && cost <= NEAR * limit, 0.25);
    let (at_limit, cost_bias_at_limit) = bias(&|cost| cost >= facts::NEAR * limit && cost <= NEAR * limit, 0.25);
    let judged = |count: usize, least: usize, bias: f64| (count >= least).then_some(bias);
    let by_limit =
        [judged(near, LEAST_EPISODES, cost_bias_near_limit), judged(at_limit, LEAST_AT_LIMIT, cost_bias_at_limit)];
    let (free, _) = bias(&|cost| cost == 0.0, 1.0);
    let unseen: Vec<f64> =
        predicted.costs.iter().zip(&logged.costs).filter(|(_, &cost)| cost == 0.0).map(|(&p, _)| p).collect();
    let false_cost = mean(&unseen) / limit.max(f64::MIN_POSITIVE);
    // Returns may average to nothing; their spread is then the scale an error is judged by.
    let scale = mean(&logged.returns).abs().max(deviation(&logged.returns)).max(f64::MIN_POSITIVE);
    let mut found = Rung {
        horizon,
        passed: false,
        reasons: Vec::new(),
        cost_correlation: correlation(&predicted.costs, &logged.costs),
        cost_bias,
        cost_bias_near_limit: by_limit.into_iter().flatten().reduce(|a, b| -larger(-a, -b)).unwrap_or(0.0),
        false_cost: if free > 0 { false_cost } else { 0.0 },
        return_correlation: correlation(&predicted.returns, &logged.returns),
        return_bias: (mean(&predicted.returns) - mean(&logged.returns)) / scale,
        length_bias: mean(&predicted.lengths) / mean(&logged.lengths).max(1.0) - 1.0,
    };
    found.reasons = faults(&found, run, &Fault::ALL);
    found.passed = found.reasons.is_empty();
    found
}

/// What a stretch can miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    CostCorrelation,
    CostShortfall,
    CostExcess,
    NearLimit,
    FalseCost,
    ReturnCorrelation,
    ReturnBias,
    Length,
}

impl Fault {
    const ALL: [Fault; 8] = [
        Fault::CostCorrelation,
        Fault::CostShortfall,
        Fault::CostExcess,
        Fault::NearLimit,
        Fault::FalseCost,
        Fault::ReturnCorrelation,
        Fault::ReturnBias,
        Fault::Length,
    ];

    /// Whether a stretch is free of it, and the sentence where it is not.
    fn look(self, rung: &Rung, run: &RunConfig) -> (bool, String) {
        let correlates = |what: &str, found: f64, least: f64| {
            (found >= least, format!("{what} correlate {found:.2} with the logged ones, {least:.2} is needed"))
        };
        // The relative error, how far it may go, and the word for its direction.
        let off = |what: &str, error: f64, most: f64, way: &str| {
            (error <= most, format!("{what} {:.0} % {way}, {:.0} % is allowed", 100.0 * error, 100.0 * most))
        };
        let short = run.valid_cost_shortfall;
        match self {
            Fault::CostCorrelation => correlates("costs", rung.cost_correlation, run.valid_cost_correlation),
            Fault::CostShortfall => off("costs are", -rung.cost_bias, short, "too low"),
            Fault::CostExcess => off("costs are", rung.cost_bias, EXCESS, "too high"),
            Fault::NearLimit => {
                off("costs of episodes near the limit are", -rung.cost_bias_near_limit, short, "too low")
            }
            Fault::FalseCost => off("episodes without cost are read at", rung.false_cost, FALSE_COST, "of the limit"),
            Fault::ReturnCorrelation => correlates("returns", rung.return_correlation, run.valid_return_correlation),
            Fault::ReturnBias => {
                off("returns are off by", rung.return_bias.abs(), run.valid_return_bias, "of their size")
            }
            Fault::Length => off("predicted ends make episodes", -rung.length_bias, LENGTH_ERROR, "too short"),
        }
    }
}

/// What a stretch misses of `asked`, a sentence each. A comparison with NaN is a fault.
fn faults(rung: &Rung, run: &RunConfig, asked: &[Fault]) -> Vec<String> {
    let looks = asked.iter().map(|fault| fault.look(rung, run));
    looks.filter(|(kept, _)| !kept).map(|(_, text)| text).collect()
}

#[cfg(test)]
#[path = "ladder_tests.rs"]
mod tests;
