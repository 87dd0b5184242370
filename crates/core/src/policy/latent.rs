//! The latent-variable policy of BCQ at one moment: decode a draw, perturb it,
//! of several keep the one the critics like best.

use super::{copy_layers, host, insert_layers, run_layers, Candidates, FrozenPolicy, Player, Turn};
use crate::error::Result;
use drcorl_actor::{Draws, PolicyFile};
use drcorl_nn::vae::LATENT_BOUND;
use drcorl_nn::{Head, Hidden, Vae};
use tch::{Kind, Tensor};

type Layers = Vec<(Tensor, Tensor)>;

/// How a decoded action is moved: `clip(b + phi tanh(net([b, s])), -1, 1)`.
#[derive(Clone, Copy, Debug)]
pub struct Perturbation {
    pub phi: f64,
    pub hidden: Hidden,
}

/// `drcorl-actor`'s kind `latent` as tensors; both draw the same latents.
pub struct FrozenLatent {
    decoder: Layers,
    perturbation: Layers,
    shape: Perturbation,
    latents: i64,
    seed: u64,
    /// Number of candidates, and what chooses among more than one.
    candidates: i64,
    reward: Vec<Layers>,
    cost: Vec<Layers>,
    multiplier: f64,
}

impl FrozenLatent {
    /// A copy of decoder and perturbation network; acts on the first draw.
    pub fn copy(vae: &Vae, perturbation: &Head, shape: Perturbation, seed: u64) -> Self {
        FrozenLatent {
            decoder: copy_layers(vae.decoder(), vae.arena(), 0),
            perturbation: copy_layers(perturbation.net(), perturbation.online(), 0),
            shape,
            latents: vae.latents(),
            seed,
            candidates: 1,
            reward: Vec::new(),
            cost: Vec::new(),
            multiplier: 0.0,
        }
    }

    /// The same policy with a choice: of `candidates` draws the one with the highest `min Q - multiplier max Qc` over
    /// members.
    pub fn with_choice(self, candidates: usize, reward: &Head, cost: &Head, multiplier: f64) -> Self {
        let members = |head: &Head| (0..head.members()).map(|i| copy_layers(head.net(), head.online(), i)).collect();
        FrozenLatent { candidates: candidates as i64, reward: members(reward), cost: members(cost), multiplier, ..self }
    }

    /// What is drawn at step `step` of the episodes.
    fn draw(&self, observation: &Tensor, step: u64) -> Candidates {
        let (rows, states) = (observation.size()[0], observation.size()[1]);
        let host = host(observation).expect("an observation tensor");
        let bound = LATENT_BOUND as f32;
        let draws = host.chunks_exact(states as usize).flat_map(|row| {
            let mut draws = Draws::new(self.seed, step, row);
            (0..self.candidates * self.latents).map(move |_| draws.normal().clamp(-bound, bound))
        });
        let latent = Tensor::from_slice(&draws.collect::<Vec<f32>>())
            .view([rows * self.candidates, self.latents])
            .to_device(observation.device());
        let state = observation.repeat_interleave_self_int(self.candidates, 0i64, None);
        let decoded = run_layers(&self.decoder, &Tensor::cat(&[&latent, &state], 1), Hidden::Relu).tanh();
        let shift = run_layers(&self.perturbation, &Tensor::cat(&[&decoded, &state], 1), self.shape.hidden).tanh();
        let action = (decoded + shift * self.shape.phi).clamp(-1.0, 1.0);
        let shape = [rows, self.candidates];
        let actions = action.view([rows, self.candidates, -1]);
        if self.candidates == 1 {
            return Candidates { actions, scores: Tensor::zeros(shape, (Kind::Float, observation.device())) };
        }
        let input = Tensor::cat(&[&action, &state], 1);
        let values = |members: &[Layers]| {
            Tensor::cat(&members.iter().map(|member| run_layers(member, &input, Hidden::Relu)).collect::<Vec<_>>(), 1)
        };
        let score = values(&self.reward).amin(1i64, false) - values(&self.cost).amax(1i64, false) * self.multiplier;
        Candidates { actions, scores: score.view(shape) }
    }
}

struct LatentPlayer<'a> {
    policy: &'a FrozenLatent,
    step: u64,
}

impl Player for LatentPlayer<'_> {
    fn act(&mut self, turn: &Turn<'_>) -> Tensor {
        self.step += 1;
        self.policy.draw(turn.observation, self.step - 1).best()
    }
}

impl FrozenPolicy for FrozenLatent {
    fn start(&self, _rows: i64) -> Box<dyn Player + '_> {
        Box::new(LatentPlayer { policy: self, step: 0 })
    }

    fn candidates(&self, observation: &Tensor) -> Option<Candidates> {
        (self.candidates > 1).then(|| self.draw(observation, 0))
    }

    fn file(&self) -> Result<PolicyFile> {
        let mut file = PolicyFile::new("latent");
        file.set("latents", self.latents);
        file.set("latent_bound", LATENT_BOUND);
        file.set("phi", self.shape.phi);
        file.set("perturbation_activation", if self.shape.hidden == Hidden::Tanh { "tanh" } else { "relu" });
        file.set("candidates", self.candidates);
        file.set("multiplier", self.multiplier);
        file.set("seed", self.seed);
        insert_layers(&mut file, "decoder", &self.decoder)?;
        insert_layers(&mut file, "perturbation", &self.perturbation)?;
        for (name, members) in [("reward_critic", &self.reward), ("cost_critic", &self.cost)] {
            for (index, member) in members.iter().enumerate() {
                insert_layers(&mut file, &format!("{name}.{index}"), member)?;
            }
        }
        Ok(file)
    }
}
