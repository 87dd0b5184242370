//! A small ensemble of dynamics models: next state, reward, cost, termination.
//!
//! By far the best offline estimator of episodic cost where it is valid, and dangerously wrong where it is not: a model
//! of observations that do not determine their successor certifies unsafe policies. Hence the ladder of
//! [`super::ladder`], which says how far it can be believed.

use super::signal::{center_and_scale, CostKind};
use super::split::Split;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::run::RunConfig;
use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::cosine;
use drcorl_nn::rng::Rng;
use drcorl_nn::Head;
use tch::{Kind, Tensor};

/// How far beyond the data's range, in deviations of a column, a predicted entry may go before it is clipped.
const RANGE_MARGIN: f64 = 0.5;
/// Smallest scale of a step's change, in deviations of a column.
const CHANGE_FLOOR: f64 = 1e-4;

/// Share of the learning rate at the last step. With a tenth, costs that BallCircle's held-out episodes replay open
/// loop were 34 % too high, with this 24 %; of a policy with return 605 the models said 606 and 608,
/// of one with 639 616 and 635.
const LAST_RATE: f64 = 0.01;

/// E pairs of models: motion (s, a) -> [scaled state difference | termination logit], outcome (a, s,
/// s') -> [scaled reward | costs].
///
/// The outcome sees the state arrived at: costs are mostly a threshold on it, which a network of (s, a) alone blurs.
/// A state is an observation without the entries that never change: they have no successor to predict and no range.
pub struct Dynamics {
    motion: Head,
    outcome: Head,
    members: i64,
    /// Of every cost that is bounded.
    pub(super) costs: Vec<CostKind>,
    pub(super) terminates: bool,
    /// Entries that change `[S']`; None where all do.
    varying: Option<Tensor>,
    /// `[1,S]`, an observation whose entries that never change are right.
    anchor: Tensor,
    /// Mean and deviation of each entry `[1,S']`: the networks see states of unit size, whatever a sensor's unit.
    center: Tensor,
    spread: Tensor,
    change: Tensor,
    low: Tensor,
    high: Tensor,
    reward_center: f64,
    reward_scale: f64,
    pub(super) split: Split,
}

/// Predictions for rows of a batch.
pub(super) struct Predicted {
    /// `[B,S']`, within the range of the data.
    pub next: Tensor,
    /// Share of the entries of `next` that had to be clipped, `[]`.
    pub clipped: Tensor,
    /// `[B,1]`
    pub reward: Tensor,
    /// `[B,K]`
    pub costs: Tensor,
    /// `[B,1]`, probability that the episode ends here.
    pub terminal: Tensor,
}

impl Dynamics {
    /// Untrained models, and the split of the episodes.
    pub fn new(data: &Dataset, run: &RunConfig, members: usize, rng: &mut Rng) -> Self {
        let split = Split::new(data, run.holdout_fraction, members, rng);
        let varying = &data.varying;
        let (states, actions) = (varying.len() as i64, data.actions());
        let varying = (states < data.observations()).then(|| Tensor::from_slice(varying).to_device(data.device()));
        let sample = data.gather(&split.learnt);
        let part = |full: Tensor| varying.as_ref().map_or(full.shallow_clone(), |v| full.index_select(1, v));
        let (now, next) = (part(sample.observation()), part(sample.next_observation()));
        let spread = next.std_dim(0i64, false, false);
        let margin = &spread * RANGE_MARGIN;
        let change = (&next - &now).std_dim(0i64, true, false).maximum(&(&spread * CHANGE_FLOOR)).clamp_min(1e-12);
        let (reward_center, reward_scale) = center_and_scale(&data.columns.rewards);
        let costs: Vec<CostKind> = (0..run.costs()).map(|k| CostKind::of(data.costs_of(k))).collect();
        let mut head = |name: &str, inputs: i64, hidden: &mut dyn Iterator<Item = i64>, outputs: i64| {
            let widths: Vec<i64> = std::iter::once(inputs).chain(hidden).chain([outputs]).collect();
            Head::new(name, members, &widths, false, data.device(), rng)
        };
        Dynamics {
            motion: head("motion", actions + states, &mut run.model_hidden.iter().copied(), states + 1),
            // Half as wide: one number is a smooth function, the others mostly thresholds.
            outcome: head(
                "outcome",
                actions + 2 * states,
                &mut run.model_hidden.iter().map(|h| (h / 2).max(1)),
                1 + costs.len() as i64,
            ),
            members: members as i64,
            costs,
            terminates: data.columns.terminals.iter().any(|&t| t),
            anchor: data.gather(&data.starts().narrow(0, 0, 1)).observation().copy(),
            center: now.mean_dim(0i64, true, Kind::Float),
            spread: now.std_dim(0i64, false, true).clamp_min(1e-12),
            low: next.amin(0i64, false) - &margin,
            high: next.amax(0i64, false) + &margin,
            varying,
            change,
            reward_center,
            reward_scale,
            split,
        }
    }

    /// Number of members E.
    pub fn members(&self) -> i64 {
        self.members
    }

    /// The states `[B,S']` of observations `[B,S]`.
    pub(super) fn state(&self, observation: &Tensor) -> Tensor {
        match &self.varying {
            Some(varying) => observation.index_select(1, varying),
            None => observation.contiguous(),
        }
    }

    /// The observations `[B,S]` of states `[B,S']`.
    pub(super) fn observation(&self, state: &Tensor) -> Tensor {
        match &self.varying {
            Some(varying) => {
                let full = self.anchor.expand([state.size()[0], self.anchor.size()[1]], false).contiguous();
                full.index_copy(1, varying, state)
            }
            None => state.shallow_clone(),
        }
    }

    /// One Adam step of every member on its own rows. Returns the mean loss over members and rows.
    pub fn step(&mut self, step: u64, data: &Dataset, run: &RunConfig, rng: &mut Rng) -> Result<f64> {
        let rows = run.model_batch as i64;
        let lr = cosine(run.model_lr, run.model_lr * LAST_RATE, step, run.model_steps);
        let batch = data.gather(&self.split.sample(run.model_batch, rng));
        let total =
            |errors: &Tensor| errors.square().sum(Kind::Double).double_value(&[]) / (rows * self.members) as f64;
        let (now, next) = (self.state(&batch.observation()), self.state(&batch.next_observation()));
        let (action, seen) = (batch.action(), self.scaled(&now));
        let states = now.size()[1];

        // Gradients of mean squared error (states, reward,
        // real-valued cost) and of cross entropy (flags) are both error / rows.
        let input = joined(rows, &[&action, &seen]);
        let raw = self.motion.forward(&input).view([rows * self.members, -1]);
        let change_error = raw.narrow(1, 0, states) - (&next - &now) / &self.change;
        let terminal_error =
            (raw.narrow(1, states, 1).sigmoid() - batch.terminal()) * f64::from(u8::from(self.terminates));
        let grad = Tensor::cat(&[&change_error * 2.0, terminal_error], 1) / rows as f64;
        self.motion.descend(&input, &grad.view([rows, -1]), lr);

        let input = joined(rows, &[&action, &seen, &self.scaled(&next)]);
        let raw = self.outcome.forward(&input).view([rows * self.members, -1]);
        let reward_error = raw.narrow(1, 0, 1) - (batch.reward() - self.reward_center) / self.reward_scale;
        let mut grads = vec![&reward_error * 2.0];
        for (k, cost) in self.costs.iter().enumerate() {
            grads.push(cost.gradient(&raw.narrow(1, 1 + k as i64, 1), &cost.target(&batch.cost_of(k))));
        }
        let grad = Tensor::cat(&grads, 1) / rows as f64;
        self.outcome.descend(&input, &grad.view([rows, -1]), lr);
        Ok(grads[1..].iter().fold(total(&change_error) + total(&reward_error), |sum, grad| sum + total(grad)))
    }

    /// States as the networks see them.
    fn scaled(&self, state: &Tensor) -> Tensor {
        (state - &self.center) / &self.spread
    }

    /// Predictions for per-member rows `state [B*E,S']`, `action [B*E,A]`, row b*E+e for member e.
    pub(super) fn predict(&mut self, state: &Tensor, action: &Tensor) -> Predicted {
        let (total, states) = (state.size()[0], state.size()[1]);
        let rows = total / self.members;
        let seen = self.scaled(state);
        let raw = self.motion.evaluate(&joined(rows, &[action, &seen])).view([total, -1]);
        let free = state + raw.narrow(1, 0, states) * &self.change;
        let next = free.clamp_tensor(Some(&self.low), Some(&self.high));
        let input = joined(rows, &[action, &seen, &self.scaled(&next)]);
        let outcome = self.outcome.evaluate(&input).view([total, -1]);
        let costs = self.costs.iter().enumerate();
        let costs: Vec<Tensor> = costs.map(|(k, cost)| cost.predicted(&outcome.narrow(1, 1 + k as i64, 1))).collect();
        Predicted {
            clipped: free.ne_tensor(&next).to_kind(Kind::Float).mean(Kind::Float),
            next,
            reward: outcome.narrow(1, 0, 1) * self.reward_scale + self.reward_center,
            terminal: if self.terminates { raw.narrow(1, states, 1).sigmoid() } else { costs[0].zeros_like() },
            costs: Tensor::cat(&costs, 1),
        }
    }

    /// Saves or restores the parameters; the split follows from the seed.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.episodes("holdout", &mut self.split.holdout)?;
        state.group("motion", |state| self.motion.persist(state))?;
        state.group("outcome", |state| self.outcome.persist(state))
    }
}

/// `[rows, E*(A+..)]`: a member's rows are its own.
fn joined(rows: i64, parts: &[&Tensor]) -> Tensor {
    Tensor::cat(parts, 1).view([rows, -1])
}
