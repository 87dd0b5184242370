//! The two losses: each answers with its value and its gradient for the prediction.

use tch::{Device, Kind, Tensor};

/// `mean weights (prediction - plan)^2` over all entries of `[B,H,D]`, for `weights [H,D]`.
pub fn plan_error(prediction: &Tensor, plan: &Tensor, weights: &Tensor) -> (f64, Tensor) {
    let error = prediction - plan;
    let weighted = &error * weights;
    let loss = (&weighted * &error).mean(Kind::Double).double_value(&[]);
    (loss, weighted * (2.0 / error.numel() as f64))
}

/// `mean (values - target)^2`, both `[B,1]`.
pub fn value_error(values: &Tensor, target: &Tensor) -> (f64, Tensor) {
    let error = values - target;
    (error.square().mean(Kind::Double).double_value(&[]), &error * (2.0 / error.numel() as f64))
}

/// Weights `[H,D]` of the entries: `action_weight` for the first action, 1 for all others.
pub fn entry_weights(horizon: usize, actions: i64, entries: i64, action_weight: f64, device: Device) -> Tensor {
    let weights = Tensor::ones([horizon as i64, entries], (Kind::Float, device));
    let _ = weights.narrow(0, 0, 1).narrow(1, 0, actions).fill_(action_weight);
    weights
}

/// Mean squared error of the first action alone, `[B,H,D]` each.
pub fn first_action_error(prediction: &Tensor, plan: &Tensor, actions: i64) -> f64 {
    let first = |x: &Tensor| x.select(1, 0).narrow(1, 0, actions);
    (first(prediction) - first(plan)).square().mean(Kind::Double).double_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;

    /// Central differences of a loss that is a polynomial of degree 2 are exact up to rounding.
    fn follows_differences(loss: &dyn Fn(&Tensor) -> (f64, Tensor), at: &Tensor) {
        let gradient = loss(at).1.flatten(0, -1);
        for i in 0..at.numel() as i64 {
            let moved = |by: f64| {
                let x = at.copy();
                let _ = x.flatten(0, -1).narrow(0, i, 1).g_add_scalar_(by);
                loss(&x).0
            };
            let wanted = moved(0.5) - moved(-0.5);
            assert!((gradient.double_value(&[i]) - wanted).abs() < 1e-5, "entry {i}");
        }
    }

    #[test]
    fn gradients_follow_finite_differences() {
        let mut rng = Rng::new(1, 0);
        let mut draw = |shape: &[i64]| rng.normal(shape, Device::Cpu);
        let weights = entry_weights(3, 2, 5, 10.0, Device::Cpu);
        assert_eq!(weights.sum(Kind::Double).double_value(&[]), 13.0 + 20.0);
        let (plan, at) = (draw(&[2, 3, 5]), draw(&[2, 3, 5]));
        follows_differences(&|x| plan_error(x, &plan, &weights), &at);
        let (target, at) = (draw(&[4, 1]), draw(&[4, 1]));
        follows_differences(&|x| value_error(x, &target), &at);
    }

    #[test]
    fn the_first_action_counts_alone() {
        let plan = Tensor::zeros([1, 2, 3], (Kind::Float, Device::Cpu));
        let other = Tensor::from_slice(&[1.0f32, 3.0, 100.0, 100.0, 100.0, 100.0]).view([1, 2, 3]);
        assert_eq!(first_action_error(&other, &plan, 2), 5.0);
    }
}
