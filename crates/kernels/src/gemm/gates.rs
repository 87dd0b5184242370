//! Which units of a ReLU layer are open.

use crate::instruction_set::multiversion;
use crate::InstructionSet;

/// A bit for every row of a batch and unit of a layer: 1 where the unit's output is above 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates {
    units: usize,
    words: Vec<u32>,
}

impl Gates {
    /// Units of a word, the first one's bit the lowest.
    pub(super) const WORD: usize = 32;

    /// All shut.
    pub fn shut(rows: usize, units: usize) -> Gates {
        Gates { units, words: vec![0; rows * units.div_ceil(Gates::WORD)] }
    }

    fn words_a_row(&self) -> usize {
        self.units.div_ceil(Gates::WORD)
    }

    /// Units of the layer.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.words.len() / self.words_a_row()
    }

    /// True if a unit is open in a row.
    ///
    /// # Panics
    /// If there is no such row or unit.
    pub fn is_open(&self, row: usize, unit: usize) -> bool {
        assert!(row < self.rows() && unit < self.units, "no such gate");
        self.word(row, unit / Gates::WORD) >> (unit % Gates::WORD) & 1 == 1
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
    pub fn pick(&self, rows: &[i64]) -> Gates {
        let width = self.words_a_row();
        let words = rows.iter().flat_map(|&row| &self.words[row as usize * width..][..width]).copied().collect();
        Gates { words, ..*self }
    }

    /// `out[unit]` becomes the sum of `scale[row]` over the rows in which the unit is open.
    pub fn weighted_sums(&self, set: InstructionSet, scale: &[f32], out: &mut [f32]) {
        assert_eq!((self.rows(), self.units), (scale.len(), out.len()), "a number a row, a sum a unit");
        out.fill(0.0);
        weighted_sums(set, &self.words, scale, out);
    }
}

multiversion! {
    fn weighted_sums(words: &[u32], scale: &[f32], out: &mut [f32]) {
        for (words, &scale) in words.chunks_exact(out.len().div_ceil(Gates::WORD)).zip(scale) {
            for (&word, out) in words.iter().zip(out.chunks_mut(Gates::WORD)) {
                for (bit, out) in out.iter_mut().enumerate() {
                    *out += if word >> bit & 1 == 1 { scale } else { 0.0 };
                }
            }
        }
    }
}
