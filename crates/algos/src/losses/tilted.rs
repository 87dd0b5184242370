//! A mean that leans towards its high terms, on the host.

/// The mean of a term a row.
pub fn average(rows: usize, term: impl Fn(usize) -> f64) -> f64 {
    (0..rows).map(term).sum::<f64>() / rows as f64
}

/// log of the sum of `exp(x)`.
pub fn log_sum_exp(x: &[f64]) -> f64 {
    let highest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    highest + x.iter().map(|x| (x - highest).exp()).sum::<f64>().ln()
}

/// See [`tilted_mean`].
pub struct Tilted {
    pub loss: f64,
    /// Of the loss, a number a row.
    pub gradient: Vec<f64>,
    /// W, which sums to the number of rows.
    pub weight: Vec<f64>,
    /// KL divergence of W from uniform weights, `mean [W log W - W + 1]`.
    pub kl: f64,
}

/// `mean W l` with `W = B softmax(l / tau)`, differentiated through the weights:
/// `d/dl_i = W_i (1 + (l_i - mean W l) / tau) / B`.
pub fn tilted_mean(l: &[f64], tau: f64) -> Tilted {
    let count = l.len();
    let size = count as f64;
    let scaled: Vec<f64> = l.iter().map(|l| l / tau).collect();
    let level = log_sum_exp(&scaled) - size.ln();
    let weight: Vec<f64> = scaled.iter().map(|l| (l - level).exp()).collect();
    let loss = average(count, |i| weight[i] * l[i]);
    let kl = average(count, |i| weight[i] * (scaled[i] - level) - weight[i] + 1.0);
    let gradient = (0..count).map(|i| weight[i] * ((l[i] - loss) / tau + 1.0) / size).collect();
    Tilted { loss, gradient, weight, kl }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_exponents_do_not_overflow() {
        assert!((log_sum_exp(&[1000.0, 1000.0]) - 1000.0 - 2f64.ln()).abs() < 1e-12);
        assert!((log_sum_exp(&[0.0, 1.0]) - (1.0 + 1f64.exp()).ln()).abs() < 1e-12);
        assert!(log_sum_exp(&[0.0, f64::NAN]).is_nan());
    }

    #[test]
    fn the_gradient_of_the_tilted_mean_equals_finite_differences() {
        let l = [0.3, -1.2, 2.0, 0.7];
        let found = tilted_mean(&l, 0.8);
        assert!((found.weight.iter().sum::<f64>() - 4.0).abs() < 1e-12);
        for i in 0..l.len() {
            let moved = |step: f64| {
                let mut l = l;
                l[i] += step;
                tilted_mean(&l, 0.8).loss
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((slope - found.gradient[i]).abs() < 1e-8, "{i}");
        }
        let flat = tilted_mean(&[1.5; 3], 0.8);
        assert!((flat.loss - 1.5).abs() < 1e-12 && flat.kl.abs() < 1e-12);
    }
}
