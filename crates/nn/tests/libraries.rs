//! Every library of matrix products against libtorch's own. What this machine has not is counted as ignored.

use drcorl_kernels::gemm::{Kernel, Precision};
use drcorl_nn::matmul::{After, Library};
use drcorl_nn::threads::Pool;
use libtest_mimic::{Arguments, Failed, Trial};
use tch::{Device, Kind, Tensor};

fn main() {
    let libraries = [
        ("amx", Library::Own(Kernel::Amx(Precision::Highest))),
        ("amx, high", Library::Own(Kernel::Amx(Precision::High))),
        ("amx, medium", Library::Own(Kernel::Amx(Precision::Medium))),
        ("avx512bf16", Library::Own(Kernel::Bf16)),
        ("avx512", Library::Own(Kernel::Avx512)),
        ("avx2", Library::Own(Kernel::Avx2)),
        ("onednn", Library::OneDnn),
        ("libtorch", Library::Default),
    ];
    let trials = libraries.map(|(name, library)| trial(name, library)).into();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn trial(name: &'static str, library: Library) -> Trial {
    let test = move || {
        if !library.available() {
            return Err(Failed::from(format!("this machine has no {name}")));
        }
        gives_the_same_products(library);
        gives_the_same_bits_on_several_threads(library);
        Ok(())
    };
    Trial::test("the same products", test).with_kind(name).with_ignored_flag(!library.available())
}

/// On strided views, as columns of a batch are, with everything that can come after.
fn gives_the_same_products(library: Library) {
    let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    let (input, weight, grad) = (random([33, 2 * 70]).narrow(1, 70, 70), random([90, 70]), random([33, 90]));
    let (bias, active) = (random([1, 90]).view([90]), random([33, 70]).relu());
    let forward = input.mm(&weight.tr()) + &bias;
    let backward = grad.mm(&weight);
    let parameters = grad.tr().mm(&input);
    // Of the terms' absolute values, 90 at most, each 0.64 in the mean: what three products of bf16 leave out, 3 times
    // 2^-16, or one, 2^-7.
    let left_out = match library {
        Library::Own(Kernel::Amx(Precision::High)) => 3.0 / 65536.0,
        Library::Own(Kernel::Amx(Precision::Medium) | Kernel::Bf16) => 1.0 / 128.0,
        _ => 0.0,
    };
    let tolerance = 5e-5 + 90.0 * left_out;
    let check = |expected: &Tensor, run: &dyn Fn(&Tensor)| {
        let out = expected.full_like(0.5);
        run(&out);
        let distance = (&out - expected).abs().max().double_value(&[]);
        assert!(distance < tolerance, "{distance}");
    };
    check(&forward.relu(), &|out| library.forward(out, &input, &weight, After::BiasRelu(&bias)));
    check(&(&forward - &bias), &|out| library.forward(out, &input, &weight, After::Nothing));
    check(&backward, &|out| library.input_gradient(out, &grad, &weight, After::Nothing));
    let through = &backward * active.sign();
    check(&through, &|out| library.input_gradient(out, &grad, &weight, After::Relu(&active)));
    check(&parameters, &|out| library.weight_gradient(out, &grad, &input, After::Nothing));
    check(&(&parameters + 0.5), &|out| library.weight_gradient(out, &grad, &input, After::Add));
    let none = |tensor: &Tensor| tensor.narrow(0, 0, 0);
    check(&parameters.zeros_like(), &|out| library.weight_gradient(out, &none(&grad), &none(&input), After::Nothing));
    // Where no row has a gradient.
    library.input_gradient(&none(&backward), &none(&grad), &weight, After::Relu(&none(&active)));
    let broken = input.full_like(f64::NAN);
    let out = forward.zeros_like();
    library.forward(&out, &broken, &weight, After::BiasRelu(&bias));
    assert!(out.isnan().all().double_value(&[]) == 1.0, "NaN is hidden");
}

/// Products that are made in parts, of rows or of columns, with everything that can come after.
fn gives_the_same_bits_on_several_threads(library: Library) {
    let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu));
    for (rows, width, out) in [(900, 130, 260), (140, 300, 700), (520, 520, 520)] {
        let (input, weight, grad) = (random([rows, 2 * width]), random([out, width]), random([rows, out]));
        let input = input.narrow(1, width, width);
        let (bias, active) = (random([1, out]).view([out]), random([rows, width]).relu());
        let products = |threads: usize| {
            let pool = Pool::new(threads);
            let _at_work = pool.enter();
            let made = |size: [i64; 2], run: &dyn Fn(&Tensor)| {
                let out = Tensor::full(size, 0.5, (Kind::Float, Device::Cpu));
                run(&out);
                out
            };
            let over = active.copy();
            if library.overwrites(out) {
                library.input_gradient(&over, &grad, &weight, After::Relu(&over));
            }
            [
                made([rows, out], &|to| library.forward(to, &input, &weight, After::BiasRelu(&bias))),
                made([rows, out], &|to| library.forward(to, &input, &weight, After::Nothing)),
                made([rows, width], &|to| library.input_gradient(to, &grad, &weight, After::Relu(&active))),
                made([out, width], &|to| library.weight_gradient(to, &grad, &input, After::Nothing)),
                made([out, width], &|to| library.weight_gradient(to, &grad, &input, After::Add)),
                over,
            ]
        };
        let one = products(1);
        for threads in [2, 3, 8] {
            assert_eq!(products(threads), one, "{rows} rows, {width} by {out}, {threads} threads");
        }
    }
}
