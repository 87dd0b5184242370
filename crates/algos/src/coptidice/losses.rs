//! The losses of nu and chi in their values at the states of a step: each with its gradient, a number a state, held to
//! finite differences.

use super::rows::{dot, Rows};
use super::CoptidiceConfig;
use crate::losses::{average, tilted_mean, Tilted};
use drcorl_nn::probe;
use tch::Tensor;

/// The advantage `e` of nu and the ratio `w`, a number a row.
pub struct Ratio {
    pub e: Vec<f64>,
    pub w: Vec<f64>,
}

/// max(x, 0); NaN stays NaN.
fn relu(x: f64) -> f64 {
    if x < 0.0 {
        0.0
    } else {
        x
    }
}

impl Ratio {
    /// `e = r - lambda c + gamma (1-d) nu(s') - nu(s)` and `w = relu(f'^-1(e / alpha))` from the values `nu` at s and
    /// then s'.
    pub fn of(rows: &Rows, nu: &[f64], lambda: f64, config: &CoptidiceConfig) -> Ratio {
        let count = rows.count();
        let (nu, nu_next) = (&nu[..count], &nu[count..2 * count]);
        let e = |i: usize| rows.reward[i] - lambda * rows.cost[i] + rows.alive[i] * nu_next[i] - nu[i];
        let e: Vec<f64> = (0..count).map(e).collect();
        let w = |e: &f64| relu(config.divergence.inverse_derivative(e / config.alpha));
        let w: Vec<f64> = e.iter().map(w).collect();
        for (name, numbers) in [("nu", nu), ("nu_next", nu_next), ("e", &e), ("w", &w)] {
            probe::see_with(name, || Tensor::from_slice(numbers));
        }
        Ratio { e, w }
    }
}

/// See [`nu_loss`].
pub struct NuLoss {
    pub loss: f64,
    pub gradient: Vec<f64>,
    /// `E[f(w)]`
    pub divergence: f64,
}

/// `(1-gamma) E[nu(s0)] + E[w e - alpha f(w)]`, whose `ratio` is that of the values `nu`.
pub fn nu_loss(rows: &Rows, nu: &[f64], ratio: &Ratio, config: &CoptidiceConfig) -> NuLoss {
    let &CoptidiceConfig { gamma, alpha, divergence: f, .. } = config;
    let (w, e, count) = (&ratio.w, &ratio.e, rows.count());
    let divergence: Vec<f64> = w.iter().map(|&w| f.value(w)).collect();
    let start = (1.0 - gamma) * dot(&rows.start, nu);
    let loss = start + average(count, |i| w[i] * e[i] - alpha * divergence[i]);

    // f'(w) = e / alpha wherever w > 0, so that the derivative of w e - alpha f(w) for e is w.
    let mut gradient: Vec<f64> = rows.start.iter().map(|start| (1.0 - gamma) * start).collect();
    for i in 0..count {
        gradient[i] -= w[i] / count as f64;
        gradient[count + i] += w[i] * rows.alive[i] / count as f64;
    }
    NuLoss { loss, gradient, divergence: average(count, |i| divergence[i]) }
}

/// See [`chi_loss`].
pub struct ChiLoss {
    pub loss: f64,
    pub gradient: Vec<f64>,
    /// KL of W from uniform weights.
    pub kl: f64,
    /// `E[W w c]`, the bound on the cost.
    pub cost: f64,
}

/// `E[W l]` with `l = (1-gamma) chi(s0) + w (c + gamma (1-d) chi(s') - chi(s))` and `W = softmax(l / tau)` over the
/// batch, differentiated through W, as the published loss is.
pub fn chi_loss(rows: &Rows, chi: &[f64], w: &[f64], tau: f64, gamma: f64) -> ChiLoss {
    let count = rows.count();
    let size = count as f64;
    // A flagged row has its own term; separate initial states enter every row alike, and so cancel in the softmax.
    let everybody = dot(&rows.start, chi);
    let start = |i: usize| if rows.flagged { rows.start[i] * chi[i] * size } else { everybody };
    let flow = |i: usize| w[i] * (rows.cost[i] + rows.alive[i] * chi[count + i] - chi[i]);
    let l: Vec<f64> = (0..count).map(|i| (1.0 - gamma) * start(i) + flow(i)).collect();
    let Tilted { loss, gradient: slope, weight, kl } = tilted_mean(&l, tau);
    let cost = average(count, |i| weight[i] * w[i] * rows.cost[i]);

    let mut gradient: Vec<f64> = rows.start.iter().map(|start| (1.0 - gamma) * start).collect();
    for i in 0..count {
        if rows.flagged {
            // The slopes of all rows sum to 1, which is all that separate initial states see of them.
            gradient[i] *= slope[i] * size;
        }
        gradient[i] -= slope[i] * w[i];
        gradient[count + i] += slope[i] * w[i] * rows.alive[i];
    }
    ChiLoss { loss, gradient, kl, cost }
}

#[cfg(test)]
mod tests {
    use super::super::divergence::Divergence;
    use super::*;

    /// Three rows, one of which ends, and initial states among them or two of their own.
    fn rows(flagged: bool) -> Rows {
        let start =
            if flagged { vec![2.0 / 3.0, 0.0, 0.0, 0.0, 0.0, 0.0] } else { vec![0., 0., 0., 0., 0., 0., 0.5, 0.5] };
        Rows {
            reward: vec![0.3, -0.2, 0.9],
            cost: vec![0.0, 1.0, 1.0],
            alive: vec![0.9, 0.9, 0.0],
            states: Tensor::new(),
            start,
            flagged,
        }
    }

    const VALUES: [f64; 8] = [0.4, -0.3, 0.1, 0.7, -0.6, 0.2, 0.5, -0.1];

    fn slopes(values: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
        for (i, slope) in gradient.iter().enumerate() {
            let moved = |step: f64| {
                let mut values = values.to_vec();
                values[i] += step;
                loss(&values)
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((slope - expected).abs() < 1e-7, "state {i}: {slope}, not {expected}");
        }
    }

    #[test]
    fn gradients_equal_finite_differences() {
        for flagged in [true, false] {
            let rows = rows(flagged);
            let values = &VALUES[..rows.start.len()];
            for divergence in [Divergence::Softchi, Divergence::Chi2, Divergence::Kl] {
                let config = CoptidiceConfig { divergence, gamma: 0.9, ..CoptidiceConfig::default() };
                let at = |nu: &[f64]| nu_loss(&rows, nu, &Ratio::of(&rows, nu, 0.6, &config), &config);
                slopes(values, &at(values).gradient, |nu| at(nu).loss);
            }
            let w = [0.5, 0.0, 1.7];
            slopes(values, &chi_loss(&rows, values, &w, 0.4, 0.9).gradient, |chi| {
                chi_loss(&rows, chi, &w, 0.4, 0.9).loss
            });
        }
    }
}
