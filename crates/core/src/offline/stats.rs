//! Means, deviations, correlations and quantiles of small samples.

/// 0 for nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The larger of two; NaN where one is.
pub fn larger(a: f64, b: f64) -> f64 {
    if b.is_nan() || b > a {
        b
    } else {
        a
    }
}

/// Population deviation.
pub fn deviation(values: &[f64]) -> f64 {
    let center = mean(values);
    (values.iter().map(|x| (x - center).powi(2)).sum::<f64>() / values.len().max(1) as f64).sqrt()
}

/// Sample deviation; 0 for fewer than two values.
pub fn sample_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    deviation(values) * (values.len() as f64 / (values.len() - 1) as f64).sqrt()
}

/// Pearson correlation; 0 where it is not defined.
pub fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let covariance: f64 = a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum();
    let spread = |values: &[f64], mean: f64| values.iter().map(|x| (x - mean).powi(2)).sum::<f64>().sqrt();
    let scale = spread(a, mean_a) * spread(b, mean_b);
    if scale > 0.0 && scale.is_finite() {
        covariance / scale
    } else {
        0.0
    }
}

/// The smallest of `values` that a new one of their kind stays at or below with probability `level`: the one-sided
/// conformal quantile, the largest where they are too few to say more. 0 for nothing.
pub fn conformal(values: &[f64], level: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (level * (sorted.len() + 1) as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

/// Mean of the `1 - level` largest values: what the worst episodes cost.
pub fn tail_mean(values: &[f64], level: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let count = (((1.0 - level) * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len().max(1));
    mean(&sorted[..count.min(sorted.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_the_larger() {
        assert_eq!((larger(1.0, 2.0), larger(2.0, 1.0)), (2.0, 2.0));
        assert!(larger(f64::NAN, 1.0).is_nan() && larger(1.0, -f64::NAN).is_nan());
    }

    #[test]
    fn correlation_of_a_constant_is_zero() {
        assert_eq!(correlation(&[1.0, 1.0], &[0.0, 5.0]), 0.0);
        assert!((correlation(&[1.0, 2.0, 3.0], &[-2.0, -4.0, -6.0]) + 1.0).abs() < 1e-12);
    }

    #[test]
    fn quantiles_and_tails_by_hand() {
        let values = [3.0, 1.0, 4.0, 2.0];
        assert_eq!((conformal(&values, 0.4), conformal(&values, 0.8), conformal(&values, 0.99)), (2.0, 4.0, 4.0));
        assert_eq!((tail_mean(&values, 0.5), tail_mean(&values, 0.99)), (3.5, 4.0));
        assert_eq!(
            (conformal(&[], 0.9), tail_mean(&[], 0.9), mean(&[]), sample_deviation(&[1.0])),
            (0.0, 0.0, 0.0, 0.0)
        );
        assert!((sample_deviation(&values) - (5.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }
}
