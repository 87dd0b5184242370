//! The three matrix products of a linear layer, by whichever of libtorch's two libraries is fast on this CPU.
//!
//! libtorch multiplies by MKL, which keeps its AVX-512 code for Intel's processors: on an AMD EPYC it reaches 105 GFLOP/s a core, where
//! oneDNN, in the same libtorch, reaches 180-240 in the same exact fp32. On Intel both are equal and MKL needs no copies of its
//! operands. The choice follows the vendor, not a measurement: a measured one could fall otherwise tomorrow and change the bits of a
//! run. `DRCORL_MATMUL=mkl|onednn` overrides it; with MKL_ENABLE_INSTRUCTIONS=AVX2, an Intel machine shows what an AMD one sees.

use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

/// Smallest width of a layer, on both sides, at which oneDNN's gain exceeds the conversion of its operands.
const LEAST_WIDTH: i64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Library {
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

fn library() -> Library {
    static CHOICE: OnceLock<Library> = OnceLock::new();
    *CHOICE.get_or_init(|| {
        let onednn = match std::env::var("DRCORL_MATMUL").as_deref() {
            Ok("mkl") => false,
            Ok("onednn") => true,
            _ => foreign_x86(),
        };
        if onednn && tch::utils::has_mkldnn() {
            Library::OneDnn
        } else {
            Library::Default
        }
    })
}

fn choose(weight: &Tensor) -> Library {
    let wide = weight.size().iter().all(|&width| width >= LEAST_WIDTH);
    if wide && weight.device() == Device::Cpu && weight.kind() == Kind::Float {
        library()
    } else {
        Library::Default
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

/// `out [B,n] = input [B,m] weight^T`, `weight [n,m]`. All three may be strided views.
pub(super) fn forward(out: &Tensor, input: &Tensor, weight: &Tensor) {
    match choose(weight) {
        Library::Default => _ = input.mm_out(out, &weight.tr()),
        Library::OneDnn => onednn::forward(out, input, weight),
    }
}

/// `out [B,m] = grad [B,n] weight`.
pub(super) fn input_gradient(out: &Tensor, grad: &Tensor, weight: &Tensor) {
    match choose(weight) {
        Library::Default => _ = grad.mm_out(out, weight),
        Library::OneDnn => onednn::input_gradient(out, grad, weight),
    }
}

/// `weight_grad [n,m] = grad [B,n]^T input [B,m]`.
pub(super) fn weight_gradient(weight_grad: &Tensor, grad: &Tensor, input: &Tensor) {
    match choose(weight_grad) {
        Library::Default => _ = grad.tr().mm_out(weight_grad, input),
        Library::OneDnn => onednn::weight_gradient(weight_grad, grad, input),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On strided views, as the members of an ensemble are.
    #[test]
    fn both_libraries_give_the_same_products() {
        if !tch::utils::has_mkldnn() {
            return;
        }
        let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let (input, weight, grad) =
            (random([33, 2 * 70]).narrow(1, 70, 70), random([90, 70]), random([33, 2 * 90]).narrow(1, 0, 90));
        let close = |out: &Tensor, expected: &Tensor| {
            let distance = (out - expected).abs().max().double_value(&[]);
            assert!(distance < 5e-5, "{distance}");
        };
        let out = random([33, 3 * 90]).narrow(1, 90, 90);
        onednn::forward(&out, &input, &weight);
        close(&out, &input.mm(&weight.tr()));
        let out = random([33, 70]);
        onednn::input_gradient(&out, &grad, &weight);
        close(&out, &grad.mm(&weight));
        let out = random([90, 70]);
        onednn::weight_gradient(&out, &grad, &input);
        close(&out, &grad.tr().mm(&input));
    }
}
