//! What an algorithm is to the rest of the house. This file names none.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::hybrid::Visit;
use crate::metrics::{declared, Metric};
use crate::offline::{CriticEstimates, Judge};
use crate::policy::FrozenPolicy;
use crate::run::{RunConfig, LATER};
use crate::schema;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::sync::atomic::AtomicBool;

/// A named stretch of training with a fixed number of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    pub name: &'static str,
    pub steps: u64,
}

/// Scalars of one step by the names of [`Define::METRICS`], in that order; a step may leave some out. They are averaged
/// over the steps of one call before they reach the user.
pub type Metrics = Vec<(&'static str, f64)>;

/// What a step may read and use.
pub struct Context<'a> {
    pub data: &'a Dataset,
    pub run: &'a RunConfig,
    pub judge: &'a mut Judge,
    /// Models that none of the steps is steered by, for choosing among what these have made.
    pub reader: &'a mut Judge,
    pub rng: &'a mut Rng,
    /// The last visit of the environment; None in mode offline.
    pub visit: Option<&'a Visit>,
    /// Raised when the user wants to stop. Rollouts look at it and give up with `Cancelled`; whoever starts one has
    /// changed nothing yet in that step, so that the step can be made again after a resume.
    pub cancel: &'a AtomicBool,
}

/// A policy the run keeps, under its name.
pub struct NamedPolicy {
    /// `averaged` or `last` (the one to use), `selected` (best by the offline estimate), `mixture` (one of several
    /// iterates an episode).
    pub name: &'static str,
    pub policy: Box<dyn FrozenPolicy>,
}

impl NamedPolicy {
    /// A policy under its name.
    pub fn new(name: &'static str, policy: impl FrozenPolicy + 'static) -> Self {
        NamedPolicy { name, policy: Box::new(policy) }
    }
}

/// One learning system. A trainer drives it phase by phase; every step is one call.
pub trait Algorithm: Send {
    /// Phases in order. Constant over the life of the object.
    fn phases(&self) -> Vec<Phase>;

    /// True if steps read `context.judge` and `context.reader`;
    /// their ensembles are then trained before the first phase.
    fn needs_model(&self) -> bool {
        false
    }

    /// Asked once `context.judge` was tested: false where this run will have no use for `context.reader`, whose models
    /// are then not trained.
    fn needs_reader(&self, _context: &Context<'_>) -> bool {
        true
    }

    /// The policy that meets the environment before a step of phase `phase` in the hybrid modes; None where none does.
    /// An algorithm without such a phase trains offline only.
    fn visitor(&self, _phase: usize) -> Option<Box<dyn FrozenPolicy>> {
        None
    }

    /// Asked before the first step of phase number `_phase`: true where this run has no use for it.
    fn leaves_out(&self, _phase: usize, _context: &Context<'_>) -> bool {
        false
    }

    /// Performs step `step` (from 0) of phase number `phase`.
    fn step(&mut self, phase: usize, step: u64, context: &mut Context<'_>) -> Result<Metrics>;

    /// Policies to keep; the first is the one that ships.
    fn policies(&self) -> Result<Vec<NamedPolicy>>;

    /// What the algorithm's own critics of cost `_cost` say about a policy, if it has any.
    fn critic_estimates(
        &mut self,
        _policy: &dyn FrozenPolicy,
        _cost: usize,
        _context: &mut Context<'_>,
    ) -> Option<CriticEstimates> {
        None
    }

    /// Facts for the certificate that only the algorithm knows: gate, branch counts, distance to the data. Their type
    /// is [`Define::DIAGNOSTICS`].
    fn diagnostics(&mut self, _policy: &dyn FrozenPolicy, _context: &mut Context<'_>) -> Map<String, Value> {
        Map::new()
    }

    /// What a reader of the certificate must know about the algorithm, a sentence each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Saves or restores everything that changes with training.
    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()>;
}

/// A named set of values that differ from the defaults.
pub struct Preset<C> {
    pub name: &'static str,
    pub summary: &'static str,
    pub config: C,
    /// Values of the run that the preset changes.
    pub run: RunConfig,
    /// Tasks that it has other values for.
    pub tasks: Vec<ForTasks<C>>,
}

/// What a preset is for the tasks of these names.
pub struct ForTasks<C> {
    pub tasks: &'static [&'static str],
    pub config: C,
}

/// The first phases of a run, which runs of other parameters may take over instead of making them again:
/// [`crate::Trainer::reuse`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pretraining {
    /// It ends where this phase of the algorithm begins.
    pub before: &'static str,
    /// Parameters of the algorithm that nothing reads earlier; see [`Pretraining::later`] for those of the run.
    #[serde(serialize_with = "with_those_of_the_run")]
    pub later: &'static [&'static str],
    /// Where a parameter of `later` is read earlier after all.
    pub unless: &'static [Unless],
}

impl Pretraining {
    /// All parameters that nothing reads earlier, but for the test of the dynamics models, which whoever takes over
    /// repeats. All others must agree.
    pub fn later(&self) -> impl Iterator<Item = &'static str> {
        self.later.iter().chain(LATER).copied()
    }
}

fn with_those_of_the_run<S: Serializer>(later: &&[&str], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(later.iter().chain(LATER))
}

/// One value of a parameter makes another one matter before the pretraining ends.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Unless {
    /// One of [`Pretraining::later`].
    pub parameter: &'static str,
    pub other: &'static str,
    pub value: &'static str,
    /// Half a sentence whose subject is this value.
    pub why: &'static str,
}

/// How an algorithm enters the registry: its names, its configuration, its presets, its constructor.
pub trait Define: Algorithm + Sized + 'static {
    type Config: Serialize + DeserializeOwned + JsonSchema + 'static;
    /// Spelling in configuration files and flags.
    const NAME: &'static str;
    /// Spelling in tables.
    const LABEL: &'static str;
    /// One sentence.
    const SUMMARY: &'static str;
    /// Every metric a step may report, in the order they are told: losses first, what decides before what explains.
    const METRICS: &'static [Metric];
    /// Schema of what [`Algorithm::diagnostics`] adds to the certificate, if anything:
    /// [`crate::results::schema_of`] its type.
    const DIAGNOSTICS: Option<fn() -> Schema> = None;
    /// True if one policy serves every limit: its file has the setting `cost_limit`, and need not be trained again.
    const TAKES_LIMIT: bool = false;
    /// What runs of other parameters may share, if anything.
    const PRETRAINING: Option<&'static Pretraining> = None;

    /// The documented defaults.
    fn defaults() -> Self::Config;

    /// Presets, the recommended one first.
    fn presets() -> Vec<Preset<Self::Config>>;

    /// Refuses what no field can refuse alone; the bounds of each stand in its schema.
    /// The message names the key, the value and the remedy.
    fn check(_config: &Self::Config, _run: &RunConfig) -> Result<()> {
        Ok(())
    }

    /// True where several limits are learnt under, or where no limit shapes what is learnt.
    fn several_costs(_config: &Self::Config) -> bool {
        false
    }

    /// A fresh instance.
    fn build(config: Self::Config, context: &mut Context<'_>) -> Result<Self>;
}

/// One line of the registry, with the types erased.
pub struct Entry {
    pub name: &'static str,
    /// See [`Define::METRICS`].
    pub metrics: &'static [Metric],
    /// See [`Define::TAKES_LIMIT`].
    pub takes_limit: bool,
    /// See [`Define::PRETRAINING`].
    pub pretraining: Option<&'static Pretraining>,
    build: fn(&Value, &mut Context<'_>) -> Result<Box<dyn Algorithm>>,
    resolve: fn(&Value, &RunConfig) -> Result<Value>,
    several_costs: fn(&Value) -> Result<bool>,
    describe: fn() -> Value,
}

impl Entry {
    /// The entry of algorithm `A`.
    pub const fn of<A: Define>() -> Self {
        Entry {
            name: A::NAME,
            metrics: A::METRICS,
            takes_limit: A::TAKES_LIMIT,
            pretraining: A::PRETRAINING,
            build: build::<A>,
            resolve: resolve::<A>,
            several_costs: several_costs::<A>,
            describe: describe::<A>,
        }
    }

    /// A fresh instance from a resolved configuration.
    pub fn build(&self, config: &Value, context: &mut Context<'_>) -> Result<Box<dyn Algorithm>> {
        (self.build)(config, context)
    }

    /// Defaults overlaid with `config`; unknown keys, wrong types and impossible values are refused.
    pub fn resolve(&self, config: &Value, run: &RunConfig) -> Result<Value> {
        (self.resolve)(config, run)
    }

    /// See [`Define::several_costs`].
    pub fn several_costs(&self, config: &Value) -> Result<bool> {
        (self.several_costs)(config)
    }

    /// `{label, summary, schema, presets, metrics, diagnostics, takes_limit, pretraining}`: the metrics of a run, those
    /// of the trainer's own stages included, in the order they are told;
    /// the schema of what the algorithm adds to a certificate, or null.
    pub fn describe(&self) -> Value {
        (self.describe)()
    }
}

/// Every algorithm a trainer can be asked for; one line of it an algorithm.
pub type Registry = &'static [Entry];

/// The entry of that name. Errs with `Config`, listing the names there are.
pub fn find(registry: Registry, name: &str) -> Result<&'static Entry> {
    registry.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let known: Vec<_> = registry.iter().map(|entry| entry.name).collect();
        Error::Config(format!("algorithm is {name}; give one of {}", known.join(", ")))
    })
}

/// `defaults` with the keys of `given` put over it.
fn overlay(defaults: Value, given: &Value) -> Value {
    match (defaults, given) {
        (Value::Object(mut base), Value::Object(over)) => {
            base.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
            Value::Object(base)
        }
        (base, Value::Null) => base,
        (_, other) => other.clone(),
    }
}

/// Serialises a configuration; a failure is a fault of the type, not of the user.
pub fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::Config(error.to_string()))
}

fn parse<A: Define>(config: &Value) -> Result<A::Config> {
    read(A::NAME, A::defaults(), config)
}

/// `defaults` with the keys of `given` put over it. Errs with `Config` on unknown keys, wrong types and values out of
/// bounds; `owner` is whose parameters they are.
pub fn read<C: Serialize + DeserializeOwned + JsonSchema>(owner: &str, defaults: C, given: &Value) -> Result<C> {
    let given = schema::admit(&schemars::schema_for!(C).to_value(), owner, given)?;
    serde_json::from_value(overlay(to_value(&defaults)?, &given))
        .map_err(|error| Error::Config(format!("{owner}: {error}")))
}

fn resolve<A: Define>(config: &Value, run: &RunConfig) -> Result<Value> {
    let parsed = parse::<A>(config)?;
    A::check(&parsed, run)?;
    to_value(&parsed)
}

fn several_costs<A: Define>(config: &Value) -> Result<bool> {
    Ok(A::several_costs(&parse::<A>(config)?))
}

fn build<A: Define>(config: &Value, context: &mut Context<'_>) -> Result<Box<dyn Algorithm>> {
    Ok(Box::new(A::build(parse::<A>(config)?, context)?))
}

fn describe<A: Define>() -> Value {
    let mut schema = schemars::schema_for!(A::Config).to_value();
    let defaults = serde_json::to_value(A::defaults()).unwrap_or_default();
    let run_defaults = serde_json::to_value(RunConfig::default()).unwrap_or_default();
    complete(&mut schema, &defaults);
    let presets: Map<String, Value> = A::presets()
        .into_iter()
        .map(|preset| {
            let value = |config: &A::Config| serde_json::to_value(config).unwrap_or_default();
            let config = value(&preset.config);
            let run = serde_json::to_value(&preset.run).unwrap_or_default();
            let of_task = |tasks: &ForTasks<A::Config>| {
                let own = difference(&value(&tasks.config), &config);
                tasks.tasks.iter().map(|task| (task.to_string(), own.clone())).collect::<Vec<_>>()
            };
            let body = serde_json::json!({
                "summary": preset.summary,
                "run": difference(&run, &run_defaults),
                "config": difference(&config, &defaults),
                "tasks": preset.tasks.iter().flat_map(of_task).collect::<Map<String, Value>>(),
            });
            (preset.name.to_string(), body)
        })
        .collect();
    serde_json::json!({
        "label": A::LABEL,
        "summary": A::SUMMARY,
        "schema": schema,
        "presets": presets,
        "metrics": declared(A::METRICS).collect::<Vec<_>>(),
        "diagnostics": A::DIAGNOSTICS.map(|schema| schema()),
        "takes_limit": A::TAKES_LIMIT,
        "pretraining": A::PRETRAINING,
    })
}

/// Writes the default of every property into its schema and closes it to other keys, so that one document says
/// everything about a parameter. serde closes no configuration itself: it cannot where one is flattened into another.
pub fn complete(schema: &mut Value, defaults: &Value) {
    if let Some(keywords) = schema.as_object_mut() {
        keywords.insert("additionalProperties".into(), false.into());
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (key, property) in properties {
            if let (Some(property), Some(default)) = (property.as_object_mut(), defaults.get(key)) {
                property.insert("default".into(), default.clone());
            }
        }
    }
}

fn difference(value: &Value, base: &Value) -> Value {
    let changed = value.as_object().into_iter().flatten().filter(|(key, value)| base.get(key.as_str()) != Some(*value));
    Value::Object(changed.map(|(key, value)| (key.clone(), value.clone())).collect())
}
