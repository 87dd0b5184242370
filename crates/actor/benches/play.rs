//! Time of a decision of policy files, one row at a time and 1,000 together:
//! `cargo bench -p drcorl-actor --bench play -- [--rows N] FILE..`, for example of what `drcorl study inference` makes.
//!
//! A figure is the fastest of all rounds that fit into two seconds, in microseconds a decision.
//! A planner plans once and is not led.

use std::path::Path;
use std::time::Instant;

use drcorl_actor::{Actor, Turn};

/// Least seconds of a round.
const ROUND: f64 = 2e-4;
/// Seconds a figure may take, and decisions before the clock starts: more than a window holds.
const SECONDS: f64 = 2.0;
const WARM: u32 = 24;

fn main() -> Result<(), drcorl_actor::Error> {
    let mut files: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let mut batches = vec![1, 1000];
    if files.first().is_some_and(|arg| arg == "--rows") {
        batches = vec![files[1].parse().expect("a number of rows")];
        files.drain(..2);
    }
    for file in files {
        let mut actor = Actor::load(Path::new(&file))?;
        for (setting, value) in [("candidates", 1.0), ("guide_scale", 0.0)] {
            if actor.settings().contains_key(setting) {
                actor.set(setting, value)?;
            }
        }
        let times = batches.iter().map(|&rows| microseconds(&actor, rows)).collect::<Result<Vec<_>, _>>()?;
        println!("{:?} {} {file}", times, actor.instruction_set());
    }
    Ok(())
}

fn microseconds(actor: &Actor, rows: usize) -> Result<f64, drcorl_actor::Error> {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let observations: Vec<f32> = (0..64 * rows * actor.obs_dim()).map(|_| noise()).collect();
    let mut actions = vec![0.0; rows * actor.act_dim()];
    let mut turns = observations.chunks_exact(rows * actor.obs_dim()).cycle();
    let mut player = actor.play();
    let begun = Instant::now();
    let mut act = || player.act(Turn::first(turns.next().expect("a cycle")), &mut actions);
    let mut warm = 0u32;
    while warm < WARM && (warm < 2 || begun.elapsed().as_secs_f64() < SECONDS) {
        act()?;
        warm += 1;
    }
    let once = begun.elapsed().as_secs_f64() / f64::from(warm);
    let mut best = f64::INFINITY;
    let begun = Instant::now();
    // Rounds short enough to fall between other work of the machine, long enough for the clock.
    let calls = if once < ROUND { (ROUND / once) as usize } else { 1 };
    while best.is_infinite() || begun.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        for _ in 0..calls {
            act()?;
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best * 1e6 / (calls * rows) as f64)
}
