use super::*;

/// Uniform numbers in [-1, 1) (xorshift64*).
fn noise(mut state: u64, count: usize) -> Vec<f32> {
    let next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        bits as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A policy of kind `mlp` with layers of these widths.
fn file(dims: &[usize]) -> PolicyFile {
    let mut file = PolicyFile::new("mlp");
    file.set("hidden_activation", "relu");
    file.set("output_activation", "tanh");
    for (i, d) in dims.windows(2).enumerate() {
        let weight = noise(7 + i as u64, d[0] * d[1]).iter().map(|w| w * (3.0 / d[0] as f32).sqrt()).collect();
        file.insert_layer("actor", i, weight, noise(70 + i as u64, d[1]));
    }
    let (obs_dim, act_dim) = (dims[0], dims[dims.len() - 1]);
    file.insert("observation.mean", &[obs_dim], noise(3, obs_dim));
    file.insert("observation.std", &[obs_dim], noise(4, obs_dim).iter().map(|v| 1.5 + v).collect());
    file.insert("action.low", &[act_dim], noise(5, act_dim).iter().map(|v| v - 1.5).collect());
    file.insert("action.high", &[act_dim], noise(6, act_dim).iter().map(|v| v + 1.5).collect());
    file
}

/// The formula of the crate's page in f64.
fn reference(file: &PolicyFile, obs: &[f32]) -> Vec<f64> {
    let wide = |name: &str| file.tensors[name].values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let (mean, std) = (wide("observation.mean"), wide("observation.std"));
    let mut x: Vec<f64> = (0..obs.len()).map(|i| (f64::from(obs[i]) - mean[i]) / std[i]).collect();
    let layers = (0..).take_while(|i| file.tensors.contains_key(&format!("actor.{i}.weight"))).count();
    for index in 0..layers {
        let (weight, bias) = (wide(&format!("actor.{index}.weight")), wide(&format!("actor.{index}.bias")));
        let affine =
            weight.chunks(x.len()).zip(bias).map(|(row, b)| b + row.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>());
        x = affine.map(|v| if index + 1 == layers { v } else { v.max(0.0) }).collect();
    }
    let (low, high) = (wide("action.low"), wide("action.high"));
    let squash = |x: f64| if file.metadata["output_activation"] == "tanh" { x.tanh() } else { x.clamp(-1.0, 1.0) };
    (0..x.len()).map(|i| low[i] + (squash(x[i]) + 1.0) / 2.0 * (high[i] - low[i])).collect()
}

fn act(actor: &Actor, obs: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; obs.len() / actor.obs_dim() * actor.act_dim()];
    actor.play().act(Turn::first(obs), &mut out).unwrap();
    out
}

/// One actor per instruction set of this machine.
fn actors(file: &PolicyFile) -> Vec<Actor> {
    let sets = InstructionSet::NAMES.into_iter().filter_map(InstructionSet::named);
    sets.map(|set| Actor::on(file, set).unwrap()).collect()
}

const NETWORKS: [&[usize]; 5] = [&[1, 1], &[3, 5, 2], &[17, 256, 256, 6], &[8, 33, 48, 65, 16], &[60, 130, 2]];

#[test]
fn matches_the_formula_in_f64() {
    for dims in NETWORKS {
        for squash in ["tanh", "clamp"] {
            let mut file = file(dims);
            file.set("output_activation", squash);
            for actor in actors(&file) {
                let obs = noise(11, 9 * dims[0]);
                let actions = act(&actor, &obs);
                let rows = obs.chunks(dims[0]).zip(actions.chunks(actor.act_dim()));
                for (obs, action) in rows {
                    for (found, expected) in action.iter().zip(reference(&file, obs)) {
                        let error = (f64::from(*found) - expected).abs();
                        assert!(error < 4e-6, "{dims:?} {}: {error}", actor.instruction_set());
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_batch() {
    for dims in NETWORKS {
        for actor in actors(&file(dims)) {
            let obs = noise(12, 75 * dims[0]);
            let alone: Vec<f32> = obs.chunks(dims[0]).flat_map(|row| act(&actor, row)).collect();
            for n in [2, 3, 4, 5, 7, 31, 32, 33, 75] {
                let batch = act(&actor, &obs[..n * dims[0]]);
                assert_eq!(batch, alone[..batch.len()], "{dims:?} n = {n}");
            }
        }
    }
}
#[test]
fn tanh_is_accurate_and_actions_stay_within_bounds() {
    let mut unit = file(&[1, 1]);
    unit.insert_layer("actor", 0, vec![1.0], vec![0.0]);
    for (name, value) in
        [("observation.mean", 0.0), ("observation.std", 1.0), ("action.low", -1.0), ("action.high", 1.0)]
    {
        unit.insert(name, &[1], vec![value]);
    }
    let actor = Actor::new(&unit).unwrap();
    let grid: Vec<f32> = (-12_000..=12_000).map(|i| i as f32 / 1000.0).collect();
    for (x, action) in grid.iter().zip(act(&actor, &grid)) {
        assert!((f64::from(*x).tanh() - f64::from(action)).abs() <= 1e-6);
    }
    assert_eq!(act(&actor, &[-1e30, 1e30]), [-1.0, 1.0]);
}

#[test]
fn refuses_bad_calls_by_name() {
    let mut player = Actor::new(&file(&[3, 5, 2])).unwrap().play();
    let mut out = [9.0; 4];
    let mut refuse = |turn: Turn<'_>, rows: usize, code: &str, text: &str| {
        let error = player.act(turn, &mut out[..rows]).unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.message.contains(text), "{error}");
    };
    let fine = [0.0; 6];
    refuse(Turn::first(&[0.0; 4]), 4, "Shape", "observations: has 4 values");
    refuse(Turn::first(&fine), 3, "Shape", "actions: has 3 values, expected 2 rows of 2");
    refuse(Turn::first(&[0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0]), 4, "Data", "value 4 (row 1, entry 1) is NaN");
    refuse(Turn { rewards: &[1.0], ..Turn::first(&fine) }, 4, "Shape", "rewards: has 1 values, expected 2");
    refuse(Turn { costs: &[1.0, f32::NAN], ..Turn::first(&fine) }, 4, "Data", "costs: value 1");
    assert_eq!(out, [9.0; 4]);
    player.act(Turn::first(&[]), &mut []).unwrap();
    player.act(Turn { rewards: &[1.0, 1.0], costs: &[0.0, 0.0], ..Turn::first(&fine) }, &mut out).unwrap();
    player.reset(&[0, 7]);
}

#[test]
fn an_overflow_is_an_error_not_a_nan_action() {
    let mut file = file(&[1, 2, 1]);
    file.insert_layer("actor", 0, vec![f32::MAX, f32::MAX], vec![0.0, 0.0]);
    file.insert_layer("actor", 1, vec![f32::MAX, -f32::MAX], vec![0.0]);
    let error = Actor::new(&file).unwrap().play().act(Turn::first(&[9.0]), &mut [0.0]).unwrap_err();
    assert_eq!((error.code(), error.field.as_deref()), ("Data", Some("actions")));
}

#[test]
fn refuses_bad_tensors_by_name() {
    let good = file(&[3, 5, 2]);
    type Change = fn(&mut PolicyFile);
    let cases: [(&str, &str, Change); 9] = [
        ("observation.mean", "Shape", |f| f.insert("observation.mean", &[0], vec![])),
        ("observation.std", "Shape", |f| f.insert("observation.std", &[4], vec![1.0; 4])),
        ("observation.std", "Data", |f| f.insert("observation.std", &[3], vec![1.0, 0.0, 1.0])),
        ("action.low", "Data", |f| f.insert("action.low", &[2], vec![1e9, 0.0])),
        ("action.high", "Data", |f| f.insert("action.high", &[2], vec![1.0, f32::INFINITY])),
        ("actor.1.weight", "Shape", |f| {
            f.insert("action.low", &[3], vec![0.0; 3]);
            f.insert("action.high", &[3], vec![1.0; 3]);
        }),
        ("actor.1.weight", "Shape", |f| f.insert("actor.1.weight", &[2, 5], vec![0.0; 9])),
        ("actor.1.weight", "Shape", |f| f.insert("actor.1.bias", &[0], vec![])),
        ("actor.1.weight", "Data", |f| f.insert("actor.1.weight", &[2, 5], vec![f32::NAN; 10])),
    ];
    for (field, code, change) in cases {
        let mut file = good.clone();
        change(&mut file);
        let error = Actor::new(&file).unwrap_err();
        assert_eq!((error.field.as_deref(), error.code()), (Some(field), code), "{error}");
    }
}

/// A network conditioned on a setting acts as the same network over one more observation, whose value is the setting.
#[test]
fn a_setting_conditions_the_network() {
    let mut conditioned = file(&[4, 9, 2]);
    let plain = conditioned.clone();
    for name in ["observation.mean", "observation.std"] {
        let values = conditioned.tensors[name].values[..3].to_vec();
        conditioned.insert(name, &[3], values);
    }
    let last = |name: &str| plain.tensors[name].values[3];
    conditioned.insert("condition.scale", &[2], vec![last("observation.mean"), last("observation.std")]);
    conditioned.set("condition", "cost_limit");
    conditioned.set_setting("cost_limit", 0.25);
    let mut actor = Actor::new(&conditioned).unwrap();
    assert_eq!(actor.settings()["cost_limit"], 0.25);
    let plain = Actor::new(&plain).unwrap();
    for limit in [0.25f32, -1.0] {
        actor.set("cost_limit", f64::from(limit)).unwrap();
        assert_eq!(act(&actor, &[0.1, 0.2, 0.3]), act(&plain, &[0.1, 0.2, 0.3, limit]));
    }
    let error = actor.set("target_return", 1.0).unwrap_err();
    assert!(error.message.contains("target_return: is no setting of this policy; it has: cost_limit"), "{error}");
}
