//! What the budgets of data are, and the labels of the classifier.

use super::learner::beyond;
use super::*;
use drcorl_data::Columns;
use std::sync::Arc;
use tch::Device;

fn data() -> Dataset {
    let costs = vec![1.0f32, 0.0, 2.0, 1.0, 1.0, 0.0];
    let column = |of: &[f32]| of.to_vec();
    let columns = Columns {
        obs_dim: 1,
        act_dim: 1,
        source: "toy".into(),
        observations: column(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        next_observations: column(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        actions: column(&[-1.0, 1.0, 0.0, 0.5, -0.5, 0.0]),
        rewards: column(&[0.0; 6]),
        terminals: vec![false; 6],
        timeouts: vec![false, false, true, false, false, true],
        costs,
        ..Columns::default()
    };
    Dataset::new(Arc::new(columns), None, Device::Cpu).unwrap()
}

/// A budget is the reversed running sum of an episode's costs, and that of its last next state is 0.
#[test]
fn budgets_are_costs_to_come() {
    let data = data();
    let numbers = |of: &Tensor| Vec::<f32>::try_from(of.view([-1])).unwrap();
    let [here, next] = budgets(&data, 1.0, 1.0);
    assert_eq!(numbers(&here), [3.0, 2.0, 2.0, 2.0, 1.0, 0.0]);
    assert_eq!(numbers(&next), [2.0, 2.0, 0.0, 1.0, 0.0, 0.0]);
    let [here, next] = budgets(&data, 0.5, 2.0);
    assert_eq!(numbers(&here), [3.0, 2.0, 4.0, 3.0, 2.0, 0.0]);
    assert_eq!(numbers(&next), [2.0, 4.0, 0.0, 2.0, 0.0, 0.0]);
}

/// A pair is beyond a query only where its own budget is above it.
#[test]
fn the_boundary_is_within() {
    let budget = Tensor::from_slice(&[1.0f32, 2.0, 3.0]).unsqueeze(1);
    let labels = beyond(&budget, &budget.full_like(2.0));
    assert_eq!(Vec::<f32>::try_from(labels.view([-1])).unwrap(), [0.0, 0.0, 1.0]);
}
