//! What the passes of an ensemble keep for one another.

use super::Ensemble;
use crate::nn::gemm::Gates;
use crate::nn::kernels;
use tch::{Device, Kind, Tensor};

/// Rows of a forward pass that go through all layers before the next: their activations stay in the nearest caches.
pub(super) const BLOCK: i64 = 512;

/// Begin and number of rows of the blocks of a forward pass.
pub(super) fn blocks(rows: i64, device: Device) -> impl Iterator<Item = (i64, i64)> {
    let block = if device == Device::Cpu { BLOCK } else { rows.max(1) };
    (0..rows).step_by(block as usize).map(move |start| (start, block.min(rows - start)))
}

/// What the forward pass keeps for the backward pass. Buffers are reused while the batch size stays.
#[derive(Default)]
pub struct Cache {
    batch: i64,
    /// True if the last two layers are one, see [`crate::nn::scalar_head`].
    pub(super) gated: bool,
    /// Of every member a backward pass is to come for.
    pub(super) kept: Vec<Kept>,
    /// Room `[B,width]` a hidden layer for the member at hand: its gradients, or activations nobody asks for again.
    pub(super) room: Vec<Tensor>,
    /// Room as large for the activations of some rows, where it was ever needed.
    pub(super) picked: Vec<Tensor>,
    pub(super) output: Option<Tensor>,
}

/// Of one member.
pub(super) struct Kept {
    /// Activations `[B,width]` of the hidden layers; where there are gates, of all but the last one.
    pub hidden: Vec<Tensor>,
    pub gates: Option<Gates>,
}

impl Cache {
    /// Outputs of the last pass, `[B,E*out]`.
    pub fn output(&self) -> Option<&Tensor> {
        self.output.as_ref()
    }

    /// Buffers for `batch` rows, and for what is kept of `kept` members.
    pub(super) fn prepare(&mut self, net: &Ensemble, batch: i64, gated: bool, kept: i64, device: Device) {
        let widths = &net.hidden_widths()[..net.hidden_widths().len() - usize::from(gated)];
        let buffers = || widths.iter().map(|&width| Tensor::empty([batch, width], (Kind::Float, device))).collect();
        if (self.batch, self.gated) != (batch, gated) || self.output.is_none() {
            let output = Some(Tensor::empty([batch, net.members() * net.outputs()], (Kind::Float, device)));
            *self = Cache { batch, gated, room: buffers(), output, ..Cache::default() };
        }
        while (self.kept.len() as i64) < kept {
            let units = *net.hidden_widths().last().unwrap_or(&0);
            let gates = gated.then(|| Gates::shut(batch as usize, units as usize));
            self.kept.push(Kept { hidden: buffers(), gates });
        }
    }

    /// Makes room for the activations of some rows.
    pub(super) fn prepare_picked(&mut self) {
        if self.picked.is_empty() {
            self.picked = self.room.iter().map(Tensor::empty_like).collect();
        }
    }
}

/// What a backward pass goes by.
pub(super) struct Pass<'a> {
    /// Activations `[B,width]` a hidden layer.
    pub hidden: &'a [Tensor],
    /// Of the last hidden layer, in the rows with a gradient, where that is all that was kept of it.
    pub gates: Option<&'a Gates>,
    /// Room for the gradients at their pre-activations, of as many rows; may be `hidden`, where [`Ensemble::overwritable`] and all rows are meant.
    pub grads: &'a [Tensor],
    /// The rows that have a gradient, if not all, and room for their activations.
    pub live: Option<(&'a Rows, &'a [Tensor])>,
}

impl Pass<'_> {
    pub(super) fn rows(&self) -> Option<&[i64]> {
        self.live.map(|(rows, _)| &rows.list[..])
    }

    /// The activations of hidden layer `layer` in the rows with a gradient, `[N,width]`.
    pub(super) fn hidden(&self, layer: usize) -> Tensor {
        let all = &self.hidden[layer];
        let Some((rows, room)) = self.live else {
            return all.shallow_clone();
        };
        let picked = room[layer].narrow(0, 0, rows.len());
        kernels::pick_rows(all, &rows.list, &picked);
        picked
    }

    /// Room for the gradients of hidden layer `layer`, `[N,width]`.
    pub(super) fn grad(&self, layer: usize) -> Tensor {
        let all = &self.grads[layer];
        self.live.map_or_else(|| all.shallow_clone(), |(rows, _)| all.narrow(0, 0, rows.len()))
    }
}

/// Some rows of a batch.
pub(super) struct Rows {
    pub list: Vec<i64>,
    /// The same, `[N]`.
    pub index: Tensor,
}

impl Rows {
    /// Those of `grad [B,out]` that are not all 0, where they are few enough to be worth picking out: where the loss sees the lowest of several
    /// members, a member has a gradient in some rows only.
    pub(super) fn live(grad: &Tensor) -> Option<Rows> {
        if grad.device() != Device::Cpu {
            return None;
        }
        let list = kernels::rows_not_zero(grad);
        let few = 8 * list.len() as i64 <= 7 * grad.size()[0];
        few.then(|| Rows { index: Tensor::from_slice(&list), list })
    }

    fn len(&self) -> i64 {
        self.list.len() as i64
    }
}
