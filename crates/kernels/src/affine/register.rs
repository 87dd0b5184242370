//! The registers the kernels compute in, by their intrinsics.
//!
//! Loops over plain arrays become as good where a crate is compiled by itself. Link-time optimisation of the whole
//! addon (profile `dist`) unrolls loops before it makes vectors of them: the sums of such loops stayed in memory there,
//! and an action took a third longer alone and four times as long in a batch.

use crate::sums::LANES;

/// One register of floats. A row of a panel, [`LANES`] floats, fills `N` of them.
///
/// # Safety
/// The processor must have the register's instructions for every function of it.
pub(super) trait Register: Copy {
    /// The first floats from `from`, as many as the register holds.
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    /// `a * b + c`, fused where the processor's instruction is.
    unsafe fn multiply_add(a: Self, b: Self, c: Self) -> Self;
    /// Lets NaN through, as PyTorch's relu does: an overflow must not look like a dead unit.
    unsafe fn relu(self) -> Self;
    /// A bit for each of up to 64 floats that is not zero; NaN is not.
    unsafe fn not_zero(x: &[f32]) -> u64;

    #[inline(always)]
    unsafe fn load_row<const N: usize>(row: &[f32; LANES]) -> [Self; N] {
        const { assert!(N * size_of::<Self>() == size_of::<[f32; LANES]>()) };
        std::array::from_fn(|n| Self::load(row.as_ptr().add(n * LANES / N)))
    }

    #[inline(always)]
    unsafe fn store_row<const N: usize>(values: [Self; N], row: &mut [f32; LANES]) {
        const { assert!(N * size_of::<Self>() == size_of::<[f32; LANES]>()) };
        for (n, value) in values.into_iter().enumerate() {
            value.store(row.as_mut_ptr().add(n * LANES / N));
        }
    }
}

/// What every processor of the target has.
#[cfg(target_arch = "x86_64")]
pub(super) type Baseline = std::arch::x86_64::__m128;
#[cfg(target_arch = "aarch64")]
pub(super) type Baseline = std::arch::aarch64::float32x4_t;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) type Baseline = f32;

/// How many of them a row of a panel fills.
pub(super) const BASELINE: usize = size_of::<[f32; LANES]>() / size_of::<Baseline>();

/// [`Register::not_zero`] by `bits` of `LANES` floats, and of what is left one by one.
#[inline(always)]
unsafe fn not_zero<const WIDTH: usize>(x: &[f32], bits: impl Fn(*const f32) -> u64) -> u64 {
    let (lines, rest) = x.as_chunks::<WIDTH>();
    let mut mask = 0;
    for (i, line) in lines.iter().enumerate() {
        mask |= bits(line.as_ptr()) << (i * WIDTH);
    }
    for (i, &x) in rest.iter().enumerate() {
        mask |= u64::from(x != 0.0) << (lines.len() * WIDTH + i);
    }
    mask
}

/// Implements [`Register`] by six expressions.
macro_rules! register {
    ($register:ty, load $load:expr, store $store:expr, splat $splat:expr, multiply_add $fma:expr, relu $relu:expr,
        not_zero $bits:expr) => {
        impl Register for $register {
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                $load(from)
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                $store(to, self)
            }
            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                $splat(value)
            }
            #[inline(always)]
            unsafe fn multiply_add(a: Self, b: Self, c: Self) -> Self {
                $fma(a, b, c)
            }
            #[inline(always)]
            unsafe fn relu(self) -> Self {
                $relu(self)
            }
            #[inline(always)]
            unsafe fn not_zero(x: &[f32]) -> u64 {
                not_zero::<{ size_of::<$register>() / size_of::<f32>() }>(x, |from| $bits(from))
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::{not_zero, Register};
    use std::arch::x86_64::*;

    // The maximum of two is the second where either is NaN.
    // Multiplied and added in two steps: not every x86-64 fuses them.
    register!(__m128, load _mm_loadu_ps, store _mm_storeu_ps, splat _mm_set1_ps,
        multiply_add |a, b, c| _mm_add_ps(_mm_mul_ps(a, b), c),
        relu |sum| _mm_max_ps(_mm_setzero_ps(), sum),
        not_zero |from| _mm_movemask_ps(_mm_cmpneq_ps(_mm_loadu_ps(from), _mm_setzero_ps())) as u64);
    register!(__m256, load _mm256_loadu_ps, store _mm256_storeu_ps, splat _mm256_set1_ps,
    multiply_add _mm256_fmadd_ps,
    relu |sum| _mm256_max_ps(_mm256_setzero_ps(), sum),
    not_zero |from| {
        let differs = _mm256_cmp_ps::<_CMP_NEQ_UQ>(_mm256_loadu_ps(from), _mm256_setzero_ps());
        _mm256_movemask_ps(differs) as u64
    });
    register!(__m512, load _mm512_loadu_ps, store _mm512_storeu_ps, splat _mm512_set1_ps,
    multiply_add _mm512_fmadd_ps,
    relu |sum| _mm512_max_ps(_mm512_setzero_ps(), sum),
    not_zero |from| {
        u64::from(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(_mm512_loadu_ps(from), _mm512_setzero_ps()))
    });
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{not_zero, Register};
    use std::arch::aarch64::*;

    register!(float32x4_t, load vld1q_f32, store vst1q_f32, splat vdupq_n_f32,
    multiply_add |a, b, c| vfmaq_f32(c, a, b),
    relu |sum| vbslq_f32(vcltzq_f32(sum), vdupq_n_f32(0.0), sum),
    not_zero |from: *const f32| {
        let bits = vld1q_u32([1u32, 2, 4, 8].as_ptr());
        u64::from(vaddvq_u32(vandq_u32(vmvnq_u32(vceqzq_f32(vld1q_f32(from))), bits)))
    });
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
register!(f32, load |from: *const f32| *from, store |to: *mut f32, value| *to = value, splat |value| value,
    multiply_add |a: f32, b: f32, c: f32| a * b + c,
    relu |sum: f32| if sum < 0.0 { 0.0 } else { sum },
    not_zero |from: *const f32| u64::from(*from != 0.0));
