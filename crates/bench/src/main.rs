//! `bench [--json] [--device cpu|cuda:N] [--threads N] [--matmul-precision highest|high|medium] [--data FILE.hdf5]
//! [--seconds S] [--serve FOLDER]`: milliseconds of the training steps, beside a plain autograd version of the same
//! step in the same run, which always has one thread and fp32; to serve is to measure what is asked for on stdin.
//!
//! Both versions start from the same numbers, and their first losses must agree:
//! a ratio between different steps means nothing.

mod baselines;
mod behavior;
mod beside;
mod caps;
mod ccac;
mod critic;
mod fisor;
mod measure;
mod plain;
mod policy;
mod roofline;
mod sequence;

use drcorl_algos::cdt::CdtConfig;
use drcorl_algos::drcorl::adaptation::Branch;
use drcorl_algos::fisor::FisorConfig;
use drcorl_core::run::{MatmulPrecision, RunConfig};
use drcorl_nn::precision;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::threads::Pool;
use measure::{alone, in_turn, MatmulRate};
use serde_json::{json, Value};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tch::{Device, Tensor};

/// Sizes of the tasks the published numbers are for.
const STATES: i64 = 17;
const ACTIONS: i64 = 6;
/// What the critic and the behavior step must gain over the plain version.
const TARGET: f64 = 1.6;

/// One step in two versions; each call makes one update and gives its loss.
struct Step {
    /// Floating point operations of the matrix products the step cannot do without.
    flop: f64,
    ours: Box<dyn FnMut() -> f64>,
    plain: Box<dyn FnMut() -> f64>,
}

/// Floating point operations of one pass of a network of these widths,
/// forward only and with both gradients (none for the input).
fn flop(rows: i64, widths: &[i64]) -> (f64, f64) {
    let layers: Vec<f64> = widths.windows(2).map(|pair| (2 * rows * pair[0] * pair[1]) as f64).collect();
    let forward: f64 = layers.iter().sum();
    (forward, 3.0 * forward - layers[0])
}

fn column(table: &Tensor, from: i64, width: i64) -> Tensor {
    table.narrow(1, from, width)
}

/// A step to measure: its name, whether it has a target, and how to make it.
type Entry = (&'static str, bool, fn(Device) -> Step);

const PAPER: ScoreNetShape =
    ScoreNetShape { observations: STATES, actions: ACTIONS, hidden: 256, blocks: 3, expansion: 4 };
const QUICK: ScoreNetShape =
    ScoreNetShape { observations: STATES, actions: ACTIONS, hidden: 128, blocks: 3, expansion: 2 };

const STEPS: [Entry; 19] = [
    ("critic step", true, |device| critic::step(&[256, 256], 6, 256, device)),
    ("behavior step", true, |device| behavior::step(PAPER, 0.1, 2048, device)),
    ("policy reward step", false, |device| policy::step(Branch::Reward, PAPER, &[256, 256], 256, device)),
    ("policy cost step", false, |device| policy::step(Branch::Cost, PAPER, &[256, 256], 256, device)),
    ("policy band step", false, |device| policy::step(Branch::Band, PAPER, &[256, 256], 256, device)),
    ("critic step, quick", false, |device| critic::step(&[128, 128], 4, 256, device)),
    ("behavior step, quick", false, |device| behavior::step(QUICK, 0.0, 256, device)),
    ("policy band step, quick", false, |device| policy::step(Branch::Band, QUICK, &[128, 128], 256, device)),
    ("bc step", false, baselines::bc),
    ("bcq_lag step", false, baselines::bcq_lag),
    ("bear_lag step", false, baselines::bear_lag),
    ("cpq step", false, baselines::cpq),
    ("coptidice step", false, baselines::coptidice),
    ("caps step", false, caps::step),
    ("ccac step", false, ccac::step),
    ("cdt step", true, |device| sequence::step(CdtConfig::default(), 2048, device)),
    ("cdt step, quick", false, |device| sequence::step(CdtConfig::quick(), 64, device)),
    ("fisor step", true, |device| fisor::step(FisorConfig::default(), device)),
    ("fisor step, quick", false, |device| fisor::step(FisorConfig::quick(), device)),
];

/// Options of the command line.
struct Options {
    json: bool,
    device: Device,
    threads: usize,
    precision: MatmulPrecision,
    data: String,
    seconds: f64,
    only: Option<String>,
    /// Our version alone, for a profiler.
    profile: bool,
    /// A folder for numbers; then what to measure is read from stdin.
    serve: Option<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            json: false,
            device: Device::Cpu,
            threads: 1,
            precision: MatmulPrecision::Highest,
            data: "../shared/data/SafetyBallCircle-v0-80-800.hdf5".into(),
            seconds: 4.0,
            only: None,
            profile: false,
            serve: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--json" => options.json = true,
                "--profile" => options.profile = true,
                "--serve" => options.serve = Some(value()?),
                "--data" => options.data = value()?,
                "--threads" => {
                    options.threads = value()?.parse().map_err(|_| "--threads needs a number".to_string())?
                }
                "--matmul-precision" => {
                    let given = json!({ "matmul_precision": value()? });
                    let config = RunConfig::resolve(&given).map_err(|error| error.to_string())?;
                    options.precision = config.matmul_precision;
                }
                "--only" => options.only = Some(value()?),
                "--seconds" => {
                    options.seconds = value()?.parse().map_err(|_| "--seconds needs a number".to_string())?
                }
                "--device" => {
                    let config = RunConfig { device: value()?, ..RunConfig::default() };
                    options.device = config.device().map_err(|error| error.to_string())?;
                }
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        Ok(options)
    }
}

/// Measures one entry; errs if the two versions are not the same step.
fn measure(entry: Entry, best: f64, options: &Options) -> Result<Value, String> {
    let (name, aimed, make) = entry;
    let Step { flop, mut ours, mut plain } = make(options.device);
    let (first, reference) = (ours(), plain());
    // Dropout draws differ between the versions; without it only rounding does, of bf16 at the lowest precision.
    let tolerance = if name == "behavior step" || name.starts_with("cdt") || name.starts_with("fisor") {
        0.1
    } else if options.precision == MatmulPrecision::Medium {
        0.02
    } else {
        1e-3
    };
    if (first - reference).abs() > tolerance * reference.abs().max(1e-3) {
        return Err(format!(
            "{name}: first losses {first} and {reference} differ; the two versions are not the same step"
        ));
    }
    let budget = Duration::from_secs_f64(options.seconds);
    if options.profile {
        return Ok(json!({ "name": name, "ms": alone(options.device, budget, &mut || _ = ours()) }));
    }
    let pair = in_turn(options.device, budget, &mut || _ = ours(), &mut || _ = plain());
    let (gflop, ratio) = (flop / 1e9, pair.plain / pair.ours);
    let rate = gflop / pair.ours * 1e3;
    Ok(json!({
        "name": name, "ms": pair.ours, "plain_ms": pair.plain, "ratio": ratio, "gflop": gflop, "gflop_per_s": rate,
        "share_of_matmul": rate / best, "target_ratio": aimed.then_some(TARGET), "met": aimed.then_some(ratio >= TARGET),
    }))
}

/// Milliseconds to read and check the data file; null where it is not there.
fn load(options: &Options) -> Result<Value, String> {
    let path = Path::new(&options.data);
    if !path.exists() {
        eprintln!("HDF5 load not measured: {} is not there", path.display());
        return Ok(Value::Null);
    }
    let rows = drcorl_data::read_dsrl(path).map_err(|error| error.to_string())?.len();
    let ms =
        alone(Device::Cpu, Duration::from_secs_f64(options.seconds / 4.0), &mut || drop(drcorl_data::read_dsrl(path)));
    Ok(json!({ "name": "HDF5 load", "file": options.data, "transitions": rows, "ms": ms }))
}

fn bench(options: &Options) -> Result<Value, String> {
    let rate = match options.profile {
        true => MatmulRate::unknown(),
        false => MatmulRate::measure(options.device, Duration::from_millis(150)),
    };
    let mut steps = Vec::new();
    for entry in STEPS.iter().filter(|entry| options.only.as_ref().is_none_or(|only| entry.0 == only)) {
        let step = measure(*entry, rate.best(), options)?;
        if !options.json {
            print(&step);
        }
        steps.push(step);
    }
    let load = load(options)?;
    if !options.json {
        println!(
            "matmul {:.0} GFLOP/s (default), {:.0} (mkldnn), best at {:?}; HDF5 load {} ms",
            rate.default, rate.mkldnn, rate.shape, load["ms"]
        );
    }
    Ok(json!({
        "device": format!("{:?}", options.device),
        "threads": options.threads,
        "matmul_precision": options.precision,
        "matmul": { "default_gflop_per_s": rate.default, "mkldnn_gflop_per_s": rate.mkldnn, "shape": [rate.shape.0, rate.shape.1, rate.shape.2] },
        "steps": steps,
        "load": load,
    }))
}

fn print(step: &Value) {
    if step["ratio"].is_null() {
        println!("{step}");
        return;
    }
    let number = |key: &str| step[key].as_f64().unwrap_or(f64::NAN);
    let state = match step["met"].as_bool() {
        Some(true) => format!("met (>= {TARGET})"),
        Some(false) => format!("missed (>= {TARGET})"),
        None => String::new(),
    };
    println!(
        "{:<24} {:8.2} ms {:8.2} ms plain {:5.2}x {:8.2} GFLOP {:6.0} GFLOP/s {:4.0} % of matmul  {state}",
        step["name"].as_str().unwrap_or_default(),
        number("ms"),
        number("plain_ms"),
        number("ratio"),
        number("gflop"),
        number("gflop_per_s"),
        100.0 * number("share_of_matmul"),
    );
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("{reason}\nusage: bench [--json] [--device cpu|cuda:N] [--threads N] [--matmul-precision highest|high|medium] [--data FILE.hdf5] [--seconds S] [--only STEP [--profile]] [--serve FOLDER]");
            return ExitCode::from(2);
        }
    };
    let pool = Pool::new(options.threads);
    let _at_work = (pool.enter(), precision::hold(options.precision.of_products()));
    let result = match &options.serve {
        Some(folder) => beside::serve(Path::new(folder), &options).map(|()| Value::Null),
        None => bench(&options),
    };
    match result {
        Ok(result) => {
            if options.json {
                println!("{result}");
            }
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}
