//! Whether the past tells what the state does not.
//!
//! Two small networks learn the next state from the same rows, one of them sees the past too. Where observations hide
//! velocities or forces, it misses held-out states by far less: on CarRun by .37 of the other's squared error. Where
//! they hide nothing, the past is one more thing to go wrong in a rollout: on HopperVelocity (.95) models that see it
//! can be believed over 20 steps, and 50 without.

use super::dynamics::Dynamics;
use super::frame::Moment;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::run::RunConfig;
use drcorl_nn::optim::cosine;
use drcorl_nn::rng::Rng;
use drcorl_nn::{widths, Head, Hidden};
use std::sync::atomic::{AtomicBool, Ordering};
use tch::{Kind, Tensor};

const HIDDEN: [i64; 2] = [64, 64];
/// Fewer where the models make fewer.
const STEPS: u64 = 1500;
const LR: f64 = 3e-3;
const LAST_LR: f64 = 3e-5;
/// Held-out rows that are compared on.
const ROWS: usize = 4096;
/// The past is seen where the error with it is at most this share of the error without.
const SHARE: f64 = 2.0 / 3.0;
/// Stream of the run's seed.
const STREAM: u64 = 11;

/// Of some rows.
struct Lesson {
    /// With and without the past.
    inputs: [Tensor; 2],
    /// Scaled change of the state.
    change: Tensor,
}

impl Dynamics {
    /// True where the past lowers the error on held-out rows clearly. Draws nothing from the run.
    pub(super) fn past_tells(&self, data: &Dataset, run: &RunConfig, cancel: &AtomicBool) -> Result<bool> {
        let held_out = data.rows_in(&self.split.holdout);
        if self.frame.history == 0 || held_out.numel() == 0 {
            return Ok(false);
        }
        let stride = held_out.numel().div_ceil(ROWS) as i64;
        let tested = self.lesson(data, &held_out.slice(0, 0, None, stride));
        let mut rng = Rng::new(run.seed, STREAM);
        let mut heads = tested.inputs.each_ref().map(|input| {
            let widths = widths(input.size()[1], &HIDDEN, tested.change.size()[1]);
            Head::with_hidden("past", 1, &widths, Hidden::Mish, false, data.device(), &mut rng)
        });
        let (learnt, steps) = (&self.split.learnt, STEPS.min(run.model_steps));
        for step in 0..steps {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let drawn = rng.rows(run.model_batch, learnt.size()[0], data.device());
            let Lesson { inputs, change } = self.lesson(data, &learnt.index_select(0, &drawn));
            for (head, input) in heads.iter_mut().zip(&inputs) {
                let grad = (head.forward(input) - &change) * (2.0 / run.model_batch as f64);
                head.descend(input, &grad, cosine(LR, LAST_LR, step, steps));
            }
        }
        let mut error = |k: usize| {
            (heads[k].evaluate(&tested.inputs[k]) - &tested.change).square().mean(Kind::Double).double_value(&[])
        };
        Ok(error(0) <= SHARE * error(1))
    }

    /// What the two networks see and learn of logged rows `[N]`.
    fn lesson(&self, data: &Dataset, rows: &Tensor) -> Lesson {
        let batch = data.gather(rows);
        let Moment { state, past } = self.frame.moment(data, rows);
        let without = Tensor::cat(&[batch.action(), self.frame.scaled(&state)], 1);
        let change = self.frame.scaled_change(&state, &self.frame.state(&batch.next_observation()));
        Lesson { inputs: [Tensor::cat(&[&without, &past], 1), without], change }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use drcorl_data::Columns;
    use std::sync::Arc;
    use tch::Device;

    const STEPS: usize = 50;

    /// A cart on a line that is pushed and rubs: 40 episodes, seen with its speed or without.
    pub(in super::super) fn cart(speed_is_seen: bool) -> Dataset {
        Dataset::new(Arc::new(cart_columns(speed_is_seen)), None, Device::Cpu).unwrap()
    }

    pub(in super::super) fn cart_columns(speed_is_seen: bool) -> Columns {
        let mut rng = Rng::new(5, 0);
        let mut columns = Columns { obs_dim: 1 + usize::from(speed_is_seen), act_dim: 1, ..Columns::default() };
        for _ in 0..40 {
            let (mut place, mut speed) = (rng.unit() - 0.5, 2.0 * rng.unit() - 1.0);
            for step in 0..STEPS {
                let push = 2.0 * rng.unit() - 1.0;
                let seen = |place, speed| [place, speed].into_iter().take(1 + usize::from(speed_is_seen));
                columns.observations.extend(seen(place, speed));
                speed += 0.2 * push - 0.05 * speed;
                place += 0.1 * speed;
                columns.next_observations.extend(seen(place, speed));
                columns.actions.push(push);
                columns.rewards.push(0.0);
                columns.costs.push(0.0);
                columns.terminals.push(false);
                columns.timeouts.push(step + 1 == STEPS);
            }
        }
        columns
    }

    fn models(data: &Dataset, run: &RunConfig) -> Dynamics {
        Dynamics::new(data, run, 2, &mut Rng::new(0, 0))
    }

    #[test]
    fn the_past_is_seen_where_the_state_hides_a_speed() {
        let run = RunConfig { model_history: 1, ..RunConfig::default() };
        let tells = |speed_is_seen| {
            let data = cart(speed_is_seen);
            models(&data, &run).past_tells(&data, &run, &AtomicBool::new(false)).unwrap()
        };
        assert!(tells(false));
        assert!(!tells(true));
    }

    #[test]
    fn a_past_is_that_of_its_episode_and_of_what_was_played() {
        let (data, run) = (cart(false), RunConfig::default());
        let mut models = models(&data, &run);
        let at = |models: &Dynamics, row: usize| models.frame.moment(&data, &Tensor::from_slice(&[row as i64]));
        let past = |moment: &Moment| Vec::<f32>::try_from(moment.past.view([-1])).unwrap();
        assert_eq!(past(&at(&models, STEPS)), [0.0; 4], "an episode's first step");
        let second = past(&at(&models, STEPS + 1));
        assert!(second[0] != 0.0 && second[1] != 0.0);
        assert_eq!(second[2..], [0.0; 2]);
        assert_eq!(past(&at(&models, STEPS + 2))[2..], second[..2], "the latest first");
        // Where the models go on by themselves, the past is that of their own states and the policy's actions.
        let now = at(&models, STEPS + 2);
        let action = Tensor::from_slice(&[0.25f32]).unsqueeze(1);
        let rows = |tensor: &Tensor| tensor.repeat_interleave_self_int(2, 0i64, None);
        let twice = Moment { state: rows(&now.state), past: rows(&now.past) };
        let next = models.predict(&twice, &rows(&action), None).next;
        let made = Vec::<f32>::try_from(next.past.get(0)).unwrap();
        let moved =
            models.frame.scaled_change(&now.state, &next.state.get(0).unsqueeze(0)).double_value(&[0, 0]) as f32;
        assert_eq!(made[..2], [moved, 0.25]);
        assert_eq!(made[2..], past(&now)[..2]);
        models.frame.remembers = false;
        assert_eq!(past(&at(&models, STEPS + 2)), [0.0; 4], "a past that tells nothing");
    }
}
