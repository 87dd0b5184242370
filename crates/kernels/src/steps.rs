//! Steps of parameters in flat vectors.

use crate::instruction_set::multiversion;

/// The formulas, of one parameter.
pub mod plain {
    /// Adam with decoupled weight decay (Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter, arXiv:1711.05101).
    #[derive(Clone, Copy, Debug)]
    pub struct Adam {
        pub lr: f64,
        pub beta1: f64,
        pub beta2: f64,
        pub eps: f64,
        pub weight_decay: f64,
        /// Number of this step, from 1 on.
        pub step: i32,
    }

    impl Adam {
        /// From `[parameter, first moment, second moment]` and the gradient to the next three.
        pub fn step(&self, [value, first, second]: [f64; 3], grad: f64) -> [f64; 3] {
            let first = self.beta1 * first + (1.0 - self.beta1) * grad;
            let second = self.beta2 * second + (1.0 - self.beta2) * grad * grad;
            let unbiased_first = first / (1.0 - self.beta1.powi(self.step));
            let unbiased_second = second / (1.0 - self.beta2.powi(self.step));
            let decayed = value * (1.0 - self.lr * self.weight_decay);
            [decayed - self.lr * unbiased_first / (unbiased_second.sqrt() + self.eps), first, second]
        }
    }

    /// A running average: `target` moves by `rate` towards `source`.
    pub fn ema(target: f64, source: f64, rate: f64) -> f64 {
        (1.0 - rate) * target + rate * source
    }
}

/// The scalars of one Adam step.
#[derive(Clone, Copy, Debug)]
pub struct AdamScalars {
    /// lr / (1 - beta1^t)
    pub step_size: f32,
    /// 1 / sqrt(1 - beta2^t)
    pub second_correction: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    /// Factor on the parameter before the step: 1 - lr * weight_decay (decoupled, AdamW).
    pub decay: f32,
}

multiversion! {
    /// One Adam(W) step of `value [P]` along `grad [P]`: both moments `[P]` and the parameters in one pass.
    /// See [`plain::Adam`].
    pub fn adam(value: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], s: AdamScalars) {
        for (((p, &g), m), v) in value.iter_mut().zip(grad).zip(first).zip(second) {
            *m += (g - *m) * (1.0 - s.beta1);
            *v = *v * s.beta2 + (1.0 - s.beta2) * g * g;
            *p = *p * s.decay - s.step_size * *m / (v.sqrt() * s.second_correction + s.eps);
        }
    }
}

multiversion! {
    /// `target += rate (source - target)`. See [`plain::ema`].
    pub fn ema(target: &mut [f32], source: &[f32], rate: f32) {
        for (t, &s) in target.iter_mut().zip(source) {
            *t += (s - *t) * rate;
        }
    }
}
