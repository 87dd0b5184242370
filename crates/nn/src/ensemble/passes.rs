//! What the passes of an ensemble keep for one another.

use super::{Ensemble, Hidden};
use crate::ops;
use drcorl_kernels::gemm::Gates;
use std::borrow::Cow;
use tch::{Device, Kind, Tensor};

/// Rows of a forward pass that go through all layers before the next: their activations stay in the nearest caches.
pub(super) const BLOCK: i64 = 512;

/// Begin and number of rows of the blocks of a forward pass.
pub(super) fn blocks(rows: i64, device: Device) -> impl Iterator<Item = (i64, i64)> {
    let block = if device == Device::Cpu { BLOCK } else { rows.max(1) };
    (0..rows).step_by(block as usize).map(move |start| (start, block.min(rows - start)))
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
    /// Room `[B,width]` a hidden layer for the member at hand: its gradients, or activations nobody asks for again.
    pub(super) room: Vec<Tensor>,
    /// Room as large for activations that were not kept, or not as the backward pass wants them;
    /// where it was ever needed.
    own: Vec<Tensor>,
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
        let widths = &net.hidden_widths()[..net.hidden_widths().len() - usize::from(plan.gated)];
        let buffer = |&width: &i64| Tensor::empty([batch, width], (Kind::Float, device));
        if (self.batch, self.plan) != (batch, plan) || self.output.is_none() {
            let output = Some(Tensor::empty([batch, net.members() * net.outputs()], (Kind::Float, device)));
            *self = Cache { batch, plan, room: widths.iter().map(buffer).collect(), output, ..Cache::default() };
        }
        while (self.kept.len() as i64) < kept {
            let units = *net.hidden_widths().last().unwrap_or(&0);
            let gates = plan.gated.then(|| Gates::shut(batch as usize, units as usize));
            let hidden = widths[usize::from(plan.remade)..].iter().map(buffer).collect();
            let slopes = if net.hidden == Hidden::Mish { widths.iter().map(buffer).collect() } else { Vec::new() };
            self.kept.push(Kept { hidden, slopes, gates });
        }
    }

    /// Makes room for activations that were not kept, or for those of some rows, if that is what comes.
    pub(super) fn make_own(&mut self, some_rows: bool) {
        if self.own.is_empty() && (self.plan.remade || some_rows) {
            self.own = self.room.iter().map(Tensor::empty_like).collect();
        }
    }

    /// The activations of a member in some rows, or in all; `remake` fills those of the first layer.
    ///
    /// [`Cache::make_own`] came before.
    pub(super) fn activations(
        &self,
        member: i64,
        rows: Option<&Rows>,
        remake: impl FnOnce(&Tensor),
    ) -> Activations<'_> {
        let Cache { batch, plan, kept, own, .. } = self;
        let kept = &kept[member as usize];
        let own = |layer: usize| own[layer].narrow(0, 0, rows.map_or(*batch, Rows::len));
        let first = usize::from(plan.remade);
        let remade = plan.remade.then(|| own(0));
        if let Some(out) = &remade {
            remake(out);
        }
        let others = kept.hidden.iter().enumerate().map(|(i, all)| match rows {
            None => all.shallow_clone(),
            Some(rows) => {
                let picked = own(first + i);
                ops::pick_rows(all, &rows.list, &picked);
                picked
            }
        });
        let gates = kept.gates.as_ref().map(|gates| match rows {
            None => Cow::Borrowed(gates),
            Some(rows) => Cow::Owned(gates.pick(&rows.list)),
        });
        let is_own = rows.is_some() || kept.hidden.is_empty();
        Activations { hidden: remade.into_iter().chain(others).collect(), slopes: &kept.slopes, gates, own: is_own }
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
