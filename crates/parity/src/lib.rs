//! Replays recorded steps of reference implementations: same parameters, batches and draws in, same numbers out.
//!
//! The runner knows the file format and nothing else. An algorithm brings a [`Binding`]: how the fixture's names map to
//! its own, and which of its ordinary options reproduce the recorded step.

mod bc;
mod cdt;
mod drcorl;
mod fisor;
mod fixture;
mod mlp;
mod osrl;
mod trebi;

pub use fixture::{Fixture, Tensors};

use drcorl_core::error::{Error, Result};
use drcorl_nn::precision::Precision;
use drcorl_nn::probe::Seen;
use fixture::{Mean, Tolerance};
use std::fs;
use std::path::Path;
use tch::{Device, Tensor};

/// Numbers a step or an evaluation produced: `loss/x`, `aux/x`, `state/x`, `grad/x`, or bare names for an evaluation.
pub type Record = Vec<(String, Tensor)>;

/// What a step showed, under the fixture's names: pairs of ours and theirs.
/// A repeated value gets a suffix `_2`, `_3` and on.
fn shown(seen: &Seen, names: &[(&str, &str)]) -> Record {
    let mut record = Record::new();
    for (ours, theirs) in names {
        for (i, value) in seen.all(ours).enumerate() {
            let suffix = if i == 0 { String::new() } else { format!("_{}", i + 1) };
            record.push((format!("aux/{theirs}{suffix}"), value.shallow_clone()));
        }
    }
    record
}

/// What a step showed under `name` the `index`th time, from 0.
fn shown_at<'a>(seen: &'a Seen, name: &'a str, index: usize) -> Result<&'a Tensor> {
    seen.all(name).nth(index).ok_or_else(|| Error::Data(format!("the step shows no {name} number {index}")))
}

/// One recorded variant, replayed by our code.
pub trait Binding {
    /// Performs step `step` on `batch` with the recorded `draws` in order of use.
    fn step(&mut self, step: usize, batch: &Tensors, draws: &[Tensor]) -> Result<Record>;

    /// Numbers beside the steps, of the initial parameters and of formulas, under the fixture's whole names.
    fn formulas(&mut self, _fixture: &Fixture) -> Result<Record> {
        Ok(Record::new())
    }

    /// All parameters under the fixture's names.
    fn parameters(&self) -> Record {
        Vec::new()
    }

    /// Outputs for the fixed inputs after the last step, with the recorded `draws` in order of use.
    fn evaluate(&mut self, inputs: &Tensors, draws: &[Tensor]) -> Result<Record>;
}

/// What to do with a variant.
pub enum Plan {
    /// Replay it.
    Run(Box<dyn Binding>),
    /// It pins down something this project does not reproduce.
    Skip(&'static str),
}

/// Builds the plan of one variant from its manifest and initial parameters.
type Bind = fn(&Fixture, &str, &Tensors, Device) -> Result<Plan>;

/// One line a fixture file.
const BINDINGS: &[(&str, Bind)] = &[
    ("bc", bc::bind),
    ("bcql", osrl::bind_bcql),
    ("bearl", osrl::bind_bearl),
    ("coptidice", osrl::bind_coptidice),
    ("cpq", osrl::bind_cpq),
    ("caps_iql", osrl::bind_caps),
    ("ccac", osrl::bind_ccac),
    ("cdt", cdt::bind),
    ("drcorl_scorenet", drcorl::bind_score_net),
    ("drcorl_behavior", drcorl::bind_behavior),
    ("drcorl_iql", drcorl::bind_iql),
    ("drcorl_td_cost", drcorl::bind_td_cost),
    ("drcorl_policy", drcorl::bind_policy),
    ("drcorl_adaptation", drcorl::bind_adaptation),
    ("drcorl_gradmanip", drcorl::bind_gradient_manipulation),
    ("pid_lagrangian", drcorl::bind_pid),
    ("fisor", fisor::bind),
    ("trebi", trebi::bind_denoiser),
    ("trebi_values", trebi::bind_values),
    ("trebi_plan", trebi::bind_plan),
];

/// Outcome of one variant.
pub enum Outcome {
    /// Tensors compared, and the largest error as a share of its tolerance.
    Passed {
        compared: usize,
        worst: f64,
    },
    Failed(String),
    Skipped(String),
}

/// Replays every fixture in `folder`, whose tolerances are those of a precision; `report` gets each variant's name and
/// outcome as soon as it is known.
pub fn run(folder: &Path, device: Device, precision: Precision, mut report: impl FnMut(&str, &Outcome)) -> Result<()> {
    let mut manifests: Vec<_> = fs::read_dir(folder)
        .map_err(|error| drcorl_nn::Error::io(folder, error))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    manifests.sort();
    for path in manifests {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some((_, bind)) = BINDINGS.iter().find(|(name, _)| *name == stem) else {
            report(&stem, &Outcome::Skipped("the algorithm is not registered".into()));
            continue;
        };
        let fixture = match Fixture::read(&path, device, precision) {
            Ok(fixture) => fixture,
            Err(error) => {
                report(&stem, &Outcome::Failed(error.to_string()));
                continue;
            }
        };
        for variant in fixture.variants() {
            let name = if variant.is_empty() { stem.clone() } else { format!("{stem}/{variant}") };
            report(&name, &replay(&fixture, &variant, *bind, device));
        }
    }
    Ok(())
}

fn replay(fixture: &Fixture, variant: &str, bind: Bind, device: Device) -> Outcome {
    let attempt = || -> Result<Outcome> {
        let init = fixture.group(variant, "init");
        match bind(fixture, variant, &init, device)? {
            Plan::Skip(reason) => Ok(Outcome::Skipped(reason.into())),
            Plan::Run(mut binding) => {
                let mut comparison = Comparison::default();
                for (name, found) in binding.formulas(fixture)? {
                    let (place, name) = name.split_once('/').unwrap_or(("", name.as_str()));
                    let wanted = fixture.group("", place).only(name);
                    if wanted.is_empty() {
                        return Err(Error::Data(format!("the fixture has no {place}/{name}")));
                    }
                    comparison.group(fixture, place, wanted, vec![(name.to_string(), found)], 0);
                }
                compare_steps(fixture, variant, binding.as_mut(), &mut comparison)?;
                let draws = fixture.group(variant, "eval/rand").into_ordered();
                let produced = binding.evaluate(&fixture.group(variant, "eval/in"), &draws)?;
                let expected = fixture.group(variant, "eval").without("in/").without("rand/");
                comparison.group(fixture, "eval", expected, produced, 0);
                Ok(comparison.outcome())
            }
        }
    };
    attempt().unwrap_or_else(|error| Outcome::Failed(error.to_string()))
}

fn compare_steps(
    fixture: &Fixture,
    variant: &str,
    binding: &mut dyn Binding,
    comparison: &mut Comparison,
) -> Result<()> {
    for step in 0..fixture.steps() {
        let batch = fixture.group(variant, &format!("batch{step}"));
        let draws = fixture.group(variant, &format!("step{step}/rand")).into_ordered();
        let produced = binding.step(step, &batch, &draws)?;
        let expected = fixture.group(variant, &format!("step{step}")).without("rand/");
        comparison.group(fixture, &format!("step{step}"), expected, produced, step + 1);
        let parameters = fixture.group(variant, &format!("after{step}"));
        comparison.group(fixture, &format!("after{step}"), parameters, binding.parameters(), step + 1);
    }
    Ok(())
}

#[derive(Default)]
struct Comparison {
    compared: usize,
    worst: f64,
    faults: Vec<String>,
}

impl Comparison {
    /// Every expected tensor must have been produced and be close.
    fn group(&mut self, fixture: &Fixture, place: &str, expected: Tensors, produced: Record, steps: usize) {
        for (name, wanted) in expected.iter() {
            let Some((_, found)) = produced.iter().find(|(candidate, _)| candidate == name) else {
                self.faults.push(format!("{place}/{name}: not produced"));
                continue;
            };
            let tolerance = fixture.tolerance(place, name, steps);
            self.compared += 1;
            match tolerance.compare(found, wanted) {
                Ok(share) => self.worst = self.worst.max(share),
                Err(fault) => self.faults.push(format!("{place}/{name}: {fault}")),
            }
        }
    }

    fn outcome(self) -> Outcome {
        match self.faults.first() {
            None if self.compared == 0 => Outcome::Failed("the fixture holds nothing to compare".into()),
            None => Outcome::Passed { compared: self.compared, worst: self.worst },
            Some(first) => Outcome::Failed(format!(
                "{first} ({} of {} tensors differ)",
                self.faults.len(),
                self.compared.max(self.faults.len())
            )),
        }
    }
}

impl Tolerance {
    /// How many of `elements` may exceed the tolerance: 3, or one in a thousand, but never more than one in three.
    fn outliers(&self, elements: usize) -> usize {
        if self.outlier_bound > 0.0 {
            3.max(elements / 1000).min(elements / 3)
        } else {
            0
        }
    }

    /// The largest error as a share of the tolerance, or a sentence on what is wrong.
    fn compare(&self, found: &Tensor, wanted: &Tensor) -> std::result::Result<f64, String> {
        let (found, wanted) = (flat(found), flat(wanted));
        if found.len() != wanted.len() {
            return Err(format!("{} elements, expected {}", found.len(), wanted.len()));
        }
        if let Some(mean) = self.mean {
            return mean.compare(&found, &wanted);
        }
        let allowed_outliers = self.outliers(wanted.len());
        let (mut outliers, mut worst) = (0, 0f64);
        for (f, w) in found.iter().zip(&wanted) {
            let error = (f - w).abs();
            let share = error / (self.atol + self.rtol * w.abs());
            // NaN counts as a difference.
            if share.is_nan() || share > 1.0 {
                outliers += 1;
                if outliers > allowed_outliers || error.is_nan() || error > self.outlier_bound {
                    return Err(format!("{f} instead of {w} (atol {}, rtol {})", self.atol, self.rtol));
                }
            } else {
                worst = worst.max(share);
            }
        }
        Ok(worst)
    }
}

impl Mean {
    /// As [`Tolerance::compare`].
    fn compare(&self, found: &[f64], wanted: &[f64]) -> std::result::Result<f64, String> {
        let root = |squares: f64| (squares / wanted.len().max(1) as f64).sqrt();
        let error = root(found.iter().zip(wanted).map(|(f, w)| (f - w).powi(2)).sum());
        let size = root(wanted.iter().map(|w| w * w).sum());
        let most = self.share * (size + self.floor);
        // NaN counts as a difference.
        if error <= most {
            Ok(error / most)
        } else {
            Err(format!("off by {error:.1e} in the mean of {size:.1e}, at most {most:.1e}"))
        }
    }
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let host = tensor.to_device(Device::Cpu).to_kind(tch::Kind::Double).contiguous().view([-1]);
    Vec::<f64>::try_from(&host).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tolerance(outlier_bound: f64) -> Tolerance {
        Tolerance { atol: 1e-5, rtol: 1e-4, outlier_bound, mean: None }
    }

    #[test]
    fn a_comparison_can_fail() {
        let wanted = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]);
        assert!(tolerance(0.0).compare(&wanted, &wanted).is_ok());
        for wrong in [[1.0f32, 2.0, 3.0, 4.01], [1.0, f32::NAN, 3.0, 4.0]] {
            assert!(tolerance(0.0).compare(&Tensor::from_slice(&wrong), &wanted).is_err());
        }
        assert!(tolerance(0.0).compare(&Tensor::from_slice(&[1.0f32]), &wanted).is_err());
    }

    #[test]
    fn few_outliers_within_their_bound_are_allowed_for_parameters() {
        let wanted = Tensor::zeros([10], (tch::Kind::Float, Device::Cpu));
        let found = |n: usize, size: f32| {
            Tensor::from_slice(&(0..10).map(|i| if i < n { size } else { 0.0 }).collect::<Vec<f32>>())
        };
        assert!(tolerance(1e-2).compare(&found(3, 9e-3), &wanted).is_ok());
        assert!(tolerance(1e-2).compare(&found(4, 9e-3), &wanted).is_err());
        assert!(tolerance(1e-2).compare(&found(1, 2e-2), &wanted).is_err());
    }

    #[test]
    fn below_the_highest_precision_a_tensor_is_compared_as_a_whole() {
        let tolerance = Tolerance { mean: Some(Mean { share: 0.1, floor: 0.01 }), ..tolerance(0.0) };
        let wanted = Tensor::from_slice(&[3.0f32, -4.0, 0.0, 0.0]);
        let found = |error: f32| Tensor::from_slice(&[3.0f32, -4.0, error, 0.0]);
        assert!((tolerance.compare(&found(0.2), &wanted).unwrap() - 0.1 / 0.251).abs() < 1e-6);
        for error in [0.6, f32::NAN] {
            assert!(tolerance.compare(&found(error), &wanted).is_err(), "{error}");
        }
    }

    /// A scalar has no outliers, and no small tensor may consist of them.
    #[test]
    fn the_outliers_are_never_the_tensor() {
        for (elements, allowed) in [(1, 0), (2, 0), (3, 1), (5, 1), (8, 2), (9, 3), (2999, 3), (5000, 5)] {
            let wanted = Tensor::zeros([elements], (tch::Kind::Float, Device::Cpu));
            let found = |outliers: i64| {
                let found = wanted.copy();
                let _ = found.narrow(0, 0, outliers).fill_(9e-3);
                found
            };
            assert!(tolerance(1e-2).compare(&found(allowed), &wanted).is_ok(), "{elements}");
            assert!(tolerance(1e-2).compare(&found(allowed + 1), &wanted).is_err(), "{elements}");
        }
    }
}
