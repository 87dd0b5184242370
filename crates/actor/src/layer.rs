//! One affine layer in the order in which the kernels read it.

use crate::error::{Error, Result};

/// Outputs per panel: one AVX-512 register, or one cache line of weights per input.
pub(crate) const LANES: usize = 16;

/// The weights of one input in a panel, in one cache line.
/// Across two lines, as `Vec` would place them, an action takes a third longer.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Lanes(pub [f32; LANES]);

/// `outputs x inputs` weights, transposed and cut into panels of [`LANES`] outputs.
///
/// Panel `p` holds the bias and then, input by input, the weights of the outputs `p * LANES ..`; missing outputs of the
/// last panel are zero. A kernel thus reads every weight once, in order, and vectorises over outputs. The bias also
/// keeps panels from lying a power of two apart, where they would compete for the same cache sets.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// `[panels][1 + inputs][LANES]`.
    panels: Vec<Lanes>,
}

impl Layer {
    /// Packs a row-major `[outputs, inputs]` weight.
    pub fn pack(inputs: usize, weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        debug_assert_eq!(weight.len(), outputs * inputs);
        let panels = outputs.div_ceil(LANES);
        let mut layer = Layer { inputs, outputs, panels: vec![Lanes([0.0; LANES]); panels * (1 + inputs)] };
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let (start, lane) = (output / LANES * (1 + inputs), output % LANES);
            let values = std::iter::once(&bias[output]).chain(row);
            for (lanes, &value) in layer.panels[start..].iter_mut().zip(values) {
                lanes.0[lane] = value;
            }
        }
        layer
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Bias and weights of one panel, the latter `[inputs][LANES]`.
    #[inline(always)]
    pub fn panel(&self, index: usize) -> (&Lanes, &[Lanes]) {
        let start = index * (1 + self.inputs);
        let panel = &self.panels[start..][..1 + self.inputs];
        (&panel[0], &panel[1..])
    }

    /// Floats per row of this layer's result: its outputs, filled up to whole panels.
    pub fn width(&self) -> usize {
        self.panels() * LANES
    }
}

/// Refuses NaN and infinities in the field `name`.
pub(crate) fn check_finite(name: &str, values: &[f32]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => {
            let text = format!("value {index} is {}, not a finite number", values[index]);
            Err(Error::data(name, &text))
        }
    }
}
