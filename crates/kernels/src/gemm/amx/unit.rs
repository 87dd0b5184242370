//! The matrix unit itself.

use super::super::lanes::LANES;
use super::super::place::{Place, BIAS_RELU, RELU, SCALED_RELU, STORE};
use super::panel::{tiles, Tile};
use super::LINES;
use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// True on a processor with the unit.
pub(super) fn exists() -> bool {
    /// Tiles, and products of bf16 (CPUID, leaf 7, EDX).
    const NEEDED: u32 = 1 << 24 | 1 << 22;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & NEEDED == NEEDED
}

/// Linux keeps the unit's registers only for processes that have asked for it.
#[cfg(target_os = "linux")]
pub(super) fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call has no memory to write to.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn permitted() -> bool {
    false
}

/// The matrix unit, told the sizes of its tiles; given back when dropped.
pub(super) struct Unit;

/// Assembly that loads a part of a step of an operand to two tiles.
macro_rules! load {
    ($operand:literal, $part:literal, $one:literal, $two:literal) => {
        concat!(
            concat!("tileloadd ", $one, ", [{", $operand, "} + {line} + {part} * {", $part, "}]\n"),
            concat!("tileloadd ", $two, ", [{", $operand, "} + {line} + {part} * {", $part, "} + {tile}]"),
        )
    };
}

/// Assembly that adds the products of a part of the left operand, tiles 4 and 5, and one of the right operand, 6 and 7,
/// to the sums, 0 to 3.
macro_rules! add {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6\n tdpbf16ps tmm1, tmm4, tmm7\n tdpbf16ps tmm2, tmm5, tmm6\n tdpbf16ps tmm3, tmm5, tmm7"
    };
}

/// Runs `$step` for every step of two panels, the right one of `$parts` parts, and gives the sums.
macro_rules! sums {
    ($left:expr, $right:expr, $parts:literal, [$($step:expr),* $(,)?]) => {{
        let (left, right) = ($left, $right);
        let mut sums = MaybeUninit::<Sums>::uninit();
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            $($step,)*
            "add {left}, {left_step}", "add {right}, {right_step}",
            "dec {steps}", "jnz 2b",
            "tilestored [{sums} + 2 * {line}], tmm0", "tilestored [{sums} + 2 * {line} + {row}], tmm1",
            "tilestored [{sums} + 2 * {line} + 2 * {tile}], tmm2",
            "tilestored [{sums} + 2 * {line} + 2 * {tile} + {row}], tmm3",
            "/* {part} {high} {middle} {low} */",
            left = inout(reg) left.as_ptr() => _,
            right = inout(reg) right.as_ptr() => _,
            steps = inout(reg) right.len() / tiles($parts) => _,
            sums = in(reg) sums.as_mut_ptr(),
            line = in(reg) size_of::<[u32; LANES]>(),
            row = const size_of::<[f32; LANES]>(),
            tile = const size_of::<Tile>(),
            part = const 2 * size_of::<Tile>(),
            high = const 0, middle = const 1, low = const 2,
            left_step = in(reg) left.len() * tiles($parts) / right.len() * size_of::<Tile>(),
            right_step = const tiles($parts) * size_of::<Tile>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
        sums.assume_init()
    }};
}

impl Unit {
    pub(super) fn configured() -> Unit {
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

    /// Sums of the products of two panels of the same depth and so many parts, as many in both, or one in the left:
    /// of those parts' products that [`Precision`] says are made.
    ///
    /// [`Precision`]: super::super::Precision
    #[inline]
    pub(super) fn multiply(&self, parts: (usize, usize), left: &[Tile], right: &[Tile]) -> Sums {
        assert!(!right.is_empty() && right.len().is_multiple_of(tiles(parts.1)));
        assert!(left.len() * parts.1 == right.len() * parts.0, "panels of the same depth");
        // SAFETY: both panels have tiles for as many steps as the loops make, of the parts that they load; all of the
        // sums are written. From one product of parts to the next only one operand's changes.
        match parts {
            (3, 3) => unsafe {
                sums!(
                    left,
                    right,
                    3,
                    [
                        load!("left", "low", "tmm4", "tmm5"),
                        load!("right", "high", "tmm6", "tmm7"),
                        add!(),
                        load!("left", "middle", "tmm4", "tmm5"),
                        add!(),
                        load!("right", "middle", "tmm6", "tmm7"),
                        add!(),
                        load!("left", "high", "tmm4", "tmm5"),
                        add!(),
                        load!("right", "low", "tmm6", "tmm7"),
                        add!(),
                        load!("right", "high", "tmm6", "tmm7"),
                        add!(),
                    ]
                )
            },
            (1, 3) => unsafe {
                sums!(
                    left,
                    right,
                    3,
                    [
                        load!("left", "high", "tmm4", "tmm5"),
                        load!("right", "low", "tmm6", "tmm7"),
                        add!(),
                        load!("right", "middle", "tmm6", "tmm7"),
                        add!(),
                        load!("right", "high", "tmm6", "tmm7"),
                        add!(),
                    ]
                )
            },
            (2, 2) => unsafe {
                sums!(
                    left,
                    right,
                    2,
                    [
                        load!("left", "middle", "tmm4", "tmm5"),
                        load!("right", "high", "tmm6", "tmm7"),
                        add!(),
                        load!("left", "high", "tmm4", "tmm5"),
                        add!(),
                        load!("right", "middle", "tmm6", "tmm7"),
                        add!(),
                    ]
                )
            },
            (1, 2) => unsafe {
                sums!(
                    left,
                    right,
                    2,
                    [
                        load!("left", "high", "tmm4", "tmm5"),
                        load!("right", "middle", "tmm6", "tmm7"),
                        add!(),
                        load!("right", "high", "tmm6", "tmm7"),
                        add!(),
                    ]
                )
            },
            (1, 1) => unsafe {
                sums!(
                    left,
                    right,
                    1,
                    [load!("left", "high", "tmm4", "tmm5"), load!("right", "high", "tmm6", "tmm7"), add!()]
                )
            },
            _ => unreachable!("a left operand has one part, or as many as the right one"),
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: the unit has been configured by this thread.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// Sums of products for one place of the result.
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; LINES]; LINES]);

impl Sums {
    /// Finishes and stores what belongs to `rows` and `width` columns of `place`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn put(&self, place: &Place, rows: Range<usize>, width: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            match place.finish {
                BIAS_RELU => self.finish::<BIAS_RELU>(place, rows, width),
                RELU => self.finish::<RELU>(place, rows, width),
                SCALED_RELU => self.finish::<SCALED_RELU>(place, rows, width),
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
