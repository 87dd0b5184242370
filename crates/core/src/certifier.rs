//! A certificate without training: policies from files, judged by models of the episodes that are given.
//!
//! It is a run whose algorithm has no phases, so that the stages `audit` and `certificate` are those of every run. One
//! ensemble, trained and tested once, judges all policies from the same initial states, each with the same draws: what
//! is said of one does not depend on which others are there.

use crate::algorithm::{Algorithm, Context, Metrics, NamedPolicy, Phase};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::offline::{Certificate, Refusal, Rule, Verdict};
use crate::policy::{FrozenPolicy, LoadedPolicy, Player};
use crate::run::RunConfig;
use crate::trainer::{guarded, Trainer, TrainerStatus};
use drcorl_actor::PolicyFile;
use drcorl_data::Columns;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

/// Stream of the run's seed: the models are others than those of training with the same seed.
const STREAM: u64 = 2;

/// Share of actions outside the range of the logged ones beyond which models of the data say nothing of a policy.
const OUTSIDE_CAP: f64 = 0.1;

/// What a certifier is made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifierConfig {
    /// See [`RunConfig`]; what belongs to training alone is not looked at.
    #[serde(default)]
    pub run: Value,
    /// At least one.
    pub policies: Vec<PolicySource>,
}

/// A policy file, and what the policy is asked for instead of what the file says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    pub path: PathBuf,
    #[serde(default)]
    pub settings: BTreeMap<String, f64>,
}

/// What a certificate on given episodes has in the place of an algorithm's own facts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GivenPolicy {
    /// Share of its actions in the models that left the range of the logged ones.
    pub actions_outside: f64,
}

/// Judges policies one after the other.
pub struct Certifier {
    trainer: Trainer,
    policies: Vec<Arc<LoadedPolicy>>,
    /// Of the policies judged so far.
    certificates: Vec<Certificate>,
    /// The state with which the judging of every policy begins; None while the models are trained.
    draws: Option<Rng>,
}

impl Certifier {
    /// Over `columns`; `json` is a [`CertifierConfig`]. Errs on unknown keys, impossible values and files that are no
    /// policy for such data, before any work.
    pub fn new(columns: Arc<Columns>, json: &str) -> Result<Certifier> {
        let config: CertifierConfig = serde_json::from_str(json).map_err(|error| Error::Config(error.to_string()))?;
        if config.policies.is_empty() {
            return Err(Error::Config("policies is []; give at least one policy file".into()));
        }
        guarded(|| Certifier::build(columns, &config))
    }

    fn build(columns: Arc<Columns>, config: &CertifierConfig) -> Result<Certifier> {
        let run = RunConfig::resolve(&config.run)?;
        // No model steers here.
        let run = RunConfig { mode: crate::hybrid::Mode::Offline, model_members: 0, selection_members: 0, ..run };
        let mut policies = Vec::new();
        let maker = |context: &mut Context<'_>| -> Result<Box<dyn Algorithm>> {
            let load = |source: &PolicySource| load(source, context.data);
            policies = config.policies.iter().map(load).collect::<Result<Vec<_>>>()?;
            Ok(Box::new(Given(Arc::clone(&policies[0]))))
        };
        let mut trainer = Trainer::assemble("given", run, columns, &json!({}), STREAM, maker)?;
        for policy in &policies[1..] {
            trainer.judge_also(&Given(Arc::clone(policy)))?;
        }
        let mut certifier = Certifier { trainer, policies, certificates: Vec::new(), draws: None };
        certifier.turn()?;
        Ok(certifier)
    }

    /// As [`Trainer::share_audit`], with other judgements of the same data and seed; never with runs, whose models are
    /// others.
    pub fn share_audit(&mut self, folder: &Path, dataset_sha256: &str) -> Result<()> {
        self.trainer.share_audit(folder, dataset_sha256)
    }

    /// As [`Trainer::run`].
    pub fn run(&mut self, steps: u64, cancel: &AtomicBool) -> Result<TrainerStatus> {
        let status = self.trainer.run(steps, cancel)?;
        if let Some(certificate) = self.trainer.take_certificate() {
            let policy = &self.policies[self.certificates.len()];
            self.certificates.push(with_actions(certificate, policy.outside()));
        }
        guarded(|| {
            self.turn()?;
            Ok(status)
        })
    }

    /// As [`Trainer::status`].
    pub fn status(&self) -> TrainerStatus {
        self.trainer.status()
    }

    /// One a policy, in the order given, of those that have been judged.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Where the judging of a policy begins, hands that policy to the trainer.
    fn turn(&mut self) -> Result<()> {
        let Some(policy) = self.policies.get(self.certificates.len()) else { return Ok(()) };
        if self.trainer.judges_next() {
            let draws = self.draws.get_or_insert_with(|| self.trainer.draws()).clone();
            self.trainer.judge(Box::new(Given(Arc::clone(policy))), draws)?;
        }
        Ok(())
    }
}

fn load(source: &PolicySource, data: &Dataset) -> Result<Arc<LoadedPolicy>> {
    Ok(Arc::new(LoadedPolicy::load(&source.path, &source.settings, data)?))
}

/// The certificate with what the actions say.
fn with_actions(mut certificate: Certificate, outside: f64) -> Certificate {
    if outside > OUTSIDE_CAP {
        if certificate.verdict == Verdict::Certified {
            certificate.reasons.clear();
        }
        certificate.verdict = Verdict::NotCertified;
        let refusal = Refusal {
            rule: Rule::Actions,
            cost: None,
            reason: format!(
                "{:.0} % of the policy's actions are outside the range of the logged ones, of which the models know nothing",
                100.0 * outside
            ),
            remedy: "certify by data of the world that the policy was made for".into(),
        };
        for cost in &mut certificate.costs {
            cost.verdict = Verdict::NotCertified;
            cost.refusals.push(refusal.clone());
        }
        certificate.reasons.push(refusal.reason.clone());
        certificate.refusals.push(refusal);
    }
    certificate
}

/// The algorithm that has learnt already.
struct Given(Arc<LoadedPolicy>);

impl Algorithm for Given {
    fn phases(&self) -> Vec<Phase> {
        Vec::new()
    }

    fn step(&mut self, _phase: usize, _step: u64, _context: &mut Context<'_>) -> Result<Metrics> {
        Err(Error::Internal("a policy that is given is not trained".into()))
    }

    fn policies(&self) -> Result<Vec<NamedPolicy>> {
        Ok(vec![NamedPolicy::new("given", Shared(Arc::clone(&self.0)))])
    }

    fn diagnostics(&mut self, _policy: &dyn FrozenPolicy, _context: &mut Context<'_>) -> Map<String, Value> {
        Map::from_iter([("actions_outside".to_string(), json!(self.0.outside()))])
    }

    fn persist(&mut self, _state: &mut State) -> drcorl_nn::Result<()> {
        Ok(())
    }
}

/// A policy that others hold too: the count of its actions is one.
struct Shared(Arc<LoadedPolicy>);

impl FrozenPolicy for Shared {
    fn start(&self, rows: i64) -> Box<dyn Player + '_> {
        self.0.start(rows)
    }

    fn remembers(&self) -> bool {
        self.0.remembers()
    }

    fn work(&self) -> f64 {
        self.0.work()
    }

    fn act(&self, observation: &tch::Tensor) -> tch::Tensor {
        self.0.act(observation)
    }

    fn file(&self) -> Result<PolicyFile> {
        self.0.file()
    }
}
