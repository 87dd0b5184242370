//! Random draws that depend on nothing but what they are for.

/// A generator without memory: draw `i` is a hash of the key and `i` (SplitMix64's finaliser over a counter).
///
/// The key is made of a policy's seed, the step of the episode and the observation's bits. So a policy that draws gives
/// a row the same action alone and in any batch, and a fresh draw at every step; an evaluation repeats exactly.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    key: u64,
    next: u64,
}

/// SplitMix64's odd constant: 2^64 over the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Draws {
    /// Draws for step `step` of an episode at the normalised `observation`.
    pub fn new(seed: u64, step: u64, observation: &[f32]) -> Draws {
        let start = mix(mix(seed.wrapping_add(GOLDEN)) ^ step);
        // + 0.0 gives both zeros one pattern.
        let key =
            observation.iter().fold(start, |key, &x| mix(key.wrapping_add(GOLDEN) ^ u64::from((x + 0.0).to_bits())));
        Draws { key, next: 0 }
    }

    /// Draws of their own for part number `index` of the same step.
    pub fn branch(self, index: u64) -> Draws {
        Draws { key: mix(self.key ^ mix(index.wrapping_add(1).wrapping_mul(GOLDEN))), next: 0 }
    }

    /// A uniform draw from (0, 1).
    pub fn unit(&mut self) -> f64 {
        self.next += 1;
        let bits = mix(self.key.wrapping_add(self.next.wrapping_mul(GOLDEN))) >> 11;
        (bits as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A standard normal draw (Box-Muller).
    pub fn normal(&mut self) -> f32 {
        let (radius, angle) = (self.unit(), self.unit());
        ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, step: u64, observation: &[f32]) -> f32 {
        Draws::new(seed, step, observation).normal()
    }

    #[test]
    fn every_part_of_the_key_counts_and_zeros_are_one() {
        let base = first(1, 2, &[0.5, 0.0]);
        assert_eq!(base, first(1, 2, &[0.5, -0.0]));
        for other in [first(2, 2, &[0.5, 0.0]), first(1, 3, &[0.5, 0.0]), first(1, 2, &[0.0, 0.5]), first(1, 2, &[0.5])]
        {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn branches_differ_from_each_other_and_from_their_stem() {
        let stem = Draws::new(1, 2, &[0.5]);
        let first = |mut draws: Draws| draws.normal();
        let mut firsts = vec![first(stem)];
        firsts.extend((0..4).map(|index| first(stem.branch(index))));
        for (i, first) in firsts.iter().enumerate() {
            assert!(!firsts[..i].contains(first), "{i}");
        }
    }

    #[test]
    fn draws_are_standard_normal() {
        let mut draws = Draws::new(0, 0, &[]);
        let values: Vec<f64> = (0..100_000).map(|_| f64::from(draws.normal())).collect();
        let moment = |power: i32| values.iter().map(|x| x.powi(power)).sum::<f64>() / values.len() as f64;
        assert!(moment(1).abs() < 0.015 && (moment(2) - 1.0).abs() < 0.02 && moment(3).abs() < 0.05);
        assert!((moment(4) - 3.0).abs() < 0.12);
    }
}
