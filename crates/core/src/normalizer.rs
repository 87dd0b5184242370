//! What networks see of observations and actions: statistics of the data, stored in every checkpoint and policy file.

use crate::error::{Error, Result};
use drcorl_actor::PolicyFile;
use drcorl_data::Columns;
use serde::{Deserialize, Serialize};

/// Spread of a column, as a share of its largest magnitude, below which float32 knows no difference: half a step is
/// 6e-8. Such a column is constant; any other is divided by its own deviation, whatever its unit.
const RESOLUTION: f64 = 1e-6;

/// Observation statistics and action box, learnt from the data and stored in every checkpoint and policy file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalizer {
    /// `[S]`
    pub observation_mean: Vec<f32>,
    /// `[S]`, standard deviation; 1 for an entry that is constant to float32's precision
    pub observation_std: Vec<f32>,
    /// `[A]`, lowest logged action
    pub action_low: Vec<f32>,
    /// `[A]`, highest logged action
    pub action_high: Vec<f32>,
}

impl Normalizer {
    /// Statistics of all transitions.
    pub fn fit(columns: &Columns) -> Self {
        let (states, actions) = (columns.obs_dim, columns.act_dim);
        let rows = columns.len().max(1) as f64;
        let mut mean = vec![0f64; states];
        for row in columns.observations.chunks_exact(states) {
            mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x) / rows);
        }
        let mut variance = vec![0f64; states];
        for row in columns.observations.chunks_exact(states) {
            for ((v, m), &x) in variance.iter_mut().zip(&mean).zip(row) {
                *v += (f64::from(x) - m).powi(2) / rows;
            }
        }
        let magnitude = magnitudes(&columns.observations, states);
        let scale = |(v, m): (&f64, &f64)| if v.sqrt() > RESOLUTION * m { v.sqrt() as f32 } else { 1.0 };
        let mut low = vec![f32::INFINITY; actions];
        let mut high = vec![f32::NEG_INFINITY; actions];
        for row in columns.actions.chunks_exact(actions) {
            for (i, &x) in row.iter().enumerate() {
                low[i] = low[i].min(x);
                high[i] = high[i].max(x);
            }
        }
        Normalizer {
            observation_mean: mean.iter().map(|&m| m as f32).collect(),
            observation_std: variance.iter().zip(&magnitude).map(scale).collect(),
            action_low: low,
            action_high: high,
        }
    }

    /// Leaves everything as logged; errs if an action lies outside [-1, 1].
    pub fn raw(columns: &Columns) -> Result<Self> {
        if let Some(index) = columns.actions.iter().position(|action| action.abs() > 1.0) {
            return Err(Error::Data(format!(
                "{}: action {} of row {} is {}, but --scaling raw needs actions in [-1, 1]; use --scaling standardized",
                columns.source,
                index % columns.act_dim,
                index / columns.act_dim,
                columns.actions[index]
            )));
        }
        Ok(Normalizer {
            observation_mean: vec![0.0; columns.obs_dim],
            observation_std: vec![1.0; columns.obs_dim],
            action_low: vec![-1.0; columns.act_dim],
            action_high: vec![1.0; columns.act_dim],
        })
    }

    /// `(x - mean) / std`, row-major.
    pub fn observations<'a>(&'a self, raw: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let width = self.observation_mean.len();
        raw.iter()
            .enumerate()
            .map(move |(i, x)| (x - self.observation_mean[i % width]) / self.observation_std[i % width])
    }

    /// Adds the normaliser and the action box to a policy file.
    pub fn describe(&self, file: &mut PolicyFile) {
        for (name, values) in [
            ("observation.mean", &self.observation_mean),
            ("observation.std", &self.observation_std),
            ("action.low", &self.action_low),
            ("action.high", &self.action_high),
        ] {
            file.insert(name, &[values.len()], values.clone());
        }
    }

    /// The action box mapped to [-1,1], row-major; a degenerate dimension maps to 0.
    pub fn actions<'a>(&'a self, raw: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let width = self.action_low.len();
        raw.iter().enumerate().map(move |(i, x)| {
            let (low, high) = (self.action_low[i % width], self.action_high[i % width]);
            let half = (high - low) / 2.0;
            if half <= RESOLUTION as f32 * low.abs().max(high.abs()) {
                0.0
            } else {
                ((x - low) / half - 1.0).clamp(-1.0, 1.0)
            }
        })
    }
}

/// Largest magnitude of each entry.
fn magnitudes(values: &[f32], width: usize) -> Vec<f64> {
    let mut largest = vec![0f64; width];
    for row in values.chunks_exact(width) {
        largest.iter_mut().zip(row).for_each(|(m, x)| *m = m.max(f64::from(x.abs())));
    }
    largest
}

/// Entries of an observation that are not constant to float32's precision, ascending.
pub(crate) fn varying(columns: &Columns) -> Vec<i64> {
    let width = columns.obs_dim;
    let (mut low, mut high) = (vec![f32::INFINITY; width], vec![f32::NEG_INFINITY; width]);
    for row in [&columns.observations, &columns.next_observations].iter().flat_map(|c| c.chunks(width)) {
        for (i, &x) in row.iter().enumerate() {
            (low[i], high[i]) = (low[i].min(x), high[i].max(x));
        }
    }
    let varies = |&i: &usize| {
        let largest = f64::from(low[i].abs().max(high[i].abs()));
        f64::from(high[i]) - f64::from(low[i]) > RESOLUTION * largest
    };
    let varying: Vec<i64> = (0..width).filter(varies).map(|i| i as i64).collect();
    // A state without entries is no state.
    if varying.is_empty() {
        return vec![0];
    }
    varying
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::columns;

    /// A floor of 0.01 hid sensors of small unit, one of 1e-6 turned actions of tiny unit into zeros.
    #[test]
    fn scaling_knows_no_unit() {
        let plain = columns(12, |i| (i == 3, i == 7));
        let fit = |unit: f32, offset: f32| {
            let mut scaled = plain.clone();
            scaled.observations.iter_mut().for_each(|x| *x = *x * unit + offset);
            scaled.actions.iter_mut().for_each(|a| *a *= unit);
            let normalizer = Normalizer::fit(&scaled);
            let observations: Vec<f32> = normalizer.observations(&scaled.observations).collect();
            let actions: Vec<f32> = normalizer.actions(&scaled.actions).collect();
            (observations, actions, normalizer)
        };
        let (observations, actions, _) = fit(1.0, 0.0);
        for unit in [1e-9, 1e-4, 1e6] {
            let (small, small_actions, _) = fit(unit, 0.0);
            assert!(small.iter().zip(&observations).all(|(a, b)| (a - b).abs() < 1e-4), "{unit}");
            assert!(small_actions.iter().zip(&actions).all(|(a, b)| (a - b).abs() < 1e-4), "{unit}");
        }
        // Constant, or so nearly that float32 sees steps of its own.
        for (unit, offset) in [(0.0, 3.25), (0.0, 0.0), (1e-8, 1.0)] {
            let (constant, _, normalizer) = fit(unit, offset);
            assert!(constant.iter().all(|x| x.abs() < 1e-6), "{constant:?}");
            assert!(normalizer.observation_std.iter().all(|&scale| scale == 1.0));
        }
    }
}
