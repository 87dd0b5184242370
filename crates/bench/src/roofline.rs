//! What a step is bound by: the peak of the unit that makes its products, and memory.
//!
//! Both are what a moment allows: the other thread of a core shares its unit, and neighbours share memory. Whoever
//! wants the machine's measures again and again, and keeps the best.

use crate::measure::on_core;
use drcorl_kernels::{peak, steps, InstructionSet};
use drcorl_nn::matmul;

/// Floats of each of two arrays that no cache holds.
const FLOATS: usize = 1 << 26;
/// Multiply-adds of a register in a measurement: a millisecond or two.
const ROUNDS: usize = 400_000;
const REPEATS: usize = 20;

/// The shortest of some calls, in seconds on the core.
fn best(repeats: usize, mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = on_core();
        run();
        on_core() - start
    };
    (0..repeats).map(time).fold(f64::INFINITY, f64::min)
}

/// The unit that makes the largest products here.
pub fn unit() -> &'static str {
    matmul::libraries().ok().and_then(|names| names.first().copied()).unwrap_or("libtorch")
}

/// Its peak in GFLOP/s, of multiply-adds that stay in registers; none for one that has no such loop.
pub fn gflop_per_s() -> Option<f64> {
    let set = InstructionSet::named(unit())?;
    let flop = peak::flop(set, ROUNDS)?;
    Some(flop / best(REPEATS, || _ = std::hint::black_box(peak::multiply_add(set, ROUNDS, 0.5, 1.0))) / 1e9)
}

/// What passes through memory, of a running average over arrays that no cache holds.
pub fn gbyte_per_s() -> f64 {
    let (mut target, source) = (vec![0f32; FLOATS], vec![1f32; FLOATS]);
    let seconds = best(10, || steps::ema(InstructionSet::best(), &mut target, &source, 0.5));
    12.0 * FLOATS as f64 / seconds / 1e9
}
