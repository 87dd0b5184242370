//! Matrix products of f32 by code of our own, on x86 processors with AVX2.
//!
//! Four kernels: [`Kernel::Avx2`] and [`Kernel::Avx512`] multiply in registers, [`Kernel::Bf16`] too, at the lowest
//! [`Precision`] alone, and [`Kernel::Amx`], at any, by the matrix unit that Intel's processors have since Sapphire
//! Rapids. The same kernel gives the same bits for the same operands, wherever they lie and whatever comes after: an
//! element's do not depend on the rows and columns beside it, so that a product can be made in parts.
//! There is no portable one: a caller that has none multiplies by a library.
//!
//! The matrix unit also makes the products that only [`crate::gated`] asks for.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod gates;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod matrix;
#[cfg(target_arch = "x86_64")]
mod place;
#[cfg(target_arch = "x86_64")]
mod strips;

pub use gates::Gates;
pub use matrix::{Active, Finish, Matrix, MatrixMut};

use matrix::{Raw, RawFinish};

/// The formulas.
pub mod plain {
    use super::{Active, Finish, Matrix};

    /// The nearest bf16, of two the even one.
    pub fn rounded(x: f32) -> f32 {
        let bits = x.to_bits();
        let carry = if x.is_nan() { 0 } else { 0x7FFF + (bits >> 16 & 1) };
        f32::from_bits(bits.wrapping_add(carry) & 0xFFFF_0000)
    }

    /// `a b`, row after row.
    pub fn product(a: Matrix, b: Matrix) -> Vec<f64> {
        let ([rows, depth], [_, columns]) = (a.size(), b.size());
        let element = |i, j| (0..depth).map(|k| f64::from(a.at(i, k)) * f64::from(b.at(k, j))).sum::<f64>();
        (0..rows * columns).map(|at| element(at / columns, at % columns)).collect()
    }

    /// What becomes of element (i, j) of a product that goes to where `before` is.
    pub fn finish(product: f64, finish: Finish, i: usize, j: usize, before: f32) -> f64 {
        let gate = |active: Active| {
            let active = match active {
                Active::Apart(matrix) => matrix.at(i, j),
                Active::InPlace => before,
            };
            if active > 0.0 {
                product
            } else {
                0.0
            }
        };
        match finish {
            Finish::Nothing => product,
            Finish::Add => f64::from(before) + product,
            Finish::BiasRelu(bias) => (product + f64::from(bias[j])).max(0.0),
            Finish::Relu(active) => gate(active),
            Finish::ScaledRelu(scale, active) => f64::from(scale[i]) * gate(active),
        }
    }
}

/// How exact products of bf16 are, as `torch.set_float32_matmul_precision` calls it. Sums are f32 at all of them.
///
/// A float is the sum of three bf16, each of 2^-8 of the one before at most: high, middle and low.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// To the accuracy of f32: six products of parts, high to low.
    #[default]
    Highest,
    /// Sixteen significant bits of a factor: high by high, and high by middle twice.
    High,
    /// Eight: factors are rounded to the nearest bf16.
    Medium,
}

/// How a product is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    Avx2,
    Avx512,
    /// At [`Precision::Medium`].
    Bf16,
    Amx(Precision),
}

/// `out = a b`, finished, of matching sizes and as dense as [`Kernel::product`] has found them.
type Multiply = unsafe fn(out: Raw, a: Raw, b: Raw, finish: RawFinish);

/// What there is of a kernel on this processor.
struct Code {
    multiply: Multiply,
    /// Most rows of `b` whose products are added up before a result is stored.
    depth: usize,
}

impl Kernel {
    /// None, where the processor lacks what the kernel needs, or the system does not let us use it.
    fn code(self) -> Option<Code> {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Kernel::Avx2 if avx2::available() => Some(Code { multiply: avx2::multiply, depth: avx2::DEPTH }),
            Kernel::Avx512 if avx512::available() => Some(Code { multiply: avx512::multiply, depth: avx512::DEPTH }),
            Kernel::Bf16 if bf16::available() => Some(Code { multiply: bf16::multiply, depth: bf16::DEPTH }),
            Kernel::Amx(precision) if amx::available() => {
                Some(Code { multiply: amx::multiply(precision), depth: amx::DEPTH })
            }
            _ => None,
        };
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// True if this processor has what the kernel needs, and the system lets us use it.
    pub fn available(self) -> bool {
        self.code().is_some()
    }

    /// True if [`Kernel::product`] may overwrite the output of the ReLU it passes through ([`Active::InPlace`]), for a
    /// right operand of so many rows.
    pub fn overwrites(self, rows: usize) -> bool {
        self.code().is_some_and(|code| rows <= code.depth)
    }

    /// `out [m,n] = a [m,k] b [k,n]`, finished. False, and nothing is done, where there is no such kernel, `k` is 0, or
    /// the rows of `out` or of the matrix in `finish`, or both rows and columns of an operand, are not dense. See
    /// [`plain::product`] and [`plain::finish`].
    ///
    /// # Panics
    /// If sizes disagree, or a ReLU's output is to be overwritten where [`Kernel::overwrites`] says no.
    pub fn product(self, out: MatrixMut, a: Matrix, b: Matrix, finish: Finish) -> bool {
        let ([rows, depth], [other, columns]) = (a.size(), b.size());
        assert_eq!(([out.raw.rows, out.raw.columns], depth), ([rows, columns], other), "sizes of a matrix product");
        let (out, a, b) = (out.raw, a.raw, b.raw);
        let suited = b.rows > 0 && out.has_dense_rows() && a.is_dense() && b.is_dense();
        let (Some(code), Some(raw), true) = (self.code(), finish.raw(out), suited) else {
            return false;
        };
        assert!(!finish.is_in_place() || b.rows <= code.depth, "the product is too deep to overwrite a ReLU's output");
        // SAFETY: the processor has the instructions, and the matrices are in live slices and of matching sizes.
        unsafe { (code.multiply)(out, a, b, raw) };
        true
    }
}

/// A layer with one number as output, behind a ReLU and its bias: `<relu(x + bias), weight> + offset`.
#[derive(Clone, Copy)]
pub(crate) struct ScalarHead<'a> {
    pub bias: &'a [f32],
    pub weight: &'a [f32],
    pub offset: f32,
}

/// True if [`scalar_head`] takes a layer of these widths, on a processor with the matrix unit.
pub(crate) fn takes_scalar_head([out, input]: [usize; 2]) -> bool {
    #[cfg(target_arch = "x86_64")]
    return (1..=amx::DEPTH).contains(&input) && (1..=amx::WIDTH).contains(&out);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (out, input);
        false
    }
}

/// `values [m,1]` become the head's of `a [m,k] b [k,n]`, and rows `first..first + m` of the gates those of its ReLU.
///
/// # Panics
/// Where there is no matrix unit, for widths that [`takes_scalar_head`] refuses, if sizes disagree, or if neither rows
/// nor columns of a factor are dense.
pub(crate) fn scalar_head(
    precision: Precision,
    values: MatrixMut,
    a: Matrix,
    b: Matrix,
    head: ScalarHead,
    gates: Option<(&mut Gates, usize)>,
) {
    let (values, a, b) = (values.raw, a.raw, b.raw);
    assert_eq!((values.rows, values.columns, a.columns), (a.rows, 1, b.rows), "sizes of a matrix product");
    assert_eq!([head.bias.len(), head.weight.len()], [b.columns; 2], "a bias and a weight a column");
    if let Some((gates, first)) = &gates {
        assert!(gates.units() == b.columns && first + a.rows <= gates.rows(), "size of gates");
    }
    assert!(
        Kernel::Amx(precision).available() && takes_scalar_head([b.columns, b.rows]) && a.is_dense() && b.is_dense()
    );
    // SAFETY: the processor has the instructions, and the matrices are in live slices and of matching sizes.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        amx::head(precision, values, a, b, head, gates);
    }
}

/// `out = gates diag(scale) b`, or with the gates transposed, finished; nothing is done where `b` has no rows.
///
/// # Panics
/// Where there is no matrix unit, if sizes disagree, if rows are not dense, or if a ReLU's output is to be overwritten
/// where [`Kernel::overwrites`] says no.
pub(crate) fn through_gates(
    precision: Precision,
    out: MatrixMut,
    gates: (&Gates, bool),
    scale: &[f32],
    b: Matrix,
    finish: Finish,
) {
    let (rows, columns) = match gates {
        (gates, false) => (gates.rows(), gates.units()),
        (gates, true) => (gates.units(), gates.rows()),
    };
    let (out, b) = (out.raw, b.raw);
    assert_eq!((out.rows, out.columns, columns), (rows, b.columns, b.rows), "sizes of a matrix product");
    assert_eq!(scale.len(), b.rows, "a number a row");
    let raw = finish.raw(out);
    let unit = Kernel::Amx(precision);
    assert!(unit.available() && raw.is_some() && out.has_dense_rows() && b.has_dense_rows());
    assert!(!finish.is_in_place() || unit.overwrites(b.rows));
    // SAFETY: the processor has the instructions, and the matrices are in live slices and of matching sizes.
    #[cfg(target_arch = "x86_64")]
    if let Some(raw) = raw.filter(|_| b.rows > 0) {
        unsafe { amx::through_gates(precision, out, gates, scale, b, raw) };
    }
}
