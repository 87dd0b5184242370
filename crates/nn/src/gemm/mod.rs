//! Matrix products of f32 by code of our own, on x86 processors with AVX-512.
//!
//! Two kernels: [`avx512`] multiplies in registers, [`amx`] by the matrix unit that Intel's processors have since Sapphire Rapids. The same
//! kernel gives the same bits for the same operands, wherever they lie and whatever comes after. See [`super::matmul`] for the choice.
//!
//! The matrix unit also makes products that only [`super::scalar_head`] asks for.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod gates;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod place;

pub(super) use gates::Gates;

use tch::Tensor;

/// How a product is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Avx512,
    Amx,
}

/// What there is of a kernel on this processor.
struct Code {
    /// `out = a b`, finished, of matching sizes and as dense as [`Kernel::product`] has found them.
    multiply: unsafe fn(out: Matrix, a: Matrix, b: Matrix, finish: Finish),
    /// Most rows of `b` whose products are added up before a result is stored.
    depth: usize,
}

impl Kernel {
    /// None, where the processor lacks what the kernel needs, or the system does not let us use it.
    fn code(self) -> Option<Code> {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Kernel::Avx512 if avx512::available() => Some(Code { multiply: avx512::multiply, depth: avx512::DEPTH }),
            Kernel::Amx if amx::available() => Some(Code { multiply: amx::multiply, depth: amx::DEPTH }),
            _ => None,
        };
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    pub(super) fn available(self) -> bool {
        self.code().is_some()
    }

    /// True if [`Kernel::product`] may overwrite the output of the ReLU it passes through, for a right operand of so many rows.
    pub(super) fn overwrites(self, rows: i64) -> bool {
        self.code().is_some_and(|code| rows <= code.depth as i64)
    }

    /// `out [m,n] = a [m,k] b [k,n]`, finished. False, and nothing is done, where there is no such kernel, `k` is 0, or the rows of `out` or
    /// of the matrix in `finish`, or both rows and columns of an operand, are not dense.
    ///
    /// `out` must not overlap `a` or `b`; see [`Kernel::overwrites`] for a ReLU's output. All must be alive.
    pub(super) fn product(self, out: Matrix, a: Matrix, b: Matrix, finish: Finish) -> bool {
        assert_eq!((out.rows, out.columns, a.columns), (a.rows, b.columns, b.rows), "sizes of a matrix product");
        let suited = b.rows > 0 && out.has_dense_rows() && a.is_dense() && b.is_dense() && finish.suits(out);
        let Some(code) = self.code().filter(|_| suited) else {
            return false;
        };
        // SAFETY: the processor has the instructions, and the matrices are those of live tensors and of matching sizes.
        unsafe { (code.multiply)(out, a, b, finish) };
        true
    }
}

/// A layer with one number as output, behind a ReLU and its bias: `<relu(x + bias), weight> + offset`.
#[derive(Clone, Copy)]
pub(super) struct ScalarHead<'a> {
    pub bias: &'a [f32],
    pub weight: &'a [f32],
    pub offset: f32,
}

/// True if [`scalar_head`] takes a layer of these widths, on a processor with the matrix unit.
pub(super) fn takes_scalar_head([out, input]: [usize; 2]) -> bool {
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
/// For widths that [`takes_scalar_head`], where there is a matrix unit. Rows or columns of both factors are dense.
pub(super) fn scalar_head(values: Matrix, a: Matrix, b: Matrix, head: ScalarHead, gates: Option<(&mut Gates, usize)>) {
    assert_eq!((values.rows, values.columns, a.columns), (a.rows, 1, b.rows), "sizes of a matrix product");
    assert_eq!([head.bias.len(), head.weight.len()], [b.columns; 2], "a bias and a weight a column");
    if let Some((gates, first)) = &gates {
        assert!(gates.units() == b.columns && first + a.rows <= gates.rows(), "size of gates");
    }
    assert!(Kernel::Amx.available() && takes_scalar_head([b.columns, b.rows]) && a.is_dense() && b.is_dense());
    // SAFETY: the processor has the instructions, and the matrices are those of live tensors and of matching sizes.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        amx::head(values, a, b, head, gates);
    }
}

/// `out = gates diag(scale) b`, or with the gates transposed, finished; nothing is done where `b` has no rows.
///
/// For processors with a matrix unit. Rows are dense. `out` must not overlap `b`; see [`Kernel::overwrites`] for a ReLU's output.
pub(super) fn through_gates(out: Matrix, gates: (&Gates, bool), scale: &[f32], b: Matrix, finish: Finish) {
    let (rows, columns) = match gates {
        (gates, false) => (gates.rows(), gates.units()),
        (gates, true) => (gates.units(), gates.rows()),
    };
    assert_eq!((out.rows, out.columns, columns), (rows, b.columns, b.rows), "sizes of a matrix product");
    assert_eq!(scale.len(), b.rows, "a number a row");
    assert!(Kernel::Amx.available() && finish.suits(out) && out.has_dense_rows() && b.has_dense_rows());
    // SAFETY: the processor has the instructions, and the matrices are those of live tensors and of matching sizes.
    #[cfg(target_arch = "x86_64")]
    if b.rows > 0 {
        unsafe { amx::through_gates(out, gates, scale, b, finish) };
    }
}

/// A matrix: element (i, j) is at `data + i * down + j * across`.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    data: *mut f32,
    rows: usize,
    columns: usize,
    down: usize,
    across: usize,
}

impl Matrix {
    /// Of a two-dimensional f32 tensor on the CPU.
    pub(super) fn of(tensor: &Tensor) -> Matrix {
        let (size, stride) = (tensor.size(), tensor.stride());
        let ([rows, columns], [down, across]) = (&size[..], &stride[..]) else {
            panic!("a matrix has two dimensions, not {size:?}");
        };
        let [rows, columns, down, across] = [rows, columns, down, across].map(|&n| n as usize);
        Matrix { data: tensor.data_ptr() as *mut f32, rows, columns, down, across }
    }

    /// Of a contiguous f32 tensor on the CPU, as one row.
    pub(super) fn row(tensor: &Tensor) -> Matrix {
        let columns = tensor.numel();
        Matrix { data: tensor.data_ptr() as *mut f32, rows: 1, columns, down: columns, across: 1 }
    }

    pub(super) fn transposed(self) -> Matrix {
        Matrix { rows: self.columns, columns: self.rows, down: self.across, across: self.down, ..self }
    }

    fn has_dense_rows(&self) -> bool {
        self.across == 1 || self.columns == 1
    }

    fn is_dense(&self) -> bool {
        self.across == 1 || self.down == 1
    }
}

/// What becomes of a product before it is stored.
#[derive(Clone, Copy)]
pub(super) enum Finish {
    Nothing,
    /// It is added to what is there.
    Add,
    /// A row `[1,n]` is added, negative values become 0.
    BiasRelu(Matrix),
    /// It becomes 0 where the output `[m,n]` of a ReLU is 0.
    Relu(Matrix),
    /// The same, and a row is multiplied by its element of a row `[1,m]`.
    ScaledRelu(Matrix, Matrix),
}

impl Finish {
    fn suits(self, out: Matrix) -> bool {
        let other = match self {
            Finish::Nothing | Finish::Add => return true,
            Finish::BiasRelu(row) => {
                assert_eq!((row.rows, row.columns), (1, out.columns), "size of a bias");
                row
            }
            Finish::ScaledRelu(scale, _) if (scale.rows, scale.columns) != (1, out.rows) => {
                panic!("size of a scale")
            }
            Finish::Relu(active) | Finish::ScaledRelu(_, active) => {
                assert_eq!((active.rows, active.columns), (out.rows, out.columns), "size of a ReLU's output");
                active
            }
        };
        other.has_dense_rows()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn random(rows: i64, columns: i64) -> Tensor {
        Tensor::randn([rows, columns], (Kind::Float, Device::Cpu))
    }

    fn kernels() -> impl Iterator<Item = Kernel> {
        [Kernel::Avx512, Kernel::Amx].into_iter().filter(|kernel| {
            if !kernel.available() {
                eprintln!("skipped: no {kernel:?} here");
            }
            kernel.available()
        })
    }

    /// Of every remainder of rows, columns and depth, and of more than one block of each.
    #[test]
    fn products_are_libtorchs() {
        let sizes: Vec<[i64; 3]> = (1..=17)
            .map(|n| [n, 18 - n, 2 * n - 1])
            .chain([[61, 130, 33], [256, 64, 23], [13, 31, 1], [300, 48, 500], [7, 1100, 20], [32, 32, 32]])
            .collect();
        for (kernel, [m, n, k]) in kernels().flat_map(|kernel| sizes.iter().map(move |&size| (kernel, size))) {
            // Strided views, as columns of a batch are.
            let (a, b) = (random(m, k + 3).narrow(1, 2, k), random(k, n + 5).narrow(1, 4, n));
            let expected = a.mm(&b);
            let tolerance = 1e-6 * (k as f64).sqrt() * 8.0;
            let close = |out: &Tensor, expected: &Tensor| {
                let distance = (out - expected).abs().max().double_value(&[]);
                assert!(distance < tolerance, "{kernel:?} {m}x{n}x{k}: {distance}");
            };
            let (at, bt) = (a.tr().contiguous(), b.tr().contiguous());
            let of = Matrix::of;
            for left in [of(&a), of(&at).transposed()] {
                for right in [of(&b), of(&bt).transposed()] {
                    let whole = Tensor::full([m, n + 2], 7.0, (Kind::Float, Device::Cpu));
                    let out = whole.narrow(1, 1, n);
                    let product = |out: Matrix, finish| assert!(kernel.product(out, left, right, finish));
                    product(of(&out), Finish::Nothing);
                    close(&out, &expected);
                    product(of(&out), Finish::Add);
                    close(&out, &(&expected * 2.0));
                    let bias = random(1, n);
                    product(of(&out), Finish::BiasRelu(of(&bias)));
                    close(&out, &(&expected + &bias).relu());
                    let active = random(m, n + 4).relu().narrow(1, 3, n);
                    product(of(&out), Finish::Relu(of(&active)));
                    let through = &expected * active.sign();
                    close(&out, &through);
                    let scale = random(1, m);
                    product(of(&out), Finish::ScaledRelu(of(&scale), of(&active)));
                    close(&out, &(&through * scale.tr()));
                    if kernel.overwrites(k) {
                        product(of(&active), Finish::Relu(of(&active)));
                        close(&active, &through);
                    }
                    let around = Tensor::cat(&[whole.narrow(1, 0, 1), whole.narrow(1, n + 1, 1)], 1);
                    assert_eq!(around, around.full_like(7.0));
                }
            }
        }
    }

    /// Columns and rows of the factors differ by factors of a million: what counts is the error of each element against its own terms.
    #[test]
    fn elements_are_as_near_to_the_exact_ones_as_libtorchs() {
        for kernel in kernels() {
            for k in [1, 2, 23, 256, 1000] {
                let scale = |size: [i64; 2]| (random(size[0], size[1]) * 3.0).exp();
                let (a, b) = (random(64, k) * scale([64, 1]), random(k, 96) * scale([1, 96]));
                let wide = |x: &Tensor| x.to_kind(Kind::Double);
                let (exact, terms) = (wide(&a).mm(&wide(&b)), wide(&a).abs().mm(&wide(&b).abs()));
                let out = exact.to_kind(Kind::Float).zeros_like();
                assert!(kernel.product(Matrix::of(&out), Matrix::of(&a), Matrix::of(&b), Finish::Nothing));
                let errors =
                    |out: &Tensor| ((wide(out) - &exact) / &terms).square().mean(Kind::Double).sqrt().double_value(&[]);
                let (ours, theirs) = (errors(&out), errors(&a.mm(&b)));
                assert!(ours <= 1.2 * theirs, "{kernel:?}, depth {k}: {ours:e} against {theirs:e}");
            }
        }
    }

    #[test]
    fn the_same_operands_give_the_same_bits_wherever_they_lie() {
        for kernel in kernels() {
            let (a, b) = (random(45, 300), random(300, 77));
            let product = |a: &Tensor, b: &Tensor| {
                let out = Tensor::zeros([45, 77], (Kind::Float, Device::Cpu));
                assert!(kernel.product(Matrix::of(&out), Matrix::of(a), Matrix::of(b), Finish::Nothing));
                out
            };
            let moved = |x: &Tensor| Tensor::cat(&[&x.zeros_like().narrow(1, 0, 3), x], 1).narrow(1, 3, x.size()[1]);
            let turned = |x: &Tensor| x.tr().contiguous().tr();
            let expected = product(&a, &b);
            assert_eq!(product(&moved(&a), &turned(&b)), expected, "{kernel:?}");
            assert_eq!(product(&turned(&a), &moved(&b)), expected, "{kernel:?}");
        }
    }

    /// A sum that is not finite stays so, also where a part of a float is more than bf16 holds.
    #[test]
    fn what_is_not_finite_is_not_hidden() {
        for kernel in kernels() {
            for bad in [f32::NAN, f32::from_bits(0x7FFF_FFFF), f32::from_bits(u32::MAX), f32::INFINITY, f32::MAX] {
                let a = Tensor::from_slice(&[1.0, bad, 1.0]).view([1, 3]);
                let b = Tensor::full([3, 20], 4.0, (Kind::Float, Device::Cpu));
                let out = Tensor::zeros([1, 20], (Kind::Float, Device::Cpu));
                assert!(kernel.product(Matrix::of(&out), Matrix::of(&a), Matrix::of(&b), Finish::Nothing));
                assert!(!bool::try_from(out.isfinite().any()).unwrap(), "{kernel:?}, {bad}: {out}");
            }
        }
    }

    #[test]
    fn matrices_that_are_dense_in_no_direction_are_left_to_others() {
        for kernel in kernels() {
            let (a, b) = (random(4, 6), random(6, 10));
            let every_other = b.slice(1, 0, 10, 2);
            let out = random(4, 5);
            let before = out.copy();
            assert!(!kernel.product(Matrix::of(&out), Matrix::of(&a), Matrix::of(&every_other), Finish::Nothing));
            assert_eq!(out, before);
        }
    }
}
