//! Fused element-wise passes on contiguous f32 tensors.
//!
//! On the CPU they run in Rust, compiled for the instruction sets found at run time: libtorch's Mish needs 7 ns an element (a
//! scalar log1p), this one below 1 ns; Adam written in tensor operations reads and writes the vectors eleven times, here once.
//! On any other device the same formulas are tensor operations.

use tch::{Device, Kind, Tensor};

mod activations;
mod heads;
mod losses;
mod norms;
mod steps;

pub use activations::*;
pub use heads::*;
pub use losses::*;
pub use norms::*;
pub use steps::*;

/// Compiles `$body` for AVX-512, AVX2+FMA and the baseline, and picks at run time. In it, `FMA` says whether the processor fuses
/// multiplication and addition; see [`multiply_add`].
macro_rules! multiversion {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn generic<const FMA: bool>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
                fn avx512($($arg: $ty),*) { generic::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) { generic::<true>($($arg),*) }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512dq") {
                    // SAFETY: the features named by the attribute were detected above.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            generic::<false>($($arg),*)
        }
    };
}
pub(super) use multiversion;

/// `a * b + c`, fused where that is an instruction and not a call.
#[inline(always)]
pub(super) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// Floats of the widest vector register. Sums keep so many partial ones: a fixed order that vectorises.
pub(super) const LANES: usize = 16;

/// Adds `term` of the elements of slices of one length in [`LANES`] partial sums.
#[inline(always)]
pub(super) fn sum_of<const N: usize>(slices: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    // Chunks of a length the compiler knows: an index it had to check would keep it from vectorising.
    let chunks = slices.map(|slice| slice.as_chunks::<LANES>());
    let mut partial = [0f32; LANES];
    for i in 0..chunks[0].0.len() {
        let lines = chunks.map(|(lines, _)| &lines[i]);
        for (lane, sum) in partial.iter_mut().enumerate() {
            *sum += term(lines.map(|line| line[lane]));
        }
    }
    let rest: f32 = (0..chunks[0].1.len()).map(|i| term(chunks.map(|(_, rest)| rest[i]))).sum();
    across(partial, |a, b| a + b) + rest
}

/// All lanes by `join`, as a tree: a chain of sixteen would take as long as the sums before it.
#[inline(always)]
pub(super) fn across(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

pub(super) fn host(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu
}

/// The elements of a contiguous f32 CPU tensor.
pub(super) fn elements(tensor: &Tensor) -> &[f32] {
    check(tensor);
    // SAFETY: `check` has established kind, device and density; the tensor outlives the borrow.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const f32, tensor.numel()) }
}

/// As [`elements`], for writing. The caller must not hold another slice of the same storage.
#[allow(clippy::mut_from_ref)]
pub(super) fn elements_mut(tensor: &Tensor) -> &mut [f32] {
    check(tensor);
    // SAFETY: as in `elements`; every caller of this module passes distinct storages for the tensors it reads and writes.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, tensor.numel()) }
}

fn check(tensor: &Tensor) {
    assert!(
        tensor.kind() == Kind::Float && host(tensor) && tensor.is_contiguous(),
        "a fused kernel needs a contiguous f32 CPU tensor, got {:?} {:?}",
        tensor.kind(),
        tensor.size()
    );
}

#[cfg(test)]
mod tests;
