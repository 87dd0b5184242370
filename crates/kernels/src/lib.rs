//! Numerical kernels on `f32` slices: what training steps and policies at play spend their time in.
//!
//! A module begins with `plain`: the formulas in f64, one row or one number at a time, as one writes them down. Read
//! those first. The kernels below them compute the same for whole slices, once for each [`InstructionSet`] a processor
//! may have, and `tests/instruction_sets` compares every kernel with its formula on every set this processor has; sets
//! it has not are counted as ignored. A kernel given the same numbers and set gives the same bits,
//! and AVX2 and AVX-512 give the same bits as each other.
//!
//! Sizes are the caller's promise. Of slices that disagree, the elements that have no partner are left alone, or the
//! kernel panics; nothing is read or written outside of them.
//!
//! | module | what |
//! |---|---|
//! | [`activations`] | Mish, GELU, ReLU with their derivatives; biases |
//! | [`affine`] | a layer for rows, as policies at play use it |
//! | [`attention`] | causal attention, forward and backward |
//! | [`conv`] | convolutions along sequences, and their gradients, as planners at play use them |
//! | [`dropout`] | masks that are hashes |
//! | [`gated`] | two last layers whose ReLU is kept as bits, on the matrix unit |
//! | [`gemm`] | matrix products on AVX2, AVX-512, AVX512-BF16 and the matrix unit (AMX) |
//! | [`group_norms`] | group norms of sequences |
//! | [`heads`] | a layer with one number as output |
//! | [`losses`] | squared errors, Gaussian likelihood |
//! | [`math`] | exp and the normal distribution without branches |
//! | [`norms`] | layer norms |
//! | [`peak`] | what the vector units can do at most |
//! | [`rows`] | rows picked from a batch |
//! | [`steps`] | Adam, running averages |

pub mod activations;
pub mod affine;
pub mod attention;
pub mod conv;
pub mod dropout;
pub mod gated;
pub mod gemm;
pub mod group_norms;
pub mod heads;
mod instruction_set;
pub mod losses;
pub mod math;
pub mod norms;
pub mod peak;
pub mod rows;
pub mod steps;
mod sums;

pub use dropout::Dropout;
pub use instruction_set::{cpu_features, InstructionSet};
pub use sums::LANES;
