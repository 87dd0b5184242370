//! A diffusion policy at one moment: denoise several draws, take the one that critics choose.

use super::{copy_layers, host, insert_layers, run_layers, Candidates, FrozenPolicy, Player, Turn};
use crate::error::Result;
use drcorl_actor::{Draws, PolicyFile};
use drcorl_nn::{matmul, Arena, Head, Hidden, ScoreNet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

type Layers = Vec<(Tensor, Tensor)>;

/// Which of several actions is taken, by critics of reward and of feasibility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ActionChoice")]
pub enum Choice {
    /// The one with the lowest feasibility value, the highest of both critics.
    Safest,
    /// The one with the highest reward value, the lowest of both critics.
    Best,
    /// The one with the highest reward value among those that are feasible, the safest where none is.
    Feasible,
}

impl Choice {
    /// Spelling in a policy file.
    fn name(self) -> &'static str {
        match self {
            Choice::Safest => "safest",
            Choice::Best => "best",
            Choice::Feasible => "feasible",
        }
    }
}

/// The levels of a discrete diffusion, from the least noise to the most: `alpha_i = 1 - beta_i`,
/// `kept_i = alpha_0 .. alpha_i`.
#[derive(Clone, Debug)]
pub struct DiffusionLevels {
    pub beta: Vec<f64>,
    pub kept: Vec<f64>,
}

impl DiffusionLevels {
    /// T levels of the variance-preserving process with rates from 0.1 to 10:
    /// `alpha_i = exp(-b_0 / T - (b_1 - b_0) (2 i + 1) / (2 T^2))`, i from 0.
    pub fn variance_preserving(levels: usize) -> Self {
        const RATES: (f64, f64) = (0.1, 10.0);
        let count = levels as f64;
        let alpha =
            |i: usize| (-RATES.0 / count - (RATES.1 - RATES.0) * (2 * i + 1) as f64 / (2.0 * count * count)).exp();
        let beta = (0..levels).map(|i| 1.0 - alpha(i)).collect();
        let kept = (0..levels).scan(1.0, |kept, i| {
            *kept *= alpha(i);
            Some(*kept)
        });
        DiffusionLevels { beta, kept: kept.collect() }
    }

    /// Number of levels T.
    pub fn len(&self) -> usize {
        self.beta.len()
    }

    /// True for no levels at all.
    pub fn is_empty(&self) -> bool {
        self.beta.is_empty()
    }
}

struct Block {
    norm: (Tensor, Tensor),
    inner: (Tensor, Tensor),
    outer: (Tensor, Tensor),
}

/// What chooses among several actions.
struct Ranking {
    choice: Choice,
    /// Feasible is what is at most this.
    threshold: f64,
    reward: Vec<Layers>,
    feasibility: Vec<Layers>,
}

/// `drcorl-actor`'s kind `diffusion` as tensors; both draw the same noise.
pub struct FrozenDiffusion {
    levels: DiffusionLevels,
    /// The embedding of every level `[T,W]`.
    embedding: Tensor,
    input: (Tensor, Tensor),
    blocks: Vec<Block>,
    output: (Tensor, Tensor),
    norm_eps: f64,
    temperature: f64,
    clip_levels: bool,
    seed: u64,
    candidates: i64,
    ranking: Option<Ranking>,
}

/// What the chain of one call went through, for a replay.
pub struct Chain {
    /// The actions at every level, from pure noise on: T+1 times `[B,A]`.
    pub actions: Vec<Tensor>,
    /// The predicted noise, T times.
    pub noise: Vec<Tensor>,
}

impl FrozenDiffusion {
    /// A copy of a denoiser that was trained on levels 0 to T-1 as times; acts on the first draw.
    pub fn copy(net: &ScoreNet, arena: &Arena, levels: DiffusionLevels, seed: u64) -> Self {
        let pair = |name: &str| {
            let part = |part: &str| arena.named(&format!("{name}.{part}")).expect("a layer of the denoiser").0.copy();
            (part("weight"), part("bias"))
        };
        let times = Tensor::arange(levels.len() as i64, (Kind::Float, arena.device()));
        let block = |i: usize| {
            let part = |part: &str| pair(&format!("blocks.{i}.{part}"));
            Block { norm: part("norm"), inner: part("inner"), outer: part("outer") }
        };
        FrozenDiffusion {
            embedding: net.embed(arena, &times),
            input: pair("input"),
            blocks: (0..net.blocks()).map(block).collect(),
            output: pair("output"),
            norm_eps: net.norm_eps(),
            levels,
            temperature: 1.0,
            clip_levels: true,
            seed,
            candidates: 1,
            ranking: None,
        }
    }

    /// The same policy with another factor on the noise between levels, and clipped after each of them or at the end.
    pub fn sampling(self, temperature: f64, clip_levels: bool) -> Self {
        FrozenDiffusion { temperature, clip_levels, ..self }
    }

    /// The same policy with a choice of one among `candidates` actions by the lagged critics; of feasibility values at
    /// most `threshold` are feasible.
    pub fn with_choice(
        self,
        candidates: usize,
        choice: Choice,
        threshold: f64,
        reward: &Head,
        feasibility: &Head,
    ) -> Self {
        let members = |head: &Head| (0..head.members()).map(|i| copy_layers(head.net(), head.target(), i)).collect();
        let ranking = Ranking { choice, threshold, reward: members(reward), feasibility: members(feasibility) };
        FrozenDiffusion { candidates: candidates as i64, ranking: (candidates > 1).then_some(ranking), ..self }
    }

    /// Predicted noise `[B,A]` at level `level` for `noisy [B,A]`, `observation [B,S]`.
    fn predict(&self, noisy: &Tensor, observation: &Tensor, level: usize) -> Tensor {
        let time = self.embedding.narrow(0, level as i64, 1).expand([noisy.size()[0], -1], false);
        let linear = |layer: &(Tensor, Tensor), x: &Tensor| matmul::affine(x, &layer.0, &layer.1);
        let mut trunk = linear(&self.input, &Tensor::cat(&[noisy, observation, &time], 1));
        for block in &self.blocks {
            let (width, (weight, bias)) = (trunk.size()[1], &block.norm);
            let normal = trunk.layer_norm([width], Some(weight), Some(bias), self.norm_eps, false);
            trunk = &trunk + linear(&block.outer, &linear(&block.inner, &normal).mish());
        }
        linear(&self.output, &trunk.mish())
    }

    /// Denoises `draws [B,T,A]`: the start, then what is added after every level but the last.
    pub fn chain(&self, draws: &Tensor, observation: &Tensor) -> Chain {
        let mut actions = vec![draws.select(1, 0)];
        let mut noise = Vec::new();
        for (k, level) in (0..self.levels.len()).rev().enumerate() {
            let (beta, kept) = (self.levels.beta[level], self.levels.kept[level]);
            let x = &actions[k];
            let predicted = self.predict(x, observation, level);
            let mut x = (x - &predicted * (beta / (1.0 - kept).sqrt())) / (1.0 - beta).sqrt();
            if level > 0 {
                x += draws.select(1, k as i64 + 1) * (self.temperature * beta.sqrt());
            }
            if self.clip_levels || level == 0 {
                x = x.clamp(-1.0, 1.0);
            }
            noise.push(predicted);
            actions.push(x);
        }
        Chain { actions, noise }
    }

    /// `[B,1]` each: the lowest reward value and the highest feasibility value of `action [B,A]` at
    /// `observation [B,S]`.
    pub fn values(&self, action: &Tensor, observation: &Tensor) -> Option<(Tensor, Tensor)> {
        let ranking = self.ranking.as_ref()?;
        let input = Tensor::cat(&[action, observation], 1);
        let of = |members: &[Layers]| {
            let values: Vec<Tensor> = members.iter().map(|member| run_layers(member, &input, Hidden::Relu)).collect();
            Tensor::cat(&values, 1)
        };
        Some((of(&ranking.reward).amin(1i64, true), of(&ranking.feasibility).amax(1i64, true)))
    }

    /// The number of the action to take in each of `[B]` rows of N candidates, for `action [B*N,A]`.
    pub fn choose(&self, action: &Tensor, observation: &Tensor) -> Tensor {
        self.scores(action, observation).argmax(1, false)
    }

    /// `[B,N]`, the highest of which is taken, for `action [B*N,A]`.
    fn scores(&self, action: &Tensor, observation: &Tensor) -> Tensor {
        let rows = action.size()[0] / self.candidates;
        let (Some(ranking), Some((reward, violation))) = (&self.ranking, self.values(action, observation)) else {
            return Tensor::zeros([rows, self.candidates], (Kind::Float, action.device()));
        };
        let [reward, violation] = [reward, violation].map(|value| value.view([rows, self.candidates]));
        match ranking.choice {
            Choice::Safest => -violation,
            Choice::Best => reward,
            Choice::Feasible => {
                let feasible = violation.le(ranking.threshold);
                let among = reward.masked_fill(&feasible.logical_not(), f64::NEG_INFINITY);
                among.where_self(&feasible.any_dim(1, true), &-violation)
            }
        }
    }

    /// What is drawn at step `step` of the episodes.
    fn draw(&self, observation: &Tensor, step: u64) -> Candidates {
        let (rows, states) = (observation.size()[0], observation.size()[1]);
        let (levels, actions) = (self.levels.len() as i64, self.output.1.size()[0]);
        let host = host(observation).expect("an observation tensor");
        let draws = host.chunks_exact(states as usize).flat_map(|row| {
            let mut draws = Draws::new(self.seed, step, row);
            (0..self.candidates * levels * actions).map(move |_| draws.normal())
        });
        let draws = Tensor::from_slice(&draws.collect::<Vec<f32>>())
            .view([rows * self.candidates, levels, actions])
            .to_device(observation.device());
        let state = observation.repeat_interleave_self_int(self.candidates, 0i64, None);
        let denoised = self.chain(&draws, &state).actions.pop().expect("the last level");
        Candidates { scores: self.scores(&denoised, &state), actions: denoised.view([rows, self.candidates, actions]) }
    }
}

struct DiffusionPlayer<'a> {
    policy: &'a FrozenDiffusion,
    step: u64,
}

impl Player for DiffusionPlayer<'_> {
    fn act(&mut self, turn: &Turn<'_>) -> Tensor {
        self.step += 1;
        self.policy.draw(turn.observation, self.step - 1).best()
    }
}

impl FrozenPolicy for FrozenDiffusion {
    fn start(&self, _rows: i64) -> Box<dyn Player + '_> {
        Box::new(DiffusionPlayer { policy: self, step: 0 })
    }

    fn candidates(&self, observation: &Tensor) -> Option<Candidates> {
        (self.candidates > 1).then(|| self.draw(observation, 0))
    }

    fn file(&self) -> Result<PolicyFile> {
        let mut file = PolicyFile::new("diffusion");
        file.set("levels", self.levels.len());
        file.set("blocks", self.blocks.len());
        file.set("norm_eps", self.norm_eps);
        file.set("noise_temperature", self.temperature);
        file.set("clip_levels", self.clip_levels);
        file.set("candidates", self.candidates);
        file.set("seed", self.seed);
        let mut insert = |name: &str, tensor: &Tensor| -> Result<()> {
            let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
            file.insert(name, &shape, host(tensor)?);
            Ok(())
        };
        insert("level.embedding", &self.embedding)?;
        let mut layers = vec![("input".to_string(), &self.input), ("output".into(), &self.output)];
        for (i, block) in self.blocks.iter().enumerate() {
            let parts = [("norm", &block.norm), ("inner", &block.inner), ("outer", &block.outer)];
            layers.extend(parts.map(|(part, layer)| (format!("blocks.{i}.{part}"), layer)));
        }
        for (name, (weight, bias)) in layers {
            insert(&format!("{name}.weight"), weight)?;
            insert(&format!("{name}.bias"), bias)?;
        }
        let beta: Vec<f32> = self.levels.beta.iter().map(|&beta| beta as f32).collect();
        file.insert("level.beta", &[beta.len()], beta);
        if let Some(ranking) = &self.ranking {
            file.set("choice", ranking.choice.name());
            file.set("threshold", ranking.threshold);
            for (name, members) in [("reward_critic", &ranking.reward), ("feasibility_critic", &ranking.feasibility)] {
                for (index, member) in members.iter().enumerate() {
                    insert_layers(&mut file, &format!("{name}.{index}"), member)?;
                }
            }
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of five levels, to five digits.
    #[test]
    fn five_levels_are_those_of_the_table() {
        let levels = DiffusionLevels::variance_preserving(5);
        let near = |found: &[f64], expected: [f64; 5]| found.iter().zip(expected).all(|(x, y)| (x - y).abs() < 6e-5);
        assert!(near(&levels.beta, [0.1959, 0.4588, 0.6358, 0.7549, 0.835]), "{:?}", levels.beta);
        assert!(near(&levels.kept, [0.80413, 0.43518, 0.1585, 0.03885, 0.00641]), "{:?}", levels.kept);
    }
}
