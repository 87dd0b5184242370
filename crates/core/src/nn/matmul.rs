//! The three matrix products of a linear layer, by whatever is fast on this CPU.
//!
//! libtorch multiplies by MKL, which keeps its AVX-512 code for Intel's processors: on an AMD EPYC it reaches 105 GFLOP/s a core, where
//! oneDNN, in the same libtorch, reaches 180-240 in the same exact fp32, less the copies of its operands. Where there is AVX-512,
//! [`super::gemm`] multiplies what is small enough, without their calls and most of their copies. Large products remain MKL's on Intel's
//! processors and oneDNN's on others.
//!
//! The choice follows the processor and the sizes, not a measurement: a measured one could fall otherwise tomorrow and change the bits of a
//! run. `DRCORL_MATMUL=own|mkl|onednn` overrides it; with MKL_ENABLE_INSTRUCTIONS=AVX2, an Intel machine shows what an AMD one sees of MKL.

#[cfg(target_arch = "x86_64")]
use super::gemm;
use super::kernels;
use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

/// Smallest width of a layer, on both sides, at which oneDNN's gain exceeds the conversion of its operands.
const LEAST_WIDTH: i64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Library {
    Own,
    Default,
    OneDnn,
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

/// True where [`gemm`] runs.
fn own() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        gemm::available()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// What a processor does by which library.
struct Choice {
    /// Most rows and widths for [`gemm`].
    own: i64,
    large: Library,
}

impl Choice {
    /// For this processor, or as asked for.
    fn of(asked: &str) -> Choice {
        let large = match (tch::utils::has_mkldnn(), asked) {
            (true, "onednn") => Library::OneDnn,
            (true, "") if foreign_x86() => Library::OneDnn,
            _ => Library::Default,
        };
        let own = match asked {
            _ if !own() => 0,
            "own" => i64::MAX,
            "" if foreign_x86() => 4096,
            // MKL's copies of both operands pay from here.
            "" => 512,
            _ => 0,
        };
        Choice { own, large }
    }
}

/// For `rows` rows through a layer with `weight [out,in]`.
fn choose(weight: &Tensor, rows: i64) -> Library {
    static CHOICE: OnceLock<Choice> = OnceLock::new();
    if weight.device() != Device::Cpu || weight.kind() != Kind::Float {
        return Library::Default;
    }
    let choice = CHOICE.get_or_init(|| Choice::of(&std::env::var("DRCORL_MATMUL").unwrap_or_default()));
    let widths = weight.size();
    if rows <= choice.own && widths.iter().all(|&width| width <= choice.own) {
        return Library::Own;
    }
    match choice.large {
        Library::OneDnn if widths.iter().any(|&width| width < LEAST_WIDTH) => Library::Default,
        large => large,
    }
}

/// True if [`input_gradient`] through a ReLU may be written over that ReLU's output, for `rows` rows and a layer with `weight [out,in]`.
pub(super) fn overwrites(weight: &Tensor, rows: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        choose(weight, rows) == Library::Own && weight.size()[0] <= gemm::MOST_OVERWRITABLE as i64
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (weight, rows);
        false
    }
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

/// The products by [`gemm`]; false where it does not take an operand as it lies.
mod own {
    #[cfg(target_arch = "x86_64")]
    use super::gemm::{product, Finish, Matrix};
    use super::{After, Factor};
    use tch::Tensor;

    /// `out = left right`.
    #[cfg(target_arch = "x86_64")]
    pub fn multiply(out: &Tensor, left: Factor, right: Factor, after: After) -> bool {
        let of = |(tensor, transposed): Factor| match transposed {
            true => Matrix::of(tensor).transposed(),
            false => Matrix::of(tensor),
        };
        let finish = match after {
            After::Nothing => Finish::Nothing,
            After::Add => Finish::Add,
            After::BiasRelu(bias) => Finish::BiasRelu(Matrix::row(bias)),
            After::Relu(active) => Finish::Relu(Matrix::of(active)),
        };
        product(Matrix::of(out), of(left), of(right), finish)
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn multiply(_: &Tensor, _: Factor, _: Factor, _: After) -> bool {
        false
    }
}

/// What becomes of a product; in the same pass where the library knows how, else in one of its own.
#[derive(Clone, Copy)]
pub(super) enum After<'a> {
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
        After::BiasRelu(bias) => kernels::bias_relu(out, bias),
        After::Relu(active) => {
            assert!(out.data_ptr() != active.data_ptr(), "the product has overwritten the ReLU's output");
            kernels::relu_backward(out, active);
        }
    }
}

impl Library {
    /// `out = left right`; `onednn` makes that product where it is oneDNN's, which cannot add.
    fn multiply(self, out: &Tensor, left: Factor, right: Factor, after: After, onednn: impl FnOnce()) {
        let of = |(tensor, transposed): Factor| if transposed { tensor.tr() } else { tensor.shallow_clone() };
        match (self, after) {
            (Library::Own, _) if own::multiply(out, left, right, after) => return,
            (_, After::Add) => _ = out.addmm_out(out, &of(left), &of(right)),
            (Library::OneDnn, _) => onednn(),
            _ => _ = of(left).mm_out(out, &of(right)),
        }
        pass(out, after);
    }

    fn forward(self, out: &Tensor, input: &Tensor, weight: &Tensor, after: After) {
        self.multiply(out, (input, false), (weight, true), after, || onednn::forward(out, input, weight));
    }

    fn input_gradient(self, out: &Tensor, grad: &Tensor, weight: &Tensor, after: After) {
        self.multiply(out, (grad, false), (weight, false), after, || onednn::input_gradient(out, grad, weight));
    }

    fn weight_gradient(self, out: &Tensor, grad: &Tensor, input: &Tensor, after: After) {
        self.multiply(out, (grad, true), (input, false), after, || onednn::weight_gradient(out, grad, input));
    }
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

    /// On strided views, as columns of a batch are, with everything that can come after.
    #[test]
    fn all_libraries_give_the_same_products() {
        let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let (input, weight, grad) = (random([33, 2 * 70]).narrow(1, 70, 70), random([90, 70]), random([33, 90]));
        let (bias, active) = (random([1, 90]).view([90]), random([33, 70]).relu());
        let forward = input.mm(&weight.tr()) + &bias;
        let backward = grad.mm(&weight);
        let parameters = grad.tr().mm(&input);
        let available = |library: &Library| match library {
            Library::Own => own(),
            Library::OneDnn => tch::utils::has_mkldnn(),
            Library::Default => true,
        };
        for library in [Library::Own, Library::OneDnn, Library::Default].into_iter().filter(available) {
            let check = |expected: &Tensor, run: &dyn Fn(&Tensor)| {
                let out = expected.full_like(0.5);
                run(&out);
                let distance = (&out - expected).abs().max().double_value(&[]);
                assert!(distance < 5e-5, "{library:?}: {distance}");
            };
            check(&forward.relu(), &|out| library.forward(out, &input, &weight, After::BiasRelu(&bias)));
            check(&(&forward - &bias), &|out| library.forward(out, &input, &weight, After::Nothing));
            check(&backward, &|out| library.input_gradient(out, &grad, &weight, After::Nothing));
            let through = &backward * active.sign();
            check(&through, &|out| library.input_gradient(out, &grad, &weight, After::Relu(&active)));
            check(&parameters, &|out| library.weight_gradient(out, &grad, &input, After::Nothing));
            check(&(&parameters + 0.5), &|out| library.weight_gradient(out, &grad, &input, After::Add));
            let none = |tensor: &Tensor| tensor.narrow(0, 0, 0);
            check(&parameters.zeros_like(), &|out| {
                library.weight_gradient(out, &none(&grad), &none(&input), After::Nothing)
            });
            let broken = input.full_like(f64::NAN);
            let out = forward.zeros_like();
            library.forward(&out, &broken, &weight, After::BiasRelu(&bias));
            assert!(out.isnan().all().double_value(&[]) == 1.0, "{library:?} hides NaN");
        }
    }
}
