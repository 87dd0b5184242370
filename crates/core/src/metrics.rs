//! What the numbers of a step are. Every algorithm declares the metrics it reports;
//! whoever shows them goes by their roles.

use crate::algorithm::Metrics;
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::Serialize;

/// What a metric is to a reader, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MetricRole")]
pub enum Role {
    /// A network or a scalar descends it.
    Loss,
    /// An offline estimate of the policy's episodic cost, to be read against `cost_limit`.
    Estimate,
    /// An episodic cost the environment was seen to ask, likewise.
    Measured,
    /// Weighs the cost, or another constraint, against the reward; adapts by itself.
    Multiplier,
    /// Weighs the reward, or entropy, against staying close to the data.
    Temperature,
    /// Tells whether learning goes well; nothing descends it.
    Diagnostic,
}

/// A scalar that steps report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Metric {
    /// Column of metrics.csv, snake_case.
    pub name: &'static str,
    /// One sentence.
    pub meaning: &'static str,
    /// In words, for example `cost an episode`; `1` for a pure number.
    pub unit: &'static str,
    pub role: Role,
}

impl Metric {
    /// A metric of role [`Role::Loss`].
    pub const fn loss(name: &'static str, unit: &'static str, meaning: &'static str) -> Self {
        Metric { name, meaning, unit, role: Role::Loss }
    }

    /// A metric of role [`Role::Estimate`], in the unit of the limit.
    pub const fn estimate(name: &'static str, meaning: &'static str) -> Self {
        Metric { name, meaning, unit: COST, role: Role::Estimate }
    }

    /// A metric of role [`Role::Measured`], in the unit of the limit.
    pub const fn measured(name: &'static str, meaning: &'static str) -> Self {
        Metric { name, meaning, unit: COST, role: Role::Measured }
    }

    /// A metric of role [`Role::Multiplier`].
    pub const fn multiplier(name: &'static str, unit: &'static str, meaning: &'static str) -> Self {
        Metric { name, meaning, unit, role: Role::Multiplier }
    }

    /// A metric of role [`Role::Temperature`].
    pub const fn temperature(name: &'static str, unit: &'static str, meaning: &'static str) -> Self {
        Metric { name, meaning, unit, role: Role::Temperature }
    }

    /// A metric of role [`Role::Diagnostic`].
    pub const fn diagnostic(name: &'static str, unit: &'static str, meaning: &'static str) -> Self {
        Metric { name, meaning, unit, role: Role::Diagnostic }
    }
}

/// Unit of `cost_limit`.
const COST: &str = "cost an episode";

/// What the trainer's stages before the algorithm report.
pub(crate) const MODEL_METRICS: &[Metric] = &[Metric::loss(
    "model_loss",
    "1",
    "Dynamics models of the stages model and audit: squared errors of next observation, reward and cost (of a flag: of its \
     probability), each over its deviation.",
)];

/// What its stages after the algorithm report, beside those.
pub(crate) const CERTIFICATE_METRICS: &[Metric] = &[Metric::loss(
    "fqe_loss",
    "1",
    "Fitted Q evaluation of the policy that ships: squared error of both values, scaled by 1 - gamma and the mean reward.",
)];

/// All metrics of a run with an algorithm of these, in the order they are told everywhere.
pub fn declared(own: &'static [Metric]) -> impl Iterator<Item = &'static Metric> {
    MODEL_METRICS.iter().chain(own).chain(CERTIFICATE_METRICS)
}

/// Means over the steps of one call.
pub(crate) struct Means {
    /// Sum and number of steps of each declared metric.
    sums: Vec<(&'static Metric, f64, u32)>,
}

impl Means {
    pub fn new(own: &'static [Metric]) -> Self {
        Means { sums: declared(own).map(|metric| (metric, 0.0, 0)).collect() }
    }

    /// Adds what a step of phase `phase` reports. Errs with `Internal` for a metric that is not declared or comes out
    /// of the declared order: then tables and curves would not say what they show.
    pub fn add(&mut self, phase: &str, metrics: &Metrics) -> Result<()> {
        let mut rest = self.sums.iter_mut();
        for (name, value) in metrics {
            let (_, sum, steps) = rest.find(|(metric, ..)| metric.name == *name).ok_or_else(|| {
                Error::Internal(format!("phase {phase} reports {name}, which METRICS does not declare at its place"))
            })?;
            *sum += value;
            *steps += 1;
        }
        Ok(())
    }

    /// The means, in the declared order; what no step reported is left out.
    pub fn take(self) -> Metrics {
        let told = self.sums.into_iter().filter(|(_, _, steps)| *steps > 0);
        told.map(|(metric, sum, steps)| (metric.name, sum / f64::from(steps))).collect()
    }
}
