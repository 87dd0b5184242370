//! Where sums of products go, and what becomes of them on the way.

use super::lanes::{tail, LANES};
use super::matrix::{Raw, RawFinish};
use std::arch::x86_64::*;
use std::ops::Range;

/// What is done with a sum, known when the code is compiled: a kernel's loop has no register to spare for it.
pub(super) const STORE: u8 = 0;
pub(super) const BIAS_RELU: u8 = 1;
pub(super) const RELU: u8 = 2;
pub(super) const SCALED_RELU: u8 = 3;

/// Columns of a result.
pub(super) struct Place {
    /// [`STORE`], [`BIAS_RELU`], [`RELU`] or [`SCALED_RELU`].
    pub finish: u8,
    out: *mut f32,
    down: usize,
    tail: __mmask16,
    /// True if sums are added to what is there.
    pub add: bool,
    /// The bias, or the output of a ReLU at the place of `out`.
    other: *const f32,
    other_down: usize,
    /// A number a row.
    scale: *const f32,
}

impl Place {
    /// Columns `left..left + width` of `out`, for the sums of one block of a product:
    /// the first stores what later ones add to, the last finishes.
    pub unsafe fn of(out: Raw, left: usize, width: usize, finish: RawFinish, first: bool, last: bool) -> Place {
        // SAFETY: the caller promises that `out`, and so what is in `finish`, has these columns.
        let at = |from: *const f32| unsafe { from.add(left) };
        let (kind, other, other_down) = match finish {
            RawFinish::BiasRelu(bias) if last => (BIAS_RELU, at(bias), 0),
            RawFinish::Relu(active) if last => (RELU, at(active.data), active.down),
            RawFinish::ScaledRelu(_, active) if last => (SCALED_RELU, at(active.data), active.down),
            _ => (STORE, std::ptr::null(), 0),
        };
        let scale = if let RawFinish::ScaledRelu(scale, _) = finish { scale } else { std::ptr::null() };
        let add = !first || matches!(finish, RawFinish::Add);
        Place {
            finish: kind,
            out: at(out.data).cast_mut(),
            down: out.down,
            tail: tail(width),
            add,
            other,
            other_down,
            scale,
        }
    }

    /// Where the sum of a column of a row goes.
    #[inline(always)]
    pub unsafe fn at(&self, row: usize, column: usize) -> *mut f32 {
        // SAFETY: the caller promises that there is such a row and column, here and below.
        unsafe { self.out.add(row * self.down + column) }
    }

    /// The bias of a column, or the output of the ReLU.
    #[inline(always)]
    pub unsafe fn other_at(&self, row: usize, column: usize) -> *const f32 {
        unsafe { self.other.add(row * self.other_down + column) }
    }

    /// The number of a row.
    #[inline(always)]
    pub unsafe fn scale_at(&self, row: usize) -> *const f32 {
        unsafe { self.scale.add(row) }
    }

    /// Begins to fetch `width` columns of what [`Place::put`] reads and overwrites in these rows.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn fetch(&self, rows: Range<usize>, width: usize) {
        for row in rows {
            // The ends of a row; one line at most lies between them.
            for column in [0, width - 1] {
                _mm_prefetch::<_MM_HINT_ET0>(self.out.wrapping_add(row * self.down + column).cast());
                if matches!(self.finish, RELU | SCALED_RELU) {
                    _mm_prefetch::<_MM_HINT_T0>(self.other.wrapping_add(row * self.other_down + column).cast());
                }
            }
        }
    }

    /// Finishes and stores the sums of register `v` of a row;
    /// of the last register of a row, what lies within the matrix.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub unsafe fn put<const FINISH: u8>(&self, row: usize, v: usize, is_last: bool, sum: __m512) {
        let lanes = if is_last { self.tail } else { !0 };
        // SAFETY: the caller promises that there is such a row, with such a register.
        unsafe {
            let place = self.at(row, v * LANES);
            let sum = if self.add { _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, place), sum) } else { sum };
            let other = || _mm512_maskz_loadu_ps(lanes, self.other_at(row, v * LANES));
            let sum = match FINISH {
                // The maximum of two is the second where either is NaN: an overflow must not look like a dead unit.
                BIAS_RELU => _mm512_max_ps(_mm512_setzero_ps(), _mm512_add_ps(sum, other())),
                RELU => {
                    let open = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(other(), _mm512_setzero_ps());
                    _mm512_maskz_mov_ps(open, sum)
                }
                SCALED_RELU => {
                    let open = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(other(), _mm512_setzero_ps());
                    _mm512_maskz_mul_ps(open, sum, _mm512_set1_ps(*self.scale_at(row)))
                }
                _ => sum,
            };
            _mm512_mask_storeu_ps(place, lanes, sum);
        }
    }
}
