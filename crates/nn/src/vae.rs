//! A conditional variational autoencoder of logged actions, `p(a | s)`, with one hand-written gradient for both halves.
//!
//! Encoder `[a, s] -> (mean, log std)` of the latent z, decoder `[z, s] -> tanh`. The loss is the one of BCQ and its
//! descendants: `mean (a_hat - a)^2 + beta KL`, the KL against N(0, 1) averaged over rows *and* latent dimensions.

use super::{Arena, ArenaBuilder, Cache, Ensemble, Gaussian};
use crate::checkpoint::State;
use crate::error::Result;
use crate::losses::{mse, through_tanh};
use crate::optim::{Adam, AdamConfig};
use crate::rng::Rng;
use tch::{Device, Tensor};

/// Range of the logarithm of the latent standard deviation.
pub const LOG_STD: (f64, f64) = (-4.0, 15.0);
/// Latents drawn from the prior are clipped to this absolute value: near the centre the decoder has seen data.
pub const LATENT_BOUND: f64 = 0.5;

/// The autoencoder and its optimiser.
pub struct Vae {
    encoder: Ensemble,
    decoder: Ensemble,
    arena: Arena,
    adam: Adam,
    latents: i64,
    encoder_cache: Cache,
    decoder_cache: Cache,
    other_cache: Cache,
}

/// Scalars of one step.
#[derive(Clone, Copy, Debug)]
pub struct VaeStep {
    pub loss: f64,
    pub reconstruction: f64,
    pub kl: f64,
}

impl Vae {
    /// Two hidden layers of `hidden` in each half; 2A latents.
    pub fn new(observations: i64, actions: i64, hidden: i64, device: Device, rng: &mut Rng) -> Self {
        let latents = 2 * actions;
        let mut builder = ArenaBuilder::default();
        let encoder_widths = [actions + observations, hidden, hidden, 2 * latents];
        let encoder = Ensemble::new(&mut builder, "encoder", 1, &encoder_widths, rng);
        let decoder_widths = [latents + observations, hidden, hidden, actions];
        let decoder = Ensemble::new(&mut builder, "decoder", 1, &decoder_widths, rng);
        let arena = builder.build(device);
        let adam = Adam::new(&arena, AdamConfig::default());
        let [encoder_cache, decoder_cache, other_cache] = [(); 3].map(|()| Cache::default());
        Vae { encoder, decoder, arena, adam, latents, encoder_cache, decoder_cache, other_cache }
    }

    /// Latent dimensions L.
    pub fn latents(&self) -> i64 {
        self.latents
    }

    /// Parameters `encoder.*` (the last layer gives [mean | log std]) and `decoder.*`.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The decoder's layout.
    pub fn decoder(&self) -> &Ensemble {
        &self.decoder
    }

    /// One Adam step on `state_action [B,A+S]` (action first) with `noise [B,L]`.
    pub fn step(&mut self, state_action: &Tensor, noise: &Tensor, beta: f64, lr: f64) -> VaeStep {
        let columns = state_action.size()[1];
        let actions = self.decoder.outputs();
        let action = state_action.narrow(1, 0, actions);
        let observation = state_action.narrow(1, actions, columns - actions);
        let output = self.encoder.forward(&self.arena, state_action, &mut self.encoder_cache).shallow_clone();
        let latent = Gaussian::of(&output, LOG_STD);
        let input = Tensor::cat(&[latent.sample(noise), observation], 1);
        let decoded = self.decoder.forward(&self.arena, &input, &mut self.decoder_cache).tanh();
        let (reconstruction, grad) = mse(&decoded, &action);
        let (kl, [kl_mu, kl_log_std]) = latent.kl_loss(beta);

        let grad = through_tanh(&decoded, &grad);
        let grad = self.decoder.backward_to_input(&self.arena, &input, &grad, &mut self.decoder_cache);
        let [mu, log_std] = latent.through_sample(noise, &grad.narrow(1, 0, self.latents));
        let grad = latent.through([mu + kl_mu, log_std + kl_log_std]);
        self.encoder.backward(&self.arena, state_action, &grad, &mut self.encoder_cache);
        self.adam.step(&mut self.arena, lr);
        VaeStep { loss: reconstruction + beta * kl, reconstruction, kl }
    }

    /// The Gaussian of the latent of `state_action [B,A+S]`.
    pub fn encode(&mut self, state_action: &Tensor) -> Gaussian {
        Gaussian::of(&self.encoder.evaluate(&self.arena, state_action, &mut self.other_cache), LOG_STD)
    }

    /// Decoded actions before their tanh, `[B,A]`, of `latent [B,L]` at `observation [B,S]`.
    pub fn decode_raw(&mut self, latent: &Tensor, observation: &Tensor) -> Tensor {
        let input = Tensor::cat(&[latent, observation], 1);
        self.decoder.evaluate(&self.arena, &input, &mut self.other_cache)
    }

    /// Decoded actions `[B,A]` in [-1,1].
    pub fn decode(&mut self, latent: &Tensor, observation: &Tensor) -> Tensor {
        self.decode_raw(latent, observation).tanh_()
    }

    /// Saves or restores parameters and moments.
    pub fn persist(&mut self, state: &mut State) -> Result<()> {
        state.group("arena", |state| self.arena.persist(state))?;
        state.group("adam", |state| self.adam.persist(state))
    }
}

/// Latents from the prior: standard normal draws, clipped.
pub fn clip_latents(normal: &Tensor) -> Tensor {
    normal.clamp(-LATENT_BOUND, LATENT_BOUND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gaussian::kl;
    use tch::Kind;

    /// Every gradient against libtorch's autograd, with standard deviations on both sides of the clamp.
    #[test]
    fn gradients_equal_autograd() {
        let (states, actions, rows, beta) = (3, 2, 9, 0.5);
        let mut rng = Rng::new(4, 0);
        let mut vae = Vae::new(states, actions, 8, Device::Cpu, &mut rng);
        // Far below the clamp for the first latent, inside for the others.
        let bias = vae.arena.named("encoder.2.bias").unwrap().0.shallow_clone();
        let _ = bias.view([-1]).get(4).fill_(-9.0);
        let tracked: Vec<(String, Tensor)> = vae
            .arena
            .names()
            .map(|name| (name.to_string(), vae.arena.named(name).unwrap().0.copy().set_requires_grad(true)))
            .collect();
        let weight = |name: &str| &tracked.iter().find(|(found, _)| found == name).unwrap().1;
        let run = |name: &str, input: &Tensor| {
            (0..3).fold(input.shallow_clone(), |x, i| {
                let (w, b) = (weight(&format!("{name}.{i}.weight")), weight(&format!("{name}.{i}.bias")));
                let y = x.linear(&w.squeeze_dim(0), Some(&b.squeeze_dim(0)));
                if i < 2 {
                    y.relu()
                } else {
                    y
                }
            })
        };
        let state_action = rng.normal(&[rows, actions + states], Device::Cpu).clamp(-1.0, 1.0);
        let noise = rng.normal(&[rows, 4], Device::Cpu);
        let output = run("encoder", &state_action);
        let (mean, log_std) = (output.narrow(1, 0, 4), output.narrow(1, 4, 4).clamp(LOG_STD.0, LOG_STD.1));
        let latent = &mean + log_std.exp() * &noise;
        let decoded = run("decoder", &Tensor::cat(&[latent, state_action.narrow(1, actions, states)], 1)).tanh();
        let loss: Tensor = (decoded - state_action.narrow(1, 0, actions)).square().mean(Kind::Float)
            + kl(&mean, &log_std).mean(Kind::Float) * beta;
        loss.backward();
        let step = tch::no_grad(|| vae.step(&state_action, &noise, beta, 1e-3));
        assert!((step.loss - loss.double_value(&[])).abs() < 1e-6);
        assert!((step.loss - step.reconstruction - beta * step.kl).abs() < 1e-12);
        for (name, parameter) in &tracked {
            let gradient = vae.arena.named(name).unwrap().1;
            assert!((gradient - parameter.grad()).abs().max().double_value(&[]) < 1e-6, "{name}");
        }
    }
}
