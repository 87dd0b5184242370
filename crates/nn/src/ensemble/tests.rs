//! Ensembles against autograd.

use super::passes::BLOCK;
use super::*;
use tch::Device;

/// The same network by autograd: the reference for values and gradients.
fn reference(net: &Ensemble, arena: &Arena, input: &Tensor) -> (Tensor, Vec<Tensor>) {
    let parameters: Vec<Tensor> = net
        .layers(arena)
        .flat_map(|(w, b)| [w.copy().set_requires_grad(true), b.copy().set_requires_grad(true)])
        .collect();
    let mut outputs = Vec::new();
    for member in 0..net.members {
        let mut x = if input.size()[1] == net.widths[0] {
            input.shallow_clone()
        } else {
            input.narrow(1, member * net.widths[0], net.widths[0])
        };
        for (i, pair) in parameters.chunks(2).enumerate() {
            x = x.linear(&pair[0].select(0, member), Some(&pair[1].select(0, member)));
            if i + 1 < net.layers.len() {
                x = match net.hidden {
                    Hidden::Relu => x.relu(),
                    Hidden::Tanh => x.tanh(),
                    Hidden::Mish => x.mish(),
                };
            }
        }
        outputs.push(x);
    }
    (Tensor::cat(&outputs, 1), parameters)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn check(members: usize, widths: &[i64], per_member: bool) {
    check_with(Hidden::Relu, 9, members, widths, per_member);
    check_with(Hidden::Tanh, 9, members, widths, per_member);
    check_with(Hidden::Mish, 9, members, widths, per_member);
}

/// `batch` is a multiple of 3.
fn check_with(hidden: Hidden, batch: i64, members: usize, widths: &[i64], per_member: bool) {
    let mut rng = Rng::new(1, 0);
    let mut builder = ArenaBuilder::default();
    let net = Ensemble::new(&mut builder, "q", members, widths, &mut rng).with_hidden(hidden);
    let arena = builder.build(Device::Cpu);
    let columns = widths[0] * if per_member { members as i64 } else { 1 };
    // A strided view, as batches are.
    let input = rng.normal(&[batch, columns + 3], Device::Cpu).narrow(1, 2, columns);
    let input = if per_member { input.contiguous() } else { input };
    let mut cache = Cache::default();
    // Of sums over the batch.
    let tolerance = 7e-6 * (batch as f64).sqrt();
    // Of every third row only, as where the loss sees the lowest of three members; of none; of all.
    let third = Tensor::from_slice(&[0f32, 1.0, 0.0]).repeat([batch / 3]).view([batch, 1]);
    for rows in [&third, &third.zeros_like(), &third.ones_like()] {
        let tracked = input.copy().set_requires_grad(true);
        let output = net.forward(&arena, &input, &mut cache).copy();
        let (expected, parameters) = reference(&net, &arena, &tracked);
        assert!(distance(&output, &expected) < 1e-5);
        let grad_out = rng.normal(&output.size(), Device::Cpu) * rows;
        (&expected * &grad_out).sum(Kind::Float).backward();
        net.backward(&arena, &input, &grad_out, &mut cache);
        for (&(weight, bias), pair) in net.layers.iter().zip(parameters.chunks(2)) {
            assert!(distance(arena.gradient(weight), &pair[0].grad()) < tolerance);
            assert!(distance(arena.gradient(bias), &pair[1].grad()) < tolerance);
        }
        if !per_member {
            let gradient = net.input_gradient(&arena, &input, &grad_out, &mut cache);
            assert!(distance(&gradient, &tracked.grad()) < 2e-5);
            let both = net.backward_to_input(&arena, &input, &grad_out, &mut cache);
            assert!(distance(&both, &tracked.grad()) < 2e-5);
        }
    }
}

#[test]
fn evaluation_in_blocks_is_the_forward_pass() {
    let mut rng = Rng::new(3, 0);
    let mut builder = ArenaBuilder::default();
    let net = Ensemble::new(&mut builder, "q", 3, &[5, 16, 16, 2], &mut rng);
    let arena = builder.build(Device::Cpu);
    let input = rng.normal(&[2 * BLOCK + 7, 5], Device::Cpu);
    for hidden in [Hidden::Relu, Hidden::Tanh, Hidden::Mish] {
        let net = net.clone().with_hidden(hidden);
        let (mut cache, mut other) = (Cache::default(), Cache::default());
        let whole = net.forward(&arena, &input, &mut cache);
        assert!(distance(whole, &net.evaluate(&arena, &input, &mut other)) < 1e-6);
    }
}

/// Of sizes for which the matrix unit, where there is one, makes the last two layers as one.
#[test]
fn large_ensembles_equal_autograd() {
    for (batch, widths) in [(258, &[17, 256, 256, 1][..]), (600, &[5, 256, 260, 1]), (132, &[9, 64, 256, 288, 1])] {
        check_with(Hidden::Relu, batch, 2, widths, false);
    }
    check_with(Hidden::Relu, 258, 2, &[6, 256, 256, 1], true);
}

/// A sweep, in which gradients take the place of activations, against the passes one after the other.
#[test]
fn a_sweep_is_a_forward_and_a_backward_pass() {
    for widths in [&[5, 16, 16, 1][..], &[5, 16, 16, 2], &[17, 256, 256, 1], &[17, 256, 300, 1]] {
        let mut rng = Rng::new(4, 0);
        let mut builder = ArenaBuilder::default();
        let hidden = if widths.len() == 4 && widths[3] == 2 { Hidden::Mish } else { Hidden::Relu };
        let net = Ensemble::new(&mut builder, "q", 2, widths, &mut rng).with_hidden(hidden);
        let mut arena = builder.build(Device::Cpu);
        let input = rng.normal(&[200, widths[0]], Device::Cpu);
        let (mut cache, mut other) = (Cache::default(), Cache::default());
        let output = net.forward(&arena, &input, &mut cache).copy();
        net.backward(&arena, &input, &(&output * 0.01), &mut cache);
        let expected = arena.gradients().copy();
        let _ = arena.gradients().shallow_clone().zero_();
        let outputs = net.outputs();
        let gradient = |member, output: &Tensor| (output.narrow(1, member * outputs, outputs) * 0.01, ());
        // SAFETY: nothing is written.
        unsafe { net.sweep(&mut arena, &input, &mut other, gradient, |_, _| {}) };
        assert_eq!(other.output().unwrap(), &output, "{widths:?}");
        assert!(distance(arena.gradients(), &expected) < 1e-6, "{widths:?}");
    }
}

#[test]
fn values_and_gradients_equal_autograd() {
    check(1, &[5, 16, 16, 2], false);
    check(4, &[5, 33, 16, 1], false);
    check(3, &[6, 8, 7, 5], true);
    check(2, &[6, 8, 1], true);
    check(2, &[4, 3], false);
}
