//! Products in registers, as [`super::avx512`] makes them, on processors that have AVX2 and no more.
//!
//! A panel has 16 columns, and a tile, 6 rows by 16 columns, 12 of 16 registers: those of one load and two lines of the
//! panel are left. MKL reaches the same rate here on large matrices. On those of critics it copies both operands for
//! little to multiply, and oneDNN copies all three.

use super::matrix::{Raw, RawFinish};
use super::place::{Place, BIAS_RELU, RELU, SCALED_RELU, STORE};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Floats of a register.
const LANES: usize = 8;
/// Columns of a panel: two registers.
const PANEL: usize = 2 * LANES;
/// Most rows of the right operand in a panel: 16 kB, half of the nearest cache. Deeper products are cut into equal
/// parts.
pub(super) const DEPTH: usize = 256;

/// True on a processor with AVX2 and FMA.
#[inline]
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Columns of the right operand, row after row.
#[repr(align(64))]
struct Panel(MaybeUninit<[f32; DEPTH * PANEL]>);

/// `out = a b`, finished; there must be at least one row in `b`, and rows or columns of `b` must be dense.
#[target_feature(enable = "avx2,fma")]
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
                    tail: first_lanes(width - (width - 1) / LANES * LANES),
                };
                match strip.place.finish {
                    BIAS_RELU => strip.run::<BIAS_RELU>(width),
                    RELU => strip.run::<RELU>(width),
                    SCALED_RELU => strip.run::<SCALED_RELU>(width),
                    _ => strip.run::<STORE>(width),
                }
            }
        }
    }
}

/// A mask of the first `count <= 8` lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn first_lanes(count: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
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
    /// Lanes of the last register of a row.
    tail: __m256i,
}

impl Strip {
    /// Over a panel of `width` columns.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run<const FINISH: u8>(&self, width: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match (width.div_ceil(LANES), width.is_multiple_of(LANES)) {
                (2, true) => self.tiles::<2, FINISH, true>(),
                (2, false) => self.tiles::<2, FINISH, false>(),
                (_, true) => self.tiles::<1, FINISH, true>(),
                (_, false) => self.tiles::<1, FINISH, false>(),
            }
        }
    }

    /// Tile by tile, as many rows as registers allow: enough independent sums to hide the latency of one.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tiles<const V: usize, const FINISH: u8, const FULL: bool>(&self) {
        let mut row = 0;
        while row < self.rows {
            // SAFETY: rows `row..row + R` exist; the caller's promise for the rest.
            unsafe {
                row += match self.rows - row {
                    12.. if V == 1 => self.tile::<12, V, FINISH, FULL>(row),
                    6.. => self.tile::<6, V, FINISH, FULL>(row),
                    4.. => self.tile::<4, V, FINISH, FULL>(row),
                    2.. => self.tile::<2, V, FINISH, FULL>(row),
                    _ => self.tile::<1, V, FINISH, FULL>(row),
                };
            }
        }
    }

    /// R rows by V registers, the last one of `tail` lanes unless the row is `FULL`; returns R.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const R: usize, const V: usize, const FINISH: u8, const FULL: bool>(&self, row: usize) -> usize {
        let mut sums = [[_mm256_setzero_ps(); V]; R];
        // SAFETY: as the caller promises, `depth` rows of the panel and columns of the left operand,
        // R rows and V registers of the result.
        unsafe {
            let (mut left, mut panel) = (self.left.add(row * self.down), self.panel);
            for _ in 0..self.depth {
                let mut right = [_mm256_setzero_ps(); V];
                for (v, right) in right.iter_mut().enumerate() {
                    *right = _mm256_load_ps(panel.add(v * LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let factor = _mm256_broadcast_ss(&*left.add(r * self.down));
                    for (sum, &right) in sums.iter_mut().zip(&right) {
                        *sum = _mm256_fmadd_ps(factor, right, *sum);
                    }
                }
                left = left.add(self.across);
                panel = panel.add(V * LANES);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    if FULL || v + 1 < V {
                        self.put::<FINISH, true>(row + r, v, sum);
                    } else {
                        self.put::<FINISH, false>(row + r, v, sum);
                    }
                }
            }
        }
        R
    }

    /// Finishes and stores the sums of register `v` of a row, or the lanes of it that lie within the matrix.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn put<const FINISH: u8, const FULL: bool>(&self, row: usize, v: usize, sum: __m256) {
        // SAFETY: the caller promises that there is such a row, with such a register.
        unsafe {
            let load =
                |from: *const f32| if FULL { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, self.tail) };
            let place = self.place.at(row, v * LANES);
            let sum = if self.place.add { _mm256_add_ps(load(place), sum) } else { sum };
            let other = || load(self.place.other_at(row, v * LANES));
            let gated = |sum| _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(other(), _mm256_setzero_ps()), sum);
            let sum = match FINISH {
                // The maximum of two is the second where either is NaN: an overflow must not look like a dead unit.
                BIAS_RELU => _mm256_max_ps(_mm256_setzero_ps(), _mm256_add_ps(sum, other())),
                RELU => gated(sum),
                SCALED_RELU => gated(_mm256_mul_ps(sum, _mm256_broadcast_ss(&*self.place.scale_at(row)))),
                _ => sum,
            };
            if FULL {
                _mm256_storeu_ps(place, sum);
            } else {
                _mm256_maskstore_ps(place, self.tail, sum);
            }
        }
    }
}

/// Copies rows `top..top + depth`, columns `left..left + width` of `b` into `panel [depth, width up to a register]`;
/// the rest of a register is 0.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn pack(b: Raw, top: usize, left: usize, depth: usize, width: usize, panel: *mut f32) {
    let stride = width.next_multiple_of(LANES);
    for column in (0..width).step_by(LANES) {
        let lanes = LANES.min(width - column);
        // SAFETY: within `b` and the panel, as the caller promises.
        unsafe {
            let (from, to) = (b.data.add(top * b.down + (left + column) * b.across), panel.add(column));
            if b.across != 1 {
                for row in (0..depth).step_by(LANES) {
                    transpose(from.add(row), b.across, lanes, (depth - row).min(LANES), to.add(row * stride), stride);
                }
            } else if lanes == LANES {
                for row in 0..depth {
                    _mm256_store_ps(to.add(row * stride), _mm256_loadu_ps(from.add(row * b.down)));
                }
            } else {
                let lanes = first_lanes(lanes);
                for row in 0..depth {
                    _mm256_store_ps(to.add(row * stride), _mm256_maskload_ps(from.add(row * b.down), lanes));
                }
            }
        }
    }
}

/// `to[j * to_stride + i] = from[i * from_stride + j]` for `i < rows <= 8` and `j < columns <= 8`;
/// the rest of a register is 0.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose(from: *const f32, from_stride: usize, rows: usize, columns: usize, to: *mut f32, to_stride: usize) {
    let lanes = first_lanes(columns);
    let mut lines = [_mm256_setzero_ps(); LANES];
    for (i, line) in lines.iter_mut().enumerate() {
        if i < rows {
            // SAFETY: row `i` has `columns` floats, as the caller promises.
            let from = unsafe { from.add(i * from_stride) };
            *line = unsafe {
                if columns == LANES {
                    _mm256_loadu_ps(from)
                } else {
                    _mm256_maskload_ps(from, lanes)
                }
            };
        }
    }
    let [a, b, c, d, e, f, g, h] = lines;
    // Pairs of rows, then fours: their halves hold columns q and q + 4.
    let fours = |a, b, c, d| {
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (lower, higher) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0x44>(low, lower),
            _mm256_shuffle_ps::<0xEE>(low, lower),
            _mm256_shuffle_ps::<0x44>(high, higher),
            _mm256_shuffle_ps::<0xEE>(high, higher),
        ]
    };
    let (upper, lower) = (fours(a, b, c, d), fours(e, f, g, h));
    for j in 0..columns {
        let (upper, lower) = (upper[j % 4], lower[j % 4]);
        let line = if j < 4 {
            _mm256_permute2f128_ps::<0x20>(upper, lower)
        } else {
            _mm256_permute2f128_ps::<0x31>(upper, lower)
        };
        // SAFETY: the caller promises `columns` lines.
        unsafe { _mm256_store_ps(to.add(j * to_stride), line) };
    }
}
