//! How the models see states, and what of a prediction is no network: the past, scales, the range of the data.

use super::signal::{center_and_scale, CostKind};
use crate::dataset::{Batch, Dataset};
use crate::run::RunConfig;
use tch::{Kind, Tensor};

/// How far beyond the data's range, in deviations of a column, a predicted entry may go before it is clipped.
const RANGE_MARGIN: f64 = 0.5;
/// Deviations of a column beyond which its square says no more.
const SQUARED: f64 = 5.0;
/// Smallest scale of a step's change, in deviations of a column.
const CHANGE_FLOOR: f64 = 1e-4;

/// What is known of the data before a network learns.
pub(super) struct Frame {
    /// Steps of the past.
    pub history: usize,
    /// True where the past says what the state does not.
    pub remembers: bool,
    /// Of every cost that is bounded.
    pub costs: Vec<CostKind>,
    pub terminates: bool,
    /// Entries that change `[S']`; None where all do.
    pub varying: Option<Tensor>,
    /// `[1,S]`, an observation whose entries that never change are right.
    pub anchor: Tensor,
    /// Mean and deviation of each entry `[1,S']`: the networks see states of unit size, whatever a sensor's unit.
    pub center: Tensor,
    pub spread: Tensor,
    pub change: Tensor,
    pub low: Tensor,
    pub high: Tensor,
    pub reward_center: f64,
    pub reward_scale: f64,
}

/// Where a play is: rows of states, and of what led to them.
pub struct Moment {
    /// `[B,S']`
    pub(super) state: Tensor,
    /// `[B,K*(S'+A)]`: for each of the last K steps, the latest first, the scaled change of the state and the action.
    /// Zeros before an episode's first step.
    pub(super) past: Tensor,
}

/// Predictions for rows of a batch.
pub(super) struct Predicted {
    /// What comes next; its state is within the range of the data.
    pub next: Moment,
    /// Share of the entries of the next state that had to be clipped, `[B,1]`.
    pub clipped: Tensor,
    /// `[B,1]`
    pub reward: Tensor,
    /// `[B,K]`
    pub costs: Tensor,
    /// `[B,1]`, probability that the episode ends here.
    pub terminal: Tensor,
}

/// A network on rows `[B,in]`.
pub(super) type Network<'a> = dyn FnMut(&Tensor) -> Tensor + 'a;

impl Frame {
    /// Of the rows that models learn from.
    pub fn of(data: &Dataset, learnt: &Batch, run: &RunConfig) -> Self {
        let history = run.model_history;
        let varying = &data.varying;
        let all = varying.len() as i64 == data.observations();
        let varying = (!all).then(|| Tensor::from_slice(varying).to_device(data.device()));
        let part = |full: Tensor| varying.as_ref().map_or(full.shallow_clone(), |v| full.index_select(1, v));
        let (now, next) = (part(learnt.observation()), part(learnt.next_observation()));
        let spread = next.std_dim(0i64, false, false);
        let margin = &spread * RANGE_MARGIN;
        let (reward_center, reward_scale) = center_and_scale(&data.columns.rewards);
        Frame {
            history,
            remembers: history > 0,
            costs: (0..run.costs()).map(|k| CostKind::of(data.costs_of(k))).collect(),
            terminates: data.columns.terminals.iter().any(|&t| t),
            anchor: data.gather(&data.starts().narrow(0, 0, 1)).observation().copy(),
            center: now.mean_dim(0i64, true, Kind::Float),
            spread: now.std_dim(0i64, false, true).clamp_min(1e-12),
            change: (&next - &now).std_dim(0i64, true, false).maximum(&(&spread * CHANGE_FLOOR)).clamp_min(1e-12),
            low: next.amin(0i64, false) - &margin,
            high: next.amax(0i64, false) + &margin,
            varying,
            reward_center,
            reward_scale,
        }
    }

    /// The same, shared.
    pub fn duplicate(&self) -> Self {
        let Frame { history, remembers, terminates, reward_center, reward_scale, .. } = *self;
        let [anchor, center, spread, change, low, high] =
            [&self.anchor, &self.center, &self.spread, &self.change, &self.low, &self.high].map(Tensor::shallow_clone);
        let varying = self.varying.as_ref().map(Tensor::shallow_clone);
        Frame {
            history,
            remembers,
            costs: self.costs.clone(),
            terminates,
            varying,
            anchor,
            center,
            spread,
            change,
            low,
            high,
            reward_center,
            reward_scale,
        }
    }

    /// The states `[B,S']` of observations `[B,S]`.
    pub fn state(&self, observation: &Tensor) -> Tensor {
        match &self.varying {
            Some(varying) => observation.index_select(1, varying),
            None => observation.contiguous(),
        }
    }

    /// The observations `[B,S]` of states `[B,S']`.
    pub fn observation(&self, state: &Tensor) -> Tensor {
        match &self.varying {
            Some(varying) => {
                let full = self.anchor.expand([state.size()[0], self.anchor.size()[1]], false).contiguous();
                full.index_copy(1, varying, state)
            }
            None => state.shallow_clone(),
        }
    }

    /// Where logged rows `[N]` are.
    pub fn moment(&self, data: &Dataset, rows: &Tensor) -> Moment {
        let mut here = data.gather(rows);
        let state = self.state(&here.observation());
        if !self.remembers {
            let width = self.history as i64 * (state.size()[1] + data.actions());
            return Moment { past: Tensor::zeros([rows.size()[0], width], (Kind::Float, state.device())), state };
        }
        let (mut later, mut parts) = (state.shallow_clone(), Vec::new());
        for _ in 0..self.history {
            // An episode's first row is its own past, unmoved and without an action.
            let moved: Tensor = 1.0 - here.start();
            let before = data.gather(&(&here.rows - moved.squeeze_dim(1).to_kind(Kind::Int64)));
            let earlier = self.state(&before.observation());
            parts.extend([self.scaled_change(&earlier, &later), before.action() * moved]);
            (here, later) = (before, earlier);
        }
        let past = if parts.is_empty() { state.narrow(1, 0, 0) } else { Tensor::cat(&parts, 1) };
        Moment { past, state }
    }

    /// What motion learns of a step.
    pub fn scaled_change(&self, now: &Tensor, next: &Tensor) -> Tensor {
        (next - now) / &self.change
    }

    /// States as the networks see them.
    pub fn scaled(&self, state: &Tensor) -> Tensor {
        (state - &self.center) / &self.spread
    }

    /// What motion sees of action, scaled state, and past.
    pub fn departure(&self, action: &Tensor, seen: &Tensor, past: &Tensor) -> Tensor {
        Tensor::cat(&[action, seen, past], 1)
    }

    /// What the outcome sees `[B,A+3S']` of action, scaled state, and the state arrived at: with its squares, a bound
    /// on a speed or a distance is a plane.
    pub fn arrival(&self, action: &Tensor, seen: &Tensor, next: &Tensor) -> Tensor {
        let next = self.scaled(next);
        let squares = (next.clamp(-SQUARED, SQUARED).square() - 1.0) * std::f64::consts::FRAC_1_SQRT_2;
        Tensor::cat(&[action, seen, &next, &squares], 1)
    }

    /// The states that scaled changes lead to, kept to the range of the data, and the share of entries that were kept,
    /// `[B,1]`.
    pub fn arrived(&self, state: &Tensor, change: &Tensor) -> (Tensor, Tensor) {
        let free = state + change * &self.change;
        let next = free.clamp_tensor(Some(&self.low), Some(&self.high));
        let clipped = free.ne_tensor(&next).to_kind(Kind::Float).mean_dim(1i64, true, Kind::Float);
        (next, clipped)
    }

    /// Predictions for rows `now`, `action [B,A]` by networks of motion and outcome.
    pub fn predict(&self, now: &Moment, action: &Tensor, motion: &mut Network, outcome: &mut Network) -> Predicted {
        let Moment { state, past } = now;
        let seen = self.scaled(state);
        let raw = motion(&self.departure(action, &seen, past));
        let (next, clipped) = self.arrived(state, &raw);
        let outcome = outcome(&self.arrival(action, &seen, &next));
        let costs = self.costs.iter().enumerate();
        let costs: Vec<Tensor> = costs.map(|(k, cost)| cost.predicted(&outcome.narrow(1, 1 + k as i64, 1))).collect();
        Predicted {
            clipped,
            next: self.follow(now, action, next),
            reward: outcome.narrow(1, 0, 1) * self.reward_scale + self.reward_center,
            terminal: if self.terminates {
                outcome.narrow(1, 1 + costs.len() as i64, 1).sigmoid()
            } else {
                costs[0].zeros_like()
            },
            costs: Tensor::cat(&costs, 1),
        }
    }

    /// The moment at state `next [B,S']` after `action [B,A]` at `now`.
    fn follow(&self, now: &Moment, action: &Tensor, next: Tensor) -> Moment {
        if !self.remembers {
            return Moment { past: now.past.shallow_clone(), state: next };
        }
        let past = self.past_after(&now.past, &self.scaled_change(&now.state, &next), action);
        Moment { state: next, past }
    }

    /// The past one scaled change and action later, of a frame that remembers.
    pub fn past_after(&self, past: &Tensor, change: &Tensor, action: &Tensor) -> Tensor {
        let width = past.size()[1];
        let kept = past.narrow(1, 0, width - width / self.history as i64);
        Tensor::cat(&[change, action, &kept], 1)
    }
}
