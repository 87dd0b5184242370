//! Time of one action, alone and within a batch of 1000: `cargo bench -p drcorl-actor -- [--json]`.
//!
//! The policy is 17 -> 256 -> 256 -> 6 with fixed pseudo-random weights. Each figure is the fastest of 30 rounds.

use std::time::Instant;

use drcorl_actor::{Actor, PolicyFile, Turn};

const DIMS: [usize; 4] = [17, 256, 256, 6];
const ROUNDS: usize = 30;

fn main() -> Result<(), drcorl_actor::Error> {
    let json = std::env::args().any(|arg| arg == "--json");
    let actor = Actor::new(&file())?;
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
    let mut player = actor.play();
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..repeats {
            player.act(Turn::first(std::hint::black_box(&observations)), &mut actions)?;
            std::hint::black_box(&actions);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best * 1e9 / (repeats * n) as f64)
}

fn file() -> PolicyFile {
    let mut noise = Noise(2);
    let mut file = PolicyFile::new("mlp");
    file.set("hidden_activation", "relu");
    file.set("output_activation", "tanh");
    for (index, d) in DIMS.windows(2).enumerate() {
        let weight = (0..d[0] * d[1]).map(|_| noise.next() * 0.1).collect();
        file.insert_layer("actor", index, weight, (0..d[1]).map(|_| noise.next() * 0.1).collect());
    }
    for (name, size, value) in [
        ("observation.mean", DIMS[0], 0.1),
        ("observation.std", DIMS[0], 0.9),
        ("action.low", DIMS[3], -1.0),
        ("action.high", DIMS[3], 1.0),
    ] {
        file.insert(name, &[size], vec![value; size]);
    }
    file
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
