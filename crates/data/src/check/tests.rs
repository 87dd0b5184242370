use super::*;

const ROWS: usize = 1000;

/// A smooth signal in ten episodes of 100 rows, with nothing odd about it.
fn good() -> Columns {
    let wave = |row: usize, pace: f32| (row as f32 * pace).sin();
    let observation = |row: usize| [wave(row, 0.11), 3.0 * wave(row, 0.07)];
    let end = |row: usize| row % 100 == 99;
    Columns {
        obs_dim: 2,
        act_dim: 2,
        observations: (0..ROWS).flat_map(observation).collect(),
        next_observations: (1..=ROWS).flat_map(observation).collect(),
        actions: (0..ROWS).flat_map(|row| [wave(row, 0.3), wave(row, 0.9)]).collect(),
        rewards: (0..ROWS).map(|row| wave(row, 0.2)).collect(),
        costs: (0..ROWS).map(|row| f32::from(u8::from(row % 13 == 0))).collect(),
        terminals: vec![false; ROWS],
        timeouts: (0..ROWS).map(end).collect(),
        source: "memory".to_owned(),
        ..Columns::default()
    }
}

/// Code, place, rows and first row of all findings after a change.
fn found(change: impl FnOnce(&mut Columns)) -> Vec<(&'static str, String, u64, u64)> {
    let mut columns = good();
    change(&mut columns);
    check(&columns.validate().unwrap()).iter().map(|f| (f.code, f.place(), f.rows, f.first_row)).collect()
}

fn only(change: impl FnOnce(&mut Columns), code: &'static str, place: &str, rows: u64, first: u64) {
    assert_eq!(found(change), [(code, place.to_owned(), rows, first)]);
}

#[test]
fn good_data_have_no_findings() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn actions_that_are_no_amounts() {
    let discrete = |c: &mut Columns| {
        c.act_dim = 1;
        c.actions = (0..ROWS).map(|row| (row * 7 % 4) as f32).collect();
    };
    only(discrete, "discrete_actions", "actions[0]", 1000, 0);
    let one = |c: &mut Columns| (0..ROWS).for_each(|row| c.actions[2 * row + 1] = (row % 3) as f32);
    only(one, "few_actions", "actions[1]", 1000, 0);
    let sides = |c: &mut Columns| c.actions.iter_mut().for_each(|a| *a = a.signum());
    assert_eq!(found(sides)[0].0, "few_actions");
    only(|c| c.actions.fill(0.5), "constant_actions", "actions", 1000, 0);
    only(|c| (0..ROWS).for_each(|row| c.actions[2 * row] = 0.5), "constant_action", "actions[0]", 1000, 0);
    let mut columns = good();
    columns.actions = (0..2 * ROWS).map(|row| (row * 7 % 5) as f32).collect();
    let findings = check(&columns);
    assert_eq!((findings[0].code, findings[0].severity), ("discrete_actions", Severity::Error));
    let error = accept("a.csv", &findings, false).unwrap_err();
    assert!(error.message.starts_with("a.csv: actions[0,1]: take only the whole numbers 0, 1, 2, 3, 4: "), "{error}");
}

#[test]
fn one_value_far_away() {
    only(|c| c.actions[301] = 1e4, "outliers", "actions[1]", 1, 150);
    only(|c| c.rewards[7] = -1e6, "outliers", "rewards", 1, 7);
    // Rare costs and a goal's bonus are none.
    assert_eq!(found(|c| (0..ROWS).for_each(|row| c.costs[row] = f32::from(u8::from(row == 500)))), []);
    assert_eq!(found(|c| (0..ROWS).for_each(|row| c.rewards[row] = 100.0 * f32::from(u8::from(row % 200 == 99)))), []);
}

#[test]
fn ends_that_are_missing() {
    only(|c| c.timeouts[999] = false, "cut_off_tail", "timeouts", 100, 900);
    only(|c| c.timeouts.fill(false), "no_end_flags", "timeouts", 1000, 0);
    let missing = |c: &mut Columns| {
        *c = [good(), good()].into_iter().reduce(joined).unwrap();
        c.timeouts[499] = false;
    };
    assert_eq!(found(missing)[0], ("missing_end_flags", "timeouts".to_owned(), 200, 400));
    // Of few episodes it shows where the length is a multiple of all others'.
    only(|c| c.timeouts[499] = false, "missing_end_flags", "timeouts", 200, 400);
}

fn joined(mut a: Columns, b: Columns) -> Columns {
    a.observations.extend(b.observations);
    a.next_observations.extend(b.next_observations);
    a.actions.extend(b.actions);
    a.rewards.extend(b.rewards);
    a.costs.extend(b.costs);
    a.terminals.extend(b.terminals);
    a.timeouts.extend(b.timeouts);
    a
}

#[test]
fn successors_of_other_rows() {
    let shifted = |c: &mut Columns| {
        c.next_observations.rotate_left(2 * 10);
    };
    assert_eq!(found(shifted)[0].0, "successors_misaligned");
    // Ten environments in turn, joined as one by a shift.
    let mixed = |c: &mut Columns| {
        let order: Vec<usize> = (0..ROWS).map(|row| row % 10 * 100 + row / 10).collect();
        let old = c.clone();
        for (row, &from) in order.iter().enumerate() {
            c.observations[2 * row..][..2].copy_from_slice(&old.observations[2 * from..][..2]);
            c.timeouts[row] = old.timeouts[from];
        }
        let next: Vec<f32> = c.observations[2..].to_vec();
        c.next_observations[..next.len()].copy_from_slice(&next);
    };
    let codes: Vec<&str> = found(mixed).iter().map(|f| f.0).collect();
    assert!(codes.contains(&"successors_unrelated") && codes.contains(&"one_row_episodes"), "{codes:?}");
}

#[test]
fn rows_that_carry_their_flags_together() {
    let flags = |c: &mut Columns| (0..ROWS).for_each(|row| c.timeouts[row] = row >= 980);
    let codes: Vec<&str> = found(flags).iter().map(|f| f.0).collect();
    assert!(codes.contains(&"one_row_episodes"), "{codes:?}");
}

#[test]
fn columns_without_information() {
    let each = |c: &mut Columns, f: fn(f32) -> f32| {
        for row in 0..ROWS {
            c.observations[2 * row] = f(c.observations[2 * row]);
            c.next_observations[2 * row] = f(c.next_observations[2 * row]);
        }
    };
    only(|c| each(c, |_| 3.25), "constant_observation", "observations[0]", 1000, 0);
    only(|c| each(c, |x| x * 1e-6), "tiny_unit", "observations[0]", 1000, 0);
    only(|c| each(c, |x| 1.7e9 + 1e3 * x), "lost_digits", "observations[0]", 1000, 0);
    only(|c| c.costs.fill(0.0), "no_costs", "costs", 1000, 0);
    only(|c| c.costs.fill(2.0), "constant_costs", "costs", 1000, 0);
    only(|c| c.rewards.fill(1.0), "constant_rewards", "rewards", 1000, 0);
    only(|c| c.costs[5..8].fill(-1.0), "negative_costs", "costs", 3, 5);
}

#[test]
fn strict_refuses_warnings_and_names_all() {
    let mut columns = good();
    columns.costs.fill(0.0);
    columns.rewards.fill(0.0);
    let findings = check(&columns);
    assert!(accept("a", &findings, false).is_ok());
    let error = accept("a", &findings, true).unwrap_err();
    assert!(
        error.message.starts_with("a: costs: are all 0") && error.message.ends_with("(also: constant_rewards)"),
        "{error}"
    );
}
