//! The stages of a run: the trainer's own, and the algorithm's phases between them.

use crate::algorithm::Phase;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

/// Who makes the steps of a stretch of the run. The names of the algorithm's phases decide nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The dynamics models behind gate and selection are trained and tested.
    Model,
    /// The algorithm's phase of that number.
    Algorithm(usize),
    /// The dynamics models behind the certificate are trained and tested.
    Audit,
    /// Fitted Q evaluation, and as the last step the certificate.
    Certificate,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::Model => "model",
            Stage::Algorithm(_) => "algorithm",
            Stage::Audit => "audit",
            Stage::Certificate => "certificate",
        }
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A phase of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "RunPhase")]
pub struct Stretch {
    /// The algorithm's word for its phase; `model`, `audit` or `certificate` for those of the trainer.
    pub name: &'static str,
    /// More than 0.
    pub steps: u64,
    /// Who makes these steps: the algorithm, or the trainer around it.
    #[schemars(with = "String", extend("enum" = ["model", "algorithm", "audit", "certificate"]))]
    pub(crate) stage: Stage,
    /// True if the algorithm had no use for it: its steps are behind the run, and none was made.
    pub left_out: bool,
}

/// The stretches of a run in order; those without steps are left out.
pub(crate) fn plan(model: u64, algorithm: Vec<Phase>, audit: u64, certificate: u64) -> Vec<Stretch> {
    let own = |stage: Stage, steps: u64| Stretch { name: stage.name(), steps, stage, left_out: false };
    let mut stretches = vec![own(Stage::Model, model)];
    stretches.extend(algorithm.into_iter().enumerate().map(|(number, Phase { name, steps })| Stretch {
        name,
        steps,
        stage: Stage::Algorithm(number),
        left_out: false,
    }));
    stretches.extend([own(Stage::Audit, audit), own(Stage::Certificate, certificate)]);
    stretches.retain(|stretch| stretch.steps > 0);
    stretches
}
