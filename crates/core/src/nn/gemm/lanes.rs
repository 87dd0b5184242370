//! Registers of sixteen floats.

use std::arch::x86_64::*;

/// Floats of a register.
pub(super) const LANES: usize = 16;

/// Floats by which a transposed read runs ahead: two cache lines.
const AHEAD: usize = 2 * LANES;

/// Which lanes of the last register of a row count; all, where there is more than a register.
pub(super) fn tail(width: usize) -> __mmask16 {
    match width % LANES {
        0 => !0,
        rest => (1 << rest) - 1,
    }
}

/// `to[j * to_stride + i] = from[i * from_stride + j]` for `i < rows <= 16` and `j < columns <= 16`; the rest of a register is 0.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn transpose(
    from: *const f32,
    from_stride: usize,
    rows: usize,
    columns: usize,
    to: *mut f32,
    to_stride: usize,
) {
    // All sixteen, so that they are registers and not an array in memory.
    let mut x: [__m512; LANES] = std::array::from_fn(|i| match i < rows {
        // SAFETY: row `i` has `columns` floats, as the caller promises; what is fetched ahead is not read.
        true => unsafe {
            let line = from.add(i * from_stride);
            _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
            _mm512_maskz_loadu_ps(tail(columns), line)
        },
        false => _mm512_setzero_ps(),
    });
    let double = |x| _mm512_castps_pd(x);
    let single = |x| _mm512_castpd_ps(x);
    // Pairs of rows, then fours: y[4i + q] holds, in its quarter l, column 4l + q of rows 4i to 4i + 3.
    let mut y = x;
    for i in 0..8 {
        y[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
    }
    for i in 0..4 {
        let [a, b, c, d] = [y[4 * i], y[4 * i + 1], y[4 * i + 2], y[4 * i + 3]].map(double);
        x[4 * i] = single(_mm512_unpacklo_pd(a, c));
        x[4 * i + 1] = single(_mm512_unpackhi_pd(a, c));
        x[4 * i + 2] = single(_mm512_unpacklo_pd(b, d));
        x[4 * i + 3] = single(_mm512_unpackhi_pd(b, d));
    }
    // Quarters: the even and the odd ones of eight rows, then of sixteen.
    const EVEN: i32 = 0x88;
    const ODD: i32 = 0xDD;
    for q in 0..4 {
        let (even, odd) = (_mm512_shuffle_f32x4::<EVEN>(x[q], x[4 + q]), _mm512_shuffle_f32x4::<ODD>(x[q], x[4 + q]));
        let (even_below, odd_below) =
            (_mm512_shuffle_f32x4::<EVEN>(x[8 + q], x[12 + q]), _mm512_shuffle_f32x4::<ODD>(x[8 + q], x[12 + q]));
        y[q] = _mm512_shuffle_f32x4::<EVEN>(even, even_below);
        y[4 + q] = _mm512_shuffle_f32x4::<EVEN>(odd, odd_below);
        y[8 + q] = _mm512_shuffle_f32x4::<ODD>(even, even_below);
        y[12 + q] = _mm512_shuffle_f32x4::<ODD>(odd, odd_below);
    }
    for (j, line) in y.iter().enumerate().take(columns) {
        // SAFETY: the caller promises `columns` lines.
        unsafe { _mm512_storeu_ps(to.add(j * to_stride), *line) };
    }
}
