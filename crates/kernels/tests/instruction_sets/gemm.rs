use crate::noise::{close, wide, Noise};
use drcorl_kernels::gemm::{plain, Active, Finish, Kernel, Matrix, MatrixMut, Precision};
use libtest_mimic::{Failed, Trial};

/// A case's name, and what runs it on a kernel.
type Case = (&'static str, fn(Kernel));

/// Every case on every kernel.
pub fn trials() -> impl Iterator<Item = Trial> {
    const CASES: [Case; 7] = [
        ("gemm::Kernel::product", as_the_formula),
        ("gemm::Kernel::product, error of each element", elements_are_near_the_exact_ones),
        ("gemm::Kernel::product, distance from that of f32", what_is_left_out_is_bounded),
        ("gemm::Kernel::product of operands that lie otherwise", the_same_bits_wherever_they_lie),
        ("gemm::Kernel::product in parts", the_same_bits_in_parts),
        ("gemm::Kernel::product of what is not finite", what_is_not_finite_is_not_hidden),
        ("gemm::Kernel::product of what is dense in no direction", what_is_dense_in_no_direction_is_left_to_others),
    ];
    const KERNELS: [(&str, Kernel); 6] = [
        ("avx2", Kernel::Avx2),
        ("avx512", Kernel::Avx512),
        ("avx512bf16", Kernel::Bf16),
        ("amx", Kernel::Amx(Precision::Highest)),
        ("amx, high", Kernel::Amx(Precision::High)),
        ("amx, medium", Kernel::Amx(Precision::Medium)),
    ];
    KERNELS.into_iter().flat_map(|(name, kernel)| {
        CASES.into_iter().map(move |(case, run)| on(kernel, name, case, move || run(kernel)))
    })
}

/// A trial that is ignored where the kernel is not available.
pub fn on(kernel: Kernel, name: &'static str, case: &'static str, run: impl FnOnce() + Send + 'static) -> Trial {
    let test = move || {
        if !kernel.available() {
            return Err(Failed::from(format!("this processor has no {name}")));
        }
        run();
        Ok(())
    };
    Trial::test(case, test).with_kind(name).with_ignored_flag(!kernel.available())
}

fn precision(kernel: Kernel) -> Precision {
    match kernel {
        Kernel::Avx2 | Kernel::Avx512 => Precision::Highest,
        Kernel::Bf16 => Precision::Medium,
        Kernel::Amx(precision) => precision,
    }
}

/// Most that an element may be off besides by roundings of f32, as a share of the sum of its terms' absolute values. An
/// operand is off by 2^-8 of itself where it is rounded once, and by 2^-16 where what is left of it is rounded again;
/// middle by middle makes another 2^-16.
pub fn left_out(precision: Precision) -> f64 {
    match precision {
        Precision::Highest => 0.0,
        Precision::High => 3.01 / 65536.0,
        Precision::Medium => 2.01 / 256.0,
    }
}

/// The operand that the products at a precision are exact for, but for [`left_out`] at [`Precision::High`].
pub fn seen(precision: Precision, x: f32) -> f32 {
    if precision == Precision::Medium {
        plain::rounded(x)
    } else {
        x
    }
}

/// Rows of a matrix among others: columns `left..left + columns` of rows of `stride` floats.
struct Strip {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    left: usize,
    stride: usize,
}

impl Strip {
    /// Of values that `draw` makes, with `around[0]` columns before and `around[1]` behind.
    fn of([rows, columns]: [usize; 2], around: [usize; 2], draw: impl FnMut() -> f32) -> Strip {
        let stride = around[0] + columns + around[1];
        let values = std::iter::repeat_with(draw).take(rows * stride).collect();
        Strip { values, rows, columns, left: around[0], stride }
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.values[self.left..], [self.rows, self.columns], [self.stride, 1])
    }

    fn matrix_mut(&mut self) -> MatrixMut<'_> {
        MatrixMut::new(&mut self.values[self.left..], [self.rows, self.columns], [self.stride, 1])
    }

    /// Its elements, row after row.
    fn elements(&self) -> Vec<f32> {
        self.values.chunks(self.stride).flat_map(|row| row[self.left..][..self.columns].to_vec()).collect()
    }

    /// The same matrix of absolute values.
    fn absolute(&self) -> Strip {
        Strip { values: self.values.iter().map(|x| x.abs()).collect(), ..*self }
    }

    /// The same matrix of what is [`seen`].
    fn seen(&self, precision: Precision) -> Strip {
        Strip { values: self.values.iter().map(|&x| seen(precision, x)).collect(), ..*self }
    }

    /// The same matrix, stored column after column.
    fn turned(&self) -> Strip {
        let (matrix, [rows, columns]) = (self.matrix(), [self.columns, self.rows]);
        let values = (0..rows * columns).map(|at| matrix.at(at % columns, at / columns)).collect();
        Strip { values, rows, columns, left: 0, stride: columns }
    }
}

/// Of every remainder of rows, columns and depth, and of more than one block of each;
/// with everything that can come after.
fn as_the_formula(kernel: Kernel) {
    let mut noise = Noise::new(1);
    let sizes = (1..=17).map(|n| [n, 18 - n, 2 * n - 1]);
    let large = [[61, 130, 33], [256, 64, 23], [13, 31, 1], [300, 48, 500], [7, 1100, 20], [32, 32, 32]];
    for [m, n, k] in sizes.chain(large) {
        // Strided views, as columns of a batch are.
        let a = Strip::of([m, k], [2, 1], || noise.normal());
        let b = Strip::of([k, n], [4, 1], || noise.normal());
        let (at, bt) = (a.turned(), b.turned());
        let precision = precision(kernel);
        let product = plain::product(a.seen(precision).matrix(), b.seen(precision).matrix());
        let terms = plain::product(a.absolute().matrix(), b.absolute().matrix()).into_iter().fold(0.0, f64::max);
        let missing = if precision == Precision::High { left_out(precision) * terms } else { 0.0 };
        let rounding = 8e-6 * (k as f64).sqrt();
        let (bias, scale) = (noise.vector(n), noise.vector(m));
        for left in [a.matrix(), at.matrix().transposed()] {
            for right in [b.matrix(), bt.matrix().transposed()] {
                let mut out = Strip::of([m, n], [1, 1], || 7.0);
                let mut active = Strip::of([m, n], [3, 1], || noise.normal().max(0.0));
                let check = |out: &mut Strip, finish: Finish| {
                    let before = out.elements();
                    assert!(kernel.product(out.matrix_mut(), left, right, finish), "{m}x{n}x{k}");
                    let wanted = (0..m * n).map(|at| plain::finish(product[at], finish, at / n, at % n, before[at]));
                    let scale = if matches!(finish, Finish::ScaledRelu(..)) { 5.0 } else { 1.0 };
                    close(&out.elements(), wanted, rounding + scale * missing);
                };
                check(&mut out, Finish::Nothing);
                check(&mut out, Finish::Add);
                check(&mut out, Finish::BiasRelu(&bias));
                check(&mut out, Finish::Relu(Active::Apart(active.matrix())));
                check(&mut out, Finish::ScaledRelu(&scale, Active::Apart(active.matrix())));
                if kernel.overwrites(k) {
                    check(&mut active, Finish::Relu(Active::InPlace));
                }
                let around = out.values.chunks(n + 2).flat_map(|row| [row[0], row[n + 1]]);
                assert!(around.into_iter().all(|x| x == 7.0), "columns of others");
            }
        }
    }
}

/// Columns and rows of the factors differ by factors of a million: what counts is the error of each element against its
/// own terms. It is no more than a chain of fused multiply-adds makes of the operands as they are seen.
fn elements_are_near_the_exact_ones(kernel: Kernel) {
    let precision = precision(kernel);
    let mut noise = Noise::new(2);
    for k in [1, 2, 23, 256, 1000] {
        let [a, b] = of_many_sizes(&mut noise, k);
        let (rows, columns) = (a.rows, b.columns);
        let mut out = Strip::of([rows, columns], [0, 0], || f32::NAN);
        assert!(kernel.product(out.matrix_mut(), a.matrix(), b.matrix(), Finish::Nothing));
        let terms = plain::product(a.absolute().matrix(), b.absolute().matrix());
        let (a, b) = (a.seen(precision), b.seen(precision));
        let exact = plain::product(a.matrix(), b.matrix());
        let chain =
            |i: usize, j: usize| (0..k).fold(0f32, |sum, at| a.matrix().at(i, at).mul_add(b.matrix().at(at, j), sum));
        let chains: Vec<f32> = (0..rows * columns).map(|at| chain(at / columns, at % columns)).collect();
        let error = |found: &[f32]| {
            let squares = wide(found).zip(&exact).zip(&terms).map(|((x, exact), terms)| ((x - exact) / terms).powi(2));
            (squares.sum::<f64>() / exact.len() as f64).sqrt()
        };
        let (ours, theirs) = (error(&out.values), error(&chains));
        let most = if precision == Precision::High { left_out(precision) } else { 1.2 * theirs };
        assert!(ours <= most, "depth {k}: {ours:e} against {theirs:e}");
    }
}

/// Factors `[64,k]` and `[k,96]` whose rows and columns differ by factors of a million.
fn of_many_sizes(noise: &mut Noise, k: usize) -> [Strip; 2] {
    let (rows, columns) = (64, 96);
    let [row_scale, column_scale] = [rows, columns].map(|count| {
        let scales = noise.vector(count);
        scales.iter().map(|x| (3.0 * x).exp()).collect::<Vec<f32>>()
    });
    let mut a = Strip::of([rows, k], [0, 0], || noise.normal());
    a.values.iter_mut().enumerate().for_each(|(at, x)| *x *= row_scale[at / k]);
    let mut b = Strip::of([k, columns], [0, 0], || noise.normal());
    b.values.iter_mut().enumerate().for_each(|(at, x)| *x *= column_scale[at % columns]);
    [a, b]
}

/// Of every element, also of those whose operands are rounded.
fn what_is_left_out_is_bounded(kernel: Kernel) {
    let mut noise = Noise::new(5);
    for k in [1, 2, 23, 256, 1000] {
        let [a, b] = of_many_sizes(&mut noise, k);
        let mut out = Strip::of([a.rows, b.columns], [0, 0], || f32::NAN);
        assert!(kernel.product(out.matrix_mut(), a.matrix(), b.matrix(), Finish::Nothing));
        let terms = plain::product(a.absolute().matrix(), b.absolute().matrix());
        let exact = plain::product(a.matrix(), b.matrix());
        let most = left_out(precision(kernel)) + k as f64 * f64::from(f32::EPSILON);
        for ((x, exact), terms) in wide(&out.values).zip(exact).zip(terms) {
            assert!((x - exact).abs() <= most * terms, "depth {k}: {x} instead of {exact}, of terms of {terms}");
        }
    }
}

fn the_same_bits_wherever_they_lie(kernel: Kernel) {
    let mut noise = Noise::new(3);
    let a = Strip::of([45, 300], [0, 0], || noise.normal());
    let b = Strip::of([300, 77], [0, 0], || noise.normal());
    let product = |a: Matrix, b: Matrix| {
        let mut out = Strip::of([45, 77], [0, 0], || f32::NAN);
        assert!(kernel.product(out.matrix_mut(), a, b, Finish::Nothing));
        out.values
    };
    let moved = |strip: &Strip| {
        let mut values = strip.elements().into_iter();
        let mut moved = Strip::of([strip.rows, strip.columns], [3, 0], || 0.0);
        for row in moved.values.chunks_mut(moved.stride) {
            row[3..].fill_with(|| values.next().expect("as many elements"));
        }
        moved
    };
    let expected = product(a.matrix(), b.matrix());
    assert_eq!(product(moved(&a).matrix(), b.turned().matrix().transposed()), expected);
    assert_eq!(product(a.turned().matrix().transposed(), moved(&b).matrix()), expected);
}

/// Of some of its rows, or of some of its columns, as several threads make it.
fn the_same_bits_in_parts(kernel: Kernel) {
    let mut noise = Noise::new(4);
    for [m, n, k] in [[130, 70, 23], [100, 300, 256], [256, 64, 700]] {
        let a = Strip::of([m, k], [0, 0], || noise.normal());
        let b = Strip::of([k, n], [0, 0], || noise.normal());
        let (at, bt, bias) = (a.turned(), b.turned(), noise.vector(n));
        for finish in [Finish::Nothing, Finish::Add, Finish::BiasRelu(&bias)] {
            let mut whole = vec![0.5; m * n];
            assert!(kernel.product(MatrixMut::dense(&mut whole, n), a.matrix(), b.matrix(), finish));
            for part in [1, 32, 61] {
                let mut rows = vec![0.5; m * n];
                for top in (0..m).step_by(part) {
                    let count = part.min(m - top);
                    let out = MatrixMut::new(&mut rows[top * n..], [count, n], [n, 1]);
                    let left = Matrix::new(&at.values[top..], [k, count], [m, 1]).transposed();
                    assert!(kernel.product(out, left, bt.matrix().transposed(), finish));
                }
                assert_eq!(rows, whole, "{m}x{n}x{k}, {part} rows");
                let mut columns = vec![0.5; m * n];
                for left in (0..n).step_by(part) {
                    let count = part.min(n - left);
                    let out = MatrixMut::new(&mut columns[left..], [m, count], [n, 1]);
                    let right = Matrix::new(&b.values[left..], [k, count], [n, 1]);
                    let finish = match finish {
                        Finish::BiasRelu(bias) => Finish::BiasRelu(&bias[left..][..count]),
                        other => other,
                    };
                    assert!(kernel.product(out, a.matrix(), right, finish));
                }
                assert_eq!(columns, whole, "{m}x{n}x{k}, {part} columns");
            }
        }
    }
}

/// A sum that is not finite stays so, also where a part of a float is more than bf16 holds.
fn what_is_not_finite_is_not_hidden(kernel: Kernel) {
    for bad in [f32::NAN, f32::from_bits(0x7FFF_FFFF), f32::from_bits(u32::MAX), f32::INFINITY, f32::MAX] {
        let (a, b) = ([1.0, bad, 1.0], [4.0; 60]);
        let mut out = [0.0; 20];
        let product = MatrixMut::dense(&mut out, 20);
        assert!(kernel.product(product, Matrix::dense(&a, 3), Matrix::dense(&b, 20), Finish::Nothing));
        assert!(out.iter().all(|x| !x.is_finite()), "{bad}: {out:?}");
    }
}

fn what_is_dense_in_no_direction_is_left_to_others(kernel: Kernel) {
    let (a, b, mut out) = ([1.0; 24], [1.0; 60], [7.0; 20]);
    let every_other = Matrix::new(&b, [6, 5], [10, 2]);
    assert!(!kernel.product(MatrixMut::dense(&mut out, 5), Matrix::dense(&a, 6), every_other, Finish::Nothing));
    assert_eq!(out, [7.0; 20]);
}
