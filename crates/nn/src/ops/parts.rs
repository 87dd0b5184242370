//! Passes over memory, part by part where they are long enough for several threads.

use super::Span;
use crate::threads;

/// Most elements of a part: 256 kB a slice, so that those of a pass stay in the second-level cache.
const PART: i64 = 1 << 16;
/// What an element takes, in floating point operations: half a nanosecond to one, most of it for the way to memory.
const COST: i64 = 64;

/// `pass(offset, len)` over the parts of `spans`.
///
/// # Safety
/// As of [`threads::each_with_tensors`]: a pass writes nothing beyond its elements.
pub(super) unsafe fn over(spans: &[Span], pass: impl Fn(usize, usize)) {
    // SAFETY: the caller's promise.
    unsafe { in_parts(spans, PART, pass) };
}

/// As [`over`], of `len` elements in rows of `width`, which are not divided.
///
/// # Safety
/// As of [`over`].
pub(super) unsafe fn over_rows(len: usize, width: usize, pass: impl Fn(usize, usize)) {
    let width = width.max(1) as i64;
    // SAFETY: the caller's promise.
    unsafe { in_parts(&[(0, len as i64)], width * (PART / width).max(1), pass) };
}

unsafe fn in_parts(spans: &[Span], most: i64, pass: impl Fn(usize, usize)) {
    let total = spans.iter().map(|(_, len)| len).sum::<i64>();
    if !threads::shares(COST * total) {
        return spans.iter().for_each(|&(offset, len)| pass(offset as usize, len as usize));
    }
    let cut = |&(offset, len): &Span| {
        let begins = (0..len).step_by(most as usize);
        begins.map(move |begin| ((offset + begin) as usize, most.min(len - begin) as usize))
    };
    let parts: Vec<(usize, usize)> = spans.iter().flat_map(cut).collect();
    // SAFETY: the caller's promise; parts do not overlap, since spans do not.
    unsafe { threads::each_with_tensors(parts.len(), COST * total, |i| pass(parts[i].0, parts[i].1)) };
}

/// `pass(first, count)` over the columns of `[rows,width]`, for what is summed over rows, which stay in their order.
///
/// # Safety
/// As of [`over`]: a pass writes its columns alone.
pub(super) unsafe fn over_columns(rows: usize, width: usize, pass: impl Fn(usize, usize)) {
    /// Of a part: a call a row must be worth its while.
    const COLUMNS: usize = 128;
    let cost = COST * (rows * width) as i64;
    if !threads::shares(cost) {
        return pass(0, width);
    }
    let pass = |i: usize| pass(i * COLUMNS, COLUMNS.min(width - i * COLUMNS));
    // SAFETY: the caller's promise.
    unsafe { threads::each_with_tensors(width.div_ceil(COLUMNS), cost, pass) };
}
