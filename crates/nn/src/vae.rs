//! A conditional variational autoencoder of logged actions, `p(a | s)`, with one hand-written gradient for both halves.
//!
//! Encoder `[a, s] -> (mean, log std)` of the latent z, decoder `[z, s] -> tanh`. The loss is the one of BCQ and its
//! descendants: `mean (a_hat - a)^2 + beta KL`, the KL against N(0, 1) averaged over rows *and* latent dimensions.

use super::{Arena, ArenaBuilder, Cache, Ensemble};
use crate::checkpoint::State;
use crate::error::Result;
use crate::optim::{Adam, AdamConfig};
use crate::rng::Rng;
use tch::{Device, Kind, Tensor};

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

/// KL divergence of N(mean, std) from N(0, 1), averaged over latent dimensions: `[B,L]`, `[B,L]` to `[B,1]`.
pub fn kl(mean: &Tensor, log_std: &Tensor) -> Tensor {
    let terms: Tensor = 1.0 + log_std * 2.0 - mean.square() - (log_std * 2.0).exp();
    terms.mean_dim(1i64, true, Kind::Float) * -0.5
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

    /// Splits the encoder's output into the mean and the log standard deviation before and after its clamp.
    fn split(&self, output: &Tensor) -> (Tensor, Tensor, Tensor) {
        let raw = output.narrow(1, self.latents, self.latents);
        (output.narrow(1, 0, self.latents), raw.shallow_clone(), raw.clamp(LOG_STD.0, LOG_STD.1))
    }

    /// One Adam step on `state_action [B,A+S]` (action first) with `noise [B,L]`.
    pub fn step(&mut self, state_action: &Tensor, noise: &Tensor, beta: f64, lr: f64) -> VaeStep {
        let (rows, columns) = (state_action.size()[0] as f64, state_action.size()[1]);
        let actions = self.decoder.outputs();
        let action = state_action.narrow(1, 0, actions);
        let observation = state_action.narrow(1, actions, columns - actions);
        let output = self.encoder.forward(&self.arena, state_action, &mut self.encoder_cache).shallow_clone();
        let (mean, raw, log_std) = self.split(&output);
        let std = log_std.exp();
        let input = Tensor::cat(&[&mean + &std * noise, observation], 1);
        let decoded = self.decoder.forward(&self.arena, &input, &mut self.decoder_cache).tanh();
        let error = &decoded - action;
        let reconstruction = error.square().mean(Kind::Double).double_value(&[]);
        let kl = kl(&mean, &log_std).mean(Kind::Double).double_value(&[]);

        let grad_out = error * (1.0 - decoded.square()) * (2.0 / (rows * actions as f64));
        let grad_input = self.decoder.backward_to_input(&self.arena, &input, &grad_out, &mut self.decoder_cache);
        let grad_latent = grad_input.narrow(1, 0, self.latents);
        let weight = beta / (rows * self.latents as f64);
        let grad_mean = &grad_latent + &mean * weight;
        let inside = raw.ge(LOG_STD.0).logical_and(&raw.le(LOG_STD.1)).to_kind(Kind::Float);
        let grad_log_std = (grad_latent * noise * &std + (std.square() - 1.0) * weight) * inside;
        let grad_out = Tensor::cat(&[grad_mean, grad_log_std], 1);
        self.encoder.backward(&self.arena, state_action, &grad_out, &mut self.encoder_cache);
        self.adam.step(&mut self.arena, lr);
        VaeStep { loss: reconstruction + beta * kl, reconstruction, kl }
    }

    /// Mean and log standard deviation `[B,L]` of the latent of `state_action [B,A+S]`.
    pub fn encode(&mut self, state_action: &Tensor) -> (Tensor, Tensor) {
        let output = self.encoder.evaluate(&self.arena, state_action, &mut self.other_cache);
        let (mean, _, log_std) = self.split(&output);
        (mean, log_std)
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

    /// The KL in closed form by hand: N(1, 2) against N(0, 1) is log(1/2) + (4 + 1)/2 - 1/2.
    #[test]
    fn kl_is_the_closed_form_averaged_over_dimensions() {
        let mean = Tensor::from_slice(&[1.0f32, 0.0]).view([1, 2]);
        let log_std = Tensor::from_slice(&[2f32.ln(), 0.0]).view([1, 2]);
        let expected = (-(2f64.ln()) + 2.5 - 0.5) / 2.0;
        assert!((kl(&mean, &log_std).double_value(&[0, 0]) - expected).abs() < 1e-6);
    }

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
