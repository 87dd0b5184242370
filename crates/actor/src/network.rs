//! Stacks of affine layers in the kernels' order, and the two buffers their activations alternate between.

use drcorl_kernels::affine::{affine, Layer, Rows};
use drcorl_kernels::InstructionSet;

use crate::error::{Error, Result};
use crate::file::Fields;

/// Rows taken through all layers together, so that their activations stay in the processor's nearest caches.
pub(crate) const BLOCK: usize = 32;

/// What follows every layer but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    Relu,
    Tanh,
}

/// A feed-forward network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    layers: Vec<Layer>,
    hidden: Hidden,
    set: InstructionSet,
}

impl Network {
    /// Reads `NAME.0.weight`, `NAME.0.bias` and on; the first layer must take `inputs` values, the last give `outputs`.
    pub fn read(
        fields: &Fields,
        name: &str,
        inputs: usize,
        outputs: usize,
        hidden: Hidden,
        set: InstructionSet,
    ) -> Result<Self> {
        let mut layers: Vec<Layer> = Vec::new();
        loop {
            let [weight_name, bias_name] = ["weight", "bias"].map(|part| format!("{name}.{}.{part}", layers.len()));
            if !layers.is_empty() && !fields.has(&weight_name) && !fields.has(&bias_name) {
                break;
            }
            let (weight, bias) = (fields.tensor(&weight_name, 2)?, fields.tensor(&bias_name, 1)?);
            let fan_in = layers.last().map_or(inputs, Layer::outputs);
            if weight.shape != [bias.values.len(), fan_in] || bias.values.is_empty() {
                let text = format!(
                    "has shape {:?}, expected [{}, {fan_in}] from {bias_name} and what comes before",
                    weight.shape,
                    bias.values.len()
                );
                return Err(Error::shape(&weight_name, &text));
            }
            layers.push(Layer::pack(fan_in, &weight.values, &bias.values));
        }
        let network = Network { layers, hidden, set };
        if network.outputs() != outputs {
            let text = format!("has {} outputs, expected {outputs}", network.outputs());
            return Err(Error::shape(&format!("{name}.{}.weight", network.layers.len() - 1), &text));
        }
        Ok(network)
    }

    /// The same hidden layers with another last one: weight `NAME.weight`, bias `NAME.bias`, of as many outputs.
    pub fn branch(&self, fields: &Fields, name: &str) -> Result<Self> {
        let (outputs, last) = (self.outputs(), self.layers.len() - 1);
        let inputs = self.layers[last].inputs();
        let weight_name = format!("{name}.weight");
        let (weight, bias) = (fields.tensor(&weight_name, 2)?, fields.vector(&format!("{name}.bias"), outputs)?);
        if weight.shape != [outputs, inputs] {
            let text = format!("has shape {:?}, expected [{outputs}, {inputs}]", weight.shape);
            return Err(Error::shape(&weight_name, &text));
        }
        let mut layers = self.layers.clone();
        layers[last] = Layer::pack(inputs, &weight.values, bias);
        Ok(Network { layers, ..*self })
    }

    /// Values a row of the input has.
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, Layer::inputs)
    }

    /// Values a row of the result begins with.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, Layer::outputs)
    }

    /// Widest row a buffer must hold.
    fn width(&self) -> usize {
        self.layers.iter().map(|layer| layer.width().max(layer.inputs())).max().unwrap_or(0)
    }

    /// Takes `count` rows of `inputs` values from `buffers.rows()` to the result, which `buffers.rows()` then holds;
    /// returns its stride.
    pub fn run(&self, buffers: &mut Buffers, count: usize) -> usize {
        let mut stride = self.layers[0].inputs();
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let relu = index < last && self.hidden == Hidden::Relu;
            let rows = Rows { values: &buffers.front, stride, count };
            affine(self.set, layer, relu, rows, &mut buffers.back);
            stride = layer.width();
            if index < last && self.hidden == Hidden::Tanh {
                buffers.back[..count * stride].iter_mut().for_each(|value| *value = value.tanh());
            }
            std::mem::swap(&mut buffers.front, &mut buffers.back);
        }
        stride
    }
}

/// Working memory of [`Network::run`].
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    front: Vec<f32>,
    back: Vec<f32>,
}

impl Buffers {
    /// Large enough for `rows` rows of every network given.
    pub fn for_networks<'a>(networks: impl IntoIterator<Item = &'a Network>, rows: usize) -> Self {
        let width = networks.into_iter().map(Network::width).max().unwrap_or(0);
        Buffers { front: vec![0.0; rows * width], back: vec![0.0; rows * width] }
    }

    /// The input of the next run, or the result of the last.
    pub fn rows(&mut self) -> &mut [f32] {
        &mut self.front
    }
}
