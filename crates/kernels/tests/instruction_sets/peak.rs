use crate::noise::close;
use crate::Case;
use drcorl_kernels::peak::{self, plain};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] = &[("peak::multiply_add", multiply_add)];

fn multiply_add(set: InstructionSet) -> Vec<f32> {
    let found = peak::multiply_add(set, 5, 0.5, 3.0);
    close(&found, (0..found.len()).map(|start| plain::multiply_add(start as f64, 5, 0.5, 3.0)), 1e-6);
    if let Some(flop) = peak::flop(set, 5) {
        assert!(flop >= 2.0 * 5.0 * found.len() as f64, "{flop} operations");
    }
    found.to_vec()
}
