//! The limit that a profile compares with.

use crate::matmul::{After, Library};
use crate::{precision, threads};
use drcorl_kernels::gemm::{Kernel, Precision};
use schemars::JsonSchema;
use serde::Serialize;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// The highest rate at which one thread of this machine multiplies matrices of float32.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ProfilePeak")]
pub struct Peak {
    pub gflop_per_s: f64,
    /// What has reached it.
    pub kernel: &'static str,
    /// `[m,k,n]` of the product `[m,k] [k,n]` it was reached with.
    pub shape: [i64; 3],
}

/// What networks multiply, and a square that suits a library.
const SHAPES: [[i64; 3]; 4] = [[256, 256, 256], [2048, 256, 1024], [2048, 1024, 256], [1024, 1024, 1024]];
const LEAST_CALLS: u32 = 4;
const LEAST_TIME: Duration = Duration::from_millis(10);

impl Peak {
    /// Measures every shape by everything that this machine has at the precision of this thread, half a second of one
    /// core in all; of each the best of some calls. Seconds are those that pass: a busy neighbour lowers it.
    pub fn measure() -> Peak {
        threads::single();
        let precision = precision::current();
        let own = [Kernel::Amx(precision), Kernel::Avx512, Kernel::Avx2].map(Library::Own);
        let bf16 = (precision == Precision::Medium).then_some(Library::Own(Kernel::Bf16));
        let all = own.into_iter().chain(bf16).chain([Library::OneDnn, Library::Default]);
        let all: Vec<Library> = all.filter(|library| library.available()).collect();
        let mut best = Peak { gflop_per_s: 0.0, kernel: Library::Default.name(), shape: SHAPES[0] };
        for shape in SHAPES {
            let [m, k, n] = shape;
            let [input, weight, out] = [[m, k], [n, k], [m, n]].map(|s| Tensor::ones(s, (Kind::Float, Device::Cpu)));
            for library in &all {
                let seconds = least(|| library.forward(&out, &input, &weight, After::Nothing)).as_secs_f64();
                let rate = 2e-9 * (m * k * n) as f64 / seconds;
                if rate > best.gflop_per_s {
                    best = Peak { gflop_per_s: rate, kernel: library.name(), shape };
                }
            }
        }
        best
    }
}

fn least(mut run: impl FnMut()) -> Duration {
    let (begin, mut best, mut calls) = (Instant::now(), Duration::MAX, 0);
    while calls < LEAST_CALLS || begin.elapsed() < LEAST_TIME {
        let since = Instant::now();
        run();
        best = best.min(since.elapsed());
        calls += 1;
    }
    best
}
