//! Kind `gaussian`: a network as the mean of a Gaussian in the box, `clip(tanh(mlp(s)) + sample sd eps, -1, 1)`.
//!
//! The setting `sample` is 0 for the mean, 1 for a draw, or another factor on the deviation, which is `deviation.std`
//! everywhere or `exp(clip(deviation(..), low, high))` of the last hidden layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use drcorl_kernels::InstructionSet;

use crate::actor::{Frame, Kind, Play, Turn};
use crate::draws::Draws;
use crate::error::{Error, Result};
use crate::file::Fields;
use crate::network::{Buffers, Hidden, Network, BLOCK};

/// The standard deviation around the mean.
#[derive(Debug)]
enum Deviation {
    Constant(f32),
    /// Its logarithm, clipped to a range.
    Network(Network, f32, f32),
}

#[derive(Debug)]
struct Gaussian {
    mean: Network,
    deviation: Deviation,
    seed: u64,
}

/// Name of the setting: the factor on the deviation.
const SAMPLE: &str = "sample";

/// Reads the kind's own fields: `actor.*`, and `deviation.std` or `deviation.weight`, `.bias` and `.range`.
pub(crate) fn read(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Arc<dyn Kind>> {
    fields.choice("hidden_activation", &[("relu", ())])?;
    fields.choice("output_activation", &[("tanh", ())])?;
    fields.number("setting.sample")?;
    let mean = Network::read(fields, "actor", frame.obs_dim(), frame.act_dim(), Hidden::Relu, set)?;
    let deviation = if fields.has("deviation.std") {
        let std = fields.vector("deviation.std", 1)?[0];
        if std < 0.0 {
            return Err(Error::data("deviation.std", &format!("value 0 is {std}, below 0")));
        }
        Deviation::Constant(std)
    } else {
        let range = fields.vector("deviation.range", 2)?;
        if range[0] > range[1] {
            let text = format!("value 0 is {}, above value 1, {}", range[0], range[1]);
            return Err(Error::data("deviation.range", &text));
        }
        Deviation::Network(mean.branch(fields, "deviation")?, range[0], range[1])
    };
    Ok(Arc::new(Gaussian { mean, deviation, seed: fields.whole("seed")? }))
}

impl Kind for Gaussian {
    fn remembers(&self) -> bool {
        false
    }

    fn refuses(&self, name: &str, value: f64) -> Option<String> {
        let negative = name == SAMPLE && value < 0.0;
        negative.then(|| format!("is {value}; give 0 for the mean, 1 for draws, or another factor on the deviation"))
    }

    fn play(self: Arc<Self>, settings: &BTreeMap<String, f64>) -> Box<dyn Play> {
        let sample = settings.get(SAMPLE).copied().unwrap_or_default() as f32;
        let buffers = Buffers::for_networks([&self.mean], BLOCK);
        Box::new(GaussianPlay { policy: self, sample, buffers, steps: Vec::new(), deviations: Vec::new() })
    }
}

struct GaussianPlay {
    policy: Arc<Gaussian>,
    sample: f32,
    buffers: Buffers,
    /// Step of its episode a row is at.
    steps: Vec<u64>,
    /// `sample sd eps` of a block, `[n, A]`.
    deviations: Vec<f32>,
}

impl GaussianPlay {
    /// Writes the normalised observations of a block where a network reads them.
    fn enter(&mut self, frame: &Frame, observations: &[f32]) {
        let obs_dim = frame.obs_dim();
        let rows = self.buffers.rows().chunks_exact_mut(obs_dim);
        rows.zip(observations.chunks_exact(obs_dim)).for_each(|(row, observation)| frame.normalize(observation, row));
    }

    /// Draws the deviations of a block whose rows are at `steps` of their episodes.
    fn draw(&mut self, frame: &Frame, steps: &[u64], observations: &[f32]) {
        let (obs_dim, act_dim) = (frame.obs_dim(), frame.act_dim());
        let count = observations.len() / obs_dim;
        self.enter(frame, observations);
        self.deviations.resize(count * act_dim, 0.0);
        let states = self.buffers.rows().chunks_exact(obs_dim);
        for ((state, out), &step) in states.zip(self.deviations.chunks_exact_mut(act_dim)).zip(steps) {
            let mut draws = Draws::new(self.policy.seed, step, state);
            out.fill_with(|| self.sample * draws.normal());
        }
        match &self.policy.deviation {
            Deviation::Constant(std) => self.deviations.iter_mut().for_each(|value| *value *= std),
            Deviation::Network(network, low, high) => {
                let stride = network.run(&mut self.buffers, count);
                let results = self.buffers.rows().chunks_exact(stride);
                for (out, result) in self.deviations.chunks_exact_mut(act_dim).zip(results) {
                    out.iter_mut().zip(result).for_each(|(value, log)| *value *= log.clamp(*low, *high).exp());
                }
            }
        }
    }
}

impl Play for GaussianPlay {
    fn reset(&mut self, rows: &[usize]) {
        for &row in rows {
            if let Some(step) = self.steps.get_mut(row) {
                *step = 0;
            }
        }
    }

    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]) {
        let rows = turn.observations.len() / frame.obs_dim();
        let mut steps = std::mem::take(&mut self.steps);
        if steps.len() < rows {
            steps.resize(rows, 0);
        }
        self.act_at(frame, &steps[..rows], turn, out);
        steps[..rows].iter_mut().for_each(|step| *step += 1);
        self.steps = steps;
    }

    fn act_at(&mut self, frame: &Frame, steps: &[u64], turn: Turn<'_>, out: &mut [f32]) {
        let (obs_dim, act_dim) = (frame.obs_dim(), frame.act_dim());
        let blocks = turn.observations.chunks(BLOCK * obs_dim).zip(out.chunks_mut(BLOCK * act_dim));
        for (block, (observations, out)) in blocks.enumerate() {
            let draws = self.sample != 0.0;
            if draws {
                self.draw(frame, &steps[block * BLOCK..], observations);
            }
            self.enter(frame, observations);
            let stride = self.policy.mean.run(&mut self.buffers, observations.len() / obs_dim);
            let results = self.buffers.rows().chunks_exact(stride);
            for (row, (action, result)) in out.chunks_exact_mut(act_dim).zip(results).enumerate() {
                for (i, value) in action.iter_mut().enumerate() {
                    let mean = result[i].tanh();
                    let unit = if draws { (mean + self.deviations[row * act_dim + i]).clamp(-1.0, 1.0) } else { mean };
                    *value = frame.action(i, unit);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Actor, PolicyFile, Turn};

    /// One observation, two actions in [0, 2]: means tanh(0), tanh(1) for the observation 0.
    fn file(constant: bool) -> PolicyFile {
        let mut file = PolicyFile::new("gaussian");
        file.set("hidden_activation", "relu");
        file.set("output_activation", "tanh");
        file.set("seed", 3);
        file.set_setting("sample", 0.0);
        file.insert_layer("actor", 0, vec![1.0, -1.0], vec![0.5, 0.5]);
        file.insert_layer("actor", 1, vec![0.3, -0.3, 0.2, -0.2], vec![0.0, 1.0]);
        if constant {
            file.insert("deviation.std", &[1], vec![0.1]);
        } else {
            file.insert("deviation.weight", &[2, 2], vec![0.0; 4]);
            file.insert("deviation.bias", &[2], vec![0.1f32.ln(), -9.0]);
            file.insert("deviation.range", &[2], vec![-5.0, 2.0]);
        }
        for (name, width, value) in
            [("observation.mean", 1, 0.0), ("observation.std", 1, 1.0), ("action.low", 2, 0.0), ("action.high", 2, 2.0)]
        {
            file.insert(name, &[width], vec![value; width]);
        }
        file
    }

    fn act(actor: &Actor, observations: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; 2 * observations.len()];
        actor.play().act(Turn::first(observations), &mut out).unwrap();
        out
    }

    /// The mean unless samples are asked for; their moments, their range and their box.
    #[test]
    fn the_mean_is_played_and_samples_on_request() {
        for constant in [true, false] {
            let mut actor = Actor::new(&file(constant)).unwrap();
            let mean = [1.0f32, 1.0 + 1f32.tanh()];
            let played = act(&actor, &[0.0]);
            assert!(played.iter().zip(mean).all(|(a, m)| (a - m).abs() < 1e-6), "{played:?}");
            actor.set("sample", 1.0).unwrap();
            // Observations so close that the means agree, each with draws of its own.
            let near: Vec<f32> = (0..4000).map(|i| i as f32 * 1e-9).collect();
            let drawn = act(&actor, &near);
            for (i, (expected, clipped)) in
                [(0.1f64, false), (if constant { 0.1 } else { (-5f64).exp() }, true)].into_iter().enumerate()
            {
                let values: Vec<f64> = drawn.iter().skip(i).step_by(2).map(|&a| f64::from(a - mean[i])).collect();
                let average = values.iter().sum::<f64>() / values.len() as f64;
                let std = (values.iter().map(|v| (v - average).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
                assert!(
                    average.abs() < 0.05 * expected.max(0.02) + 0.005 * f64::from(u8::from(clipped)),
                    "{i}: {average}"
                );
                assert!((std / expected - 1.0).abs() < 0.05, "{i}: {std} for {expected}");
            }
            actor.set("sample", 100.0).unwrap();
            assert!(act(&actor, &near).iter().all(|a| (0.0..=2.0).contains(a)));
            assert!(actor.set("sample", -1.0).unwrap_err().to_string().contains("0 for the mean"));
        }
    }

    /// A draw depends on seed, step and observation, not on the batch; a reset begins again.
    #[test]
    fn draws_repeat_and_differ_by_step() {
        let mut actor = Actor::new(&file(false)).unwrap();
        actor.set("sample", 1.0).unwrap();
        let observations: Vec<f32> = (0..70).map(|i| (i as f32 * 0.37).sin()).collect();
        let together = act(&actor, &observations);
        for (i, observation) in observations.iter().enumerate() {
            assert_eq!(act(&actor, &[*observation]), together[2 * i..2 * i + 2]);
        }
        let mut player = actor.play();
        let mut turn = || {
            let mut out = vec![0.0; 140];
            player.act(Turn::first(&observations), &mut out).unwrap();
            out
        };
        assert_eq!(turn(), together);
        assert_ne!(turn(), together);
        player.reset(&(0..70).collect::<Vec<_>>());
        let mut out = vec![0.0; 140];
        player.act(Turn::first(&observations), &mut out).unwrap();
        assert_eq!(out, together);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut PolicyFile)| {
            let mut file = file(false);
            change(&mut file);
            Actor::new(&file).unwrap_err().to_string()
        };
        assert!(refused(&|f| f.insert("deviation.weight", &[2, 1], vec![0.0; 2])).contains("deviation.weight"));
        assert!(refused(&|f| f.insert("deviation.range", &[2], vec![1.0, 0.0])).contains("deviation.range"));
        assert!(refused(&|f| f.insert("deviation.std", &[1], vec![-1.0])).contains("deviation.std"));
        assert!(refused(&|f| f.set_setting("sample", -1.0)).contains("setting.sample"));
    }
}
