//! A small ensemble of dynamics models (next state, reward, cost, termination) and its rollouts.
//!
//! By far the best offline estimator of episodic cost where it is valid, and dangerously wrong where it is not: a model
//! of observations that do not determine their successor certifies unsafe policies. Hence [`Dynamics::validate`]:
//! actions of episodes no member has seen are replayed open loop,
//! and predicted returns and costs must match the logged ones.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::policy::{Player, Turn};
use crate::results::nullable;
use crate::run::RunConfig;
use drcorl_data::Episode;
use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::cosine;
use drcorl_nn::rng::Rng;
use drcorl_nn::Head;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Device, Kind, Tensor};

/// How far beyond the data's range, as a share of it, a predicted state may go before it is clipped.
const RANGE_MARGIN: f64 = 0.05;
/// Most held-out episodes worth replaying.
const REPLAY_CAP: usize = 200;

/// E pairs of models: motion (s, a) -> [scaled state difference | termination logit], outcome (a, s,
/// s') -> [scaled reward | cost].
///
/// The outcome sees the state arrived at: costs are mostly a threshold on it, which a network of (s, a) alone blurs.
pub struct Dynamics {
    motion: Head,
    outcome: Head,
    members: i64,
    binary_cost: bool,
    terminates: bool,
    delta_std: Tensor,
    low: Tensor,
    high: Tensor,
    reward_mean: f64,
    reward_std: f64,
    cost_std: f64,
    holdout: Vec<usize>,
    train_rows: Tensor,
}

/// Predicted episodes: means over members and their spread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutEstimate {
    /// Mean episodic cost over members and starts.
    pub cost: f64,
    /// Sample standard deviation of the members' mean costs.
    pub cost_std: f64,
    /// Mean undiscounted return.
    pub ret: f64,
    /// Sample standard deviation of the members' mean returns.
    pub return_std: f64,
    /// Share of predicted states that had to be clipped to the data's range.
    pub clipped: f64,
}

impl RolloutEstimate {
    /// Mean cost plus `k` standard deviations over members.
    pub fn upper(&self, k: f64) -> f64 {
        self.cost + k * self.cost_std
    }
}

/// Result of the test on held-out episodes, whose logged actions were replayed in the models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validity {
    pub valid: bool,
    /// Why not, a sentence each.
    pub reasons: Vec<String>,
    pub held_out_episodes: usize,
    /// Of predicted and logged returns.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub return_correlation: f64,
    /// (predicted - logged) mean return, over the larger of |logged mean| and the logged returns' deviation.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub return_bias: f64,
    /// Of predicted and logged costs.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub cost_correlation: f64,
    /// (predicted - logged) mean cost, over the larger of the logged mean and a tenth of the limit.
    #[serde(with = "nullable")]
    #[schemars(with = "Option<f64>")]
    pub cost_bias: f64,
}

/// Undiscounted sums `[N*E,1]` of a simulation, and the share of predicted states that were clipped.
struct Sums {
    returns: Tensor,
    costs: Tensor,
    clipped: f64,
}

struct Outputs {
    next: Tensor,
    clipped: Tensor,
    reward: Tensor,
    cost: Tensor,
    terminal: Tensor,
}

impl Dynamics {
    /// Untrained models, and the split of the episodes.
    pub fn new(data: &Dataset, run: &RunConfig, members: usize, rng: &mut Rng) -> Self {
        let (states, actions) = (data.observations(), data.actions());
        let mut holdout = data.held_out.clone();
        if holdout.is_empty() {
            let mut order: Vec<usize> = (0..data.episodes.len()).collect();
            rng.shuffle(&mut order);
            let share = (order.len() as f64 * run.holdout_fraction).round() as usize;
            holdout = order[..share.min(order.len().saturating_sub(1))].to_vec();
            holdout.sort_unstable();
        }
        let train_rows = data
            .rows_where(|episode| holdout.binary_search_by_key(&episode.start, |&i| data.episodes[i].start).is_err());
        let sample = data.gather(&train_rows);
        let delta = sample.next_observation() - sample.observation();
        let margin =
            (sample.next_observation().amax(0i64, false) - sample.next_observation().amin(0i64, false)) * RANGE_MARGIN;
        let std_of = |column: &Tensor| column.std(true).double_value(&[]).max(1e-6);
        let costs = &data.columns.costs;
        let mut head = |name: &str, inputs: i64, hidden: &mut dyn Iterator<Item = i64>, outputs: i64| {
            let widths: Vec<i64> = std::iter::once(inputs).chain(hidden).chain([outputs]).collect();
            Head::new(name, members, &widths, false, data.device(), rng)
        };
        Dynamics {
            motion: head("motion", actions + states, &mut run.model_hidden.iter().copied(), states + 1),
            // Half as wide: one number is a smooth function, the other a threshold.
            outcome: head("outcome", actions + 2 * states, &mut run.model_hidden.iter().map(|h| (h / 2).max(1)), 2),
            members: members as i64,
            binary_cost: costs.iter().all(|&c| c == 0.0 || c == 1.0),
            terminates: data.columns.terminals.iter().any(|&t| t),
            delta_std: delta.std_dim(0i64, true, false).clamp_min(1e-4),
            low: sample.next_observation().amin(0i64, false) - &margin,
            high: sample.next_observation().amax(0i64, false) + &margin,
            reward_mean: sample.reward().mean(Kind::Double).double_value(&[]),
            reward_std: std_of(&sample.reward()),
            cost_std: std_of(&sample.cost()),
            holdout,
            train_rows,
        }
    }

    /// One Adam step of every member on its own rows. Returns the mean loss over members and rows.
    pub fn step(&mut self, step: u64, data: &Dataset, run: &RunConfig, rng: &mut Rng) -> Result<f64> {
        let rows = run.model_batch as i64;
        let lr = cosine(run.model_lr, run.model_lr * 0.1, step, run.model_steps);
        let batch = data.sample_from(&self.train_rows, run.model_batch * self.members as usize, rng);
        let states = data.observations();
        let total =
            |errors: &Tensor| errors.square().sum(Kind::Double).double_value(&[]) / (rows * self.members) as f64;

        // Gradients of mean squared error (states, reward,
        // real-valued cost) and of cross entropy (flags) are both error / rows.
        let input = batch.state_action().contiguous().view([rows, -1]);
        let raw = self.motion.forward(&input).view([rows * self.members, -1]);
        let delta_error = raw.narrow(1, 0, states) - (batch.next_observation() - batch.observation()) / &self.delta_std;
        let terminal_error =
            (raw.narrow(1, states, 1).sigmoid() - batch.terminal()) * f64::from(u8::from(self.terminates));
        let grad = Tensor::cat(&[&delta_error * 2.0, terminal_error], 1) / rows as f64;
        self.motion.descend(&input, &grad.view([rows, -1]), lr);

        let input = batch.transition().contiguous().view([rows, -1]);
        let raw = self.outcome.forward(&input).view([rows * self.members, 2]);
        let reward_error = raw.narrow(1, 0, 1) - (batch.reward() - self.reward_mean) / self.reward_std;
        let cost = raw.narrow(1, 1, 1);
        let (cost_error, factor) = match self.binary_cost {
            true => (cost.sigmoid() - batch.cost(), 1.0),
            false => (cost - batch.cost() / self.cost_std, 2.0),
        };
        let grad = Tensor::cat(&[&reward_error * 2.0, &cost_error * factor], 1) / rows as f64;
        self.outcome.descend(&input, &grad.view([rows, -1]), lr);
        Ok(total(&delta_error) + total(&reward_error) + total(&cost_error))
    }

    /// Predictions for per-member rows `observation [B*E,S]`, `action [B*E,A]`, row b*E+e for member e.
    fn predict(&mut self, observation: &Tensor, action: &Tensor) -> Outputs {
        let (total, states) = (observation.size()[0], observation.size()[1]);
        let per_member = |rows: Tensor| rows.view([total / self.members, -1]);
        let raw = self.motion.evaluate(&per_member(Tensor::cat(&[action, observation], 1))).view([total, -1]);
        let free = observation + raw.narrow(1, 0, states) * &self.delta_std;
        let next = free.clamp_tensor(Some(&self.low), Some(&self.high));
        // An entry that is constant in the data has no range to leave.
        let left = free.ne_tensor(&next).logical_and(&self.low.ne_tensor(&self.high));
        let outcome =
            self.outcome.evaluate(&per_member(Tensor::cat(&[action, observation, &next], 1))).view([total, 2]);
        let cost = outcome.narrow(1, 1, 1);
        Outputs {
            clipped: left.any_dim(1, true).to_kind(Kind::Float).mean(Kind::Float),
            next,
            reward: outcome.narrow(1, 0, 1) * self.reward_std + self.reward_mean,
            cost: if self.binary_cost { cost.sigmoid() } else { (&cost * self.cost_std).clamp_min(0.0) },
            terminal: if self.terminates { raw.narrow(1, states, 1).sigmoid() } else { cost.zeros_like() },
        }
    }

    /// Number of members E.
    pub fn members(&self) -> i64 {
        self.members
    }

    /// Episodes of full length from the states in rows `starts [N]` under a policy, in every member.
    pub fn rollout(
        &mut self,
        data: &Dataset,
        starts: &Tensor,
        cancel: &AtomicBool,
        player: &mut dyn Player,
    ) -> Result<RolloutEstimate> {
        let episodes = starts.size()[0];
        let initial = data.gather(starts).observation().contiguous();
        let Sums { returns, costs, clipped } =
            self.simulate(&initial, data.episode_length, cancel, |turn, _| (player.act(turn), None))?;
        let per_member = |total: &Tensor| total.view([episodes, self.members]).mean_dim(0i64, false, Kind::Double);
        let spread = |means: &Tensor| if self.members > 1 { means.std(true).double_value(&[]) } else { 0.0 };
        let (cost_means, return_means) = (per_member(&costs), per_member(&returns));
        Ok(RolloutEstimate {
            cost: cost_means.mean(Kind::Double).double_value(&[]),
            cost_std: spread(&cost_means),
            ret: return_means.mean(Kind::Double).double_value(&[]),
            return_std: spread(&return_means),
            clipped,
        })
    }

    /// Undiscounted sums over `length` steps from `initial [N,S]`. `act` sees a turn of N*E rows and the time and gives
    /// actions `[N*E,A]` and, where ends are known and not predicted, which rows are still under way, `[N*E,1]`.
    fn simulate(
        &mut self,
        initial: &Tensor,
        length: usize,
        cancel: &AtomicBool,
        mut act: impl FnMut(&Turn<'_>, usize) -> (Tensor, Option<Tensor>),
    ) -> Result<Sums> {
        let mut observation = initial.repeat_interleave_self_int(self.members, 0i64, None);
        let rows = observation.size()[0];
        let mut alive = Tensor::ones([rows, 1], (Kind::Float, initial.device()));
        let (mut returns, mut costs) = (alive.zeros_like(), alive.zeros_like());
        let (mut reward, mut cost) = (alive.zeros_like(), alive.zeros_like());
        let mut clipped = Tensor::zeros([1], (Kind::Float, initial.device()));
        for time in 0..length {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let turn = Turn { observation: &observation, reward: &reward, cost: &cost };
            let (action, under_way) = act(&turn, time);
            let known_ends = under_way.is_some();
            alive = under_way.unwrap_or(alive);
            let predicted = self.predict(&observation, &action);
            returns += &predicted.reward * &alive;
            costs += &predicted.cost * &alive;
            clipped += predicted.clipped;
            (observation, reward, cost) = (predicted.next, predicted.reward, predicted.cost);
            if self.terminates && !known_ends {
                alive *= 1.0 - predicted.terminal;
            }
        }
        Ok(Sums { returns, costs, clipped: clipped.double_value(&[0]) / length.max(1) as f64 })
    }

    /// Replays the logged actions of held-out episodes and compares sums; see the module's first lines for why.
    pub fn validate(&mut self, data: &Dataset, run: &RunConfig, cancel: &AtomicBool) -> Result<Validity> {
        let chosen: Vec<Episode> = self.holdout.iter().take(REPLAY_CAP).map(|&i| data.episodes[i]).collect();
        let (predicted_returns, predicted_costs) = self.replay(data, &chosen, cancel)?;
        let logged = |f: fn(&Episode) -> f64| chosen.iter().map(f).collect::<Vec<_>>();
        Ok(judge(&predicted_returns, &logged(|e| e.ret), &predicted_costs, &logged(|e| e.cost), run))
    }

    /// Predicted return and cost of each episode under its own actions, averaged over members.
    fn replay(&mut self, data: &Dataset, episodes: &[Episode], cancel: &AtomicBool) -> Result<(Vec<f64>, Vec<f64>)> {
        let longest = episodes.iter().map(Episode::len).max().unwrap_or(0);
        let column = |f: &dyn Fn(&Episode) -> i64| {
            Tensor::from_slice(&episodes.iter().map(f).collect::<Vec<_>>()).to_device(data.device())
        };
        let (starts, lengths) = (column(&|e| e.start as i64), column(&|e| e.len() as i64));
        let initial = data.gather(&starts).observation().contiguous();
        let members = self.members;
        let spread = |rows: Tensor| rows.repeat_interleave_self_int(members, 0i64, None);
        let sums = self.simulate(&initial, longest, cancel, |_, time| {
            // Shorter episodes stay at their last action and no longer count.
            let offset = (&lengths - 1).clamp_max(time as i64);
            let under_way = lengths.gt(time as i64).to_kind(Kind::Float).unsqueeze(1);
            (spread(data.gather(&(&starts + offset)).action()), Some(spread(under_way)))
        })?;
        let means = |total: &Tensor| -> Result<Vec<f64>> {
            let means = total.view([-1, members]).mean_dim(1i64, false, Kind::Double).to_device(Device::Cpu);
            Ok(Vec::<f64>::try_from(&means)?)
        };
        Ok((means(&sums.returns)?, means(&sums.costs)?))
    }

    /// Saves or restores the parameters; the split follows from the seed.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.episodes("holdout", &mut self.holdout)?;
        state.tensor("train_rows", &mut self.train_rows)?;
        state.group("motion", |state| self.motion.persist(state))?;
        state.group("outcome", |state| self.outcome.persist(state))
    }
}

/// Pearson correlation; 0 where it is not defined.
pub fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let covariance: f64 = a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum();
    let spread = |values: &[f64], mean: f64| values.iter().map(|x| (x - mean).powi(2)).sum::<f64>().sqrt();
    let scale = spread(a, mean_a) * spread(b, mean_b);
    if scale > 0.0 && scale.is_finite() {
        covariance / scale
    } else {
        0.0
    }
}

/// Applies the run's thresholds to predicted and logged sums of held-out episodes.
pub fn judge(
    predicted_returns: &[f64],
    returns: &[f64],
    predicted_costs: &[f64],
    costs: &[f64],
    run: &RunConfig,
) -> Validity {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let std = |values: &[f64]| {
        (values.iter().map(|x| (x - mean(values)).powi(2)).sum::<f64>() / values.len().max(1) as f64).sqrt()
    };
    let return_correlation = correlation(predicted_returns, returns);
    let cost_correlation = correlation(predicted_costs, costs);
    // Returns may average to nothing; their spread is then the scale an error is judged by.
    let return_bias = (mean(predicted_returns) - mean(returns)) / mean(returns).abs().max(std(returns)).max(1e-9);
    let cost_bias = (mean(predicted_costs) - mean(costs)) / mean(costs).max(0.1 * run.cost_limit).max(1e-9);
    let mut reasons = Vec::new();
    if returns.len() < 5 {
        reasons.push(format!("only {} held-out episodes, at least 5 are needed", returns.len()));
    }
    let mut demand = |ok: bool, text: String| {
        if !ok {
            reasons.push(text);
        }
    };
    demand(
        return_correlation >= run.valid_return_correlation,
        format!(
            "replayed returns correlate {return_correlation:.2} with the logged ones, {:.2} is needed",
            run.valid_return_correlation
        ),
    );
    demand(
        return_bias.abs() <= run.valid_return_bias,
        format!(
            "replayed returns are off by {:+.0} %, {:.0} % is allowed",
            100.0 * return_bias,
            100.0 * run.valid_return_bias
        ),
    );
    demand(
        cost_bias >= -run.valid_cost_shortfall,
        format!(
            "replayed costs are {:.0} % too low, {:.0} % is allowed",
            -100.0 * cost_bias,
            100.0 * run.valid_cost_shortfall
        ),
    );
    Validity {
        valid: reasons.is_empty(),
        reasons,
        held_out_episodes: returns.len(),
        return_correlation,
        return_bias,
        cost_correlation,
        cost_bias,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_validity_test_accepts_good_and_names_each_fault() {
        let run = RunConfig::default();
        let returns = [100.0, 200.0, 300.0, 400.0, 500.0];
        let costs = [0.0, 10.0, 20.0, 30.0, 40.0];
        assert!(judge(&returns, &returns, &costs, &costs, &run).valid);
        let reversed: Vec<f64> = returns.iter().rev().copied().collect();
        assert!(judge(&reversed, &returns, &costs, &costs, &run).reasons[0].contains("correlate"));
        let doubled = returns.map(|r| 2.0 * r);
        assert!(judge(&doubled, &returns, &costs, &costs, &run).reasons[0].contains("off by +100 %"));
        let none = [0.0; 5];
        assert!(judge(&returns, &returns, &none, &costs, &run).reasons[0].contains("100 % too low"));
        assert!(judge(&returns[..3], &returns[..3], &costs[..3], &costs[..3], &run).reasons[0].contains("held-out"));
        // Reading too much cost is safe.
        assert!(judge(&returns, &returns, &costs.map(|c| 2.0 * c), &costs, &run).valid);
    }

    #[test]
    fn correlation_of_a_constant_is_zero() {
        assert_eq!(correlation(&[1.0, 1.0], &[0.0, 5.0]), 0.0);
        assert!((correlation(&[1.0, 2.0, 3.0], &[-2.0, -4.0, -6.0]) + 1.0).abs() < 1e-12);
    }
}
