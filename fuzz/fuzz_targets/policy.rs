//! A policy file is refused, or plays with finite actions.
#![no_main]

use drcorl_actor::{Actor, Turn};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(actor) = Actor::from_bytes(bytes) else { return };
    // Larger ones are slow, and nothing else.
    if actor.work() > 1e7 || actor.obs_dim() > 1000 {
        return;
    }
    let (mut player, observations) = (actor.play(), vec![0.5; 2 * actor.obs_dim()]);
    let mut actions = vec![f32::NAN; 2 * actor.act_dim()];
    for _ in 0..3 {
        if player.act(Turn::first(&observations), &mut actions).is_err() {
            return;
        }
        assert!(actions.iter().all(|action| action.is_finite()));
    }
});
