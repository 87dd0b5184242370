//! `bench --serve FOLDER`: our steps, for who measures the same ones of other libraries beside them.
//!
//! The numbers a step starts from are in FOLDER as safetensors, what else there is to know of it in the first line on
//! stdout. Whoever makes the same step from them must come by the same losses. Then every line on stdin, a
//! [`Request`], is a measurement, and its answer is a line.

use crate::measure::{alone, MatmulRate};
use crate::{behavior, critic, roofline, Options, Step, PAPER, QUICK, STEPS};
use drcorl_core::run::RunConfig;
use drcorl_nn::{precision, Arena};
use serde_json::{json, Value};
use std::io::BufRead;
use std::path::Path;
use std::time::Duration;
use tch::{Device, Tensor};

/// Losses of so many steps one after the other are stated: they depend on gradients, optimiser and targets too.
const LOSSES: usize = 5;

/// What a step starts from, and how much of it has to pass through memory.
pub struct Numbers {
    kind: &'static str,
    constants: Value,
    tensors: Vec<(String, Tensor)>,
    floats: i64,
}

impl Numbers {
    /// Of a step of this kind, with the constants that are in its formulas.
    pub fn new(kind: &'static str, constants: Value) -> Numbers {
        Numbers { kind, constants, tensors: Vec::new(), floats: 0 }
    }

    fn add(&mut self, before: &str, arena: &Arena, passes: i64) {
        self.floats += passes * arena.len();
        for name in arena.names() {
            let (value, _) = arena.named(name).expect("a name of the arena");
            self.tensors.push((format!("{before}{name}"), value.copy()));
        }
    }

    /// Parameters that Adam moves: they and both moments are read and written, the gradient is written and read.
    pub fn trained(&mut self, before: &str, arena: &Arena) {
        self.add(before, arena, 8);
    }

    /// Averages of parameters: read and written, beside the parameters.
    pub fn averaged(&mut self, before: &str, arena: &Arena) {
        self.add(before, arena, 3);
    }

    /// Parameters that stay as they are.
    pub fn read(&mut self, before: &str, arena: &Arena) {
        self.add(before, arena, 1);
    }

    /// A part of the batch.
    pub fn given(&mut self, tensors: &[(&str, &Tensor)]) {
        for (name, tensor) in tensors {
            self.floats += tensor.numel() as i64;
            self.tensors.push(((*name).to_string(), tensor.contiguous()));
        }
    }
}

/// A step that others make too: its name among [`STEPS`], and what it starts from.
struct Served {
    name: &'static str,
    numbers: fn() -> Numbers,
    /// The same without dropout, whose losses depend on nothing that is drawn; None where there is none in it.
    even: Option<fn(Device) -> Step>,
}

const SERVED: [Served; 4] = [
    Served { name: "critic step", numbers: || critic::numbers(&[256, 256], 6, 256), even: None },
    Served {
        name: "behavior step",
        numbers: || behavior::numbers(PAPER, 0.1, 2048),
        even: Some(|device| behavior::step(PAPER, 0.0, 2048, device)),
    },
    Served { name: "critic step, quick", numbers: || critic::numbers(&[128, 128], 4, 256), even: None },
    Served { name: "behavior step, quick", numbers: || behavior::numbers(QUICK, 0.0, 256), even: None },
];

impl Served {
    /// As the bench makes it.
    fn step(&self) -> fn(Device) -> Step {
        STEPS.iter().find(|entry| entry.0 == self.name).expect("a step of the bench").2
    }
}

fn describe(served: &Served, folder: &Path) -> Result<Value, String> {
    let Numbers { kind, constants, tensors, floats } = (served.numbers)();
    let file = folder.join(format!("{}.safetensors", served.name.replace(", ", "-").replace(' ', "-")));
    Tensor::write_safetensors(&tensors, &file).map_err(|error| format!("{}: {error}", file.display()))?;
    let Step { flop, mut ours, .. } = served.even.unwrap_or(served.step())(Device::Cpu);
    let losses: Vec<f64> = (0..LOSSES).map(|_| ours()).collect();
    Ok(json!({
        "name": served.name, "kind": kind, "file": file.to_string_lossy(), "constants": constants, "losses": losses,
        "gflop": flop / 1e9, "mbyte": 4.0 * floats as f64 / 1e6,
    }))
}

/// One measurement: the name of a step, of `ours` its precision in the words of `matmul_precision`, or `plain`. A
/// version is measured alone, as others measure theirs.
fn answer(line: &str, steps: &mut [(&'static str, Step)], options: &Options) -> Result<Value, String> {
    let request: Value = serde_json::from_str(line).map_err(|error| format!("request {line:?}: {error}"))?;
    let given = json!({ "matmul_precision": request["matmul_precision"].as_str().unwrap_or("highest") });
    let config = RunConfig::resolve(&given).map_err(|error| error.to_string())?;
    let _held = precision::hold(config.matmul_precision.of_products());
    let (_, step) = steps
        .iter_mut()
        .find(|(name, _)| request["step"] == *name)
        .ok_or_else(|| format!("request {line:?}: no such step"))?;
    let run = if request["plain"] == true { &mut step.plain } else { &mut step.ours };
    let seconds = request["seconds"].as_f64().unwrap_or(options.seconds);
    let ms = alone(Device::Cpu, Duration::from_secs_f64(seconds), &mut || _ = run());
    Ok(json!({ "ms": ms, "peak_gflop_per_s": roofline::gflop_per_s() }))
}

/// Answers until stdin ends.
pub fn serve(folder: &Path, options: &Options) -> Result<(), String> {
    let rate = MatmulRate::measure(Device::Cpu, Duration::from_millis(150));
    let steps = SERVED.iter().map(|served| describe(served, folder)).collect::<Result<Vec<_>, _>>()?;
    let machine = json!({ "unit": roofline::unit(), "gbyte_per_s": roofline::gbyte_per_s() });
    println!("{}", json!({ "steps": steps, "roofline": machine, "matmul_gflop_per_s": rate.best() }));
    let mut steps: Vec<_> = SERVED.iter().map(|served| (served.name, served.step()(Device::Cpu))).collect();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        println!("{}", answer(&line, &mut steps, options)?);
    }
    Ok(())
}
