//! Where the time of a run went in the core: `profile.json` but for what is written around it.

use crate::error::{Error, Result};
use crate::run::MatmulPrecision;
use crate::stage::{Stage, Stretch};
use drcorl_nn::profile::{total, Part, Peak, Products, Recorder};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use tch::Device;

/// What [`crate::Trainer::profile`] tells. Nothing of it decides anything.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TrainerProfile {
    /// Of the run's pool.
    pub threads: usize,
    pub matmul_precision: MatmulPrecision,
    /// Those with a step since the profile began.
    pub phases: Vec<PhaseProfile>,
    /// All phases together, by what made the products.
    pub kernels: Vec<KernelProfile>,
    /// Measured when the profile is asked for.
    pub peak: Peak,
}

/// A phase of the run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProfilePhase")]
pub struct PhaseProfile {
    pub name: &'static str,
    /// Who made its steps.
    #[schemars(with = "String", extend("enum" = ["model", "algorithm", "audit", "certificate"]))]
    stage: Stage,
    /// Made since the profile began.
    pub steps: u64,
    /// What passed in its steps.
    pub seconds: f64,
    pub products: Vec<Products>,
    pub parts: Vec<Part>,
}

/// Matrix products of one kernel, and how fast it has made them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProfileKernel")]
pub struct KernelProfile {
    #[serde(flatten)]
    pub products: Products,
    /// Of one thread.
    pub gflop_per_s: f64,
    /// Of `peak`.
    pub share_of_peak: f64,
}

/// What a trainer records once it is asked to.
pub(crate) struct Profiled {
    pub recorder: Arc<Recorder>,
    /// By phase.
    steps: Vec<u64>,
}

impl Profiled {
    /// Errs with `Config` for a device whose work goes on behind the calls that ask for it.
    pub fn on(device: Device) -> Result<Profiled> {
        if device != Device::Cpu {
            let what = "a profile is of runs on the CPU: elsewhere products are made while the run goes on";
            return Err(Error::Config(format!("{what}; set device to cpu, or leave the profile out")));
        }
        Ok(Profiled { recorder: Recorder::new(), steps: Vec::new() })
    }

    /// Counts a step of phase number `phase`.
    pub fn count(&mut self, phase: usize) {
        self.steps.resize(self.steps.len().max(phase + 1), 0);
        self.steps[phase] += 1;
    }

    /// What was recorded, by the phases of the run.
    pub fn read(&self, phases: &[Stretch], (threads, matmul_precision): (usize, MatmulPrecision)) -> TrainerProfile {
        let peak = Peak::measure();
        let parts = self.recorder.parts();
        let phases: Vec<PhaseProfile> = (parts.into_iter())
            .map(|(phase, Part { name, seconds, products, parts, .. })| {
                let steps = self.steps.get(phase).copied().unwrap_or_default();
                PhaseProfile { name, stage: phases[phase].stage, steps, seconds, products, parts }
            })
            .filter(|phase| phase.steps > 0)
            .collect();
        let rate = |products: Products| {
            // A product too short for the clock has no rate.
            let gflop_per_s = if products.seconds > 0.0 { products.gflop / products.seconds } else { 0.0 };
            KernelProfile { gflop_per_s, share_of_peak: gflop_per_s / peak.gflop_per_s, products }
        };
        let kernels = total(phases.iter().flat_map(|phase| phase.products.clone())).into_iter().map(rate).collect();
        TrainerProfile { threads, matmul_precision, kernels, phases, peak }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_elsewhere_is_refused() {
        let refused = Profiled::on(Device::Cuda(0)).err().expect("the clock of the host says nothing of it");
        assert_eq!(refused.code(), "Config");
        assert!(refused.to_string().contains("set device to cpu"), "{refused}");
        assert!(Profiled::on(Device::Cpu).is_ok());
    }
}
