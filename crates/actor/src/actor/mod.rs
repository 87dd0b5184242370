//! Policies of any kind: what all have in common, and the table of kinds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use drcorl_kernels::InstructionSet;

use crate::error::{Error, Result};
use crate::file::{Fields, PolicyFile, FORMAT};
use crate::{budgeted, diffusion, gaussian, latent, mixture, mlp, planner, sequence, switching};

/// Reads a kind's own fields.
pub(crate) type Read = fn(&Fields, &Frame, InstructionSet) -> Result<Arc<dyn Kind>>;

/// Every kind of policy, by the value of the metadata key `kind`. The first is meant where a file names none.
const KINDS: &[(&str, Read)] = &[
    ("mlp", mlp::read),
    ("gaussian", gaussian::read),
    ("latent", latent::read),
    ("sequence", sequence::read),
    ("diffusion", diffusion::read),
    ("planner", planner::read),
    ("switching", switching::read),
    ("budgeted", budgeted::read),
    ("mixture", mixture::read),
];

/// A way from observations to actions. Immutable; whatever a policy remembers is in its [`Play`].
pub(crate) trait Kind: fmt::Debug + Send + Sync {
    /// Working memory and empty episodes, under these settings.
    fn play(self: Arc<Self>, settings: &BTreeMap<String, f64>) -> Box<dyn Play>;

    /// True if an action depends on more than the observation and chance.
    fn remembers(&self) -> bool;

    /// What is wrong with a finite value of the setting `name`, if something is.
    fn refuses(&self, _name: &str, _value: f64) -> Option<String> {
        None
    }

    /// Products of two numbers an action takes on average, for a kind whose actions may take long; 0 for others.
    fn work(&self, _settings: &BTreeMap<String, f64>) -> f64 {
        0.0
    }
}

/// A policy at play: working memory, and what it remembers of each row's episode.
pub(crate) trait Play: Send {
    /// Forgets these rows; a row never seen has nothing to forget.
    fn reset(&mut self, rows: &[usize]);

    /// As `reset`, with the seeds of the episodes that begin, one a row; for a kind that draws what an episode is
    /// played by.
    fn begin(&mut self, rows: &[usize], _seeds: &[u64]) {
        self.reset(rows);
    }

    /// Actions for `turn`, whose sizes and finiteness are checked, into `out [n, A]`.
    /// An overflow may leave values that are not finite.
    ///
    /// A row's action must have the same bits whatever the other rows and their number are.
    fn act(&mut self, frame: &Frame, turn: Turn<'_>, out: &mut [f32]);

    /// As `act` of rows that are at `steps [n]` of their episodes, whatever was played before; for kinds that remember
    /// nothing but the step.
    fn act_at(&mut self, frame: &Frame, _steps: &[u64], turn: Turn<'_>, out: &mut [f32]) {
        self.act(frame, turn, out);
    }
}

/// What the environment shows `n` rows.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// `[n, S]`, in the environment's units.
    pub observations: &'a [f32],
    /// `[n]`, rewards of the previous step, 0 at an episode's first; empty stands for zeros.
    pub rewards: &'a [f32],
    /// `[n]`, costs of the previous step, likewise.
    pub costs: &'a [f32],
}

impl<'a> Turn<'a> {
    /// The first step of an episode, or any step for a policy without memory.
    pub fn first(observations: &'a [f32]) -> Self {
        Turn { observations, rewards: &[], costs: &[] }
    }
}

/// Normaliser of observations and box of actions.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    mean: Vec<f32>,
    std: Vec<f32>,
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Frame {
    fn read(fields: &Fields) -> Result<Frame> {
        let mean = &fields.tensor("observation.mean", 1)?.values;
        let low = &fields.tensor("action.low", 1)?.values;
        for (name, values) in [("observation.mean", mean), ("action.low", low)] {
            if values.is_empty() {
                return Err(Error::shape(name, "has no entries"));
            }
        }
        let std = fields.vector("observation.std", mean.len())?;
        let high = fields.vector("action.high", low.len())?;
        if let Some(i) = std.iter().position(|&s| s <= 0.0) {
            let text = format!("value {i} is {}, not positive", std[i]);
            return Err(Error::data("observation.std", &text));
        }
        if let Some((i, (low, high))) = low.iter().zip(high).enumerate().find(|(_, (low, high))| low > high) {
            let text = format!("value {i} is {low}, above action.high {high}");
            return Err(Error::data("action.low", &text));
        }
        Ok(Frame { mean: mean.clone(), std: std.to_vec(), low: low.clone(), high: high.to_vec() })
    }

    /// Entries `S` of an observation.
    pub fn obs_dim(&self) -> usize {
        self.mean.len()
    }

    /// Entries `A` of an action.
    pub fn act_dim(&self) -> usize {
        self.low.len()
    }

    /// Writes `(observation - mean) / std` to the first `S` entries of `out`.
    pub fn normalize(&self, observation: &[f32], out: &mut [f32]) {
        for (i, value) in out[..self.obs_dim()].iter_mut().enumerate() {
            *value = (observation[i] - self.mean[i]) / self.std[i];
        }
    }

    /// Component `i` of an action: [-1, 1] mapped to the box.
    #[inline(always)]
    pub fn action(&self, i: usize, unit: f32) -> f32 {
        let (low, high) = (self.low[i], self.high[i]);
        (low + (unit + 1.0) * 0.5 * (high - low)).clamp(low, high)
    }
}

/// A policy read from `policy.safetensors`; see the [crate's page](crate). Cheap to clone, `Send + Sync`.
#[derive(Debug, Clone)]
pub struct Actor {
    frame: Arc<Frame>,
    kind: Arc<dyn Kind>,
    settings: BTreeMap<String, f64>,
    metadata: BTreeMap<String, String>,
    set: InstructionSet,
    bytes: usize,
}

impl Actor {
    /// Reads `policy.safetensors`.
    ///
    /// # Errors
    /// `Io` if the file cannot be read; `Data` or `Shape`, naming file and field, if it is no such file, is
    /// truncated, or holds a tensor that does not fit the others or is not finite.
    pub fn load(path: &Path) -> Result<Actor> {
        Self::new(&PolicyFile::load(path)?).map_err(|error| error.in_file(&path.display().to_string()))
    }

    /// Reads the content of a `policy.safetensors` file.
    ///
    /// # Errors
    /// As [`Actor::load`], without the file's name.
    pub fn from_bytes(bytes: &[u8]) -> Result<Actor> {
        Self::new(&PolicyFile::from_bytes(bytes)?)
    }

    /// Gives a file its meaning.
    ///
    /// # Errors
    /// `Shape` if sizes disagree; `Data` if a value is not finite, a `std` is not positive, `low > high`, or metadata
    /// ask for something this version does not compute.
    /// The field is named as in the file, for example `actor.1.weight`.
    pub fn new(file: &PolicyFile) -> Result<Actor> {
        Self::on(file, InstructionSet::best())
    }

    fn on(file: &PolicyFile, set: InstructionSet) -> Result<Actor> {
        let fields = Fields::of(file);
        fields.choice("format", &[(FORMAT, ())])?;
        let read = match fields.text("kind") {
            None => KINDS[0].1,
            Some(_) => fields.choice("kind", KINDS)?,
        };
        let frame = Frame::read(&fields)?;
        let kind = read(&fields, &frame, set)?;
        fields.finish()?;
        let settings = fields.settings()?;
        for (name, &value) in &settings {
            if let Some(text) = kind.refuses(name, value) {
                return Err(Error::data(&format!("metadata setting.{name}"), &text));
            }
        }
        let bytes = file.tensors.values().map(|array| size_of_val(array.values.as_slice())).sum();
        Ok(Actor { frame: Arc::new(frame), kind, settings, metadata: file.metadata.clone(), set, bytes })
    }

    /// Entries `S` of an observation.
    pub fn obs_dim(&self) -> usize {
        self.frame.obs_dim()
    }

    /// Entries `A` of an action.
    pub fn act_dim(&self) -> usize {
        self.frame.act_dim()
    }

    /// Bytes of the numbers it holds, without the padding of its layers.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All metadata of the file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What may be set before the policy plays, a target or a limit it is conditioned on, with the current values.
    pub fn settings(&self) -> &BTreeMap<String, f64> {
        &self.settings
    }

    /// Changes one of [`Actor::settings`] for every later [`Actor::play`].
    ///
    /// # Errors
    /// `Data` if the policy has no such setting, the value is not finite, or the policy cannot play by it.
    pub fn set(&mut self, name: &str, value: f64) -> Result<()> {
        if !value.is_finite() {
            return Err(Error::data(name, &format!("is {value}, expected a number")));
        }
        if let Some(text) = self.kind.refuses(name, value) {
            return Err(Error::data(name, &text));
        }
        match self.settings.get_mut(name) {
            Some(current) => *current = value,
            None => {
                let known: Vec<&str> = self.settings.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Error::data(name, &format!("is no setting of this policy; it has: {known}")));
            }
        }
        Ok(())
    }

    /// True if an action depends on more than the observation and chance: on the course of the episode.
    pub fn remembers(&self) -> bool {
        self.kind.remembers()
    }

    /// Instruction set the layers run on: `"avx512"`, `"avx2"` or `"portable"`.
    pub fn instruction_set(&self) -> &'static str {
        self.set.name()
    }

    /// Products of two numbers an action takes on average, of a policy that plans; 0 for all others, whose actions take
    /// no time worth counting.
    pub fn work(&self) -> f64 {
        self.kind.work(&self.settings)
    }

    /// The policy at the start of its episodes.
    pub fn play(&self) -> Player {
        Player { frame: Arc::clone(&self.frame), play: Arc::clone(&self.kind).play(&self.settings) }
    }
}

/// A policy at play: working memory, and what the policy remembers of each row's episode.
pub struct Player {
    frame: Arc<Frame>,
    play: Box<dyn Play>,
}

impl Player {
    /// A new episode begins in these rows. A row that never acted needs no reset.
    pub fn reset(&mut self, rows: &[usize]) {
        self.play.reset(rows);
    }

    /// As [`Player::reset`], with the seeds of the episodes, one a row: a policy that draws what an episode is played
    /// by draws by them too. Without, an episode's seed is 0.
    pub fn begin(&mut self, rows: &[usize], seeds: &[u64]) {
        self.play.begin(rows, seeds);
    }

    /// Maps the turn of `n` rows, which may be 0, to `n` actions in `[low, high]`, written to `out [n, A]`. Row `i` is
    /// the row `i` of the call before.
    ///
    /// A row's action has the same bits whatever the other rows and their number are. Between processors it may
    /// differ in the last digits, because only some fuse multiplication and addition.
    ///
    /// # Errors
    /// `Shape` if a slice is not a whole number of rows or two disagree; `Data` if a value is not finite, naming its
    /// row and entry (`out` and the memory are then unchanged), or if the network overflows on finite ones.
    pub fn act(&mut self, turn: Turn<'_>, out: &mut [f32]) -> Result<()> {
        self.check(turn, out)?;
        self.play.act(&self.frame, turn, out);
        let cause = "the observation is too far from the data, or a weight too large";
        check_rows("actions", out, self.frame.act_dim(), cause)
    }

    fn check(&self, turn: Turn<'_>, out: &[f32]) -> Result<()> {
        let (obs_dim, act_dim) = (self.frame.obs_dim(), self.frame.act_dim());
        let count = turn.observations.len();
        if !count.is_multiple_of(obs_dim) {
            let text = format!("has {count} values, not a multiple of the {obs_dim} entries of an observation");
            return Err(Error::shape("observations", &text));
        }
        let rows = count / obs_dim;
        if out.len() != rows * act_dim {
            let text = format!("has {} values, expected {rows} rows of {act_dim}", out.len());
            return Err(Error::shape("actions", &text));
        }
        check_rows("observations", turn.observations, obs_dim, "give finite observations")?;
        for (name, values) in [("rewards", turn.rewards), ("costs", turn.costs)] {
            if !values.is_empty() && values.len() != rows {
                let text = format!("has {} values, expected {rows}, one a row, or none", values.len());
                return Err(Error::shape(name, &text));
            }
            check_rows(name, values, 1, "give finite numbers")?;
        }
        Ok(())
    }
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
mod tests;
