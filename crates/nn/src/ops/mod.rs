//! Fused element-wise passes on contiguous f32 tensors.
//!
//! On the CPU they are kernels on slices ([`drcorl_kernels`], with the formulas), compiled for the instruction sets
//! found at run time: libtorch's Mish needs 7 ns an element (a scalar log1p), ours below 1 ns; Adam written in tensor
//! operations reads and writes the vectors eleven times, here once.
//! On any other device the same formulas are tensor operations.

mod activations;
mod heads;
mod losses;
mod norms;
mod parts;
mod steps;

pub use activations::*;
pub use heads::*;
pub use losses::*;
pub use norms::*;
pub use steps::*;

#[cfg(test)]
mod tests;
