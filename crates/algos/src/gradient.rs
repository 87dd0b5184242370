//! Gradient manipulation (12) and the Safe Adaptation switch (Algorithm 2): pure functions on flat vectors and numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Which objective a policy step follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// The estimate is well below the limit: reward only (19).
    Reward,
    /// The estimate is near the limit: both objectives, combined by (12).
    Band,
    /// The estimate is above the limit: cost only (20).
    Cost,
}

/// The branch for a normalised cost estimate `Chat / l` (spec 1.8). Boundaries belong to the lower branch.
pub fn branch(normalised_cost: f64, slack_below: f64, slack_above: f64) -> Branch {
    if normalised_cost <= 1.0 - slack_below {
        Branch::Reward
    } else if normalised_cost <= 1.0 + slack_above {
        Branch::Band
    } else {
        Branch::Cost
    }
}

/// The switch without a band (CRPO): reward up to `1 + slack_above`, cost beyond.
pub fn branch_without_band(normalised_cost: f64, slack_above: f64) -> Branch {
    if normalised_cost <= 1.0 + slack_above {
        Branch::Reward
    } else {
        Branch::Cost
    }
}

/// Slack at `step` of `steps`: linear from `initial` to exactly 0 at the last step.
pub fn slack(initial: f64, step: u64, steps: u64) -> f64 {
    if step + 1 >= steps {
        return 0.0;
    }
    initial * (1.0 - step as f64 / (steps - 1) as f64)
}

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
    /// `<g_r, g_c>`
    pub inner: f64,
    /// True if a weight met the cap.
    pub capped: bool,
    /// True if the two cancel: nothing is left to step along.
    pub stalled: bool,
}

/// Combines two flat gradients `[P]` by (12). The coefficients are computed in double precision.
pub fn manipulate(reward: &Tensor, cost: &Tensor, cap: f64) -> Manipulated {
    let dot = |a: &Tensor, b: &Tensor| a.dot(b).double_value(&[]);
    let (reward_norm2, cost_norm2, inner) = (dot(reward, reward), dot(cost, cost), dot(reward, cost));
    let (x_reward, x_cost) = weights(reward_norm2, cost_norm2, inner, f64::INFINITY);
    let capped = x_reward > cap || x_cost > cap;
    let gradient = reward * x_reward.min(cap) + cost * x_cost.min(cap);
    let norm2 = gradient.square().sum(Kind::Double).double_value(&[]);
    // sin^2 of the angle at rounding level: the vectors are opposite and the sum is noise.
    let stalled = inner < 0.0 && norm2 <= 1e-10 * (x_reward * x_reward * reward_norm2 + x_cost * x_cost * cost_norm2);
    Manipulated { gradient, inner, capped, stalled }
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

    /// U18: no objective is worsened, and the exact identities of both cases.
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

    /// U19: orthogonality of the projections, continuity, symmetry, scale, opposite and zero vectors.
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

    /// U20: a small step along the result worsens neither of two quadratics; the plain sum does when the norms differ.
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

    /// U21: the grid of branches with its boundaries, the band-free variant, and the slack schedule.
    #[test]
    fn branches_and_slack() {
        let grid = [
            (0.0, Branch::Reward),
            (0.8, Branch::Reward),
            (0.81, Branch::Band),
            (1.0, Branch::Band),
            (1.2, Branch::Band),
            (1.21, Branch::Cost),
        ];
        for (cost, expected) in grid {
            assert_eq!(branch(cost, 0.2, 0.2), expected, "{cost}");
        }
        assert_eq!(branch(1.0, 0.0, 0.0), Branch::Reward);
        assert_eq!(branch(1.0 + 1e-9, 0.0, 0.0), Branch::Cost);
        assert_eq!(branch_without_band(1.1, 0.1), Branch::Reward);
        assert_eq!(branch_without_band(1.1001, 0.1), Branch::Cost);
        assert_eq!(slack(0.2, 0, 11), 0.2);
        assert!((slack(0.2, 5, 11) - 0.1).abs() < 1e-12);
        assert_eq!(slack(0.2, 10, 11), 0.0);
        assert_eq!(slack(0.2, 0, 1), 0.0);
    }
}
