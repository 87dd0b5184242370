//! A flat parameter vector with named views.

use super::ops::Span;
use crate::checkpoint::State;
use crate::error::{Error, Result};
use crate::rng::Rng;
use tch::{Device, Kind, Tensor};

/// The position of one parameter in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

#[derive(Clone)]
struct Entry {
    name: String,
    shape: Vec<i64>,
    offset: i64,
    /// Members of an ensemble along the first dimension; 0 for a parameter of one network.
    members: i64,
}

impl Entry {
    fn len(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// Collects parameters and their initial values before the vector is laid out.
#[derive(Default)]
pub struct ArenaBuilder {
    entries: Vec<Entry>,
    values: Vec<f32>,
}

impl ArenaBuilder {
    /// Adds a parameter; `value` is called once an element.
    pub fn add(&mut self, name: &str, shape: &[i64], value: impl FnMut() -> f32) -> Slot {
        self.add_entry(name, shape, 0, value)
    }

    fn add_entry(&mut self, name: &str, shape: &[i64], members: i64, mut value: impl FnMut() -> f32) -> Slot {
        let offset = self.values.len() as i64;
        let entry = Entry { name: name.to_string(), shape: shape.to_vec(), offset, members };
        self.values.extend((0..entry.len()).map(|_| value()));
        self.entries.push(entry);
        Slot(self.entries.len() - 1)
    }

    /// Adds a weight `[out, in]` and a bias `[out]` with PyTorch's default of a linear layer: U(-1/sqrt(in),
    /// 1/sqrt(in)).
    pub fn add_linear(&mut self, name: &str, fan_out: i64, fan_in: i64, rng: &mut Rng) -> (Slot, Slot) {
        self.add_layer(name, 0, &[fan_out, fan_in], &[fan_out], rng)
    }

    /// As [`ArenaBuilder::add_linear`] for every member of an ensemble: `[E, out, in]` and `[E, out]`.
    pub fn add_linears(&mut self, name: &str, members: i64, fan_out: i64, fan_in: i64, rng: &mut Rng) -> (Slot, Slot) {
        self.add_layer(name, members, &[members, fan_out, fan_in], &[members, fan_out], rng)
    }

    fn add_layer(&mut self, name: &str, members: i64, weight: &[i64], bias: &[i64], rng: &mut Rng) -> (Slot, Slot) {
        let bound = 1.0 / (weight[weight.len() - 1] as f32).sqrt();
        let mut draw = || (2.0 * rng.unit() - 1.0) * bound;
        let weight = self.add_entry(&format!("{name}.weight"), weight, members, &mut draw);
        let bias = self.add_entry(&format!("{name}.bias"), bias, members, &mut draw);
        (weight, bias)
    }

    /// Lays the parameters out on `device`.
    pub fn build(self, device: Device) -> Arena {
        let values = Tensor::from_slice(&self.values).to_device(device);
        Arena::over(self.entries, values)
    }
}

/// One flat parameter vector `[P]`, one gradient vector `[P]`, and a view of both for every named parameter.
pub struct Arena {
    entries: Vec<Entry>,
    values: Tensor,
    gradients: Tensor,
    views: Vec<Views>,
}

/// Of one entry. Views are made once: to make one takes libtorch as long as to multiply small matrices.
struct Views {
    value: Tensor,
    gradient: Tensor,
    /// Value and gradient of every member of an ensemble.
    members: Vec<(Tensor, Tensor)>,
}

/// The parameters of an [`Arena`] in an autograd graph; see [`Arena::leaf`].
pub struct Leaf {
    flat: Tensor,
    parts: Vec<Tensor>,
}

impl Leaf {
    /// The parameter at `slot`.
    pub fn part(&self, slot: Slot) -> &Tensor {
        &self.parts[slot.0]
    }

    /// Adds to the gradients of `arena`, which this leaf is of, those of a loss with `dloss/doutput = gradient`.
    pub fn backward(&self, output: &Tensor, gradient: &Tensor, arena: &Arena) {
        let surrogate = tch::with_grad(|| (output * gradient.detach()).sum(output.kind()));
        let found = Tensor::run_backward(&[&surrogate], &[&self.flat], false, false);
        let _ = arena.gradients().shallow_clone().g_add_(&found[0]);
    }
}

impl Arena {
    fn over(entries: Vec<Entry>, values: Tensor) -> Self {
        let gradients = values.zeros_like();
        let view =
            |flat: &Tensor, entry: &Entry| flat.narrow(0, entry.offset, entry.len()).view(entry.shape.as_slice());
        let views = entries
            .iter()
            .map(|entry| {
                let (value, gradient) = (view(&values, entry), view(&gradients, entry));
                let members = (0..entry.members).map(|i| (value.select(0, i), gradient.select(0, i))).collect();
                Views { value, gradient, members }
            })
            .collect();
        Arena { entries, values, gradients, views }
    }

    /// An independent copy of the values, for target networks and averages.
    pub fn duplicate(&self) -> Arena {
        Arena::over(self.entries.clone(), self.values.copy())
    }

    /// The parameter at `slot`.
    pub fn value(&self, slot: Slot) -> &Tensor {
        &self.views[slot.0].value
    }

    /// The gradient of the parameter at `slot`.
    pub fn gradient(&self, slot: Slot) -> &Tensor {
        &self.views[slot.0].gradient
    }

    /// Value and gradient of one member's part of the parameter at `slot`, which [`ArenaBuilder::add_linears`] gave.
    pub fn member(&self, slot: Slot, member: i64) -> (&Tensor, &Tensor) {
        let (value, gradient) = &self.views[slot.0].members[member as usize];
        (value, gradient)
    }

    /// Where one member's part of the parameter at `slot` lies in [`Arena::values`].
    pub fn member_span(&self, slot: Slot, member: i64) -> Span {
        let entry = &self.entries[slot.0];
        let len = entry.len() / entry.members;
        (entry.offset + member * len, len)
    }

    /// All parameters, `[P]`.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// All gradients, `[P]`, in the order of [`Arena::values`].
    pub fn gradients(&self) -> &Tensor {
        &self.gradients
    }

    /// Number of parameters P.
    pub fn len(&self) -> i64 {
        self.values.size1().unwrap_or(0)
    }

    /// True for an arena without parameters.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The device the vector lives on.
    pub fn device(&self) -> Device {
        self.values.device()
    }

    /// Names in layout order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Where the parameters whose names `suit` lie in [`Arena::values`].
    pub fn spans(&self, suits: impl Fn(&str) -> bool) -> Vec<Span> {
        let suitable = self.entries.iter().filter(|entry| suits(&entry.name));
        suitable.map(|entry| (entry.offset, entry.len())).collect()
    }

    /// The parameter of that name and its gradient.
    pub fn named(&self, name: &str) -> Option<(&Tensor, &Tensor)> {
        let index = self.entries.iter().position(|entry| entry.name == name)?;
        Some((&self.views[index].value, &self.views[index].gradient))
    }

    /// The parameters for a pass whose gradient is autograd's, if `graph` asks for one. They share memory with the
    /// arena's.
    pub fn leaf(&self, graph: bool) -> Leaf {
        let flat = self.values.detach().set_requires_grad(graph);
        let split = || {
            let lengths: Vec<i64> = self.entries.iter().map(Entry::len).collect();
            // One node of the graph for all: a view each would give each a gradient of the whole length.
            let parts = flat.split_with_sizes(&lengths, 0);
            parts.iter().zip(&self.entries).map(|(part, entry)| part.view(entry.shape.as_slice())).collect()
        };
        let parts = if graph { tch::with_grad(split) } else { split() };
        Leaf { flat, parts }
    }

    /// Overwrites all values with those of an arena of the same layout.
    pub fn copy_from(&mut self, other: &Arena) {
        self.values.copy_(&other.values);
    }

    /// Overwrites one parameter by name; used to start from stored numbers.
    pub fn set(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let Some(index) = self.entries.iter().position(|entry| entry.name == name) else {
            return Err(Error::Data(format!("no parameter named {name}")));
        };
        if value.size() != self.entries[index].shape {
            return Err(Error::Shape(format!(
                "{name}: shape {:?}, expected {:?}",
                value.size(),
                self.entries[index].shape
            )));
        }
        self.views[index].value.copy_(&value.to_kind(Kind::Float));
        Ok(())
    }

    /// Saves or restores the values.
    pub fn persist(&mut self, state: &mut State) -> Result<()> {
        state.tensor("values", &mut self.values)
    }
}
