//! Pure formulas: gradient manipulation and the PID multiplier.

use crate::{Binding, Fixture, Plan, Record, Tensors};
use drcorl_algos::gradient::manipulate;
use drcorl_algos::lagrange::Pid;
use drcorl_core::error::Result;
use tch::{Device, Kind, Tensor};

struct GradientManipulation;

pub fn bind_gradient_manipulation(
    _fixture: &Fixture,
    _variant: &str,
    _init: &Tensors,
    _device: Device,
) -> Result<Plan> {
    Ok(Plan::Run(Box::new(GradientManipulation)))
}

impl Binding for GradientManipulation {
    fn step(&mut self, _step: usize, _batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        Ok(Record::new())
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let (reward, cost) = (inputs.get("g_reward")?, inputs.get("g_cost")?);
        let cases: Vec<_> =
            (0..reward.size()[0]).map(|row| manipulate(&reward.get(row), &cost.get(row), f64::INFINITY)).collect();
        let combined: Vec<Tensor> = cases.iter().map(|case| case.gradient.shallow_clone()).collect();
        let inner: Vec<f64> = cases.iter().map(|case| case.inner).collect();
        Ok(vec![("g".into(), Tensor::stack(&combined, 0)), ("inner_product".into(), Tensor::from_slice(&inner))])
    }
}

struct PidSequence {
    gains: [f64; 3],
}

pub fn bind_pid(fixture: &Fixture, _variant: &str, _init: &Tensors, _device: Device) -> Result<Plan> {
    let gains = [fixture.hyper(&["KP"])?, fixture.hyper(&["KI"])?, fixture.hyper(&["KD"])?];
    Ok(Plan::Run(Box::new(PidSequence { gains })))
}

impl Binding for PidSequence {
    fn step(&mut self, _step: usize, _batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        Ok(Record::new())
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let (batches, thresholds) = (inputs.get("qc")?, inputs.get("thresholds")?);
        let mut columns: [Vec<f64>; 3] = Default::default();
        for threshold in 0..thresholds.size()[0] {
            let set_point = thresholds.double_value(&[threshold]);
            let mut pid = Pid::new(self.gains, set_point, None);
            for call in 0..batches.size()[0] {
                let multiplier = pid.update(batches.get(call).mean(Kind::Double).double_value(&[]));
                for (column, value) in columns.iter_mut().zip([multiplier, pid.error_old, pid.integral]) {
                    column.push(value);
                }
            }
        }
        let names = ["multiplier", "error_old", "integral"];
        Ok(names
            .into_iter()
            .zip(columns)
            .map(|(name, column)| (name.to_string(), Tensor::from_slice(&column)))
            .collect())
    }
}
