//! Matrix products of f32 for AVX-512, of the sizes that critics have: a few hundred rows and columns.
//!
//! The right operand is copied into panels of 64 columns, a block of its rows at a time; the left one is read where it lies. A tile of
//! the result, 6 rows by 64 columns, stays in 24 registers while it runs through a block: an element is the sum of its products in their
//! order, as a chain of fused multiply-adds, and blocks are added in theirs. The same operands give the same bits, wherever they lie and
//! whatever comes after.
//!
//! libtorch's libraries copy both operands, need a microsecond to be called, and know a slower way on processors of other makers; see
//! [`super::matmul`] for the choice.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use tch::Tensor;

/// Floats of a register.
const LANES: usize = 16;
/// Columns of a panel: four registers.
const PANEL: usize = 4 * LANES;
/// Most rows of the right operand in a panel: 64 kB. Deeper products are cut into equal parts.
const DEPTH: usize = 256;
/// Floats by which a transposed read runs ahead: two cache lines.
const AHEAD: usize = 2 * LANES;

/// Most rows of a right operand for which [`product`] may overwrite the output of the ReLU it passes through.
pub(super) const MOST_OVERWRITABLE: usize = DEPTH;

/// True on a processor with AVX-512.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| is_x86_feature_detected!("avx512f"))
}

/// A matrix: element (i, j) is at `data + i * down + j * across`.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    data: *mut f32,
    rows: usize,
    columns: usize,
    down: usize,
    across: usize,
}

impl Matrix {
    /// Of a two-dimensional f32 tensor on the CPU.
    pub(super) fn of(tensor: &Tensor) -> Matrix {
        let (size, stride) = (tensor.size(), tensor.stride());
        let ([rows, columns], [down, across]) = (&size[..], &stride[..]) else {
            panic!("a matrix has two dimensions, not {size:?}");
        };
        let [rows, columns, down, across] = [rows, columns, down, across].map(|&n| n as usize);
        Matrix { data: tensor.data_ptr() as *mut f32, rows, columns, down, across }
    }

    /// Of a contiguous f32 tensor on the CPU, as one row.
    pub(super) fn row(tensor: &Tensor) -> Matrix {
        let columns = tensor.numel();
        Matrix { data: tensor.data_ptr() as *mut f32, rows: 1, columns, down: columns, across: 1 }
    }

    pub(super) fn transposed(self) -> Matrix {
        Matrix { rows: self.columns, columns: self.rows, down: self.across, across: self.down, ..self }
    }
}

/// What becomes of a product before it is stored.
#[derive(Clone, Copy)]
pub(super) enum Finish {
    Nothing,
    /// It is added to what is there.
    Add,
    /// A row `[1,n]` is added, negative values become 0.
    BiasRelu(Matrix),
    /// It becomes 0 where the output `[m,n]` of a ReLU is 0.
    Relu(Matrix),
}

/// `out [m,n] = a [m,k] b [k,n]`, finished. False, and nothing is done, where `k` is 0, or the rows of `out` or of the matrix in `finish`, or
/// both rows and columns of `b`, are not dense.
///
/// `out` must not overlap `a` or `b`; where `k` is at most [`DEPTH`], it may be the ReLU's output itself. All must be alive.
pub(super) fn product(out: Matrix, a: Matrix, b: Matrix, finish: Finish) -> bool {
    assert!(available(), "no AVX-512 here");
    let dense_rows = |matrix: Matrix| matrix.across == 1 || matrix.columns == 1;
    let finishable = match finish {
        Finish::Nothing | Finish::Add => true,
        Finish::BiasRelu(row) => {
            assert_eq!((row.rows, row.columns), (1, out.columns), "size of a bias");
            dense_rows(row)
        }
        Finish::Relu(active) => {
            assert_eq!((active.rows, active.columns), (out.rows, out.columns), "size of a ReLU's output");
            dense_rows(active)
        }
    };
    assert_eq!((out.rows, out.columns, a.columns), (a.rows, b.columns, b.rows), "sizes of a matrix product");
    if b.rows == 0 || !finishable || !dense_rows(out) || (b.across != 1 && b.down != 1) {
        return false;
    }
    let mut panel = Panel(MaybeUninit::uninit());
    // SAFETY: AVX-512 is there, and the matrices are those of live tensors and of matching sizes.
    unsafe { multiply(out, a, b, finish, &mut panel) }
    true
}

/// Columns of the right operand, row after row.
#[repr(align(64))]
struct Panel(MaybeUninit<[f32; DEPTH * PANEL]>);

#[target_feature(enable = "avx512f")]
unsafe fn multiply(out: Matrix, a: Matrix, b: Matrix, finish: Finish, panel: &mut Panel) {
    let step = b.rows.div_ceil(b.rows.div_ceil(DEPTH).max(1)).max(1);
    for top in (0..b.rows).step_by(step) {
        let depth = step.min(b.rows - top);
        let last = top + depth == b.rows;
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
                    out: out.data.add(left),
                    out_down: out.down,
                    tail: tail(width),
                    add: top > 0 || matches!(finish, Finish::Add),
                    other: match finish {
                        Finish::Nothing | Finish::Add => std::ptr::null(),
                        Finish::BiasRelu(other) | Finish::Relu(other) => other.data.add(left),
                    },
                    other_down: if let Finish::Relu(active) = finish { active.down } else { 0 },
                };
                match finish {
                    Finish::BiasRelu(_) if last => strip.run::<BIAS_RELU>(width),
                    Finish::Relu(_) if last => strip.run::<RELU>(width),
                    _ => strip.run::<STORE>(width),
                }
            }
        }
    }
}

/// Which lanes of the last register of a row count.
fn tail(width: usize) -> __mmask16 {
    match width % LANES {
        0 => !0,
        rest => (1 << rest) - 1,
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
    out: *mut f32,
    out_down: usize,
    tail: __mmask16,
    add: bool,
    /// The bias, or the output of a ReLU at the place of `out`.
    other: *const f32,
    other_down: usize,
}

/// What a tile does with its sums; known when it is compiled, since a tile's loop has no register to spare.
const STORE: u8 = 0;
const BIAS_RELU: u8 = 1;
const RELU: u8 = 2;

impl Strip {
    /// Over a panel of `width` columns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn run<const FINISH: u8>(&self, width: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match width.div_ceil(LANES) {
                4 => self.tiles::<4, FINISH>(),
                3 => self.tiles::<3, FINISH>(),
                2 => self.tiles::<2, FINISH>(),
                _ => self.tiles::<1, FINISH>(),
            }
        }
    }

    /// Tile by tile, as many rows as registers allow: enough independent sums to hide the latency of one.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn tiles<const V: usize, const FINISH: u8>(&self) {
        let mut row = 0;
        while row < self.rows {
            // SAFETY: rows `row..row + R` exist; the caller's promise for the rest.
            unsafe {
                row += match self.rows - row {
                    12.. if V <= 2 => self.tile::<12, V, FINISH>(row),
                    8.. if V <= 3 => self.tile::<8, V, FINISH>(row),
                    6.. => self.tile::<6, V, FINISH>(row),
                    4.. => self.tile::<4, V, FINISH>(row),
                    2.. => self.tile::<2, V, FINISH>(row),
                    _ => self.tile::<1, V, FINISH>(row),
                };
            }
        }
    }

    /// R rows by V registers; returns R.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn tile<const R: usize, const V: usize, const FINISH: u8>(&self, row: usize) -> usize {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        // SAFETY: as the caller promises, `depth` rows of the panel and columns of the left operand, R rows and V registers of the result.
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
                    let lanes = if v + 1 == V { self.tail } else { !0 };
                    let place = self.out.add((row + r) * self.out_down + v * LANES);
                    let sum = if self.add { _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, place), sum) } else { sum };
                    let other =
                        || _mm512_maskz_loadu_ps(lanes, self.other.add((row + r) * self.other_down + v * LANES));
                    let sum = match FINISH {
                        // The maximum of two is the second where either is NaN: an overflow must not look like a dead unit.
                        BIAS_RELU => _mm512_max_ps(_mm512_setzero_ps(), _mm512_add_ps(sum, other())),
                        RELU => {
                            let open = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(other(), _mm512_setzero_ps());
                            _mm512_maskz_mov_ps(open, sum)
                        }
                        _ => sum,
                    };
                    _mm512_mask_storeu_ps(place, lanes, sum);
                }
            }
        }
        R
    }
}

/// Copies rows `top..top + depth`, columns `left..left + width` of `b` into `panel [depth, width up to a register]`; the rest of a register is 0.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn pack(b: Matrix, top: usize, left: usize, depth: usize, width: usize, panel: *mut f32) {
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

/// `to[j * to_stride + i] = from[i * from_stride + j]` for `i < rows <= 16` and `j < columns <= 16`; the rest of a register is 0.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn transpose(from: *const f32, from_stride: usize, rows: usize, columns: usize, to: *mut f32, to_stride: usize) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn random(rows: i64, columns: i64) -> Tensor {
        Tensor::randn([rows, columns], (Kind::Float, Device::Cpu))
    }

    /// Of every remainder of rows, columns and depth, and of more than one block of each.
    #[test]
    fn products_are_libtorchs() {
        if !available() {
            eprintln!("skipped: no AVX-512 here");
            return;
        }
        let sizes: Vec<[i64; 3]> = (1..=17)
            .map(|n| [n, 18 - n, 2 * n - 1])
            .chain([[61, 130, 33], [256, 64, 23], [13, 31, 1], [300, 48, 500], [7, 1100, 20]])
            .collect();
        for [m, n, k] in sizes {
            // Strided views, as columns of a batch are.
            let (a, b) = (random(m, k + 3).narrow(1, 2, k), random(k, n + 5).narrow(1, 4, n));
            let expected = a.mm(&b);
            let tolerance = 1e-6 * (k as f64).sqrt() * 8.0;
            let close = |out: &Tensor, expected: &Tensor| {
                let distance = (out - expected).abs().max().double_value(&[]);
                assert!(distance < tolerance, "{m}x{n}x{k}: {distance}");
            };
            let (at, bt) = (a.tr().contiguous(), b.tr().contiguous());
            let of = Matrix::of;
            for left in [of(&a), of(&at).transposed()] {
                for right in [of(&b), of(&bt).transposed()] {
                    let whole = Tensor::full([m, n + 2], 7.0, (Kind::Float, Device::Cpu));
                    let out = whole.narrow(1, 1, n);
                    assert!(product(of(&out), left, right, Finish::Nothing));
                    close(&out, &expected);
                    assert!(product(of(&out), left, right, Finish::Add));
                    close(&out, &(&expected * 2.0));
                    let bias = random(1, n);
                    assert!(product(of(&out), left, right, Finish::BiasRelu(of(&bias))));
                    close(&out, &(&expected + &bias).relu());
                    let active = random(m, n + 4).relu().narrow(1, 3, n);
                    assert!(product(of(&out), left, right, Finish::Relu(of(&active))));
                    let through = &expected * active.sign();
                    close(&out, &through);
                    if k <= DEPTH as i64 {
                        assert!(product(of(&active), left, right, Finish::Relu(of(&active))));
                        close(&active, &through);
                    }
                    let around = Tensor::cat(&[whole.narrow(1, 0, 1), whole.narrow(1, n + 1, 1)], 1);
                    assert_eq!(around, around.full_like(7.0));
                }
            }
        }
    }

    #[test]
    fn matrices_that_are_dense_in_no_direction_are_left_to_others() {
        if !available() {
            return;
        }
        let (a, b) = (random(4, 6), random(6, 10));
        let every_other = b.slice(1, 0, 10, 2);
        let out = random(4, 5);
        let before = out.copy();
        assert!(!product(Matrix::of(&out), Matrix::of(&a), Matrix::of(&every_other), Finish::Nothing));
        assert_eq!(out, before);
    }
}
