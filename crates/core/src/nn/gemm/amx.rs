//! Products by the matrix unit of Intel's processors since Sapphire Rapids (AMX), to the accuracy of f32.
//!
//! The unit multiplies tiles of bf16, which have 8 significant bits, and sums in f32: sixteen times as many products a cycle as AVX-512 makes
//! of f32. The 24 significant bits of a float are those of three bf16, `x = high + middle + low` without a remainder. Of the nine products of two
//! such sums six are made; the three that are left out (middle by low, twice, and low by low) come to 2^-24 of the whole at most, which is one
//! rounding of f32. The unit sums 16 products before it adds them to an element, so that there are fewer roundings than in a chain of fused
//! multiply-adds: the error of a single product is that of f32, of sums of 8 products or more half of it.
//!
//! What lies below the normal floats counts as 0, also as a part of a factor: factors below 2^-102 lose their last bits. An infinite
//! factor gives NaN.

use super::lanes::{tail, transpose, LANES};
use super::place::{Place, BIAS_RELU, RELU, STORE};
use super::{Finish, Matrix};
use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;

/// Most rows of the right operand that are multiplied before their products are added to the result; deeper products are cut into equal parts.
pub(super) const DEPTH: usize = 256;
/// Rows of the right operand, columns of the left one, that go into a tile.
const STEP: usize = 2 * LANES;
/// Rows and columns of the result that are summed together, in four tiles; a panel has so many rows of the left operand, or columns of the right one.
const LINES: usize = 2 * LANES;
/// Panels of the right operand that are made before the left one's, which are then used for all of them: 768 kB at most.
const PANELS: usize = 16;
/// Bf16s of which a float is the sum.
const PARTS: usize = 3;
/// Tiles of a panel for one step: for each part, two.
const TILES: usize = 2 * PARTS;

/// A tile of an operand: sixteen rows of sixteen pairs of bf16.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Tile([[u32; LANES]; LANES]);

const EMPTY: Tile = Tile([[0; LANES]; LANES]);

/// Sums of products for one place of the result.
#[repr(C, align(64))]
struct Sums([[f32; LINES]; LINES]);

thread_local! {
    /// Panels of both operands, kept for the next product.
    static ROOM: RefCell<Vec<Tile>> = const { RefCell::new(Vec::new()) };
}

/// True on a processor with AMX, where the system lets us use it.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| super::avx512::available() && has_matrix_unit() && permitted())
}

fn has_matrix_unit() -> bool {
    /// Tiles, and products of bf16 (CPUID, leaf 7, EDX).
    const NEEDED: u32 = 1 << 24 | 1 << 22;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & NEEDED == NEEDED
}

/// Linux keeps the unit's registers only for processes that have asked for it.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call has no memory to write to.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// `out = a b`, finished; there must be at least one row in `b`, and rows or columns of both must be dense.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn multiply(out: Matrix, a: Matrix, b: Matrix, finish: Finish) {
    let depth = b.rows;
    let block = depth.div_ceil(depth.div_ceil(DEPTH)).next_multiple_of(STEP);
    let unit = Unit::configured();
    ROOM.with_borrow_mut(|room| {
        for top in (0..depth).step_by(block) {
            let bottom = depth.min(top + block);
            let a = Operand { side: Side::Left, matrix: Matrix { columns: bottom, ..a }, top };
            let b = Operand { side: Side::Right, matrix: Matrix { rows: bottom, ..b }, top };
            let panel = (bottom - top).div_ceil(STEP) * TILES;
            room.resize(room.len().max((1 + PANELS) * panel), EMPTY);
            let (left, rights) = room.split_at_mut(panel);
            for begin in (0..out.columns).step_by(PANELS * LINES) {
                let columns = (begin..out.columns.min(begin + PANELS * LINES)).step_by(LINES);
                let turns = columns.len();
                // SAFETY: rows and columns are within the matrices; the unit has been configured.
                unsafe {
                    a.fetch(0, 0, 1);
                    b.fetch(begin, 0, 1);
                    for row in (0..out.rows).step_by(LINES) {
                        a.pack(row, left);
                        for (turn, (column, right)) in columns.clone().zip(rights.chunks_exact_mut(panel)).enumerate() {
                            if row == 0 {
                                b.pack(column, right);
                                b.fetch(column + LINES, 0, 1);
                            }
                            let (rows, width) = (row..out.rows.min(row + LINES), LINES.min(out.columns - column));
                            let place = Place::of(out, column, width, finish, top == 0, bottom == depth);
                            // While the unit multiplies, what is needed next comes near.
                            a.fetch(row + LINES, turn, turns);
                            place.fetch(rows.clone(), width);
                            unit.multiply(left, right).put(&place, rows, width);
                        }
                    }
                }
            }
        }
    });
}

enum Side {
    /// Panels are rows.
    Left,
    /// Panels are columns.
    Right,
}

/// A factor, from `top` of the sum's index to its end.
struct Operand {
    side: Side,
    matrix: Matrix,
    top: usize,
}

impl Operand {
    /// Begins to fetch part `turn` of `turns` of what the panel from `line` on is made of, if there is such a panel.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn fetch(&self, line: usize, turn: usize, turns: usize) {
        let Matrix { data, rows, columns, down, across } = self.matrix;
        let (lines, to_line, depth, to_depth) = match self.side {
            Side::Left => (rows, down, columns, across),
            Side::Right => (columns, across, rows, down),
        };
        let (lines, depth) = (LINES.min(lines.saturating_sub(line)), depth - self.top);
        let from = data.wrapping_add(line * to_line + self.top * to_depth);
        let (spans, to_span, floats) = if to_depth == 1 { (lines, to_line, depth) } else { (depth, to_depth, lines) };
        for span in spans * turn / turns..spans * (turn + 1) / turns {
            for float in (0..floats).step_by(LANES) {
                _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(span * to_span + float).cast());
            }
        }
    }

    /// The panel from `line` on.
    #[target_feature(enable = "avx512f")]
    unsafe fn pack(&self, line: usize, panel: &mut [Tile]) {
        let [mut room, mut other] = [const { Room(MaybeUninit::uninit()) }; 2];
        for (i, tiles) in panel.chunks_exact_mut(TILES).enumerate() {
            let depth = self.top + i * STEP;
            for half in 0..2 {
                let line = line + half * LANES;
                // A pair is of elements a register apart, so that two registers are sixteen pairs, on either side.
                let (first, second) = match self.side {
                    Side::Left => ((line, depth), (line, depth + LANES)),
                    Side::Right => ((depth, line), (depth + LANES, line)),
                };
                // SAFETY: the matrix is alive, and so is the room of a block; both blocks have sixteen rows.
                unsafe {
                    let first = Block::of(self.matrix, first, &mut room);
                    let second = Block::of(self.matrix, second, &mut other);
                    for row in 0..LANES {
                        let parts = split([first.row(row), second.row(row)]);
                        for (part, pairs) in parts.into_iter().enumerate() {
                            _mm512_store_si512(tiles[2 * part + half].0[row].as_mut_ptr().cast(), pairs);
                        }
                    }
                }
            }
        }
    }
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
    unsafe fn of(matrix: Matrix, (row, column): (usize, usize), room: &mut Room) -> Block {
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

/// Pairs of floats as pairs of bf16: their high, middle and low parts. The first two are rounded to the nearest, what is left of a float after
/// them has at most 8 significant bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn split(mut pair: [__m512; 2]) -> [__m512i; PARTS] {
    /// Half of the last place of a bf16.
    const HALF: i32 = 0x8000;
    /// Of `(shifted, second, upper)`: the second where `upper` is set.
    const SELECT: i32 = 0xD8;
    let upper = _mm512_set1_epi32(!0xFFFF);
    let mut parts = [_mm512_setzero_si512(); PARTS];
    for (i, part) in parts.iter_mut().enumerate() {
        let half = _mm512_set1_epi32(if i + 1 < PARTS { HALF } else { 0 });
        let [first, second] = pair.map(|x| _mm512_add_epi32(_mm512_castps_si512(x), half));
        *part = _mm512_ternarylogic_epi32::<SELECT>(_mm512_srli_epi32::<16>(first), second, upper);
        let rounded = |x| _mm512_castsi512_ps(_mm512_and_si512(x, upper));
        pair = [_mm512_sub_ps(pair[0], rounded(first)), _mm512_sub_ps(pair[1], rounded(second))];
    }
    parts
}

/// The matrix unit, told the sizes of its tiles; given back when dropped.
struct Unit;

impl Unit {
    fn configured() -> Unit {
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            bytes: [u16; 16],
            rows: [u8; 16],
        }
        static ALL_OF_A_SIZE: Config = {
            let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
            let mut tile = 0;
            while tile < 8 {
                config.bytes[tile] = 4 * LANES as u16;
                config.rows[tile] = LANES as u8;
                tile += 1;
            }
            config
        };
        // SAFETY: the unit is there and permitted.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &ALL_OF_A_SIZE, options(nostack, preserves_flags)) };
        Unit
    }

    /// Sums of the products of two panels of the same depth.
    ///
    /// Tiles 0 to 3 are the sums, 4 and 5 a part of the left operand, 6 and 7 one of the right operand. From one product of parts to the next
    /// only one operand's changes.
    #[inline]
    fn multiply(&self, left: &[Tile], right: &[Tile]) -> Sums {
        assert!(left.len() == right.len() && !left.is_empty() && left.len().is_multiple_of(TILES));
        /// A part of a step of an operand, to two tiles.
        macro_rules! load {
            ($operand:literal, $part:literal, $one:literal, $two:literal) => {
                concat!(
                    concat!("tileloadd ", $one, ", [{", $operand, "} + {line} + {part} * {", $part, "}]\n"),
                    concat!("tileloadd ", $two, ", [{", $operand, "} + {line} + {part} * {", $part, "} + {tile}]"),
                )
            };
        }
        macro_rules! add {
            () => {
                "tdpbf16ps tmm0, tmm4, tmm6\n tdpbf16ps tmm1, tmm4, tmm7\n tdpbf16ps tmm2, tmm5, tmm6\n tdpbf16ps tmm3, tmm5, tmm7"
            };
        }
        let mut sums = MaybeUninit::<Sums>::uninit();
        // SAFETY: both panels have tiles for as many steps as the loop makes; all of the sums are written.
        unsafe {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "2:",
                load!("left", "low", "tmm4", "tmm5"),
                load!("right", "high", "tmm6", "tmm7"), add!(),
                load!("left", "middle", "tmm4", "tmm5"), add!(),
                load!("right", "middle", "tmm6", "tmm7"), add!(),
                load!("left", "high", "tmm4", "tmm5"), add!(),
                load!("right", "low", "tmm6", "tmm7"), add!(),
                load!("right", "high", "tmm6", "tmm7"), add!(),
                "add {left}, {tiles}", "add {right}, {tiles}",
                "dec {steps}", "jnz 2b",
                "tilestored [{sums} + 2 * {line}], tmm0", "tilestored [{sums} + 2 * {line} + {row}], tmm1",
                "tilestored [{sums} + 2 * {line} + 2 * {tile}], tmm2",
                "tilestored [{sums} + 2 * {line} + 2 * {tile} + {row}], tmm3",
                left = inout(reg) left.as_ptr() => _,
                right = inout(reg) right.as_ptr() => _,
                steps = inout(reg) left.len() / TILES => _,
                sums = in(reg) sums.as_mut_ptr(),
                line = in(reg) size_of::<[u32; LANES]>(),
                row = const size_of::<[f32; LANES]>(),
                tile = const size_of::<Tile>(),
                part = const 2 * size_of::<Tile>(),
                high = const 0, middle = const 1, low = const 2,
                tiles = const TILES * size_of::<Tile>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
            sums.assume_init()
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: the unit has been configured by this thread.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

impl Sums {
    /// Finishes and stores what belongs to `rows` and `width` columns of `place`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn put(&self, place: &Place, rows: Range<usize>, width: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match place.finish {
                BIAS_RELU => self.finish::<BIAS_RELU>(place, rows, width),
                RELU => self.finish::<RELU>(place, rows, width),
                _ => self.finish::<STORE>(place, rows, width),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn finish<const FINISH: u8>(&self, place: &Place, rows: Range<usize>, width: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match width.div_ceil(LANES) {
                2 => self.registers::<2, FINISH>(place, rows),
                _ => self.registers::<1, FINISH>(place, rows),
            }
        }
    }

    /// V registers of every row.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn registers<const V: usize, const FINISH: u8>(&self, place: &Place, rows: Range<usize>) {
        for (row, sums) in rows.zip(&self.0) {
            for v in 0..V {
                // SAFETY: a register is within a row of the sums, and by the caller's promise within the place.
                unsafe {
                    let sum = _mm512_load_ps(sums.as_ptr().add(v * LANES));
                    place.put::<FINISH>(row, v, v + 1 == V, sum);
                }
            }
        }
    }
}
