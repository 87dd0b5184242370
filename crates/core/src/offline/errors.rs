//! What motion got wrong of held-out steps, to be drawn from.
//!
//! Motion foresees the mean of what comes next. A policy that stays just inside a border stays there in every such
//! episode, and crosses it in the world, where no step is quite the mean: on HopperVelocity one that costs 11.3 was
//! read at 0.0 +- 0.1, and with drawn errors is at 3 to 6. So plays that stand for episodes err as held-out steps did:
//! in units of how far the members are apart, with which errors grow (logarithms correlate .86 to .91 on BallCircle).
//! Errors as they are, of all steps alike, read two policies that cost nothing at 12 and 18.

use super::dynamics::Dynamics;
use crate::dataset::Dataset;
use tch::{Kind, Tensor};

/// Held-out rows whose errors are kept.
const MOST: i64 = 10_000;
/// An error is drawn from one in so many of them, those with members the most nearly as far apart.
const WINDOW: i64 = 8;
/// Smallest distance between members.
const NEAREST: f64 = 1e-9;

/// Errors of R held-out steps, in the order of how far the members were apart.
pub(super) struct Errors {
    /// That distance, `[R]`.
    apart: Tensor,
    /// Logged less foreseen change in units of it, `[R*E,S']`, row r*E+e of member e.
    errors: Tensor,
    members: i64,
}

impl Errors {
    /// Of `apart [R*E,1]` and errors of the scaled change `[R*E,S']` in any order; rows of a step are apart alike.
    fn of(apart: &Tensor, errors: &Tensor, members: i64) -> Self {
        let rows = apart.size()[0] / members;
        let errors = errors / apart.clamp_min(NEAREST);
        let (apart, order) = apart.view([rows, members]).select(1, 0).sort(0, false);
        let errors = errors.view([rows, members, -1]).index_select(0, &order).view([rows * members, -1]);
        Errors { apart, errors, members }
    }

    /// Errors `[B*E,S']` of rows whose members are `apart [B*E,1]`, drawn by `uniform [B,1]`: the same step for all
    /// members, so that what they then tell apart is their own.
    /// Nothing is known of members further apart than any were.
    pub fn drawn(&self, apart: &Tensor, uniform: &Tensor) -> Tensor {
        let rows = self.apart.size()[0];
        let window = (rows / WINDOW).max(1);
        let place = apart.view([-1, self.members]).bucketize(&self.apart, false, false);
        let first = (place - window / 2).clamp(0, rows - window);
        let picked = first + (uniform * window as f64).floor().clamp_max((window - 1) as f64).to_kind(Kind::Int64);
        let member = Tensor::arange(self.members, (Kind::Int64, apart.device()));
        let scale = apart.minimum(&self.apart.narrow(0, rows - 1, 1));
        self.errors.index_select(0, &(picked * self.members + member).view([-1])) * scale
    }
}

impl Dynamics {
    /// Of held-out steps, evenly spread, but for those that ended an episode: what follows these is not read.
    /// None without any.
    pub(super) fn measure_errors(&mut self, data: &Dataset) -> Option<Errors> {
        let held = data.rows_in(&self.split.holdout);
        let every = (held.size()[0] as u64).div_ceil(MOST as u64).max(1) as i64;
        let rows = held.slice(0, None, None, every);
        let lasts = data.gather(&rows).terminal().squeeze_dim(1).le(0.5);
        let rows = rows.masked_select(&lasts).repeat_interleave_self_int(self.members(), 0i64, None);
        if rows.numel() == 0 {
            return None;
        }
        let batch = data.gather(&rows);
        let now = self.frame.moment(data, &rows);
        let input = self.frame.departure(&batch.action(), &self.frame.scaled(&now.state), &now.past);
        let foreseen = self.foresee(&input);
        let next = self.frame.state(&batch.next_observation());
        let errors = self.frame.scaled_change(&now.state, &next) - &foreseen.change;
        Some(Errors::of(&foreseen.apart(), &errors, self.members()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 16 steps with members 1 to 16 apart, each of which erred by its square, the second member to the other side.
    fn errors() -> Errors {
        let steps: Vec<f32> = (1..=16).rev().map(|step| step as f32).collect();
        let apart = Tensor::from_slice(&steps).unsqueeze(1).repeat([1, 2]).view([32, 1]);
        let sides = Tensor::from_slice(&[1.0f32, -1.0]).repeat([16]).unsqueeze(1);
        Errors::of(&apart, &(apart.square() * sides), 2)
    }

    #[test]
    fn errors_are_those_of_steps_as_far_apart() {
        let column = |values: &[f32]| Tensor::from_slice(values).unsqueeze(1);
        let drawn = |apart: &[f32], uniform: &[f32]| -> Vec<f32> {
            Vec::try_from(&errors().drawn(&column(apart), &column(uniform)).view([-1])).unwrap()
        };
        // Windows of two steps, the one below and the nearest above; the same draw for both members.
        assert_eq!(drawn(&[7.5, 7.5, 7.5, 7.5], &[0.0, 0.9]), [7.5 * 7.0, -7.5 * 7.0, 7.5 * 8.0, -7.5 * 8.0]);
        assert_eq!(drawn(&[3.5, 9.5], &[0.0]), [3.5 * 3.0, -9.5 * 9.0], "members go their own ways");
        assert_eq!(drawn(&[0.0, 99.0], &[1.0]), [0.0, -16.0 * 16.0], "nothing is known beyond");
    }
}
