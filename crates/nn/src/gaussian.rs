//! A diagonal Gaussian whose network gives [mu | log sigma], log sigma clamped: samples and the divergence from N(0,
//! 1), each with its gradient. The clamp lets no gradient through where it holds, which is said in
//! [`Gaussian::through`] and nowhere else.

use tch::{Kind, Tensor};

/// A Gaussian a row.
pub struct Gaussian {
    /// `[B,A]`
    pub mu: Tensor,
    /// `[B,A]`, clamped
    pub log_std: Tensor,
    /// `[B,A]`
    pub std: Tensor,
    /// 1 where the clamp lets the gradient through, else 0, `[B,A]`
    inside: Tensor,
}

/// Gradients for mu and for log sigma after its clamp, `[B,A]` each.
pub type Slopes = [Tensor; 2];

impl Gaussian {
    /// Of outputs `[B,2A]`, with log sigma clamped to `range`. Mu stays a view of them.
    pub fn of(output: &Tensor, range: (f64, f64)) -> Self {
        let actions = output.size()[1] / 2;
        let raw = output.narrow(1, actions, actions);
        let inside = raw.ge(range.0).logical_and(&raw.le(range.1)).to_kind(Kind::Float);
        let log_std = raw.clamp(range.0, range.1);
        Gaussian { mu: output.narrow(1, 0, actions), std: log_std.exp(), log_std, inside }
    }

    /// `mu + sigma noise`, `[B,A]` for `noise [B,A]`; `[B,N,A]` for `noise [B,N,A]`.
    pub fn sample(&self, noise: &Tensor) -> Tensor {
        if noise.dim() == 3 {
            self.mu.unsqueeze(1) + self.std.unsqueeze(1) * noise
        } else {
            &self.mu + &self.std * noise
        }
    }

    /// What `grad`, a gradient at [`Gaussian::sample`] of `noise`, is for the Gaussian.
    pub fn through_sample(&self, noise: &Tensor, grad: &Tensor) -> Slopes {
        let (mu, scaled) = match noise.dim() {
            3 => {
                let sum = |x: &Tensor| x.sum_dim_intlist(1i64, false, Kind::Float);
                (sum(grad), sum(&(grad * noise)))
            }
            _ => (grad.shallow_clone(), grad * noise),
        };
        [mu, scaled * &self.std]
    }

    /// KL divergence from N(0, 1), averaged over dimensions, `[B,1]`.
    pub fn kl(&self) -> Tensor {
        kl(&self.mu, &self.log_std)
    }

    /// The mean over rows of [`Gaussian::kl`], and the gradient of `weight` times it.
    pub fn kl_loss(&self, weight: f64) -> (f64, Slopes) {
        let scale = weight / self.mu.numel() as f64;
        let loss = self.kl().mean(Kind::Double).double_value(&[]);
        (loss, [&self.mu * scale, (self.std.square() - 1.0) * scale])
    }

    /// The gradient for the network's outputs `[B,2A]`.
    pub fn through(&self, [mu, log_std]: Slopes) -> Tensor {
        Tensor::cat(&[mu, log_std * &self.inside], 1)
    }
}

/// KL divergence of N(mean, std) from N(0, 1), averaged over dimensions: `[B,L]`, `[B,L]` to `[B,1]`.
pub fn kl(mean: &Tensor, log_std: &Tensor) -> Tensor {
    let terms: Tensor = 1.0 + log_std * 2.0 - mean.square() - (log_std * 2.0).exp();
    terms.mean_dim(1i64, true, Kind::Float) * -0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use tch::Device;

    /// The KL in closed form by hand: N(1, 2) against N(0, 1) is log(1/2) + (4 + 1)/2 - 1/2.
    #[test]
    fn kl_is_the_closed_form_averaged_over_dimensions() {
        let mean = Tensor::from_slice(&[1.0f32, 0.0]).view([1, 2]);
        let log_std = Tensor::from_slice(&[2f32.ln(), 0.0]).view([1, 2]);
        let expected = (-(2f64.ln()) + 2.5 - 0.5) / 2.0;
        assert!((kl(&mean, &log_std).double_value(&[0, 0]) - expected).abs() < 1e-6);
    }

    /// Samples and divergence against autograd, with log sigma below, inside and above its clamp.
    #[test]
    fn gradients_equal_autograd_through_the_clamp() {
        let mut rng = Rng::new(5, 0);
        for shape in [vec![6, 2], vec![6, 3, 2]] {
            let output = (rng.normal(&[6, 4], Device::Cpu) * 2.0).set_requires_grad(true);
            let (noise, weights) = (rng.normal(&shape, Device::Cpu), rng.normal(&shape, Device::Cpu));
            let tracked = Gaussian::of(&output, (-1.0, 1.0));
            let loss = (tracked.sample(&noise) * &weights).sum(Kind::Float) + tracked.kl().mean(Kind::Float) * 0.3;
            loss.backward();
            let gaussian = Gaussian::of(&output.detach(), (-1.0, 1.0));
            let (kl, [kl_mu, kl_log_std]) = gaussian.kl_loss(0.3);
            let [mu, log_std] = gaussian.through_sample(&noise, &weights);
            let found = gaussian.through([mu + kl_mu, log_std + kl_log_std]);
            assert!((found - output.grad()).abs().max().double_value(&[]) < 1e-5, "{shape:?}");
            assert!((kl - tracked.kl().mean(Kind::Float).double_value(&[])).abs() < 1e-6);
            let held = gaussian.inside.eq(0.0).sum(Kind::Int64).int64_value(&[]);
            assert!((1..12).contains(&held), "both cases: {held}");
        }
    }
}
