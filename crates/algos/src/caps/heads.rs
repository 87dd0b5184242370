//! The policy of CAPS: heads on a trunk they share, and the file that chooses among them.

use super::config::CostFloor;
use crate::frame::{CostThreshold, Task, Values};
use drcorl_actor::PolicyFile;

pub use drcorl_actor::choose;
use drcorl_core::policy::{copy_layers, insert_layers, PlayedFile};
use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::{Adam, AdamConfig};
use drcorl_nn::{Arena, ArenaBuilder, Head};
use tch::{Device, Tensor};

/// A log deviation of every head and action entry, learnt beside the network.
pub struct Deviations {
    arena: Arena,
    adam: Adam,
}

impl Deviations {
    /// Of `heads` times `actions` deviations of 1.
    pub fn new(heads: usize, actions: i64, device: Device) -> Self {
        let mut builder = ArenaBuilder::default();
        builder.add("log_std", &[heads as i64, actions], || 0.0);
        let arena = builder.build(device);
        Deviations { adam: Adam::new(&arena, AdamConfig::default()), arena }
    }

    /// Their logarithms, `[K,A]`.
    pub fn logarithms(&self) -> &Tensor {
        self.arena.named("log_std").expect("built above").0
    }

    /// One Adam step along `gradient [K,A]`.
    pub fn descend(&mut self, gradient: &Tensor, lr: f64) {
        self.arena.named("log_std").expect("built above").1.shallow_clone().copy_(gradient);
        self.adam.step(&mut self.arena, lr);
    }
}

impl crate::frame::Part for Deviations {
    fn keep(&mut self, name: &str, state: &mut State) -> drcorl_nn::Result<()> {
        state.group(name, |state| {
            state.group("arena", |state| self.arena.persist(state))?;
            state.group("adam", |state| self.adam.persist(state))
        })
    }
}

/// The policy file's half of CAPS: how heads are chosen.
pub struct Choice {
    pub heads: usize,
    pub floor: CostFloor,
    pub values: Values,
    pub task: Task,
}

impl Choice {
    /// The policy that switches among the heads of `means` (layers of trunk and heads) by critics of rewards and of
    /// negative costs: the file has critics of costs, their last layer with its sign turned.
    pub fn policy(&self, means: &[(Tensor, Tensor)], reward: &Head, negative_cost: &Head) -> PlayedFile {
        let Choice { heads, floor, values, task } = self;
        let mut file = PolicyFile::new("switching");
        file.set("heads", heads);
        file.set("gamma", values.gamma);
        file.set("episode_length", task.episode_length);
        file.set(
            "cost_threshold",
            match values.cost_threshold {
                CostThreshold::FiniteHorizon => "finite_horizon",
                CostThreshold::InfiniteHorizon => "infinite_horizon",
            },
        );
        file.set("cost_scale", values.cost_scale);
        file.set("cost_floor", floor.name());
        file.set_setting("cost_limit", task.cost_limit);
        // A copy of host numbers fails only where libtorch itself does.
        let mut insert = |name: &str, layers: &[(Tensor, Tensor)]| {
            insert_layers(&mut file, name, layers).expect("float tensors can be copied");
        };
        insert("actor", means);
        for member in 0..reward.members() {
            insert(&format!("reward_critic.{member}"), &copy_layers(reward.net(), reward.online(), member));
        }
        for member in 0..negative_cost.members() {
            let mut layers = copy_layers(negative_cost.net(), negative_cost.online(), member);
            if let Some((weight, bias)) = layers.last_mut() {
                (*weight, *bias) = (-&*weight, -&*bias);
            }
            insert(&format!("cost_critic.{member}"), &layers);
        }
        PlayedFile::new(file, task.observations, task.actions)
    }
}

/// Actions of every head `[B,K,A]` of outputs `[B,K*A]`, and the value `[B,K]` of each by the lowest member of
/// `critics`, which read [action | observation].
pub fn judged(outputs: &Tensor, critics: &mut Head, observation: &Tensor, heads: i64) -> (Tensor, Tensor) {
    let rows = observation.size()[0];
    let actions = outputs.tanh().view([rows, heads, -1]);
    let states = crate::frame::repeat(observation, heads);
    let input = crate::critics::join(&actions.view([rows * heads, -1]), &states);
    let values = crate::critics::bound(&critics.evaluate(&input), crate::critics::Bound::Min);
    (actions, values.view([rows, heads]))
}
