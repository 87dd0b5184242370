//! Timing: two versions of a step in turn, medians, and the best matrix product rate of the library in the same run.

use drcorl_nn::threads;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Median milliseconds of a step and of the plain version it is compared with.
pub struct Pair {
    pub ours: f64,
    pub plain: f64,
}

/// Waits for the device; a CPU has nothing pending.
fn finish(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// Seconds this thread has been on a core.
pub fn on_core() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(status, 0, "the thread clock");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Time of one call. On the CPU it is the time on a core: a step of one thread never sleeps, so that on an idle machine
/// this is the time that passed, and on a shared one the neighbours' turns are left out. On several it is what passed.
fn milliseconds(device: Device, run: &mut dyn FnMut()) -> f64 {
    let (start, before) = (Instant::now(), on_core());
    run();
    finish(device);
    let passed = start.elapsed().as_secs_f64() * 1e3;
    if device == Device::Cpu && !threads::shares(i64::MAX) {
        (on_core() - before) * 1e3
    } else {
        passed
    }
}

/// The middle of `values`.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median of one function over `budget`, after three calls to warm up.
pub fn alone(device: Device, budget: Duration, run: &mut dyn FnMut()) -> f64 {
    for _ in 0..3 {
        milliseconds(device, run);
    }
    let (start, mut samples) = (Instant::now(), Vec::new());
    while samples.len() < 5 || start.elapsed() < budget {
        samples.push(milliseconds(device, run));
    }
    median(samples)
}

/// Medians of two functions over `budget`, called in turn so that drift of the machine meets both alike.
pub fn in_turn(device: Device, budget: Duration, ours: &mut dyn FnMut(), plain: &mut dyn FnMut()) -> Pair {
    for _ in 0..3 {
        milliseconds(device, ours);
        milliseconds(device, plain);
    }
    let (start, mut first, mut second) = (Instant::now(), Vec::new(), Vec::new());
    while first.len() < 5 || start.elapsed() < budget {
        first.push(milliseconds(device, ours));
        second.push(milliseconds(device, plain));
    }
    Pair { ours: median(first), plain: median(second) }
}

/// Rows, columns and inner size of the products the rate is taken over: what the steps multiply,
/// and squares that suit a library.
const SHAPES: [(i64, i64, i64); 6] =
    [(256, 256, 256), (256, 1536, 23), (2048, 1024, 256), (2048, 256, 1024), (1024, 1024, 1024), (2048, 2048, 2048)];

/// The best fp32 rate in GFLOP/s of libtorch's matrix product, by the default library and (on the CPU) by oneDNN.
pub struct MatmulRate {
    pub default: f64,
    pub mkldnn: f64,
    pub shape: (i64, i64, i64),
}

impl MatmulRate {
    /// Not measured: a profile is to show one step and nothing else.
    pub fn unknown() -> MatmulRate {
        MatmulRate { default: 0.0, mkldnn: 0.0, shape: SHAPES[0] }
    }

    /// Measures every shape with outputs that are allocated once.
    pub fn measure(device: Device, budget: Duration) -> MatmulRate {
        let mut best = MatmulRate::unknown();
        for shape in SHAPES {
            let (m, n, k) = shape;
            let flop = 2.0 * (m * n * k) as f64;
            let [a, b, out] = [[m, k], [n, k], [m, n]].map(|size| Tensor::ones(size, (Kind::Float, device)));
            let before = best.best();
            let default = alone(device, budget, &mut || drop(a.mm_out(&out, &b.tr())));
            best.default = best.default.max(flop / default / 1e6);
            if device == Device::Cpu && tch::utils::has_mkldnn() {
                let (x, w) = (a.to_mkldnn(), b.to_mkldnn());
                let mkldnn = alone(device, budget, &mut || drop(x.mkldnn_linear::<Tensor>(&w, None)));
                best.mkldnn = best.mkldnn.max(flop / mkldnn / 1e6);
            }
            if best.best() > before {
                best.shape = shape;
            }
        }
        best
    }

    /// The better of both libraries.
    pub fn best(&self) -> f64 {
        self.default.max(self.mkldnn)
    }
}
