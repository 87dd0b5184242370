//! Gradient manipulation (12): a pure function of two flat vectors.

use drcorl_nn::probe;
use tch::{Kind, Tensor};

/// Weights of `g = x_r g_r + x_c g_c` in (12) from `<g_r,g_r>`, `<g_c,g_c>`, `<g_r,g_c>`, each weight at most `cap`.
///
/// Aligned gradients get (1/2, 1/2). Conflicting ones are first projected on each other's normal plane, which makes
/// `x_r = (1 - <g_r,g_c>/||g_r||^2)/2`; a weight has no upper bound when the norms differ much, hence the cap.
pub fn weights(reward_norm2: f64, cost_norm2: f64, inner: f64, cap: f64) -> (f64, f64) {
    if inner >= 0.0 || reward_norm2 <= 0.0 || cost_norm2 <= 0.0 {
        return (0.5, 0.5);
    }
    ((0.5 * (1.0 - inner / reward_norm2)).min(cap), (0.5 * (1.0 - inner / cost_norm2)).min(cap))
}

/// The result of [`manipulate`].
pub struct Manipulated {
    /// `[P]`
    pub gradient: Tensor,
    /// Of each objective, as capped.
    pub weights: Vec<f64>,
    /// True if a weight met the cap.
    pub capped: bool,
    /// True if the two cancel: nothing is left to step along.
    pub stalled: bool,
}

/// Combines two flat gradients `[P]` by (12). The coefficients are computed in double precision.
pub fn manipulate(reward: &Tensor, cost: &Tensor, cap: f64) -> Manipulated {
    let dot = |a: &Tensor, b: &Tensor| a.dot(b).double_value(&[]);
    let (reward_norm2, cost_norm2, inner) = (dot(reward, reward), dot(cost, cost), dot(reward, cost));
    probe::see_with("inner_product", || Tensor::from(inner));
    let (x_reward, x_cost) = weights(reward_norm2, cost_norm2, inner, f64::INFINITY);
    let capped = x_reward > cap || x_cost > cap;
    let gradient = reward * x_reward.min(cap) + cost * x_cost.min(cap);
    let norm2 = gradient.square().sum(Kind::Double).double_value(&[]);
    // sin^2 of the angle at rounding level: the vectors are opposite and the sum is noise.
    let stalled = inner < 0.0 && norm2 <= 1e-10 * (x_reward * x_reward * reward_norm2 + x_cost * x_cost * cost_norm2);
    Manipulated { gradient, weights: vec![x_reward.min(cap), x_cost.min(cap)], capped, stalled }
}

/// Weights of `g = sum_i x_i g_i` for any number of objectives, from the matrix of their inner products, `[n][n]`.
///
/// Every gradient is projected on the cone of directions that worsen none of the others, and the projections are
/// averaged: `<g, g_j> >= 0` for every j, whatever the others are, and for two objectives this is (12). A projection is
/// `g_i + sum_j l_j g_j` with the multipliers `l_j >= 0` that make it shortest, found by descent on one at a time.
pub fn cone_weights(inner: &[Vec<f64>]) -> Vec<f64> {
    const SWEEPS: usize = 10_000;
    let count = inner.len();
    let mut weights = vec![1.0 / count as f64; count];
    for (i, products) in inner.iter().enumerate() {
        let mut multipliers = vec![0.0f64; count];
        for _ in 0..SWEEPS {
            let mut moved = 0.0f64;
            for j in (0..count).filter(|&j| j != i && inner[j][j] > 0.0) {
                let others = multipliers.iter().zip(inner).map(|(multiplier, row)| multiplier * row[j]);
                let slope = products[j] + others.sum::<f64>();
                let next = (multipliers[j] - slope / inner[j][j]).max(0.0);
                moved = moved.max((next - multipliers[j]).abs());
                multipliers[j] = next;
            }
            if moved <= 1e-14 {
                break;
            }
        }
        weights.iter_mut().zip(&multipliers).for_each(|(weight, multiplier)| *weight += multiplier / count as f64);
    }
    weights
}

/// Combines flat gradients `[P]` of any number of objectives by [`cone_weights`], each weight at most `cap`.
pub fn manipulate_all(gradients: &[&Tensor], cap: f64) -> Manipulated {
    let dot = |a: &Tensor, b: &Tensor| a.dot(b).double_value(&[]);
    let inner: Vec<Vec<f64>> = gradients.iter().map(|a| gradients.iter().map(|b| dot(a, b)).collect()).collect();
    let weights = cone_weights(&inner);
    let capped = weights.iter().any(|&weight| weight > cap);
    let parts = gradients.iter().zip(&weights).map(|(gradient, weight)| *gradient * weight.min(cap));
    let gradient = parts.reduce(|sum, part| sum + part).expect("at least one objective");
    let norm2 = gradient.square().sum(Kind::Double).double_value(&[]);
    let length2: f64 = weights.iter().enumerate().map(|(i, weight)| weight * weight * inner[i][i]).sum();
    let conflict = inner.iter().flatten().any(|&product| product < 0.0);
    let stalled = conflict && norm2 <= 1e-10 * length2;
    Manipulated { gradient, weights: weights.iter().map(|weight| weight.min(cap)).collect(), capped, stalled }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drcorl_nn::rng::Rng;
    use tch::Device;

    fn pair(rng: &mut Rng, n: i64) -> (Tensor, Tensor) {
        (rng.normal(&[n], Device::Cpu).to_kind(Kind::Double), rng.normal(&[n], Device::Cpu).to_kind(Kind::Double))
    }

    fn dot(a: &Tensor, b: &Tensor) -> f64 {
        a.dot(b).double_value(&[])
    }

    /// No objective is worsened, and the exact identities of both cases.
    #[test]
    fn inner_products_follow_the_identities() {
        let mut rng = Rng::new(0, 0);
        let mut conflicts = 0;
        for i in 0..200 {
            let (r, mut c) = pair(&mut rng, 7);
            if i % 2 == 0 {
                c = &c - &r * 1.5;
            }
            let m = manipulate(&r, &c, f64::INFINITY);
            let (with_r, with_c) = (dot(&m.gradient, &r), dot(&m.gradient, &c));
            assert!(with_r >= -1e-9 && with_c >= -1e-9);
            let made = &r * m.weights[0] + &c * m.weights[1];
            assert!((&m.gradient - made).abs().max().double_value(&[]) < 1e-12);
            let (rr, cc, rc) = (dot(&r, &r), dot(&c, &c), dot(&r, &c));
            if rc >= 0.0 {
                assert!((with_r - (rr + rc) / 2.0).abs() < 1e-9);
            } else {
                conflicts += 1;
                let sin2 = 1.0 - rc * rc / (rr * cc);
                assert!((with_r - rr * sin2 / 2.0).abs() < 1e-9 && (with_c - cc * sin2 / 2.0).abs() < 1e-9);
            }
        }
        assert!(conflicts > 50);
    }

    /// Orthogonality of the projections, continuity, symmetry, scale, opposite and zero vectors.
    #[test]
    fn projection_properties() {
        let mut rng = Rng::new(1, 0);
        let (r, c) = pair(&mut rng, 9);
        let c = &c - &r * 2.0;
        let rc = dot(&r, &c);
        assert!(rc < 0.0);
        let r_plus = &r - &c * (rc / dot(&c, &c));
        let c_plus = &c - &r * (rc / dot(&r, &r));
        assert!(dot(&r_plus, &c).abs() < 1e-9 && dot(&c_plus, &r).abs() < 1e-9);
        let combined = manipulate(&r, &c, f64::INFINITY).gradient;
        let distance = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(distance(&combined, &((&r_plus + &c_plus) * 0.5)) < 1e-12);
        assert!(distance(&combined, &manipulate(&c, &r, f64::INFINITY).gradient) < 1e-12);
        assert!(distance(&(&combined * 3.0), &manipulate(&(&r * 3.0), &(&c * 3.0), f64::INFINITY).gradient) < 1e-9);
        // Continuity where the inner product vanishes.
        let orthogonal = &c_plus;
        let above = manipulate(&r, &(orthogonal + &r * 1e-9), f64::INFINITY).gradient;
        let below = manipulate(&r, &(orthogonal - &r * 1e-9), f64::INFINITY).gradient;
        assert!(distance(&above, &below) < 1e-7);
        let opposite = manipulate(&r, &(&r * -2.0), f64::INFINITY);
        assert!(opposite.stalled && opposite.gradient.abs().max().double_value(&[]) < 1e-9);
        let zero = r.zeros_like();
        assert!(distance(&manipulate(&r, &zero, f64::INFINITY).gradient, &(&r * 0.5)) < 1e-12);
        assert!(distance(&manipulate(&zero, &zero, f64::INFINITY).gradient, &zero) == 0.0);
    }

    /// A small step along the result worsens neither of two quadratics; the plain sum does when the norms differ.
    #[test]
    fn a_small_step_improves_both_objectives() {
        let reward_optimum = Tensor::from_slice(&[10.0f64, 0.0]);
        let cost_optimum = Tensor::from_slice(&[-1.0f64, 0.5]);
        let x = Tensor::from_slice(&[0.0f64, 0.0]);
        let value = |x: &Tensor, optimum: &Tensor| -0.5 * (x - optimum).square().sum(Kind::Double).double_value(&[]);
        let (r, c) = (&reward_optimum - &x, &cost_optimum - &x);
        let g = manipulate(&r, &c, f64::INFINITY).gradient;
        let moved = &x + &g * 1e-3;
        assert!(value(&moved, &reward_optimum) >= value(&x, &reward_optimum));
        assert!(value(&moved, &cost_optimum) >= value(&x, &cost_optimum));
        let summed = &x + (&r + &c) * 1e-3;
        assert!(value(&summed, &cost_optimum) < value(&x, &cost_optimum));
    }

    #[test]
    fn a_capped_weight_is_reported() {
        let r = Tensor::from_slice(&[1e-3f64, 0.0]);
        let c = Tensor::from_slice(&[-1.0f64, 1.0]);
        let m = manipulate(&r, &c, 10.0);
        assert!(m.capped && (dot(&m.gradient, &Tensor::from_slice(&[1.0f64, 0.0]))).is_finite());
        assert!(!manipulate(&r, &c, f64::INFINITY).capped);
    }

    /// Reward and two costs, as worked out by hand: the reward loses a third of what opposes each cost, a cost what
    /// opposes the reward; in the plane three objectives may leave no direction.
    #[test]
    fn three_objectives_in_closed_form() {
        let vector = |values: &[f64]| Tensor::from_slice(values);
        let (reward, one, other) = (vector(&[1.0, 0.0, 0.0]), vector(&[-1.0, 1.0, 0.0]), vector(&[-1.0, 0.0, 1.0]));
        let combined = manipulate_all(&[&reward, &one, &other], f64::INFINITY);
        let expected = vector(&[1.0 / 9.0, 4.0 / 9.0, 4.0 / 9.0]);
        assert!((&combined.gradient - expected).abs().max().double_value(&[]) < 1e-9, "{:?}", combined.weights);
        assert!([&reward, &one, &other].iter().all(|objective| dot(&combined.gradient, objective) > 0.1));
        let weights = [(1.0 + 2.0) / 3.0, (1.0 + 1.0 / 3.0) / 3.0, (1.0 + 1.0 / 3.0) / 3.0];
        assert!(combined.weights.iter().zip(weights).all(|(found, exact)| (found - exact).abs() < 1e-9));
        let half = 0.75f64.sqrt();
        let star = [vector(&[1.0, 0.0]), vector(&[-0.5, half]), vector(&[-0.5, -half])];
        assert!(manipulate_all(&star.iter().collect::<Vec<_>>(), f64::INFINITY).stalled);
    }

    /// Of any number of objectives none is worsened; two are combined as by (12); the order does not matter.
    #[test]
    fn more_than_two_objectives_are_combined_without_harm() {
        let mut rng = Rng::new(4, 0);
        let distance = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        for round in 0..60 {
            let count = 2 + round % 4;
            let common = rng.normal(&[9], Device::Cpu).to_kind(Kind::Double);
            let gradients: Vec<Tensor> = (0..count)
                .map(|i| {
                    rng.normal(&[9], Device::Cpu).to_kind(Kind::Double) + &common * if i % 2 == 0 { 1.0 } else { -1.0 }
                })
                .collect();
            let all: Vec<&Tensor> = gradients.iter().collect();
            let combined = manipulate_all(&all, f64::INFINITY).gradient;
            for gradient in &gradients {
                assert!(dot(&combined, gradient) >= -1e-6, "{count}: {}", dot(&combined, gradient));
            }
            let reversed: Vec<&Tensor> = gradients.iter().rev().collect();
            assert!(distance(&combined, &manipulate_all(&reversed, f64::INFINITY).gradient) < 1e-6);
            if count == 2 {
                let pair = manipulate(&gradients[0], &gradients[1], f64::INFINITY).gradient;
                assert!(distance(&combined, &pair) < 1e-9);
            }
        }
        let (one, zero) = (Tensor::from_slice(&[1.0, 0.0]), Tensor::zeros([2], (Kind::Double, Device::Cpu)));
        let other = Tensor::from_slice(&[0.0, 1.0]);
        let mean = manipulate_all(&[&one, &other, &zero], f64::INFINITY).gradient;
        assert!(distance(&mean, &Tensor::from_slice(&[1.0 / 3.0, 1.0 / 3.0])) < 1e-12);
        assert!(manipulate_all(&[&one, &(&one * -2.0), &(&one * -1.0)], f64::INFINITY).stalled);
    }
}
