//! Products of bf16 in registers, summed in f32, on processors with AVX512-BF16.
//!
//! Factors are rounded to the nearest bf16, of two the even one. An instruction makes the products of two pairs where
//! AVX-512 makes one of f32, and adds both to a sum: twice the rate. As [`super::avx512`] in the rest, but that both
//! operands are copied, as pairs of elements that follow each other in the depth; an odd depth ends with a zero.
//!
//! What lies below the normal floats counts as 0.

use super::lanes::{tail, transpose, LANES};
use super::matrix::{Raw, RawFinish};
use super::place::Place;
use super::strips::strips;
use std::arch::x86_64::*;
use std::mem::{transmute, MaybeUninit};

/// Columns of a panel: four registers.
const PANEL: usize = 4 * LANES;
/// Most rows of the right operand in a panel: 32 kB. Deeper products are cut into equal parts, of whole pairs.
pub(super) const DEPTH: usize = 256;
/// Rows of the left operand that are copied at once: 128 kB.
const ROWS: usize = 256;
const PAIRS: usize = DEPTH / 2;

/// True on a processor with AVX512-BF16 and what all of these have.
#[inline]
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// Columns of the right operand, pair after pair.
#[repr(align(64))]
struct Panel(MaybeUninit<[u32; PAIRS * PANEL]>);

/// Rows of the left operand, in either order.
#[repr(align(64))]
struct Left(MaybeUninit<[u32; PAIRS * ROWS]>);

/// `out = a b`, finished; there must be at least one row in `b`, and rows or columns of both must be dense.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn multiply(out: Raw, a: Raw, b: Raw, finish: RawFinish) {
    let (mut panel, mut copy) = (Panel(MaybeUninit::uninit()), Left(MaybeUninit::uninit()));
    let step = b.rows.div_ceil(b.rows.div_ceil(DEPTH)).next_multiple_of(2);
    let columns = b.transposed();
    for top in (0..b.rows).step_by(step) {
        let depth = step.min(b.rows - top);
        for first in (0..out.rows).step_by(ROWS) {
            let rows = ROWS.min(out.rows - first);
            let lines = Raw { data: a.data.wrapping_add(first * a.down + top * a.across), rows, columns: depth, ..a };
            // SAFETY: the lines are within the matrix, and no more than there is room for.
            let (down, across) = unsafe { copy_left(lines, copy.0.as_mut_ptr().cast()) };
            for left in (0..out.columns).step_by(PANEL) {
                let width = PANEL.min(out.columns - left);
                let data = columns.data.wrapping_add(left * columns.down + top * columns.across);
                // SAFETY: all offsets are within the matrices; a panel has room for `DEPTH` rows of `PANEL` columns.
                unsafe {
                    pack(Raw { data, rows: width, columns: depth, ..columns }, panel.0.as_mut_ptr().cast());
                    let strip = Strip {
                        first,
                        rows,
                        pairs: depth.div_ceil(2),
                        left: copy.0.as_ptr().cast(),
                        down,
                        across,
                        panel: panel.0.as_ptr().cast(),
                        place: Place::of(out, left, width, finish, top == 0, top + depth == b.rows),
                    };
                    strip.run(width);
                }
            }
        }
    }
}

/// Rows of the left operand against one panel.
struct Strip {
    /// The first of the rows, and how many.
    first: usize,
    rows: usize,
    pairs: usize,
    left: *const u32,
    down: usize,
    across: usize,
    panel: *const u32,
    place: Place,
}

strips!("avx512f,avx512bw,avx512bf16");

impl Strip {
    /// R rows by V registers; returns R.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn tile<const R: usize, const V: usize, const FINISH: u8>(&self, row: usize) -> usize {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        // SAFETY: as the caller promises, `pairs` rows of the panel and columns of the left operand,
        // R rows and V registers of the result. A register of pairs is one of bf16.
        unsafe {
            let (mut left, mut panel) = (self.left.add(row * self.down), self.panel);
            for _ in 0..self.pairs {
                let mut right = [transmute::<__m512i, __m512bh>(_mm512_setzero_si512()); V];
                for (v, right) in right.iter_mut().enumerate() {
                    *right = transmute::<__m512i, __m512bh>(_mm512_loadu_si512(panel.add(v * LANES).cast()));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let factor = _mm512_set1_epi32(*left.add(r * self.down) as i32);
                    let factor = transmute::<__m512i, __m512bh>(factor);
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = _mm512_dpbf16_ps(*sum, factor, right);
                    }
                }
                left = left.add(self.across);
                panel = panel.add(V * LANES);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    self.place.put::<FINISH>(self.first + row + r, v, v + 1 == V, sum);
                }
            }
        }
        R
    }
}

/// Copies all rows of `lines` and says the distances of rows and of pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn copy_left(lines: Raw, to: *mut u32) -> (usize, usize) {
    // SAFETY: the caller's promise; rows are a register apart from each other's ends.
    unsafe {
        if lines.across == 1 {
            let down = lines.columns.div_ceil(2).next_multiple_of(LANES);
            for row in 0..lines.rows {
                for at in (0..lines.columns).step_by(2 * LANES) {
                    let from = lines.data.add(row * lines.down + at);
                    _mm512_store_si512(to.add(row * down + at / 2).cast(), along(from, lines.columns - at));
                }
            }
            (down, 1)
        } else {
            let across = lines.rows.next_multiple_of(LANES);
            beside(lines, to, across);
            (1, across)
        }
    }
}

/// Copies all rows of `lines`, which are columns of the right operand, into `panel [pairs, rows up to a register]`; the
/// rest of a register is 0.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack(lines: Raw, panel: *mut u32) {
    #[repr(align(64))]
    struct Room(MaybeUninit<[u32; LANES * LANES]>);
    let stride = lines.rows.next_multiple_of(LANES);
    // SAFETY: the caller's promise; the room has a register for each of sixteen rows.
    unsafe {
        if lines.across != 1 {
            return beside(lines, panel, stride);
        }
        let mut room = Room(MaybeUninit::uninit());
        let room: *mut u32 = room.0.as_mut_ptr().cast();
        for top in (0..lines.rows).step_by(LANES) {
            let rows = LANES.min(lines.rows - top);
            for at in (0..lines.columns).step_by(2 * LANES) {
                let left = lines.columns - at;
                for row in 0..rows {
                    let from = lines.data.add((top + row) * lines.down + at);
                    _mm512_store_si512(room.add(row * LANES).cast(), along(from, left));
                }
                let to = panel.add(at / 2 * stride + top);
                transpose(room.cast(), LANES, rows, left.div_ceil(2).min(LANES), to.cast(), stride);
            }
        }
    }
}

/// Copies lines that lie beside each other into `to [pairs, stride]`, the rest of a register as 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn beside(lines: Raw, to: *mut u32, stride: usize) {
    for top in (0..lines.rows).step_by(LANES) {
        let lanes = tail((lines.rows - top).min(LANES));
        for at in (0..lines.columns).step_by(2) {
            // SAFETY: there are such lines at these places, and as the caller promises room for the pairs.
            unsafe {
                let from = lines.data.add(top + at * lines.across);
                let first = _mm512_maskz_loadu_ps(lanes, from);
                let second = if at + 1 < lines.columns {
                    _mm512_maskz_loadu_ps(lanes, from.add(lines.across))
                } else {
                    _mm512_setzero_ps()
                };
                _mm512_storeu_si512(to.add(at / 2 * stride + top).cast(), pairs(first, second));
            }
        }
    }
}

/// Sixteen pairs of floats that follow each other, of which there are `left`; beyond them zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn along(from: *const f32, left: usize) -> __m512i {
    let load = |at: usize| match left {
        _ if left <= at => _mm512_setzero_ps(),
        // SAFETY: as the caller promises, of so many floats.
        _ => unsafe { _mm512_maskz_loadu_ps(tail((left - at).min(LANES)), from.add(at)) },
    };
    // SAFETY: a register of bf16 is one of pairs.
    unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(load(LANES), load(0))) }
}

/// Pairs of a lane each of two registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pairs(first: __m512, second: __m512) -> __m512i {
    // Lanes i and 16 + i of 32.
    let order = _mm512_add_epi32(
        _mm512_set1_epi32(0x0010_0000),
        _mm512_mullo_epi32(
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
            _mm512_set1_epi32(0x0001_0001),
        ),
    );
    // SAFETY: a register of bf16 is one of words.
    _mm512_permutexvar_epi16(order, unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) })
}
