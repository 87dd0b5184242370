//! CCAC, the constraint-conditioned actor-critic (Guo et al. 2025, [OpenReview
//! nrRkAAAufl](https://openreview.net/forum?id=nrRkAAAufl)): actor and critics are told the budget kappa that is left,
//! so that one policy serves every limit.
//!
//! ```text
//! data:        kappa_t = cost of the logged episode still to come;  s~ = [s, kappa]
//! CVAE:        min mean (decode(z, kappa) - (s, a))^2 + beta KL,  z ~ q(s, a, kappa)
//! classifier:  p(s, a, q) = probability that kappa > q: the pair costs more than the budget q allows; on real and
//!              decoded pairs
//! Q_r:         y = r + gamma (1 - d) Q_r'(s~', a'),  a' ~ pi(s~')
//! Q_c:         y = c + gamma (1 - d) Q_c'(s~', a'),  and for generated pairs with p > 1/2
//!              - mean lambda_1(kappa) (Q_c(s~, a) - kappa): they are to cost more than kappa
//! lambda_1:    min mean lambda_1 (Q_c - kappa) + eta |theta|^2 on these pairs
//! policy:      min -mean Q_r(s~, a) + mean lambda_3(kappa) (Q_c(s~, a) - kappa),  a ~ pi(s~)
//! lambda_3:    min -mean lambda_3 (Q_c - kappa) + eta |theta|^2
//! acting:      a = tanh mu([s, kappa]),  kappa of what is left of the limit
//! ```
//!
//! Deviations from the published code, each a value of the configuration unless it says so;
//! the preset `published` takes the published one:
//! 1. `budget_unit`: kappa is the *discounted* cost to come, the unit of Q_c, and acting, what is left of the limit is
//!    converted to it. Published, kappa is a plain sum and Q_c is discounted: at a limit far above 1 / (1 - gamma) per
//!    episode nothing constrains.
//! 2. `cost_ensemble`: the highest cost critic speaks. Published, the lowest of four.
//! 3. `reward_output`: reward critics are linear. Published, a softplus forbids them negative values.
//! 4. `clamp_gradient`: where a clamp holds, a gradient passes that leads back. Published, clamps act on values behind
//!    autograd's back.
//! 5. `budget_query`: every pair is asked about another row's budget. Published, all of a batch about the first one's.
//! 6. `scaling`, a parameter of the run: observations are standardised and actions taken in the box of the data.
//! 7. The last policy ships (no option). Published, the one that cost least in the environment.
//! 8. No lagged actor is kept (no option): nothing reads the published one. Multiplier networks have an optimiser each.

pub mod config;
pub mod cvae;
pub mod learner;
pub mod losses;
pub mod networks;

pub use config::{BudgetQuery, BudgetUnit, CcacConfig, ClampGradient, RewardOutput};
pub use learner::{BudgetBatch, CcacDraws, EncoderStep, Learner};

use crate::frame::{normals, CostThreshold, Parameters, Task};
use crate::metrics::{COST_CRITIC_LOSS, CRITIC_LOSS};
use drcorl_actor::PolicyFile;
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::dataset::{Batch, Dataset};
use drcorl_core::error::Result;
use drcorl_core::metrics::Metric;
use drcorl_core::policy::{copy_layers, insert_layers, PlayedFile};
use drcorl_nn::checkpoint::State;
use tch::Tensor;

/// CCAC in a run: the learner, and the budget beside every row of the data.
pub struct Ccac {
    learner: Learner,
    /// kappa of every row and of the one after it, `[N,1]`.
    budgets: [Tensor; 2],
    task: Task,
}

/// The costs still to come at every row and after it, discounted by `gamma`, times `scale`: `[N,1]` each.
pub fn budgets(data: &Dataset, gamma: f64, scale: f64) -> [Tensor; 2] {
    let costs = &data.columns.costs;
    let (mut here, mut next) = (vec![0f32; costs.len()], vec![0f32; costs.len()]);
    for episode in &data.episodes {
        let mut rest = 0f64;
        for row in (episode.start..episode.end).rev() {
            next[row] = rest as f32;
            rest = f64::from(costs[row]) + gamma * rest;
            here[row] = rest as f32;
        }
    }
    [here, next].map(|column| (Tensor::from_slice(&column) * scale).unsqueeze(1).to_device(data.device()))
}

/// Least and most of every entry of a pair: of the observations in the data, and the box of actions.
fn range(data: &Dataset) -> [Tensor; 2] {
    let all = Tensor::arange(data.len(), (tch::Kind::Int64, data.device()));
    let observations = data.gather(&all).observation();
    let box_of = |side: f64| Tensor::full([1, data.actions()], side, (tch::Kind::Float, data.device()));
    [
        Tensor::cat(&[observations.amin(0i64, true), box_of(-1.0)], 1),
        Tensor::cat(&[observations.amax(0i64, true), box_of(1.0)], 1),
    ]
}

impl Ccac {
    fn batch(&self, batch: &Batch) -> BudgetBatch {
        let [budget, next_budget] = [&self.budgets[0], &self.budgets[1]].map(|of| of.index_select(0, &batch.rows));
        let transition = self.learner.config.values.transition(batch);
        BudgetBatch { action: batch.action().contiguous(), transition, budget, next_budget }
    }

    fn policy(&self) -> PlayedFile {
        let CcacConfig { values, budget_unit, .. } = self.learner.config;
        let actor = &self.learner.actor;
        let mut layers = copy_layers(actor.head.net(), actor.head.online(), 0);
        if let Some((weight, bias)) = layers.last_mut() {
            // The last layer gives [mu | log sigma].
            let actions = self.task.actions;
            (*weight, *bias) = (weight.narrow(0, 0, actions).copy(), bias.narrow(0, 0, actions).copy());
        }
        let mut file = PolicyFile::new("budgeted");
        file.set("budget", if budget_unit == BudgetUnit::Discounted { "value" } else { "remaining" });
        file.set("gamma", values.gamma);
        file.set("episode_length", self.task.episode_length);
        file.set(
            "cost_threshold",
            if values.cost_threshold == CostThreshold::FiniteHorizon { "finite_horizon" } else { "infinite_horizon" },
        );
        file.set("cost_scale", values.cost_scale);
        file.set_setting("cost_limit", self.task.cost_limit);
        // A copy of host numbers fails only where libtorch itself does.
        insert_layers(&mut file, "actor", &layers).expect("float tensors can be copied");
        PlayedFile::new(file, self.task.observations, self.task.actions)
    }
}

impl Define for Ccac {
    type Config = CcacConfig;
    const NAME: &'static str = "ccac";
    const LABEL: &'static str = "CCAC";
    const SUMMARY: &'static str =
        "Actor and critics that are told the budget; generated pairs beyond it are made to look costly.";
    const TAKES_LIMIT: bool = true;
    const METRICS: &'static [Metric] = &[
        Metric::loss("encoder_loss", "squared entry", "Autoencoder of logged pairs under their budget: squared error plus encoder_beta KL."),
        Metric::loss("classifier_loss", "nats", "Classifier: cross entropy of whether a pair costs more than the budget it is asked about."),
        CRITIC_LOSS,
        Metric::loss(
            "cost_critic_loss",
            COST_CRITIC_LOSS.unit,
            "Cost critics: squared temporal-difference errors, less what flagged pairs cost beyond their budget, weighed by the first multiplier.",
        ),
        Metric::loss("actor_loss", "value", "Policy: mean of -Q_r plus the second multiplier times what Q_c is above the budget."),
        Metric::multiplier("multiplier", "value of reward a value of cost", "Mean lambda_3(kappa): weight of the constraint in the policy's loss."),
        Metric::multiplier("raise_multiplier", "1", "Mean lambda_1(kappa) of the flagged pairs: weight with which their costs are raised; 0 where none is flagged."),
        Metric::diagnostic("classifier_accuracy", "1", "Share of real and decoded pairs that the classifier puts on the right side."),
        Metric::diagnostic("flagged_share", "1", "Share of the generated pairs that cost more than their budget, as the classifier has it."),
    ];

    fn defaults() -> CcacConfig {
        CcacConfig::default()
    }

    fn presets() -> Vec<Preset<CcacConfig>> {
        CcacConfig::presets()
    }

    fn build(config: CcacConfig, context: &mut Context<'_>) -> Result<Self> {
        let (data, values) = (context.data, config.values);
        let task = Task::of(context, values);
        let gamma = if config.budget_unit == BudgetUnit::Discounted { values.gamma } else { 1.0 };
        let budgets = budgets(data, gamma, values.cost_scale);
        let learner = Learner::new(config, task, range(data), context.rng);
        Ok(Ccac { learner, budgets, task })
    }
}

impl Algorithm for Ccac {
    fn phases(&self) -> Vec<Phase> {
        let CcacConfig { encoder_steps, schedule, .. } = &self.learner.config;
        vec![Phase { name: "encoder", steps: *encoder_steps }, Phase { name: "learning", steps: schedule.update_steps }]
    }

    fn step(&mut self, phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let config = &self.learner.config;
        let batch = context.data.sample(config.schedule.batch_size, context.rng);
        let (rows, latents, actions) = (batch.len(), self.learner.cvae.latents(), self.task.actions);
        let batch = self.batch(&batch);
        let mut normal = normals(context);
        let of = |step: &EncoderStep| [("encoder_loss", step.cvae.loss), ("classifier_loss", step.classifier_loss)];
        if phase == 0 {
            let step = self.learner.encode(&batch, &normal(&[rows, latents]));
            let accuracy = [("classifier_accuracy", step.accuracy)];
            return Ok(of(&step).into_iter().chain(accuracy).collect());
        }
        let draws = CcacDraws {
            encoder: normal(&[rows, latents]),
            reward: normal(&[rows, actions]),
            cost: normal(&[rows, actions]),
            generated: normal(&[rows, latents]),
            actor: normal(&[rows, actions]),
        };
        let step = self.learner.learn(&batch, &draws)?;
        let own = [
            ("critic_loss", step.reward_loss),
            ("cost_critic_loss", step.cost_loss),
            ("actor_loss", step.actor_loss),
            ("multiplier", step.multiplier),
            ("raise_multiplier", step.raise_multiplier),
            ("classifier_accuracy", step.encoder.accuracy),
            ("flagged_share", step.flagged_share),
        ];
        Ok(of(&step.encoder).into_iter().chain(own).collect())
    }

    fn policies(&self) -> Result<Vec<NamedPolicy>> {
        Ok(vec![NamedPolicy::new("last", self.policy())])
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        self.learner.persist(state)
    }
}

#[cfg(test)]
mod tests;
