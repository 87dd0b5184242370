//! Group norms of sequences (Wu and He, arXiv:1803.08494).

use crate::instruction_set::multiversion;

/// The formulas, of one sequence `x [steps, channels]`.
pub mod plain {
    use crate::norms::plain::normalize;

    /// The numbers of group `group` of `groups`, step after step.
    fn of_group<T: Copy>(x: &[T], channels: usize, groups: usize, group: usize) -> Vec<T> {
        let width = channels / groups;
        x.chunks_exact(channels).flat_map(|row| row[group * width..][..width].iter().copied()).collect()
    }

    /// Writes the numbers of a group back.
    fn put(out: &mut [f64], channels: usize, groups: usize, group: usize, values: &[f64]) {
        let width = channels / groups;
        for (row, values) in out.chunks_exact_mut(channels).zip(values.chunks_exact(width)) {
            row[group * width..][..width].copy_from_slice(values);
        }
    }

    /// `out[h,c] = n[h,c] weight[c] + bias[c]`; n is x less the mean of its group, over the root of its variance: over
    /// all steps and the `channels / groups` neighbouring channels of the group.
    pub fn group_norm(x: &[f32], groups: usize, weight: &[f32], bias: &[f32], eps: f64) -> Vec<f64> {
        let channels = weight.len();
        let mut out = vec![0.0; x.len()];
        for group in 0..groups {
            let (normal, ..) = normalize(&of_group(x, channels, groups, group), eps);
            put(&mut out, channels, groups, group, &normal);
        }
        let parameters = weight.iter().zip(bias).cycle();
        out.iter().zip(parameters).map(|(n, (&w, &b))| n * f64::from(w) + f64::from(b)).collect()
    }

    /// The gradient at x: within a group `rstd (g - mean(g) - n mean(g n))` with `g = grad weight`.
    pub fn group_norm_backward(x: &[f32], groups: usize, weight: &[f32], grad: &[f32], eps: f64) -> Vec<f64> {
        let channels = weight.len();
        let scaled: Vec<f64> =
            grad.iter().zip(weight.iter().cycle()).map(|(&g, &w)| f64::from(g) * f64::from(w)).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let mut out = vec![0.0; x.len()];
        for group in 0..groups {
            let (normal, _, rstd) = normalize(&of_group(x, channels, groups, group), eps);
            let g = of_group(&scaled, channels, groups, group);
            let (sum, dot) = (mean(&g), mean(&g.iter().zip(&normal).map(|(g, n)| g * n).collect::<Vec<f64>>()));
            let back: Vec<f64> = g.iter().zip(&normal).map(|(g, n)| rstd * (g - sum - n * dot)).collect();
            put(&mut out, channels, groups, group, &back);
        }
        out
    }
}

/// Makes every number of `sums [channels]` the mean of its group's, each a sum over `steps` steps.
#[inline(always)]
fn spread_means(sums: &mut [f32], groups: usize, steps: usize) {
    let width = sums.len() / groups;
    for group in sums.chunks_exact_mut(width) {
        let mean = group.iter().sum::<f32>() / (width * steps) as f32;
        group.fill(mean);
    }
}

multiversion! {
    /// Group norm of sequences `x [B, steps, channels]` into `out`; `mean`, `rstd [B, channels]` are overwritten, a
    /// group's number for each of its channels. See [`plain::group_norm`].
    pub fn group_norm(
        x: &[f32],
        steps: usize,
        groups: usize,
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        out: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
    ) {
        let channels = weight.len();
        let size = steps * channels;
        let statistics = mean.chunks_exact_mut(channels).zip(rstd.chunks_exact_mut(channels));
        for ((x, out), (mean, rstd)) in x.chunks_exact(size).zip(out.chunks_exact_mut(size)).zip(statistics) {
            mean.fill(0.0);
            for row in x.chunks_exact(channels) {
                mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
            }
            spread_means(mean, groups, steps);
            rstd.fill(0.0);
            for row in x.chunks_exact(channels) {
                for ((sum, &x), &mean) in rstd.iter_mut().zip(row).zip(mean.iter()) {
                    *sum += (x - mean) * (x - mean);
                }
            }
            spread_means(rstd, groups, steps);
            rstd.iter_mut().for_each(|variance| *variance = 1.0 / (*variance + eps).sqrt());
            for (row, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
                let parameters = mean.iter().zip(rstd.iter()).zip(weight.iter().zip(bias));
                for ((y, &x), ((&mean, &rstd), (&w, &b))) in out.iter_mut().zip(row).zip(parameters) {
                    *y = (x - mean) * rstd * w + b;
                }
            }
        }
    }
}

multiversion! {
    /// Backward of [`group_norm`]: `grad [B, steps, channels]` becomes the gradient at `x`; `mean`, `rstd` are the
    /// forward pass's. `scratch` holds `2 channels`. See [`plain::group_norm_backward`].
    pub fn group_norm_backward(
        x: &[f32],
        steps: usize,
        groups: usize,
        weight: &[f32],
        mean: &[f32],
        rstd: &[f32],
        grad: &mut [f32],
        scratch: &mut [f32],
    ) {
        let channels = weight.len();
        let size = steps * channels;
        let (sum, dot) = scratch[..2 * channels].split_at_mut(channels);
        let statistics = mean.chunks_exact(channels).zip(rstd.chunks_exact(channels));
        for ((x, grad), (mean, rstd)) in x.chunks_exact(size).zip(grad.chunks_exact_mut(size)).zip(statistics) {
            sum.fill(0.0);
            dot.fill(0.0);
            for (row, grad) in x.chunks_exact(channels).zip(grad.chunks_exact_mut(channels)) {
                let parameters = mean.iter().zip(rstd).zip(weight);
                let sums = sum.iter_mut().zip(dot.iter_mut());
                for (((g, &x), ((&mean, &rstd), &w)), (sum, dot)) in grad.iter_mut().zip(row).zip(parameters).zip(sums) {
                    *g *= w;
                    *sum += *g;
                    *dot += *g * ((x - mean) * rstd);
                }
            }
            spread_means(sum, groups, steps);
            spread_means(dot, groups, steps);
            for (row, grad) in x.chunks_exact(channels).zip(grad.chunks_exact_mut(channels)) {
                let parameters = mean.iter().zip(rstd).zip(sum.iter().zip(dot.iter()));
                for ((g, &x), ((&mean, &rstd), (&sum, &dot))) in grad.iter_mut().zip(row).zip(parameters) {
                    *g = rstd * (*g - sum - (x - mean) * rstd * dot);
                }
            }
        }
    }
}
