//! What a processor's vector units can do at most: multiply-adds of registers that meet no memory.

use crate::instruction_set::Level;
use crate::InstructionSet;
use std::hint::black_box;

/// The formula.
pub mod plain {
    /// A number after `rounds` multiply-adds.
    pub fn multiply_add(start: f64, rounds: usize, factor: f64, addend: f64) -> f64 {
        (0..rounds).fold(start, |x, _| x * factor + addend)
    }
}

/// Registers that wait for nobody: more than the latency of a multiply-add times those that begin in a cycle, and no
/// more than a processor with AVX2 has names for.
const CHAINS: usize = 12;

/// Floating point operations of [`multiply_add`]; none where the target of the compiler says what a register is.
pub fn flop(set: InstructionSet, rounds: usize) -> Option<f64> {
    let lanes = match set.0 {
        Level::Portable => None,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => Some(8),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => Some(16),
    };
    lanes.map(|lanes: usize| (2 * CHAINS * lanes * rounds) as f64)
}

/// [`plain::multiply_add`] of registers full of 0, 1, 2 and so on.
pub fn multiply_add(set: InstructionSet, rounds: usize, factor: f32, addend: f32) -> [f32; CHAINS] {
    // Hidden from the compiler, which would make one chain of several that it can derive from each other.
    let starts = black_box(std::array::from_fn(|chain| chain as f32));
    match set.0 {
        Level::Portable => {
            starts.map(|start| plain::multiply_add(start.into(), rounds, factor.into(), addend.into()) as f32)
        }
        // SAFETY: an instruction set is proof of its features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(starts, rounds, factor, addend) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(starts, rounds, factor, addend) },
    }
}

/// The same for an instruction set: its name, its features, its broadcast, multiply-add and first lane.
#[cfg(target_arch = "x86_64")]
macro_rules! registers {
    ($name:ident, $features:literal, $set:ident, $multiply_add:ident, $first:ident) => {
        #[target_feature(enable = $features)]
        fn $name(starts: [f32; CHAINS], rounds: usize, factor: f32, addend: f32) -> [f32; CHAINS] {
            use std::arch::x86_64::*;
            let (factor, addend) = ($set(factor), $set(addend));
            let mut chains = starts.map(|start| $set(start));
            for _ in 0..rounds {
                for chain in &mut chains {
                    *chain = $multiply_add(*chain, factor, addend);
                }
            }
            // Every lane, lest the compiler compute one alone.
            black_box(chains).map(|chain| $first(chain))
        }
    };
}
#[cfg(target_arch = "x86_64")]
registers!(avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32);
#[cfg(target_arch = "x86_64")]
registers!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32);
