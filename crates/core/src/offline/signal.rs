//! How a logged cost becomes a model's target and a model's output a cost, whatever its unit and sign.

use tch::Tensor;

/// Spread, as a share of the largest magnitude, below which float32 knows no difference.
const RESOLUTION: f64 = 1e-6;

/// What the data say a cost is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CostKind {
    /// 0 or one positive number, `unit`: its probability is learnt.
    Flag { unit: f64 },
    /// Any number: centred and divided by its spread, never outside the logged range.
    Real { center: f64, scale: f64, low: f64, high: f64 },
}

impl CostKind {
    /// Of the logged costs.
    pub fn of(costs: &[f32]) -> Self {
        let (low, high) =
            costs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &c| (l.min(c.into()), h.max(c.into())));
        let unit = if high > 0.0 { high } else { 1.0 };
        if costs.iter().all(|&c| c == 0.0 || f64::from(c) == unit) {
            return CostKind::Flag { unit };
        }
        let (center, scale) = center_and_scale(costs);
        CostKind::Real { center, scale, low, high }
    }

    /// Costs `[B,1]` as the network's target.
    pub fn target(self, cost: &Tensor) -> Tensor {
        match self {
            CostKind::Flag { unit } => cost / unit,
            CostKind::Real { center, scale, .. } => (cost - center) / scale,
        }
    }

    /// Gradient of the loss of outputs `[B,1]` against [`CostKind::target`]: cross entropy or squared error.
    pub fn gradient(self, output: &Tensor, target: &Tensor) -> Tensor {
        match self {
            CostKind::Flag { .. } => output.sigmoid() - target,
            CostKind::Real { .. } => (output - target) * 2.0,
        }
    }

    /// Costs `[B,1]` of the network's outputs.
    pub fn predicted(self, output: &Tensor) -> Tensor {
        match self {
            CostKind::Flag { unit } => output.sigmoid() * unit,
            CostKind::Real { center, scale, low, high } => (output * scale + center).clamp(low, high),
        }
    }

    /// Lowest and highest cost of a step.
    pub fn range(self) -> (f64, f64) {
        match self {
            CostKind::Flag { unit } => (0.0, unit),
            CostKind::Real { low, high, .. } => (low, high),
        }
    }
}

/// Mean and deviation; a signal that is constant to float32's precision is divided by its magnitude instead.
pub(super) fn center_and_scale(values: &[f32]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let center = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let scale = (values.iter().map(|&x| (f64::from(x) - center).powi(2)).sum::<f64>() / count).sqrt();
    let largest = values.iter().fold(0f64, |most, &x| most.max(f64::from(x).abs()));
    match (scale > RESOLUTION * largest, largest > 0.0) {
        (true, _) => (center, scale),
        (false, true) => (center, largest),
        (false, false) => (center, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Targets that a network can learn: centred, of unit size, and back again without loss of sign.
    #[test]
    fn any_cost_becomes_a_target_of_unit_size_and_comes_back() {
        for costs in [vec![0.0, 0.01, 0.01], vec![0.5; 4], vec![-3.0, 2.0, 0.5], vec![1e6, 2e6, 4e6], vec![0.0; 3]] {
            let kind = CostKind::of(&costs);
            let logged = Tensor::from_slice(&costs).unsqueeze(1);
            let target = kind.target(&logged);
            assert!(target.abs().max().double_value(&[]) < 2.0, "{costs:?}: {target:?}");
            if let CostKind::Real { .. } = kind {
                let back = kind.predicted(&target) - &logged;
                let most = logged.abs().max().double_value(&[]);
                assert!(back.abs().max().double_value(&[]) <= 1e-5 * most, "{costs:?}");
                assert!(target.mean(tch::Kind::Double).double_value(&[]).abs() < 1e-4, "{costs:?}");
            }
        }
    }

    #[test]
    fn two_values_are_a_probability_in_any_unit() {
        assert_eq!(CostKind::of(&[0.0, 1.0, 0.0]), CostKind::Flag { unit: 1.0 });
        assert_eq!(CostKind::of(&[0.0, 100.0]), CostKind::Flag { unit: 100.0 });
        assert_eq!(CostKind::of(&[0.0, 0.0]), CostKind::Flag { unit: 1.0 });
        assert!(matches!(CostKind::of(&[0.0, -1.0]), CostKind::Real { .. }));
        assert_eq!(CostKind::of(&[-1.0, 3.0]).range(), (-1.0, 3.0));
    }
}
