//! An autoencoder of logged (observation, action) pairs under their budget, with one hand-written gradient for both
//! halves. The budget tells the decoder which pairs to make: those of episodes that still had it to spend.

use super::losses::Clamp;
use drcorl_nn::checkpoint::State;
use drcorl_nn::losses::mse;
use drcorl_nn::optim::{Adam, AdamConfig};
use drcorl_nn::rng::Rng;
use drcorl_nn::vae::LOG_STD;
use drcorl_nn::{Arena, ArenaBuilder, Cache, Ensemble, Gaussian};
use tch::{Device, Tensor};

/// Latents of generated pairs are clipped to this absolute value.
pub const LATENT_BOUND: f64 = 1.0;

/// Encoder `[s, a, budget] -> (mean, log std)`, decoder `[z, budget] -> (s, a)`, clamped to the range of the data.
pub struct Cvae {
    encoder: Ensemble,
    decoder: Ensemble,
    arena: Arena,
    adam: Adam,
    latents: i64,
    /// Of a pair, bounds `[1,S+A]`.
    clamp: Clamp,
    encoder_cache: Cache,
    decoder_cache: Cache,
    other_cache: Cache,
}

/// What one step did.
pub struct CvaeStep {
    pub loss: f64,
    pub reconstruction: f64,
    pub kl: f64,
    /// The pairs as they were decoded, `[B,S+A]`.
    pub decoded: Tensor,
}

impl Cvae {
    /// For pairs within the bounds of `clamp`, `[1,S+A]`.
    pub fn new(hidden: i64, latents: i64, clamp: Clamp, device: Device, rng: &mut Rng) -> Self {
        let pair = clamp.least.size()[1];
        let mut builder = ArenaBuilder::default();
        let encoder = Ensemble::new(&mut builder, "encoder", 1, &[pair + 1, hidden, hidden, 2 * latents], rng);
        let decoder = Ensemble::new(&mut builder, "decoder", 1, &[latents + 1, hidden, hidden, pair], rng);
        let arena = builder.build(device);
        let adam = Adam::new(&arena, AdamConfig::default());
        let [encoder_cache, decoder_cache, other_cache] = [(); 3].map(|()| Cache::default());
        Cvae { encoder, decoder, arena, adam, latents, clamp, encoder_cache, decoder_cache, other_cache }
    }

    /// Latent dimensions L.
    pub fn latents(&self) -> i64 {
        self.latents
    }

    /// Parameters `encoder.*` (the last layer gives [mean | log std]) and `decoder.*`.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// One Adam step on `pairs [B,S+A]` of `budget [B,1]` with `noise [B,L]`:
    /// `mean (decoded - pair)^2 + beta KL`.
    pub fn step(&mut self, pairs: &Tensor, budget: &Tensor, noise: &Tensor, beta: f64, lr: f64) -> CvaeStep {
        let input = Tensor::cat(&[pairs, budget], 1);
        let output = self.encoder.forward(&self.arena, &input, &mut self.encoder_cache).shallow_clone();
        let latent = Gaussian::of(&output, LOG_STD);
        let code = Tensor::cat(&[&latent.sample(noise), budget], 1);
        let raw = self.decoder.forward(&self.arena, &code, &mut self.decoder_cache).shallow_clone();
        let decoded = self.clamp.values(&raw);
        let (reconstruction, grad) = mse(&decoded, pairs);
        let (kl, [kl_mu, kl_log_std]) = latent.kl_loss(beta);
        let grad = self.decoder.backward_to_input(
            &self.arena,
            &code,
            &self.clamp.through(&raw, grad),
            &mut self.decoder_cache,
        );
        let [mu, log_std] = latent.through_sample(noise, &grad.narrow(1, 0, self.latents));
        let grad = latent.through([mu + kl_mu, log_std + kl_log_std]);
        self.encoder.backward(&self.arena, &input, &grad, &mut self.encoder_cache);
        self.adam.step(&mut self.arena, lr);
        CvaeStep { loss: reconstruction + beta * kl, reconstruction, kl, decoded }
    }

    /// Pairs `[B,S+A]` of `latent [B,L]` for `budget [B,1]`.
    pub fn decode(&mut self, latent: &Tensor, budget: &Tensor) -> Tensor {
        let code = Tensor::cat(&[latent, budget], 1);
        let raw = self.decoder.evaluate(&self.arena, &code, &mut self.other_cache);
        self.clamp.values(&raw)
    }

    /// Saves or restores parameters and moments.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("arena", |state| self.arena.persist(state))?;
        state.group("adam", |state| self.adam.persist(state))
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::ClampGradient;
    use super::*;
    use tch::Kind;

    /// Every gradient against finite differences of the loss, with decoded pairs inside their range.
    #[test]
    fn gradients_equal_finite_differences() {
        let _no_grad = tch::no_grad_guard();
        let mut rng = Rng::new(4, 0);
        let [least, most] = [-9.0f32, 9.0].map(|bound| Tensor::from(bound).view([1, 1]).expand([1, 5], false));
        let clamp = Clamp { least, most, gradient: ClampGradient::Inward };
        let mut cvae = Cvae::new(8, 3, clamp, Device::Cpu, &mut rng);
        let (pairs, budget) = (rng.normal(&[16, 5], Device::Cpu), rng.normal(&[16, 1], Device::Cpu));
        let noise = rng.normal(&[16, 3], Device::Cpu);
        let start = cvae.arena.values().copy();
        cvae.step(&pairs, &budget, &noise, 0.5, 0.0);
        let gradient = cvae.arena.gradients().copy();
        for _ in 0..5 {
            let direction = rng.normal(&start.size(), Device::Cpu);
            let mut at = |step: f64| {
                cvae.arena.values().shallow_clone().copy_(&(&start + &direction * step));
                cvae.step(&pairs, &budget, &noise, 0.5, 0.0).loss
            };
            let slope = (at(3e-4) - at(-3e-4)) / 6e-4;
            let expected = (&gradient * &direction).sum(Kind::Double).double_value(&[]);
            assert!((slope - expected).abs() < 0.02 * expected.abs().max(0.3), "{slope} {expected}");
        }
    }

    /// Pairs lie within their range, so that whatever was decoded outside of it is led back, as without a clamp.
    #[test]
    fn what_was_decoded_outside_the_range_is_led_back() {
        let _no_grad = tch::no_grad_guard();
        let step = |gradient: ClampGradient| {
            let mut rng = Rng::new(4, 0);
            let [least, most] = [-0.2f32, 0.3].map(|bound| Tensor::from(bound).view([1, 1]).expand([1, 5], false));
            let mut cvae = Cvae::new(8, 3, Clamp { least, most, gradient }, Device::Cpu, &mut rng);
            let (pairs, budget) = (rng.uniform(&[16, 5], Device::Cpu) * 0.5 - 0.2, rng.normal(&[16, 1], Device::Cpu));
            let decoded = cvae.step(&pairs, &budget, &rng.normal(&[16, 3], Device::Cpu), 0.5, 0.0).decoded;
            (decoded, cvae.arena.gradients().copy())
        };
        let (decoded, gradient) = step(ClampGradient::Inward);
        let held = decoded.eq(-0.2).logical_or(&decoded.eq(0.3)).sum(Kind::Int64).int64_value(&[]);
        assert!((1..80).contains(&held), "{held}");
        assert_eq!(gradient, step(ClampGradient::Straight).1);
    }
}
