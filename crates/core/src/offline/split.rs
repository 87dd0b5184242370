//! Which episodes test the models, and which each member learns from.

use crate::dataset::Dataset;
use drcorl_nn::rng::Rng;
use tch::Tensor;

/// Held-out episodes, and a bootstrap of the others for every member.
pub(super) struct Split {
    /// Numbers of the held-out episodes, ascending; no member sees them.
    pub holdout: Vec<usize>,
    /// Rows of all other episodes, `[M]`.
    pub learnt: Tensor,
    /// Rows of each member's draw of episodes, `[M_e]`: members that saw the same rows would agree where all are wrong.
    pub rows: Vec<Tensor>,
}

impl Split {
    /// Holds out the episodes that `data` keeps from everything, or else `fraction` of the whole ones. Tails that were
    /// cut off are learnt from and test nothing.
    pub fn new(data: &Dataset, fraction: f64, members: usize, rng: &mut Rng) -> Self {
        let (holdout, learnt) = if data.held_out.is_empty() {
            drawn(data, fraction, rng)
        } else {
            let kept = |number: &usize| data.held_out.binary_search(number).is_err();
            (data.held_out.clone(), (0..data.episodes.len()).filter(kept).collect())
        };
        let mut bootstrap = || (0..learnt.len()).map(|_| learnt[rng.below(learnt.len())]).collect::<Vec<usize>>();
        let rows = (0..members).map(|_| data.rows_in(&bootstrap())).collect();
        Split { holdout, learnt: data.rows_in(&learnt), rows }
    }

    /// `count` rows for each member, `[count*E]`: row b*E+e is member e's.
    pub fn sample(&self, count: usize, rng: &mut Rng) -> Tensor {
        let drawn: Vec<Tensor> = self
            .rows
            .iter()
            .map(|rows| rows.index_select(0, &rng.rows(count, rows.size()[0], rows.device())))
            .collect();
        Tensor::stack(&drawn, 1).view([-1])
    }
}

/// Numbers of the held-out and of the other episodes, both ascending.
fn drawn(data: &Dataset, fraction: f64, rng: &mut Rng) -> (Vec<usize>, Vec<usize>) {
    let (mut order, mut learnt): (Vec<usize>, Vec<usize>) =
        (0..data.episodes.len()).partition(|&number| data.whole(&data.episodes[number]));
    rng.shuffle(&mut order);
    let most = data.episodes.len().saturating_sub(1);
    let held = ((order.len() as f64 * fraction).round() as usize).min(order.len()).min(most);
    learnt.extend(order.split_off(held));
    learnt.sort_unstable();
    order.sort_unstable();
    (order, learnt)
}
