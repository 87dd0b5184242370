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
    /// Of `learnt` the rows on both sides of a change of a cost, `[B]`; None where costs come and go as if by chance.
    pub borders: Option<Tensor>,
}

/// Share of the costly rows at a change of the cost up to which a cost is taken for a matter of places, with borders.
/// Of BallCircle's .19 are, of CarRun's .32, HopperVelocity's .12 and PointGoal1's .11; of a cost that comes by chance
/// with probability p about 1 - p^2.
const PLACES: f64 = 0.5;

impl Split {
    /// Holds out the episodes that `data` keeps from everything, or else `fraction` of the whole ones. Tails that were
    /// cut off are learnt from and test nothing.
    pub fn new(data: &Dataset, costs: usize, fraction: f64, members: usize, rng: &mut Rng) -> Self {
        let (holdout, learnt) = if data.held_out.is_empty() {
            drawn(data, fraction, rng)
        } else {
            let kept = |number: &usize| data.held_out.binary_search(number).is_err();
            (data.held_out.clone(), (0..data.episodes.len()).filter(kept).collect())
        };
        let mut bootstrap = || (0..learnt.len()).map(|_| learnt[rng.below(learnt.len())]).collect::<Vec<usize>>();
        let rows: Vec<Tensor> = (0..members).map(|_| data.rows_in(&bootstrap())).collect();
        let learnt = data.rows_in(&learnt);
        let borders = borders(data, costs).map(|at| learnt.masked_select(&at.index_select(0, &learnt)));
        let borders = borders.filter(|rows| rows.numel() > 0);
        Split { holdout, learnt, rows, borders }
    }

    /// `count` rows for each member, `[count*E]`: row b*E+e is member e's.
    pub fn sample(&self, count: usize, rng: &mut Rng) -> Tensor {
        let drawn: Vec<Tensor> = self.rows.iter().map(|rows| pick(rows, count, rng)).collect();
        Tensor::stack(&drawn, 1).view([-1])
    }

    /// As many of all rows, half of them at borders if asked for and where there are any.
    pub fn sample_all(&self, count: usize, bordering: bool, rng: &mut Rng) -> Tensor {
        let total = count * self.rows.len();
        match self.borders.as_ref().filter(|_| bordering) {
            Some(borders) => {
                Tensor::cat(&[pick(&self.learnt, total - total / 2, rng), pick(borders, total / 2, rng)], 0)
            }
            None => pick(&self.learnt, total, rng),
        }
    }
}

fn pick(rows: &Tensor, count: usize, rng: &mut Rng) -> Tensor {
    rows.index_select(0, &rng.rows(count, rows.size()[0], rows.device()))
}

/// For every row of the data whether one of the first `costs` costs differs before or after it in its episode, `[N]
/// bool`; None where most costly rows are such.
fn borders(data: &Dataset, costs: usize) -> Option<Tensor> {
    let mut borders = vec![false; data.len() as usize];
    let (mut costly, mut bordering) = (0u64, 0u64);
    for cost in (0..costs).map(|k| data.costs_of(k)) {
        for episode in &data.episodes {
            for row in episode.start..episode.end {
                let differs = |other: usize| (cost[other] > 0.0) != (cost[row] > 0.0);
                let at = (row > episode.start && differs(row - 1)) || (row + 1 < episode.end && differs(row + 1));
                borders[row] |= at;
                costly += u64::from(cost[row] > 0.0);
                bordering += u64::from(at && cost[row] > 0.0);
            }
        }
    }
    let places = costly > 0 && bordering as f64 <= PLACES * costly as f64;
    places.then(|| Tensor::from_slice(&borders).to_device(data.device()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::tests::columns;
    use drcorl_data::Columns;
    use std::sync::Arc;
    use tch::Device;

    /// 20 episodes of 20 steps that cost what `cost` says of their row.
    fn split(cost: impl Fn(usize) -> bool) -> Split {
        let rows = 400;
        let costs = (0..rows).map(|row| f32::from(u8::from(cost(row)))).collect();
        let columns = Columns { costs, ..columns(rows, |row| (false, row % 20 == 19)) };
        let data = Dataset::new(Arc::new(columns), None, Device::Cpu).unwrap();
        Split::new(&data, 1, 0.1, 3, &mut Rng::new(0, 0))
    }

    /// Rows on both sides of a change; an episode's end is no border.
    #[test]
    fn borders_are_where_a_cost_begins_or_ends() {
        let split = split(|row| (4..10).contains(&(row % 20)) || row % 20 >= 18);
        let borders = [3, 4, 9, 10, 17, 18];
        let within = |rows: &Tensor| Vec::<i64>::try_from(&rows.remainder(20)).unwrap();
        let found = within(split.borders.as_ref().unwrap());
        assert_eq!((found.len(), &found[..6]), (18 * 6, &borders[..]));
        let sampled = split.sample_all(50, true, &mut Rng::new(1, 0));
        let bordering = within(&sampled).iter().filter(|row| borders.contains(row)).count();
        assert!(sampled.numel() == 150 && (75..150).contains(&bordering), "{bordering}");
        let held_out = |row: &i64| split.holdout.contains(&(*row as usize / 20));
        assert!(!Vec::<i64>::try_from(&sampled).unwrap().iter().any(held_out));
        let uniform = within(&split.sample_all(50, false, &mut Rng::new(1, 0)));
        assert!(uniform.iter().filter(|row| borders.contains(row)).count() < 75);
    }

    #[test]
    fn costs_of_chance_and_none_have_no_borders() {
        let mut rng = Rng::new(5, 0);
        let chance: Vec<bool> = (0..400).map(|_| rng.unit() < 0.3).collect();
        assert!(split(|row| chance[row]).borders.is_none());
        assert!(split(|_| false).borders.is_none());
        assert!(split(|_| true).borders.is_none());
    }
}
