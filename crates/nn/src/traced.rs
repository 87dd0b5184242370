//! Networks at one moment in operations that autograd follows, for the rare gradient that runs through several of them.

use super::{Arena, Ensemble, Hidden};
use tch::Tensor;

/// A copy of an ensemble's weights.
pub struct Traced {
    /// Weight `[E,in,out]` and bias `[E,1,out]` of every layer.
    layers: Vec<(Tensor, Tensor)>,
    hidden: Hidden,
}

impl Traced {
    /// Of the parameters in `arena`.
    pub fn of(net: &Ensemble, arena: &Arena) -> Self {
        let copy = |(weight, bias): (&Tensor, &Tensor)| (weight.transpose(1, 2).contiguous(), bias.unsqueeze(1).copy());
        Traced { layers: net.layers(arena).map(copy).collect(), hidden: net.hidden() }
    }

    /// Number of members E.
    pub fn members(&self) -> i64 {
        self.layers[0].0.size()[0]
    }

    /// Outputs `[E,N,out]` for `input [E,N,in]`, a member's own rows, or `[1,N,in]`, everybody's.
    pub fn run(&self, input: &Tensor) -> Tensor {
        let last = self.layers.len() - 1;
        let input = input.expand([self.members(), -1, -1], false);
        self.layers.iter().enumerate().fold(input, |x, (layer, (weight, bias))| {
            let x = bias.baddbmm(&x, weight, 1.0, 1.0);
            match self.hidden {
                _ if layer == last => x,
                Hidden::Relu => x.relu(),
                Hidden::Tanh => x.tanh(),
                Hidden::Mish => x.mish(),
            }
        })
    }

    /// Outputs of networks of one number each for `input [N,in]`, `[N,E]`.
    pub fn values(&self, input: &Tensor) -> Tensor {
        self.run(&input.unsqueeze(0)).squeeze_dim(2).tr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::{ArenaBuilder, Cache};
    use tch::{Device, Kind};

    #[test]
    fn values_and_input_gradients_are_those_of_the_ensemble() {
        for hidden in [Hidden::Relu, Hidden::Tanh, Hidden::Mish] {
            let mut rng = Rng::new(2, 0);
            let mut builder = ArenaBuilder::default();
            let net = Ensemble::new(&mut builder, "q", 3, &[4, 8, 8, 2], &mut rng).with_hidden(hidden);
            let arena = builder.build(Device::Cpu);
            let input = rng.normal(&[5, 4], Device::Cpu);
            let mut cache = Cache::default();
            let exact = net.forward(&arena, &input, &mut cache).copy();
            let slope = net.input_gradient(&arena, &input, &exact.ones_like(), &mut cache);
            let leaf = input.copy().set_requires_grad(true);
            let found = Traced::of(&net, &arena).run(&leaf.unsqueeze(0));
            found.sum(Kind::Float).backward();
            let rows = found.transpose(0, 1).reshape([5, 6]);
            assert!((rows - exact).abs().max().double_value(&[]) < 1e-5);
            assert!((leaf.grad() - slope).abs().max().double_value(&[]) < 1e-5);

            // Of rows of a member's own, also where few of them count.
            for counting in [5, 1] {
                let own = rng.normal(&[5, 12], Device::Cpu);
                let counts = Tensor::arange(5, (Kind::Float, Device::Cpu)).lt(counting).to_kind(Kind::Float);
                let outputs = net.forward(&arena, &own, &mut cache) * counts.unsqueeze(1);
                let slope = net.own_input_gradient(&arena, &own, &outputs, &mut cache);
                let leaf = own.view([5, 3, 4]).transpose(0, 1).copy().set_requires_grad(true);
                let found = Traced::of(&net, &arena).run(&leaf) * counts.view([1, 5, 1]);
                (found.square() / 2.0).sum(Kind::Float).backward();
                let gradient = leaf.grad().transpose(0, 1).reshape([5, 12]);
                assert!((gradient - slope).abs().max().double_value(&[]) < 1e-5);
            }
        }
    }
}
