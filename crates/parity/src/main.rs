//! `parity DIR [--device cpu|cuda:N] [--matmul-precision highest|high|medium]`: replays every recorded fixture in DIR
//! and compares.

use drcorl_core::run::RunConfig;
use drcorl_core::{Error, Result};
use drcorl_nn::precision;
use drcorl_parity::{run, Outcome};
use serde_json::{Map, Value};
use std::path::Path;
use std::process::ExitCode;

fn parse(arguments: &[String]) -> Result<(&String, RunConfig)> {
    let (folder, flags) = arguments.split_first().ok_or_else(|| Error::Config("DIR is missing".into()))?;
    let mut run = Map::from_iter([("device".into(), "cpu".into())]);
    for flag in flags.chunks(2) {
        match flag {
            [name, value] if name == "--device" || name == "--matmul-precision" => {
                run.insert(name.trim_start_matches('-').replace('-', "_"), value.as_str().into())
            }
            other => return Err(Error::Config(format!("{} is no flag with a value", other[0]))),
        };
    }
    Ok((folder, RunConfig::resolve(&Value::Object(run))?))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, config) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("{error}\nusage: parity DIR [--device cpu|cuda:N] [--matmul-precision highest|high|medium]");
            return ExitCode::from(2);
        }
    };
    let precision = config.matmul_precision.of_products();
    let _precision = precision::hold(precision);
    tch::set_num_threads(1);
    let _no_grad = tch::no_grad_guard();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let result = config.device().and_then(|device| {
        run(Path::new(folder), device, precision, |name, outcome| match outcome {
            Outcome::Passed { compared, worst } => {
                passed += 1;
                println!("pass  {name}: {compared} tensors, largest error {:.0} % of its tolerance", 100.0 * worst);
            }
            Outcome::Failed(reason) => {
                failed += 1;
                println!("FAIL  {name}: {reason}");
            }
            Outcome::Skipped(reason) => {
                skipped += 1;
                println!("skip  {name}: {reason}");
            }
        })
    });
    if let Err(error) = result {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 || passed == 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
