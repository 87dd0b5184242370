//! What a policy's first action changes in the sums that follow: a few steps in the models, then a value.
//!
//! Model-based value expansion (Feinberg et al. 2018, arXiv:1803.00101), its gradient for the action.

use super::dynamics::Dynamics;
use super::frame::{Frame, Moment};
use crate::dataset::Dataset;
use drcorl_nn::Traced;
use tch::{Kind, Tensor};

/// Trained models at one moment, for gradients through them.
pub struct Foresight {
    motion: Traced,
    outcome: Traced,
    frame: Frame,
}

/// Which sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Reward,
    /// Of the costs that are bounded, this one.
    Cost(usize),
}

/// What is summed, and what follows the steps in the models.
pub struct Outlook<'a> {
    pub signal: Signal,
    /// Steps in the models, at least 1.
    pub steps: usize,
    /// Discount of a step.
    pub gamma: f64,
    /// Factor on the signal.
    pub factor: f64,
    /// Actions `[N,A]` at observations `[N,S]`, in operations that autograd follows.
    pub act: &'a dyn Fn(&Tensor) -> Tensor,
    /// Values `[N,1]` of actions `[N,A]` at observations `[N,S]`, likewise.
    pub value: &'a dyn Fn(&Tensor, &Tensor) -> Tensor,
}

impl Dynamics {
    /// The models as they are.
    pub(super) fn foresight(&self) -> Foresight {
        let (motion, outcome) = self.traced();
        Foresight { motion, outcome, frame: self.frame.duplicate() }
    }
}

impl Foresight {
    /// Where logged rows `[N]` are.
    pub fn moment(&self, data: &Dataset, rows: &Tensor) -> Moment {
        self.frame.moment(data, rows)
    }

    /// `sum_t gamma^t signal_t + gamma^H value`, `[B,1]`, where `action [B,A]` is taken at `start` and the policy's
    /// afterwards, and its gradient for `action`, `[B,A]`. A row is foreseen by one member, the members share the rows.
    pub fn slope(&self, start: &Moment, action: &Tensor, outlook: &Outlook<'_>) -> (Tensor, Tensor) {
        tch::with_grad(|| {
            let (rows, members) = (action.size()[0], self.motion.members());
            let each = (rows + members - 1) / members;
            // The last member's rows are filled up with the first ones again, which count for nothing.
            let filled = Tensor::arange(each * members, (Kind::Int64, action.device())).remainder(rows);
            let fill = |rows: &Tensor| rows.index_select(0, &filled);
            let run =
                |net: &Traced, input: &Tensor| net.run(&input.view([members, each, -1])).view([each * members, -1]);
            let (mut motion, mut outcome) =
                (|input: &Tensor| run(&self.motion, input), |input: &Tensor| run(&self.outcome, input));

            let first = action.copy().set_requires_grad(true);
            let mut taken = fill(&first);
            let mut now = Moment { state: fill(&start.state), past: fill(&start.past) };
            let mut total = Tensor::zeros([each * members, 1], (Kind::Float, action.device()));
            let mut weight = total.ones_like();
            for _ in 0..outlook.steps {
                let predicted = self.frame.predict(&now, &taken, &mut motion, &mut outcome);
                let signal = match outlook.signal {
                    Signal::Reward => predicted.reward,
                    Signal::Cost(k) => predicted.costs.narrow(1, k as i64, 1),
                };
                total += &weight * signal * outlook.factor;
                weight = weight * (1.0 - predicted.terminal) * outlook.gamma;
                now = predicted.next;
                taken = (outlook.act)(&self.frame.observation(&now.state));
            }
            let last = self.frame.observation(&now.state);
            let values = (total + weight * (outlook.value)(&taken, &last)).narrow(0, 0, rows);
            let gradient = Tensor::run_backward(&[&values.sum(Kind::Float)], &[&first], false, false).swap_remove(0);
            (values.detach(), gradient.detach())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::past::tests::cart;
    use super::*;
    use crate::run::RunConfig;
    use drcorl_nn::rng::Rng;

    /// Against central differences, of an untrained model whose past counts; rows need not be a multiple of members.
    #[test]
    fn slopes_are_those_of_the_sums() {
        let (data, run) = (cart(false), RunConfig { model_hidden: vec![16, 16], ..RunConfig::default() });
        let foresight = Dynamics::new(&data, &run, 3, &mut Rng::new(0, 0)).foresight();
        let rows = Tensor::from_slice(&[0i64, 7, 60, 61, 140]);
        let start = foresight.moment(&data, &rows);
        let action = data.gather(&rows).action().contiguous() * 0.5;
        for (signal, steps) in [(Signal::Reward, 1), (Signal::Reward, 6), (Signal::Cost(0), 4)] {
            let outlook = Outlook {
                signal,
                steps,
                gamma: 0.9,
                factor: 2.0,
                act: &|observation| (observation * 0.3).tanh(),
                value: &|action, observation| action * 3.0 + observation.narrow(1, 0, 1) * 10.0,
            };
            let (values, slope) = foresight.slope(&start, &action, &outlook);
            assert_eq!((values.size(), slope.size()), (vec![5, 1], vec![5, 1]));
            let at = |by: f64| foresight.slope(&start, &(&action + by), &outlook).0;
            let differences = (at(2e-2) - at(-2e-2)) / 4e-2;
            let error = (&slope - &differences).abs().max().double_value(&[]);
            assert!(error < 1e-2 * (1.0 + slope.abs().max().double_value(&[])), "{signal:?} {steps}: {error}");
            assert!(slope.abs().min().double_value(&[]) > 1e-4, "{slope:?}");
        }
    }
}
