//! What the passes of an ensemble keep for one another.

use super::{Ensemble, Hidden};
use crate::ops;
use drcorl_kernels::gemm::Gates;
use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// Rows of a forward pass that go through all layers before the next: their activations stay in the nearest caches.
pub(super) const BLOCK: i64 = 512;

/// Begin and number of rows of the blocks of a forward pass.
pub(super) fn blocks(rows: i64, device: Device) -> impl Iterator<Item = (i64, i64)> {
    let block = if device == Device::Cpu { BLOCK } else { rows.max(1) };
    (0..rows).step_by(block as usize).map(move |start| (start, block.min(rows - start)))
}

/// Rows of a block; of all there are, no view is made: it takes libtorch a microsecond, many times a step.
pub(super) fn rows_of(tensor: &Tensor, start: i64, count: i64) -> Tensor {
    if count == tensor.size()[0] {
        return tensor.shallow_clone();
    }
    tensor.narrow(0, start, count)
}

/// How the passes of a batch size go.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Plan {
    /// The last two layers are made as one, see [`crate::scalar_head`]: the gates of the last hidden layer are kept,
    /// not its activations.
    pub gated: bool,
    /// The first layer, narrow and so soon made, is made again for the backward pass, of the rows that have a gradient:
    /// to keep it would push what is needed sooner out of the cache.
    pub remade: bool,
}

/// What the forward pass keeps for the backward pass. Buffers are reused while the batch size stays.
#[derive(Default)]
pub struct Cache {
    batch: i64,
    pub(super) plan: Plan,
    /// Of every member a backward pass is to come for.
    pub(super) kept: Vec<Kept>,
    pub(super) rooms: Rooms,
    pub(super) output: Option<Tensor>,
}

/// Of one member.
pub(super) struct Kept {
    /// Activations `[B,width]` of the hidden layers, less those the plan leaves out.
    pub hidden: Vec<Tensor>,
    /// Derivatives there, where they do not follow from the activations.
    pub slopes: Vec<Tensor>,
    pub gates: Option<Gates>,
}

/// Room for whoever is at work on a member; more than one where several threads are.
#[derive(Default)]
pub(super) struct Rooms {
    /// Of every buffer `[B,width]`.
    sizes: Vec<[i64; 2]>,
    free: Free<Room>,
}

/// Where what has been used waits for the next who needs it. Which one they find tells in no bit.
pub(super) struct Free<T>(Mutex<Vec<T>>);

impl<T> Default for Free<T> {
    fn default() -> Self {
        Free(Mutex::default())
    }
}

impl<T> Free<T> {
    /// With these waiting.
    pub fn of(waiting: Vec<T>) -> Self {
        Free(Mutex::new(waiting))
    }

    /// Lends one, or else a new one.
    pub fn lend<R>(&self, new: impl FnOnce() -> T, work: impl FnOnce(&mut T) -> R) -> R {
        let waiting = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting().pop();
        let mut one = found.unwrap_or_else(new);
        let done = work(&mut one);
        waiting().push(one);
        done
    }

    /// All that wait.
    pub fn into_inner(self) -> Vec<T> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Room {
    /// Room `[B,width]` a hidden layer for the member at hand: its gradients, or activations nobody asks for again.
    pub hidden: Vec<Tensor>,
    /// Room as large for activations that were not kept, or not as the backward pass wants them;
    /// where it was ever needed.
    own: Vec<Tensor>,
}

impl Rooms {
    /// Lends buffers on `device`.
    pub fn lend<R>(&self, device: Device, work: impl FnOnce(&mut Room) -> R) -> R {
        let buffer = |&size: &[i64; 2]| Tensor::empty(size, (Kind::Float, device));
        let new = || Room { hidden: self.sizes.iter().map(buffer).collect(), own: Vec::new() };
        self.free.lend(new, work)
    }
}

/// What a backward pass goes by, in the rows with a gradient.
pub(super) struct Activations<'a> {
    /// `[N,width]` a hidden layer; where there are gates, of all but the last one.
    pub hidden: Vec<Tensor>,
    /// See [`Kept`].
    pub slopes: &'a [Tensor],
    pub gates: Option<Cow<'a, Gates>>,
    /// True if they were made for this pass alone.
    pub own: bool,
}

impl Cache {
    /// Outputs of the last pass, `[B,E*out]`.
    pub fn output(&self) -> Option<&Tensor> {
        self.output.as_ref()
    }

    /// Buffers for `batch` rows, and for what is kept of `kept` members.
    pub(super) fn prepare(&mut self, net: &Ensemble, batch: i64, plan: Plan, kept: i64, device: Device) {
        if (self.batch, self.plan) != (batch, plan) || self.output.is_none() {
            let output = Some(Tensor::empty([batch, net.members() * net.outputs()], (Kind::Float, device)));
            let sizes = net.stored_widths(plan).iter().map(|&width| [batch, width]).collect();
            *self = Cache { batch, plan, rooms: Rooms { sizes, ..Rooms::default() }, output, ..Cache::default() };
        }
        while (self.kept.len() as i64) < kept {
            self.kept.push(Kept::new(net, batch, plan, device));
        }
    }
}

impl Kept {
    pub fn new(net: &Ensemble, batch: i64, plan: Plan, device: Device) -> Kept {
        let widths = net.stored_widths(plan);
        let buffer = |&width: &i64| Tensor::empty([batch, width], (Kind::Float, device));
        let units = *net.hidden_widths().last().unwrap_or(&0);
        Kept {
            hidden: widths[usize::from(plan.remade)..].iter().map(buffer).collect(),
            slopes: if net.hidden == Hidden::Mish { widths.iter().map(buffer).collect() } else { Vec::new() },
            gates: plan.gated.then(|| Gates::shut(batch as usize, units as usize)),
        }
    }

    /// The activations in some rows, or in all; `remake` fills those of the first layer. What was not kept so goes to
    /// `room`.
    pub fn activations(
        &self,
        plan: Plan,
        room: &mut Room,
        rows: Option<&Rows>,
        remake: impl FnOnce(&Tensor),
    ) -> Activations<'_> {
        if room.own.is_empty() && (plan.remade || rows.is_some()) {
            room.own = room.hidden.iter().map(Tensor::empty_like).collect();
        }
        let own = |layer: usize| match rows {
            Some(rows) => room.own[layer].narrow(0, 0, rows.len()),
            None => room.own[layer].shallow_clone(),
        };
        let first = usize::from(plan.remade);
        let remade = plan.remade.then(|| own(0));
        if let Some(out) = &remade {
            remake(out);
        }
        let others = self.hidden.iter().enumerate().map(|(i, all)| match rows {
            None => all.shallow_clone(),
            Some(rows) => {
                let picked = own(first + i);
                ops::pick_rows(all, &rows.list, &picked);
                picked
            }
        });
        let gates = self.gates.as_ref().map(|gates| match rows {
            None => Cow::Borrowed(gates),
            Some(rows) => Cow::Owned(gates.pick(&rows.list)),
        });
        let is_own = rows.is_some() || self.hidden.is_empty();
        Activations { hidden: remade.into_iter().chain(others).collect(), slopes: &self.slopes, gates, own: is_own }
    }
}

/// What the backward pass of a member goes by.
pub(super) struct Pass<'a> {
    /// Activations `[N,width]` a hidden layer; where there are gates, of all but the last one.
    pub hidden: &'a [Tensor],
    /// See [`Kept`].
    pub slopes: &'a [Tensor],
    pub gates: Option<&'a Gates>,
    /// Where the gradients at their pre-activations go; see [`Ensemble::places_of_gradients`].
    pub grads: &'a [Tensor],
}

/// Some rows of a batch.
pub(super) struct Rows {
    pub list: Vec<i64>,
    /// The same, `[N]`.
    pub index: Tensor,
}

impl Rows {
    /// Those of `grad [B,out]` that are not all 0, where they are few enough to be worth picking out: where the loss
    /// sees the lowest of several members, a member has a gradient in some rows only.
    pub(super) fn live(grad: &Tensor) -> Option<Rows> {
        if grad.device() != Device::Cpu {
            return None;
        }
        let list = ops::rows_not_zero(grad);
        let few = 8 * list.len() as i64 <= 7 * grad.size()[0];
        few.then(|| Rows { index: Tensor::from_slice(&list), list })
    }

    fn len(&self) -> i64 {
        self.list.len() as i64
    }
}
