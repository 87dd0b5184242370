//! Every kernel against its formula, on every instruction set there is.
//! What this processor has not is counted as ignored.

mod activations;
mod affine;
mod attention;
mod conv;
mod dropout;
mod gated;
mod gemm;
mod group_norms;
mod heads;
mod losses;
mod noise;
mod norms;
mod peak;
mod steps;

use drcorl_kernels::InstructionSet;
use libtest_mimic::{Arguments, Failed, Trial};

/// A kernel's name and its comparison with the formula, which gives all numbers that the kernel computed.
type Case = (&'static str, fn(InstructionSet) -> Vec<f32>);

fn main() {
    let cases = [
        activations::CASES,
        affine::CASES,
        attention::CASES,
        conv::CASES,
        dropout::CASES,
        group_norms::CASES,
        heads::CASES,
        losses::CASES,
        norms::CASES,
        peak::CASES,
        steps::CASES,
    ]
    .concat();
    let sets = InstructionSet::NAMES.into_iter();
    let on_sets = sets.flat_map(|name| cases.iter().map(move |&case| trial(name, case)));
    let trials = on_sets.chain(gemm::trials()).chain(gated::trials()).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn trial(name: &'static str, (case, run): Case) -> Trial {
    let set = InstructionSet::named(name);
    let test = move || {
        let numbers = run(set.ok_or_else(|| Failed::from(format!("this processor has no {name}")))?);
        // Both fuse multiplication and addition.
        if let Some(avx2) = InstructionSet::named("avx2").filter(|_| name == "avx512") {
            let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
            assert!(bits(run(avx2)) == bits(numbers), "other bits than avx2");
        }
        Ok(())
    };
    Trial::test(case, test).with_kind(name).with_ignored_flag(set.is_none())
}
