//! One token that attends to those before it, as policies at play need it.

use crate::instruction_set::multiversion;
use crate::math::exp;
use crate::sums::total;

multiversion! {
    /// `out [E] = softmax(q k^T / sqrt(d)) v`, head by head, for `query [E]` and `keys_values [keys][2E]`, keys and
    /// values of every token it sees; `scores` has room for a number a key. See [`plain::attend`].
    ///
    /// [`plain::attend`]: super::plain::attend
    pub fn attend(query: &[f32], keys_values: &[f32], heads: usize, scores: &mut [f32], out: &mut [f32]) {
        let e = query.len();
        let width = e / heads;
        let scale = 1.0 / (width as f32).sqrt();
        for head in 0..heads {
            let from = head * width;
            let q = &query[from..from + width];
            for (score, kv) in scores.iter_mut().zip(keys_values.chunks_exact(2 * e)) {
                let k = &kv[from..from + width];
                *score = scale * total(q.iter().zip(k).map(|(q, k)| q * k));
            }
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|score| *score = exp(*score - most));
            let share = 1.0 / total(scores.iter().copied());
            let out = &mut out[from..from + width];
            out.fill(0.0);
            for (weight, kv) in scores.iter().zip(keys_values.chunks_exact(2 * e)) {
                let v = &kv[e + from..e + from + width];
                out.iter_mut().zip(v).for_each(|(out, v)| *out += weight * share * v);
            }
        }
    }
}
