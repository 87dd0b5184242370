//! Behavior cloning: `min_pi E[(pi(s) - a)^2]` on all logged episodes or on a selection of them, as in OSRL.
//!
//! What differs from the published implementation is numbered in docs/algorithms/bc.md.

use crate::frame::presets::{fixed, osrl, quick};
use crate::frame::{ActorGroup, Schedule};
use crate::losses::mse;
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::dataset::Batch;
use drcorl_core::error::{Error, Result};
use drcorl_core::metrics::Metric;
use drcorl_core::policy::{Condition, Policy};
use drcorl_core::run::{require, RunConfig, Scaling};
use drcorl_core::schema::most;
use drcorl_nn::checkpoint::State;
use schemars::JsonSchema;
use selection::select;
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub mod selection;

/// Which episodes are cloned. C is the cost of an episode, R its return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloningMode {
    /// All of them.
    All,
    /// Those within the limit: C <= limit.
    Safe,
    /// Those far beyond it: C >= 2 limit.
    Risky,
    /// Those around it: limit / 2 < C <= 3 limit / 2.
    Boundary,
    /// Those near a polynomial through the Pareto front of (C, R).
    Frontier,
    /// All of them, by a policy that also reads C; when it plays, the limit takes its place.
    MultiTask,
}

/// Parameters of behavior cloning.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BcConfig {
    /// Which episodes are cloned.
    pub cloning_mode: CloningMode,
    /// Mode frontier: largest distance from the polynomial, as a share of the range of returns.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub frontier_width: f64,
    #[serde(flatten)]
    pub actor: ActorGroup,
    #[serde(flatten)]
    pub schedule: Schedule,
}

impl Default for BcConfig {
    fn default() -> Self {
        BcConfig {
            cloning_mode: CloningMode::All,
            frontier_width: 0.2,
            actor: ActorGroup::default(),
            schedule: Schedule::default(),
        }
    }
}

/// The loss and one Adam step on `observation [B,S]`, `action [B,A]`; returns the mean over rows and dimensions.
pub fn regress(policy: &mut Policy, observation: &Tensor, action: &Tensor, lr: f64) -> f64 {
    let mut loss = 0.0;
    policy.descend(observation, lr, 0.0, |predicted| {
        let (value, gradient) = mse(predicted, action);
        loss = value;
        gradient
    });
    loss
}

/// The cost of its episode beside every row, for mode multi-task.
struct Conditioned {
    /// `[N,1]`, as the network reads it.
    costs: Tensor,
    condition: Condition,
}

impl Conditioned {
    fn new(context: &Context<'_>) -> Self {
        let (data, run) = (context.data, context.run);
        let mut costs = vec![0f64; data.len() as usize];
        for episode in &data.episodes {
            costs[episode.start..episode.end].fill(episode.cost);
        }
        let count = costs.len() as f64;
        let (mean, std) = match run.scaling {
            Scaling::Raw => (0.0, 1.0),
            Scaling::Standardized => {
                let mean = costs.iter().sum::<f64>() / count;
                let variance = costs.iter().map(|cost| (cost - mean).powi(2)).sum::<f64>() / count;
                (mean, variance.sqrt().max(0.01))
            }
        };
        let scaled: Vec<f32> = costs.iter().map(|cost| ((cost - mean) / std) as f32).collect();
        Conditioned {
            costs: Tensor::from_slice(&scaled).unsqueeze(1).to_device(data.device()),
            condition: Condition { name: "cost_limit", value: run.cost_limit, mean, std },
        }
    }
}

/// Behavior cloning on a set of rows fixed at the start; with `SAFE`, of those within the limit and no others.
pub struct Cloning<const SAFE: bool> {
    config: BcConfig,
    policy: Policy,
    rows: Tensor,
    conditioned: Option<Conditioned>,
}

/// Clones the episodes of any mode.
pub type Bc = Cloning<false>;
/// Clones the episodes whose cost is within the limit.
pub type BcSafe = Cloning<true>;

impl<const SAFE: bool> Cloning<SAFE> {
    fn input(&self, batch: &Batch) -> Tensor {
        match &self.conditioned {
            None => batch.observation(),
            Some(conditioned) => Tensor::cat(&[batch.observation(), conditioned.costs.index_select(0, &batch.rows)], 1),
        }
    }
}

impl<const SAFE: bool> Define for Cloning<SAFE> {
    type Config = BcConfig;
    const NAME: &'static str = if SAFE { "bc_safe" } else { "bc" };
    const LABEL: &'static str = if SAFE { "BC-Safe" } else { "BC" };
    const SUMMARY: &'static str = if SAFE {
        "Behavior cloning of the logged episodes within the cost limit."
    } else {
        "Behavior cloning of all logged episodes, or of a selection of them."
    };

    const METRICS: &'static [Metric] = &[Metric::loss(
        "actor_loss",
        "squared action",
        "Mean squared difference of the policy's and the logged actions.",
    )];

    fn defaults() -> BcConfig {
        BcConfig { cloning_mode: if SAFE { CloningMode::Safe } else { CloningMode::All }, ..BcConfig::default() }
    }

    fn presets() -> Vec<Preset<BcConfig>> {
        let fewer_steps = BcConfig { schedule: Schedule::quick(8000), ..Self::defaults() };
        vec![fixed(Self::defaults()), osrl(Self::defaults()), quick(fewer_steps)]
    }

    fn check(config: &BcConfig, _run: &RunConfig) -> Result<()> {
        if SAFE && config.cloning_mode != CloningMode::Safe {
            let mode = serde_json::to_string(&config.cloning_mode).unwrap_or_default();
            let text = format!("cloning_mode is {mode}, but {} clones safe episodes; use algorithm bc", Self::NAME);
            return Err(Error::Config(text));
        }
        Ok(())
    }

    fn several_costs(config: &BcConfig) -> bool {
        matches!(config.cloning_mode, CloningMode::All | CloningMode::Safe)
    }

    fn build(config: BcConfig, context: &mut Context<'_>) -> Result<Self> {
        let data = context.data;
        let mut rows = select(config.cloning_mode, config.frontier_width, data, context.run.cost_limit)?;
        if config.cloning_mode == CloningMode::Safe && context.run.costs() > 1 {
            rows = data.rows_of(&data.within_limits(context.run));
            require(rows.numel() > 0, "limits", context.run.costs(), "no whole logged episode is within all of them")?;
        }
        let conditioned = (config.cloning_mode == CloningMode::MultiTask).then(|| Conditioned::new(context));
        let inputs = data.observations() + i64::from(conditioned.is_some());
        let hidden = &config.actor.actor_hidden;
        let policy = Policy::new(inputs, data.actions(), hidden, false, data.device(), context.rng);
        Ok(Cloning { config, policy, rows, conditioned })
    }
}

impl<const SAFE: bool> Algorithm for Cloning<SAFE> {
    fn phases(&self) -> Vec<Phase> {
        vec![Phase { name: "cloning", steps: self.config.schedule.update_steps }]
    }

    fn step(&mut self, _phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let batch = context.data.sample_from(&self.rows, self.config.schedule.batch_size, context.rng);
        let input = self.input(&batch);
        let loss = regress(&mut self.policy, &input, &batch.action(), self.config.actor.actor_lr);
        Ok(vec![("actor_loss", loss)])
    }

    fn policies(&self) -> Result<Vec<NamedPolicy>> {
        let policy = self.policy.averaged();
        Ok(vec![match &self.conditioned {
            None => NamedPolicy::new("last", policy),
            Some(conditioned) => NamedPolicy::new("last", policy.conditioned(conditioned.condition.clone())),
        }])
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("policy", |state| self.policy.persist(state))
    }
}
