//! How a trainer drives an algorithm it knows nothing of: stages, phases without steps,
//! metrics in the order that is declared.

use drcorl_core::algorithm::{Algorithm, Context, Define, Entry, Metrics, NamedPolicy, Phase, Preset, Registry};
use drcorl_core::metrics::Metric;
use drcorl_core::policy::Policy;
use drcorl_core::run::RunConfig;
use drcorl_core::trainer::TrainerStatus;
use drcorl_core::{Result, Trainer};
use drcorl_data::Columns;
use drcorl_nn::checkpoint::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

/// Counts its steps; its phases are called like the trainer's own stages, and one has no steps.
struct Namesake {
    policy: Policy,
    made: Vec<(usize, u64)>,
    config: NamesakeConfig,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct NamesakeConfig {
    /// Reports a metric that is not declared.
    undeclared: bool,
    /// Reports what it declares the other way round.
    reversed: bool,
    /// Wants models; and models to choose by.
    models: bool,
    choice: bool,
}

impl Define for Namesake {
    type Config = NamesakeConfig;
    const NAME: &'static str = "namesake";
    const LABEL: &'static str = "Namesake";
    const SUMMARY: &'static str = "Learns nothing.";
    const METRICS: &'static [Metric] = &[
        Metric::loss("z_loss", "1", "Told first."),
        Metric::estimate("m_cost", "Left out of every other step."),
        Metric::diagnostic("a_count", "steps", "Told last."),
    ];

    fn defaults() -> NamesakeConfig {
        NamesakeConfig::default()
    }

    fn presets() -> Vec<Preset<NamesakeConfig>> {
        Vec::new()
    }

    fn check(_config: &NamesakeConfig, _run: &RunConfig) -> Result<()> {
        Ok(())
    }

    fn build(config: NamesakeConfig, context: &mut Context<'_>) -> Result<Self> {
        let data = context.data;
        let policy = Policy::new(data.observations(), data.actions(), &[4], false, data.device(), context.rng);
        Ok(Namesake { policy, made: Vec::new(), config })
    }
}

impl Algorithm for Namesake {
    fn phases(&self) -> Vec<Phase> {
        [("model", 2), ("warm-up", 0), ("audit", 3), ("certificate", 2)]
            .map(|(name, steps)| Phase { name, steps })
            .to_vec()
    }

    fn needs_model(&self) -> bool {
        self.config.models
    }

    fn needs_reader(&self, context: &Context<'_>) -> bool {
        assert!(context.judge.validity(0).is_some(), "it was tested");
        self.config.choice
    }

    fn step(&mut self, phase: usize, step: u64, _context: &mut Context<'_>) -> Result<Metrics> {
        self.made.push((phase, step));
        let mut metrics = vec![("z_loss", 1.0 + step as f64)];
        if step.is_multiple_of(2) {
            metrics.push(("m_cost", 4.0));
        }
        metrics.push(("a_count", self.made.len() as f64));
        if self.config.reversed {
            metrics.reverse();
        }
        if self.config.undeclared {
            metrics.push(("surprise", 0.0));
        }
        Ok(metrics)
    }

    fn policies(&self) -> Result<Vec<NamedPolicy>> {
        Ok(vec![NamedPolicy::new("last", self.policy.averaged())])
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.value("made", &mut self.made)?;
        state.group("policy", |state| self.policy.persist(state))
    }
}

static REGISTRY: Registry = &[Entry::of::<Namesake>()];

fn columns() -> Arc<Columns> {
    let rows = 40;
    let wave = |step: f32| (0..rows).map(|row| (row as f32 * step).sin()).collect::<Vec<f32>>();
    Arc::new(Columns {
        obs_dim: 1,
        act_dim: 1,
        observations: wave(0.3),
        next_observations: wave(0.4),
        actions: wave(0.5),
        rewards: wave(0.6),
        costs: (0..rows).map(|row| f32::from(u8::from(row % 3 == 0))).collect(),
        terminals: vec![false; rows],
        timeouts: (0..rows).map(|row| row % 8 == 7).collect(),
        source: "waves".into(),
        ..Columns::default()
    })
}

fn trainer(config: Value) -> Result<Trainer> {
    let run = json!({ "model_steps": 4, "audit_members": 1, "model_hidden": [4], "model_rollouts": 2, "fqe_steps": 2,
        "device": "cpu" });
    Trainer::new(REGISTRY, columns(), &json!({ "algorithm": "namesake", "run": run, "config": config }).to_string())
}

/// The status after each single step.
fn steps(trainer: &mut Trainer) -> Vec<TrainerStatus> {
    let never = AtomicBool::new(false);
    let mut told = Vec::new();
    while told.last().is_none_or(|status: &TrainerStatus| !status.done) {
        told.push(trainer.run(1, &never).unwrap());
    }
    told
}

#[test]
fn phases_called_like_the_stages_of_the_trainer_are_made_by_the_algorithm() {
    let mut trainer = trainer(json!({})).unwrap();
    let told = steps(&mut trainer);
    let phases = serde_json::to_value(&told[0]).unwrap()["phases"].clone();
    let stage = |name: &str, steps: u64, stage: &str| json!({ "name": name, "steps": steps, "stage": stage, "left_out": false });
    let own = |name: &str, steps: u64| stage(name, steps, "algorithm");
    let expected = json!([
        own("model", 2),
        own("audit", 3),
        own("certificate", 2),
        stage("audit", 5, "audit"),
        stage("certificate", 3, "certificate"),
    ]);
    assert_eq!(phases, expected);
    // Seven steps are the algorithm's, each under the number of its phase as the algorithm counts them,
    // that without steps included.
    let counts: Vec<f64> = told
        .iter()
        .flat_map(|status| status.metrics.iter().filter(|(name, _)| *name == "a_count").map(|m| m.1))
        .collect();
    assert_eq!(counts, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let made = |status: &TrainerStatus| (status.phase_index, status.phase_step);
    assert_eq!(
        told.iter().take(7).map(made).collect::<Vec<_>>(),
        [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    );
    assert!(trainer.certificate().is_some_and(|certificate| certificate.validity.is_some()));

    let folder = std::env::temp_dir().join(format!("drcorl-stages-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("checkpoint.safetensors");
    trainer.save(&path).unwrap();
    let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(text.contains("[[0,0],[0,1],[2,0],[2,1],[2,2],[3,0],[3,1]]"), "phases as the algorithm counts them");
}

/// Models to choose by are trained after those that steer, and not where the algorithm then has no use for them.
#[test]
fn models_that_nobody_chooses_by_are_not_trained() {
    let made = |choice: bool| {
        let mut trainer = trainer(json!({ "models": true, "choice": choice })).unwrap();
        let told = steps(&mut trainer);
        let of_models = told.iter().filter(|status| status.metrics.iter().any(|metric| metric.0 == "model_loss"));
        let last = told.last().unwrap();
        assert_eq!((last.step, last.phases[0].steps), (last.steps, 10));
        (of_models.count(), trainer.certificate().unwrap().validity.clone())
    };
    let ((chosen, with), (left, without)) = (made(true), made(false));
    // Four steps each, and four of the auditors.
    assert_eq!((chosen, left), (12, 8));
    assert_eq!(with, without, "nothing else changes");
}

#[test]
fn metrics_are_told_in_the_declared_order_whatever_a_call_holds() {
    let never = AtomicBool::new(false);
    let mut trainer = trainer(json!({})).unwrap();
    let told = trainer.run(2, &never).unwrap();
    assert_eq!(told.metrics, [("z_loss", 1.5), ("m_cost", 4.0), ("a_count", 1.5)]);
    assert!(serde_json::to_string(&told).unwrap().ends_with(r#""metrics":{"z_loss":1.5,"m_cost":4.0,"a_count":1.5}}"#));
    let described = drcorl_core::describe(REGISTRY)["algorithms"]["namesake"]["metrics"].clone();
    let names: Vec<_> = described.as_array().unwrap().iter().map(|metric| metric["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["model_loss", "z_loss", "m_cost", "a_count", "fqe_loss"]);
    assert_eq!(described[2]["role"], "estimate");
}

#[test]
fn a_metric_that_is_not_declared_or_out_of_order_is_an_error() {
    let never = AtomicBool::new(false);
    for (config, name) in [(json!({ "undeclared": true }), "surprise"), (json!({ "reversed": true }), "m_cost")] {
        let error = trainer(config).unwrap().run(1, &never).unwrap_err();
        assert_eq!(error.code(), "Internal");
        assert!(error.to_string().contains(&format!("phase model reports {name}")), "{error}");
    }
}
