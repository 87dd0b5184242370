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

/// An array of sixteen registers from a function of their numbers.
/// Written out, because only then are they registers and not an array in memory.
macro_rules! registers {
    ($of:expr) => {{
        let of = $of;
        [
            of(0),
            of(1),
            of(2),
            of(3),
            of(4),
            of(5),
            of(6),
            of(7),
            of(8),
            of(9),
            of(10),
            of(11),
            of(12),
            of(13),
            of(14),
            of(15),
        ]
    }};
}

/// `to[j * to_stride + i] = from[i * from_stride + j]` for `i < rows <= 16` and `j < columns <= 16`;
/// the rest of a register is 0.
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
    const EVEN: i32 = 0x88;
    const ODD: i32 = 0xDD;
    let lanes = tail(columns);
    let rows: [__m512; LANES] = registers!(|i: usize| {
        if i < rows {
            // SAFETY: row `i` has `columns` floats, as the caller promises; what is fetched ahead is not read.
            unsafe {
                let line = from.add(i * from_stride);
                _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                _mm512_maskz_loadu_ps(lanes, line)
            }
        } else {
            _mm512_setzero_ps()
        }
    });
    // Pairs of rows, then fours: the latter hold, at 4i + q, in their quarter l, column 4l + q of rows 4i to 4i + 3.
    let pairs: [__m512; LANES] = registers!(|i: usize| match i % 2 {
        0 => _mm512_unpacklo_ps(rows[i], rows[i + 1]),
        _ => _mm512_unpackhi_ps(rows[i - 1], rows[i]),
    });
    let fours: [__m512; LANES] = registers!(|i: usize| {
        let half = i / 4 * 4 + i % 4 / 2;
        let (upper, lower) = (_mm512_castps_pd(pairs[half]), _mm512_castps_pd(pairs[half + 2]));
        _mm512_castpd_ps(match i % 2 {
            0 => _mm512_unpacklo_pd(upper, lower),
            _ => _mm512_unpackhi_pd(upper, lower),
        })
    });
    // Quarters: the even and the odd ones of eight rows, then of sixteen.
    let eights: [__m512; LANES] = registers!(|i: usize| {
        let upper = i / 8 * 8 + i % 4;
        match i / 4 % 2 {
            0 => _mm512_shuffle_f32x4::<EVEN>(fours[upper], fours[upper + 4]),
            _ => _mm512_shuffle_f32x4::<ODD>(fours[upper], fours[upper + 4]),
        }
    });
    let lines: [__m512; LANES] = registers!(|i: usize| match i / 8 {
        0 => _mm512_shuffle_f32x4::<EVEN>(eights[i % 8], eights[i % 8 + 8]),
        _ => _mm512_shuffle_f32x4::<ODD>(eights[i % 8], eights[i % 8 + 8]),
    });
    registers!(|j: usize| {
        if j < columns {
            // SAFETY: the caller promises `columns` lines.
            unsafe { _mm512_storeu_ps(to.add(j * to_stride), lines[j]) };
        }
    });
}
