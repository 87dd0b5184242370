//! Gaussian noise on observations.

use super::{Rules, StepReport};
use crate::columns::Columns;
use crate::draws::Draws;
use crate::error::Result;
use crate::watch::Watch;

pub(super) fn apply(
    columns: &mut Columns,
    scale: f64,
    rules: Rules,
    watch: &Watch,
    draws: &mut dyn Draws,
) -> Result<StepReport> {
    let note = match rules {
        Rules::Fixed => {
            shared(columns, scale, watch, draws)?;
            "per entry, the same for a state as successor and as observation"
        }
        Rules::Dsrl => {
            pooled(&mut columns.observations, scale, draws);
            watch.check(&columns.source)?;
            pooled(&mut columns.next_observations, scale, draws);
            "one deviation for all entries, drawn anew for successors"
        }
    };
    let changed = columns.episodes().len();
    Ok(StepReport { step: "noise", removed: 0, changed, note: note.to_owned() })
}

/// An episode of T steps has T + 1 states; each gets one draw per entry.
fn shared(columns: &mut Columns, scale: f64, watch: &Watch, draws: &mut dyn Draws) -> Result<()> {
    let dim = columns.obs_dim;
    let deviations: Vec<f64> = (0..dim)
        .map(|entry| scale * deviation(columns.observations.iter().skip(entry).step_by(dim).copied()))
        .collect();
    for episode in columns.episodes() {
        watch.check(&columns.source)?;
        for state in episode.start..=episode.end {
            for (entry, deviation) in deviations.iter().enumerate() {
                let noise = deviation * draws.normal();
                if state < episode.end {
                    add(&mut columns.observations[state * dim + entry], noise);
                }
                if state > episode.start {
                    add(&mut columns.next_observations[(state - 1) * dim + entry], noise);
                }
            }
        }
    }
    Ok(())
}

fn pooled(values: &mut [f32], scale: f64, draws: &mut dyn Draws) {
    let deviation = scale * deviation(values.iter().copied());
    values.iter_mut().for_each(|value| add(value, deviation * draws.normal()));
}

fn add(value: &mut f32, noise: f64) {
    *value = (f64::from(*value) + noise) as f32;
}

/// Population standard deviation, as NumPy's `std`; 0 for no values.
fn deviation(values: impl Iterator<Item = f32> + Clone) -> f64 {
    let n = values.clone().count().max(1) as f64;
    let mean = values.clone().map(f64::from).sum::<f64>() / n;
    (values.map(|v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}
