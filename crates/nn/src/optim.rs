//! Adam and AdamW on arenas, with moments that are part of the checkpoint, and learning-rate schedules.

use crate::checkpoint::{State, MOST_STEPS};
use crate::error::Result;
use crate::ops::{self, AdamScalars, Span};
use crate::Arena;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tch::Tensor;

/// Constants of Adam; `weight_decay` is decoupled (AdamW).
#[derive(Clone, Copy, Debug)]
pub struct AdamConfig {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        AdamConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// Adam over one arena.
pub struct Adam {
    config: AdamConfig,
    first: Tensor,
    second: Tensor,
    steps: u64,
}

impl Adam {
    /// Fresh moments for `arena`.
    pub fn new(arena: &Arena, config: AdamConfig) -> Self {
        Adam { config, first: arena.values().zeros_like(), second: arena.values().zeros_like(), steps: 0 }
    }

    /// One step along the arena's gradients.
    pub fn step(&mut self, arena: &mut Arena, lr: f64) {
        let scalars = self.begin(lr);
        self.apply(arena, scalars, &[(0, arena.len())]);
    }

    /// As [`Adam::step`], but weight decay leaves the parameters in `spared` alone; `others` are all that remain.
    pub fn step_sparing(&mut self, arena: &mut Arena, lr: f64, spared: &[Span], others: &[Span]) {
        let scalars = self.begin(lr);
        self.apply(arena, scalars, others);
        self.apply(arena, AdamScalars { decay: 1.0, ..scalars }, spared);
    }

    /// Begins a step that [`Adam::apply`] carries out part by part.
    pub fn begin(&mut self, lr: f64) -> AdamScalars {
        self.steps += 1;
        let AdamConfig { beta1, beta2, eps, weight_decay } = self.config;
        AdamScalars {
            step_size: (lr / (1.0 - beta1.powi(self.steps as i32))) as f32,
            second_correction: (1.0 / (1.0 - beta2.powi(self.steps as i32)).sqrt()) as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: eps as f32,
            decay: (1.0 - lr * weight_decay) as f32,
        }
    }

    /// The step that was begun, for the parameters in `spans` of the arena.
    pub fn apply(&mut self, arena: &mut Arena, scalars: AdamScalars, spans: &[Span]) {
        self.apply_beside(arena, scalars, spans);
    }

    /// As [`Adam::apply`], of parameters in other spans than those whose steps others carry out meanwhile.
    pub(crate) fn apply_beside(&self, arena: &Arena, scalars: AdamScalars, spans: &[Span]) {
        ops::adam(arena.values(), arena.gradients(), &self.first, &self.second, spans, scalars);
    }

    /// Saves or restores moments and step count.
    pub fn persist(&mut self, state: &mut State) -> Result<()> {
        state.tensor("first_moment", &mut self.first)?;
        state.tensor("second_moment", &mut self.second)?;
        state.counter("steps", &mut self.steps, MOST_STEPS)
    }
}

/// Adam on one number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ScalarAdam {
    pub value: f64,
    /// Of the last step.
    pub gradient: f64,
    first: f64,
    second: f64,
    #[serde(deserialize_with = "counted")]
    steps: i32,
}

/// A number of steps that another can follow.
fn counted<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<i32, D::Error> {
    let steps = i32::deserialize(deserializer)?;
    if (0..i32::MAX).contains(&steps) {
        return Ok(steps);
    }
    Err(D::Error::custom(format!("{steps} steps")))
}

impl ScalarAdam {
    /// Starts at `value` with fresh moments.
    pub fn new(value: f64) -> Self {
        ScalarAdam { value, gradient: 0.0, first: 0.0, second: 0.0, steps: 0 }
    }

    /// One step along `gradient`.
    pub fn step(&mut self, gradient: f64, lr: f64) {
        let AdamConfig { beta1, beta2, eps, .. } = AdamConfig::default();
        self.steps += 1;
        self.gradient = gradient;
        self.first += (gradient - self.first) * (1.0 - beta1);
        self.second += (gradient * gradient - self.second) * (1.0 - beta2);
        let first = self.first / (1.0 - beta1.powi(self.steps));
        let second = self.second / (1.0 - beta2.powi(self.steps));
        self.value -= lr * first / (second.sqrt() + eps);
    }
}

/// Cosine decay from `lr` to `last` over `horizon` steps; constant at `last` afterwards.
pub fn cosine(lr: f64, last: f64, step: u64, horizon: u64) -> f64 {
    let progress = (step as f64 / horizon.max(1) as f64).min(1.0);
    last + (lr - last) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// `target <- target + rate (source - target)` on all parameters.
pub fn soft_update(target: &mut Arena, source: &Arena, rate: f64) {
    ops::ema(target.values(), source.values(), &[(0, source.len())], rate);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ArenaBuilder;
    use tch::Device;

    fn one(value: f32) -> Arena {
        let mut builder = ArenaBuilder::default();
        builder.add("x", &[1], || value);
        builder.build(Device::Cpu)
    }

    /// The first step of Adam is lr * sign(gradient); the second is worked out by hand.
    #[test]
    fn two_steps_follow_the_definition() {
        let mut arena = one(1.0);
        let mut adam = Adam::new(&arena, AdamConfig::default());
        let _ = arena.gradients().shallow_clone().fill_(4.0);
        adam.step(&mut arena, 0.1);
        assert!((arena.values().double_value(&[0]) - 0.9).abs() < 1e-6);
        let _ = arena.gradients().shallow_clone().fill_(-2.0);
        adam.step(&mut arena, 0.1);
        let m = (0.9 * 0.1 * 4.0 - 0.1 * 2.0) / (1.0 - 0.81);
        let v = (0.999 * 0.001 * 16.0 + 0.001 * 4.0) / (1.0 - 0.999f64.powi(2));
        let expected = 0.9 - 0.1 * m / v.sqrt();
        assert!((arena.values().double_value(&[0]) - expected).abs() < 1e-6);
        let mut scalar = ScalarAdam::new(1.0);
        scalar.step(4.0, 0.1);
        scalar.step(-2.0, 0.1);
        assert!((scalar.value - expected).abs() < 1e-7);
    }

    /// Without a gradient only weight decay moves a parameter, and only where it is not spared.
    #[test]
    fn a_spared_parameter_does_not_decay() {
        let mut builder = ArenaBuilder::default();
        for name in ["x.weight", "x.bias", "y.weight"] {
            builder.add(name, &[2], || 1.0);
        }
        let mut arena = builder.build(Device::Cpu);
        let (spared, others) =
            (arena.spans(|name| name.ends_with("bias")), arena.spans(|name| !name.ends_with("bias")));
        assert_eq!((spared.as_slice(), others.as_slice()), (&[(2, 2)][..], &[(0, 2), (4, 2)][..]));
        let config = AdamConfig { weight_decay: 0.5, ..AdamConfig::default() };
        Adam::new(&arena, config).step_sparing(&mut arena, 0.1, &spared, &others);
        let expected = [0.95f32, 0.95, 1.0, 1.0, 0.95, 0.95];
        assert_eq!(Vec::<f32>::try_from(arena.values()).unwrap(), expected);
    }

    /// After n averages of a constant source the error is (1 - rate)^n.
    #[test]
    fn soft_update_decays_geometrically() {
        let (mut target, source) = (one(1.0), one(0.0));
        for _ in 0..200 {
            soft_update(&mut target, &source, 0.005);
        }
        assert!((target.values().double_value(&[0]) - 0.995f64.powi(200)).abs() < 1e-5);
    }

    #[test]
    fn cosine_starts_at_lr_and_ends_at_last() {
        assert_eq!(cosine(1.0, 0.1, 0, 10), 1.0);
        assert!((cosine(1.0, 0.1, 5, 10) - 0.55).abs() < 1e-12);
        assert!((cosine(1.0, 0.1, 10, 10) - 0.1).abs() < 1e-12);
        assert!((cosine(1.0, 0.1, 99, 10) - 0.1).abs() < 1e-12);
    }
}
