//! Behaviour cloning: `min_pi E[(pi(s) - a)^2]` on all data, or on the episodes within the cost limit (BC-Safe).
//!
//! Deviations from the OSRL reference: (1) observations are standardised, there they are raw; (2) actions are regressed in the box
//! learnt from the data.

use crate::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use crate::checkpoint::State;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::run::{check_widths, require, RunConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Parameters of behaviour cloning.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BcConfig {
    /// Hidden layer widths of the actor.
    pub actor_hidden: Vec<i64>,
    /// Learning rate of the actor.
    pub actor_lr: f64,
    /// Rows in a batch.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Gradient steps.
    #[schemars(range(min = 1))]
    pub update_steps: u64,
}

impl Default for BcConfig {
    fn default() -> Self {
        BcConfig { actor_hidden: vec![256, 256], actor_lr: 1e-3, batch_size: 512, update_steps: 100_000 }
    }
}

/// The loss and one Adam step on `observation [B,S]`, `action [B,A]`; returns the mean over rows and dimensions.
pub fn regress(policy: &mut Policy, observation: &Tensor, action: &Tensor, lr: f64) -> f64 {
    let predicted = policy.forward(observation);
    let error = &predicted - action;
    let loss = error.square().mean(Kind::Double).double_value(&[]);
    let scale = 2.0 / error.numel() as f64;
    let gradient = policy.backward(observation, &predicted, &(error * scale));
    policy.apply(&gradient, lr, 0.0);
    loss
}

/// Behaviour cloning on a set of rows fixed at the start.
struct Cloning {
    config: BcConfig,
    policy: Policy,
    rows: Tensor,
}

impl Cloning {
    fn new(config: BcConfig, rows: Tensor, context: &mut Context<'_>) -> Self {
        let data = context.data;
        let policy =
            Policy::new(data.observations(), data.actions(), &config.actor_hidden, false, data.device(), context.rng);
        Cloning { config, policy, rows }
    }

    fn phases(&self) -> Vec<Phase> {
        vec![Phase { name: "cloning", steps: self.config.update_steps }]
    }

    fn step(&mut self, context: &mut Context<'_>) -> Metrics {
        let batch = context.data.sample_from(&self.rows, self.config.batch_size, context.rng);
        vec![("actor_loss", regress(&mut self.policy, &batch.observation(), &batch.action(), self.config.actor_lr))]
    }

    fn policies(&self) -> Vec<NamedPolicy> {
        vec![NamedPolicy::new("last", self.policy.averaged())]
    }
}

fn presets() -> Vec<Preset<BcConfig>> {
    vec![
        Preset {
            name: "quick",
            summary: "Minutes on one core.",
            config: BcConfig { batch_size: 256, update_steps: 8000, ..BcConfig::default() },
            run: RunConfig::default(),
        },
        Preset {
            name: "paper",
            summary: "The published budget of 100,000 steps.",
            config: BcConfig::default(),
            run: RunConfig::default(),
        },
    ]
}

fn check(config: &BcConfig) -> Result<()> {
    check_widths("actor_hidden", &config.actor_hidden)?;
    require(
        config.actor_lr > 0.0 && config.actor_lr.is_finite(),
        "actor_lr",
        config.actor_lr,
        "give a positive number",
    )?;
    require(config.batch_size >= 1, "batch_size", config.batch_size, "give at least 1")?;
    require(config.update_steps >= 1, "update_steps", config.update_steps, "give at least 1")
}

/// Implements both variants, which differ only in the rows they clone.
macro_rules! variant {
    ($(#[$doc:meta])* $type:ident, $name:literal, $label:literal, $summary:literal, $rows:expr) => {
        $(#[$doc])*
        pub struct $type(Cloning);

        impl Define for $type {
            type Config = BcConfig;
            const NAME: &'static str = $name;
            const LABEL: &'static str = $label;
            const SUMMARY: &'static str = $summary;

            fn defaults() -> BcConfig {
                BcConfig::default()
            }

            fn presets() -> Vec<Preset<BcConfig>> {
                presets()
            }

            fn check(config: &BcConfig, _run: &RunConfig) -> Result<()> {
                check(config)
            }

            fn build(config: BcConfig, context: &mut Context<'_>) -> Result<Self> {
                let rows: fn(&Context<'_>) -> Result<Tensor> = $rows;
                let rows = rows(context)?;
                Ok($type(Cloning::new(config, rows, context)))
            }
        }

        impl Algorithm for $type {
            fn phases(&self) -> Vec<Phase> {
                self.0.phases()
            }

            fn step(&mut self, _phase: usize, _step: u64, context: &mut Context<'_>) -> Result<Metrics> {
                Ok(self.0.step(context))
            }

            fn policies(&self) -> Vec<NamedPolicy> {
                self.0.policies()
            }

            fn persist(&mut self, state: &mut State) -> Result<()> {
                state.group("policy", |state| self.0.policy.persist(state))
            }
        }
    };
}

variant! {
    /// Clones every transition.
    Bc, "bc", "BC", "Behaviour cloning of all logged episodes.",
    |context| Ok(context.data.rows_where(|_| true))
}

variant! {
    /// Clones the episodes whose cost is within the limit.
    BcSafe, "bc_safe", "BC-Safe", "Behaviour cloning of the logged episodes within the cost limit.",
    |context| {
        let limit = context.run.cost_limit;
        let rows = context.data.rows_where(|episode| episode.cost <= limit);
        if rows.numel() == 0 {
            let cheapest = context.data.episodes.iter().map(|episode| episode.cost).fold(f64::INFINITY, f64::min);
            return Err(Error::Config(format!(
                "cost_limit is {limit}, but the cheapest logged episode costs {cheapest}; there is nothing safe to clone, raise the limit"
            )));
        }
        Ok(rows)
    }
}
