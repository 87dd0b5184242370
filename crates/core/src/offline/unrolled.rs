//! Motion learns several steps at once.
//!
//! A model that is right to one part in a thousand a step, always to the same side, is wrong by far more where it
//! goes on from its own predictions. So the last steps of its training unroll it over stretches of logged actions and
//! descend the error of every state on the way, gradients running back through the states before it (Abbeel and Ng
//! 2005; Lambert et al. 2022, arXiv:2202.04641).

use super::dynamics::Dynamics;
use super::frame::Moment;
use crate::dataset::Dataset;
use drcorl_data::SUCCESSORS_APART;
use drcorl_nn::rng::Rng;
use drcorl_nn::Cache;
use tch::{Kind, Tensor};

/// Steps of a stretch. With 16, on CarRun, returns of 485, 546 and 557 were read at 492, 544 and 552, with 8 at 503,
/// 547 and 557; they take a third more time.
const STEPS: usize = 8;
/// Share of the steps of training before it. At larger rates the gradient of a long stretch throws models out: from
/// half of them on, over 16 steps, CarRun's costs were read 22 % too low at the first step.
const FROM: f64 = 0.7;

/// True where a step of training is one of those.
pub(super) fn unrolls(step: u64, steps: u64) -> bool {
    step as f64 >= FROM * steps as f64
}

/// One step of a stretch, for the way back.
struct Step {
    /// What motion saw, `[B,E*in]`.
    input: Tensor,
    activations: Cache,
    /// Derivative of the loss for the state arrived at, `[B*E,S']`.
    arrived: Tensor,
}

impl Dynamics {
    /// One Adam step of every member's motion on stretches of its own rows, in all as many rows as `model_batch`.
    /// Returns the loss.
    pub(super) fn descend_stretches(&mut self, data: &Dataset, batch: usize, lr: f64, rng: &mut Rng) -> f64 {
        let sampled = self.split.sample((batch / STEPS).max(1), rng);
        let (mut stretch, loss) = self.unroll(data, sampled);
        let slopes = self.slopes(&mut stretch, data.actions());
        let inputs: Vec<Tensor> = stretch.iter().rev().map(|step| step.input.shallow_clone()).collect();
        let (input, slope) = (Tensor::cat(&inputs, 0), Tensor::cat(&slopes, 0));
        self.passes = stretch.into_iter().map(|step| step.activations).collect();
        self.motion.forward(&input);
        self.motion.descend(&input, &slope, lr);
        loss
    }

    /// Stretches from the rows `at [B*E]`, and their loss. The error of the state after n steps weighs 1/n: what chance
    /// adds grows with n.
    fn unroll(&mut self, data: &Dataset, mut at: Tensor) -> (Vec<Step>, f64) {
        let (rows, members) = (at.size()[0], self.members());
        let mut caches = std::mem::take(&mut self.passes);
        let frame = &self.frame;
        let Moment { mut state, mut past } = frame.moment(data, &at);
        let mut under_way = Tensor::ones([rows, 1], (Kind::Float, state.device()));
        let mut expected = None::<Tensor>;
        let (mut stretch, mut loss) = (Vec::with_capacity(STEPS), 0.0);
        for n in 1..=STEPS {
            let batch = data.gather(&at);
            if let Some(there) = &expected {
                // Where end flags are missing, or rows are shuffled, a stretch ends.
                let missed = (frame.state(&batch.observation()) - there) / &frame.spread;
                let apart = missed.square().mean_dim(1i64, true, Kind::Float).sqrt();
                under_way *= apart.le(SUCCESSORS_APART).to_kind(Kind::Float);
            }
            let input = frame.departure(&batch.action(), &frame.scaled(&state), &past).view([rows / members, -1]);
            let mut activations = caches.pop().unwrap_or_default();
            let change = self.motion.forward_into(&input, &mut activations).view([rows, -1]);
            let next = &state + &change * &frame.change;
            let there = frame.state(&batch.next_observation());
            // What follows a terminal is not read: not every log holds it.
            let lasts: Tensor = 1.0 - batch.terminal();
            let error = frame.scaled_change(&there, &next) * &under_way * lasts;
            let weight = 1.0 / (n * STEPS * rows as usize) as f64;
            loss += error.square().sum(Kind::Double).double_value(&[]) * weight;
            let arrived = error * (2.0 * weight * members as f64) / &frame.change;
            stretch.push(Step { input, activations, arrived });
            if frame.remembers {
                past = frame.past_after(&past, &change, &batch.action());
            }
            state = next;
            // The last row of all may be a tail's that was cut off.
            let goes_on = at.lt(data.len() - 1).to_kind(Kind::Float).unsqueeze(1) * (1.0 - batch.end());
            under_way *= goes_on;
            at += under_way.squeeze_dim(1).to_kind(Kind::Int64);
            expected = Some(there);
        }
        (stretch, loss)
    }

    /// Back through the states: derivatives of the loss for what motion said in each step, `[B,E*S']`, the last first.
    fn slopes(&self, stretch: &mut [Step], actions: i64) -> Vec<Tensor> {
        let (rows, states) = stretch[0].arrived.size2().expect("rows of states");
        let count = rows / self.members();
        let before = states + actions;
        let width = stretch[0].input.size()[1] / self.members() - before;
        // For the state and the past that a step begins at.
        let mut by_state = stretch[0].arrived.zeros_like();
        let mut by_past = Tensor::zeros([rows, width], (Kind::Float, by_state.device()));
        let mut slopes = Vec::with_capacity(stretch.len());
        for Step { input, activations, arrived } in stretch.iter_mut().rev() {
            by_state += &*arrived;
            let mut by_change = &by_state * &self.frame.change;
            if self.frame.remembers {
                by_change += by_past.narrow(1, 0, states);
            }
            let slope = by_change.view([count, -1]);
            let by_input = self.motion.gradient_from(input, &slope, activations).view([rows, -1]);
            by_state += by_input.narrow(1, actions, states) / &self.frame.spread;
            if self.frame.remembers {
                let through = by_input.narrow(1, before, width).contiguous();
                let kept = width - before;
                let _ = through.narrow(1, 0, kept).g_add_(&by_past.narrow(1, before, kept));
                by_past = through;
            }
            slopes.push(slope);
        }
        slopes
    }
}

#[cfg(test)]
mod tests {
    use super::super::past::tests::{cart, cart_columns};
    use super::*;
    use crate::run::RunConfig;
    use std::sync::Arc;
    use tch::Device;

    fn models(run: &RunConfig, speed_is_seen: bool) -> (Dataset, Dynamics) {
        let data = cart(speed_is_seen);
        let mut models = Dynamics::new(&data, run, 2, &mut Rng::new(0, 0));
        models.frame.remembers = !speed_is_seen;
        (data, models)
    }

    /// The gradient by autograd of the same loss, row by row of its definition.
    fn reference(models: &Dynamics, data: &Dataset, batch: usize) -> Tensor {
        let arena = models.motion.online();
        let flat = arena.values().detach().copy().set_requires_grad(true);
        let parts: Vec<Tensor> = (arena.names())
            .map(|name| {
                let (offset, len) = arena.spans(|other| other == name)[0];
                flat.narrow(0, offset, len).view(arena.named(name).unwrap().0.size().as_slice())
            })
            .collect();
        let (members, states) = (models.members(), models.frame.low.size()[0]);
        let network = |input: &Tensor| {
            let count = input.size()[0] / members;
            let input = input.view([count, members, -1]).transpose(0, 1);
            let layers = parts.len() / 2;
            let out = (0..layers).fold(input, |x, layer| {
                let x = x.matmul(&parts[2 * layer].transpose(1, 2)) + parts[2 * layer + 1].unsqueeze(1);
                if layer + 1 < layers {
                    x.mish()
                } else {
                    x
                }
            });
            out.transpose(0, 1).reshape([count * members, -1])
        };
        tch::with_grad(|| {
            let sampled = models.split.sample(batch / STEPS, &mut Rng::new(3, 0));
            let frame = &models.frame;
            let Moment { mut state, mut past } = frame.moment(data, &sampled);
            let mut total = Tensor::zeros([1], (Kind::Float, state.device()));
            let mut under_way = vec![true; sampled.size()[0] as usize];
            let mut rows = Vec::<i64>::try_from(&sampled).unwrap();
            for n in 1..=STEPS {
                let batch = data.gather(&Tensor::from_slice(&rows));
                let action = batch.action().copy();
                let change = network(&Tensor::cat(&[&action, &frame.scaled(&state), &past], 1));
                let next = &state + &change * &frame.change;
                let counts: Vec<f32> = under_way.iter().map(|&on| f32::from(u8::from(on))).collect();
                let error = frame.scaled_change(&frame.state(&batch.next_observation()), &next);
                let squares = error.square().sum_dim_intlist(1i64, false, Kind::Float);
                total += (squares * Tensor::from_slice(&counts)).sum(Kind::Float) / n as f64;
                if frame.remembers {
                    let kept = past.narrow(1, 0, past.size()[1] - states - action.size()[1]);
                    past = Tensor::cat(&[&change, &action, &kept], 1);
                }
                state = next;
                for (row, on) in rows.iter_mut().zip(&mut under_way) {
                    *on &= !data.columns.timeouts[*row as usize] && *row + 1 < data.len();
                    *row += i64::from(*on);
                }
            }
            let mean = total / (STEPS * (batch / STEPS)) as f64;
            Tensor::run_backward(&[&mean], &[&flat], false, false).swap_remove(0).detach()
        })
    }

    /// Stretches end with their episodes, with the past and without.
    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let run = RunConfig { model_hidden: vec![16, 16], model_history: 2, ..RunConfig::default() };
        for speed_is_seen in [true, false] {
            let (data, mut models) = models(&run, speed_is_seen);
            let expected = reference(&models, &data, 512);
            models.descend_stretches(&data, 512, 0.0, &mut Rng::new(3, 0));
            let error = (models.motion.online().gradients() - &expected).norm().double_value(&[]);
            assert!(error < 1e-4 * expected.norm().double_value(&[]), "{error} of {expected:?}");
        }
    }

    /// Where rows do not follow each other a stretch ends, whatever the flags say.
    #[test]
    fn a_stretch_ends_where_rows_do_not_follow() {
        let run = RunConfig { model_hidden: vec![16, 16], ..RunConfig::default() };
        let columns = |unflagged: bool| {
            let mut columns = cart_columns(true);
            if unflagged {
                columns.timeouts.iter_mut().for_each(|timeout| *timeout = false);
            }
            Dataset::new(Arc::new(columns), Some(2000), Device::Cpu).unwrap()
        };
        let gradient = |data: &Dataset| {
            let (_, mut models) = models(&run, true);
            models.descend_stretches(data, 512, 0.0, &mut Rng::new(3, 0));
            models.motion.online().gradients().copy()
        };
        assert_eq!(gradient(&columns(false)), gradient(&columns(true)));
    }

    #[test]
    fn stretches_are_learnt() {
        let run = RunConfig { model_hidden: vec![16, 16], ..RunConfig::default() };
        let (data, mut models) = models(&run, true);
        let mut rng = Rng::new(1, 0);
        let first = models.descend_stretches(&data, 128, 1e-2, &mut rng);
        let last = (0..300).fold(first, |_, _| models.descend_stretches(&data, 128, 1e-2, &mut rng));
        assert!(last < 0.1 * first, "{first} {last}");
    }

    #[test]
    fn the_last_steps_unroll() {
        assert!(!unrolls(0, 10) && !unrolls(6, 10) && unrolls(7, 10) && unrolls(9, 10));
    }
}
