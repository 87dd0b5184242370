//! Logged episodes in the plane of cost and return: the Pareto front and a polynomial through it.

use drcorl_core::error::Result;
use tch::{Kind, Tensor};

/// An episode's undiscounted sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub cost: f64,
    pub ret: f64,
}

/// Numbers, ascending, of the points no other point dominates: none has at most the cost and at least the return, and
/// is better in one. Equal points are in it together.
pub fn pareto_front(points: &[Point]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&i, &j| points[i].cost.total_cmp(&points[j].cost).then(points[j].ret.total_cmp(&points[i].ret)));
    let mut front: Vec<usize> = Vec::new();
    for index in order {
        let best = front.last().map(|&last: &usize| points[last]);
        if best.is_none_or(|best| points[index].ret > best.ret || points[index] == best) {
            front.push(index);
        }
    }
    front.sort_unstable();
    front
}

/// Coefficients, the highest power first, of the polynomial of return on cost with the least squared error over
/// `points`.
///
/// As NumPy's `polyfit`: columns scaled to length 1, singular values below `n` machine epsilons dropped;
/// with too few points, the smallest solution.
pub fn polynomial(points: &[Point], degree: usize) -> Result<Vec<f64>> {
    let (n, powers) = (points.len(), degree + 1);
    let row = |point: &Point| (0..powers).map(|j| point.cost.powi((degree - j) as i32)).collect::<Vec<f64>>();
    let rows: Vec<f64> = points.iter().flat_map(row).collect();
    let matrix = Tensor::from_slice(&rows).view([n as i64, powers as i64]);
    let length = matrix.square().sum_dim_intlist(0i64, true, Kind::Double).sqrt();
    // A column of zeros stays one.
    let length = length.where_self(&length.gt(0.0), &length.ones_like());
    let right = Tensor::from_slice(&points.iter().map(|point| point.ret).collect::<Vec<f64>>()).unsqueeze(1);
    let cutoff = n as f64 * f64::EPSILON;
    let (solution, _, _, _) = (matrix / &length).f_linalg_lstsq(&right, cutoff, "gelsd")?;
    let coefficients = solution.squeeze_dim(1) / length.squeeze_dim(0);
    Ok(Vec::<f64>::try_from(&coefficients)?)
}

/// The value of a polynomial with `coefficients`, the highest power first.
pub fn evaluate(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |value, c| value * x + c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(list: &[(f64, f64)]) -> Vec<Point> {
        list.iter().map(|&(cost, ret)| Point { cost, ret }).collect()
    }

    #[test]
    fn dominated_points_are_not_on_the_front() {
        let all = points(&[(5.0, 3.0), (1.0, 1.0), (1.0, 0.5), (3.0, 3.0), (1.0, 1.0), (4.0, 2.0), (9.0, 4.0)]);
        assert_eq!(pareto_front(&all), [1, 3, 4, 6]);
        assert_eq!(pareto_front(&points(&[(2.0, 7.0)])), [0]);
        assert!(pareto_front(&[]).is_empty());
    }

    #[test]
    fn a_polynomial_is_found_again() {
        for (degree, coefficients) in [(0, vec![2.5]), (1, vec![0.3, -4.0]), (3, vec![1e-4, -0.02, 3.0, 100.0])] {
            let all: Vec<Point> = (0..30)
                .map(|i| f64::from(i) * 2.5)
                .map(|cost| Point { cost, ret: evaluate(&coefficients, cost) })
                .collect();
            for (found, wanted) in polynomial(&all, degree).unwrap().iter().zip(&coefficients) {
                assert!((found - wanted).abs() < 1e-9 * wanted.abs().max(1.0), "{found} instead of {wanted}");
            }
        }
        // Least squares by hand: the line through (0,0), (1,1), (2,1) is 1/6 + x/2.
        let line = polynomial(&points(&[(0.0, 0.0), (1.0, 1.0), (2.0, 1.0)]), 1).unwrap();
        assert!((line[0] - 0.5).abs() < 1e-12 && (line[1] - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn fewer_points_than_coefficients_give_the_smallest_solution() {
        let one = polynomial(&points(&[(0.0, 3.0)]), 2).unwrap();
        assert!((evaluate(&one, 0.0) - 3.0).abs() < 1e-9 && one.iter().all(|c| c.is_finite()));
        assert!(polynomial(&points(&[(2.0, 1.0), (3.0, 2.0)]), 4).unwrap().iter().all(|c| c.is_finite()));
    }
}
