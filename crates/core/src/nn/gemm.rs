//! Matrix products in single precision for one core with AVX-512, with what surrounds them in a network done in the same pass.
//!
//! On an AVX-512 core with a peak of 175 GFLOP/s the innermost loop runs at 140 (critic step) to 150 GFLOP/s (behaviour step).
//! libtorch's product alone reaches 155 at large sizes: what is gained is what surrounds it. Bias, ReLU, and derivatives ride on the
//! store, the sum over rows that is a bias gradient on the packing, and a product costs no dispatch. Elements are summed in the
//! order of the inner index with fused multiply-adds: the result of a row does not depend on the other rows.
//!
//! The scheme is the usual one: a block of both operands is packed into panels the innermost loop reads in order; that loop keeps
//! 14 x 32 sums in 28 of the 32 vector registers. Strips of 14 rows are packed 16 wide, so that no store crosses a cache line.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::marker::PhantomData;
use tch::{Device, Kind, Tensor};

/// Rows of the innermost block.
const MR: usize = 14;
/// Columns of the innermost block: two registers.
const NR: usize = 32;
const LANES: usize = 16;
/// Inner indices packed at a time: a panel of 32 columns is 32 KiB, two thirds of the first-level cache.
const KC: usize = 256;
/// Rows packed at a time: 224 KiB.
const MC: usize = 16 * MR;
/// Elements of the packed right operand: 1 MiB, half of the second-level cache.
const B_BLOCK: usize = 1 << 18;

/// Rows the packing of dense lanes asks for in advance: rows lie in different pages, where the processor does not look ahead by itself.
const AHEAD: usize = 12;

/// A strided matrix inside a tensor.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
    tensor: PhantomData<&'a Tensor>,
}

impl<'a> View<'a> {
    /// The matrix of a 2-D f32 CPU tensor; none for anything else, or where neither rows nor columns are dense.
    pub fn of(tensor: &'a Tensor) -> Option<View<'a>> {
        let (size, stride) = (tensor.size(), tensor.stride());
        if size.len() != 2 || tensor.kind() != Kind::Float || tensor.device() != Device::Cpu {
            return None;
        }
        let (rows, columns, row_stride, column_stride) =
            (size[0] as usize, size[1] as usize, stride[0] as usize, stride[1] as usize);
        // The stride of a dimension of one element means nothing.
        let column_stride = if columns == 1 { 1 } else { column_stride };
        let view =
            View { data: tensor.data_ptr() as *mut f32, rows, columns, row_stride, column_stride, tensor: PhantomData };
        (row_stride == 1 || column_stride == 1).then_some(view)
    }

    /// The first `rows * columns` elements of a contiguous tensor as a matrix, from element `offset` on.
    pub fn of_flat(tensor: &'a Tensor, offset: usize, rows: usize, columns: usize) -> View<'a> {
        assert!(tensor.is_contiguous() && tensor.kind() == Kind::Float && offset + rows * columns <= tensor.numel());
        // SAFETY: the assertion keeps the matrix inside the tensor.
        let data = unsafe { (tensor.data_ptr() as *mut f32).add(offset) };
        View { data, rows, columns, row_stride: columns, column_stride: 1, tensor: PhantomData }
    }

    /// `width` columns from `from` on.
    pub fn columns(self, from: usize, width: usize) -> View<'a> {
        assert!(from + width <= self.columns, "columns {from}..{} of {}", from + width, self.columns);
        // SAFETY: the assertion keeps the columns inside the matrix.
        View { data: unsafe { self.data.add(from * self.column_stride) }, columns: width, ..self }
    }

    /// The transposed matrix.
    pub fn transposed(self) -> View<'a> {
        View {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Where an element is. The caller keeps within the shape.
    unsafe fn element(&self, row: usize, column: usize) -> *mut f32 {
        self.data.add(row * self.row_stride + column * self.column_stride)
    }

    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }
}

/// What is added to a product, and done to the sum.
#[derive(Clone, Copy)]
pub(super) enum Epilogue<'a> {
    /// The product alone.
    None,
    /// Plus a row `[1,N]`.
    Bias(View<'a>),
    /// Plus a row, then ReLU.
    BiasRelu(View<'a>),
    /// 0 where a matrix of the output's shape is not positive: the derivative of a ReLU by its output.
    Where(View<'a>),
    /// Times a matrix of the output's shape, element by element.
    Times(View<'a>),
}

/// True where [`product`] can run.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
}

thread_local! {
    /// Packed blocks of both operands, kept between calls.
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// `out = left right` with `epilogue`; `left_sums [1,M]` receives the sum of every row of `left`, which must then be a transposed
/// matrix with dense rows. Call only where [`available`]. `out` must have dense rows and overlap no operand.
pub(super) fn product(out: View, left: View, right: View, epilogue: Epilogue, left_sums: Option<View>) {
    let (rows, columns) = out.shape();
    assert!(left.rows == rows && right.columns == columns && left.columns == right.rows, "shapes of a matrix product");
    assert!(out.column_stride == 1 && available(), "dense rows, AVX-512");
    match epilogue {
        Epilogue::None => {}
        Epilogue::Bias(row) | Epilogue::BiasRelu(row) => assert!(row.shape() == (1, columns) && row.column_stride == 1),
        Epilogue::Where(of) | Epilogue::Times(of) => assert!(of.shape() == (rows, columns) && of.column_stride == 1),
    }
    if let Some(sums) = left_sums {
        assert!(sums.shape() == (1, rows) && sums.column_stride == 1 && left.row_stride == 1);
    }
    // SAFETY: the assertions above establish the instruction set and that every access below lies inside its matrix.
    SCRATCH.with_borrow_mut(|scratch| unsafe { blocked(out, left, right, epilogue, left_sums, scratch) });
}

/// Grows a buffer and gives its first 64-byte boundary.
fn aligned(buffer: &mut Vec<f32>, len: usize) -> *mut f32 {
    if buffer.len() < len + LANES {
        buffer.resize(len + LANES, 0.0);
    }
    let start = buffer.as_mut_ptr();
    // SAFETY: at most 15 elements further, and 16 more than `len` are there.
    unsafe { start.add(start.align_offset(64).min(LANES)) }
}

#[target_feature(enable = "avx512f")]
unsafe fn blocked(
    out: View,
    left: View,
    right: View,
    epilogue: Epilogue,
    left_sums: Option<View>,
    scratch: &mut [Vec<f32>; 2],
) {
    let (rows, columns, inner) = (out.rows, out.columns, left.columns);
    let depth = inner.clamp(1, KC);
    let width = (B_BLOCK / depth / NR * NR).min(columns.next_multiple_of(NR)).max(NR);
    let [a, b] = scratch;
    let (a, b) = (aligned(a, MC.min(rows).div_ceil(MR) * LANES * depth), aligned(b, width * depth));
    for column in (0..columns).step_by(width) {
        let count = width.min(columns - column);
        for from in (0..inner).step_by(KC) {
            let depth = KC.min(inner - from);
            for panel in (0..count).step_by(NR) {
                let source = right.element(from, column + panel);
                for half in [0, LANES] {
                    let lanes = (count - panel).saturating_sub(half).min(LANES);
                    let lane = Lanes {
                        source: source.wrapping_add(half * right.column_stride),
                        lanes,
                        stride: right.column_stride,
                        step: right.row_stride,
                    };
                    lane.pack(b.add(panel * depth + half), NR, depth);
                }
            }
            for row in (0..rows).step_by(MC) {
                let height = MC.min(rows - row);
                for strip in (0..height).step_by(MR) {
                    let lanes = MR.min(height - strip);
                    let source = left.element(row + strip, from);
                    let lane = Lanes { source, lanes, stride: left.row_stride, step: left.column_stride };
                    let total = lane.pack(a.add(strip / MR * LANES * depth), LANES, depth);
                    if let (Some(sums), 0) = (left_sums, column) {
                        let sums = sums.data.add(row + strip);
                        let before =
                            if from == 0 { _mm512_setzero_ps() } else { _mm512_maskz_loadu_ps(mask(lanes), sums) };
                        _mm512_mask_storeu_ps(sums, mask(lanes), _mm512_add_ps(before, total));
                    }
                }
                for panel in (0..count).step_by(NR) {
                    for strip in (0..height).step_by(MR) {
                        let tile =
                            Tile::new(out, epilogue, row + strip, column + panel, from == 0, from + depth == inner);
                        tile.compute(
                            MR.min(height - strip),
                            depth,
                            a.add(strip / MR * LANES * depth),
                            b.add(panel * depth),
                        );
                    }
                }
            }
        }
    }
}

/// The lowest `lanes` bits.
fn mask(lanes: usize) -> u16 {
    ((1u32 << lanes) - 1) as u16
}

/// Up to 16 neighbouring rows (or columns) of an operand: element `p` of lane `l` is at `l * stride + p * step`.
struct Lanes {
    source: *const f32,
    lanes: usize,
    stride: usize,
    step: usize,
}

impl Lanes {
    /// Writes the lanes side by side, 16 of every `width` elements for each inner index; lanes beyond the matrix are 0. Gives the sums of
    /// the lanes where they are dense (`stride` 1).
    #[target_feature(enable = "avx512f")]
    unsafe fn pack(&self, target: *mut f32, width: usize, depth: usize) -> __m512 {
        let mut total = _mm512_setzero_ps();
        if self.stride == 1 || self.lanes == 0 {
            for p in 0..depth {
                _mm_prefetch::<_MM_HINT_T0>(self.source.wrapping_add((p + AHEAD) * self.step).cast());
                let row = _mm512_maskz_loadu_ps(mask(self.lanes), self.source.wrapping_add(p * self.step));
                total = _mm512_add_ps(total, row);
                _mm512_store_ps(target.add(p * width), row);
            }
            return total;
        }
        for p in (0..depth).step_by(LANES) {
            let count = LANES.min(depth - p);
            let mut block = [_mm512_setzero_ps(); LANES];
            for (lane, row) in block.iter_mut().enumerate().take(self.lanes) {
                _mm_prefetch::<_MM_HINT_T0>(self.source.wrapping_add((lane + self.lanes) * self.stride + p).cast());
                *row = _mm512_maskz_loadu_ps(mask(count), self.source.add(lane * self.stride + p));
            }
            for (i, column) in transpose(block).into_iter().enumerate().take(count) {
                _mm512_store_ps(target.add((p + i) * width), column);
            }
        }
        total
    }
}

/// Transposes a 16 x 16 block.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(r: [__m512; LANES]) -> [__m512; LANES] {
    let mut quads = r;
    for g in 0..4 {
        let (a, b, c, d) = (r[4 * g], r[4 * g + 1], r[4 * g + 2], r[4 * g + 3]);
        let pd = |x| _mm512_castps_pd(x);
        let (low_ab, high_ab) = (pd(_mm512_unpacklo_ps(a, b)), pd(_mm512_unpackhi_ps(a, b)));
        let (low_cd, high_cd) = (pd(_mm512_unpacklo_ps(c, d)), pd(_mm512_unpackhi_ps(c, d)));
        quads[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low_ab, low_cd));
        quads[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low_ab, low_cd));
        quads[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high_ab, high_cd));
        quads[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high_ab, high_cd));
    }
    // Quarter q of quads[4g + c] now holds rows 4g..4g+4 of column 4q + c.
    let mut out = r;
    for c in 0..4 {
        let even_low = _mm512_shuffle_f32x4::<0x88>(quads[c], quads[4 + c]);
        let odd_low = _mm512_shuffle_f32x4::<0xdd>(quads[c], quads[4 + c]);
        let even_high = _mm512_shuffle_f32x4::<0x88>(quads[8 + c], quads[12 + c]);
        let odd_high = _mm512_shuffle_f32x4::<0xdd>(quads[8 + c], quads[12 + c]);
        out[c] = _mm512_shuffle_f32x4::<0x88>(even_low, even_high);
        out[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high);
        out[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even_low, even_high);
        out[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high);
    }
    out
}

/// A block of the output of at most 14 x 32, and what happens to it; null pointers stand for nothing.
struct Tile {
    out: *mut f32,
    stride: usize,
    columns: usize,
    /// Whether the sums so far are in `out`.
    accumulate: bool,
    bias: *const f32,
    relu: bool,
    only_where: *const f32,
    times: *const f32,
    /// Of `only_where` or `times`.
    other_stride: usize,
}

impl Tile {
    unsafe fn new(out: View, epilogue: Epilogue, row: usize, column: usize, first: bool, last: bool) -> Tile {
        let mut tile = Tile {
            out: out.element(row, column),
            stride: out.row_stride,
            columns: NR.min(out.columns - column),
            accumulate: !first,
            bias: std::ptr::null(),
            relu: false,
            only_where: std::ptr::null(),
            times: std::ptr::null(),
            other_stride: 0,
        };
        if let Epilogue::Where(of) | Epilogue::Times(of) = epilogue {
            tile.other_stride = of.row_stride;
        }
        match epilogue {
            Epilogue::Bias(bias) if last => tile.bias = bias.data.add(column),
            Epilogue::BiasRelu(bias) if last => (tile.bias, tile.relu) = (bias.data.add(column), true),
            Epilogue::Where(of) if last => tile.only_where = of.element(row, column),
            Epilogue::Times(of) if last => tile.times = of.element(row, column),
            _ => {}
        }
        tile
    }

    /// Picks the compiled size.
    #[target_feature(enable = "avx512f")]
    unsafe fn compute(&self, rows: usize, depth: usize, a: *const f32, b: *const f32) {
        macro_rules! sizes {
            ($($rows:literal)*) => {
                match (rows, self.columns > LANES) {
                    $(($rows, true) => self.run::<$rows, 2>(depth, a, b),)*
                    $(($rows, false) => self.run::<$rows, 1>(depth, a, b),)*
                    _ => unreachable!("at most {MR} rows"),
                }
            };
        }
        sizes!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }

    /// Sums `a [depth][16]`, of which the first R count, by `b [depth][32]` and stores.
    #[target_feature(enable = "avx512f")]
    unsafe fn run<const R: usize, const V: usize>(&self, depth: usize, mut a: *const f32, mut b: *const f32) {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for _ in 0..depth {
            // Both streams come from the second-level cache: asked for eight steps ahead.
            _mm_prefetch::<_MM_HINT_T0>(a.wrapping_add(8 * LANES).cast());
            _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(8 * NR).cast());
            _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(8 * NR + LANES).cast());
            let mut right = [_mm512_setzero_ps(); V];
            for (v, right) in right.iter_mut().enumerate() {
                *right = _mm512_load_ps(b.add(v * LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_ps(*a.add(r));
                for (sum, &right) in sums.iter_mut().zip(&right) {
                    *sum = _mm512_fmadd_ps(left, right, *sum);
                }
            }
            a = a.add(LANES);
            b = b.add(NR);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                self.store(r, v * LANES, sum);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(&self, row: usize, column: usize, mut sum: __m512) {
        let lanes = mask(self.columns.saturating_sub(column).min(LANES));
        let out = self.out.wrapping_add(row * self.stride + column);
        let zero = _mm512_setzero_ps();
        if self.accumulate {
            sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes, out));
        }
        if !self.bias.is_null() {
            sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes, self.bias.wrapping_add(column)));
        }
        if self.relu {
            // This order keeps a NaN.
            sum = _mm512_max_ps(zero, sum);
        }
        let other =
            |from: *const f32| _mm512_maskz_loadu_ps(lanes, from.wrapping_add(row * self.other_stride + column));
        if !self.only_where.is_null() {
            sum = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(other(self.only_where), zero), sum);
        }
        if !self.times.is_null() {
            sum = _mm512_mul_ps(sum, other(self.times));
        }
        _mm512_mask_storeu_ps(out, lanes, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: i64, columns: i64) -> Tensor {
        Tensor::randn([rows, columns], (Kind::Float, Device::Cpu))
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        (a - b).abs().max().double_value(&[]) < 1e-4
    }

    /// Every layout, at sizes around the blocks': one element, partial tiles, several blocks in each direction.
    #[test]
    fn products_agree_with_libtorch() {
        if !available() {
            eprintln!("SKIPPED: no AVX-512 here");
            return;
        }
        for (m, n, k) in [
            (1, 1, 1),
            (14, 32, 16),
            (3, 33, 5),
            (15, 17, 300),
            (250, 6, 257),
            (226, 70, 23),
            (9, 1100, 300),
            (256, 256, 256),
        ] {
            let (a, b) = (random(m, k), random(k, n));
            let expected = a.mm(&b);
            for (a_turned, b_turned) in [(false, false), (true, false), (false, true), (true, true)] {
                let (a_stored, b_stored) = (
                    if a_turned { a.tr().contiguous() } else { a.copy() },
                    if b_turned { b.tr().contiguous() } else { b.copy() },
                );
                let turn = |view: View<'static>, turned| if turned { view.transposed() } else { view };
                let view =
                    |tensor: &Tensor| -> View<'static> { View { tensor: PhantomData, ..View::of(tensor).unwrap() } };
                let out = random(m, n);
                product(
                    view(&out),
                    turn(view(&a_stored), a_turned),
                    turn(view(&b_stored), b_turned),
                    Epilogue::None,
                    None,
                );
                assert!(close(&out, &expected), "{m} {n} {k} {a_turned} {b_turned}");
            }
        }
    }

    #[test]
    fn epilogues_and_sums_follow_their_definitions() {
        if !available() {
            eprintln!("SKIPPED: no AVX-512 here");
            return;
        }
        let (m, n, k) = (40, 50, 520);
        let (a, b, bias, of) = (random(k, m), random(k, n), random(1, n), random(m, n));
        let (left, right) = (View::of(&a).unwrap().transposed(), View::of(&b).unwrap());
        let expected = a.tr().mm(&b);
        let (wide, sums) = (random(m, n + 9), random(1, m));
        let out = wide.narrow(1, 4, n);
        let target = View::of(&out).unwrap();
        let rest = wide.narrow(1, 4 + n, 5).copy();
        product(target, left, right, Epilogue::Bias(View::of(&bias).unwrap()), Some(View::of(&sums).unwrap()));
        assert!(close(&out, &(&expected + &bias)) && close(&sums, &a.sum_dim_intlist(0i64, true, Kind::Float)));
        product(target, left, right, Epilogue::BiasRelu(View::of(&bias).unwrap()), None);
        assert!(close(&out, &(&expected + &bias).relu()));
        product(target, left, right, Epilogue::Where(View::of(&of).unwrap()), None);
        assert!(close(&out, &(&expected * of.gt(0.0))));
        product(target, left, right, Epilogue::Times(View::of(&of).unwrap()), None);
        assert!(close(&out, &(&expected * &of)));
        assert_eq!(rest, wide.narrow(1, 4 + n, 5));
    }
}
