//! The same networks and updates as one would write them with tch: one module a network, autograd, tch's Adam,
//! a loop for averages.

use drcorl_nn::Arena;
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Tensor};

/// A network of `nn::linear` layers, ReLU between them unless said otherwise.
pub struct Mlp {
    layers: Vec<nn::Linear>,
    tanh: bool,
}

impl Mlp {
    /// Member `member` of the network `name` in `arena`, with its numbers.
    fn copy_of(path: &nn::Path, arena: &Arena, name: &str, member: i64) -> Mlp {
        let layers = (0..)
            .map_while(|i| {
                let weight = arena.named(&format!("{name}.{i}.weight"))?.0.select(0, member);
                let bias = arena.named(&format!("{name}.{i}.bias"))?.0.select(0, member);
                Some(linear(path / member / i, &weight, &bias))
            })
            .collect();
        Mlp { layers, tanh: false }
    }
}

impl Module for Mlp {
    fn forward(&self, input: &Tensor) -> Tensor {
        let (last, inner) = self.layers.split_last().expect("at least one layer");
        let activate = |x: Tensor| if self.tanh { x.tanh() } else { x.relu() };
        last.forward(&inner.iter().fold(input.shallow_clone(), |x, layer| activate(layer.forward(&x))))
    }
}

impl std::fmt::Debug for Mlp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mlp({})", self.layers.len())
    }
}

/// An `nn::linear` that starts from `weight [out,in]` and `bias [out]`.
pub fn linear(path: nn::Path, weight: &Tensor, bias: &Tensor) -> nn::Linear {
    let size = weight.size();
    let mut layer = nn::linear(path, size[1], size[0], nn::LinearConfig::default());
    tch::no_grad(|| {
        layer.ws.copy_(weight);
        if let Some(own) = layer.bs.as_mut() {
            own.copy_(bias);
        }
    });
    layer
}

/// Networks of one kind with an optimiser, and lagged copies.
pub struct Group {
    pub online: Vec<Mlp>,
    pub lagged: Vec<Mlp>,
    pub optimizer: nn::Optimizer,
    online_store: nn::VarStore,
    lagged_store: nn::VarStore,
}

impl Group {
    /// Plain copies of all `members` networks `name` in `online`, and of the lagged ones in `lagged`.
    pub fn copy_of(online: &Arena, lagged: &Arena, name: &str, members: i64, lr: f64, device: Device) -> Group {
        let copy = |arena: &Arena| {
            let store = nn::VarStore::new(device);
            let networks =
                (0..members).map(|member| Mlp::copy_of(&store.root(), arena, name, member)).collect::<Vec<_>>();
            (store, networks)
        };
        let (online_store, online) = copy(online);
        let (mut lagged_store, lagged) = copy(lagged);
        lagged_store.freeze();
        let optimizer = nn::Adam::default().build(&online_store, lr).expect("a variable store with variables");
        Group { online, lagged, optimizer, online_store, lagged_store }
    }

    /// The same with tanh between the layers.
    pub fn with_tanh(mut self) -> Group {
        self.online.iter_mut().chain(&mut self.lagged).for_each(|network| network.tanh = true);
        self
    }

    /// Runs `work` without gradients for these parameters, as one freezes critics in a policy step.
    pub fn frozen<T>(&mut self, work: impl FnOnce(&Group) -> T) -> T {
        self.online_store.freeze();
        let result = work(self);
        self.online_store.unfreeze();
        result
    }

    /// Values of all members `[B,E]`.
    pub fn values(&self, input: &Tensor) -> Tensor {
        values(&self.online, input)
    }

    /// Values of all lagged members `[B,E]`, without a graph.
    pub fn lagged_values(&self, input: &Tensor) -> Tensor {
        tch::no_grad(|| values(&self.lagged, input))
    }

    /// Values of all lagged members `[B,E]`, tracked to the input.
    pub fn tracked_lagged_values(&self, input: &Tensor) -> Tensor {
        values(&self.lagged, input)
    }

    /// Moves every lagged tensor by `rate` towards the live one.
    pub fn follow(&mut self, rate: f64) {
        tch::no_grad(|| {
            for (mut lagged, online) in
                self.lagged_store.trainable_variables().into_iter().zip(self.online_store.trainable_variables())
            {
                let _ = lagged.lerp_(&online, rate);
            }
        });
    }

    /// Gradients of `loss` for every live tensor, in one flat vector.
    pub fn flat_gradient(&self, loss: &Tensor) -> Tensor {
        let gradients = Tensor::run_backward(&[loss], &self.online_store.trainable_variables(), true, false);
        Tensor::cat(&gradients.iter().map(|gradient| gradient.reshape([-1])).collect::<Vec<_>>(), 0)
    }

    /// Puts a flat gradient back where the optimiser looks for it, and makes one step.
    pub fn step_along(&mut self, gradient: &Tensor) {
        let mut offset = 0;
        for variable in self.online_store.trainable_variables() {
            let mut grad = variable.grad();
            let count = variable.numel() as i64;
            let part = gradient.narrow(0, offset, count).view(variable.size().as_slice());
            if grad.defined() {
                grad.copy_(&part);
            } else {
                // The first time there is no gradient tensor yet; a backward pass makes one.
                (&variable * part).sum(tch::Kind::Float).backward();
            }
            offset += count;
        }
        self.optimizer.step();
    }
}

fn values(networks: &[Mlp], input: &Tensor) -> Tensor {
    Tensor::cat(&networks.iter().map(|network| network.forward(input)).collect::<Vec<_>>(), 1)
}
