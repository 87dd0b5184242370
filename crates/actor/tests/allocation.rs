//! `Player::act` must not allocate. The count is per thread: the test harness allocates on its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use drcorl_actor::{Actor, PolicyFile, Turn};

#[path = "files/planner.rs"]
mod planner;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and is not the one under test.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        System.dealloc(pointer, layout)
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        System.realloc(pointer, layout, size)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn frame(file: &mut PolicyFile) {
    file.insert("observation.mean", &[17], vec![0.0; 17]);
    file.insert("observation.std", &[17], vec![1.0; 17]);
    file.insert("action.low", &[6], vec![-1.0; 6]);
    file.insert("action.high", &[6], vec![1.0; 6]);
}

fn network(file: &mut PolicyFile, name: &str, widths: &[usize]) {
    for (index, pair) in widths.windows(2).enumerate() {
        file.insert_layer(name, index, vec![0.01; pair[0] * pair[1]], vec![0.1; pair[1]]);
    }
}

fn mlp() -> PolicyFile {
    let mut file = PolicyFile::new("mlp");
    file.set("hidden_activation", "relu");
    file.set("output_activation", "tanh");
    frame(&mut file);
    network(&mut file, "actor", &[17, 256, 256, 6]);
    file
}

fn mixture() -> PolicyFile {
    let mut file = PolicyFile::new("mixture");
    for (key, value) in
        [("hidden_activation", "relu"), ("output_activation", "tanh"), ("member_kind", "mlp"), ("seed", "0")]
    {
        file.set(key, value);
    }
    frame(&mut file);
    file.insert("weights", &[2], vec![1.0, 1.0]);
    for member in ["member.0.actor", "member.1.actor"] {
        network(&mut file, member, &[17, 32, 6]);
    }
    file
}

fn latent() -> PolicyFile {
    let mut file = PolicyFile::new("latent");
    let metadata = [
        ("latents", 12.0),
        ("candidates", 10.0),
        ("latent_bound", 0.5),
        ("phi", 0.05),
        ("multiplier", 1.0),
        ("seed", 0.0),
    ];
    metadata.iter().for_each(|(key, value)| file.set(key, value));
    file.set("perturbation_activation", "tanh");
    frame(&mut file);
    network(&mut file, "decoder", &[29, 40, 6]);
    for (name, outputs) in [("perturbation", 6), ("reward_critic.0", 1), ("cost_critic.0", 1)] {
        network(&mut file, name, &[23, 32, outputs]);
    }
    file
}

fn diffusion() -> PolicyFile {
    let mut file = PolicyFile::new("diffusion");
    let metadata = [("blocks", 1.0), ("candidates", 16.0), ("norm_eps", 1e-6), ("noise_temperature", 1.0)];
    metadata.iter().for_each(|(key, value)| file.set(key, value));
    [("seed", "0"), ("threshold", "0"), ("clip_levels", "true"), ("choice", "safest")]
        .iter()
        .for_each(|(key, value)| file.set(key, value));
    frame(&mut file);
    file.insert("level.beta", &[2], vec![0.2, 0.8]);
    file.insert("level.embedding", &[2, 8], vec![0.5; 16]);
    for (name, inputs, outputs) in
        [("input", 31, 20), ("blocks.0.inner", 20, 40), ("blocks.0.outer", 40, 20), ("output", 20, 6)]
    {
        file.insert(&format!("{name}.weight"), &[outputs, inputs], vec![0.01; inputs * outputs]);
        file.insert(&format!("{name}.bias"), &[outputs], vec![0.1; outputs]);
    }
    for part in ["weight", "bias"] {
        file.insert(&format!("blocks.0.norm.{part}"), &[20], vec![0.5; 20]);
    }
    for name in ["reward_critic.0", "feasibility_critic.0"] {
        network(&mut file, name, &[23, 32, 1]);
    }
    file
}

fn switching() -> PolicyFile {
    let mut file = PolicyFile::new("switching");
    let metadata = [("heads", 2.0), ("gamma", 0.9), ("episode_length", 6.0), ("cost_scale", 1.0)];
    metadata.iter().for_each(|(key, value)| file.set(key, value));
    file.set("cost_threshold", "finite_horizon");
    file.set("cost_floor", "none");
    file.set_setting("cost_limit", 20.0);
    frame(&mut file);
    network(&mut file, "actor", &[17, 32, 12]);
    for name in ["reward_critic.0", "cost_critic.0"] {
        network(&mut file, name, &[23, 32, 1]);
    }
    file
}

fn sequence() -> PolicyFile {
    let mut file = PolicyFile::new("sequence");
    let metadata = [("heads", 2.0), ("blocks", 2.0), ("head_layers", 1.0), ("context", 1.0), ("cost_offset", 0.0)];
    metadata.iter().for_each(|(key, value)| file.set(key, value));
    [("cost_sign", 1.0), ("reward_scale", 1.0), ("cost_scale", 1.0)]
        .iter()
        .for_each(|(key, value)| file.set(key, value));
    file.set("cost_feature", "none");
    file.set_setting("target_return", 1.0);
    file.set_setting("cost_limit", 1.0);
    frame(&mut file);
    let layer = |file: &mut PolicyFile, [weight, bias]: [String; 2], outputs: usize, inputs: usize| {
        file.insert(&weight, &[outputs, inputs], vec![0.01; outputs * inputs]);
        file.insert(&bias, &[outputs], vec![0.1; outputs]);
    };
    let names = |name: &str| [format!("{name}.weight"), format!("{name}.bias")];
    file.insert("timestep_emb.weight", &[4, 8], vec![0.1; 32]);
    for (name, inputs) in [("return_emb", 1), ("cost_emb", 1), ("state_emb", 17), ("action_emb", 6)] {
        layer(&mut file, names(name), 8, inputs);
    }
    for name in ["emb_norm", "out_norm", "blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1", "blocks.1.norm2"] {
        names(name).iter().for_each(|name| file.insert(name, &[8], (0..8).map(|i| 0.1 * i as f32).collect()));
    }
    for block in 0..2 {
        let name = |part: &str| format!("blocks.{block}.{part}");
        layer(&mut file, [name("attention.in_proj_weight"), name("attention.in_proj_bias")], 24, 8);
        for (part, outputs, inputs) in [("attention.out_proj", 8, 8), ("mlp.0", 32, 8), ("mlp.2", 8, 32)] {
            layer(&mut file, names(&name(part)), outputs, inputs);
        }
    }
    layer(&mut file, names("head.0"), 6, 8);
    file
}

const PLANNER: planner::Shape =
    planner::Shape { observations: 17, actions: 6, steps: 4, levels: 2, denoiser: &[8, 8], value: &[8] };

#[test]
fn act_does_not_allocate() {
    let observations = vec![0.5; 1000 * 17];
    let mut actions = vec![0.0; 1000 * 6];
    for file in [mlp(), mixture(), latent(), diffusion(), switching(), sequence(), planner::planner(&PLANNER)] {
        let mut player = Actor::new(&file).unwrap().play();
        // The first calls may make room for the rows they meet, and for their windows.
        for _ in 0..3 {
            player.act(Turn::first(&observations), &mut actions).unwrap();
        }
        let before = ALLOCATIONS.get();
        for n in [1, 3, 100, 1000] {
            player.begin(&[0, 1, 999], &[n as u64; 3]);
            let result = player.act(Turn::first(&observations[..n * 17]), &mut actions[..n * 6]);
            assert!(result.is_ok());
        }
        assert_eq!(ALLOCATIONS.get() - before, 0);
        // The counter works.
        drop(vec![0u8; 1]);
        assert_eq!(ALLOCATIONS.get() - before, 1);
    }
}
