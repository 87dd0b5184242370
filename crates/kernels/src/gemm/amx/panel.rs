//! Tiles of bf16 made of operands.
//!
//! A panel holds some lines of an operand, rows of the left one or columns of the right one, over the depth of a
//! product: for every step of the depth two tiles for each part that is multiplied, the high one first.
//! A row of a tile is sixteen pairs of elements that lie sixteen apart in the depth, on either side.

use super::super::lanes::{tail, transpose, LANES};
use super::super::matrix::Raw;
use super::super::Gates;
use super::LINES;
use std::arch::x86_64::*;
use std::array::from_fn;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Of a product's depth, what goes into a tile.
pub(super) const STEP: usize = 2 * LANES;
/// Bf16s of which a float is the sum.
pub(super) const ALL: usize = 3;

/// Tiles of a panel for one step: for each part, two.
pub(super) const fn tiles(parts: usize) -> usize {
    2 * parts
}

/// Sixteen rows of sixteen pairs of bf16.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile([[u32; LANES]; LANES]);

pub(super) const EMPTY: Tile = Tile([[0; LANES]; LANES]);

impl Tile {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn set(&mut self, row: usize, pairs: __m512i) {
        // SAFETY: a row of a tile is an aligned register.
        unsafe { _mm512_store_si512(self.0[row].as_mut_ptr().cast(), pairs) };
    }
}

/// A left operand.
pub(super) trait Left {
    /// Bf16s of an element in a panel.
    const PARTS: usize;

    /// Begins to fetch part `turn` of `turns` of what the panel from `line` on is made of, if there is such a panel,
    /// and it is worth fetching.
    #[inline]
    unsafe fn fetch(&self, _depth: &Range<usize>, _line: usize, _turn: (usize, usize)) {}

    /// The panel from `line` on.
    unsafe fn pack(&self, depth: &Range<usize>, line: usize, panel: &mut [Tile]);
}

/// Rows of floats, of which so many parts are multiplied.
pub(super) struct Rows<const PARTS: usize>(pub Raw);

impl<const PARTS: usize> Left for Rows<PARTS> {
    const PARTS: usize = PARTS;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn fetch(&self, depth: &Range<usize>, line: usize, turn: (usize, usize)) {
        fetch(self.0.transposed(), depth, line, turn);
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn pack(&self, depth: &Range<usize>, line: usize, panel: &mut [Tile]) {
        let matrix = Raw { columns: depth.end, ..self.0 };
        // SAFETY: the caller's promise.
        unsafe { pack::<PARTS>(matrix, depth, line, panel, |line, depth| (line, depth), |_, row| row) };
    }
}

/// Columns of floats, of which so many parts are multiplied, of a right operand whose rows may be multiplied by a
/// number each before.
pub(super) struct Columns<'a, const PARTS: usize> {
    pub matrix: Raw,
    pub scale: Option<&'a [f32]>,
}

impl<const PARTS: usize> Columns<'_, PARTS> {
    /// Begins to fetch what the panel from `line` on is made of, if there is such a panel.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn fetch(&self, depth: &Range<usize>, line: usize) {
        fetch(self.matrix, depth, line, (0, 1));
    }

    /// The panel from `line` on.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn pack(&self, depth: &Range<usize>, line: usize, panel: &mut [Tile]) {
        let matrix = Raw { rows: depth.end, ..self.matrix };
        let at = |line, depth| (depth, line);
        // SAFETY: the caller's promise.
        match self.scale {
            None => unsafe { pack::<PARTS>(matrix, depth, line, panel, at, |_, row| row) },
            Some(scale) => unsafe {
                // Beyond the last row, rows are zeros.
                let by = |depth: usize| _mm512_set1_ps(scale.get(depth).copied().unwrap_or(0.0));
                pack::<PARTS>(matrix, depth, line, panel, at, |depth, row| _mm512_mul_ps(by(depth), row));
            },
        }
    }
}

/// Rows of gates.
pub(super) struct GateRows<'a>(pub &'a Gates);

impl Left for GateRows<'_> {
    const PARTS: usize = 1;

    #[target_feature(enable = "avx512f")]
    unsafe fn pack(&self, depth: &Range<usize>, line: usize, panel: &mut [Tile]) {
        let numbers = numbers();
        for (tiles, depth) in panel.chunks_exact_mut(2).zip(depth.clone().step_by(STEP)) {
            for row in 0..LINES {
                // The lower half of a word are the first of its step's pairs, the upper half the second ones.
                let word = _mm512_set1_epi32(self.0.word(line + row, depth / Gates::WORD) as i32);
                tiles[row / LANES].set(row % LANES, ones(_mm512_srlv_epi32(word, numbers)));
            }
        }
    }
}

/// Gates, transposed: rows of this operand are its columns.
pub(super) struct GateColumns<'a>(pub &'a Gates);

impl Left for GateColumns<'_> {
    const PARTS: usize = 1;

    #[target_feature(enable = "avx512f")]
    unsafe fn pack(&self, depth: &Range<usize>, line: usize, panel: &mut [Tile]) {
        for (tiles, depth) in panel.chunks_exact_mut(2).zip(depth.clone().step_by(STEP)) {
            // Two rows of gates to a pair, and to a word of either half of the lines.
            let word = |row: usize| self.0.word(row, line / Gates::WORD);
            let pairs: [(u32, u32); LANES] = from_fn(|i| (word(depth + i), word(depth + LANES + i)));
            let lower = pairs.map(|(first, second)| first & 0xFFFF | second << 16);
            let upper = pairs.map(|(first, second)| first >> 16 | second & !0xFFFF);
            for (tile, half) in tiles.iter_mut().zip([lower, upper]) {
                // SAFETY: a half is a register.
                let mut bits = unsafe { _mm512_loadu_si512(half.as_ptr().cast()) };
                for row in 0..LANES {
                    tile.set(row, ones(bits));
                    bits = _mm512_srli_epi32::<1>(bits);
                }
            }
        }
    }
}

/// 0, 1, 2, ...
#[inline]
#[target_feature(enable = "avx512f")]
fn numbers() -> __m512i {
    _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
}

/// Pairs of bf16, 1 where the lowest bit of a half of a lane is set, else 0.
#[inline]
#[target_feature(enable = "avx512f")]
fn ones(bits: __m512i) -> __m512i {
    /// The lowest bit of either half.
    const LOWEST: i32 = 0x0001_0001;
    let bits = _mm512_and_si512(bits, _mm512_set1_epi32(LOWEST));
    // One is 0x3F80.
    _mm512_sub_epi32(_mm512_slli_epi32::<14>(bits), _mm512_slli_epi32::<7>(bits))
}

/// Begins to fetch part `turn` of `turns` of the columns of `matrix` from `line` on, if there are any.
#[inline]
#[target_feature(enable = "avx512f")]
fn fetch(matrix: Raw, depth: &Range<usize>, line: usize, (turn, turns): (usize, usize)) {
    let Raw { data, columns, down, across, .. } = matrix;
    let lines = LINES.min(columns.saturating_sub(line));
    let from = data.wrapping_add(line * across + depth.start * down);
    let (spans, to_span, floats) = match down {
        1 => (lines, across, depth.len()),
        _ => (depth.len(), down, lines),
    };
    for span in spans * turn / turns..spans * (turn + 1) / turns {
        for float in (0..floats).step_by(LANES) {
            _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(span * to_span + float).cast());
        }
    }
}

/// The panel of `matrix` from `line` on: `at(line, depth)` is the place of an element,
/// `scaled` is what becomes of a row of it at a place of the depth.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn pack<const PARTS: usize>(
    matrix: Raw,
    depth: &Range<usize>,
    line: usize,
    panel: &mut [Tile],
    at: impl Fn(usize, usize) -> (usize, usize),
    scaled: impl Fn(usize, __m512) -> __m512,
) {
    let [mut room, mut other] = [const { Room(MaybeUninit::uninit()) }; 2];
    for (tiles, depth) in panel.chunks_exact_mut(tiles(PARTS)).zip(depth.clone().step_by(STEP)) {
        for half in 0..2 {
            let line = line + half * LANES;
            // SAFETY: the matrix is alive, and so is the room of a block.
            unsafe {
                let first = Block::of(matrix, at(line, depth), &mut room);
                let second = Block::of(matrix, at(line, depth + LANES), &mut other);
                for row in 0..LANES {
                    let pair = [scaled(depth + row, first.row(row)), scaled(depth + LANES + row, second.row(row))];
                    put::<PARTS>(tiles, half, row, pair);
                }
            }
        }
    }
}

/// Row `row` of tile `half` of every part of a step.
#[inline]
#[target_feature(enable = "avx512f")]
fn put<const PARTS: usize>(tiles: &mut [Tile], half: usize, row: usize, pair: [__m512; 2]) {
    for (part, pairs) in split::<PARTS>(pair).into_iter().enumerate() {
        tiles[2 * part + half].set(row, pairs);
    }
}

/// Pairs of floats as pairs of bf16: their high, middle and low parts, or the first ones of these. The first two are
/// rounded to the nearest, what is left of a float after them has at most 8 significant bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn split<const PARTS: usize>(mut pair: [__m512; 2]) -> [__m512i; PARTS] {
    /// Of `(shifted, second, upper)`: the second where `upper` is set.
    const SELECT: i32 = 0xD8;
    let upper = _mm512_set1_epi32(!0xFFFF);
    let mut parts = [_mm512_setzero_si512(); PARTS];
    for (i, part) in parts.iter_mut().enumerate() {
        let [first, second] = pair.map(|x| match i {
            0 | 1 if PARTS == ALL => _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(HALF)),
            0 | 1 => to_even(x),
            _ => _mm512_castps_si512(x),
        });
        *part = _mm512_ternarylogic_epi32::<SELECT>(_mm512_srli_epi32::<16>(first), second, upper);
        let rounded = |x| _mm512_castsi512_ps(_mm512_and_si512(x, upper));
        pair = [_mm512_sub_ps(pair[0], rounded(first)), _mm512_sub_ps(pair[1], rounded(second))];
    }
    parts
}

/// Half of the last place of a bf16.
const HALF: i32 = 0x8000;

/// Floats whose upper halves are the nearest bf16, of two the even one. NaN, which a carry could make a number, stays
/// as it is: no later part tells of it.
#[inline]
#[target_feature(enable = "avx512f")]
fn to_even(x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let carry = _mm512_add_epi32(odd, _mm512_set1_epi32(HALF - 1));
    _mm512_mask_add_epi32(bits, _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x), bits, carry)
}

/// Sixteen rows and columns of a matrix; beyond its edges, zeros.
struct Block {
    from: *const f32,
    down: usize,
}

/// Room for a block that does not lie in memory as it is read.
#[repr(C, align(64))]
struct Room(MaybeUninit<[[f32; LANES]; LANES]>);

impl Block {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn of(matrix: Raw, (row, column): (usize, usize), room: &mut Room) -> Block {
        let within = |from: usize, to: usize| to.saturating_sub(from).min(LANES);
        let (rows, columns) = (within(row, matrix.rows), within(column, matrix.columns));
        let from = matrix.data.wrapping_add(row * matrix.down + column * matrix.across);
        if matrix.across == 1 && rows == LANES && columns == LANES {
            return Block { from, down: matrix.down };
        }
        let to: *mut f32 = room.0.as_mut_ptr().cast();
        // SAFETY: the matrix has so many rows and columns from here, the room sixteen.
        unsafe {
            if rows == 0 || columns == 0 {
                to.write_bytes(0, LANES * LANES);
            } else if matrix.across == 1 {
                for i in 0..LANES {
                    let lanes = if i < rows { tail(columns) } else { 0 };
                    let line = _mm512_maskz_loadu_ps(lanes, from.wrapping_add(i * matrix.down));
                    _mm512_store_ps(to.add(i * LANES), line);
                }
            } else {
                transpose(from, matrix.across, columns, rows, to, LANES);
                to.add(rows * LANES).write_bytes(0, (LANES - rows) * LANES);
            }
        }
        Block { from: to, down: LANES }
    }

    /// A row; the matrix and the room must still be there.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn row(&self, row: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(self.from.add(row * self.down)) }
    }
}
