//! Every loss against libtorch's autograd.

use super::*;
use drcorl_nn::rng::Rng;
use tch::Device;

const ROWS: i64 = 9;

fn normal(rng: &mut Rng, columns: i64) -> Tensor {
    rng.normal(&[ROWS, columns], Device::Cpu)
}

/// The gradient of `loss` at a leaf.
fn autograd(leaf: &Tensor, loss: impl Fn(&Tensor) -> Tensor) -> (f64, Tensor) {
    let leaf = leaf.copy().set_requires_grad(true);
    let value = loss(&leaf);
    value.backward();
    (value.double_value(&[]), leaf.grad())
}

fn agree((loss, gradient): (f64, Tensor), (expected, slope): (f64, Tensor)) {
    assert!((loss - expected).abs() < 1e-5, "{loss} against {expected}");
    assert!((gradient - slope).abs().max().double_value(&[]) < 1e-5);
}

#[test]
fn regressions_equal_autograd() {
    let mut rng = Rng::new(1, 0);
    let (values, target) = (normal(&mut rng, 3), normal(&mut rng, 1));
    agree(
        squared_errors(&values, &target),
        autograd(&values, |x| (x - &target).square().sum(Kind::Float) / ROWS as f64),
    );
    let one = normal(&mut rng, 1);
    let by_sign = |x: &Tensor| {
        let u = &target - x;
        (u.relu().square() * 0.8 + (-u).relu().square() * 0.2).mean(Kind::Float)
    };
    agree(expectile(&one, &target, 0.8), autograd(&one, by_sign));
    let joined = normal(&mut rng, 1);
    let logged = target.narrow(0, 0, 5);
    let found = conservative(&joined, &logged, 0.6, 10.0);
    let raising = |x: &Tensor| {
        let errors = (x.narrow(0, 0, 5) - &logged).square().sum(Kind::Float);
        (errors - x.narrow(0, 5, 4).sum(Kind::Float) * 0.6) / 10.0
    };
    agree((found.loss, found.gradient), autograd(&joined, raising));
    let squares = (joined.narrow(0, 0, 5) - &logged).square().sum(Kind::Double).double_value(&[]);
    assert!((found.squares - squares).abs() < 1e-9);
    let direction = normal(&mut rng, 3);
    let dot = |x: &Tensor| (x * &direction).sum(Kind::Float) / ROWS as f64;
    agree(along(&values, &direction), autograd(&values, dot));
    let (loss, gradient) = mean_value(&values, 0.4, 20.0);
    let (sum, slope) = autograd(&values, |x| x.sum(Kind::Float) * (0.4 / 20.0));
    agree((loss * 0.4 * 3.0, gradient), (sum, slope));
}

/// Two critics written out as functions of the action, so that the pull and the loss can be had from autograd.
#[test]
fn losses_of_actions_equal_autograd() {
    let mut rng = Rng::new(2, 0);
    let (action, w, wc) = (normal(&mut rng, 2), normal(&mut rng, 2), normal(&mut rng, 2));
    let q = |a: &Tensor| (a.square() * &w).sum_dim_intlist(1i64, true, Kind::Float);
    let qc = |a: &Tensor| (a.sin() * &wc).sum_dim_intlist(1i64, true, Kind::Float);
    let (reward, cost): (Pull, Pull) = ((q(&action), action.copy() * 2.0 * &w), (qc(&action), action.cos() * &wc));

    let found = penalised(&reward, 1.0, &cost, 0.7, 0.1);
    let written = |a: &Tensor| (qc(a) - 0.1).mean(Kind::Float) * 0.7 - q(a).mean(Kind::Float);
    agree((found.loss, found.gradient), autograd(&action, written));
    assert!((found.penalty - 0.7 * (mean(&cost.0) - 0.1)).abs() < 1e-9);
    let (_, imitating) = autograd(&action, |a| qc(a).mean(Kind::Float) * 0.7);
    assert!((penalised(&reward, 0.0, &cost, 0.7, 0.1).gradient - imitating).abs().max().double_value(&[]) < 1e-6);

    let limit = mean(&cost.0);
    let feasible = cost.0.le(limit).to_kind(Kind::Float);
    let lower: Tensor = 1.0 - &feasible;
    assert!((0.1..0.9).contains(&mean(&feasible)), "both cases occur");
    let ignoring = |a: &Tensor| -(q(a) * &feasible).mean(Kind::Float);
    agree(feasible_value(&reward, (&cost.0, None), limit), autograd(&action, ignoring));
    let lowering = |a: &Tensor| (qc(a) * &lower - q(a) * &feasible).mean(Kind::Float);
    agree(feasible_value(&reward, (&cost.0, Some(&cost.1)), limit), autograd(&action, lowering));
}
