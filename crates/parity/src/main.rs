//! `parity DIR [--device cpu|cuda:N]`: replays every recorded fixture in DIR and compares.

use drcorl_core::run::RunConfig;
use drcorl_parity::{run, Outcome};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, device) = match arguments.as_slice() {
        [folder] => (folder, "cpu"),
        [folder, flag, device] if flag == "--device" => (folder, device.as_str()),
        _ => {
            eprintln!("usage: parity DIR [--device cpu|cuda:N]");
            return ExitCode::from(2);
        }
    };
    tch::set_num_threads(1);
    let _no_grad = tch::no_grad_guard();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let config = RunConfig { device: device.into(), ..RunConfig::default() };
    let result = config.device().and_then(|device| {
        run(Path::new(folder), device, |name, outcome| match outcome {
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
