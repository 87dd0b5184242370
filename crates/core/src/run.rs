//! Parameters of a run that do not belong to an algorithm: the limit, the seed, the machine, the judge.

use crate::algorithm::read;
use crate::error::{Error, Result};
use crate::hybrid::Mode;
use crate::offline::Goal;
use crate::results::object;
use crate::schema::most;
use drcorl_nn::precision::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
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

/// How exact matrix products are, in the words of `torch.set_float32_matmul_precision`. Weights and sums are fp32 at
/// any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatmulPrecision {
    /// To the accuracy of fp32.
    #[default]
    Highest,
    /// 16 significant bits of a factor, as two bf16: three products of these, which AMX makes.
    High,
    /// 8 significant bits: factors are rounded to bf16. AMX and AVX512-BF16 make these products.
    Medium,
}

impl MatmulPrecision {
    /// As products are made.
    pub fn of_products(self) -> Precision {
        match self {
            MatmulPrecision::Highest => Precision::Highest,
            MatmulPrecision::High => Precision::High,
            MatmulPrecision::Medium => Precision::Medium,
        }
    }
}

/// What every run has, whatever it trains.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunConfig {
    /// Limit on the undiscounted cost of an episode.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub cost_limit: f64,
    /// Limits on the costs that the dataset has under these names, the first in the place of cost_limit, which is then
    /// left out. None bounds the dataset's `costs` by cost_limit.
    #[serde(with = "object")]
    #[schemars(with = "Map<String, Value>", extend("additionalProperties" = { "type": "number", "minimum": 0.0, "maximum": 1e9 }, "maxProperties" = 8))]
    pub limits: Vec<(String, f64)>,
    /// Steps of a full episode; null takes the longest episode of the dataset.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub episode_length: Option<usize>,
    /// What networks see of observations and actions.
    pub scaling: Scaling,
    /// Share of the episodes, drawn by the seed, that nothing of the training sees; the models behind the certificate
    /// are tested on them. 0 keeps none, and the models are tested on holdout_fraction of the data.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub holdout: f64,
    /// Seed of every draw in the run.
    #[schemars(range(min = 0, max = most::SEED))]
    pub seed: u64,
    /// Where tensors live: auto, cpu, cuda or cuda:N. Only auto may fall back to the CPU, and says why.
    #[schemars(regex(pattern = r"^(auto|cpu|cuda(:[0-9]+)?)$"))]
    pub device: String,
    /// Threads that share the work of a step: networks of an ensemble, blocks of rows, parts of large products. Any
    /// number gives the same bits. Above the cores that are free it gains nothing.
    #[schemars(range(min = 1, max = 256))]
    pub threads: i32,
    /// How exact the matrix products of networks are in training and in the certificate, on the CPU. As
    /// torch.set_float32_matmul_precision has it: highest where the processor has nothing faster.
    /// Policies play in fp32.
    pub matmul_precision: MatmulPrecision,
    /// How much of the environment training may use: offline takes no step in it.
    pub mode: Mode,
    /// Steps of the last phase between two visits of the environment (hybrid modes).
    #[schemars(range(min = 1, max = most::STEPS))]
    pub hybrid_interval: u64,
    /// Episodes of each visit.
    #[schemars(range(min = 1, max = 10_000))]
    pub hybrid_episodes: usize,
    /// Share of a batch of critics or policy drawn from collected transitions (mode hybrid-data).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub hybrid_share: f64,
    /// Members of the dynamics ensemble behind the gate; only algorithms with a model gate train it.
    #[schemars(range(min = 0, max = 16))]
    pub model_members: usize,
    /// Members of another one that chooses among candidates of the policy: a policy exploits the errors of the models
    /// that have steered it. With 0 these choose.
    #[schemars(range(min = 0, max = 16))]
    pub selection_members: usize,
    /// Members of the independent dynamics ensemble behind the certificate;
    /// 0 trains none, and then nothing can be certified.
    #[schemars(range(min = 0, max = 16))]
    pub audit_members: usize,
    /// Hidden layer widths of a dynamics model.
    #[schemars(length(min = 1, max = most::LAYERS), inner(range(min = 1, max = most::WIDTH)))]
    pub model_hidden: Vec<i64>,
    /// Steps of the past that a dynamics model sees beside the state: their changes and actions.
    #[schemars(range(min = 0, max = 8))]
    pub model_history: usize,
    /// Gradient steps of each dynamics ensemble.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub model_steps: u64,
    /// Those of the ensemble behind the certificate; null takes model_steps, for episodes of more than 300 steps in
    /// proportion more, up to 10/3 of them.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub audit_steps: Option<u64>,
    /// Learning rate of the dynamics ensembles, decayed to a hundredth by a cosine.
    #[schemars(range(max = most::RATE), extend("exclusiveMinimum" = 0.0))]
    pub model_lr: f64,
    /// Rows a member sees in one step.
    #[schemars(range(min = 1, max = most::ROWS))]
    pub model_batch: usize,
    /// Initial states an estimate is rolled out from.
    #[schemars(range(min = 1, max = most::ROLLOUTS))]
    pub model_rollouts: usize,
    /// Share of episodes kept from the dynamics models to test them on.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub holdout_fraction: f64,
    /// Validity test: smallest correlation of predicted and logged returns of held-out episodes.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub valid_return_correlation: f64,
    /// Validity test: largest relative error of the mean predicted return.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub valid_return_bias: f64,
    /// Validity test: smallest correlation of predicted and logged costs of held-out episodes.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub valid_cost_correlation: f64,
    /// Validity test: largest share of the mean logged cost that predictions may miss from below. What they miss widens
    /// the upper estimate.
    #[schemars(range(min = 0.0, max = most::FACTOR))]
    pub valid_cost_shortfall: f64,
    /// Gradient steps of fitted Q evaluation for the certificate; 0 leaves it out.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub fqe_steps: u64,
    /// Gradient steps of the clones of logged behavior that the estimator is tried on; 0 trains none, and then nothing
    /// can be certified.
    #[schemars(range(min = 0, max = most::STEPS))]
    pub self_test_steps: u64,
    /// What is certified.
    pub certify: Goal,
    /// Share of the episodes that `certify` chance and cvar speak of.
    #[schemars(range(min = 0.5, max = 0.999))]
    pub certify_level: f64,
    /// Certified only if the upper cost estimate is at most this share of the limit.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub certificate_margin: f64,
    /// Spreads of the estimate added to the mean cost for the upper estimate.
    #[schemars(range(min = 0.0, max = most::DEVIATIONS))]
    pub certificate_k: f64,
}

/// Steps of an episode up to which `model_steps` are enough for the models behind the certificate.
const SHORT: f64 = 300.0;
/// How many times `model_steps` they take at most.
const MOST_OFTEN: f64 = 10.0 / 3.0;

/// Parameters of a run that neither its models nor an algorithm's pretraining are made by, but for what [`Unless`]
/// says: who works, the limit and how it is kept, the visits of the last phase, the tests and the verdict. Which costs
/// are bounded does shape both: [`bounded_costs`].
///
/// [`Unless`]: crate::algorithm::Unless
pub const LATER: &[&str] = &[
    "threads",
    "cost_limit",
    "mode",
    "hybrid_interval",
    "hybrid_episodes",
    "hybrid_share",
    "valid_return_correlation",
    "valid_return_bias",
    "valid_cost_correlation",
    "valid_cost_shortfall",
    "fqe_steps",
    "certify",
    "certify_level",
    "certificate_margin",
    "certificate_k",
];

/// Names of the costs that a resolved run bounds, whatever the limits; none where it names none.
pub(crate) fn bounded_costs(run: &Value) -> Vec<&str> {
    run["limits"].as_object().map_or(Vec::new(), |limits| limits.keys().map(String::as_str).collect())
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig {
            cost_limit: 10.0,
            limits: Vec::new(),
            episode_length: None,
            scaling: Scaling::Standardized,
            holdout: 0.0,
            seed: 0,
            device: "auto".into(),
            threads: 1,
            matmul_precision: MatmulPrecision::Highest,
            mode: Mode::Offline,
            hybrid_interval: 250,
            hybrid_episodes: 5,
            hybrid_share: 0.25,
            model_members: 3,
            selection_members: 3,
            audit_members: 5,
            model_hidden: vec![128, 128],
            model_history: 2,
            // More steps of fewer rows, at the same work: HopperVelocity replayed over 50 steps misses half as much.
            model_steps: 12_000,
            audit_steps: None,
            model_lr: 3e-3,
            model_batch: 128,
            model_rollouts: 120,
            holdout_fraction: 0.1,
            valid_return_correlation: 0.8,
            valid_return_bias: 0.2,
            valid_cost_correlation: 0.9,
            valid_cost_shortfall: 0.25,
            fqe_steps: 2000,
            self_test_steps: 1500,
            certify: Goal::Mean,
            certify_level: 0.95,
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
    /// Of the given parameters. Errs with `Config` as [`read`] does, and where `cost_limit` and `limits` disagree.
    pub fn resolve(given: &Value) -> Result<Self> {
        let mut run: RunConfig = read("a run", RunConfig::default(), given)?;
        if let Some((name, limit)) = run.limits.first().cloned() {
            let alone = given.get("cost_limit").is_none() || run.cost_limit == limit;
            let remedy = format!("leave it out: limits, whose first is {name} {limit}, takes its place");
            require(alone, "cost_limit", run.cost_limit, &remedy)?;
            run.cost_limit = limit;
        }
        Ok(run)
    }

    /// Steps of the models behind the certificate, for data with episodes of `length` steps. What a model misses adds
    /// up over an episode: on HopperVelocity (1,000 steps) policies that balance are read right after 40,000.
    pub fn steps_of_audit(&self, length: usize) -> u64 {
        let more = (length as f64 / SHORT).clamp(1.0, MOST_OFTEN);
        self.audit_steps.unwrap_or((self.model_steps as f64 * more) as u64)
    }

    /// Number of costs that are bounded.
    pub fn costs(&self) -> usize {
        self.limits.len().max(1)
    }

    /// The limit on cost `k` in the place of the first.
    pub fn of_cost(&self, k: usize) -> RunConfig {
        let cost_limit = self.limits.get(k).map_or(self.cost_limit, |(_, limit)| *limit);
        RunConfig { cost_limit, ..self.clone() }
    }

    /// Name of cost `k`; None where there is one, which needs none.
    pub fn cost_name(&self, k: usize) -> Option<&str> {
        (self.limits.len() > 1).then(|| self.limits[k].0.as_str())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_take_the_place_of_the_cost_limit() {
        let of = |given: Value| RunConfig::resolve(&given);
        let run = of(serde_json::json!({ "limits": { "wear": 5, "alarm": 0.5 } })).unwrap();
        assert_eq!((run.cost_limit, run.costs(), run.cost_name(1)), (5.0, 2, Some("alarm")));
        assert_eq!((run.of_cost(1).cost_limit, run.of_cost(0).cost_limit), (0.5, 5.0));
        assert_eq!(of(serde_json::to_value(&run).unwrap()).unwrap().limits, run.limits, "in their order");
        let one = of(serde_json::json!({ "limits": { "wear": 5 } })).unwrap();
        assert_eq!((one.cost_limit, one.costs(), one.cost_name(0)), (5.0, 1, None));
        let error = of(serde_json::json!({ "limits": { "wear": 5 }, "cost_limit": 6 })).unwrap_err().to_string();
        assert!(error.contains("cost_limit is 6; leave it out: limits, whose first is wear 5"), "{error}");
        for bad in [serde_json::json!({ "wear": -1 }), serde_json::json!({ "wear": null }), serde_json::json!([5])] {
            let error = of(serde_json::json!({ "limits": bad })).unwrap_err().to_string();
            assert!(error.contains("give up to 8 names with numbers from 0 to 1000000000"), "{error}");
        }
    }

    #[test]
    fn models_of_long_episodes_learn_longer() {
        let steps = |audit_steps, length| {
            RunConfig { model_steps: 600, audit_steps, ..RunConfig::default() }.steps_of_audit(length)
        };
        assert_eq!([40, 200, 300, 450, 1000, 5000].map(|length| steps(None, length)), [600, 600, 600, 900, 2000, 2000]);
        assert_eq!((steps(Some(7), 1000), steps(Some(0), 40)), (7, 0));
    }

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
}
