//! Passes and steps of every kind of network on several threads: the bits of one.
//!
//! Sizes are those of a run, below which no help is called for.

use drcorl_nn::buffers::Buffers;
use drcorl_nn::optim::{Adam, AdamConfig};
use drcorl_nn::precision::{self, Precision};
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use drcorl_nn::threads::Pool;
use drcorl_nn::{dropout, ArenaBuilder, Head, Hidden, ScoreNet};
use tch::{Device, Kind, Tensor};

/// `work` says the same on any number of threads, at any precision.
fn same_bits(name: &str, work: impl Fn() -> Vec<Tensor>) {
    let of = |threads: usize, precision: Precision| {
        let _precision = precision::hold(precision);
        let pool = Pool::new(threads);
        let (_at_work, _no_grad) = (pool.enter(), tch::no_grad_guard());
        let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor.contiguous().view([-1])).unwrap();
        let bits = |tensor: &Tensor| numbers(tensor).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        work().iter().map(bits).collect::<Vec<_>>()
    };
    for precision in [Precision::Highest, Precision::High, Precision::Medium] {
        let one = of(1, precision);
        for threads in [2, 3, 8] {
            let several = of(threads, precision);
            for (i, (several, one)) in several.iter().zip(&one).enumerate() {
                assert!(several == one, "{name}: result {i} on {threads} threads, {precision:?}");
            }
        }
    }
}

fn scalar(value: f64) -> Tensor {
    Tensor::from_slice(&[value as f32])
}

/// Everything of a head that a step may have changed.
fn state(head: &Head) -> [Tensor; 3] {
    [head.online().values().copy(), head.target().values().copy(), head.online().gradients().copy()]
}

/// Steps of critics, with and without a lagged copy, of rows that differ in number.
#[test]
fn steps_of_ensembles() {
    for (members, rows, widths) in
        [(6, 256, [23, 256, 256, 1]), (4, 700, [23, 128, 96, 1]), (2, 2048, [23, 256, 300, 1])]
    {
        same_bits(&format!("{members} members, {rows} rows"), || {
            let mut rng = Rng::new(1, 0);
            let mut head = Head::new("q", members, &widths, true, Device::Cpu, &mut rng);
            let input = rng.normal(&[rows, 23], Device::Cpu);
            let own = rng.normal(&[rows, members as i64], Device::Cpu);
            let mut all = Vec::new();
            for target in [own.narrow(1, 0, 1), own.shallow_clone()] {
                all.push(scalar(head.regress(&input, &target, 2.0 / rows as f64, 1e-3, 0.005)));
                all.push(head.outputs());
                all.extend(state(&head));
            }
            all.push(head.evaluate_target(&input));
            // A loss in which members meet: the lowest of a row has its gradient.
            let outputs = head.forward(&input).copy();
            let lowest = outputs.eq_tensor(&outputs.amin(1i64, true)).to_kind(Kind::Float);
            head.descend(&input, &(lowest * 0.01), 1e-3);
            all.extend(state(&head));
            let (value, gradient) = head.target_input_gradient(&input, |outputs| (outputs.copy(), outputs * 0.1));
            all.extend([value, gradient]);
            all
        });
    }
}

/// Steps of dynamics models: smooth, several outputs, own rows a member. Evaluations of many rows.
#[test]
fn steps_and_evaluations_of_models() {
    for hidden in [Hidden::Relu, Hidden::Tanh, Hidden::Mish] {
        same_bits(&format!("{hidden:?}"), || {
            let mut rng = Rng::new(2, 0);
            let mut head = Head::with_hidden("m", 5, &[12, 128, 128, 9], hidden, false, Device::Cpu, &mut rng);
            let own = rng.normal(&[300, 60], Device::Cpu);
            let outputs = head.forward(&own).copy();
            head.descend(&own, &(&outputs * 0.01), 1e-3);
            let many = rng.normal(&[5000, 12], Device::Cpu);
            state(&head).into_iter().chain([outputs, head.evaluate(&many), head.evaluate(&own)]).collect()
        });
    }
}

/// One network, whose products are made in parts.
#[test]
fn steps_of_denoisers() {
    for (rows, hidden, rate) in [(2048, 256, 0.1), (700, 130, 0.0)] {
        same_bits(&format!("{rows} rows"), || {
            let mut rng = Rng::new(3, 0);
            let shape = ScoreNetShape { observations: 17, actions: 6, hidden, blocks: 2, expansion: 4 };
            let mut builder = ArenaBuilder::default();
            let net = ScoreNet::new(&mut builder, shape, Device::Cpu, &mut rng);
            let mut arena = builder.build(Device::Cpu);
            let mut adam = Adam::new(&arena, AdamConfig { weight_decay: 1e-2, ..AdamConfig::default() });
            let (x, s) = (rng.normal(&[rows, 6], Device::Cpu), rng.normal(&[rows, 17], Device::Cpu));
            let time = rng.uniform(&[rows], Device::Cpu);
            let drops: Vec<_> = (0..2).map(|_| dropout::draw(rate, &mut rng)).collect();
            let (out, cache) = net.forward(&arena, &x, &s, &time, &drops);
            net.backward(&arena, &(&out * 0.01), &cache);
            adam.step(&mut arena, 1e-3);
            vec![out.copy(), arena.gradients().copy(), arena.values().copy(), net.forward(&arena, &x, &s, &time, &[]).0]
        });
    }
}

#[test]
fn passes_of_transformers() {
    use drcorl_nn::transformer::Pass;
    use drcorl_nn::{Transformer, TransformerShape};
    same_bits("transformer", || {
        let mut rng = Rng::new(4, 0);
        let shape = TransformerShape { embedding: 64, heads: 4, blocks: 2, dropout: 0.1 };
        let mut builder = ArenaBuilder::default();
        let net = Transformer::new(&mut builder, shape, &mut rng);
        let arena = builder.build(Device::Cpu);
        let (wanted, valid) = ((0..20).collect::<Vec<_>>(), vec![17; 300]);
        let pass = Pass { tokens: 20, wanted: &wanted, valid: &valid };
        let input = rng.normal(&[300 * 20, 64], Device::Cpu);
        let buffers = Buffers::default();
        let (out, cache) = net.forward(&arena, input, &pass, Some(&mut rng), &buffers);
        let grad = net.backward(&arena, &out * 0.01, cache, &pass, &buffers);
        vec![out, grad, arena.gradients().copy()]
    });
}
