//! Time of one decision of a planner of the published size, unguided and guided, on drawn weights.
//! `cargo bench -p drcorl-actor --bench plan`

use std::time::Instant;

use drcorl_actor::{Actor, PolicyFile, Turn};

#[path = "../tests/files/planner.rs"]
mod planner;

const SHAPE: planner::Shape = planner::Shape {
    observations: 17,
    actions: 6,
    steps: 32,
    levels: 20,
    denoiser: &[32, 64, 128, 256],
    value: &[32, 64, 128, 256],
};

fn main() {
    let mut actor = Actor::new(&planner::planner(&SHAPE)).expect("a file of this bench");
    println!("{}, 32 steps, 20 noise levels, widths 32 to 256", actor.instruction_set());
    for (name, candidates, scale, times) in
        [("unguided, one plan", 1.0, 0.0, 30), ("guided, one plan", 1.0, 0.5, 8), ("guided, 64 plans", 64.0, 0.5, 1)]
    {
        for (setting, value) in [("candidates", candidates), ("guide_scale", scale)] {
            actor.set(setting, value).expect("a setting of a planner");
        }
        let mut player = actor.play();
        let (observation, mut action) = ([0.3; 17], [0.0; 6]);
        let mut act = || player.act(Turn::first(&observation), &mut action).expect("finite numbers");
        act();
        let mut best = f64::INFINITY;
        for _ in 0..times {
            let start = Instant::now();
            act();
            best = best.min(start.elapsed().as_secs_f64());
        }
        let rate = actor.work() / best / 1e9;
        println!("{name}: {:.1} ms, {rate:.1} billion products a second", 1e3 * best);
    }
}
