//! Which units of a ReLU layer are open.

use crate::kernels::multiversion;

/// A bit for every row of a batch and unit of a layer: 1 where the unit's output is above 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gates {
    units: usize,
    words: Vec<u32>,
}

impl Gates {
    /// Units of a word, the first one's bit the lowest.
    pub(super) const WORD: usize = 32;

    /// All shut.
    pub(crate) fn shut(rows: usize, units: usize) -> Gates {
        Gates { units, words: vec![0; rows * units.div_ceil(Gates::WORD)] }
    }

    fn words_a_row(&self) -> usize {
        self.units.div_ceil(Gates::WORD)
    }

    pub(crate) fn units(&self) -> usize {
        self.units
    }

    pub(crate) fn rows(&self) -> usize {
        self.words.len() / self.words_a_row()
    }

    /// A word of a row; 0 beyond the last row.
    #[inline(always)]
    pub(super) fn word(&self, row: usize, index: usize) -> u32 {
        self.words.get(row * self.words_a_row() + index).copied().unwrap_or(0)
    }

    pub(super) fn set_word(&mut self, row: usize, index: usize, word: u32) {
        let place = row * self.words_a_row() + index;
        self.words[place] = word;
    }

    /// Some rows, one after the other.
    pub(crate) fn pick(&self, rows: &[i64]) -> Gates {
        let width = self.words_a_row();
        let words = rows.iter().flat_map(|&row| &self.words[row as usize * width..][..width]).copied().collect();
        Gates { words, ..*self }
    }

    /// `out[unit]` becomes the sum of `scale[row]` over the rows in which the unit is open.
    pub(crate) fn weighted_sums(&self, scale: &[f32], out: &mut [f32]) {
        assert_eq!((self.rows(), self.units), (scale.len(), out.len()), "a number a row, a sum a unit");
        out.fill(0.0);
        weighted_sums_cpu(&self.words, scale, out);
    }
}

multiversion! {
    fn weighted_sums_cpu(words: &[u32], scale: &[f32], out: &mut [f32]) {
        for (words, &scale) in words.chunks_exact(out.len().div_ceil(Gates::WORD)).zip(scale) {
            for (&word, out) in words.iter().zip(out.chunks_mut(Gates::WORD)) {
                for (bit, out) in out.iter_mut().enumerate() {
                    *out += if word >> bit & 1 == 1 { scale } else { 0.0 };
                }
            }
        }
    }
}
