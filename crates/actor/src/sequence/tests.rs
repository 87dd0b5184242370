//! The sequence kind against its formula, what its memory depends on, and which files are refused.
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

fn affine(file: &PolicyFile, [weight, bias]: [&str; 2], x: &[f64]) -> Vec<f64> {
    let rows = file.tensors[weight].values.chunks(x.len()).zip(&file.tensors[bias].values);
    rows.map(|(row, &b)| f64::from(b) + row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum::<f64>()).collect()
}

fn layer(file: &PolicyFile, name: &str, x: &[f64]) -> Vec<f64> {
    affine(file, [&format!("{name}.weight"), &format!("{name}.bias")], x)
}

fn norm(file: &PolicyFile, name: &str, x: &[f64]) -> Vec<f64> {
    let part = |part: &str| file.tensors[&format!("{name}.{part}")].values.clone();
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
    let parameters = part("weight").into_iter().zip(part("bias"));
    let scaled = x.iter().zip(parameters);
    scaled.map(|(x, (w, b))| (x - mean) / (variance + 1e-5).sqrt() * f64::from(w) + f64::from(b)).collect()
}

fn add(x: &[f64], y: &[f64]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

/// The feature of the last of `tokens`, all of them taken through every block.
fn newest(file: &PolicyFile, mut tokens: Vec<Vec<f64>>) -> Vec<f64> {
    let (heads, width) = (2, E / 2);
    for block in 0..2 {
        let name = |part: &str| format!("blocks.{block}.{part}");
        let projection = [name("attention.in_proj_weight"), name("attention.in_proj_bias")];
        let projection = [projection[0].as_str(), projection[1].as_str()];
        let of = |x: &Vec<f64>| affine(file, projection, &norm(file, &name("norm1"), x));
        let projected: Vec<Vec<f64>> = tokens.iter().map(of).collect();
        for (i, token) in tokens.iter_mut().enumerate() {
            let mut mixed = Vec::new();
            for head in 0..heads {
                let part = |row: usize, which: usize| &projected[row][which * E + head * width..][..width];
                let score = |j: usize| part(i, 0).iter().zip(part(j, 1)).map(|(q, k)| q * k).sum::<f64>();
                let weights: Vec<f64> = (0..=i).map(|j| (score(j) / (width as f64).sqrt()).exp()).collect();
                let total: f64 = weights.iter().sum();
                let value = |d: usize| (0..=i).map(|j| weights[j] / total * part(j, 2)[d]).sum::<f64>();
                mixed.extend((0..width).map(value));
            }
            let x = add(token, &layer(file, &name("attention.out_proj"), &mixed));
            let gelu = |x: &f64| drcorl_kernels::activations::plain::gelu(*x).0;
            let wide: Vec<f64> =
                layer(file, &name("mlp.0"), &norm(file, &name("norm2"), &x)).iter().map(gelu).collect();
            *token = add(&x, &layer(file, &name("mlp.2"), &wide));
        }
    }
    norm(file, "out_norm", &tokens[tokens.len() - 1])
}

/// The module's formula: the window of every step computed anew.
#[test]
fn actions_are_those_of_the_formula() {
    let file = file();
    let mut player = Actor::new(&file).unwrap().play();
    let mut draws = Draws::new(7, 0, &[]);
    let (mut seen, mut to_go): (Vec<Vec<f64>>, _) = (Vec::new(), (2.0, 5.0));
    let token = |name: &str, step: usize, x: &[f64]| {
        let time: Vec<f64> =
            file.tensors["timestep_emb.weight"].values[step.min(5) * E..][..E].iter().map(|&t| f64::from(t)).collect();
        norm(&file, "emb_norm", &add(&layer(&file, name, x), &time))
    };
    for step in 0..3 * CONTEXT {
        let observation: Vec<f32> = (0..S).map(|_| draws.normal()).collect();
        let (reward, cost) = (draws.normal(), draws.normal().abs());
        let mut out = [0.0; A];
        player.act(Turn { observations: &observation, rewards: &[reward], costs: &[cost] }, &mut out).unwrap();
        if step > 0 {
            to_go = (to_go.0 - 0.1 * f64::from(reward), to_go.1 - f64::from(cost));
        }
        let state: Vec<f64> = observation.iter().map(|&x| f64::from((x - 0.5) / 2.0)).collect();
        seen.push(token("return_emb", step, &[to_go.0]));
        seen.push(token("cost_emb", step, &[50.0 - to_go.1]));
        seen.push(token("state_emb", step, &state));
        // The window begins with a whole step.
        let first = seen.len().saturating_sub(4 * CONTEXT - 1);
        let unit = layer(&file, "head.0", &newest(&file, seen[first..].to_vec()));
        let unit: Vec<f64> = unit.iter().map(|x| x.clamp(-1.0, 1.0)).collect();
        for (found, unit) in out.iter().zip(&unit) {
            let expected = -1.0 + (unit + 1.0) * 2.0;
            assert!((f64::from(*found) - expected).abs() < 2e-5, "step {step}: {found} against {expected}");
        }
        seen.push(token("action_emb", step, &unit));
    }
}

#[test]
fn a_row_acts_the_same_alone_and_in_any_batch() {
    let actor = Actor::new(&file()).unwrap();
    let mut draws = Draws::new(8, 0, &[]);
    let rows = 5;
    let mut numbers = |count: usize| (0..count).map(|_| draws.normal()).collect::<Vec<f32>>();
    let (mut together, mut alone) = (actor.play(), (0..rows).map(|_| actor.play()).collect::<Vec<_>>());
    for step in 0..2 * CONTEXT + 1 {
        let (observations, rewards, costs) = (numbers(rows * S), numbers(rows), numbers(rows));
        let mut out = vec![0.0; rows * A];
        let turn = Turn { observations: &observations, rewards: &rewards, costs: &costs };
        together.act(turn, &mut out).unwrap();
        for (row, player) in alone.iter_mut().enumerate() {
            let mut own = [0.0; A];
            let observations = &observations[row * S..][..S];
            player
                .act(Turn { observations, rewards: &rewards[row..][..1], costs: &costs[row..][..1] }, &mut own)
                .unwrap();
            assert_eq!(own.map(f32::to_bits)[..], out[row * A..][..A].iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        }
        if step == CONTEXT {
            together.reset(&[1]);
            alone[1].reset(&[0]);
        }
    }
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
