//! Drives one run: the gate's models, the algorithm's phases, the audit's models, the certificate;
//! cancellation, divergence, checkpoints.
//!
//! Glossary. *Step*: one call of a phase, usually one gradient step of each network it trains. *Phase*: a named number
//! of steps. *Stage*: who makes them, the algorithm or the trainer itself. *Run*: all phases. Nothing here depends on
//! how steps are grouped into calls of [`Trainer::run`].

mod certificate;
mod output;
mod restart;

use crate::algorithm::{find, to_value, Algorithm, Context, Entry, Metrics, NamedPolicy, Pretraining, Registry};
use crate::audit_file::{AuditFile, TakenModels};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::hybrid::{Mode, Played, Visit, Visits};
use crate::memory;
use crate::metrics::{Means, Metric};
use crate::offline::{held_out, Certificate, Fqe, Judge};
use crate::policy::FrozenPolicy;
use crate::profile::{Profiled, TrainerProfile};
use crate::results::object;
use crate::run::{require, MatmulPrecision, RunConfig};
use crate::stage::{plan, Stage, Stretch};
use drcorl_data::Columns;
use drcorl_nn::matmul;
use drcorl_nn::precision::{self, Held};
use drcorl_nn::profile;
use drcorl_nn::rng::Rng;
use drcorl_nn::threads::{Entered, Pool};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use tch::{Device, NoGradGuard};

/// Streams of the run's seed.
const TRAINING_STREAM: u64 = 1;
/// On from the stream of the run: the draws of the models behind its certificate.
const AUDIT: u64 = 16;
/// Likewise those of the models that choose among candidates.
const READER: u64 = 32;

/// What a trainer is made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerConfig {
    /// Name in the registry.
    pub algorithm: String,
    /// See [`RunConfig`].
    #[serde(default)]
    pub run: Value,
    /// The algorithm's own configuration.
    #[serde(default)]
    pub config: Value,
}

/// What the policy files of a run tell of it and the trainer does not know.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Of the dataset, as in the run's record.
    pub dataset_sha256: String,
    /// The day the run began, in ISO 8601. No time: two equal runs of one day write the same bytes.
    pub date: String,
}

/// Where a run stands, and what the steps just made say.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TrainerStatus {
    /// Name of the phase; one that has just ended is told as complete, not as the next one's beginning.
    pub phase: &'static str,
    pub phase_index: usize,
    pub phase_step: u64,
    pub phase_steps: u64,
    /// Of all phases together.
    pub step: u64,
    pub steps: u64,
    pub phases: Vec<Stretch>,
    pub done: bool,
    pub cancelled: bool,
    /// The environment is awaited: play the live policy, then hand in the visit. Always null in mode offline.
    pub visit: Option<DueVisit>,
    /// Environment steps of all visits so far.
    pub environment_steps: u64,
    /// What runs of other parameters may take over has been made, and nothing after it: the moment to save it.
    pub pretrained: bool,
    /// The models behind the certificate that the run took from another since it was started or resumed; null while it
    /// has not.
    pub audit_models: Option<TakenModels>,
    /// Means over the steps of the call by name, in the algorithm's order; null where a mean is not finite.
    #[serde(serialize_with = "object::serialize")]
    #[schemars(with = "BTreeMap<String, Option<f64>>")]
    pub metrics: Metrics,
}

/// What a visit of the environment should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DueVisit {
    /// From 0.
    pub number: usize,
    /// Episodes to play.
    pub episodes: usize,
    /// True where the transitions are wanted too (mode hybrid-data).
    pub transitions: bool,
}

/// One run.
pub struct Trainer {
    algorithm: Box<dyn Algorithm>,
    /// What it declares.
    metrics: &'static [Metric],
    pretraining: Option<&'static Pretraining>,
    resolved: Value,
    run: RunConfig,
    pool: Pool,
    data: Dataset,
    /// All episodes, those that are kept from training marked; None where none are.
    whole: Option<Dataset>,
    /// Behind the gate.
    judge: Judge,
    /// Behind the choice among candidates, with draws of its own.
    reader: Judge,
    reader_rng: Rng,
    /// Behind the certificate; training never reads it.
    auditor: Judge,
    /// Of its models and clones alone: what they are does not depend on what is trained.
    audit_rng: Rng,
    /// Of the seed, that the draws come from.
    stream: u64,
    /// Where other runs find its models.
    audit_file: Option<AuditFile>,
    audit_models: Option<TakenModels>,
    fqe: Fqe,
    fqe_steps: u64,
    rng: Rng,
    phases: Vec<Stretch>,
    /// Number of the phase under way; that of phases when the run is done.
    phase: usize,
    phase_step: u64,
    step: u64,
    visits: Visits,
    certificate: Option<Certificate>,
    /// None unless it was asked for.
    profiled: Option<Profiled>,
}

/// Turns a panic of the numerics (libtorch errors surface as such) into an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
            .unwrap_or_else(|| "unknown panic".into());
        // libtorch appends its own stack after the first line; the panic message holds it with escaped line ends.
        let first = text.split("\\n").next().and_then(|text| text.lines().next()).unwrap_or_default();
        let text = first.trim_start_matches("called `Result::unwrap()` on an `Err` value: ");
        Err(drcorl_nn::Error::Torch(text.to_string()).into())
    })
}

/// Steps of fitted Q evaluation: none for a policy that remembers, whose action is no function of a transition.
fn fqe_steps(algorithm: &dyn Algorithm, run: &RunConfig) -> Result<u64> {
    let remembers = algorithm.policies()?.first().is_some_and(|named| named.policy.remembers());
    Ok(if remembers { 0 } else { run.fqe_steps })
}

fn model_step(
    judge: &mut Judge,
    step: u64,
    data: &Dataset,
    run: &RunConfig,
    rng: &mut Rng,
    cancel: &AtomicBool,
) -> Result<Metrics> {
    let loss = judge.step(step, data, run, rng, cancel)?;
    Ok(loss.map(|loss| ("model_loss", loss)).into_iter().collect())
}

/// Errs with `Config` where the algorithm, as it is configured, learns under one limit.
fn require_several(registry: Registry, entry: &Entry, resolved: &Value, run: &RunConfig) -> Result<()> {
    let takes = |entry: &&Entry| entry.several_costs(&Value::Null).unwrap_or(false);
    let takers: Vec<&str> = registry.iter().filter(takes).map(|entry| entry.name).collect();
    let remedy = format!("{} learns under one limit; give one, or choose {}", entry.name, takers.join(" or "));
    require(entry.several_costs(resolved)?, "limits", &to_value(run)?["limits"], &remedy)
}

/// Errs with `Data` unless the columns have the costs that the run bounds, the first in its place.
fn require_costs(columns: &Columns, run: &RunConfig) -> Result<()> {
    let names: Vec<&str> = run.limits.iter().map(|(name, _)| name.as_str()).collect();
    let further = columns.further.iter().map(|(name, _)| name.as_str());
    let held: Vec<&str> = std::iter::once(columns.cost_name()).chain(further).collect();
    if held.starts_with(&names) {
        return Ok(());
    }
    Err(Error::Data(format!(
        "{}: limits bounds {}, but the dataset was loaded with the costs {}; load it with the costs that are bounded, in their order",
        columns.source,
        names.join(", "),
        held.join(", ")
    )))
}

fn no_visit() -> Error {
    Error::Config("no visit of the environment is due".into())
}

/// Until the answer is dropped, this thread tracks no gradients, makes products at that precision, and has the help of
/// `pool`.
fn at_work(pool: &Pool, precision: MatmulPrecision) -> (NoGradGuard, Held, Entered) {
    (tch::no_grad_guard(), precision::hold(precision.of_products()), pool.enter())
}

/// For work that no one can cancel yet.
static NEVER: AtomicBool = AtomicBool::new(false);

/// What an algorithm sees of its trainer. A macro, because a method would borrow the algorithm too.
macro_rules! context {
    ($trainer:ident, $cancel:expr) => {
        Context {
            data: &$trainer.data,
            run: &$trainer.run,
            judge: &mut $trainer.judge,
            reader: &mut $trainer.reader,
            rng: &mut $trainer.rng,
            visit: $trainer.visits.last(),
            cancel: $cancel,
        }
    };
}
use context;

impl Trainer {
    /// A fresh run on `columns`; `json` is a [`TrainerConfig`].
    /// Errs on unknown keys and impossible values before any work.
    pub fn new(registry: Registry, columns: Arc<Columns>, json: &str) -> Result<Trainer> {
        let config: TrainerConfig = serde_json::from_str(json).map_err(|error| Error::Config(error.to_string()))?;
        guarded(|| Trainer::build(registry, columns, &config))
    }

    fn build(registry: Registry, columns: Arc<Columns>, config: &TrainerConfig) -> Result<Trainer> {
        let run = RunConfig::resolve(&config.run)?;
        let entry = find(registry, &config.algorithm)?;
        let resolved = entry.resolve(&config.config, &run)?;
        if run.costs() > 1 {
            require_several(registry, entry, &resolved, &run)?;
        }
        let maker = |context: &mut Context<'_>| entry.build(&resolved, context);
        let trainer = Trainer::assemble(&config.algorithm, run, columns, &resolved, TRAINING_STREAM, maker)?;
        let meets = (0..trainer.algorithm.phases().len()).any(|phase| trainer.algorithm.visitor(phase).is_some());
        require(
            trainer.run.mode == Mode::Offline || meets,
            "mode",
            to_value(&trainer.run.mode)?,
            &format!("{} has no use for an environment; give offline", config.algorithm),
        )?;
        Ok(Trainer { metrics: entry.metrics, pretraining: entry.pretraining, ..trainer })
    }

    /// A run of the algorithm that `maker` makes, with draws of that stream.
    pub(crate) fn assemble(
        name: &str,
        run: RunConfig,
        columns: Arc<Columns>,
        resolved: &Value,
        stream: u64,
        maker: impl FnOnce(&mut Context<'_>) -> Result<Box<dyn Algorithm>>,
    ) -> Result<Trainer> {
        require_costs(&columns, &run)?;
        let device = run.device()?;
        if device == Device::Cpu {
            let (rows, observations, actions) = (columns.rewards.len(), columns.obs_dim, columns.act_dim);
            let shape = memory::Shape { rows, observations, actions };
            memory::refuse(&to_value(&run)?, resolved, shape, memory::available())?;
        }
        // On another device the work is that device's.
        let pool = Pool::new(if device == Device::Cpu { run.threads as usize } else { 1 });
        let _at_work = at_work(&pool, run.matmul_precision);
        matmul::libraries()?;
        let (data, whole) = held_out::parts(columns, &run, device)?;
        let mut rng = Rng::new(run.seed, stream);
        let mut judge = Judge::new(&data, &run, run.model_members, &mut rng);
        let mut reader_rng = Rng::new(run.seed, stream + READER);
        let mut reader = Judge::new(&data, &run, 0, &mut reader_rng.clone());
        let mut audit_rng = Rng::new(run.seed, stream + AUDIT);
        let auditor = Judge::auditor(whole.as_ref().unwrap_or(&data), &run, &mut audit_rng);
        let fqe = Fqe::new(&data, run.costs(), &mut rng);
        let algorithm = maker(&mut Context {
            data: &data,
            run: &run,
            judge: &mut judge,
            reader: &mut reader,
            rng: &mut rng,
            visit: None,
            cancel: &NEVER,
        })?;
        let mut model_steps = 0;
        if algorithm.needs_model() {
            // Its rows are memory: only where it will be trained.
            reader = Judge::reader(&data, &run, &mut reader_rng);
            model_steps = judge.steps(&run) + reader.steps(&run);
        }
        // One step more than fitted Q evaluation: the last one writes the certificate.
        let fqe_steps = fqe_steps(algorithm.as_ref(), &run)?;
        let phases = plan(model_steps, algorithm.phases(), auditor.steps(&run), fqe_steps + 1);
        let resolved = json!({ "algorithm": name, "run": to_value(&run)?, "config": resolved });
        Ok(Trainer {
            algorithm,
            metrics: &[],
            pretraining: None,
            resolved,
            run,
            pool,
            data,
            whole,
            judge,
            reader,
            reader_rng,
            auditor,
            audit_rng,
            stream,
            audit_file: None,
            audit_models: None,
            fqe,
            fqe_steps,
            rng,
            phases,
            phase: 0,
            phase_step: 0,
            step: 0,
            visits: Visits::default(),
            certificate: None,
            profiled: None,
        })
    }

    /// Takes the models behind the certificate from `folder` when the run comes to them, or leaves its own there for
    /// others: they are those of the data, which `dataset_sha256` names, and the seed. No bit of the run changes.
    pub fn share_audit(&mut self, folder: &Path, dataset_sha256: &str) -> Result<()> {
        self.audit_file = Some(AuditFile::new(folder, dataset_sha256, self.stream, &self.resolved["run"])?);
        Ok(())
    }

    /// Records from now on where the time goes. No bit of the run changes, and no checkpoint knows of it. Errs with
    /// `Config` where the run is not on the CPU.
    pub fn start_profile(&mut self) -> Result<()> {
        self.profiled = Some(Profiled::on(self.data.device())?);
        Ok(())
    }

    /// Where the time went since [`Trainer::start_profile`]; None where that was not called. Takes half a second more,
    /// in which the peak of this machine is measured.
    pub fn profile(&self) -> Result<Option<TrainerProfile>> {
        guarded(|| {
            let _precision = precision::hold(self.run.matmul_precision.of_products());
            let how = (self.run.threads as usize, self.run.matmul_precision);
            Ok(self.profiled.as_ref().map(|profiled| profiled.read(&self.phases, how)))
        })
    }

    /// The fully resolved configuration, as stored in the checkpoint.
    pub fn config(&self) -> &Value {
        &self.resolved
    }

    /// Makes up to `steps` steps, never past the end of a phase; stops early when `cancel` is set.
    pub fn run(&mut self, steps: u64, cancel: &AtomicBool) -> Result<TrainerStatus> {
        let pool = self.pool.clone();
        guarded(|| {
            let _at_work = at_work(&pool, self.run.matmul_precision);
            let _watched = self.profiled.as_ref().map(|profiled| profiled.recorder.enter());
            let mut means = Means::new(self.metrics);
            let phase = self.phase;
            let mut cancelled = false;
            for _ in 0..steps {
                if self.phase != phase || self.phase >= self.phases.len() {
                    break;
                }
                if self.visit_due() {
                    break;
                }
                if cancel.load(Ordering::Relaxed) {
                    cancelled = true;
                    break;
                }
                let _step = profile::open_numbered(self.phases[phase].name, phase);
                let metrics = match self.advance(cancel) {
                    Err(Error::Cancelled) => {
                        cancelled = true;
                        break;
                    }
                    other => other?,
                };
                means.add(self.phases[phase].name, &metrics)?;
            }
            Ok(self.report(phase, cancelled, means.take()))
        })
    }

    /// Who makes the next step; None when the run is done.
    fn stage(&self) -> Option<Stage> {
        self.phases.get(self.phase).map(|stretch| stretch.stage)
    }

    /// The policy of the visit that is due, if one is.
    fn visitor(&self) -> Option<Box<dyn FrozenPolicy>> {
        let Some(Stage::Algorithm(phase)) = self.stage() else { return None };
        let due = self.run.mode != Mode::Offline && self.visits.due(self.phase_step, self.run.hybrid_interval);
        due.then(|| self.algorithm.visitor(phase)).flatten()
    }

    fn visit_due(&self) -> bool {
        self.visitor().is_some()
    }

    /// Hands in the episodes of the visit that is due and, in mode hybrid-data, their transitions.
    /// Training then goes on.
    pub fn visited(&mut self, played: &[Played], collected: Option<&Columns>) -> Result<()> {
        guarded(|| {
            if !self.visit_due() {
                return Err(no_visit());
            }
            let names: Vec<&str> = (0..self.run.costs()).filter_map(|k| self.run.cost_name(k)).collect();
            let visit = Visit::new(self.phase_step, played, &names)?;
            match (self.run.mode, collected) {
                (Mode::HybridData, Some(columns)) => self.data.collect(columns)?,
                (Mode::HybridData, None) => {
                    return Err(Error::Data("visit: mode hybrid-data needs the transitions of its episodes".into()))
                }
                _ => {}
            }
            self.visits.enter(visit);
            Ok(())
        })
    }

    /// Makes one step; `cancel` may end a rollout inside it, and then nothing has changed.
    pub fn advance(&mut self, cancel: &AtomicBool) -> Result<Metrics> {
        let Stretch { name, steps, stage, .. } = self.phases[self.phase];
        let metrics = match stage {
            Stage::Model => {
                if self.phase_step == self.judge.steps(&self.run) {
                    let context = context!(self, cancel);
                    if !self.algorithm.needs_reader(&context) {
                        self.pass_over(steps);
                        return Ok(Metrics::new());
                    }
                }
                let Trainer { judge, reader, data, run, .. } = self;
                match self.phase_step.checked_sub(judge.steps(run)) {
                    None => model_step(judge, self.phase_step, data, run, &mut self.rng, cancel)?,
                    Some(step) => model_step(reader, step, data, run, &mut self.reader_rng, cancel)?,
                }
            }
            Stage::Audit => {
                if self.phase_step == 0 && self.take_models()? {
                    return Ok(Metrics::new());
                }
                let data = self.whole.as_ref().unwrap_or(&self.data);
                model_step(&mut self.auditor, self.phase_step, data, &self.run, &mut self.audit_rng, cancel)?
            }
            Stage::Certificate => self.certificate_step(cancel)?,
            Stage::Algorithm(phase) => {
                let mut context = context!(self, cancel);
                if self.phase_step == 0 && self.algorithm.leaves_out(phase, &context) {
                    self.phases[self.phase].left_out = true;
                    self.pass_over(steps);
                    return Ok(Metrics::new());
                }
                self.algorithm.step(phase, self.phase_step, &mut context)?
            }
        };
        if let Some((what, value)) = metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::Diverged { phase: name.into(), what: what.to_string(), value: *value, step: self.step });
        }
        if let Some(profiled) = &mut self.profiled {
            profiled.count(self.phase);
        }
        self.step += 1;
        self.phase_step += 1;
        if stage == Stage::Audit && self.phase_step == self.auditor.model_steps() {
            self.leave_models()?;
        }
        if self.phase_step >= steps {
            self.phase += 1;
            self.phase_step = 0;
        }
        Ok(metrics)
    }

    /// What is left of a phase of `steps` is behind the run, and is not made.
    fn pass_over(&mut self, steps: u64) {
        self.step += steps - self.phase_step;
        (self.phase, self.phase_step) = (self.phase + 1, 0);
    }

    /// True where others had made the models behind the certificate: the steps that make them are then behind the run.
    fn take_models(&mut self) -> Result<bool> {
        let Some(file) = &mut self.audit_file else { return Ok(false) };
        let data = self.whole.as_ref().unwrap_or(&self.data);
        self.audit_models = file.take(&mut self.auditor, &mut self.audit_rng, data)?;
        if self.audit_models.is_some() {
            self.phase_step = self.auditor.model_steps();
            self.step += self.auditor.model_steps();
        }
        Ok(self.audit_models.is_some())
    }

    fn leave_models(&mut self) -> Result<()> {
        match &mut self.audit_file {
            Some(file) => file.leave(&mut self.auditor, &mut self.audit_rng),
            None => Ok(()),
        }
    }

    fn report(&self, phase: usize, cancelled: bool, metrics: Metrics) -> TrainerStatus {
        let shown = phase.min(self.phases.len() - 1);
        let Stretch { name, steps, .. } = self.phases[shown];
        TrainerStatus {
            phase: name,
            phase_index: shown,
            phase_step: if self.phase == shown { self.phase_step } else { steps },
            phase_steps: steps,
            step: self.step,
            steps: self.phases.iter().map(|phase| phase.steps).sum(),
            phases: self.phases.clone(),
            done: self.phase >= self.phases.len(),
            cancelled,
            visit: self.visit_due().then(|| DueVisit {
                number: self.visits.made().len(),
                episodes: self.run.hybrid_episodes,
                transitions: self.run.mode == Mode::HybridData,
            }),
            environment_steps: self.visits.environment_steps(),
            pretrained: self.pretrained(),
            audit_models: self.audit_models.clone(),
            metrics,
        }
    }

    /// Where the run stands; the same fields as [`Trainer::run`] answers.
    pub fn status(&self) -> TrainerStatus {
        self.report(self.phase, false, Metrics::new())
    }

    /// The data as the run sees them.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The policies the run keeps; the first is the one that ships.
    pub fn policies(&self) -> Result<Vec<NamedPolicy>> {
        self.algorithm.policies()
    }
}
