//! Products in registers, of the sizes that critics have: a few hundred rows and columns.
//!
//! The right operand is copied into panels of 64 columns, a block of its rows at a time; the left one is read where it
//! lies. A tile of the result, 6 rows by 64 columns, stays in 24 registers while it runs through a block: an element is
//! the sum of its products in their order, as a chain of fused multiply-adds, and blocks are added in theirs.
//!
//! libtorch's libraries copy both operands, need a microsecond to be called,
//! and know a slower way on processors of other makers.

use super::lanes::{tail, transpose, LANES};
use super::matrix::{Raw, RawFinish};
use super::place::Place;
use super::strips::strips;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Columns of a panel: four registers.
const PANEL: usize = 4 * LANES;
/// Most rows of the right operand in a panel: 64 kB. Deeper products are cut into equal parts.
pub(super) const DEPTH: usize = 256;

/// True on a processor with AVX-512.
#[inline]
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// Columns of the right operand, row after row.
#[repr(align(64))]
struct Panel(MaybeUninit<[f32; DEPTH * PANEL]>);

/// `out = a b`, finished; there must be at least one row in `b`, and rows or columns of `b` must be dense.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn multiply(out: Raw, a: Raw, b: Raw, finish: RawFinish) {
    let mut panel = Panel(MaybeUninit::uninit());
    let step = b.rows.div_ceil(b.rows.div_ceil(DEPTH));
    for top in (0..b.rows).step_by(step) {
        let depth = step.min(b.rows - top);
        for left in (0..out.columns).step_by(PANEL) {
            let width = PANEL.min(out.columns - left);
            // SAFETY: all offsets are within the matrices; a panel has room for `DEPTH` rows of `PANEL` floats.
            unsafe {
                pack(b, top, left, depth, width, panel.0.as_mut_ptr().cast());
                let strip = Strip {
                    rows: out.rows,
                    depth,
                    left: a.data.add(top * a.across),
                    down: a.down,
                    across: a.across,
                    panel: panel.0.as_ptr().cast(),
                    place: Place::of(out, left, width, finish, top == 0, top + depth == b.rows),
                };
                strip.run(width);
            }
        }
    }
}

/// Rows of the left operand against one panel.
struct Strip {
    rows: usize,
    depth: usize,
    left: *const f32,
    down: usize,
    across: usize,
    panel: *const f32,
    place: Place,
}

strips!("avx512f");

impl Strip {
    /// R rows by V registers; returns R.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn tile<const R: usize, const V: usize, const FINISH: u8>(&self, row: usize) -> usize {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        // SAFETY: as the caller promises, `depth` rows of the panel and columns of the left operand,
        // R rows and V registers of the result.
        unsafe {
            let (mut left, mut panel) = (self.left.add(row * self.down), self.panel);
            for _ in 0..self.depth {
                let mut right = [_mm512_setzero_ps(); V];
                for (v, right) in right.iter_mut().enumerate() {
                    *right = _mm512_loadu_ps(panel.add(v * LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let factor = _mm512_set1_ps(*left.add(r * self.down));
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = _mm512_fmadd_ps(factor, right, *sum);
                    }
                }
                left = left.add(self.across);
                panel = panel.add(V * LANES);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    self.place.put::<FINISH>(row + r, v, v + 1 == V, sum);
                }
            }
        }
        R
    }
}

/// Copies rows `top..top + depth`, columns `left..left + width` of `b` into `panel [depth, width up to a register]`;
/// the rest of a register is 0.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn pack(b: Raw, top: usize, left: usize, depth: usize, width: usize, panel: *mut f32) {
    let stride = width.next_multiple_of(LANES);
    for column in (0..width).step_by(LANES) {
        let lanes = LANES.min(width - column);
        // SAFETY: within `b` and the panel, as the caller promises.
        unsafe {
            let (from, to) = (b.data.add(top * b.down + (left + column) * b.across), panel.add(column));
            if b.across == 1 {
                for row in 0..depth {
                    let line = _mm512_maskz_loadu_ps(tail(lanes), from.add(row * b.down));
                    _mm512_storeu_ps(to.add(row * stride), line);
                }
            } else {
                for row in (0..depth).step_by(LANES) {
                    transpose(from.add(row), b.across, lanes, (depth - row).min(LANES), to.add(row * stride), stride);
                }
            }
        }
    }
}
