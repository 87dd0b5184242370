//! Time of one action, alone and within a batch of 1000: `cargo bench -p drcorl-actor -- [--json]`.
//!
//! The policy is 17 -> 256 -> 256 -> 6 with fixed pseudo-random weights. Each figure is the fastest of 30 rounds.

use std::time::Instant;

use drcorl_actor::{Actor, LayerParts, Parts};

const DIMS: [usize; 4] = [17, 256, 256, 6];
const ROUNDS: usize = 30;

fn main() -> Result<(), drcorl_actor::Error> {
    let json = std::env::args().any(|arg| arg == "--json");
    let actor = Actor::new(parts())?;
    let single = nanoseconds(&actor, 1, 2000)?;
    let batch = nanoseconds(&actor, 1000, 2)?;
    if json {
        println!(
            "{{\"network\": {DIMS:?}, \"kernel\": \"{}\", \"ns_per_action\": {{\"1\": {single:.1}, \"1000\": {batch:.1}}}}}",
            actor.instruction_set()
        );
    } else {
        println!("{DIMS:?}, {}", actor.instruction_set());
        println!("n = 1:    {single:8.1} ns per action");
        println!("n = 1000: {batch:8.1} ns per action");
    }
    Ok(())
}

fn nanoseconds(actor: &Actor, n: usize, repeats: usize) -> Result<f64, drcorl_actor::Error> {
    let mut noise = Noise(1);
    let observations: Vec<f32> = (0..n * actor.obs_dim()).map(|_| noise.next()).collect();
    let mut actions = vec![0.0; n * actor.act_dim()];
    let mut scratch = actor.scratch();
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..repeats {
            actor.act(std::hint::black_box(&observations), &mut actions, &mut scratch)?;
            std::hint::black_box(&actions);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best * 1e9 / (repeats * n) as f64)
}

fn parts() -> Parts {
    let mut noise = Noise(2);
    let layers = DIMS.windows(2).map(|d| LayerParts {
        weight: (0..d[0] * d[1]).map(|_| noise.next() * 0.1).collect(),
        bias: (0..d[1]).map(|_| noise.next() * 0.1).collect(),
    });
    Parts {
        layers: layers.collect(),
        observation_mean: vec![0.1; DIMS[0]],
        observation_std: vec![0.9; DIMS[0]],
        action_low: vec![-1.0; DIMS[3]],
        action_high: vec![1.0; DIMS[3]],
    }
}

/// Uniform numbers in [-1, 1) (xorshift64*).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        bits as f32 / (1u64 << 23) as f32 - 1.0
    }
}
