//! Extremes and moments of the entries of a column, in one pass.

/// One entry of a row-major column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    pub min: f32,
    pub max: f32,
    pub mean: f64,
    pub std: f64,
    /// All values are whole numbers.
    pub whole: bool,
}

impl Entry {
    pub fn is_constant(&self) -> bool {
        self.min == self.max
    }
}

pub(super) struct Statistics {
    pub entries: Vec<Entry>,
}

impl Statistics {
    /// `values` has rows of `dim` entries, at least one row.
    pub fn of(values: &[f32], dim: usize) -> Self {
        let rows = (values.len() / dim.max(1)).max(1) as f64;
        // Deviations are taken from the first row: large means would cost digits.
        let first: Vec<f32> = values.iter().take(dim).copied().collect();
        let (mut low, mut high) = (first.clone(), first.clone());
        let (mut sum, mut square) = (vec![0_f64; dim], vec![0_f64; dim]);
        let mut whole = vec![true; dim];
        for row in values.chunks_exact(dim.max(1)) {
            for (i, &x) in row.iter().enumerate() {
                low[i] = low[i].min(x);
                high[i] = high[i].max(x);
                let away = f64::from(x) - f64::from(first[i]);
                sum[i] += away;
                square[i] += away * away;
                whole[i] &= x == x.trunc();
            }
        }
        let entry = |i: usize| {
            let mean = sum[i] / rows;
            Entry {
                min: low[i],
                max: high[i],
                mean: f64::from(first[i]) + mean,
                std: (square[i] / rows - mean * mean).max(0.0).sqrt(),
                whole: whole[i],
            }
        };
        Statistics { entries: (0..dim).map(entry).collect() }
    }

    /// Entries for which `wanted` holds.
    pub fn which(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<usize> {
        (0..self.entries.len()).filter(|&i| wanted(&self.entries[i])).collect()
    }
}
