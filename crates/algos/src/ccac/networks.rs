//! Critics of (action, state, budget) behind their output, and multipliers of the budget.

use super::config::ClampGradient;
use super::losses::{speaker, weighted_excess, Clamp, Output};
use crate::critics::{bound, mean, Bound};
use crate::losses::squared_errors;
use drcorl_nn::checkpoint::State;
use drcorl_nn::rng::Rng;
use drcorl_nn::{probe, Head};
use tch::{Device, Kind, Tensor};

/// Critics trained alike, of which one speaks.
pub struct BudgetCritics {
    pub head: Head,
    output: Output,
    side: Bound,
}

/// Pairs that critics are to value above their budget: input `[N,A+S+1]`, budget and weight `[N,1]`.
pub struct Raise<'a> {
    pub input: &'a Tensor,
    pub budget: &'a Tensor,
    pub weight: &'a Tensor,
}

impl BudgetCritics {
    pub fn new(head: Head, output: Output, side: Bound) -> Self {
        BudgetCritics { head, output, side }
    }

    /// The lagged value `[B,1]` of the member that speaks.
    pub fn target(&mut self, input: &Tensor) -> Tensor {
        bound(&self.output.values(&self.head.evaluate_target(input)), self.side)
    }

    /// The live value `[B,1]` of the member that speaks, and its gradient for the first `actions` columns, `[B,A]`.
    pub fn pull(&mut self, input: &Tensor, actions: i64) -> (Tensor, Tensor) {
        let (output, side) = (self.output, self.side);
        let (value, gradient) = self.head.input_gradient(input, |raw| {
            let values = output.values(raw);
            (bound(&values, side), output.through(raw, speaker(&values, side)))
        });
        (value, gradient.narrow(1, 0, actions))
    }

    /// One Adam step of every member towards `target [B,1]`; with `raise`, also along
    /// `-mean weight (value - budget)` of the member that speaks. Returns the loss, and the speaker's values of the
    /// raised pairs `[N,1]` before the step.
    pub fn regress(
        &mut self,
        input: &Tensor,
        target: &Tensor,
        raise: Option<&Raise>,
        lr: f64,
    ) -> (f64, Option<Tensor>) {
        let rows = input.size()[0];
        let all = raise.map_or_else(|| input.shallow_clone(), |raise| Tensor::cat(&[input, raise.input], 0));
        let raw = self.head.forward(&all).copy();
        let values = self.output.values(&raw);
        probe::see("critic_target", target);
        let (mut loss, mut gradient) = squared_errors(&values.narrow(0, 0, rows), target);
        let mut raised = None;
        if let Some(raise) = raise {
            let own = values.narrow(0, rows, raise.input.size()[0]);
            let spoken = bound(&own, self.side);
            let (excess, slope) = weighted_excess(&spoken, raise.budget, raise.weight);
            loss -= excess;
            gradient = Tensor::cat(&[gradient, -(speaker(&own, self.side) * slope)], 0);
            raised = Some(spoken);
        }
        self.head.descend(&all, &self.output.through(&raw, gradient), lr);
        (loss, raised)
    }
}

/// `lambda(budget) = exp(network(budget))`, its logarithm clamped.
pub struct Multiplier {
    pub head: Head,
    /// Of the logarithm.
    clamp: Clamp,
    decay: f64,
}

/// Lowest logarithm of a multiplier.
const LEAST_LOG: f64 = -20.0;

impl Multiplier {
    /// Two hidden layers of `hidden`; `decay` weighs the squares of the parameters in the loss.
    pub fn new(
        name: &str,
        hidden: i64,
        (most_log, decay): (f64, f64),
        gradient: ClampGradient,
        device: Device,
        rng: &mut Rng,
    ) -> Self {
        let head = Head::new(name, 1, &[1, hidden, hidden, 1], false, device, rng);
        let [least, most] = [LEAST_LOG, most_log].map(|bound| Tensor::from(bound as f32).to_device(device));
        Multiplier { head, clamp: Clamp { least, most, gradient }, decay }
    }

    /// lambda of `budget [N,1]`.
    pub fn value(&mut self, budget: &Tensor) -> Tensor {
        let raw = self.head.evaluate(budget);
        self.clamp.values(&raw).exp()
    }

    /// One Adam step along `mean lambda(budget) slope + decay sum of squares`, `slope [N,1]`; the loss before it.
    pub fn descend(&mut self, budget: &Tensor, slope: &Tensor, lr: f64) -> f64 {
        let raw = self.head.forward(budget).copy();
        let weighed = self.clamp.values(&raw).exp() * slope;
        let parameters = self.head.online().values().copy();
        let loss = mean(&weighed) + self.decay * parameters.square().sum(Kind::Double).double_value(&[]);
        self.head.backward(budget, &self.clamp.through(&raw, weighed / budget.size()[0] as f64));
        let _ = self.head.online().gradients().shallow_clone().g_add_(&(parameters * (2.0 * self.decay)));
        self.head.step(lr);
        loss
    }

    pub fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        self.head.persist(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiplier(rng: &mut Rng) -> Multiplier {
        Multiplier::new("m", 8, (5.0, 0.01), ClampGradient::Inward, Device::Cpu, rng)
    }

    /// A multiplier that has risen to its bound falls again.
    #[test]
    fn slack_brings_a_multiplier_down_from_its_bound() {
        let _no_grad = tch::no_grad_guard();
        let mut rng = Rng::new(4, 0);
        let mut multiplier = multiplier(&mut rng);
        let budget = rng.normal(&[32, 1], Device::Cpu).abs();
        let mut after = |violation: f64| {
            (0..800).for_each(|_| _ = multiplier.descend(&budget, &budget.full_like(-violation), 1e-2));
            mean(&multiplier.value(&budget)).ln()
        };
        assert!(after(1e3) > 4.9);
        assert!(after(-1.0) < 4.0);
    }

    /// Held to a constraint, lambda rises where it is violated and falls where there is slack.
    #[test]
    fn a_multiplier_is_monotone_in_the_violation() {
        let _no_grad = tch::no_grad_guard();
        for (excess, rises) in [(1.0, true), (-1.0, false)] {
            let mut rng = Rng::new(1, 0);
            let mut multiplier = multiplier(&mut rng);
            let budget = rng.normal(&[32, 1], Device::Cpu).abs();
            let before = mean(&multiplier.value(&budget));
            for _ in 0..50 {
                multiplier.descend(&budget, &budget.full_like(-excess), 1e-3);
            }
            assert_eq!(mean(&multiplier.value(&budget)) > before, rises);
        }
    }

    /// The gradient of a multiplier's loss, by finite differences along random directions.
    #[test]
    fn the_gradient_of_a_multiplier_equals_finite_differences() {
        let _no_grad = tch::no_grad_guard();
        let mut rng = Rng::new(2, 0);
        let mut multiplier = multiplier(&mut rng);
        let (budget, slope) = (rng.normal(&[16, 1], Device::Cpu), rng.normal(&[16, 1], Device::Cpu));
        let start = multiplier.head.online().values().copy();
        multiplier.descend(&budget, &slope, 0.0);
        let gradient = multiplier.head.online().gradients().copy();
        for _ in 0..4 {
            let direction = rng.normal(&start.size(), Device::Cpu);
            let mut at = |step: f64| {
                multiplier.head.online().values().shallow_clone().copy_(&(&start + &direction * step));
                multiplier.descend(&budget, &slope, 0.0)
            };
            let found = (at(1e-3) - at(-1e-3)) / 2e-3;
            let expected = (&gradient * &direction).sum(Kind::Double).double_value(&[]);
            assert!((found - expected).abs() < 0.02 * expected.abs().max(0.1), "{found} {expected}");
        }
    }

    /// The gradient of the critics' loss with raised pairs, likewise.
    #[test]
    fn the_gradient_of_raised_critics_equals_finite_differences() {
        let _no_grad = tch::no_grad_guard();
        for (output, side) in [(Output::Softplus, Bound::Min), (Output::Linear, Bound::Max)] {
            let mut rng = Rng::new(3, 0);
            let head = Head::new("q", 3, &[4, 8, 8, 1], true, Device::Cpu, &mut rng);
            let mut critics = BudgetCritics::new(head, output, side);
            let mut normal = |rows: i64, columns: i64| rng.normal(&[rows, columns], Device::Cpu);
            let (input, target, other) = (normal(12, 4), normal(12, 1), normal(7, 4));
            let (budget, weight) = (normal(7, 1), normal(7, 1).exp());
            let raise = Raise { input: &other, budget: &budget, weight: &weight };
            let start = critics.head.online().values().copy();
            critics.regress(&input, &target, Some(&raise), 0.0);
            let gradient = critics.head.online().gradients().copy();
            for _ in 0..4 {
                let direction = rng.normal(&start.size(), Device::Cpu);
                let mut at = |step: f64| {
                    critics.head.online().values().shallow_clone().copy_(&(&start + &direction * step));
                    critics.regress(&input, &target, Some(&raise), 0.0).0
                };
                let found = (at(2e-4) - at(-2e-4)) / 4e-4;
                let expected = (&gradient * &direction).sum(Kind::Double).double_value(&[]);
                assert!((found - expected).abs() < 0.02 * expected.abs().max(0.3), "{found} {expected}");
            }
        }
    }
}
