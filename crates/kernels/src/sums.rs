//! Sums in an order that vectorises and never changes.

/// Floats of the widest vector register. Sums keep so many partial ones.
pub const LANES: usize = 16;

/// `a * b + c`, fused where that is an instruction and not a call.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA {
        a.mul_add(b, c)
    } else {
        a * b + c
    }
}

/// Adds `term` of the elements of slices of one length in [`LANES`] partial sums.
#[inline(always)]
pub(crate) fn sum_of<const N: usize>(slices: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    // Chunks of a length the compiler knows: an index it had to check would keep it from vectorising.
    let chunks = slices.map(|slice| slice.as_chunks::<LANES>());
    let mut partial = [0f32; LANES];
    for i in 0..chunks[0].0.len() {
        let lines = chunks.map(|(lines, _)| &lines[i]);
        for (lane, sum) in partial.iter_mut().enumerate() {
            *sum += term(lines.map(|line| line[lane]));
        }
    }
    let rest: f32 = (0..chunks[0].1.len()).map(|i| term(chunks.map(|(_, rest)| rest[i]))).sum();
    across(partial, |a, b| a + b) + rest
}

/// All lanes by `join`, as a tree: a chain of sixteen would take as long as the sums before it.
#[inline(always)]
pub(crate) fn across(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}
