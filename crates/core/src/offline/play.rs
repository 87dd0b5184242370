//! Episodes in the models: of a policy, or of logged actions.

use super::dynamics::Dynamics;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::policy::Turn;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Kind, Tensor};

/// What a play of N rows in E members gives, `[N*E,1]` each but for the K costs, row n*E+e for member e. Undiscounted.
pub(super) struct Played {
    /// Rewards as long as the episode is predicted to last.
    pub returns: Tensor,
    /// Costs as if no predicted end came: a model that ends episodes by mistake must not make a policy look safe.
    /// `[N*E,K]`
    pub costs: Tensor,
    /// Expected steps before a predicted end.
    pub lengths: Tensor,
    /// Probability that no end has come.
    pub alive: Tensor,
    /// States `[N*E,S']` arrived at.
    pub last: Tensor,
    /// Share of predicted entries that were clipped.
    pub clipped: f64,
}

/// What drives a play at time `time`: actions `[N*E,A]`, and which rows are still under way where that is known.
pub(super) type Driver<'a> = dyn FnMut(&Turn<'_>, usize) -> (Tensor, Option<Tensor>) + 'a;

impl Dynamics {
    /// Plays `length` steps from the logged rows `initial [N*E]`.
    pub(super) fn play(
        &mut self,
        data: &Dataset,
        initial: &Tensor,
        length: usize,
        cancel: &AtomicBool,
        drive: &mut Driver<'_>,
    ) -> Result<Played> {
        let mut now = self.frame.moment(data, initial);
        let rows = initial.size()[0];
        let mut alive = Tensor::ones([rows, 1], (Kind::Float, initial.device()));
        let zeros = || Tensor::zeros([rows, 1], (Kind::Float, initial.device()));
        let mut costs = Tensor::zeros([rows, self.frame.costs.len() as i64], (Kind::Float, initial.device()));
        let (mut returns, mut lengths, mut reward, mut cost) = (zeros(), zeros(), zeros(), zeros());
        let mut clipped = Tensor::zeros([1], (Kind::Float, initial.device()));
        for time in 0..length {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let observation = self.frame.observation(&now.state);
            let (action, under_way) = drive(&Turn { observation: &observation, reward: &reward, cost: &cost }, time);
            let predicted = self.predict(&now, &action);
            let counted = under_way.as_ref().map_or_else(|| alive.shallow_clone(), |rows| &alive * rows);
            returns += &predicted.reward * &counted;
            lengths += &counted;
            costs += match &under_way {
                Some(rows) => &predicted.costs * rows,
                None => predicted.costs.shallow_clone(),
            };
            clipped += predicted.clipped;
            // A policy that remembers is told the first.
            (now, reward, cost) = (predicted.next, predicted.reward, predicted.costs.narrow(1, 0, 1));
            if self.frame.terminates {
                alive *= 1.0 - predicted.terminal;
            }
        }
        let clipped = clipped.double_value(&[0]) / length.max(1) as f64;
        Ok(Played { returns, costs, lengths, alive, last: now.state, clipped })
    }
}

/// A column `[N*E,1]` as numbers of each member, `[E][N]`.
pub(super) fn per_member(column: &Tensor, members: i64) -> Result<Vec<Vec<f64>>> {
    let table = column.reshape([-1, members]).tr().to_kind(Kind::Double).to_device(tch::Device::Cpu).contiguous();
    Ok(Vec::<Vec<f64>>::try_from(&table)?)
}
