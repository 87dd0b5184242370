//! Parameters of a run that do not belong to an algorithm: the limit, the seed, the machine, the judge.

use crate::error::{Error, Result};
use crate::hybrid::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device};

/// What networks see of observations and actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// Observations with mean 0 and deviation 1, actions with the range of the data as [-1, 1].
    Standardized,
    /// Both as logged; actions must lie in [-1, 1].
    Raw,
}

/// What every run has, whatever it trains.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Limit on the undiscounted cost of an episode.
    #[schemars(range(min = 0))]
    pub cost_limit: f64,
    /// Steps of a full episode; null takes the longest episode of the dataset.
    #[schemars(range(min = 1))]
    pub episode_length: Option<usize>,
    /// What networks see of observations and actions.
    pub scaling: Scaling,
    /// Seed of every draw in the run.
    pub seed: u64,
    /// Where tensors live: auto, cpu, cuda or cuda:N. Only auto may fall back to the CPU, and says why.
    #[schemars(regex(pattern = r"^(auto|cpu|cuda(:[0-9]+)?)$"))]
    pub device: String,
    /// Threads inside one tensor operation. One is fastest for these network sizes, and the only choice that repeats bit by bit.
    #[schemars(range(min = 1, max = 256))]
    pub threads: i32,
    /// How much of the environment training may use: offline takes no step in it.
    pub mode: Mode,
    /// Steps of the last phase between two visits of the environment (hybrid modes).
    #[schemars(range(min = 1))]
    pub hybrid_interval: u64,
    /// Episodes of each visit.
    #[schemars(range(min = 1))]
    pub hybrid_episodes: usize,
    /// Share of a critic batch drawn from collected transitions (mode hybrid-data).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub hybrid_share: f64,
    /// Members of the dynamics ensemble behind gate and selection; only algorithms with a model gate train it.
    #[schemars(range(min = 0, max = 16))]
    pub model_members: usize,
    /// Members of the independent dynamics ensemble behind the certificate; 0 trains none, and then nothing can be certified.
    #[schemars(range(min = 0, max = 16))]
    pub audit_members: usize,
    /// Hidden layer widths of a dynamics model.
    pub model_hidden: Vec<i64>,
    /// Gradient steps of each dynamics ensemble.
    pub model_steps: u64,
    /// Learning rate of the dynamics ensembles, decayed to a tenth by a cosine.
    pub model_lr: f64,
    /// Rows a member sees in one step.
    #[schemars(range(min = 1))]
    pub model_batch: usize,
    /// Initial states an estimate is rolled out from.
    #[schemars(range(min = 1))]
    pub model_rollouts: usize,
    /// Share of episodes kept from the dynamics models to test them on.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub holdout_fraction: f64,
    /// Validity test: smallest correlation of predicted and logged returns when held-out actions are replayed.
    pub valid_return_correlation: f64,
    /// Validity test: largest relative error of the mean predicted return.
    pub valid_return_bias: f64,
    /// Validity test: largest share of the mean logged cost that predictions may miss from below.
    pub valid_cost_shortfall: f64,
    /// Gradient steps of fitted Q evaluation for the certificate; 0 leaves it out.
    pub fqe_steps: u64,
    /// Certified only if the upper cost estimate is at most this share of the limit.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub certificate_margin: f64,
    /// Standard deviations over members added to the mean cost for the upper estimate.
    #[schemars(range(min = 0.0))]
    pub certificate_k: f64,
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig {
            cost_limit: 10.0,
            episode_length: None,
            scaling: Scaling::Standardized,
            seed: 0,
            device: "auto".into(),
            threads: 1,
            mode: Mode::Offline,
            hybrid_interval: 250,
            hybrid_episodes: 5,
            hybrid_share: 0.25,
            model_members: 3,
            audit_members: 5,
            model_hidden: vec![128, 128],
            model_steps: 6000,
            model_lr: 1e-3,
            model_batch: 256,
            model_rollouts: 120,
            holdout_fraction: 0.1,
            valid_return_correlation: 0.8,
            valid_return_bias: 0.2,
            valid_cost_shortfall: 0.1,
            fqe_steps: 2000,
            certificate_margin: 0.8,
            certificate_k: 1.0,
        }
    }
}

/// Errs with one sentence unless `ok`.
pub fn require(ok: bool, key: &str, value: impl std::fmt::Display, remedy: &str) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(Error::Config(format!("{key} is {value}; {remedy}")))
    }
}

impl RunConfig {
    /// Refuses values the types allow but no run can use.
    pub fn check(&self) -> Result<()> {
        let finite_positive = |value: f64| value.is_finite() && value > 0.0;
        require(
            self.cost_limit.is_finite() && self.cost_limit >= 0.0,
            "cost_limit",
            self.cost_limit,
            "give a number of at least 0",
        )?;
        require(
            self.episode_length != Some(0),
            "episode_length",
            0,
            "give a positive number of steps or leave it out",
        )?;
        require(self.threads >= 1, "threads", self.threads, "give at least 1")?;
        require(self.hybrid_interval >= 1, "hybrid_interval", self.hybrid_interval, "give at least 1")?;
        require(self.hybrid_episodes >= 1, "hybrid_episodes", self.hybrid_episodes, "give at least 1")?;
        require(
            (0.0..=1.0).contains(&self.hybrid_share),
            "hybrid_share",
            self.hybrid_share,
            "give a number from 0 to 1",
        )?;
        require(finite_positive(self.model_lr), "model_lr", self.model_lr, "give a positive number")?;
        require(self.model_batch >= 1, "model_batch", self.model_batch, "give at least 1")?;
        require(self.model_rollouts >= 1, "model_rollouts", self.model_rollouts, "give at least 1")?;
        require(
            (0.0..=0.5).contains(&self.holdout_fraction),
            "holdout_fraction",
            self.holdout_fraction,
            "give a number from 0 to 0.5",
        )?;
        require(
            (0.0..=1.0).contains(&self.certificate_margin),
            "certificate_margin",
            self.certificate_margin,
            "give a number from 0 to 1",
        )?;
        require(self.certificate_k >= 0.0, "certificate_k", self.certificate_k, "give a number of at least 0")?;
        check_widths("model_hidden", &self.model_hidden)?;
        self.device().map(|_| ())
    }

    /// The device the user chose. `auto` takes CUDA where it works; asking for CUDA where there is none is an error.
    pub fn device(&self) -> Result<Device> {
        let count = Cuda::device_count();
        match self.device.as_str() {
            "auto" => Ok(Device::cuda_if_available()),
            "cpu" => Ok(Device::Cpu),
            name => {
                let index = match name.strip_prefix("cuda") {
                    Some("") => Some(0),
                    Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse::<usize>().ok()),
                    None => None,
                };
                match index {
                    Some(index) if (index as i64) < count => Ok(Device::Cuda(index)),
                    Some(_) => Err(Error::Config(format!(
                        "device is {name}, but this libtorch sees {count} CUDA devices; use --device cpu or a libtorch with CUDA"
                    ))),
                    None => Err(Error::Config(format!("device is {name}; give auto, cpu, cuda or cuda:N"))),
                }
            }
        }
    }
}

/// Refuses an empty or non-positive list of layer widths.
pub fn check_widths(key: &str, widths: &[i64]) -> Result<()> {
    let text = format!("{widths:?}");
    require(
        !widths.is_empty() && widths.iter().all(|&w| (1..=65_536).contains(&w)),
        key,
        text,
        "give at least one width from 1 to 65536",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_parsed_and_missing_ones_refused() {
        let device = |name: &str| RunConfig { device: name.into(), ..RunConfig::default() }.device();
        assert_eq!(device("cpu").unwrap(), Device::Cpu);
        for name in ["gpu", "cuda:x", "cuda:99", "CPU"] {
            let error = device(name).err().unwrap();
            assert_eq!(error.code(), "Config");
            assert!(error.to_string().contains(name));
        }
    }

    #[test]
    fn impossible_values_name_their_key() {
        let bad = [
            (RunConfig { cost_limit: -1.0, ..RunConfig::default() }, "cost_limit"),
            (RunConfig { cost_limit: f64::NAN, ..RunConfig::default() }, "cost_limit"),
            (RunConfig { model_hidden: vec![], ..RunConfig::default() }, "model_hidden"),
            (RunConfig { certificate_margin: 1.5, ..RunConfig::default() }, "certificate_margin"),
        ];
        for (config, key) in bad {
            assert!(config.check().err().unwrap().to_string().starts_with(key));
        }
        RunConfig::default().check().unwrap();
    }
}
