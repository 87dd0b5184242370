//! One affine layer in the order in which the kernels read it.

use crate::sums::LANES;

/// The weights of one input in a panel, in one cache line.
/// Across two lines, as `Vec` would place them, an action takes a third longer.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lanes(pub [f32; LANES]);

/// `outputs x inputs` weights, transposed and cut into panels of [`LANES`] outputs: one AVX-512 register, or one cache
/// line of weights an input.
///
/// Panel `p` holds the bias and then, input by input, the weights of the outputs `p * LANES ..`; missing outputs of the
/// last panel are zero. A kernel thus reads every weight once, in order, and vectorises over outputs. The bias also
/// keeps panels from lying a power of two apart, where they would compete for the same cache sets.
#[derive(Debug, Clone)]
pub struct Layer {
    inputs: usize,
    outputs: usize,
    /// `[panels][1 + inputs][LANES]`.
    panels: Vec<Lanes>,
}

impl Layer {
    /// Packs a row-major weight `[outputs, inputs]` and a bias `[outputs]`.
    ///
    /// # Panics
    /// If their sizes disagree, or there are no inputs.
    pub fn pack(inputs: usize, weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        assert_eq!(weight.len(), outputs * inputs, "a weight an input and output");
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

    /// Values it takes a row.
    #[inline]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Values it gives a row.
    #[inline]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of panels.
    #[inline]
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Bias and weights of one panel, the latter `[inputs][LANES]`.
    #[inline(always)]
    pub(super) fn panel(&self, index: usize) -> (&Lanes, &[Lanes]) {
        let start = index * (1 + self.inputs);
        let panel = &self.panels[start..][..1 + self.inputs];
        (&panel[0], &panel[1..])
    }

    /// Floats a row of the result takes: its outputs, filled up to whole panels.
    #[inline]
    pub fn width(&self) -> usize {
        self.panels() * LANES
    }
}
