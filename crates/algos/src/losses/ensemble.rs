//! One value a row of an ensemble's members `[B,E]`, `[B,1]`, and its derivative for each of them, `[B,E]`.

use crate::critics::{self, Bound};
use tch::{Kind, Tensor};

/// Keeps the derivative of a deviation finite where all members agree.
const FLOOR: f64 = 1e-8;

/// Mean plus `k` sample standard deviations over members; the spread of one member is 0.
pub fn upper_confidence(values: &Tensor, k: f64) -> (Tensor, Tensor) {
    let members = values.size()[1] as f64;
    let mut slope = values.ones_like() / members;
    if k != 0.0 && members > 1.0 {
        let centred = values - values.mean_dim(1i64, true, Kind::Float);
        slope += centred / (values.std_dim(1i64, true, true).clamp_min(FLOOR) * (members - 1.0)) * k;
    }
    (critics::upper_confidence(values, k), slope)
}

/// The lowest or the highest member; of equal ones the first has the derivative.
pub fn bound(values: &Tensor, side: Bound) -> (Tensor, Tensor) {
    let speaker = match side {
        Bound::Min => values.argmin(1, true),
        Bound::Max => values.argmax(1, true),
    };
    (critics::bound(values, side), values.zeros_like().scatter_value(1, &speaker, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;
    use tch::Device;

    #[test]
    fn derivatives_equal_autograd() {
        let values = Rng::new(3, 0).normal(&[5, 4], Device::Cpu);
        let check = |name: &str, term: &dyn Fn(&Tensor) -> (Tensor, Tensor)| {
            let leaf = values.copy().set_requires_grad(true);
            term(&leaf).0.sum(Kind::Float).backward();
            let (value, slope) = term(&values);
            assert_eq!((value.size(), slope.size()), (vec![5, 1], vec![5, 4]), "{name}");
            assert!((slope - leaf.grad()).abs().max().double_value(&[]) < 1e-5, "{name}");
        };
        for k in [0.0, 1.5] {
            check(&format!("k {k}"), &|values| upper_confidence(values, k));
        }
        for side in [Bound::Min, Bound::Max] {
            check(&format!("{side:?}"), &|values| bound(values, side));
        }
    }

    #[test]
    fn members_that_agree_and_a_single_one_have_finite_derivatives() {
        let same = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
        assert!((upper_confidence(&same, 2.0).1 - 1.0 / 3.0).abs().max().double_value(&[]) < 1e-7);
        assert_eq!(upper_confidence(&same.narrow(1, 0, 1), 2.0).1, same.narrow(1, 0, 1));
    }
}
