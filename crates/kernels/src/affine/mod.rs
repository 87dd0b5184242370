//! The affine layer for rows, one or many: what policies at play spend their time in.
//!
//! Every output of every row is one chain `bias + x[0] w[0] + x[1] w[1] + ..` in this order, whatever the block of rows
//! or outputs it is computed in; a row by itself leaves out the terms whose input is zero, which changes no sum. So a
//! row's result has the same bits alone and in a batch, and the same bits with AVX2 and AVX-512 (both fuse multiply and
//! add; the portable code on x86-64 does not).

mod layer;
mod register;

pub use layer::Layer;

use crate::instruction_set::Level;
use crate::sums::LANES;
use crate::InstructionSet;
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
    match set.0 {
        // SAFETY: every processor of the target has what `Baseline` needs.
        Level::Portable if cfg!(target_arch = "x86_64") => unsafe {
            by_registers::<Baseline, BASELINE, 2, 1, 2>(layer, relu, x, out)
        },
        // SAFETY: as above.
        Level::Portable => unsafe { by_registers::<Baseline, BASELINE, 4, 1, 4>(layer, relu, x, out) },
        // SAFETY: an instruction set is proof of its features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { affine_avx2(layer, relu, x, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { affine_avx512(layer, relu, x, out) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn affine_avx2(layer: &Layer, relu: bool, x: Rows<'_>, out: &mut [f32]) {
    // SAFETY: the features are those of the attribute.
    unsafe { by_registers::<std::arch::x86_64::__m256, 2, 4, 1, 4>(layer, relu, x, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
fn affine_avx512(layer: &Layer, relu: bool, x: Rows<'_>, out: &mut [f32]) {
    // SAFETY: as above.
    unsafe { by_registers::<std::arch::x86_64::__m512, 1, 4, 2, 8>(layer, relu, x, out) }
}

/// `R` rows by `GB` panels at a time, then the remaining rows one by one, `GS` panels at a time. The three numbers
/// fill the registers of an instruction set: about 8 chains are needed to hide the latency of an addition. `N`
/// registers `V` hold a panel.
///
/// # Safety
/// Here and below, the processor must have the instructions of `V`.
#[inline(always)]
unsafe fn by_registers<V: Register, const N: usize, const R: usize, const GB: usize, const GS: usize>(
    layer: &Layer,
    relu: bool,
    x: Rows<'_>,
    out: &mut [f32],
) {
    let blocked = x.count - x.count % R;
    let mut panel = 0;
    while blocked > 0 && panel < layer.panels() {
        let wide = panel + GB <= layer.panels();
        for row in (0..blocked).step_by(R) {
            if wide {
                tile::<V, N, R, GB>(layer, relu, x, out, row, panel);
            } else {
                tile::<V, N, R, 1>(layer, relu, x, out, row, panel);
            }
        }
        panel += if wide { GB } else { 1 };
    }
    for row in blocked..x.count {
        let mut indices = [0; MOST_INPUTS];
        let active = active(&x.values[row * x.stride..][..layer.inputs()], &mut indices);
        let mut panel = 0;
        while panel < layer.panels() {
            let wide = panel + GS <= layer.panels();
            match (active, wide) {
                (None, true) => tile::<V, N, 1, GS>(layer, relu, x, out, row, panel),
                (None, false) => tile::<V, N, 1, 1>(layer, relu, x, out, row, panel),
                (Some(active), true) => sparse_tile::<V, N, GS>(layer, relu, (x, active), out, row, panel),
                (Some(active), false) => sparse_tile::<V, N, 1>(layer, relu, (x, active), out, row, panel),
            }
            panel += if wide { GS } else { 1 };
        }
    }
}

/// Inputs of a layer up to which a row's zeros are looked for.
const MOST_INPUTS: usize = 1024;

/// Indices of the inputs that are not zero, where leaving the others out pays: behind a ReLU about half are. One action
/// waits for its weights, each read once, so half as many take little more than half the time.
#[inline(always)]
fn active<'a>(x: &[f32], indices: &'a mut [u16; MOST_INPUTS]) -> Option<&'a [u16]> {
    if x.len() > MOST_INPUTS {
        return None;
    }
    let mut count = 0;
    for (i, &value) in x.iter().enumerate() {
        // Without a branch, which would be mispredicted every other time.
        indices[count] = i as u16;
        count += usize::from(value != 0.0);
    }
    (count <= x.len() / 4 * 3).then(|| &indices[..count])
}

/// `R` rows from `row` by `G` panels from `panel`. The sums stay in registers.
#[inline(always)]
unsafe fn tile<V: Register, const N: usize, const R: usize, const G: usize>(
    layer: &Layer,
    relu: bool,
    x: Rows<'_>,
    out: &mut [f32],
    row: usize,
    panel: usize,
) {
    let inputs = layer.inputs();
    let xs: [&[f32]; R] = std::array::from_fn(|r| &x.values[(row + r) * x.stride..][..inputs]);
    let panels: [_; G] = std::array::from_fn(|g| layer.panel(panel + g));
    let ws: [&[Lanes]; G] = panels.map(|(_, weight)| &weight[..inputs]);
    let mut sums = [panels.map(|(bias, _)| V::load_row::<N>(&bias.0)); R];
    for i in 0..inputs {
        for g in 0..G {
            let w = V::load_row::<N>(&ws[g][i].0);
            for r in 0..R {
                let value = V::splat(xs[r][i]);
                for n in 0..N {
                    sums[r][g][n] = V::multiply_add(value, w[n], sums[r][g][n]);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        store(sums, relu, &mut out[(row + r) * layer.width() + panel * LANES..]);
    }
}

/// As [`tile`] for one row, over its active inputs only.
/// The chain of every output loses terms that are zero, so its value stays.
#[inline(always)]
unsafe fn sparse_tile<V: Register, const N: usize, const G: usize>(
    layer: &Layer,
    relu: bool,
    (x, active): (Rows<'_>, &[u16]),
    out: &mut [f32],
    row: usize,
    panel: usize,
) {
    let inputs = layer.inputs();
    let xs = &x.values[row * x.stride..][..inputs];
    let panels: [_; G] = std::array::from_fn(|g| layer.panel(panel + g));
    let ws: [&[Lanes]; G] = panels.map(|(_, weight)| &weight[..inputs]);
    let mut sums: [[V; N]; G] = panels.map(|(bias, _)| V::load_row(&bias.0));
    for &i in active {
        let i = usize::from(i);
        let value = V::splat(xs[i]);
        for g in 0..G {
            let w = V::load_row::<N>(&ws[g][i].0);
            for n in 0..N {
                sums[g][n] = V::multiply_add(value, w[n], sums[g][n]);
            }
        }
    }
    store(&sums, relu, &mut out[row * layer.width() + panel * LANES..]);
}

/// Writes the sums of neighbouring panels of one row.
#[inline(always)]
unsafe fn store<V: Register, const N: usize, const G: usize>(sums: &[[V; N]; G], relu: bool, out: &mut [f32]) {
    let (out, _) = out[..G * LANES].as_chunks_mut::<LANES>();
    for (g, &sums) in sums.iter().enumerate() {
        V::store_row(if relu { sums.map(|sum| V::relu(sum)) } else { sums }, &mut out[g]);
    }
}
