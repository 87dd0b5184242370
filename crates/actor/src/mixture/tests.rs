use crate::{Actor, PolicyFile, Turn};

const WEIGHTS: [f32; 3] = [0.5, 2.0, 1.5];

/// Members of one observation and one action: member k answers tanh(k + 1 + obs) in [-1, 1].
fn file(kind: &str) -> PolicyFile {
    let mut file = PolicyFile::new("mixture");
    file.set("member_kind", kind);
    file.set("hidden_activation", "relu");
    file.set("output_activation", "tanh");
    file.set("seed", 3);
    file.insert("weights", &[3], WEIGHTS.to_vec());
    if kind == "gaussian" {
        file.set_setting("sample", 0.0);
    }
    for k in 0..3 {
        file.insert_layer(&format!("member.{k}.actor"), 0, vec![1.0], vec![0.3 * k as f32]);
        if kind == "gaussian" {
            file.insert(&format!("member.{k}.deviation.std"), &[1], vec![0.1]);
        }
    }
    for (name, value) in
        [("observation.mean", 0.5), ("observation.std", 2.0), ("action.low", -1.0), ("action.high", 1.0)]
    {
        file.insert(name, &[1], vec![value]);
    }
    file
}

/// Which member answered, of kind `mlp`.
fn member(observation: f32, action: f32) -> usize {
    let state = (observation - 0.5) / 2.0;
    let found = (0..3).find(|&k| ((state + 0.3 * k as f32).tanh() - action).abs() < 1e-6);
    found.unwrap_or_else(|| panic!("{action} at {observation} is no member's"))
}

fn act(player: &mut crate::Player, observations: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; observations.len()];
    player.act(Turn::first(observations), &mut out).unwrap();
    out
}

/// Shares of episodes by weight: over first observations, and over seeds where all begin alike.
#[test]
fn members_play_by_their_weights() {
    let actor = Actor::new(&file("mlp")).unwrap();
    let count = 20_000;
    let rows: Vec<usize> = (0..count).collect();
    let seeds: Vec<u64> = (0..count as u64).collect();
    let spread: Vec<f32> = (0..count).map(|i| i as f32 * 1e-4).collect();
    for (observations, seeds) in [(spread, vec![]), (vec![0.25; count], seeds)] {
        let mut player = actor.play();
        player.begin(&rows, &seeds);
        let mut shares = [0.0f64; 3];
        for (observation, action) in observations.iter().zip(act(&mut player, &observations)) {
            shares[member(*observation, action)] += 1.0 / count as f64;
        }
        for (share, weight) in shares.iter().zip(WEIGHTS) {
            // Five standard deviations of a share.
            assert!((share - f64::from(weight) / 4.0).abs() < 5.0 * (0.25 / count as f64).sqrt(), "{shares:?}");
        }
    }
}

/// One member for a whole episode, whatever it sees; a reset draws again, with the same seed the same.
#[test]
fn a_member_plays_its_whole_episode() {
    let actor = Actor::new(&file("mlp")).unwrap();
    let (rows, first): (Vec<usize>, Vec<f32>) = (0..50).map(|i| (i, (i as f32).sin())).unzip();
    let seeds = |from: u64| -> Vec<u64> { (from..from + 50).collect() };
    let episode = |player: &mut crate::Player| {
        let members = |player: &mut crate::Player, observations: &[f32]| -> Vec<usize> {
            let actions = act(player, observations);
            observations.iter().zip(actions).map(|(observation, action)| member(*observation, action)).collect()
        };
        let drawn = members(player, &first);
        for step in 1..10 {
            let later: Vec<f32> = first.iter().map(|x| (x * step as f32).cos()).collect();
            assert_eq!(members(player, &later), drawn);
        }
        drawn
    };
    let mut player = actor.play();
    let unseeded = episode(&mut player);
    player.begin(&rows, &seeds(7));
    let drawn = episode(&mut player);
    player.begin(&rows, &seeds(1000));
    let other = episode(&mut player);
    player.begin(&rows, &seeds(7));
    assert_eq!(episode(&mut player), drawn);
    player.reset(&rows);
    assert_eq!(episode(&mut player), unseeded);
    assert!(drawn != other && drawn != unseeded);
}

/// Rows act alone as among others, also where their members draw and they are at different steps.
#[test]
fn rows_act_alone_as_in_a_batch() {
    for kind in ["mlp", "gaussian"] {
        let mut actor = Actor::new(&file(kind)).unwrap();
        if kind == "gaussian" {
            actor.set("sample", 1.0).unwrap();
        }
        let count = 70;
        let observation = |row: usize, step: usize| ((row * 31 + step * 7) as f32 * 0.37).sin();
        // Row i begins another episode at step i % 5.
        let begins = |row: usize, step: usize| step == 0 || step == row % 5;
        let seed = |row: usize, step: usize| (100 * row + step) as u64;
        let mut together = actor.play();
        let mut alone: Vec<crate::Player> = (0..count).map(|_| actor.play()).collect();
        for step in 0..8 {
            let rows: Vec<usize> = (0..count).filter(|&row| begins(row, step)).collect();
            let seeds: Vec<u64> = rows.iter().map(|&row| seed(row, step)).collect();
            together.begin(&rows, &seeds);
            let observations: Vec<f32> = (0..count).map(|row| observation(row, step)).collect();
            let actions = act(&mut together, &observations);
            for (row, player) in alone.iter_mut().enumerate() {
                if begins(row, step) {
                    player.begin(&[0], &[seed(row, step)]);
                }
                assert_eq!(act(player, &observations[row..=row])[0].to_bits(), actions[row].to_bits(), "{kind} {row}");
            }
        }
    }
}

/// Members that draw do so afresh at every step, and settings reach them.
#[test]
fn members_of_kind_gaussian_draw_on_request() {
    let mut actor = Actor::new(&file("gaussian")).unwrap();
    let observations = [0.1; 40];
    let mut player = actor.play();
    let mean = act(&mut player, &observations);
    assert_eq!(act(&mut player, &observations), mean);
    actor.set("sample", 1.0).unwrap();
    let mut player = actor.play();
    let first = act(&mut player, &observations);
    assert!(first != mean && first != act(&mut player, &observations));
    assert!(actor.set("sample", -1.0).unwrap_err().to_string().contains("0 for the mean"));
    assert!(actor.remembers());
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut PolicyFile)| {
        let mut file = file("mlp");
        change(&mut file);
        Actor::new(&file).unwrap_err().to_string()
    };
    assert!(refused(&|f| f.insert("weights", &[0], vec![])).contains("weights: has no entries"));
    assert!(refused(&|f| f.insert("weights", &[3], vec![1.0, -1.0, 1.0])).contains("weights: value 1 is -1"));
    let missing = refused(&|f| f.insert("weights", &[4], vec![1.0; 4]));
    assert!(missing.starts_with("member.3.actor.0.weight: is missing"), "{missing}");
    assert!(refused(&|f| f.insert("weights", &[2], vec![1.0; 2])).contains("member.2.actor.0"));
    let shape = refused(&|f| f.insert("member.1.actor.0.weight", &[1, 2], vec![1.0; 2]));
    assert!(shape.starts_with("member.1.actor.0.weight: has shape [1, 2]"), "{shape}");
    assert!(refused(&|f| f.set("member_kind", "mixture")).contains("metadata member_kind"));
    assert!(refused(&|f| f.set("output_activation", "relu")).starts_with("metadata output_activation"));
    assert!(refused(&|f| f.set("seed", "x")).contains("metadata seed"));
}
