//! The last two layers of a network with one number as output, `v = <relu(W x + b), w> + c`, where the matrix unit multiplies.
//!
//! A ReLU is open or shut. With the ones and zeros M of its gates, `[B,n]`, and `s = dloss/dv [B]`, the gradient at its input is `diag(s) M diag(w)`, so that
//!
//! - `dloss/dx = diag(s) M diag(w) W`;
//! - `dW = diag(w) G`, `db = w t` with `G = M^T diag(s) x` and `t = M^T s`;
//! - `dw = rowsum(W G) + b t`, because `relu(W x + b) = M (W x + b)` row by row, and `dc = sum(s)`.
//!
//! One factor of both products is ones and zeros, of which the unit makes products in half of the time. Neither the layer's output nor the gradient there
//! is ever in memory: the backward pass needs a bit of each element.

use super::gemm::{self, Finish, Gates, Kernel, Matrix, ScalarHead};
use super::kernels::{elements, elements_mut, multiversion, sum_of};
use super::matmul;
use tch::{Kind, Tensor};

/// The parameters of both layers, or their gradients.
pub(super) struct Layers<'a> {
    /// W `[n,m]` and b `[n]`.
    pub inner: (&'a Tensor, &'a Tensor),
    /// w `[1,n]` and c `[1]`.
    pub head: (&'a Tensor, &'a Tensor),
}

/// True if layers with `weight [n,m]` are for this file, for batches of `rows` rows.
pub(super) fn takes(weight: &Tensor, rows: i64) -> bool {
    let size = <[i64; 2]>::try_from(weight.size()).expect("a weight is a matrix");
    matmul::by_unit(weight, rows) && gemm::takes_scalar_head(size.map(|n| n as usize))
}

/// True if [`input_gradient`] through layers with `weight [n,m]` may be written over the output of the ReLU it is carried through.
pub(super) fn overwrites(weight: &Tensor) -> bool {
    Kernel::Amx.overwrites(weight.size()[0])
}

/// `values [B,1] = v(input [B,m])`; the gates of these rows are written to `gates` from a row on.
pub(super) fn forward(values: &Tensor, input: &Tensor, layers: &Layers, gates: Option<(&mut Gates, usize)>) {
    let (weight, bias) = layers.inner;
    let (head, offset) = layers.head;
    let head = ScalarHead { bias: elements(bias), weight: elements(head), offset: elements(offset)[0] };
    gemm::scalar_head(Matrix::of(values), Matrix::of(input), Matrix::of(weight).transposed(), head, gates);
}

/// `out [B,m]` becomes `dloss/dx` for `grad [B,1]` (s), carried on through the ReLU with the output `active [B,m]`, which may be `out`.
pub(super) fn input_gradient(out: &Tensor, grad: &Tensor, gates: &Gates, layers: &Layers, active: &Tensor) {
    let finish = Finish::ScaledRelu(Matrix::row(grad), Matrix::of(active));
    let (weight, _) = layers.inner;
    gemm::through_gates(Matrix::of(out), (gates, false), elements(layers.head.0), Matrix::of(weight), finish);
}

/// Writes the gradients of all parameters for `grad [B,1]` (s) and `input [B,m]`.
pub(super) fn parameter_gradients(grad: &Tensor, input: &Tensor, gates: &Gates, layers: &Layers, gradients: &Layers) {
    let (weight_grad, bias_grad) = gradients.inner;
    let (head_grad, offset_grad) = gradients.head;
    let _ = grad.sum_intlist_out(offset_grad, 0i64, false, Kind::Float);
    let scale = elements(grad);
    if scale.is_empty() {
        let _ = weight_grad.shallow_clone().zero_();
    }
    gemm::through_gates(Matrix::of(weight_grad), (gates, true), scale, Matrix::of(input), Finish::Nothing);
    gates.weighted_sums(scale, elements_mut(bias_grad));
    finish_gradients(
        [layers.inner.0, layers.inner.1, layers.head.0].map(elements),
        elements_mut(weight_grad),
        elements_mut(bias_grad),
        elements_mut(head_grad),
    );
}

multiversion! {
    /// From G in `weight_grad` and t in `bias_grad` to gradients, for W, b and w.
    fn finish_gradients(layers: [&[f32]; 3], weight_grad: &mut [f32], bias_grad: &mut [f32], head_grad: &mut [f32]) {
        let [weight, bias, head] = layers;
        let width = weight.len() / head.len();
        let rows = weight.chunks_exact(width).zip(weight_grad.chunks_exact_mut(width));
        for (unit, (weight, grad)) in rows.enumerate() {
            head_grad[unit] = sum_of([weight, grad], |[weight, grad]| weight * grad) + bias[unit] * bias_grad[unit];
            bias_grad[unit] *= head[unit];
            for grad in grad {
                *grad *= head[unit];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn random(size: &[i64]) -> Tensor {
        Tensor::randn(size, (Kind::Float, Device::Cpu))
    }

    /// W, b, w, c of n units with m inputs.
    fn parameters(n: i64, m: i64) -> [Tensor; 4] {
        [random(&[n, m]), random(&[n]), random(&[1, n]), random(&[1])]
    }

    /// Against autograd in double precision: of every remainder of rows and widths, of all rows and of some, in place and not.
    #[test]
    fn values_and_gradients_equal_autograd() {
        if !Kernel::Amx.available() {
            return eprintln!("skipped: no matrix unit here");
        }
        for [rows, n, m] in [[1, 1, 1], [5, 33, 7], [64, 512, 256], [300, 70, 65], [97, 256, 256], [33, 48, 31]] {
            let input = random(&[rows, m]).relu();
            let [weight, bias, head, offset] = parameters(n, m);
            let leaves = [&input, &weight, &bias, &head, &offset];
            let tracked = leaves.map(|x| x.to_kind(Kind::Double).set_requires_grad(true));
            let [x, w, b, h, c] = &tracked;
            let expected = x.linear(w, Some(b)).relu().linear(h, Some(c));
            let close = |found: &Tensor, expected: &Tensor| {
                let distance = (found.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
                let scale = expected.abs().max().double_value(&[]).max(1.0);
                assert!(distance < 2e-6 * scale * (n as f64).sqrt(), "{rows}x{n}x{m}: {distance} of {scale}");
            };

            let layers = Layers { inner: (&weight, &bias), head: (&head, &offset) };
            let outputs = Tensor::full([rows, 3], 7.0, (Kind::Float, Device::Cpu));
            let values = outputs.narrow(1, 1, 1);
            let mut gates = Gates::shut(rows as usize + 2, n as usize);
            forward(&values, &input, &layers, Some((&mut gates, 2)));
            close(&values, &expected);
            assert_eq!(outputs.eq(7.0).sum(Kind::Int64).int64_value(&[]), 2 * rows, "columns of others");
            let again = values.zeros_like();
            forward(&again, &input, &layers, None);
            assert_eq!(again, values.contiguous());

            let some: Vec<i64> = (0..rows).filter(|row| row % 3 != 1).collect();
            for list in [(0..rows).collect(), some] {
                let index = Tensor::from_slice(&list);
                let (gates, input) =
                    (gates.pick(&list.iter().map(|row| row + 2).collect::<Vec<_>>()), input.index_select(0, &index));
                let grad = random(&[list.len() as i64, 1]);
                let loss = (expected.index_select(0, &index) * grad.to_kind(Kind::Double)).sum(Kind::Double);
                let wanted = Tensor::run_backward(&[loss], &tracked, true, false);

                let gradients = [&weight, &bias, &head, &offset].map(Tensor::empty_like);
                let [wg, bg, hg, cg] = &gradients;
                parameter_gradients(&grad, &input, &gates, &layers, &Layers { inner: (wg, bg), head: (hg, cg) });
                gradients.iter().zip(&wanted[1..]).for_each(|(found, wanted)| close(found, wanted));

                let through = wanted[0].index_select(0, &index) * input.sign().to_kind(Kind::Double);
                let apart = input.empty_like();
                input_gradient(&apart, &grad, &gates, &layers, &input);
                close(&apart, &through);
                if Kernel::Amx.overwrites(n) {
                    input_gradient(&input, &grad, &gates, &layers, &input);
                    assert_eq!(input, apart, "in place");
                }
            }
        }
    }

    #[test]
    fn no_rows_have_no_gradients() {
        if !Kernel::Amx.available() {
            return eprintln!("skipped: no matrix unit here");
        }
        let [weight, bias, head, offset] = parameters(40, 20);
        let layers = Layers { inner: (&weight, &bias), head: (&head, &offset) };
        let gradients = [&weight, &bias, &head, &offset].map(|x| x.full_like(7.0));
        let [wg, bg, hg, cg] = &gradients;
        let (none, input) = (random(&[0, 1]), random(&[0, 20]));
        let gates = Gates::shut(0, 40);
        parameter_gradients(&none, &input, &gates, &layers, &Layers { inner: (wg, bg), head: (hg, cg) });
        assert!(gradients.iter().all(|gradient| *gradient == gradient.zeros_like()));
        input_gradient(&input.empty_like(), &none, &gates, &layers, &input);
    }

    /// An overflow must not look like a dead unit.
    #[test]
    fn nan_is_not_hidden() {
        if !Kernel::Amx.available() {
            return eprintln!("skipped: no matrix unit here");
        }
        let [weight, bias, head, offset] = parameters(40, 20);
        let layers = Layers { inner: (&weight, &bias), head: (&head, &offset) };
        let input = random(&[3, 20]);
        let _ = input.narrow(0, 1, 1).fill_(f64::NAN);
        let values = random(&[3, 1]);
        forward(&values, &input, &layers, None);
        assert_eq!(values.isnan().view([-1]), Tensor::from_slice(&[false, true, false]));
    }
}
