//! Rows of a left operand against one panel of the right one, in registers of sixteen floats.

/// Gives a `Strip` that has `rows` and a `place`, and a `tile` of R rows by V registers, the walk over all its tiles.
///
/// A macro, because a function cannot take in a `tile` that needs more instructions than itself.
macro_rules! strips {
    ($features:literal) => {
        impl Strip {
            /// Over a panel of `width` columns.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn run(&self, width: usize) {
                use super::place::{BIAS_RELU, RELU, SCALED_RELU, STORE};
                // SAFETY: the caller's promise, here and below.
                unsafe {
                    match self.place.finish {
                        BIAS_RELU => self.registers::<BIAS_RELU>(width),
                        RELU => self.registers::<RELU>(width),
                        SCALED_RELU => self.registers::<SCALED_RELU>(width),
                        _ => self.registers::<STORE>(width),
                    }
                }
            }

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn registers<const FINISH: u8>(&self, width: usize) {
                unsafe {
                    match width.div_ceil(super::lanes::LANES) {
                        4 => self.tiles::<4, FINISH>(),
                        3 => self.tiles::<3, FINISH>(),
                        2 => self.tiles::<2, FINISH>(),
                        _ => self.tiles::<1, FINISH>(),
                    }
                }
            }

            /// Tile by tile, as many rows as registers allow: enough independent sums to hide the latency of one.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn tiles<const V: usize, const FINISH: u8>(&self) {
                let mut row = 0;
                while row < self.rows {
                    // SAFETY: rows `row..row + R` exist; the caller's promise for the rest.
                    unsafe {
                        row += match self.rows - row {
                            12.. if V <= 2 => self.tile::<12, V, FINISH>(row),
                            8.. if V <= 3 => self.tile::<8, V, FINISH>(row),
                            6.. => self.tile::<6, V, FINISH>(row),
                            4.. => self.tile::<4, V, FINISH>(row),
                            2.. => self.tile::<2, V, FINISH>(row),
                            _ => self.tile::<1, V, FINISH>(row),
                        };
                    }
                }
            }
        }
    };
}
pub(super) use strips;
