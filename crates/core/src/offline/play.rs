//! Episodes in the models: of a policy, or of logged actions.

use super::dynamics::Dynamics;
use super::signal::CostKind;
use super::stats::mean;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::policy::Turn;
use drcorl_nn::profile;
use drcorl_nn::rng::Rng;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Device, Kind, Tensor};

/// What a play of N rows in E members gives, `[N*E,1]` each but for the K costs, row n*E+e for member e. Undiscounted.
pub(super) struct Played {
    /// Rewards as long as the episode is predicted to last.
    pub returns: Tensor,
    /// Costs of all steps, whatever ends are predicted: see [`Charges`]. `[N*E,K]`
    pub costs: Tensor,
    /// The same of costs drawn as likely as they are predicted, where draws were given: what one episode costs.
    pub drawn: Option<Tensor>,
    /// Expected steps before a predicted end.
    pub lengths: Tensor,
    /// Probability that no end has come.
    pub alive: Tensor,
    /// States `[N*E,S']` arrived at.
    pub last: Tensor,
    /// Share of predicted entries that were clipped, of states before a predicted end: no data lie beyond it.
    pub clipped: f64,
}

/// What drives a play: from the turn, its time, and the probability `[N*E,1]` that no end has come, to actions
/// `[N*E,A]`, and which rows are still under way where that is known.
pub(super) type Driver<'a> = dyn FnMut(&Turn<'_>, usize, &Tensor) -> (Tensor, Option<Tensor>) + 'a;

impl Dynamics {
    /// Plays `length` steps from the logged rows `initial [N*E]`: every step the mean of what comes next, or with
    /// `draws` as episodes come, with errors that are drawn (see [`super::errors`]).
    pub(super) fn play(
        &mut self,
        data: &Dataset,
        initial: &Tensor,
        length: usize,
        mut draws: Option<Rng>,
        cancel: &AtomicBool,
        drive: &mut Driver<'_>,
    ) -> Result<Played> {
        if draws.is_some() {
            self.prepare_to_err(data);
        }
        let mut now = self.frame.moment(data, initial);
        let rows = initial.size()[0];
        let mut alive = Tensor::ones([rows, 1], (Kind::Float, initial.device()));
        let zeros = || Tensor::zeros([rows, 1], (Kind::Float, initial.device()));
        let kinds = self.frame.costs.clone();
        let charges = || Charges::new(rows, kinds.len() as i64, self.members(), initial.device());
        let (mut expected, mut drawn) = (charges(), draws.as_ref().map(|_| charges()));
        let (mut returns, mut lengths, mut reward, mut cost) = (zeros(), zeros(), zeros(), zeros());
        let mut clipped = Share::none(initial.device());
        for time in 0..length {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let observation = self.frame.observation(&now.state);
            let (action, under_way) = {
                let _actions = profile::open("actions");
                drive(&Turn { observation: &observation, reward: &reward, cost: &cost }, time, &alive)
            };
            let predicted = {
                let _models = profile::open("models");
                let chance = draws.as_mut().map(|draws| draws.uniform(&[rows / self.members(), 1], initial.device()));
                self.predict(&now, &action, chance.as_ref())
            };
            let counted = under_way.as_ref().map_or_else(|| alive.shallow_clone(), |rows| &alive * rows);
            returns += &predicted.reward * &counted;
            lengths += &counted;
            let ends = self.frame.terminates.then_some(&alive);
            match &under_way {
                // The log knows its own ends.
                Some(rows) => expected.count(&(&predicted.costs * rows), None),
                None => expected.count(&predicted.costs, ends),
            }
            if let (Some(draws), Some(drawn)) = (&mut draws, &mut drawn) {
                drawn.count(&drawn_costs(&kinds, &predicted.costs, draws), ends);
            }
            clipped.count(&predicted.clipped, &counted);
            // A policy that remembers is told the first.
            (now, reward, cost) = (predicted.next, predicted.reward, predicted.costs.narrow(1, 0, 1));
            if self.frame.terminates {
                alive *= 1.0 - predicted.terminal;
            }
        }
        let clipped = clipped.value();
        let (costs, drawn) = (expected.total, drawn.map(|drawn| drawn.total));
        Ok(Played { returns, costs, drawn, lengths, alive, last: now.state, clipped })
    }
}

/// A weighed mean of what is between 0 and 1.
struct Share {
    part: Tensor,
    whole: Tensor,
}

impl Share {
    fn none(device: Device) -> Self {
        let zero = || Tensor::zeros([1], (Kind::Double, device));
        Share { part: zero(), whole: zero() }
    }

    /// Counts `values [N,1]` by their `weights [N,1]`.
    fn count(&mut self, values: &Tensor, weights: &Tensor) {
        self.part += (values * weights).sum(Kind::Double);
        self.whole += weights.sum(Kind::Double);
    }

    /// 0 of nothing.
    fn value(&self) -> f64 {
        let whole = self.whole.double_value(&[0]);
        if whole == 0.0 {
            0.0
        } else {
            self.part.double_value(&[0]) / whole
        }
    }
}

/// What a row that has ended weighs beside one that lasts, so that where all have ended the mean of all is left.
pub(super) const LEAST_WEIGHT: f64 = 0.005;

/// Sums of the costs of N rows in E members, `[N*E,K]`. The steps that a predicted end takes from a row are charged at
/// what the rows that last cost there, or at the row's own cost a step until then where that is more: a model that ends
/// episodes by mistake must not make a policy look safe. What models say of states beyond an end has [`LEAST_WEIGHT`],
/// for no data lie there: on HopperVelocity it read a policy that falls in a fifth of its episodes at 13 for 0.8, and
/// clones up to three times too high.
struct Charges {
    members: i64,
    total: Tensor,
    /// Costs and steps before an end.
    spent: Tensor,
    lived: Tensor,
}

impl Charges {
    fn new(rows: i64, costs: i64, members: i64, device: Device) -> Self {
        let zeros = |width: i64| Tensor::zeros([rows, width], (Kind::Float, device));
        Charges { members, total: zeros(costs), spent: zeros(costs), lived: zeros(1) }
    }

    /// Costs `[N*E,K]` of a step that a row reaches with the probability `alive [N*E,1]`; None where no end can come.
    fn count(&mut self, costs: &Tensor, alive: Option<&Tensor>) {
        let Some(alive) = alive else {
            self.total += costs;
            return;
        };
        let width = costs.size()[1];
        let each = |rows: &Tensor| rows.reshape([-1, self.members, rows.size()[1]]);
        let weight = alive + LEAST_WEIGHT;
        let sum = |rows: &Tensor| each(rows).sum_dim_intlist(0i64, true, Kind::Float);
        let lasting = (sum(&(costs * &weight)) / sum(&weight)).expand_as(&each(costs)).reshape([-1, width]);
        let reached = costs * alive;
        self.spent += &reached;
        self.lived += alive;
        let charge = lasting.maximum(&(&self.spent / &self.lived)).clamp_min(0.0);
        self.total += reached + (1.0 - alive) * charge;
    }
}

/// What logged episodes, the costs of their steps, would cost over `length` steps by the same charges.
pub(super) fn charged(episodes: &[&[f32]], length: usize) -> Vec<f64> {
    let mut totals = vec![0.0; episodes.len()];
    let rates: Vec<f64> = (episodes.iter())
        .map(|costs| costs.iter().map(|&cost| f64::from(cost)).sum::<f64>() / costs.len().max(1) as f64)
        .collect();
    for time in 0..length {
        let under_way: Vec<f64> =
            episodes.iter().filter_map(|costs| costs.get(time)).map(|&cost| f64::from(cost)).collect();
        let lasting = if under_way.is_empty() { 0.0 } else { mean(&under_way) };
        for ((total, costs), rate) in totals.iter_mut().zip(episodes).zip(&rates) {
            *total += costs.get(time).map_or_else(|| lasting.max(*rate).max(0.0), |&cost| f64::from(cost));
        }
    }
    totals
}

/// Costs `[B,K]` as one episode has them: flags are drawn, other costs are as predicted.
fn drawn_costs(kinds: &[CostKind], predicted: &Tensor, draws: &mut Rng) -> Tensor {
    let columns: Vec<Tensor> = (kinds.iter().enumerate())
        .map(|(k, kind)| {
            let column = predicted.narrow(1, k as i64, 1);
            match kind {
                CostKind::Flag { unit } => {
                    (draws.uniform(&column.size(), column.device()) * *unit).lt_tensor(&column).to_kind(Kind::Float)
                        * *unit
                }
                CostKind::Real { .. } => column,
            }
        })
        .collect();
    Tensor::cat(&columns, 1)
}

/// A column `[N*E,1]` as numbers of each member, `[E][N]`.
pub(super) fn per_member(column: &Tensor, members: i64) -> Result<Vec<Vec<f64>>> {
    let table = column.reshape([-1, members]).tr().to_kind(Kind::Double).to_device(tch::Device::Cpu).contiguous();
    Ok(Vec::<Vec<f64>>::try_from(&table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).unsqueeze(1)
    }

    #[test]
    fn what_has_ended_has_no_share() {
        let mut share = Share::none(Device::Cpu);
        assert_eq!(share.value(), 0.0);
        share.count(&column(&[0.5, 0.0]), &column(&[1.0, 1.0]));
        share.count(&column(&[0.0, 1.0]), &column(&[1.0, 0.0]));
        assert!((share.value() - 0.5 / 3.0).abs() < 1e-12);
    }

    /// Two members, three rows each; of a member's rows the last ends after its first step.
    #[test]
    fn ends_are_charged_at_what_lasts_or_at_what_came_before() {
        let mut charges = Charges::new(6, 1, 2, Device::Cpu);
        let alive = column(&[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        charges.count(&column(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]), Some(&alive.ones_like()));
        // Beyond its end the models see nothing but cost, or none.
        charges.count(&column(&[1.0, 0.0, 1.0, 0.0, 9.0, 0.0]), Some(&alive));
        let weight = LEAST_WEIGHT as f32;
        let lasting = (2.0 * (1.0 + weight) + 9.0 * weight) / (2.0 + 3.0 * weight);
        let expected = column(&[2.0, 0.0, 2.0, 0.0, lasting, 2.0]);
        assert!((charges.total - expected).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn logs_are_charged_in_the_same_way() {
        let episodes: [&[f32]; 3] = [&[1.0, 1.0, 0.0, 2.0], &[0.0, 0.0], &[4.0]];
        // Of the first all; of the second what the first still costs; of the third its own rate, the highest.
        assert_eq!(charged(&episodes, 4), [4.0, 2.0, 16.0]);
        assert_eq!(charged(&[&[-1.0], &[-2.0, -2.0]], 3), [-1.0, -4.0], "no end earns anything");
    }

    #[test]
    fn flags_are_drawn_as_likely_as_they_are() {
        let kinds = [CostKind::Flag { unit: 5.0 }, CostKind::Real { center: 0.0, scale: 1.0, low: -1.0, high: 1.0 }];
        let predicted = Tensor::from_slice(&[1.0f32, 0.25]).expand([4000, 2], false);
        let drawn = drawn_costs(&kinds, &predicted, &mut Rng::new(0, 0));
        let flags = drawn.narrow(1, 0, 1);
        assert!((flags.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.1);
        assert_eq!(flags.ne(0.0).logical_and(&flags.ne(5.0)).any().int64_value(&[]), 0);
        assert_eq!(drawn.narrow(1, 1, 1), predicted.narrow(1, 1, 1));
    }

    #[test]
    fn ends_that_come_to_all_alike_change_nothing() {
        let (mut charges, mut plain) = (Charges::new(4, 1, 1, Device::Cpu), 0.0);
        for step in 0..10 {
            let costs = column(&[0.0, 1.0, 2.0, step as f32]);
            plain += costs.sum(Kind::Double).double_value(&[]);
            charges.count(&costs, Some(&(costs.ones_like() * 0.7f64.powi(step))));
        }
        let total = charges.total.sum(Kind::Double).double_value(&[]);
        assert!(total >= plain && total < 1.3 * plain, "{total} {plain}");
    }
}
