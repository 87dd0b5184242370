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

/// Implements [`Register`] by five expressions.
macro_rules! register {
    ($register:ty, load $load:expr, store $store:expr, splat $splat:expr, multiply_add $fma:expr, relu $relu:expr) => {
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
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::Register;
    use std::arch::x86_64::*;

    // The maximum of two is the second where either is NaN.
    // Multiplied and added in two steps: not every x86-64 fuses them.
    register!(__m128, load _mm_loadu_ps, store _mm_storeu_ps, splat _mm_set1_ps,
        multiply_add |a, b, c| _mm_add_ps(_mm_mul_ps(a, b), c),
        relu |sum| _mm_max_ps(_mm_setzero_ps(), sum));
    register!(__m256, load _mm256_loadu_ps, store _mm256_storeu_ps, splat _mm256_set1_ps,
        multiply_add _mm256_fmadd_ps,
        relu |sum| _mm256_max_ps(_mm256_setzero_ps(), sum));
    register!(__m512, load _mm512_loadu_ps, store _mm512_storeu_ps, splat _mm512_set1_ps,
        multiply_add _mm512_fmadd_ps,
        relu |sum| _mm512_max_ps(_mm512_setzero_ps(), sum));
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::Register;
    use std::arch::aarch64::*;

    register!(float32x4_t, load vld1q_f32, store vst1q_f32, splat vdupq_n_f32,
        multiply_add |a, b, c| vfmaq_f32(c, a, b),
        relu |sum| vbslq_f32(vcltzq_f32(sum), vdupq_n_f32(0.0), sum));
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
register!(f32, load |from: *const f32| *from, store |to: *mut f32, value| *to = value, splat |value| value,
    multiply_add |a: f32, b: f32, c: f32| a * b + c,
    relu |sum: f32| if sum < 0.0 { 0.0 } else { sum });
