//! The episodes that a run keeps from everything it learns, for the test of the models behind its certificate.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::normalizer::Normalizer;
use crate::run::{RunConfig, Scaling};
use drcorl_data::{split, Columns, Split, SplitOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::Device;

/// Episodes that were kept from all of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeldOut {
    /// Of the complete episodes, as asked for.
    pub share: f64,
    /// Drew them: `data split` of this share and seed sets the same ones aside.
    pub seed: u64,
    pub episodes: usize,
    pub transitions: usize,
}

impl HeldOut {
    /// What `data` holds out; None where nothing.
    pub fn of(data: &Dataset, run: &RunConfig) -> Option<HeldOut> {
        let episodes = data.held_out.len();
        let transitions = data.held_out.iter().map(|&i| data.episodes[i].len()).sum();
        (episodes > 0).then_some(HeldOut { share: run.holdout, seed: run.seed, episodes, transitions })
    }
}

/// The data to learn from and, where `holdout` keeps episodes from that, all of them with those marked: observations
/// and actions are scaled by what is learnt from alone.
pub fn parts(columns: Arc<Columns>, run: &RunConfig, device: Device) -> Result<(Dataset, Option<Dataset>)> {
    if run.holdout == 0.0 {
        return Ok((Dataset::scaled(columns, run.episode_length, run.scaling, device)?, None));
    }
    let options = SplitOptions { share: run.holdout, seed: run.seed };
    let refused = |error| Error::Config(format!("holdout is {}: {error}", run.holdout));
    let Split { train, held, .. } = split(&columns, &options).map_err(refused)?;
    let normalizer = match run.scaling {
        Scaling::Standardized => Normalizer::fit(&train),
        Scaling::Raw => Normalizer::raw(&columns)?,
    };
    let data = Dataset::normalized(Arc::new(train), run.episode_length, normalizer.clone(), device)?;
    let mut all = Dataset::normalized(columns, run.episode_length, normalizer, device)?;
    all.held_out = (0..held.len()).filter(|&i| held[i]).collect();
    Ok((data, Some(all)))
}
