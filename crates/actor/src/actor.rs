//! The policy and its evaluation.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::file;
use crate::kernel::{Kernel, Rows};
use crate::layer::{check_finite, Layer};

/// Rows taken through all layers together, so that their activations stay in the processor's nearest caches.
const BLOCK: usize = 32;

/// Weights of a policy, for [`Actor::new`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parts {
    /// Affine layers in order. ReLU follows all but the last one.
    pub layers: Vec<LayerParts>,
    /// `[S]`, subtracted from an observation.
    pub observation_mean: Vec<f32>,
    /// `[S]`, positive; divides an observation after the mean is subtracted.
    pub observation_std: Vec<f32>,
    /// `[A]`, smallest action.
    pub action_low: Vec<f32>,
    /// `[A]`, largest action.
    pub action_high: Vec<f32>,
}

/// One affine layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LayerParts {
    /// Row-major `[out, in]`, PyTorch's order.
    pub weight: Vec<f32>,
    /// `[out]`.
    pub bias: Vec<f32>,
}

/// A deterministic feed-forward policy. See the [crate's page](crate) for what it computes.
#[derive(Debug, Clone)]
pub struct Actor {
    layers: Vec<Layer>,
    mean: Vec<f32>,
    std: Vec<f32>,
    low: Vec<f32>,
    high: Vec<f32>,
    metadata: BTreeMap<String, String>,
    kernel: Kernel,
}

/// Working memory of [`Actor::act`]. One is needed per thread; any actor can use it.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    front: Vec<f32>,
    back: Vec<f32>,
}

impl Actor {
    /// Reads `policy.safetensors`.
    ///
    /// # Errors
    /// `Io` if the file cannot be read; `Data` or `Shape`, naming file and field, if it is no such file, is
    /// truncated, or holds a tensor that does not fit the others or is not finite.
    pub fn load(path: &Path) -> Result<Actor> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| {
            let text = format!("cannot be read: {e}; check the path");
            Error::new(ErrorKind::Io, None, &text).in_file(&name)
        })?;
        Self::from_bytes(&bytes).map_err(|e| e.in_file(&name))
    }

    /// Reads the content of a `policy.safetensors` file.
    ///
    /// # Errors
    /// As [`Actor::load`], without the file's name.
    pub fn from_bytes(bytes: &[u8]) -> Result<Actor> {
        let (parts, metadata) = file::parse(bytes)?;
        let mut actor = Self::new(parts)?;
        actor.metadata = metadata;
        Ok(actor)
    }

    /// The content of a `policy.safetensors` file. The same actor and metadata give the same bytes.
    ///
    /// `metadata` is what the file says about its origin (`algorithm`, `name`, `created_by`); `format` and the
    /// two activations are filled in here and cannot be overridden.
    pub fn to_bytes(&self, metadata: &BTreeMap<String, String>) -> Vec<u8> {
        file::format(&self.parts(), metadata)
    }

    /// Builds a policy from its weights.
    ///
    /// # Errors
    /// `Shape` if sizes disagree; `Data` if a value is not finite, a `std` is not positive or `low > high`. The
    /// field is named as in the file, for example `actor.1.weight`.
    pub fn new(parts: Parts) -> Result<Actor> {
        let obs_dim = parts.observation_mean.len();
        let act_dim = parts.action_low.len();
        if obs_dim == 0 {
            return Err(Error::shape("observation.mean", "has no entries"));
        }
        if parts.layers.is_empty() {
            return Err(Error::shape("actor.0.weight", "is missing, there is no layer"));
        }
        check_len("observation.std", &parts.observation_std, obs_dim)?;
        check_len("action.high", &parts.action_high, act_dim)?;
        check_finite("observation.mean", &parts.observation_mean)?;
        check_finite("observation.std", &parts.observation_std)?;
        check_finite("action.low", &parts.action_low)?;
        check_finite("action.high", &parts.action_high)?;
        if let Some(i) = parts.observation_std.iter().position(|&s| s <= 0.0) {
            let text = format!("value {i} is {}, not positive", parts.observation_std[i]);
            return Err(Error::data("observation.std", &text));
        }
        let bounds = parts.action_low.iter().zip(&parts.action_high);
        if let Some((i, (low, high))) = bounds.enumerate().find(|(_, (low, high))| low > high) {
            let text = format!("value {i} is {low}, above action.high {high}");
            return Err(Error::data("action.low", &text));
        }
        let mut layers = Vec::with_capacity(parts.layers.len());
        let mut inputs = obs_dim;
        for (index, layer) in parts.layers.iter().enumerate() {
            let layer = Layer::pack(index, inputs, &layer.weight, &layer.bias)?;
            inputs = layer.outputs;
            layers.push(layer);
        }
        if inputs != act_dim {
            let text = format!("has {act_dim} entries, the last layer has {inputs} outputs");
            return Err(Error::shape("action.low", &text));
        }
        Ok(Actor {
            layers,
            mean: parts.observation_mean,
            std: parts.observation_std,
            low: parts.action_low,
            high: parts.action_high,
            metadata: BTreeMap::new(),
            kernel: Kernel::best(),
        })
    }

    /// The weights in PyTorch's order, the inverse of [`Actor::new`].
    pub fn parts(&self) -> Parts {
        let unpack = |layer: &Layer| LayerParts { weight: layer.unpack_weight(), bias: layer.unpack_bias() };
        Parts {
            layers: self.layers.iter().map(unpack).collect(),
            observation_mean: self.mean.clone(),
            observation_std: self.std.clone(),
            action_low: self.low.clone(),
            action_high: self.high.clone(),
        }
    }

    /// Entries `S` of an observation.
    pub fn obs_dim(&self) -> usize {
        self.mean.len()
    }

    /// Entries `A` of an action.
    pub fn act_dim(&self) -> usize {
        self.low.len()
    }

    /// Metadata of the file the actor was read from, all of it; empty for an actor made by [`Actor::new`].
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Instruction set the layers run on: `"avx512"`, `"avx2"` or `"portable"`.
    pub fn instruction_set(&self) -> &'static str {
        self.kernel.name()
    }

    /// Working memory large enough that [`Actor::act`] never allocates.
    pub fn scratch(&self) -> Scratch {
        let mut scratch = Scratch::default();
        scratch.fit(self.row_width());
        scratch
    }

    /// Maps `n` observations to `n` actions.
    ///
    /// - `obs`: `[n, S]`, in the environment's units. `n` may be 0.
    /// - `out`: `[n, A]`, overwritten with actions in `[low, high]`.
    /// - `scratch`: from [`Actor::scratch`]; one made for a smaller actor grows here.
    ///
    /// A row's action has the same bits whatever the other rows and their number are. Between processors it may
    /// differ in the last digits, because only some fuse multiplication and addition.
    ///
    /// # Errors
    /// `Shape` if a slice is not a whole number of rows or the two disagree; `Data` if an observation is not finite,
    /// naming its row and entry (`out` is then unchanged), or if the network overflows on a finite one.
    pub fn act(&self, obs: &[f32], out: &mut [f32], scratch: &mut Scratch) -> Result<()> {
        let (obs_dim, act_dim) = (self.obs_dim(), self.act_dim());
        self.check(obs, out)?;
        scratch.fit(self.row_width());
        let actions = out.chunks_mut(BLOCK * act_dim);
        for (obs, out) in obs.chunks(BLOCK * obs_dim).zip(actions) {
            self.act_block(obs, out, scratch);
        }
        let cause = "the observation is too far from the data, or a weight too large";
        check_rows("actions", out, act_dim, cause)
    }

    fn check(&self, obs: &[f32], out: &[f32]) -> Result<()> {
        let (obs_dim, act_dim) = (self.obs_dim(), self.act_dim());
        if !obs.len().is_multiple_of(obs_dim) {
            let text = format!("has {} values, not a multiple of the {obs_dim} entries of an observation", obs.len());
            return Err(Error::shape("observations", &text));
        }
        let rows = obs.len() / obs_dim;
        if out.len() != rows * act_dim {
            let text = format!("has {} values, expected {rows} rows of {act_dim}", out.len());
            return Err(Error::shape("actions", &text));
        }
        check_rows("observations", obs, obs_dim, "give finite observations")
    }

    /// Up to [`BLOCK`] rows through all layers.
    fn act_block(&self, obs: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let count = obs.len() / self.obs_dim();
        let (mut front, mut back) = (&mut scratch.front, &mut scratch.back);
        let mut stride = self.obs_dim();
        for (row, obs) in front.chunks_exact_mut(stride).zip(obs.chunks_exact(stride)) {
            for (i, value) in row.iter_mut().enumerate() {
                *value = (obs[i] - self.mean[i]) / self.std[i];
            }
        }
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let rows = Rows { values: front, stride, count };
            self.kernel.affine(layer, index < last, rows, back);
            stride = layer.width();
            std::mem::swap(&mut front, &mut back);
        }
        let results = front.chunks_exact(stride);
        for (action, result) in out.chunks_exact_mut(self.act_dim()).zip(results) {
            for (i, value) in action.iter_mut().enumerate() {
                let (low, high) = (self.low[i], self.high[i]);
                let unit = (result[i].tanh() + 1.0) * 0.5;
                *value = (low + unit * (high - low)).clamp(low, high);
            }
        }
    }

    /// Widest row that either half of a scratch holds.
    fn row_width(&self) -> usize {
        let layers = self.layers.iter().map(Layer::width);
        layers.fold(self.obs_dim(), usize::max)
    }
}

impl Scratch {
    fn fit(&mut self, width: usize) {
        if self.front.len() < BLOCK * width {
            self.front.resize(BLOCK * width, 0.0);
            self.back.resize(BLOCK * width, 0.0);
        }
    }
}

fn check_len(name: &str, values: &[f32], expected: usize) -> Result<()> {
    if values.len() == expected {
        return Ok(());
    }
    let text = format!("has {} entries, expected {expected}", values.len());
    Err(Error::shape(name, &text))
}

/// Refuses NaN and infinities in rows of `dim` values.
fn check_rows(name: &str, values: &[f32], dim: usize, remedy: &str) -> Result<()> {
    // Without a branch per value the check is vectorised.
    if values.iter().fold(true, |ok, v| ok & v.is_finite()) {
        return Ok(());
    }
    let index = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
    let text = format!(
        "value {index} (row {}, entry {}) is {}, not a finite number; {remedy}",
        index / dim,
        index % dim,
        values[index]
    );
    Err(Error::data(name, &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform numbers in [-1, 1) (xorshift64*).
    fn noise(mut state: u64, count: usize) -> Vec<f32> {
        let next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
            bits as f32 / (1u64 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    fn parts(dims: &[usize]) -> Parts {
        let layer = |(i, d): (usize, &[usize])| LayerParts {
            weight: noise(7 + i as u64, d[0] * d[1]).iter().map(|w| w * (3.0 / d[0] as f32).sqrt()).collect(),
            bias: noise(70 + i as u64, d[1]),
        };
        let (obs_dim, act_dim) = (dims[0], dims[dims.len() - 1]);
        Parts {
            layers: dims.windows(2).enumerate().map(layer).collect(),
            observation_mean: noise(3, obs_dim),
            observation_std: noise(4, obs_dim).iter().map(|v| 1.5 + v).collect(),
            action_low: noise(5, act_dim).iter().map(|v| v - 1.5).collect(),
            action_high: noise(6, act_dim).iter().map(|v| v + 1.5).collect(),
        }
    }

    /// The formula of the crate's page in f64.
    fn reference(parts: &Parts, obs: &[f32]) -> Vec<f64> {
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let (mean, std) = (wide(&parts.observation_mean), wide(&parts.observation_std));
        let mut x: Vec<f64> = (0..obs.len()).map(|i| (f64::from(obs[i]) - mean[i]) / std[i]).collect();
        for (index, layer) in parts.layers.iter().enumerate() {
            let rows = layer.weight.chunks(x.len()).zip(&layer.bias);
            let affine = rows.map(|(row, &b)| {
                let dot: f64 = row.iter().zip(&x).map(|(&w, x)| f64::from(w) * x).sum();
                f64::from(b) + dot
            });
            let last = index + 1 == parts.layers.len();
            x = affine.map(|v| if last { v } else { v.max(0.0) }).collect();
        }
        let (low, high) = (wide(&parts.action_low), wide(&parts.action_high));
        let action = |i: usize| low[i] + (x[i].tanh() + 1.0) / 2.0 * (high[i] - low[i]);
        (0..x.len()).map(action).collect()
    }

    fn act(actor: &Actor, obs: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; obs.len() / actor.obs_dim() * actor.act_dim()];
        actor.act(obs, &mut out, &mut actor.scratch()).unwrap();
        out
    }

    /// One actor per instruction set of this machine.
    fn actors(parts: &Parts) -> Vec<Actor> {
        let actor = Actor::new(parts.clone()).unwrap();
        let with = |kernel| Actor { kernel, ..actor.clone() };
        Kernel::available().into_iter().map(with).collect()
    }

    const NETWORKS: [&[usize]; 5] = [&[1, 1], &[3, 5, 2], &[17, 256, 256, 6], &[8, 33, 48, 65, 16], &[60, 130, 2]];

    #[test]
    fn matches_the_formula_in_f64() {
        for dims in NETWORKS {
            let parts = parts(dims);
            for actor in actors(&parts) {
                let obs = noise(11, 9 * dims[0]);
                let actions = act(&actor, &obs);
                let rows = obs.chunks(dims[0]).zip(actions.chunks(actor.act_dim()));
                for (obs, action) in rows {
                    for (found, expected) in action.iter().zip(reference(&parts, obs)) {
                        let error = (f64::from(*found) - expected).abs();
                        assert!(error < 4e-6, "{dims:?} {}: {error}", actor.instruction_set());
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_any_batch() {
        for dims in NETWORKS {
            for actor in actors(&parts(dims)) {
                let obs = noise(12, 75 * dims[0]);
                let alone: Vec<f32> = obs.chunks(dims[0]).flat_map(|row| act(&actor, row)).collect();
                for n in [2, 3, 4, 5, 7, 31, 32, 33, 75] {
                    let batch = act(&actor, &obs[..n * dims[0]]);
                    assert_eq!(batch, alone[..batch.len()], "{dims:?} n = {n}");
                }
            }
        }
    }

    #[test]
    fn both_vector_extensions_give_the_same_bits() {
        let actors = actors(&parts(&[17, 256, 256, 6]));
        let fused = |a: &&Actor| a.instruction_set() != "portable";
        let obs = noise(13, 10 * 17);
        let results: Vec<Vec<f32>> = actors.iter().filter(fused).map(|a| act(a, &obs)).collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn tanh_is_accurate_and_actions_stay_within_bounds() {
        let unit = Parts {
            layers: vec![LayerParts { weight: vec![1.0], bias: vec![0.0] }],
            observation_mean: vec![0.0],
            observation_std: vec![1.0],
            action_low: vec![-1.0],
            action_high: vec![1.0],
        };
        let actor = Actor::new(unit).unwrap();
        let grid: Vec<f32> = (-12_000..=12_000).map(|i| i as f32 / 1000.0).collect();
        for (x, action) in grid.iter().zip(act(&actor, &grid)) {
            assert!((f64::from(*x).tanh() - f64::from(action)).abs() <= 1e-6);
        }
        assert_eq!(act(&actor, &[-1e30, 1e30]), [-1.0, 1.0]);
    }

    #[test]
    fn refuses_bad_calls_by_name() {
        let actor = Actor::new(parts(&[3, 5, 2])).unwrap();
        let mut scratch = Scratch::default();
        let mut out = [9.0; 4];
        let error = actor.act(&[0.0; 4], &mut out, &mut scratch).unwrap_err();
        assert_eq!(error.code(), "Shape");
        assert!(error.message.contains("observations: has 4 values"));
        let error = actor.act(&[0.0; 6], &mut out[..3], &mut scratch).unwrap_err();
        assert_eq!(error.code(), "Shape");
        assert!(error.message.contains("actions: has 3 values, expected 2 rows of 2"));
        let obs = [0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0];
        let error = actor.act(&obs, &mut out, &mut scratch).unwrap_err();
        assert_eq!(error.code(), "Data");
        assert!(error.message.contains("value 4 (row 1, entry 1) is NaN"));
        assert_eq!(out, [9.0; 4]);
        actor.act(&[], &mut [], &mut scratch).unwrap();
        actor.act(&[0.0; 6], &mut out, &mut scratch).unwrap();
    }

    #[test]
    fn an_overflow_is_an_error_not_a_nan_action() {
        let mut parts = parts(&[1, 2, 1]);
        parts.layers[0].weight = vec![f32::MAX, f32::MAX];
        parts.layers[1].weight = vec![f32::MAX, -f32::MAX];
        let actor = Actor::new(parts).unwrap();
        let error = actor.act(&[9.0], &mut [0.0], &mut actor.scratch()).unwrap_err();
        assert_eq!((error.code(), error.field.as_deref()), ("Data", Some("actions")));
    }

    #[test]
    fn refuses_bad_parts_by_name() {
        let good = parts(&[3, 5, 2]);
        type Change = fn(&mut Parts);
        let cases: [(&str, &str, Change); 10] = [
            ("observation.mean", "Shape", |p| p.observation_mean.clear()),
            ("observation.std", "Shape", |p| p.observation_std.push(1.0)),
            ("observation.std", "Data", |p| p.observation_std[1] = 0.0),
            ("action.low", "Data", |p| p.action_low[0] = 1e9),
            ("action.high", "Data", |p| p.action_high[1] = f32::INFINITY),
            ("action.low", "Shape", |p| {
                p.action_low.push(0.0);
                p.action_high.push(0.0);
            }),
            ("actor.0.weight", "Shape", |p| p.layers.clear()),
            ("actor.1.weight", "Shape", |p| p.layers[1].weight.truncate(9)),
            ("actor.1.bias", "Shape", |p| p.layers[1].bias.clear()),
            ("actor.1.weight", "Data", |p| p.layers[1].weight[4] = f32::NAN),
        ];
        for (field, code, change) in cases {
            let mut parts = good.clone();
            change(&mut parts);
            let error = Actor::new(parts).unwrap_err();
            assert_eq!((error.field.as_deref(), error.code()), (Some(field), code), "{error}");
        }
    }

    #[test]
    fn parts_come_back_as_given() {
        for dims in NETWORKS {
            let parts = parts(dims);
            assert_eq!(Actor::new(parts.clone()).unwrap().parts(), parts);
        }
    }
}
