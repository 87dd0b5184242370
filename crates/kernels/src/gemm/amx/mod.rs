//! Products by the matrix unit of Intel's processors since Sapphire Rapids (AMX), to the accuracy of f32.
//!
//! The unit multiplies tiles of bf16, which have 8 significant bits, and sums in f32: sixteen times as many products a
//! cycle as AVX-512 makes of f32. The 24 significant bits of a float are those of three bf16, `x = high + middle + low`
//! without a remainder. Of the nine products of two such sums six are made; the three that are left out (middle by low,
//! twice, and low by low) come to 2^-24 of the whole at most, which is one rounding of f32. The unit sums 16 products
//! before it adds them to an element, so that there are fewer roundings than in a chain of fused multiply-adds: the
//! error of a single product is that of f32, of sums of 8 products or more half of it.
//! A factor of ones and zeros is a bf16 as it is, so that its products are three, and none is left out.
//!
//! At a lower [`Precision`] a factor is the sum of its first two parts, or the high one alone, which are then all that
//! a panel holds. Of two parts three products are made, and what is left out comes to 2^-16 of the whole, three times
//! at most; of one, one, and the operands' rounding to 2^-7. Factors of ones and zeros take two products, or one.
//!
//! What lies below the normal floats counts as 0, also as a part of a factor: factors below 2^-102 lose their last
//! bits. An infinite factor gives NaN, but where it has one part.
//!
//! Reading order: [`panel`] makes tiles of operands, [`unit`] multiplies them, this file goes through a product,
//! [`head`] is one that stores no matrix.

mod head;
mod panel;
mod unit;

pub(super) use head::head;

use super::lanes::LANES;
use super::matrix::{Raw, RawFinish};
use super::place::Place;
use super::{Gates, Multiply, Precision};
use panel::{tiles, Columns, GateColumns, GateRows, Left, Rows, Tile, ALL, EMPTY, STEP};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;
use unit::{Sums, Unit};

/// Most rows of the right operand that are multiplied before their products are added to the result;
/// deeper products are cut into equal parts.
pub(super) const DEPTH: usize = 256;
/// Rows and columns of the result that are summed together, in four tiles;
/// a panel has so many rows of the left operand, or columns of the right one.
const LINES: usize = 2 * LANES;
/// Panels of the right operand that are made before the left one's, which are then used for all of them:
/// 768 kB of three parts at most.
const PANELS: usize = 16;
/// Most columns of a result whose rows are finished one panel of rows after the other.
pub(super) const WIDTH: usize = PANELS * LINES;

thread_local! {
    /// Panels of both operands, kept for the next product.
    static ROOM: RefCell<Vec<Tile>> = const { RefCell::new(Vec::new()) };
}

/// True on a processor with AMX, where the system lets us use it.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| super::avx512::available() && unit::exists() && unit::permitted())
}

/// `$call` with `$parts` as the number of parts that are multiplied at a precision, known when the code is compiled.
macro_rules! at {
    ($precision:expr, $parts:ident => $call:expr) => {
        match $precision {
            Precision::Highest => {
                const $parts: usize = ALL;
                $call
            }
            Precision::High => {
                const $parts: usize = 2;
                $call
            }
            Precision::Medium => {
                const $parts: usize = 1;
                $call
            }
        }
    };
}
use at;

/// The product at a precision: `out = a b`, finished; there must be at least one row in `b`, and rows or columns of
/// both must be dense.
pub(super) fn multiply(precision: Precision) -> Multiply {
    at!(precision, PARTS => of_parts::<PARTS>)
}

#[target_feature(enable = "avx512f")]
unsafe fn of_parts<const PARTS: usize>(out: Raw, a: Raw, b: Raw, finish: RawFinish) {
    // SAFETY: the caller's promise.
    unsafe { into_matrix(out, &Rows::<PARTS>(a), &Columns::<PARTS> { matrix: b, scale: None }, finish) }
}

/// `out = gates diag(scale) b`, or with the gates transposed, finished;
/// there must be at least one row in `b`, and its rows must be dense.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn through_gates(
    precision: Precision,
    out: Raw,
    (gates, transposed): (&Gates, bool),
    scale: &[f32],
    b: Raw,
    finish: RawFinish,
) {
    // SAFETY: the caller's promise.
    at!(precision, PARTS => unsafe {
        let right = Columns::<PARTS> { matrix: b, scale: Some(scale) };
        if transposed {
            into_matrix(out, &GateColumns(gates), &right, finish)
        } else {
            into_matrix(out, &GateRows(gates), &right, finish)
        }
    })
}

#[target_feature(enable = "avx512f")]
unsafe fn into_matrix<L: Left, const PARTS: usize>(out: Raw, left: &L, right: &Columns<PARTS>, finish: RawFinish) {
    let depth = right.matrix.rows;
    let block = depth.div_ceil(depth.div_ceil(DEPTH)).next_multiple_of(STEP);
    let unit = Unit::configured();
    for top in (0..depth).step_by(block) {
        let part = top..depth.min(top + block);
        let mut store = Store { out, finish, first: top == 0, last: part.end == depth };
        // SAFETY: the caller's promise.
        unsafe { product(&unit, (out.rows, out.columns), left, right, part, &mut store) };
    }
}

/// Where sums of products go.
trait Sink {
    /// Takes the sums for a place, which `multiply` makes; those of a panel of rows come one after the other. While the
    /// unit multiplies, what was begun to be fetched before comes near.
    unsafe fn take(&mut self, rows: Range<usize>, columns: Range<usize>, multiply: impl FnOnce() -> Sums);
}

/// Goes through a product of `rows` by `columns`, the part `depth` of its sums.
#[target_feature(enable = "avx512f")]
unsafe fn product<L: Left, const PARTS: usize>(
    unit: &Unit,
    (rows, columns): (usize, usize),
    left: &L,
    right: &Columns<PARTS>,
    depth: Range<usize>,
    sink: &mut impl Sink,
) {
    let steps = depth.len().div_ceil(STEP);
    ROOM.with_borrow_mut(|room| {
        room.resize(room.len().max((1 + PANELS) * steps * tiles(PARTS)), EMPTY);
        let (left_panel, right_panels) = room.split_at_mut(steps * tiles(L::PARTS));
        for begin in (0..columns).step_by(WIDTH) {
            let places = (begin..columns.min(begin + WIDTH)).step_by(LINES);
            let turns = places.len();
            // SAFETY: rows and columns are within the matrices; the unit has been configured.
            unsafe {
                left.fetch(&depth, 0, (0, 1));
                right.fetch(&depth, begin);
                for row in (0..rows).step_by(LINES) {
                    let rows = row..rows.min(row + LINES);
                    left.pack(&depth, row, left_panel);
                    for (turn, (column, right_panel)) in
                        places.clone().zip(right_panels.chunks_exact_mut(steps * tiles(PARTS))).enumerate()
                    {
                        if row == 0 {
                            right.pack(&depth, column, right_panel);
                            right.fetch(&depth, column + LINES);
                        }
                        let columns = column..columns.min(column + LINES);
                        left.fetch(&depth, row + LINES, (turn, turns));
                        sink.take(rows.clone(), columns, || unit.multiply((L::PARTS, PARTS), left_panel, right_panel));
                    }
                }
            }
        }
    });
}

/// A matrix whose elements are finished as [`Place`] knows.
struct Store {
    out: Raw,
    finish: RawFinish,
    first: bool,
    last: bool,
}

impl Sink for Store {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn take(&mut self, rows: Range<usize>, columns: Range<usize>, multiply: impl FnOnce() -> Sums) {
        // SAFETY: the caller promises that there are these rows and columns.
        unsafe {
            let place = Place::of(self.out, columns.start, columns.len(), self.finish, self.first, self.last);
            place.fetch(rows.clone(), columns.len());
            multiply().put(&place, rows, columns.len());
        }
    }
}
