//! Which inputs of a row are not zero, or of a few rows taken together.

use std::mem::MaybeUninit;

use super::register::Register;

/// Inputs of a layer up to which zeros are looked for.
pub(super) const MOST_INPUTS: usize = 1024;

/// Inputs looked at together.
const WORD: usize = u64::BITS as usize;

/// Numbers of the bits that are set in every byte, from the lowest.
static BITS: [[u16; 8]; 256] = {
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

/// `to[i] = bits[i] + base` for eight numbers; by intrinsics, as [`super::register`] says.
#[inline(always)]
fn write(bits: &[u16; 8], base: u16, to: &mut [MaybeUninit<u16>]) {
    assert!(to.len() >= 8);
    // SAFETY: every x86-64 processor has these instructions; both hold eight numbers.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::*;
        let bits = _mm_loadu_si128(bits.as_ptr().cast());
        _mm_storeu_si128(to.as_mut_ptr().cast(), _mm_add_epi16(bits, _mm_set1_epi16(base.cast_signed())));
    }
    #[cfg(not(target_arch = "x86_64"))]
    for (to, &bit) in to.iter_mut().zip(bits) {
        to.write(base + bit);
    }
}

/// Indices of the inputs that are not zero in a row, or in any of a few, in order.
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

    /// Lists what is not zero in all of `rows` taken together, of `inputs <= MOST_INPUTS` numbers each.
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
                write(&BITS[usize::from(bits)], base, &mut self.indices[self.count..][..8]);
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
