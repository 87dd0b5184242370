//! The last two layers of a network with one output, of which no activation is stored.

use super::super::lanes::{tail, LANES};
use super::super::matrix::Raw;
use super::super::{Gates, Precision, ScalarHead};
use super::panel::{Columns, Rows, ALL};
use super::unit::{Sums, Unit};
use super::{at, product, Sink, LINES};
use std::arch::x86_64::*;
use std::ops::Range;

/// `values = relu(a b + bias) weight + offset`, a number a row,
/// and the gates of that ReLU to rows `first..` of `gates`.
///
/// `b` has at least one row and at most [`DEPTH`], and at most [`WIDTH`] columns, because rows are finished a panel at
/// a time; rows or columns of both factors are dense.
///
/// [`DEPTH`]: super::DEPTH
/// [`WIDTH`]: super::WIDTH
#[target_feature(enable = "avx512f")]
pub(in super::super) unsafe fn head(
    precision: Precision,
    values: Raw,
    a: Raw,
    b: Raw,
    head: ScalarHead,
    gates: Option<(&mut Gates, usize)>,
) {
    let mut sink = Head { head, values, gates, width: b.columns, sums: [Register([0.0; LANES]); LINES] };
    let size = (a.rows, b.columns);
    let unit = Unit::configured();
    // SAFETY: the caller's promise.
    at!(precision, PARTS => unsafe {
        let right = Columns::<PARTS> { matrix: b, scale: None };
        product(&unit, size, &Rows::<PARTS>(a), &right, 0..b.rows, &mut sink)
    });
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Register([f32; LANES]);

struct Head<'a> {
    head: ScalarHead<'a>,
    values: Raw,
    gates: Option<(&'a mut Gates, usize)>,
    /// Units of the layer.
    width: usize,
    /// Of the rows at hand, the part of the output that the columns so far make, lane by lane.
    sums: [Register; LINES],
}

impl Sink for Head<'_> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn take(&mut self, rows: Range<usize>, columns: Range<usize>, multiply: impl FnOnce() -> Sums) {
        let sums = multiply();
        let ScalarHead { bias, weight, offset } = self.head;
        let zero = _mm512_setzero_ps();
        // Beyond the last column bias and weight are 0.
        let registers: [(__m512, __m512); 2] = [0, LANES].map(|at| {
            let left = columns.len().saturating_sub(at);
            let lanes = if left == 0 { 0 } else { tail(left.min(LANES)) };
            let place = columns.start + at;
            // SAFETY: the lanes are within the columns.
            let of = |all: &[f32]| unsafe { _mm512_maskz_loadu_ps(lanes, all.as_ptr().wrapping_add(place)) };
            (of(bias), of(weight))
        });
        for ((row, sums), kept) in rows.zip(&sums.0).zip(&mut self.sums) {
            // SAFETY: both are aligned registers.
            let load = |at: *const f32| unsafe { _mm512_load_ps(at) };
            let mut value = if columns.start == 0 { zero } else { load(kept.0.as_ptr()) };
            let mut word = 0;
            for (v, (bias, weight)) in registers.into_iter().enumerate() {
                // The maximum of two is the second where either is NaN: an overflow must not look like a dead unit.
                let active = _mm512_max_ps(zero, _mm512_add_ps(load(sums.as_ptr().wrapping_add(v * LANES)), bias));
                value = _mm512_fmadd_ps(active, weight, value);
                word |= u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(active, zero)) << (v * LANES);
            }
            if let Some((gates, first)) = &mut self.gates {
                gates.set_word(*first + row, columns.start / Gates::WORD, word);
            }
            // SAFETY: there is such a row of values; a register is kept in a register.
            unsafe {
                if columns.end == self.width {
                    *self.values.data.add(row * self.values.down) = _mm512_reduce_add_ps(value) + offset;
                } else {
                    _mm512_store_ps(kept.0.as_mut_ptr(), value);
                }
            }
        }
    }
}
