//! Lagrange multipliers, and the only place where episodic limits and discounted values are converted.
//!
//! `value` is always undamped: `sum_t gamma^t c_t`. The horizon convention is in the name and must match the critic's
//! done flag: a critic that bootstraps through time limits is *infinite horizon*, one that stops there is *finite
//! horizon*.

use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::ScalarAdam;
use serde::{Deserialize, Serialize};

/// Episodic cost (or return: any undiscounted sum) of an infinite-horizon value: `(1 - gamma) V L`.
pub fn infinite_horizon_episode_cost(value: f64, gamma: f64, episode_length: usize) -> f64 {
    (1.0 - gamma) * value * episode_length as f64
}

/// Infinite-horizon value that corresponds to an episodic limit: `l / ((1 - gamma) L)`.
pub fn infinite_horizon_threshold(limit: f64, gamma: f64, episode_length: usize) -> f64 {
    limit / ((1.0 - gamma) * episode_length as f64)
}

/// Episodic cost of a finite-horizon value at the start of an episode: `V (1 - gamma) L / (1 - gamma^L)`.
pub fn finite_horizon_episode_cost(value: f64, gamma: f64, episode_length: usize) -> f64 {
    let length = episode_length as f64;
    value * (1.0 - gamma) * length / (1.0 - gamma.powf(length))
}

/// Finite-horizon value that corresponds to an episodic limit: `l (1 - gamma^L) / ((1 - gamma) L)`.
pub fn finite_horizon_threshold(limit: f64, gamma: f64, episode_length: usize) -> f64 {
    let length = episode_length as f64;
    limit * (1.0 - gamma.powf(length)) / ((1.0 - gamma) * length)
}

/// Finite-horizon value of a constant step cost, averaged over the times of an episode:
/// `c/(1-gamma) [1 - gamma (1 - gamma^L) / (L (1 - gamma))]`.
pub fn finite_horizon_time_average(step_cost: f64, gamma: f64, episode_length: usize) -> f64 {
    let length = episode_length as f64;
    step_cost / (1.0 - gamma) * (1.0 - gamma * (1.0 - gamma.powf(length)) / (length * (1.0 - gamma)))
}

/// PID control of the Lagrange multiplier; all three parts are clipped at 0 from below.
#[derive(Clone, Debug)]
pub struct Pid {
    /// KP, KI, KD.
    gains: [f64; 3],
    /// Value the controlled cost should reach, in the unit of the critic.
    set_point: f64,
    /// Upper bound of the multiplier.
    cap: f64,
    /// Error of the last update.
    pub error_old: f64,
    /// Accumulated error.
    pub integral: f64,
    /// Current multiplier, >= 0.
    pub multiplier: f64,
}

impl Pid {
    /// A controller at rest: gains KP, KI, KD, the value the controlled cost should reach, and the upper bound of the
    /// multiplier, if any.
    pub fn new(gains: [f64; 3], set_point: f64, cap: Option<f64>) -> Self {
        Pid { gains, set_point, cap: cap.unwrap_or(f64::INFINITY), error_old: 0.0, integral: 0.0, multiplier: 0.0 }
    }

    /// One update with the batch mean of the cost critic; returns the new multiplier.
    pub fn update(&mut self, mean_cost: f64) -> f64 {
        let [kp, ki, kd] = self.gains;
        let error = mean_cost - self.set_point;
        let derivative = (error - self.error_old).max(0.0);
        // Against windup the integral's own part stops at the cap: at the multiplier's cap itself the integral would
        // add no more than KI times it, and a lasting violation would never be enforced.
        let most = if ki > 0.0 { self.cap / ki } else { f64::INFINITY };
        self.integral = (self.integral + error).clamp(0.0, most);
        self.error_old = error;
        self.multiplier = (kp * error.max(0.0) + ki * self.integral + kd * derivative).clamp(0.0, self.cap);
        self.multiplier
    }

    /// Saves or restores the controller's memory.
    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.value("error_old", &mut self.error_old)?;
        state.value("integral", &mut self.integral)?;
        state.value("multiplier", &mut self.multiplier)
    }
}

/// Range of the logarithm of a [`LogMultiplier`].
const LOG_RANGE: (f64, f64) = (-5.0, 5.0);

/// A multiplier `alpha = exp(x)` that ascends its own dual by plain gradient steps on x, as the published BEAR and CPQ
/// do.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct LogMultiplier {
    /// x
    pub log: f64,
}

impl LogMultiplier {
    /// alpha
    pub fn value(self) -> f64 {
        self.log.exp()
    }

    /// One step: alpha rises where `violation > 0`.
    pub fn ascend(&mut self, violation: f64, lr: f64) {
        self.log = (self.log + lr * self.value() * violation).clamp(LOG_RANGE.0, LOG_RANGE.1);
    }
}

/// A multiplier `softplus(x)` that descends a loss by Adam on x, as the published COptiDICE does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SoftplusMultiplier {
    /// x
    pub raw: ScalarAdam,
}

impl SoftplusMultiplier {
    /// With x at `raw`.
    pub fn new(raw: f64) -> Self {
        SoftplusMultiplier { raw: ScalarAdam::new(raw) }
    }

    /// softplus(x)
    pub fn value(&self) -> f64 {
        let x = self.raw.value;
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    /// One step along `slope`, the derivative of the loss for the multiplier.
    pub fn descend(&mut self, slope: f64, lr: f64) {
        let through_softplus = 1.0 / (1.0 + (-self.raw.value).exp());
        self.raw.step(through_softplus * slope, lr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_multiplier_follows_its_violation_within_its_range() {
        let mut alpha = LogMultiplier::default();
        alpha.ascend(0.5, 0.1);
        assert!((alpha.log - 0.05).abs() < 1e-12 && (alpha.value() - 0.05f64.exp()).abs() < 1e-12);
        alpha.ascend(-1e9, 1.0);
        assert_eq!(alpha.log, LOG_RANGE.0);
        alpha.ascend(1e9, 1.0);
        assert_eq!(alpha.log, LOG_RANGE.1);
    }

    /// The derivative that reaches x, by finite differences.
    #[test]
    fn a_softplus_multiplier_descends_through_its_softplus() {
        for raw in [-3.0, 0.4, 50.0] {
            let at = |raw: f64| SoftplusMultiplier::new(raw).value();
            let slope = (at(raw + 1e-6) - at(raw - 1e-6)) / 2e-6;
            let mut multiplier = SoftplusMultiplier::new(raw);
            multiplier.descend(-2.0, 0.1);
            assert!((multiplier.raw.gradient + 2.0 * slope).abs() < 1e-6);
            assert!(multiplier.value() > at(raw));
        }
    }

    const GAINS: [f64; 3] = [0.1, 0.003, 0.001];

    /// A hand-computed response; no derivative while the error falls; bounds hold.
    #[test]
    fn step_response() {
        let mut pid = Pid::new(GAINS, 1.0, None);
        assert!((pid.update(3.0) - (0.1 * 2.0 + 0.003 * 2.0 + 0.001 * 2.0)).abs() < 1e-12);
        assert!((pid.update(2.0) - (0.1 * 1.0 + 0.003 * 3.0)).abs() < 1e-12);
        assert!((pid.update(-9.0) - 0.0).abs() < 1e-12);
        assert_eq!(pid.integral, 0.0);
        let mut bounded = Pid::new(GAINS, 0.0, Some(0.5));
        for _ in 0..100 {
            bounded.update(10.0);
        }
        assert_eq!((bounded.integral, bounded.multiplier), (0.5 / GAINS[1], 0.5));
        // Without integral control there is nothing to bound.
        let mut proportional = Pid::new([0.1, 0.0, 0.0], 0.0, Some(0.5));
        proportional.update(2.0);
        assert_eq!((proportional.integral, proportional.multiplier), (2.0, 0.2));
    }

    /// A policy whose cost falls by 0.2 for each unit of the multiplier keeps its limit in the end: only the integral
    /// can hold the multiplier of 5 that this takes where no error is left.
    #[test]
    fn a_lasting_violation_is_enforced() {
        let mut pid = Pid::new(GAINS, 1.0, Some(100.0));
        let cost = |multiplier: f64| (2.0 - 0.2 * multiplier).max(0.0);
        for _ in 0..20_000 {
            pid.update(cost(pid.multiplier));
        }
        assert!((pid.multiplier - 5.0).abs() < 1e-3, "multiplier {}", pid.multiplier);
        assert!((cost(pid.multiplier) - 1.0).abs() < 1e-3);
    }

    /// A constant cost c gives exactly c L under matching conventions and a factor (1 - gamma^L)^{+-1} when
    /// crossed.
    #[test]
    fn conversions_match_their_convention() {
        let (gamma, cost) = (0.99f64, 0.25f64);
        for (length, factor) in [(100, 0.634), (200, 0.866), (300, 0.951), (500, 0.9934), (1000, 0.99996)] {
            let infinite = cost / (1.0 - gamma);
            let decay = 1.0 - gamma.powi(length);
            let finite = infinite * decay;
            let truth = cost * length as f64;
            let length = length as usize;
            assert!((infinite_horizon_episode_cost(infinite, gamma, length) - truth).abs() < 1e-9);
            assert!((finite_horizon_episode_cost(finite, gamma, length) - truth).abs() < 1e-9);
            assert!((infinite_horizon_episode_cost(finite, gamma, length) / truth - decay).abs() < 1e-9);
            assert!((finite_horizon_episode_cost(infinite, gamma, length) / truth - 1.0 / decay).abs() < 1e-9);
            assert!((decay - factor).abs() < 5e-4);
            assert!((infinite_horizon_threshold(truth, gamma, length) - infinite).abs() < 1e-9);
            assert!((finite_horizon_threshold(truth, gamma, length) - finite).abs() < 1e-9);
            let average =
                (0..length).map(|t| cost * (1.0 - gamma.powi((length - t) as i32)) / (1.0 - gamma)).sum::<f64>()
                    / length as f64;
            assert!((finite_horizon_time_average(cost, gamma, length) - average).abs() < 1e-9);
        }
        for (length, threshold) in [(200, 0.43301), (300, 0.31699), (500, 0.19869), (1000, 0.099996)] {
            assert!((finite_horizon_threshold(1.0, 0.99, length) - threshold).abs() < 6e-6);
        }
    }
}
