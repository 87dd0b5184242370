//! Terms of CCAC: critics behind a softplus, a classifier's cross entropy, what a multiplier weighs.

use super::config::ClampGradient;
use crate::critics::mean;
use tch::Tensor;

/// What a network makes of its last layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Linear,
    Softplus,
}

impl Output {
    /// The values of `raw`.
    pub fn values(self, raw: &Tensor) -> Tensor {
        match self {
            Output::Linear => raw.shallow_clone(),
            Output::Softplus => raw.clamp_min(0.0) + (-raw.abs()).exp().log1p(),
        }
    }

    /// Carries `grad` at the values back to `raw`.
    pub fn through(self, raw: &Tensor, grad: Tensor) -> Tensor {
        match self {
            Output::Linear => grad,
            Output::Softplus => grad * raw.sigmoid(),
        }
    }
}

/// `mean -[y log p + (1 - y) log(1 - p)]`, p the sigmoid of `logits [N,1]`, for `labels [N,1]`; and its gradient for
/// `logits`.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> (f64, Tensor) {
    let loss = mean(&(Output::Softplus.values(logits) - logits * labels));
    (loss, (logits.sigmoid() - labels) / logits.numel() as f64)
}

/// `mean weight (values - budget)`, all `[N,1]`, and its gradient for `values`.
pub fn weighted_excess(values: &Tensor, budget: &Tensor, weight: &Tensor) -> (f64, Tensor) {
    (mean(&(weight * (values - budget))), weight / values.size()[0] as f64)
}

/// Where in `values [N,E]` the member stands that speaks for its row, as ones, by the lowest or the highest.
pub fn speaker(values: &Tensor, side: crate::critics::Bound) -> Tensor {
    let member = match side {
        crate::critics::Bound::Min => values.argmin(1, true),
        crate::critics::Bound::Max => values.argmax(1, true),
    };
    values.zeros_like().scatter_value(1, &member, 1.0)
}

/// Values kept within `[least, most]`, and what passes of a gradient for them.
pub struct Clamp {
    pub least: Tensor,
    pub most: Tensor,
    pub gradient: ClampGradient,
}

impl Clamp {
    pub fn values(&self, raw: &Tensor) -> Tensor {
        raw.maximum(&self.least).minimum(&self.most)
    }

    /// The gradient for `raw` of a loss whose gradient for the values is `gradient`. A clamp that let none pass would
    /// hold for ever what has reached its bound: on BallCircle all multipliers stayed at the highest, whatever the
    /// cost.
    pub fn through(&self, raw: &Tensor, gradient: Tensor) -> Tensor {
        if self.gradient == ClampGradient::Straight {
            return gradient;
        }
        let above = raw.gt_tensor(&self.most).logical_and(&gradient.lt(0.0));
        let below = raw.lt_tensor(&self.least).logical_and(&gradient.gt(0.0));
        gradient.masked_fill(&above.logical_or(&below), 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;
    use tch::{Device, Kind};

    fn leaf(rng: &mut Rng) -> Tensor {
        (rng.normal(&[9, 1], Device::Cpu) * 3.0).set_requires_grad(true)
    }

    fn close(found: &Tensor, leaf: &Tensor) {
        assert!((found - leaf.grad()).abs().max().double_value(&[]) < 1e-6);
    }

    /// Of values beyond a bound, those move that would come back.
    #[test]
    fn a_clamp_lets_pass_what_leads_inward() {
        let clamp = |gradient| Clamp { least: Tensor::from(-1.0f32), most: Tensor::from(2.0f32), gradient };
        let raw = Tensor::from_slice(&[3.0f32, 3.0, 0.5, 2.0, -4.0, -4.0]);
        let gradient = Tensor::from_slice(&[1.0f32, -1.0, -1.0, -1.0, 1.0, -1.0]);
        let inward = clamp(ClampGradient::Inward);
        assert_eq!(inward.values(&raw), Tensor::from_slice(&[2.0f32, 2.0, 0.5, 2.0, -1.0, -1.0]));
        let expected = Tensor::from_slice(&[1.0f32, 0.0, -1.0, -1.0, 0.0, -1.0]);
        assert_eq!(inward.through(&raw, gradient.copy()), expected);
        assert_eq!(clamp(ClampGradient::Straight).through(&raw, gradient.copy()), gradient);
    }

    #[test]
    fn the_cross_entropy_equals_autograd() {
        let mut rng = Rng::new(1, 0);
        let (logits, labels) = (leaf(&mut rng), rng.normal(&[9, 1], Device::Cpu).gt(0.0).to_kind(Kind::Float));
        let loss = logits.sigmoid().binary_cross_entropy::<&Tensor>(&labels, None, tch::Reduction::Mean);
        loss.backward();
        let (found, gradient) = cross_entropy(&logits.detach(), &labels);
        assert!((found - loss.double_value(&[])).abs() < 1e-5);
        close(&gradient, &logits);
    }

    #[test]
    fn a_softplus_is_positive_and_carries_gradients_as_autograd_does() {
        let mut rng = Rng::new(2, 0);
        let (raw, weights) = (leaf(&mut rng), rng.normal(&[9, 1], Device::Cpu));
        (raw.softplus() * &weights).sum(Kind::Float).backward();
        close(&Output::Softplus.through(&raw.detach(), weights.copy()), &raw);
        let values = Output::Softplus.values(&Tensor::from_slice(&[-200f32, -1.0, 0.0, 50.0]));
        assert!(values.ge(0.0).all().int64_value(&[]) == 1);
        assert!((values.double_value(&[2]) - 2f64.ln()).abs() < 1e-6 && values.double_value(&[3]) == 50.0);
    }

    #[test]
    fn the_excess_equals_autograd() {
        let mut rng = Rng::new(3, 0);
        let (values, budget) = (leaf(&mut rng), rng.normal(&[9, 1], Device::Cpu));
        let weight = rng.normal(&[9, 1], Device::Cpu).exp();
        ((&values - &budget) * &weight).mean(Kind::Float).backward();
        close(&weighted_excess(&values.detach(), &budget, &weight).1, &values);
    }
}
