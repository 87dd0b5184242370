//! Losses of a network's outputs and the derivatives of what follows a network. A loss answers with its value and its
//! gradient for what it is given first; each is held to libtorch's autograd below.

use tch::{Kind, Tensor};

/// Mean over all elements of `(values - target)^2`.
pub fn mse(values: &Tensor, target: &Tensor) -> (f64, Tensor) {
    let error = values - target;
    let loss = error.square().mean(Kind::Double).double_value(&[]);
    let scale = 2.0 / error.numel() as f64;
    (loss, error * scale)
}

/// Carries `grad` at `squashed = tanh(x)` back to x.
pub fn through_tanh(squashed: &Tensor, grad: &Tensor) -> Tensor {
    grad * (1.0 - squashed.square())
}

/// Carries `grad` at `clamp(free, -bound, bound)` back to `free`.
pub fn through_clamp(free: &Tensor, bound: f64, grad: &Tensor) -> Tensor {
    grad * free.abs().le(bound).to_kind(Kind::Float)
}

/// Carries `grad` at `clamp(free, low, high)` back to `free`.
pub fn through_range(free: &Tensor, (low, high): (f64, f64), grad: &Tensor) -> Tensor {
    grad * free.ge(low).logical_and(&free.le(high)).to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use tch::Device;

    fn leaf(rng: &mut Rng) -> Tensor {
        rng.normal(&[7, 3], Device::Cpu).set_requires_grad(true)
    }

    fn close(found: &Tensor, leaf: &Tensor) {
        assert!((found - leaf.grad()).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn the_squared_error_equals_autograd() {
        let mut rng = Rng::new(1, 0);
        let (values, target) = (leaf(&mut rng), rng.normal(&[7, 3], Device::Cpu));
        let loss = (&values - &target).square().mean(Kind::Float);
        loss.backward();
        let (found, grad) = mse(&values.detach(), &target);
        assert!((found - loss.double_value(&[])).abs() < 1e-6);
        close(&grad, &values);
    }

    #[test]
    fn squashes_carry_gradients_as_autograd_does() {
        let mut rng = Rng::new(2, 0);
        let weights = rng.normal(&[7, 3], Device::Cpu);
        let x = leaf(&mut rng);
        (x.tanh() * &weights).sum(Kind::Float).backward();
        close(&through_tanh(&x.detach().tanh(), &weights), &x);
        let x = leaf(&mut rng);
        (x.clamp(-0.5, 0.5) * &weights).sum(Kind::Float).backward();
        close(&through_clamp(&x.detach(), 0.5, &weights), &x);
        let x = leaf(&mut rng);
        (x.clamp(-0.2, 0.7) * &weights).sum(Kind::Float).backward();
        close(&through_range(&x.detach(), (-0.2, 0.7), &weights), &x);
    }
}
