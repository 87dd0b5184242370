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
    let part = Part {
        first: 0,
        width: layer.inputs(),
        count: x.count,
        from: (0, Places::dense(x.stride)),
        to: (0, Places::dense(layer.width())),
    };
    let task = part.task(layer, true, relu, x.values, out);
    match set.0 {
        // SAFETY: every processor of the target has what `Baseline` needs; rows lie within their slices.
        Level::Portable if cfg!(target_arch = "x86_64") => unsafe { task.run::<Baseline, BASELINE, 1, 1, 2, 2>() },
        // SAFETY: as above.
        Level::Portable => unsafe { task.run::<Baseline, BASELINE, 1, 2, 4, 4>() },
        // SAFETY: an instruction set is proof of its features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { run_avx2(&task) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(&task) },
    }
}

/// Where rows lie: `run` of them, `stride` floats from each to the next, then as many `jump` floats further on.
#[derive(Debug, Clone, Copy, Default)]
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

/// Rows for which some of a layer's inputs are added up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    /// Number of the first input; a row holds `width` from there on.
    pub first: usize,
    pub width: usize,
    pub count: usize,
    /// Where the first row begins, in the values that are read and in those that are written.
    pub from: (usize, Places),
    pub to: (usize, Places),
}

impl Part {
    /// As raw rows, of which all lie within the slices.
    ///
    /// # Panics
    /// If they do not.
    fn task<'a>(&self, layer: &'a Layer, begins: bool, relu: bool, x: &[f32], out: &mut [f32]) -> Task<'a> {
        let Part { first, width, count, from, to } = *self;
        if let Some(last) = count.checked_sub(1) {
            assert!(first + width <= layer.inputs(), "inputs of a layer");
            // Places ascend.
            assert!(from.0 + from.1.at(last) + width <= x.len(), "rows of a layer");
            assert!(to.0 + to.1.at(last) + layer.width() <= out.len(), "rows of a layer");
        }
        let (x, out) = (x.as_ptr().wrapping_add(from.0), out.as_mut_ptr().wrapping_add(to.0));
        Task { layer, first, inputs: width, begins, relu, count, x, from: from.1, out, to: to.1 }
    }
}

/// Floats of the panels that parts of a layer are taken over at a time, at most.
pub(crate) const PARTS_WIDTH: usize = 4 * LANES;

/// `out = bias + weight x`, for rows of which each reads some parts of the inputs, as if the others were zeros: of as
/// many parts as there are, in the order of the inputs. `out` is the rows at `all`, so many of them.
///
/// # Panics
/// If rows lie outside of a slice, there are more than 8 parts, or the layer's width is no multiple of [`PARTS_WIDTH`].
pub(crate) fn affine_parts(
    set: InstructionSet,
    layer: &Layer,
    parts: &[Part],
    x: &[f32],
    (out, all, count): (&mut [f32], (usize, Places), usize),
) {
    assert!(layer.width().is_multiple_of(PARTS_WIDTH), "width of a layer in parts");
    for row in 0..count {
        let (lines, _) = out[all.0 + all.1.at(row)..][..layer.width()].as_chunks_mut::<LANES>();
        lines.iter_mut().enumerate().for_each(|(panel, line)| *line = layer.panel(panel).0 .0);
    }
    let mut tasks = [Part::default().task(layer, false, false, x, out); 8];
    for (task, part) in tasks[..parts.len()].iter_mut().zip(parts) {
        *task = part.task(layer, false, false, x, out);
    }
    let tasks = &tasks[..parts.len()];
    match set.0 {
        // SAFETY: every processor of the target has what `Baseline` needs; rows lie within their slices.
        Level::Portable => unsafe { by_parts::<Baseline, BASELINE, 1, 2>(tasks) },
        // SAFETY: an instruction set is proof of its features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { by_parts_avx2(tasks) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { by_parts_avx512(tasks) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn by_parts_avx2(tasks: &[Task<'_>]) {
    // SAFETY: the features are those of the attribute; the caller's promise for the rest.
    unsafe { by_parts::<std::arch::x86_64::__m256, 2, 2, 3>(tasks) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
unsafe fn by_parts_avx512(tasks: &[Task<'_>]) {
    // SAFETY: as above.
    unsafe { by_parts::<std::arch::x86_64::__m512, 1, 4, 4>(tasks) }
}

/// All parts over `G` panels at a time, so that weights are read in the order in which they lie; `M` rows at most.
///
/// # Safety
/// As for [`Task`].
#[inline(always)]
unsafe fn by_parts<V: Register, const N: usize, const G: usize, const M: usize>(tasks: &[Task<'_>]) {
    let panels = tasks.first().map_or(0, |task| task.layer.panels());
    for panel in (0..panels).step_by(G) {
        for task in tasks {
            match task.count {
                0 => {}
                1 => _ = task.tile::<V, N, 1, G>(0, panel, 0..task.inputs),
                _ => task.strip::<V, N, G, M>(panel),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2(task: &Task<'_>) {
    // SAFETY: the features are those of the attribute; the caller's promise for the rest.
    unsafe { task.run::<std::arch::x86_64::__m256, 2, 1, 2, 4, 4>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
unsafe fn run_avx512(task: &Task<'_>) {
    // SAFETY: as above.
    unsafe { task.run::<std::arch::x86_64::__m512, 1, 2, 4, 8, 4>() }
}

/// A call. Slices whose bounds were checked by every tile, or by every product, made a batch a third slower.
#[derive(Clone, Copy)]
struct Task<'a> {
    layer: &'a Layer,
    /// Number of the first input, and how many there are.
    first: usize,
    inputs: usize,
    /// True if sums begin with the bias, not with what there is.
    begins: bool,
    relu: bool,
    count: usize,
    x: *const f32,
    from: Places,
    out: *mut f32,
    to: Places,
}

/// `N` registers `V` hold a panel. Rows, `M` at most, are taken over `GB` panels at a time, two alone over `G2` and one
/// over `G1`: the sums fill the registers of an instruction set, and about 8 chains hide the latency of an addition.
///
/// # Safety
/// Throughout, the processor must have the instructions of `V`, and rows must lie where a task says.
impl Task<'_> {
    #[inline(always)]
    unsafe fn run<V: Register, const N: usize, const GB: usize, const G2: usize, const G1: usize, const M: usize>(
        &self,
    ) {
        let mut active = Active::none();
        match self.count {
            0 => {}
            1 if self.active::<V, 1>(&mut active) => self.sparse::<V, N, 1, G1>(&active),
            1 => self.dense::<V, N, G1, 1>(),
            2 if M > 2 && self.active::<V, 2>(&mut active) => self.sparse::<V, N, 2, G2>(&active),
            _ => self.dense::<V, N, GB, M>(),
        }
    }

    /// Lists the inputs that are not zero, where leaving out the others pays: behind a ReLU about half are zero. One
    /// row or two wait for their weights, each read once, so half as many take little more than half the time. More
    /// rows wait for their products; to pick those takes as long as to make them all.
    #[inline(always)]
    unsafe fn active<V: Register, const R: usize>(&self, active: &mut Active) -> bool {
        if self.inputs > MOST_INPUTS {
            return false;
        }
        let row = |r: usize| std::slice::from_raw_parts(self.x.add(self.from.at(r)), self.inputs);
        active.fill::<V, R>(std::array::from_fn(row), self.inputs);
        active.indices().len() <= self.inputs / 4 * 3
    }

    /// All rows over `G` panels at a time, and over what is left of the panels one by one; `M` rows at most.
    #[inline(always)]
    unsafe fn dense<V: Register, const N: usize, const G: usize, const M: usize>(&self) {
        let mut panel = 0;
        while panel + G <= self.layer.panels() {
            self.strip::<V, N, G, M>(panel);
            panel += G;
        }
        for panel in panel..self.layer.panels() {
            self.strip::<V, N, 1, M>(panel);
        }
    }

    /// `M` rows at a time, and at the end twice three or three and two rather than one; there are two or more if `M` is
    /// above 2.
    #[inline(always)]
    unsafe fn strip<V: Register, const N: usize, const G: usize, const M: usize>(&self, panel: usize) {
        let mut row = 0;
        while row < self.count {
            // Guards of constants: tiles that are not met are not compiled.
            row += match self.count - row {
                1 if M < 3 => self.tile::<V, N, 1, G>(row, panel, 0..self.inputs),
                3 | 5 | 6 if M >= 3 => self.tile::<V, N, 3, G>(row, panel, 0..self.inputs),
                4.. if M == 4 => self.tile::<V, N, 4, G>(row, panel, 0..self.inputs),
                5.. if M == 3 => self.tile::<V, N, 3, G>(row, panel, 0..self.inputs),
                _ if M >= 2 => self.tile::<V, N, 2, G>(row, panel, 0..self.inputs),
                _ => self.tile::<V, N, 1, G>(row, panel, 0..self.inputs),
            };
        }
    }

    /// All `R` rows over the active inputs only. The chain of every output loses terms that are zero, so its value
    /// stays.
    #[inline(always)]
    unsafe fn sparse<V: Register, const N: usize, const R: usize, const G: usize>(&self, active: &Active) {
        let indices = || active.indices().iter().map(|&i| usize::from(i));
        let mut panel = 0;
        while panel + G <= self.layer.panels() {
            self.tile::<V, N, R, G>(0, panel, indices());
            panel += G;
        }
        for panel in panel..self.layer.panels() {
            self.tile::<V, N, R, 1>(0, panel, indices());
        }
    }

    /// `R` rows from `row` by `G` panels from `panel`, over `inputs`; returns `R`. The sums stay in registers.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn tile<V: Register, const N: usize, const R: usize, const G: usize>(
        &self,
        row: usize,
        panel: usize,
        inputs: impl Iterator<Item = usize>,
    ) -> usize {
        // Short loops rather than functions that take closures, of which not all are compiled into this one; and with
        // little in each: link-time optimisation left the sums in memory where it did not unroll one.
        let (mut xs, mut outs) = ([self.x; R], [self.out; R]);
        for r in 0..R {
            xs[r] = self.x.add(self.from.at(row + r));
            outs[r] = self.out.add(self.to.at(row + r) + panel * LANES);
        }
        // Bias and weights of a panel lie behind those of the one before.
        let (bias, stride) = (std::ptr::from_ref(self.layer.panel(panel).0), 1 + self.layer.inputs());
        let weights = bias.add(1 + self.first);
        let mut sums = [[[V::splat(0.0); N]; G]; R];
        if self.begins {
            for g in 0..G {
                let bias = V::load_row::<N>(&(*bias.add(g * stride)).0);
                for sums in &mut sums {
                    sums[g] = bias;
                }
            }
        } else {
            for r in 0..R {
                for g in 0..G {
                    sums[r][g] = V::load_row(&*outs[r].add(g * LANES).cast());
                }
            }
        }
        for i in inputs {
            let mut values = [V::splat(0.0); R];
            for r in 0..R {
                values[r] = V::splat(*xs[r].add(i));
            }
            for g in 0..G {
                let w = V::load_row::<N>(&(*weights.add(g * stride + i)).0);
                for r in 0..R {
                    for n in 0..N {
                        sums[r][g][n] = V::multiply_add(values[r], w[n], sums[r][g][n]);
                    }
                }
            }
        }
        if self.relu {
            for r in 0..R {
                for g in 0..G {
                    for n in 0..N {
                        sums[r][g][n] = V::relu(sums[r][g][n]);
                    }
                }
            }
        }
        for r in 0..R {
            for g in 0..G {
                V::store_row(sums[r][g], &mut *outs[r].add(g * LANES).cast());
            }
        }
        R
    }
}
