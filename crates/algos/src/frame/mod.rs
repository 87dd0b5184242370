//! The frame of learners that take one step after the other on batches of logged transitions: an actor, critics,
//! perhaps a multiplier.
//!
//! A learner says what it draws, what it learns from a batch and these draws, and what acts ([`ActorCritic`]);
//! [`Learner`] makes an algorithm of it: one phase, batches, presets, metrics, checkpoints, and what its critics tell
//! the certificate. Nothing random happens in [`ActorCritic::learn`], so that recorded steps can be replayed.

mod choices;
mod groups;
pub mod presets;
mod values;

pub use choices::{CandidateDraws, CostDone, CostThreshold, Done};
pub use drcorl_nn::widths;
pub use groups::{help, ActorGroup, CriticGroup, PidGroup, Schedule, VaeGroup};
pub use values::{Transition, Values};

use crate::critics::{join, mean, upper_confidence, Critics, IqlCritic};
use crate::lagrange::{LogMultiplier, Pid, SoftplusMultiplier};
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::dataset::Batch;
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::offline::certificate::CriticEstimate;
use drcorl_core::offline::CriticEstimates;
use drcorl_core::policy::FrozenPolicy;
use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::ScalarAdam;
use drcorl_nn::rng::Rng;
use drcorl_nn::{Head, SquashedActor, Vae};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::Serialize;
use tch::{Device, Tensor};

/// Parameters of a learner.
pub trait Parameters: Default + Serialize + DeserializeOwned + JsonSchema + 'static {
    /// Its presets, the recommended one first; [`presets`] has the usual ones.
    fn presets() -> Vec<Preset<Self>>;

    /// How its critics value rewards and costs.
    fn values(&self) -> Values;

    /// Batches and steps.
    fn schedule(&self) -> Schedule;
}

/// A learner's equations. What is random in a step is drawn before it.
pub trait ActorCritic: Send + Sized + 'static {
    type Config: Parameters;
    /// What a step draws beside its batch.
    type Draws;
    /// What a step did.
    type Step;
    /// See [`Define`].
    const NAME: &'static str;
    /// See [`Define`].
    const LABEL: &'static str;
    /// See [`Define`].
    const SUMMARY: &'static str;
    /// What the user sees of a step, see [`Define`].
    const METRICS: &'static [Metric];
    /// See [`Define`].
    const TAKES_LIMIT: bool = false;

    /// Fresh networks and multipliers.
    fn new(config: Self::Config, task: Task, rng: &mut Rng) -> Self;

    /// A fresh learner for a run, where it needs more than sizes and a limit.
    fn build(config: Self::Config, context: &mut Context<'_>) -> Result<Self> {
        let task = Task::of(context, config.values());
        Ok(Self::new(config, task, context.rng))
    }

    /// The parameters it was built with.
    fn config(&self) -> &Self::Config;

    /// What the step on `batch` draws.
    fn draw(&self, batch: &Batch, context: &mut Context<'_>) -> Self::Draws;

    /// One step of all networks.
    fn learn(&mut self, batch: &Transition, draws: &Self::Draws) -> Result<Self::Step>;

    /// Their values after a step, in that order.
    fn metrics(&self, step: &Self::Step) -> Vec<f64>;

    /// The policy as it is now.
    fn policy(&self) -> Box<dyn FrozenPolicy>;

    /// The critics that know the cost of a policy, if there are any.
    fn cost_critics(&mut self) -> Option<&mut Critics> {
        None
    }

    /// Everything that changes with training, under the names of the checkpoint.
    fn parts(&mut self) -> Parts<'_>;
}

/// Something a checkpoint keeps.
pub trait Part {
    /// Saves or restores it under `name`.
    fn keep(&mut self, name: &str, state: &mut State) -> drcorl_nn::Result<()>;
}

/// Parts that are groups of entries, and parts that are one value.
macro_rules! kept {
    (groups: $($group:ty),*; values: $($value:ty),*) => {
        $(impl Part for $group {
            fn keep(&mut self, name: &str, state: &mut State) -> drcorl_nn::Result<()> {
                state.group(name, |state| self.persist(state))
            }
        })*
        $(impl Part for $value {
            fn keep(&mut self, name: &str, state: &mut State) -> drcorl_nn::Result<()> {
                state.value(name, self)
            }
        })*
    };
}

kept! { groups: Head, IqlCritic, SquashedActor, Vae, Pid; values: LogMultiplier, ScalarAdam, SoftplusMultiplier, u64 }

impl Part for Critics {
    fn keep(&mut self, name: &str, state: &mut State) -> drcorl_nn::Result<()> {
        self.head.keep(name, state)
    }
}

/// The fields of a learner that a checkpoint keeps, under their names: `parts!(self: actor, cost)`.
macro_rules! parts {
    ($learner:ident: $($part:ident),*) => {
        vec![$((stringify!($part), &mut $learner.$part as &mut dyn $crate::frame::Part)),*]
    };
}
pub(crate) use parts;

/// Parts with their names.
pub type Parts<'a> = Vec<(&'static str, &'a mut dyn Part)>;

/// Sizes and limits of the problem that networks and multipliers are made for.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub observations: i64,
    pub actions: i64,
    /// Costs an episode may have.
    pub cost_limit: f64,
    /// Steps of an episode L.
    pub episode_length: usize,
    /// The cost value that stands for the limit.
    pub threshold: f64,
    pub seed: u64,
    pub device: Device,
}

impl Task {
    /// That of a run whose critics value costs by `values`.
    pub fn of(context: &Context<'_>, values: Values) -> Self {
        let (data, run) = (context.data, context.run);
        Task {
            observations: data.observations(),
            actions: data.actions(),
            cost_limit: run.cost_limit,
            episode_length: data.episode_length,
            threshold: values.threshold(run.cost_limit, data.episode_length),
            seed: run.seed,
            device: data.device(),
        }
    }
}

/// Standard normal draws of any shape, where the data are.
pub fn normals<'a>(context: &'a mut Context<'_>) -> impl FnMut(&[i64]) -> Tensor + 'a {
    let (device, rng) = (context.data.device(), &mut *context.rng);
    move |shape| rng.normal(shape, device)
}

/// Every row `n` times, one after the other: `[B,..]` to `[B*n,..]`.
pub fn repeat(rows: &Tensor, n: i64) -> Tensor {
    rows.repeat_interleave_self_int(n, 0i64, None)
}

/// The algorithm a learner makes.
pub struct Learner<A>(pub A);

impl<A: ActorCritic> Algorithm for Learner<A> {
    fn phases(&self) -> Vec<Phase> {
        vec![Phase { name: "learning", steps: self.0.config().schedule().update_steps }]
    }

    fn step(&mut self, _phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let config = self.0.config();
        let batch = context.data.sample(config.schedule().batch_size, context.rng);
        let transition = config.values().transition(&batch);
        let draws = self.0.draw(&batch, context);
        let step = self.0.learn(&transition, &draws)?;
        let values = self.0.metrics(&step);
        assert!(values.len() <= A::METRICS.len(), "{} tells more metrics than it declares", A::NAME);
        Ok(A::METRICS.iter().map(|metric| metric.name).zip(values).collect())
    }

    fn policies(&self) -> Result<Vec<NamedPolicy>> {
        Ok(vec![NamedPolicy { name: "last", policy: self.0.policy() }])
    }

    fn critic_estimates(
        &mut self,
        policy: &dyn FrozenPolicy,
        _cost: usize,
        context: &mut Context<'_>,
    ) -> Option<CriticEstimates> {
        let values = self.0.config().values();
        Some(critic_estimates(self.0.cost_critics()?, values, policy, context))
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        self.0.parts().into_iter().try_for_each(|(name, part)| part.keep(name, state))
    }
}

impl<A: ActorCritic> Define for Learner<A> {
    type Config = A::Config;
    const NAME: &'static str = A::NAME;
    const LABEL: &'static str = A::LABEL;
    const SUMMARY: &'static str = A::SUMMARY;
    const METRICS: &'static [Metric] = A::METRICS;
    const TAKES_LIMIT: bool = A::TAKES_LIMIT;

    fn defaults() -> A::Config {
        A::Config::default()
    }

    fn presets() -> Vec<Preset<A::Config>> {
        A::Config::presets()
    }

    fn build(config: A::Config, context: &mut Context<'_>) -> Result<Self> {
        A::build(config, context).map(Learner)
    }
}

/// Rows in the averages of the certificate.
const REPORT_ROWS: usize = 4096;
/// Standard deviations over members in the upper estimate.
const REPORT_K: f64 = 2.0;

/// The episodic cost of `policy` by the live cost critics.
pub fn critic_estimates(
    critics: &mut Critics,
    values: Values,
    policy: &dyn FrozenPolicy,
    context: &mut Context<'_>,
) -> CriticEstimates {
    let data = context.data;
    let limit = context.run.cost_limit;
    let mut on = |candidates: Option<Tensor>| {
        let rows = match candidates {
            None => context.rng.rows(REPORT_ROWS, data.len(), data.device()),
            Some(rows) => {
                let picks = context.rng.rows(REPORT_ROWS.min(rows.numel()), rows.size()[0], data.device());
                rows.index_select(0, &picks)
            }
        };
        let observation = data.gather(&rows).observation().contiguous();
        let costs = critics.head.evaluate(&join(&policy.act(&observation), &observation));
        let episodic = |k: f64| values.episode_cost(mean(&upper_confidence(&costs, k)), data.episode_length);
        CriticEstimate { mean: episodic(0.0), ucb: episodic(REPORT_K) }
    };
    CriticEstimates {
        dataset: on(None),
        initial: on(Some(data.starts())),
        safe: Some(data.rows_where(|episode| data.safe(episode, limit)))
            .filter(|rows| rows.numel() > 0)
            .map(|rows| on(Some(rows))),
    }
}
