//! The sequence kind: what its memory depends on, and which files are refused.
//! That it computes what was trained is tested in the core.

use crate::draws::Draws;
use crate::file::PolicyFile;
use crate::{Actor, Turn};

const S: usize = 3;
const A: usize = 2;
const E: usize = 8;
const CONTEXT: usize = 3;

fn file() -> PolicyFile {
    let mut file = PolicyFile::new("sequence");
    for (key, value) in [
        ("heads", 2.0),
        ("blocks", 2.0),
        ("head_layers", 1.0),
        ("context", CONTEXT as f64),
        ("cost_offset", 50.0),
        ("cost_sign", -1.0),
        ("reward_scale", 0.1),
        ("cost_scale", 1.0),
    ] {
        file.set(key, value);
    }
    file.set("cost_feature", "none");
    file.set_setting("target_return", 20.0);
    file.set_setting("cost_limit", 5.0);
    let mut seed = 0;
    let mut add = |name: &str, shape: &[usize]| {
        seed += 1;
        let mut draws = Draws::new(seed, 0, &[]);
        let count = shape.iter().product::<usize>();
        file.insert(name, shape, (0..count).map(|_| 0.4 * draws.normal()).collect());
    };
    add("timestep_emb.weight", &[6, E]);
    for (name, inputs) in [("return_emb", 1), ("cost_emb", 1), ("state_emb", S), ("action_emb", A)] {
        add(&format!("{name}.weight"), &[E, inputs]);
        add(&format!("{name}.bias"), &[E]);
    }
    for name in ["emb_norm", "out_norm", "blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1", "blocks.1.norm2"] {
        add(&format!("{name}.weight"), &[E]);
        add(&format!("{name}.bias"), &[E]);
    }
    for block in 0..2 {
        add(&format!("blocks.{block}.attention.in_proj_weight"), &[3 * E, E]);
        add(&format!("blocks.{block}.attention.in_proj_bias"), &[3 * E]);
        for (name, out, inputs) in [("attention.out_proj", E, E), ("mlp.0", 4 * E, E), ("mlp.2", E, 4 * E)] {
            add(&format!("blocks.{block}.{name}.weight"), &[out, inputs]);
            add(&format!("blocks.{block}.{name}.bias"), &[out]);
        }
    }
    add("head.0.weight", &[A, E]);
    add("head.0.bias", &[A]);
    for (name, size, value) in
        [("observation.mean", S, 0.5), ("observation.std", S, 2.0), ("action.low", A, -1.0), ("action.high", A, 3.0)]
    {
        file.insert(name, &[size], vec![value; size]);
    }
    file
}

/// Actions `[steps][A]` of one row that always sees the same observation; `answer` gives reward and cost of a step.
fn play(actor: &Actor, steps: usize, answer: impl Fn(usize) -> (f32, f32)) -> Vec<f32> {
    let mut player = actor.play();
    let mut actions = Vec::new();
    for step in 0..steps {
        let (reward, cost) = if step == 0 { (0.0, 0.0) } else { answer(step - 1) };
        let mut out = [0.0; A];
        let turn = Turn { observations: &[0.3, -0.2, 1.0], rewards: &[reward], costs: &[cost] };
        player.act(turn, &mut out).unwrap();
        actions.extend(out);
    }
    actions
}

#[test]
fn actions_follow_the_answers_and_the_targets() {
    let mut actor = Actor::new(&file()).unwrap();
    let base = play(&actor, 8, |_| (1.0, 0.0));
    assert_eq!(base, play(&actor, 8, |_| (1.0, 0.0)), "an episode repeats");
    let (rich, costly) = (play(&actor, 8, |_| (2.0, 0.0)), play(&actor, 8, |_| (1.0, 1.0)));
    assert_eq!(base[..A], rich[..A], "the first action comes before the first answer");
    assert!(base[A..2 * A] != rich[A..2 * A] && base[A..2 * A] != costly[A..2 * A]);
    // What is still to come is the target less what came: two targets that differ by a reward meet after it.
    actor.set("target_return", 21.0).unwrap();
    assert_ne!(play(&actor, 1, |_| (0.0, 0.0)), base[..A]);
    actor.set("target_return", 20.0).unwrap();
    actor.set("cost_limit", 40.0).unwrap();
    assert_ne!(play(&actor, 1, |_| (0.0, 0.0)), base[..A]);
    assert!(actor.set("target_cost", 1.0).is_err());
}

#[test]
fn foreign_fields_are_refused_by_name() {
    type Change = fn(&mut PolicyFile);
    let cases: [(&str, Change); 8] = [
        ("metadata heads", |f| f.set("heads", 0)),
        ("timestep_emb.weight", |f| f.set("heads", 3)),
        ("metadata cost_feature", |f| f.set("cost_feature", "other")),
        ("metadata setting.target_return", |f| drop(f.metadata.remove("setting.target_return"))),
        ("blocks.2.mlp.0.bias", |f| f.set("blocks", 3)),
        ("blocks.1.attention.in_proj_weight", |f| {
            f.insert("blocks.1.attention.in_proj_weight", &[2 * E, E], vec![0.0; 2 * E * E])
        }),
        ("head.0.weight", |f| f.insert("head.0.weight", &[A, 2 * E], vec![0.0; 2 * A * E])),
        ("head.0.weight", |f| f.set("head_layers", 2)),
    ];
    for (field, change) in cases {
        let mut file = file();
        change(&mut file);
        let error = Actor::new(&file).unwrap_err();
        assert!(error.message.contains(field), "{field}: {error}");
    }
}
