//! Thousands of damaged policy files: each is refused with a code, or plays with finite numbers. None panics, and none
//! takes memory beyond what its size explains.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use drcorl_actor::{Actor, PolicyFile, Turn};

#[path = "files/planner.rs"]
mod planner_file;

/// Of each kind of file. Change it, or `SEED`, to try others.
const MUTANTS: usize = 2500;
const SEED: u64 = 0;
/// Beside the file and its working memory, which grows with `candidates` and `context` up to 4096 rows.
const MOST_BYTES: usize = 64 << 20;

struct Counting;

thread_local! {
    /// Bytes this thread holds, and the most it held.
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn count(change: isize) {
    // A thread that is ending has no counter any more, and is not the one under test.
    let _ = HELD.try_with(|held| {
        let now = held.get().0.saturating_add_signed(change);
        held.set((now, held.get().1.max(now)));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        System.dealloc(pointer, layout)
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        System.realloc(pointer, layout, size)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Splitmix64 (Steele et al. 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next() as f32 / u64::MAX as f32 - 0.5).collect()
    }
}

fn frame(file: &mut PolicyFile) {
    for (name, values) in [
        ("observation.mean", vec![0.1; 3]),
        ("observation.std", vec![2.0; 3]),
        ("action.low", vec![-1.0; 2]),
        ("action.high", vec![1.0; 2]),
    ] {
        file.insert(name, &[values.len()], values);
    }
}

fn network(file: &mut PolicyFile, draws: &mut Draws, name: &str, widths: &[usize]) {
    for (index, pair) in widths.windows(2).enumerate() {
        file.insert_layer(name, index, draws.values(pair[0] * pair[1]), draws.values(pair[1]));
    }
}

fn mlp(draws: &mut Draws) -> PolicyFile {
    let mut file = PolicyFile::new("mlp");
    file.set("hidden_activation", "relu");
    file.set("output_activation", "clamp");
    file.set("condition", "cost_limit");
    file.set_setting("cost_limit", 10.0);
    file.insert("condition.scale", &[2], vec![20.0, 8.0]);
    frame(&mut file);
    network(&mut file, draws, "actor", &[4, 8, 2]);
    file
}

fn gaussian(draws: &mut Draws) -> PolicyFile {
    let mut file = PolicyFile::new("gaussian");
    file.set("hidden_activation", "relu");
    file.set("output_activation", "tanh");
    file.set("seed", 3);
    file.set_setting("sample", 1.0);
    frame(&mut file);
    network(&mut file, draws, "actor", &[3, 8, 2]);
    file.insert("deviation.weight", &[2, 8], vec![0.1; 16]);
    file.insert("deviation.bias", &[2], vec![-1.0; 2]);
    file.insert("deviation.range", &[2], vec![-5.0, 2.0]);
    file
}

fn mixture(draws: &mut Draws) -> PolicyFile {
    let mut file = gaussian(draws);
    let members = [std::mem::take(&mut file.tensors), gaussian(draws).tensors];
    frame(&mut file);
    for (k, tensors) in members.into_iter().enumerate() {
        let own = tensors.into_iter().filter(|(name, _)| name.starts_with("actor.") || name.starts_with("deviation."));
        file.tensors.extend(own.map(|(name, array)| (format!("member.{k}.{name}"), array)));
    }
    file.set("kind", "mixture");
    file.set("member_kind", "gaussian");
    file.insert("weights", &[2], vec![0.25, 0.75]);
    file
}

fn latent(draws: &mut Draws) -> PolicyFile {
    let mut file = PolicyFile::new("latent");
    for (key, value) in [
        ("latents", 4.0),
        ("candidates", 10.0),
        ("latent_bound", 0.5),
        ("phi", 0.05),
        ("multiplier", 1.0),
        ("seed", 0.0),
    ] {
        file.set(key, value);
    }
    file.set("perturbation_activation", "tanh");
    frame(&mut file);
    network(&mut file, draws, "decoder", &[7, 8, 2]);
    network(&mut file, draws, "perturbation", &[5, 8, 2]);
    for name in ["reward_critic.0", "cost_critic.0"] {
        network(&mut file, draws, name, &[5, 8, 1]);
    }
    file
}

fn sequence(draws: &mut Draws) -> PolicyFile {
    const E: usize = 8;
    let mut file = PolicyFile::new("sequence");
    for (key, value) in [("heads", 2.0), ("blocks", 1.0), ("head_layers", 1.0), ("context", 3.0), ("cost_offset", 0.0)]
    {
        file.set(key, value);
    }
    for (key, value) in [("cost_sign", 1.0), ("reward_scale", 0.1), ("cost_scale", 1.0)] {
        file.set(key, value);
    }
    file.set("cost_feature", "none");
    file.set_setting("target_return", 50.0);
    file.set_setting("cost_limit", 10.0);
    frame(&mut file);
    file.insert("timestep_emb.weight", &[5, E], draws.values(5 * E));
    let layers = [
        ("return_emb", 1, E),
        ("cost_emb", 1, E),
        ("state_emb", 3, E),
        ("action_emb", 2, E),
        ("blocks.0.attention.out_proj", E, E),
        ("blocks.0.mlp.0", E, 2 * E),
        ("blocks.0.mlp.2", 2 * E, E),
        ("head.0", E, 2),
    ];
    for (name, inputs, outputs) in layers {
        file.insert(&format!("{name}.weight"), &[outputs, inputs], draws.values(inputs * outputs));
        file.insert(&format!("{name}.bias"), &[outputs], draws.values(outputs));
    }
    file.insert("blocks.0.attention.in_proj_weight", &[3 * E, E], draws.values(3 * E * E));
    file.insert("blocks.0.attention.in_proj_bias", &[3 * E], draws.values(3 * E));
    for name in ["emb_norm", "out_norm", "blocks.0.norm1", "blocks.0.norm2"] {
        file.insert(&format!("{name}.weight"), &[E], vec![1.0; E]);
        file.insert(&format!("{name}.bias"), &[E], vec![0.0; E]);
    }
    file
}

fn diffusion(draws: &mut Draws) -> PolicyFile {
    const H: usize = 8;
    let mut file = PolicyFile::new("diffusion");
    for (key, value) in [
        ("blocks", 1.0),
        ("candidates", 10.0),
        ("norm_eps", 1e-6),
        ("noise_temperature", 1.0),
        ("threshold", 0.0),
        ("seed", 0.0),
    ] {
        file.set(key, value);
    }
    file.set("clip_levels", true);
    file.set("choice", "feasible");
    frame(&mut file);
    file.insert("level.beta", &[2], vec![0.2, 0.8]);
    file.insert("level.embedding", &[2, 4], draws.values(8));
    let layers = [("input", 9, H), ("blocks.0.inner", H, 2 * H), ("blocks.0.outer", 2 * H, H), ("output", H, 2)];
    for (name, inputs, outputs) in layers {
        file.insert(&format!("{name}.weight"), &[outputs, inputs], draws.values(inputs * outputs));
        file.insert(&format!("{name}.bias"), &[outputs], draws.values(outputs));
    }
    for part in ["weight", "bias"] {
        file.insert(&format!("blocks.0.norm.{part}"), &[H], draws.values(H));
    }
    for name in ["reward_critic.0", "feasibility_critic.0"] {
        network(&mut file, draws, name, &[5, 8, 1]);
    }
    file
}

fn planner(_draws: &mut Draws) -> PolicyFile {
    let mut file = planner_file::planner(&planner_file::Shape {
        observations: 3,
        actions: 2,
        steps: 2,
        levels: 2,
        denoiser: &[8, 8],
        value: &[8],
    });
    file.set_setting("candidates", 2.0);
    file
}

/// Whole numbers at the edges of what any type holds, as text.
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "4096",
    "4097",
    "1e308",
    "NaN",
    "inf",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "1e-320",
];

/// One to three damages of a kind that disks, networks and people do.
fn damaged(original: &[u8], draws: &mut Draws) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=draws.below(3) {
        let header = 8 + u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
        let at = draws.below(bytes.len().max(1));
        match draws.below(9) {
            _ if bytes.len() < 9 => {}
            0 => bytes[at] ^= 1 << draws.below(8),
            1 => bytes[at] = draws.next() as u8,
            2 => bytes.truncate(at),
            3 => bytes.extend(std::iter::repeat_n(0, draws.below(64))),
            4 => bytes[..8].copy_from_slice(&(draws.next() >> draws.below(64)).to_le_bytes()),
            5 => drop(bytes.drain(at..(at + 1 + draws.below(8)).min(bytes.len()))),
            6 => {
                // A float of the data, of any bits.
                let at = (header + draws.below(bytes.len() / 4) * 4).min(bytes.len() - 4);
                bytes[at..at + 4].copy_from_slice(&(draws.next() as u32).to_le_bytes());
            }
            _ => replace_number(&mut bytes, header, draws),
        }
    }
    bytes
}

/// First digits of the numbers in `bytes[9..end]`.
fn numbers(bytes: &[u8], end: usize) -> Vec<usize> {
    (9..end).filter(|&i| bytes[i].is_ascii_digit() && !bytes[i - 1].is_ascii_digit()).collect()
}

/// Where the metadata end, which come first in the header.
fn metadata_end(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'}').unwrap_or(bytes.len())
}

/// Puts another number where the header has one: a shape, a place, a setting.
fn replace_number(bytes: &mut Vec<u8>, header: usize, draws: &mut Draws) {
    let end = header.min(bytes.len());
    let starts = numbers(bytes, end);
    if !starts.is_empty() {
        let start = starts[draws.below(starts.len())];
        replace_at(bytes, header, start, NUMBERS[draws.below(NUMBERS.len())]);
    }
}

fn replace_at(bytes: &mut Vec<u8>, header: usize, start: usize, number: &str) {
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.splice(start..start + length, number.bytes());
    // The length in front is mended, so that more than the first check is met.
    let longer = (header as u64).wrapping_add_signed(number.len() as i64 - length as i64);
    bytes[..8].copy_from_slice(&longer.wrapping_sub(8).to_le_bytes());
}

/// True where it plays, false where it is refused.
fn plays(bytes: &[u8]) -> bool {
    let actor = match Actor::from_bytes(bytes) {
        Ok(actor) => actor,
        Err(error) => {
            assert!(matches!(error.code(), "Data" | "Shape"), "{error}");
            assert!(!error.message.is_empty());
            return false;
        }
    };
    let observations = vec![0.5; 2 * actor.obs_dim()];
    let mut actions = vec![0.0; 2 * actor.act_dim()];
    let mut player = actor.play();
    for _ in 0..3 {
        match player.act(Turn::first(&observations), &mut actions) {
            Ok(()) => assert!(actions.iter().all(|action| action.is_finite())),
            // Finite weights may overflow; that is said, too.
            Err(error) => {
                assert_eq!(error.code(), "Data", "{error}");
                return false;
            }
        }
    }
    true
}

/// Whether it plays, and the bytes it held meanwhile.
fn weigh(bytes: &[u8], name: &str) -> (bool, usize) {
    HELD.set((0, 0));
    let result = std::panic::catch_unwind(|| plays(bytes));
    let held = HELD.get().1;
    assert!(held < MOST_BYTES, "{name} takes {held} bytes");
    (result.unwrap_or_else(|_| panic!("{name} panics")), held)
}

type Make = fn(&mut Draws) -> PolicyFile;

const KINDS: [(&str, Make); 7] = [
    ("mlp", mlp),
    ("gaussian", gaussian),
    ("latent", latent),
    ("sequence", sequence),
    ("diffusion", diffusion),
    ("planner", planner),
    ("mixture", mixture),
];

#[test]
fn every_number_of_the_metadata_may_be_any_other() {
    for (name, make) in KINDS {
        let original = make(&mut Draws(SEED)).to_bytes();
        let header = 8 + u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
        let (mut played, mut most) = (0, 0);
        let starts = numbers(&original, metadata_end(&original));
        for &start in &starts {
            for number in NUMBERS {
                let mut bytes = original.clone();
                replace_at(&mut bytes, header, start, number);
                let (plays, held) = weigh(&bytes, &format!("{name} with {number} at byte {start}"));
                played += usize::from(plays);
                most = most.max(held);
            }
        }
        println!("{name}: {} numbers, {played} play; at most {most} bytes", starts.len() * NUMBERS.len());
        assert!(played > 0 && played < starts.len() * NUMBERS.len(), "{name}: {played} play");
    }
}

#[test]
fn a_damaged_policy_is_refused_or_plays_with_finite_numbers() {
    for (name, make) in KINDS {
        let mut draws = Draws(SEED);
        let original = make(&mut draws).to_bytes();
        assert!(plays(&original), "{name}");
        let (mut played, mut most) = (0, 0);
        for mutant in 0..MUTANTS {
            let bytes = damaged(&original, &mut draws);
            let (plays, held) = weigh(&bytes, &format!("{name}: mutant {mutant} of seed {SEED}"));
            played += usize::from(plays);
            most = most.max(held);
        }
        println!("{name}: {MUTANTS} mutants, {played} play, {} are refused; at most {most} bytes", MUTANTS - played);
        // Both must be met, or the damages are all of one kind.
        assert!(played > MUTANTS / 50 && played < MUTANTS, "{name}: {played} play");
    }
}
