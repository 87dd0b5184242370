//! A step's numbers on the host, one a row.
//!
//! The losses of COptiDICE are functions of some numbers a row and of nothing else: a thousand rows take a few microseconds here, in double
//! precision, and would take a hundred calls of libtorch.

use super::Initial;
use crate::shared::Transition;
use drcorl_nn::Head;
use tch::{Device, Tensor};

/// The elements of a tensor of floats.
pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    let mut floats = vec![0f32; tensor.numel()];
    tensor.to_device(Device::Cpu).contiguous().copy_data(&mut floats, tensor.numel());
    floats.into_iter().map(f64::from).collect()
}

/// Numbers as a column `[N,1]`.
pub fn column(numbers: &[f64], device: Device) -> Tensor {
    let floats: Vec<f32> = numbers.iter().map(|&number| number as f32).collect();
    Tensor::from_slice(&floats).to_device(device).view([-1, 1])
}

/// The mean of a term a row.
pub fn average(rows: usize, term: impl Fn(usize) -> f64) -> f64 {
    (0..rows).map(term).sum::<f64>() / rows as f64
}

/// The sum of the products of two vectors.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// log of the sum of `exp(x)`.
pub fn log_sum_exp(x: &[f64]) -> f64 {
    let highest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    highest + x.iter().map(|x| (x - highest).exp()).sum::<f64>().ln()
}

/// What a batch says, B numbers each, and the N states at which it asks for values.
pub struct Rows {
    pub reward: Vec<f64>,
    pub cost: Vec<f64>,
    /// `gamma (1 - d)`
    pub alive: Vec<f64>,
    /// s, s' and, if they are separate, initial states, `[N,S]`.
    pub states: Tensor,
    /// Weights of the states, by which `E[v(s0)]` is a weighted sum of the values there.
    pub start: Vec<f64>,
    /// True if initial states are rows of the batch.
    pub flagged: bool,
}

impl Rows {
    /// Of a batch whose columns are `[B,1]`, where `share` of the data's rows are initial.
    pub fn of(batch: &Transition, initial: &Initial, gamma: f64, share: f64) -> Rows {
        let count = batch.rows();
        let mut states = vec![&batch.observation, &batch.next_observation];
        let mut start = vec![0.0; 2 * count as usize];
        match initial {
            Initial::Flags(flags) => {
                let weight = |flag: f64| flag / (share * count as f64);
                start.splice(..count as usize, numbers(flags).into_iter().map(weight));
            }
            Initial::States(own) => {
                states.push(own);
                let own = own.size()[0];
                start.extend((0..own).map(|_| 1.0 / own as f64));
            }
        }
        Rows {
            reward: numbers(&batch.reward),
            cost: numbers(&batch.cost),
            alive: numbers(&batch.reward_stop).into_iter().map(|stop| gamma * (1.0 - stop)).collect(),
            states: Tensor::cat(&states, 0),
            start,
            flagged: matches!(initial, Initial::Flags(_)),
        }
    }

    /// Number of rows B.
    pub fn count(&self) -> usize {
        self.reward.len()
    }
}

/// Values at N states: those of the lowest member.
pub struct Values {
    /// A number a state.
    pub lowest: Vec<f64>,
    /// The member whose value that is.
    member: Vec<usize>,
}

impl Values {
    /// Live values at `states [N,S]`, kept for [`Values::descend`].
    pub fn forward(head: &mut Head, states: &Tensor) -> Values {
        let members = head.members() as usize;
        let outputs = numbers(head.forward(states));
        let (member, lowest) = outputs.chunks_exact(members).map(minimum).unzip();
        Values { lowest, member }
    }

    /// Live values at `states [N,S]`.
    pub fn evaluate(head: &mut Head, states: &Tensor) -> Vec<f64> {
        let members = head.members() as usize;
        numbers(&head.evaluate(states)).chunks_exact(members).map(|values| minimum(values).1).collect()
    }

    /// One Adam step along the gradient of a loss in the values, a number a state.
    pub fn descend(&self, head: &mut Head, states: &Tensor, grad: &[f64], lr: f64) {
        let members = head.members() as usize;
        let mut grad_out = vec![0f32; grad.len() * members];
        for ((of_row, &member), &grad) in grad_out.chunks_exact_mut(members).zip(&self.member).zip(grad) {
            of_row[member] = grad as f32;
        }
        let grad_out = Tensor::from_slice(&grad_out).view([-1, members as i64]);
        head.descend(states, &grad_out.to_device(states.device()), lr);
    }
}

/// The first of the lowest numbers; NaN is the lowest.
fn minimum(values: &[f64]) -> (usize, f64) {
    let lower = |best: (usize, f64), next: (usize, f64)| {
        let keep = best.1.is_nan() || best.1 <= next.1;
        if keep {
            best
        } else {
            next
        }
    };
    values.iter().copied().enumerate().reduce(lower).expect("an ensemble has members")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_member_is_the_first_of_equals_and_nan_before_all() {
        assert_eq!(minimum(&[2.0, 1.0, 1.0]), (1, 1.0));
        assert_eq!(minimum(&[-1.0]), (0, -1.0));
        for values in [[f64::NAN, 1.0], [1.0, f64::NAN]] {
            assert!(minimum(&values).1.is_nan());
        }
    }

    #[test]
    fn large_exponents_do_not_overflow() {
        assert!((log_sum_exp(&[1000.0, 1000.0]) - 1000.0 - 2f64.ln()).abs() < 1e-12);
        assert!((log_sum_exp(&[0.0, 1.0]) - (1.0 + 1f64.exp()).ln()).abs() < 1e-12);
        assert!(log_sum_exp(&[0.0, f64::NAN]).is_nan());
    }
}
