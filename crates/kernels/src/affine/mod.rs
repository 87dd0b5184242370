//! The affine layer for rows, one or many: what policies at play spend their time in.
//!
//! Every output of every row is one chain `bias + x[0] w[0] + x[1] w[1] + ..` in this order, whatever the block of rows
//! or outputs it is computed in; a row by itself leaves out the terms whose input is zero, which changes no sum. So a
//! row's result has the same bits alone and in a batch, and the same bits with AVX2 and AVX-512 (both fuse multiply and
//! add; the portable code on x86-64 does not).

mod active;
mod layer;
mod register;

pub use layer::Layer;

use crate::instruction_set::Level;
use crate::sums::LANES;
use crate::InstructionSet;
use active::{Active, MOST_INPUTS};
use layer::Lanes;
use register::{Baseline, Register, BASELINE};

/// The formula, of one row.
pub mod plain {
    /// `out[i] = bias[i] + <weight[i], x>`, or the larger of that and 0, for `weight [outputs, inputs]`, row after row.
    pub fn affine(weight: &[f32], bias: &[f32], relu: bool, x: &[f32]) -> Vec<f64> {
        let product = |w: &[f32]| w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>();
        let outputs = weight.chunks_exact(x.len()).zip(bias).map(|(w, &b)| f64::from(b) + product(w));
        outputs.map(|out| if relu { out.max(0.0) } else { out }).collect()
    }
}

/// `count` rows of `stride` floats, of which a layer reads the first `inputs`.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub count: usize,
}

/// `out[r] = bias + weight x[r]` for every row of `x`, and if `relu`, the larger of that and 0. See [`plain::affine`].
///
/// `x` holds rows of `stride >= layer.inputs()` floats, `out` rows of [`Layer::width`].
///
/// # Panics
/// If either holds fewer.
pub fn affine(set: InstructionSet, layer: &Layer, relu: bool, x: Rows<'_>, out: &mut [f32]) {
    let from = Places::dense(x.stride);
    let part = Part { layer, inputs: 0..layer.inputs(), begins: true, relu };
    run(set, &part, x.count, (x.values, from), (out, Places::dense(layer.width())));
}

/// Where rows lie: `run` of them, `stride` floats from each to the next, then as many `jump` floats further on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    pub stride: usize,
    pub run: usize,
    pub jump: usize,
}

impl Places {
    fn dense(stride: usize) -> Places {
        Places { stride, run: usize::MAX, jump: 0 }
    }

    #[inline(always)]
    fn at(&self, row: usize) -> usize {
        // A division takes as long as forty products.
        if row < self.run {
            return row * self.stride;
        }
        row / self.run * self.jump + row % self.run * self.stride
    }
}

/// Inputs of a layer whose terms are added to what there is; the part that `begins` adds them to the bias instead.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    pub layer: &'a Layer,
    pub inputs: std::ops::Range<usize>,
    pub begins: bool,
    pub relu: bool,
}

/// One part of a layer for `count` rows; a row of `x` holds the part's inputs and no others.
/// Parts that follow each other in order give the bits of [`affine`].
///
/// # Panics
/// If rows lie outside of a slice.
pub(crate) fn run(
    set: InstructionSet,
    part: &Part<'_>,
    count: usize,
    (x, from): (&[f32], Places),
    (out, to): (&mut [f32], Places),
) {
    let Some(last) = count.checked_sub(1) else { return };
    let inputs = part.inputs.len();
    assert!(part.inputs.end <= part.layer.inputs(), "inputs of a layer");
    assert!(from.at(last) + inputs <= x.len() && to.at(last) + part.layer.width() <= out.len(), "rows of a layer");
    let task = Task { part, inputs, count, x: x.as_ptr(), from, out: out.as_mut_ptr(), to };
    // SAFETY: rows and places come in order, so that with the last one all lie within their slices.
    match set.0 {
        // SAFETY: every processor of the target has what `Baseline` needs.
        Level::Portable if cfg!(target_arch = "x86_64") => unsafe { task.run::<Baseline, BASELINE, 1, 1, 2>() },
        // SAFETY: as above.
        Level::Portable => unsafe { task.run::<Baseline, BASELINE, 1, 2, 4>() },
        // SAFETY: an instruction set is proof of its features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { run_avx2(&task) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(&task) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2(task: &Task<'_>) {
    // SAFETY: the features are those of the attribute; the caller's promise for the rest.
    unsafe { task.run::<std::arch::x86_64::__m256, 2, 1, 2, 4>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
unsafe fn run_avx512(task: &Task<'_>) {
    // SAFETY: as above.
    unsafe { task.run::<std::arch::x86_64::__m512, 1, 2, 4, 8>() }
}

/// A call. Slices whose bounds were checked by every tile, or by every product, made a batch a third slower.
struct Task<'a> {
    part: &'a Part<'a>,
    inputs: usize,
    count: usize,
    x: *const f32,
    from: Places,
    out: *mut f32,
    to: Places,
}

/// `N` registers `V` hold a panel. Three rows or more are taken over `GB` panels at a time, two over `G2` and one over
/// `G1`: the sums fill the registers of an instruction set, and about 8 chains hide the latency of an addition.
///
/// # Safety
/// Throughout, the processor must have the instructions of `V`, and rows must lie where a task says.
impl Task<'_> {
    #[inline(always)]
    unsafe fn run<V: Register, const N: usize, const GB: usize, const G2: usize, const G1: usize>(&self) {
        let mut active = Active::none();
        match self.count {
            1 if self.active::<V, 1>(&mut active) => self.sparse::<V, N, 1, G1>(&active),
            1 => self.dense::<V, N, G1>(),
            2 if self.active::<V, 2>(&mut active) => self.sparse::<V, N, 2, G2>(&active),
            2 => self.dense::<V, N, G2>(),
            _ => self.dense::<V, N, GB>(),
        }
    }

    /// Lists the inputs that are not zero, where leaving out the others pays: behind a ReLU about half are zero. One row
    /// or two wait for their weights, each read once, so half as many take little more than half the time. More rows
    /// wait for their products; to pick those takes as long as to make them all.
    #[inline(always)]
    unsafe fn active<V: Register, const R: usize>(&self, active: &mut Active) -> bool {
        if self.inputs > MOST_INPUTS {
            return false;
        }
        let row = |r: usize| std::slice::from_raw_parts(self.x.add(self.from.at(r)), self.inputs);
        active.fill::<V, R>(std::array::from_fn(row), self.inputs);
        active.indices().len() <= self.inputs / 4 * 3
    }

    /// All rows over `G` panels at a time, and over what is left of the panels one by one.
    #[inline(always)]
    unsafe fn dense<V: Register, const N: usize, const G: usize>(&self) {
        let mut panel = 0;
        while panel + G <= self.part.layer.panels() {
            self.strip::<V, N, G>(panel);
            panel += G;
        }
        for panel in panel..self.part.layer.panels() {
            self.strip::<V, N, 1>(panel);
        }
    }

    /// Four rows at a time, and at the end five or twice three rather than one or two.
    #[inline(always)]
    unsafe fn strip<V: Register, const N: usize, const G: usize>(&self, panel: usize) {
        let mut row = 0;
        while row < self.count {
            row += match self.count - row {
                1 => self.tile::<V, N, 1, G>(row, panel, 0..self.inputs),
                2 => self.tile::<V, N, 2, G>(row, panel, 0..self.inputs),
                3 | 6 => self.tile::<V, N, 3, G>(row, panel, 0..self.inputs),
                5 => self.tile::<V, N, 5, G>(row, panel, 0..self.inputs),
                // Where a panel is one chain, as that of the few outputs of a last layer.
                8.. if N * G == 1 => self.tile::<V, N, 8, G>(row, panel, 0..self.inputs),
                _ => self.tile::<V, N, 4, G>(row, panel, 0..self.inputs),
            };
        }
    }

    /// All `R` rows over the active inputs only. The chain of every output loses terms that are zero, so its value
    /// stays.
    #[inline(always)]
    unsafe fn sparse<V: Register, const N: usize, const R: usize, const G: usize>(&self, active: &Active) {
        let indices = || active.indices().iter().map(|&i| usize::from(i));
        let mut panel = 0;
        while panel + G <= self.part.layer.panels() {
            self.tile::<V, N, R, G>(0, panel, indices());
            panel += G;
        }
        for panel in panel..self.part.layer.panels() {
            self.tile::<V, N, R, 1>(0, panel, indices());
        }
    }

    /// `R` rows from `row` by `G` panels from `panel`, over `inputs`; returns `R`. The sums stay in registers.
    #[inline(always)]
    unsafe fn tile<V: Register, const N: usize, const R: usize, const G: usize>(
        &self,
        row: usize,
        panel: usize,
        inputs: impl Iterator<Item = usize>,
    ) -> usize {
        // Loops rather than functions that take closures: not all of those are compiled into this one.
        let (mut xs, mut outs) = ([self.x; R], [self.out; R]);
        for r in 0..R {
            xs[r] = self.x.add(self.from.at(row + r));
            outs[r] = self.out.add(self.to.at(row + r) + panel * LANES);
        }
        let mut panels = [std::ptr::null::<Lanes>(); G];
        let mut sums = [[[V::splat(0.0); N]; G]; R];
        for g in 0..G {
            let (bias, weights) = self.part.layer.panel(panel + g);
            panels[g] = weights.as_ptr().add(self.part.inputs.start);
            for r in 0..R {
                let stored = outs[r].add(g * LANES).cast::<[f32; LANES]>();
                sums[r][g] = V::load_row(if self.part.begins { &bias.0 } else { &*stored });
            }
        }
        for i in inputs {
            let mut values = [V::splat(0.0); R];
            for r in 0..R {
                values[r] = V::splat(*xs[r].add(i));
            }
            for g in 0..G {
                let w = V::load_row::<N>(&(*panels[g].add(i)).0);
                for r in 0..R {
                    for n in 0..N {
                        sums[r][g][n] = V::multiply_add(values[r], w[n], sums[r][g][n]);
                    }
                }
            }
        }
        for r in 0..R {
            for g in 0..G {
                if self.part.relu {
                    for sum in &mut sums[r][g] {
                        *sum = V::relu(*sum);
                    }
                }
                V::store_row(sums[r][g], &mut *outs[r].add(g * LANES).cast::<[f32; LANES]>());
            }
        }
        R
    }
}
