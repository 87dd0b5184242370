//! Which inputs of a row are not zero, or of a few rows taken together.

use std::mem::MaybeUninit;

use super::register::Register;

/// Inputs of a layer up to which zeros are looked for.
pub(super) const MOST_INPUTS: usize = 1024;

/// Inputs looked at together.
const WORD: usize = u64::BITS as usize;

/// Numbers of the bits that are set in every byte, from the lowest.
static BITS: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut count) = (0, 0);
        while bit < 8 {
            table[byte][count] = bit;
            // What is written for a bit that is not set is overwritten, or lies behind the last.
            count += byte >> bit & 1;
            bit += 1;
        }
        byte += 1;
    }
    table
};

/// Indices of the inputs that are not zero in every row, in order.
pub(super) struct Active {
    /// Eight are written at a time. To set them to zero before would take longer than to list them.
    indices: [MaybeUninit<u16>; MOST_INPUTS + 8],
    count: usize,
}

impl Active {
    /// Of no row.
    #[inline(always)]
    pub fn none() -> Active {
        Active { indices: [MaybeUninit::uninit(); MOST_INPUTS + 8], count: 0 }
    }

    /// Lists what is not zero in all of `rows`, of `inputs <= MOST_INPUTS` numbers each.
    ///
    /// # Safety
    /// The processor must have the instructions of `V`.
    #[inline(always)]
    pub unsafe fn fill<V: Register, const R: usize>(&mut self, rows: [&[f32]; R], inputs: usize) {
        self.count = 0;
        for first in (0..inputs).step_by(WORD) {
            let end = inputs.min(first + WORD);
            let word = rows.iter().fold(0, |word, row| word | V::not_zero(&row[first..end]));
            for (byte, bits) in word.to_le_bytes().into_iter().enumerate().take((end - first).div_ceil(8)) {
                let base = (first + 8 * byte) as u16;
                // A branch for every number would be foreseen every other time.
                for (index, &bit) in self.indices[self.count..][..8].iter_mut().zip(&BITS[usize::from(bits)]) {
                    index.write(base + u16::from(bit));
                }
                self.count += bits.count_ones() as usize;
            }
        }
    }

    /// Each is below the number of inputs it was filled with.
    #[inline(always)]
    pub fn indices(&self) -> &[u16] {
        let indices = &self.indices[..self.count];
        // SAFETY: `fill` has written as many as it counted.
        unsafe { std::slice::from_raw_parts(indices.as_ptr().cast(), indices.len()) }
    }
}
