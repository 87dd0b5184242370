//! One network of plans with its optimiser and its running average, and the step that both kinds take.

use super::loss::{entry_weights, first_action_error, plan_error, value_error};
use drcorl_actor::planner::{cosine_schedule, Level};
use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::{soft_update, Adam, AdamConfig};
use drcorl_nn::rng::Rng;
use drcorl_nn::{Arena, PlanNet};
use tch::{Device, Kind, Tensor};

/// When and how the average follows.
#[derive(Clone, Copy, Debug)]
pub struct Averaging {
    pub decay: f64,
    pub interval: u64,
    /// Before this step an update copies.
    pub start: u64,
}

/// A network, its moments and its average.
pub struct Learner<N> {
    net: N,
    arena: Arena,
    average: Arena,
    adam: Adam,
    averaging: Averaging,
    steps: u64,
}

impl<N: PlanNet> Learner<N> {
    /// A fresh one; the average begins at the weights.
    pub fn new((net, arena): (N, Arena), averaging: Averaging) -> Self {
        let (average, adam) = (arena.duplicate(), Adam::new(&arena, AdamConfig::default()));
        Learner { net, arena, average, adam, averaging, steps: 0 }
    }

    /// The network's layout.
    pub fn net(&self) -> &N {
        &self.net
    }

    /// The weights.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The weights, for loading.
    pub fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    /// The averaged weights, which plan.
    pub fn average(&self) -> &Arena {
        &self.average
    }

    /// Begins the average at the weights.
    pub fn restart_average(&mut self) {
        self.average.copy_from(&self.arena);
    }

    /// Begins a step: no gradient yet.
    pub fn begin(&mut self) {
        let _ = self.arena.gradients().shallow_clone().zero_();
    }

    /// Adds `share` of the gradient of `loss` at the prediction for `plans` at `levels`; what the loss answers beside.
    pub fn add<T>(
        &mut self,
        (plans, levels): (&Tensor, &Tensor),
        share: f64,
        loss: impl FnOnce(&Tensor) -> (T, Tensor),
    ) -> T {
        let leaf = self.arena.leaf(true);
        let prediction = tch::with_grad(|| self.net.run(&leaf, plans, levels));
        let (answer, gradient) = tch::no_grad(|| loss(&prediction.detach()));
        leaf.backward(&prediction, &(gradient * share), &self.arena);
        answer
    }

    /// Ends a step: Adam, and the average if it is its turn.
    pub fn finish(&mut self, lr: f64) {
        self.adam.step(&mut self.arena, lr);
        let Averaging { decay, interval, start } = self.averaging;
        if self.steps.is_multiple_of(interval) {
            if self.steps < start {
                self.average.copy_from(&self.arena);
            } else {
                soft_update(&mut self.average, &self.arena, 1.0 - decay);
            }
        }
        self.steps += 1;
    }

    /// Saves or restores everything.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("network", |state| self.arena.persist(state))?;
        state.group("average", |state| self.average.persist(state))?;
        state.group("adam", |state| self.adam.persist(state))?;
        state.value("steps", &mut self.steps)
    }
}

/// Everything random in a pass: noise levels `[B] int64` and noise `[B,H,D]`.
pub struct Draws {
    pub levels: Tensor,
    pub noise: Tensor,
}

/// The forward process: what plans look like at a noise level.
pub struct Diffusion {
    levels: Vec<Level>,
    actions: i64,
    weights: Tensor,
    /// Roots of the share of a plan and of noise, `[T]`.
    kept: Tensor,
    added: Tensor,
}

impl Diffusion {
    /// Of `levels` noise levels, for plans of `horizon` steps of `entries` numbers, `actions` of them an action.
    pub fn new(
        levels: usize,
        horizon: usize,
        [actions, entries]: [i64; 2],
        action_weight: f64,
        device: Device,
    ) -> Self {
        let levels = cosine_schedule(levels);
        let table = |of: &dyn Fn(&Level) -> f64| {
            Tensor::from_slice(&levels.iter().map(|level| of(level) as f32).collect::<Vec<_>>()).to_device(device)
        };
        let (kept, added) = (table(&|level| level.cumulative.sqrt()), table(&|level| (1.0 - level.cumulative).sqrt()));
        let weights = entry_weights(horizon, actions, entries, action_weight, device);
        Diffusion { levels, actions, weights, kept, added }
    }

    /// The weights `[H,D]` of the denoiser's loss.
    pub fn weights(&self) -> &Tensor {
        &self.weights
    }

    /// Draws for plans of this shape.
    pub fn draw(&self, plans: &Tensor, rng: &mut Rng) -> Draws {
        let levels = rng.rows(plans.size()[0] as usize, self.levels.len() as i64, plans.device());
        Draws { levels, noise: rng.normal(&plans.size(), plans.device()) }
    }

    /// Plans at their noise levels, the first observation left as it is.
    pub fn noisy(&self, plans: &Tensor, draws: &Draws) -> Tensor {
        let of = |table: &Tensor| table.index_select(0, &draws.levels).view([-1, 1, 1]);
        let noisy = plans * of(&self.kept) + &draws.noise * of(&self.added);
        self.begin(noisy, plans)
    }

    /// `x` with the first observation of `plans`.
    fn begin(&self, x: Tensor, plans: &Tensor) -> Tensor {
        let first = |x: &Tensor| x.select(1, 0).narrow(1, self.actions, x.size()[2] - self.actions);
        first(&x).copy_(&first(plans));
        x
    }

    /// Loss of a prediction, mean squared error of the first action, and gradient. The first observation is given, and
    /// carries no loss.
    pub fn loss(&self, prediction: &Tensor, plans: &Tensor) -> ([f64; 2], Tensor) {
        let prediction = self.begin(prediction.copy(), plans);
        let (loss, gradient) = plan_error(&prediction, plans, &self.weights);
        ([loss, first_action_error(&prediction, plans, self.actions)], gradient)
    }
}

/// One step of a denoiser on batches `[B,H,D]`; loss and first action's error, means over batches.
pub fn denoise<N: PlanNet>(
    learner: &mut Learner<N>,
    diffusion: &Diffusion,
    batches: &[(Tensor, Draws)],
    lr: f64,
) -> Vec<[f64; 2]> {
    learner.begin();
    let share = 1.0 / batches.len() as f64;
    let answers = batches.iter().map(|(plans, draws)| {
        let noisy = diffusion.noisy(plans, draws);
        learner.add((&noisy, &draws.levels), share, |prediction| diffusion.loss(prediction, plans))
    });
    let answers = answers.collect();
    learner.finish(lr);
    answers
}

/// One step of a value net on batches of plans and sums to come `[B,1]`; the loss of each.
pub fn value<N: PlanNet>(
    learner: &mut Learner<N>,
    diffusion: &Diffusion,
    batches: &[(&Tensor, &Tensor, Draws)],
    lr: f64,
) -> Vec<f64> {
    learner.begin();
    let share = 1.0 / batches.len() as f64;
    let losses = batches.iter().map(|(plans, target, draws)| {
        let noisy = diffusion.noisy(plans, draws);
        learner.add((&noisy, &draws.levels), share, |values| value_error(values, target))
    });
    let losses = losses.collect();
    learner.finish(lr);
    losses
}

/// The mean of numbers.
pub fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len().max(1) as f64;
    numbers.sum::<f64>() / count
}

/// The prediction of the weights in `arena`, without a graph.
pub fn predict<N: PlanNet>(net: &N, arena: &Arena, plans: &Tensor, levels: &Tensor) -> Tensor {
    tch::no_grad(|| net.run(&arena.leaf(false), plans, levels)).to_kind(Kind::Float)
}
