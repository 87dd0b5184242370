//! Rows picked from a batch.

use crate::sums::LANES;

/// The rows of `values [B,n]`, rows of `width` numbers, that are not all 0; NaN is not 0.
pub fn rows_not_zero(values: &[f32], width: usize) -> Vec<i64> {
    let rows = values.chunks_exact(width);
    (0..).zip(rows).filter_map(|(i, row)| row.iter().any(|&x| x != 0.0).then_some(i)).collect()
}

/// `to [N,h]` becomes `rows` of `from [B,h]`, rows of `width` numbers.
///
/// # Panics
/// If there is no such row.
pub fn pick_rows(from: &[f32], width: usize, rows: &[i64], to: &mut [f32]) {
    /// Rows that are fetched before they are copied: no processor foresees which.
    const AHEAD: usize = 4;
    let row = |n: usize| &from[rows[n] as usize * width..][..width];
    for (n, to) in to.chunks_exact_mut(width).enumerate() {
        #[cfg(target_arch = "x86_64")]
        if n + AHEAD < rows.len() {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            for line in row(n + AHEAD).chunks(LANES) {
                // SAFETY: every x86-64 processor has the instruction, which reads nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
            }
        }
        to.copy_from_slice(row(n));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_picked_in_their_order() {
        let from: Vec<f32> = (0..9 * 37).map(|i| i as f32).collect();
        let rows = [4i64, 0, 8, 8, 1, 2, 3];
        let mut to = vec![0.0; 7 * 37];
        pick_rows(&from, 37, &rows, &mut to);
        let expected: Vec<f32> = rows.iter().flat_map(|&row| from[row as usize * 37..][..37].to_vec()).collect();
        assert_eq!(to, expected);
    }

    #[test]
    fn a_row_of_zeros_is_one_of_either_sign() {
        let values = [0.0, -0.0, 1.0, 0.0, f32::NAN, 0.0, 0.0, 0.0];
        assert_eq!(rows_not_zero(&values, 2), [1, 2]);
        assert_eq!(rows_not_zero(&[], 2), []);
    }
}
