//! The three matrix products of a linear layer, by whatever is fast on this CPU.
//!
//! [`drcorl_kernels::gemm`] has kernels of our own. That for AMX, on Intel's processors since Sapphire Rapids,
//! makes products of some hundred rows and widths in two thirds of the time of any other. Those for AVX-512 and AVX2 do
//! without the calls of libtorch's libraries and most of their copies, which pays where matrices are small. Large
//! products remain MKL's on Intel's processors without AMX and on those that have AVX2 only. On those of other makers
//! MKL leaves AVX-512 alone: on an AMD EPYC it reaches 105 GFLOP/s a core, where oneDNN, in the same libtorch, reaches
//! 180-240 less the copies of its operands.
//!
//! A run may ask for less than the accuracy of f32 ([`precision`]). AMX then makes fewer products of bf16. Where there
//! is none, AVX512-BF16 makes those of `medium`: on an AMD EPYC 215 GFLOP/s at 256 by 256 by 256, where AVX-512 makes
//! 115 of f32; at a width or depth of 6 the gain is 1.05 to 1.6, for single rows .96 to 1.7. Three of them, as `high`
//! needs, would take longer than one of f32, so that `high` is `highest` there, and where a processor has neither so is
//! `medium`.
//!
//! The choice follows the processor and the sizes, not a measurement: a measured one could fall otherwise tomorrow and
//! change the bits of a run. The number of threads has no part in it: our kernels give the same bits however a product
//! is cut, and the libraries' products are made whole, by one thread. `DRCORL_MATMUL=amx|avx512|mkl|onednn` overrides
//! the choice, and but for AMX the precision; with MKL_ENABLE_INSTRUCTIONS=AVX2, an Intel machine shows what an AMD one
//! sees of MKL.

use super::ops;
use super::precision::{self, Precision};
use super::scalar_head::active_of;
use super::slices::{elements, matrix, matrix_mut};
use crate::error::{Error, Result};
use crate::{profile, threads};
use drcorl_kernels::gemm::{Finish, Kernel, Matrix};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

/// What makes a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// A kernel of our own.
    Own(Kernel),
    /// What libtorch takes by itself.
    Default,
    /// oneDNN, in its own layout.
    OneDnn,
}

impl Library {
    /// False where this processor or this libtorch has it not.
    pub fn available(self) -> bool {
        match self {
            Library::Own(kernel) => kernel.available(),
            Library::OneDnn => tch::utils::has_mkldnn(),
            Library::Default => true,
        }
    }

    /// As `drcorl info` and profiles call it.
    pub fn name(self) -> &'static str {
        match self {
            Library::Own(Kernel::Avx2) => "avx2",
            Library::Own(Kernel::Avx512) => "avx512",
            Library::Own(Kernel::Bf16) => "avx512-bf16",
            Library::Own(Kernel::Amx(_)) => "amx",
            Library::OneDnn => "onednn",
            Library::Default if cfg!(target_arch = "x86_64") => "mkl",
            Library::Default => "libtorch",
        }
    }

    /// True if the gradient for the input of a layer with so many outputs may be written over the output of the ReLU it
    /// is carried through.
    pub fn overwrites(self, outputs: i64) -> bool {
        matches!(self, Library::Own(kernel) if kernel.overwrites(outputs as usize))
    }
}

/// True on an x86 processor that is not Intel's.
fn foreign_x86() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() != b"GenuineIntel"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// What a processor does by which library.
#[derive(Debug, PartialEq)]
struct Choice {
    amx: bool,
    /// True if AVX512-BF16 makes products of the lowest precision.
    bf16: bool,
    /// What multiplies in registers, and the most rows and widths it is given.
    registers: Option<(Kernel, i64)>,
    rest: Library,
    /// True if there is no exception for small products.
    asked: bool,
}

impl Choice {
    /// For this processor.
    fn usual() -> Choice {
        let wide = Kernel::Avx512.available();
        let registers = match (wide, Kernel::Avx2.available()) {
            (true, _) if foreign_x86() => Some((Kernel::Avx512, 4096)),
            // MKL's copies of both operands pay from here.
            (true, _) => Some((Kernel::Avx512, 512)),
            (false, true) => Some((Kernel::Avx2, 512)),
            (false, false) => None,
        };
        let blocked = wide && foreign_x86() && tch::utils::has_mkldnn();
        let rest = if blocked { Library::OneDnn } else { Library::Default };
        let amx = Kernel::Amx(Precision::Highest).available();
        // Beside AMX it is not measured.
        Choice { amx, bf16: !amx && Kernel::Bf16.available(), registers, rest, asked: false }
    }

    /// As asked for by a name.
    fn of(asked: &str) -> Result<Choice> {
        let none = Choice { amx: false, bf16: false, registers: None, rest: Library::Default, asked: true };
        let by = |kernel: Kernel| (Choice { registers: Some((kernel, i64::MAX)), ..none }, kernel.available());
        let (choice, available) = match asked {
            "amx" => (Choice { amx: true, ..none }, Kernel::Amx(Precision::Highest).available()),
            "avx512" => by(Kernel::Avx512),
            "avx2" => by(Kernel::Avx2),
            "onednn" => (Choice { rest: Library::OneDnn, ..none }, tch::utils::has_mkldnn()),
            "mkl" => (none, true),
            _ => {
                let names = "amx, avx512, avx2, mkl or onednn";
                return Err(Error::Config(format!("DRCORL_MATMUL is {asked:?}; give {names}, or nothing")));
            }
        };
        if !available {
            return Err(Error::Config(format!("DRCORL_MATMUL is {asked:?}, which this machine has not; unset it")));
        }
        Ok(choice)
    }

    /// What the environment asks for.
    fn asked() -> Result<&'static Choice> {
        static CHOICE: OnceLock<Result<Choice>> = OnceLock::new();
        let choice = CHOICE.get_or_init(|| match std::env::var("DRCORL_MATMUL") {
            Ok(asked) if !asked.is_empty() => Choice::of(&asked),
            _ => Ok(Choice::usual()),
        });
        choice.as_ref().map_err(|error| Error::Config(error.to_string()))
    }

    fn names(&self) -> Vec<&'static str> {
        let registers = self.registers.map(|(kernel, _)| Library::Own(kernel).name());
        self.amx.then_some("amx").into_iter().chain(registers).chain([self.rest.name()]).collect()
    }

    /// For `rows` rows through a layer of these widths.
    fn library(&self, rows: i64, [out, input]: [i64; 2], precision: Precision) -> Library {
        /// Least rows and widths for AMX. It is faster from widths of half of that on, but loses more than it gains
        /// where the other thread of the core is busy.
        const TILED: (i64, i64) = (128, 256);
        /// Most inputs of a layer whose products are made in registers for batches of any size:
        /// the other libraries copy what is hardly multiplied.
        const NARROW: i64 = 32;
        /// Least widths at which oneDNN's copies may pay.
        const BLOCKED: i64 = 64;
        let (narrow, most) = (out.min(input), rows.max(out).max(input));
        let small = |limit| most <= limit || input <= NARROW;
        if self.amx && (self.asked || rows >= TILED.0 && narrow >= TILED.1) {
            Library::Own(Kernel::Amx(precision))
        } else if self.bf16 && precision == Precision::Medium && narrow > 1 {
            Library::Own(Kernel::Bf16)
        } else if let Some((kernel, _)) = self.registers.filter(|&(_, limit)| small(limit)) {
            Library::Own(kernel)
        } else if self.rest == Library::OneDnn && narrow < BLOCKED {
            Library::Default
        } else {
            self.rest
        }
    }
}

/// The libraries that make products on this machine, those of the largest gain first;
/// an error if DRCORL_MATMUL asks for what is not there.
pub fn libraries() -> Result<Vec<&'static str>> {
    Choice::asked().map(Choice::names)
}

/// For `rows` rows through a layer with `weight [out,in]`.
fn choose(weight: &Tensor, rows: i64) -> Library {
    if weight.device() != Device::Cpu || weight.kind() != Kind::Float {
        return Library::Default;
    }
    let widths = <[i64; 2]>::try_from(weight.size()).expect("a weight is a matrix");
    Choice::asked().unwrap_or_else(|error| panic!("{error}")).library(rows, widths, precision::current())
}

/// True if [`input_gradient`] through a ReLU may be written over that ReLU's output,
/// for `rows` rows and a layer with `weight [out,in]`.
pub(super) fn overwrites(weight: &Tensor, rows: i64) -> bool {
    choose(weight, rows).overwrites(weight.size()[0])
}

/// True if the matrix unit makes products of `rows` rows through a layer with `weight [out,in]`.
pub(super) fn by_unit(weight: &Tensor, rows: i64) -> bool {
    matches!(choose(weight, rows), Library::Own(Kernel::Amx(_)))
}

/// The products by oneDNN, between tensors in its own layout.
mod onednn {
    use tch::{Kind, Tensor};

    fn blocked(tensor: &Tensor) -> Tensor {
        tensor.contiguous().to_mkldnn()
    }

    fn put(out: &Tensor, result: &Tensor) {
        out.shallow_clone().copy_(&result.to_dense(Kind::Float, false));
    }

    pub fn forward(out: &Tensor, input: &Tensor, weight: &Tensor) {
        put(out, &blocked(input).mkldnn_linear::<Tensor>(&weight.contiguous(), None));
    }

    pub fn input_gradient(out: &Tensor, grad: &Tensor, weight: &Tensor) {
        let size = [grad.size()[0], weight.size()[1]];
        put(out, &Tensor::mkldnn_linear_backward_input(size, &blocked(grad), &weight.contiguous()));
    }

    pub fn weight_gradient(weight_grad: &Tensor, grad: &Tensor, input: &Tensor) {
        let (result, _) = blocked(input).mkldnn_linear_backward_weights(&blocked(grad), weight_grad, false);
        put(weight_grad, &result);
    }
}

/// A factor of a product: a tensor, and whether it is taken transposed.
type Factor<'a> = (&'a Tensor, bool);

/// `out = left right` by a kernel of our own, in parts if it is worth several threads; false where the kernel does not
/// take an operand as it lies.
fn by_kernel(kernel: Kernel, out: &Tensor, left: Factor, right: Factor, after: After) -> bool {
    let (rows, columns) = (out.size()[0], out.size()[1]);
    let depth = left.0.size()[usize::from(!left.1)];
    let flop = 2 * rows * columns * depth;
    // A part copies the other operand anew, which costs the matrix unit more of its time.
    let (part, longer) = (if matches!(kernel, Kernel::Amx(_)) { 256 } else { 128 }, rows.max(columns));
    if !threads::shares(flop) || longer < 2 * part {
        return whole(kernel, out, left, right, after);
    }
    let dim = i64::from(columns >= rows);
    let takes = AtomicBool::new(true);
    let make = |index: usize| {
        let start = index as i64 * part;
        let of = |tensor: &Tensor, dim: i64| tensor.narrow(dim, start, part.min(longer - start));
        let cut = |(tensor, transposed): Factor| (of(tensor, if transposed { 1 - dim } else { dim }), transposed);
        let own;
        let after = match after {
            After::BiasRelu(bias) if dim == 1 => {
                own = of(&bias.view([-1]), 0);
                After::BiasRelu(&own)
            }
            After::Relu(active) => {
                own = of(active, dim);
                After::Relu(&own)
            }
            after => after,
        };
        let factor = cut(if dim == 0 { left } else { right });
        let factor = (&factor.0, factor.1);
        let (left, right) = if dim == 0 { (factor, right) } else { (left, factor) };
        if !whole(kernel, &of(out, dim), left, right, after) {
            takes.store(false, Ordering::Relaxed);
        }
    };
    // SAFETY: a part writes its rows or columns of the product.
    unsafe { threads::each_with_tensors((longer as u64).div_ceil(part as u64) as usize, flop, make) };
    // Operands that lie as one part's do lie as all of them do.
    takes.into_inner()
}

/// [`by_kernel`], in this thread.
fn whole(kernel: Kernel, out: &Tensor, left: Factor, right: Factor, after: After) -> bool {
    fn of((tensor, transposed): Factor<'_>) -> Matrix<'_> {
        if transposed {
            matrix(tensor).transposed()
        } else {
            matrix(tensor)
        }
    }
    let finish = match after {
        After::Nothing => Finish::Nothing,
        After::Add => Finish::Add,
        After::BiasRelu(bias) => Finish::BiasRelu(elements(bias)),
        After::Relu(active) => Finish::Relu(active_of(out, active)),
    };
    let size = || [out.size()[0], left.0.size()[usize::from(!left.1)], out.size()[1]];
    let make = || kernel.product(matrix_mut(out), of(left), of(right), finish);
    profile::product(Library::Own(kernel).name(), size, make)
}

/// What becomes of a product; in the same pass where the library knows how, else in one of its own.
#[derive(Clone, Copy)]
pub enum After<'a> {
    /// It stays as it is.
    Nothing,
    /// It is added to what is there.
    Add,
    /// The bias `[n]` is added, negative values become 0. `out` is contiguous.
    BiasRelu(&'a Tensor),
    /// It becomes 0 where this output of a ReLU is 0. Both are contiguous.
    Relu(&'a Tensor),
}

/// What is left to do after a product that was stored.
fn pass(out: &Tensor, after: After) {
    match after {
        After::Nothing | After::Add => {}
        After::BiasRelu(bias) => ops::bias_relu(out, bias),
        After::Relu(active) => {
            // Tensors without a row lie at no address, and so all at the same.
            let overwritten = out.numel() > 0 && out.data_ptr() == active.data_ptr();
            assert!(!overwritten, "the product has overwritten the ReLU's output");
            ops::relu_backward(out, active);
        }
    }
}

impl Library {
    /// `out = left right`; `onednn` makes that product where it is oneDNN's, which cannot add.
    fn multiply(self, out: &Tensor, left: Factor, right: Factor, after: After, onednn: impl FnOnce()) {
        let of = |(tensor, transposed): Factor| if transposed { tensor.tr() } else { tensor.shallow_clone() };
        let maker = match self {
            Library::Own(kernel) if by_kernel(kernel, out, left, right, after) => return,
            Library::OneDnn if !matches!(after, After::Add) => Library::OneDnn,
            _ => Library::Default,
        };
        let size = || [out.size()[0], left.0.size()[usize::from(!left.1)], out.size()[1]];
        profile::product(maker.name(), size, || {
            match (maker, after) {
                (_, After::Add) => _ = out.addmm_out(out, &of(left), &of(right)),
                (Library::OneDnn, _) => onednn(),
                _ => _ = of(left).mm_out(out, &of(right)),
            }
            true
        });
        pass(out, after);
    }

    /// `out [B,n] = input [B,m] weight^T`, whatever library would be chosen for it.
    pub fn forward(self, out: &Tensor, input: &Tensor, weight: &Tensor, after: After) {
        self.multiply(out, (input, false), (weight, true), after, || onednn::forward(out, input, weight));
    }

    /// `out [B,m] = grad [B,n] weight`.
    pub fn input_gradient(self, out: &Tensor, grad: &Tensor, weight: &Tensor, after: After) {
        self.multiply(out, (grad, false), (weight, false), after, || onednn::input_gradient(out, grad, weight));
    }

    /// `out [n,m] = grad [B,n]^T input [B,m]`.
    pub fn weight_gradient(self, out: &Tensor, grad: &Tensor, input: &Tensor, after: After) {
        self.multiply(out, (grad, true), (input, false), after, || onednn::weight_gradient(out, grad, input));
    }
}

/// `input [B,m] weight^T + bias`, `weight [n,m]`, by libtorch.
pub fn affine(input: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let mut out = None;
    let size = || [input.size()[0], weight.size()[1], weight.size()[0]];
    profile::product(Library::Default.name(), size, || out.replace(bias.addmm(input, &weight.tr())).is_none());
    out.expect("it was made")
}

/// `out [B,n] = input [B,m] weight^T`, `weight [n,m]`. All three may be strided views.
pub(super) fn forward(out: &Tensor, input: &Tensor, weight: &Tensor, after: After) {
    choose(weight, input.size()[0]).forward(out, input, weight, after);
}

/// `out [B,m] = grad [B,n] weight`.
pub(super) fn input_gradient(out: &Tensor, grad: &Tensor, weight: &Tensor, after: After) {
    choose(weight, grad.size()[0]).input_gradient(out, grad, weight, after);
}

/// `weight_grad [n,m] = grad [B,n]^T input [B,m]`.
pub(super) fn weight_gradient(weight_grad: &Tensor, grad: &Tensor, input: &Tensor, after: After) {
    choose(weight_grad, grad.size()[0]).weight_gradient(weight_grad, grad, input, after);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_what_is_taken_or_refused() {
        for (name, available, library) in [
            ("mkl", true, Library::Default),
            ("onednn", tch::utils::has_mkldnn(), Library::OneDnn),
            ("avx2", Kernel::Avx2.available(), Library::Own(Kernel::Avx2)),
            ("avx512", Kernel::Avx512.available(), Library::Own(Kernel::Avx512)),
            ("amx", Kernel::Amx(Precision::Medium).available(), Library::Own(Kernel::Amx(Precision::Medium))),
        ] {
            match Choice::of(name) {
                Ok(choice) => {
                    assert_eq!((available, choice.library(9000, [80, 64], Precision::Medium)), (true, library))
                }
                Err(error) => assert!(!available && error.to_string().contains(name), "{error}"),
            }
        }
        let error = Choice::of("own").unwrap_err();
        assert_eq!(error.code(), "Config");
        assert!(error.to_string().contains("amx, avx512, avx2, mkl or onednn"), "{error}");
    }

    #[test]
    fn small_products_are_made_without_copies() {
        let registers = Some((Kernel::Avx512, 512));
        let choice = Choice { amx: true, bf16: false, registers, rest: Library::Default, asked: false };
        assert_eq!(choice.names(), ["amx", "avx512", "mkl"]);
        for (rows, widths, library) in [
            (128, [256, 256], Library::Own(Kernel::Amx(Precision::Highest))),
            (2048, [1024, 256], Library::Own(Kernel::Amx(Precision::Highest))),
            (512, [128, 128], Library::Own(Kernel::Avx512)),
            (256, [256, 23], Library::Own(Kernel::Avx512)),
            (1, [256, 256], Library::Own(Kernel::Avx512)),
            (2048, [256, 23], Library::Own(Kernel::Avx512)),
            (2048, [256, 40], Library::Default),
        ] {
            assert_eq!(choice.library(rows, widths, Precision::Highest), library, "{rows} rows, {widths:?}");
        }
        let choice = Choice { amx: false, registers: Some((Kernel::Avx2, 512)), ..choice };
        assert_eq!(choice.names(), ["avx2", "mkl"]);
        assert_eq!(choice.library(512, [256, 256], Precision::Highest), Library::Own(Kernel::Avx2));
        assert_eq!(choice.library(513, [256, 256], Precision::Highest), Library::Default);
    }

    #[test]
    fn precision_is_given_up_where_that_is_faster() {
        use Precision::{High, Highest, Medium};
        let registers = Some((Kernel::Avx512, 512));
        let none = Choice { amx: false, bf16: false, registers, rest: Library::Default, asked: false };
        let unit = Choice { amx: true, ..none };
        for precision in [Highest, High, Medium] {
            assert_eq!(unit.library(256, [256, 256], precision), Library::Own(Kernel::Amx(precision)));
            assert_eq!(unit.library(256, [256, 23], precision), Library::Own(Kernel::Avx512));
            assert_eq!(none.library(256, [256, 256], precision), Library::Own(Kernel::Avx512));
        }
        let pairs = Choice { bf16: true, registers, ..none };
        for (precision, kernel) in [(Highest, Kernel::Avx512), (High, Kernel::Avx512), (Medium, Kernel::Bf16)] {
            assert_eq!(pairs.library(256, [256, 23], precision), Library::Own(kernel), "{precision:?}");
        }
        assert_eq!(pairs.library(9000, [256, 256], Medium), Library::Own(Kernel::Bf16));
        assert_eq!(pairs.library(256, [1, 256], Medium), Library::Own(Kernel::Avx512));
    }
}
