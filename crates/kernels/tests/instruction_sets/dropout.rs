use crate::noise::Noise;
use crate::Case;
use drcorl_kernels::dropout::{self, Dropout};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] = &[("dropout::{apply, apply_in_place, residual, add}", passes)];

/// The mask that [`Dropout::factor`] says, number by number.
fn passes(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(1);
    let [x, base] = [(); 2].map(|()| noise.vector(7 * 33));
    let mut found = Vec::new();
    for dropout in [Dropout::NONE, Dropout::new(0.4, 77)] {
        let factors = (0..).map(|i| dropout.factor(i));
        let wanted: Vec<f32> = x.iter().zip(factors).map(|(x, factor)| x * factor).collect();
        let mut out = vec![f32::NAN; x.len()];
        dropout::apply(set, &x, &mut out, dropout);
        assert_eq!(out, wanted);
        let mut in_place = x.clone();
        dropout::apply_in_place(set, &mut in_place, dropout);
        assert_eq!(in_place, wanted);
        let sums: Vec<f32> = base.iter().zip(&wanted).map(|(base, x)| base + x).collect();
        let mut residual = vec![f32::NAN; x.len()];
        dropout::residual(set, &base, &x, &mut residual, dropout);
        assert_eq!(residual, sums);
        let mut total = base.clone();
        dropout::add(set, &mut total, &x, dropout);
        assert_eq!(total, sums);
        found.extend(residual);
    }
    found
}
