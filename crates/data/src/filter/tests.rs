use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::density::cells;
use super::*;

/// Gives back what it is told, and writes down what it is asked.
#[derive(Default, Clone)]
struct Script {
    below: Rc<RefCell<VecDeque<usize>>>,
    normals: Rc<RefCell<VecDeque<f64>>>,
    bounds: Rc<RefCell<Vec<usize>>>,
}

impl Draws for Script {
    fn below(&mut self, bound: usize) -> usize {
        self.bounds.borrow_mut().push(bound);
        self.below.borrow_mut().pop_front().expect("a scripted integer")
    }

    fn normal(&mut self) -> f64 {
        self.normals.borrow_mut().pop_front().expect("a scripted normal")
    }
}

/// Episodes of 4 steps with these costs and returns; the cost lies in the first step, the return is spread evenly.
/// Observations count up, and a successor is the next row's observation.
fn columns(points: &[(f32, f32)]) -> Columns {
    let rows = points.len() * 4;
    let per_step = |of: fn(&(f32, f32), usize) -> f32| -> Vec<f32> {
        points.iter().flat_map(|point| (0..4).map(move |step| of(point, step))).collect()
    };
    Columns {
        obs_dim: 2,
        act_dim: 1,
        observations: (0..rows).flat_map(|i| [i as f32, 100.0 - 2.0 * i as f32]).collect(),
        next_observations: (1..=rows).flat_map(|i| [i as f32, 100.0 - 2.0 * i as f32]).collect(),
        actions: (0..rows).map(|i| i as f32 / 100.0).collect(),
        rewards: per_step(|point, _| point.1 / 4.0),
        costs: per_step(|point, step| if step == 0 { point.0 } else { 0.0 }),
        terminals: vec![false; rows],
        timeouts: (0..rows).map(|i| i % 4 == 3).collect(),
        source: "memory".to_owned(),
        ..Columns::default()
    }
}

fn run(points: &[(f32, f32)], options: &FilterOptions, script: &Script) -> (Columns, FilterReport) {
    let draws = |_: u64| Box::new(script.clone()) as Box<dyn Draws>;
    filter_with(columns(points), options, &Watch::default(), &draws).unwrap()
}

/// Cost and return of what is left.
fn points(columns: &Columns) -> Vec<(f64, f64)> {
    columns.episodes().iter().map(|e| (e.cost, e.ret)).collect()
}

#[test]
fn without_options_only_the_tail_goes() {
    let mut columns = columns(&[(1.0, 4.0), (2.0, 8.0), (3.0, 12.0)]);
    columns.timeouts[11] = false;
    let expected: Vec<f32> = columns.observations[..16].to_vec();
    let (left, report) = filter(columns.clone(), &FilterOptions::default(), &Watch::default()).unwrap();
    assert_eq!(left.observations, expected);
    assert_eq!((report.episodes_before, report.episodes, report.transitions_before, report.transitions), (2, 2, 12, 8));
    assert_eq!(report.steps[0].note, "4 rows after the last end flag");
    columns.timeouts.fill(false);
    let error = filter(columns, &FilterOptions::default(), &Watch::default()).unwrap_err();
    assert!(error.message.contains("timeouts: holds no complete episode"), "{error}");
}

#[test]
fn density_counts_points_on_edges_as_the_rules_say() {
    // Costs 0, 1, .. 4 times returns 0, 2, 4: every point lies on an edge of a grid of 4 x 2 cells.
    let plane: Vec<(f32, f32)> = (0..5).flat_map(|c| [0.0, 2.0, 4.0].map(|r| (c as f32, r))).collect();
    let selection = Selection { episodes: columns(&plane).episodes(), keep: vec![true; 15], outlier: vec![false; 15] };
    let grid = Grid { cost_bins: 4, return_bins: 2, most: 2, least: 0 };
    let task = ScoreRange { min_cost: 0.0, max_cost: 4.0, min_return: 0.0, max_return: 4.0 };
    let counts = |rules, task: &ScoreRange| -> Vec<((usize, usize), usize)> {
        cells(&selection, &grid, rules, task).into_iter().map(|(cell, members)| (cell, members.len())).collect()
    };
    // The last cells are closed: they take two costs, two returns.
    let fixed =
        [((0, 0), 1), ((0, 1), 2), ((1, 0), 1), ((1, 1), 2), ((2, 0), 1), ((2, 1), 2), ((3, 0), 2), ((3, 1), 4)];
    assert_eq!(counts(Rules::Fixed, &task), fixed);
    // The published rule has (4 + 1)(2 + 1) cells, one point each.
    let dsrl = counts(Rules::Dsrl, &task);
    assert_eq!((dsrl.len(), dsrl.iter().all(|(_, n)| *n == 1)), (15, true));
    assert_eq!(dsrl.last(), Some(&((4, 2), 1)));
    // Constants a little below the sums drop the extremes under the published rule only.
    let tight = ScoreRange { max_cost: 4.0 - 1e-9, ..task };
    assert_eq!(counts(Rules::Dsrl, &tight).iter().map(|(_, n)| n).sum::<usize>(), 12);
    assert_eq!(counts(Rules::Fixed, &tight), fixed);
}

#[test]
fn density_thins_full_cells_and_empties_sparse_ones() {
    // Cell (0, 0) holds four episodes, (1, 1) two, (1, 0) one.
    let plane = [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 2.0), (9.0, 9.0), (10.0, 10.0), (9.0, 1.0)];
    let density = Some(Grid { cost_bins: 2, return_bins: 2, most: 3, least: 1 });
    let script = Script::default();
    // Of [0, 1, 2, 3] take positions 3, then 1 + 2, then 2 + 1: episodes 3, 0 (swapped there), 0..
    script.below.borrow_mut().extend([3, 0, 0]);
    let (left, report) = run(&plane, &FilterOptions { density, ..FilterOptions::default() }, &script);
    assert_eq!(*script.bounds.borrow(), [4, 3, 2]);
    // Drawn: 3, 1, 2. They keep their order in the file.
    assert_eq!(points(&left), [(0.0, 1.0), (1.0, 1.0), (1.0, 2.0), (9.0, 9.0), (10.0, 10.0)]);
    assert_eq!(left.observations[0], 4.0);
    assert_eq!(report.steps[0].removed, 2);
    assert_eq!(report.steps[0].note, "3 cells hold episodes; 1 were thinned, 1 emptied");
}

#[test]
fn density_of_one_point_is_one_cell() {
    let density = Some(Grid { cost_bins: 10, return_bins: 10, most: 2, least: 1 });
    let script = Script::default();
    script.below.borrow_mut().extend([0, 0]);
    let same = [(3.0, 4.0); 5];
    let (left, _) = run(&same, &FilterOptions { density, ..FilterOptions::default() }, &script);
    assert_eq!(points(&left), [(3.0, 4.0); 2]);
}

#[test]
fn outliers_look_safe_and_good() {
    // Candidates have a cost of at least 20 and a return of at least 10: episodes 1 and 3.
    let plane = [(0.0, 20.0), (40.0, 16.0), (30.0, 4.0), (20.0, 12.0)];
    let options = FilterOptions { outliers: Some(0.3), cost_limit: Some(10.0), ..FilterOptions::default() };
    let script = Script::default();
    // The second candidate; 2 steps of cost; steps 3 and then the first of what is left.
    script.below.borrow_mut().extend([1, 2, 3, 0]);
    let (left, report) = run(&plane, &options, &script);
    assert_eq!(*script.bounds.borrow(), [2, 10, 4, 3]);
    assert_eq!(points(&left), [(0.0, 20.0), (40.0, 16.0), (30.0, 4.0), (2.0, 18.0)]);
    assert_eq!(left.costs[12..], [0.0, 1.0, 0.0, 1.0]);
    assert_eq!((report.steps[0].changed, report.steps[0].removed), (1, 0));

    // More steps than the episode has, and more outliers than candidates: as many as there are.
    let script = Script::default();
    script.below.borrow_mut().extend([0, 0, 9, 0, 0, 0, 0, 0, 0]);
    let greedy = FilterOptions { outliers: Some(1.0), ..options.clone() };
    let (left, report) = run(&plane, &greedy, &script);
    assert_eq!(points(&left)[1], (4.0, 24.0));
    assert_eq!(report.steps[0].changed, 2);
    assert!(report.steps[0].note.contains("all there are, instead of 4"), "{}", report.steps[0].note);

    let draws = |_: u64| Box::new(Script::default()) as Box<dyn Draws>;
    let error = filter_with(columns(&[(1.0, 0.0), (0.0, 9.0)]), &options, &Watch::default(), &draws).unwrap_err();
    assert!(error.message.contains("outliers: no episode has both a cost of at least 0.5"), "{error}");
}

#[test]
fn inpaint_removes_windows_in_turn() {
    let plane = [(0.0, 0.0), (10.0, 2.0), (20.0, 6.0), (20.0, 10.0), (40.0, 20.0)];
    // Costs 10 to 20 hold returns 2 to 10; their upper half goes, edges included. Then nothing has a cost near 30.
    let inpaint = vec![[0.25, 0.5, 0.5, 1.0], [0.7, 0.8, 0.0, 1.0]];
    let options = FilterOptions { inpaint, ..FilterOptions::default() };
    let (left, report) = run(&plane, &options, &Script::default());
    assert_eq!(points(&left), [(0.0, 0.0), (10.0, 2.0), (40.0, 20.0)]);
    assert_eq!(report.steps.iter().map(|s| s.removed).collect::<Vec<_>>(), [2, 0]);
    // The next window sees what the first one left.
    let inpaint = vec![[0.25, 0.5, 0.5, 1.0], [0.25, 0.5, 1.0, 1.0]];
    let (left, _) = run(&plane, &FilterOptions { inpaint, ..options.clone() }, &Script::default());
    assert_eq!(points(&left), [(0.0, 0.0), (40.0, 20.0)]);
    // The task's constants move the window: 0.25 to 0.5 of 80 are the costs 20 to 40.
    let score_range = Some(ScoreRange { min_cost: 0.0, max_cost: 80.0, min_return: 0.0, max_return: 20.0 });
    let inpaint = vec![[0.25, 0.5, 0.0, 0.0]];
    let (left, _) = run(&plane, &FilterOptions { inpaint, score_range, ..options }, &Script::default());
    assert_eq!(points(&left), [(0.0, 0.0), (10.0, 2.0), (20.0, 10.0), (40.0, 20.0)]);
}

#[test]
fn outliers_survive_inpaint_and_do_not_steer_epsilon() {
    let plane = [(0.0, 8.0), (40.0, 20.0), (5.0, 12.0), (0.0, 4.0)];
    let options = FilterOptions {
        outliers: Some(0.25),
        cost_limit: Some(10.0),
        inpaint: vec![[0.0, 0.0, 0.5, 1.0]],
        epsilon: Some(2.0),
        ..FilterOptions::default()
    };
    let script = || {
        let script = Script::default();
        script.below.borrow_mut().extend([0, 0]);
        script
    };
    // Episode 1 becomes cost 0, return 30. Of the costs 0 (returns 8, 30, 4) the upper half is the outlier alone.
    let (left, report) = run(&plane, &options, &script());
    assert_eq!(points(&left), [(0.0, 8.0), (0.0, 30.0), (0.0, 4.0)]);
    assert_eq!(
        report.steps.iter().map(|s| (s.step, s.removed)).collect::<Vec<_>>(),
        [("outliers", 0), ("inpaint", 0), ("epsilon", 1)]
    );
    // Under the published rule the outlier is the best safe episode, and it goes.
    let (left, _) = run(&plane, &FilterOptions { rules: Rules::Dsrl, ..options }, &script());
    assert_eq!(points(&left), [(0.0, 8.0), (5.0, 12.0), (0.0, 4.0)]);
}

#[test]
fn epsilon_makes_data_harder_or_easier() {
    let plane = [(0.0, 10.0), (10.0, 9.0), (10.0, 7.0), (11.0, 20.0), (30.0, 17.0), (12.0, 16.0)];
    let with = |epsilon| {
        let options = FilterOptions { epsilon: Some(epsilon), cost_limit: Some(10.0), ..FilterOptions::default() };
        let (left, report) = run(&plane, &options, &Script::default());
        (points(&left).len(), report.steps[0].note.clone(), points(&left))
    };
    // Safe is cost <= limit; edges of the interval go too.
    assert_eq!(with(1.0).2, [(10.0, 7.0), (11.0, 20.0), (30.0, 17.0), (12.0, 16.0)]);
    assert_eq!(with(-3.0).2, [(0.0, 10.0), (10.0, 9.0), (10.0, 7.0), (12.0, 16.0)]);
    assert_eq!(with(0.0), (6, "0 removes nothing".to_owned(), points(&columns(&plane))));
}

#[test]
fn noise_is_shared_by_the_state_between_two_steps() {
    let options = FilterOptions { noise: Some(0.1), ..FilterOptions::default() };
    let clean = columns(&[(0.0, 1.0), (0.0, 2.0)]);
    let (noisy, report) = filter(clean.clone(), &options, &Watch::default()).unwrap();
    assert_eq!((report.steps[0].changed, report.episodes), (2, 2));
    for row in 0..8 {
        let (start, end) = (row * 2, row * 2 + 2);
        assert_ne!(noisy.observations[start..end], clean.observations[start..end]);
        if row % 4 != 3 {
            assert_eq!(noisy.next_observations[start..end], noisy.observations[start + 2..end + 2], "row {row}");
        }
    }
    // The state that ends an episode is another one than the state that starts the next.
    assert_ne!(noisy.next_observations[6..8], noisy.observations[8..10]);
    // Rewards, actions and costs stay.
    assert_eq!((&noisy.rewards, &noisy.actions, &noisy.costs), (&clean.rewards, &clean.actions, &clean.costs));

    // Scripted: the deviations are those of the entries, sqrt((8^2 - 1) / 12) and twice that.
    let script = Script::default();
    script.normals.borrow_mut().extend([1.0; 20]);
    let (noisy, _) = run(&[(0.0, 1.0), (0.0, 2.0)], &options, &script);
    let deviation = 5.25_f32.sqrt() * 0.1;
    assert!((noisy.observations[0] - deviation).abs() < 1e-5);
    assert!((noisy.observations[1] - 100.0 - 2.0 * deviation).abs() < 1e-5);
    assert!(script.normals.borrow().is_empty());
}

#[test]
fn published_noise_pools_entries_and_draws_twice() {
    let options = FilterOptions { noise: Some(1.0), rules: Rules::Dsrl, ..FilterOptions::default() };
    let script = Script::default();
    script.normals.borrow_mut().extend((0..16).map(|i| f64::from(i < 8)));
    let clean = columns(&[(0.0, 1.0)]);
    let (noisy, _) = run(&[(0.0, 1.0)], &options, &script);
    // numpy.std([0, 100, 1, 98, 2, 96, 3, 94])
    let deviation = 47.782_71_f32;
    for (noisy, clean) in noisy.observations.iter().zip(&clean.observations) {
        assert!((noisy - clean - deviation).abs() < 1e-4, "{noisy} {clean}");
    }
    assert_eq!(noisy.next_observations, clean.next_observations);
}

#[test]
fn a_seed_repeats_and_its_streams_are_apart() {
    let plane: Vec<(f32, f32)> = (0..60).map(|i| ((i * 7 % 41) as f32, (i * 11 % 53) as f32)).collect();
    let options = |seed, noise| FilterOptions {
        seed,
        noise,
        cost_limit: Some(10.0),
        outliers: Some(0.1),
        density: Some(Grid { cost_bins: 3, return_bins: 3, most: 5, least: 1 }),
        ..FilterOptions::default()
    };
    let run = |seed, noise| filter(columns(&plane), &options(seed, noise), &Watch::default()).unwrap().0;
    assert_eq!(run(1, Some(0.5)), run(1, Some(0.5)));
    assert_ne!(run(1, None).costs, run(2, None).costs);
    assert_eq!(run(1, None).costs, run(1, Some(0.5)).costs);
}

#[test]
fn bad_options_are_refused_by_name() {
    let base = FilterOptions { cost_limit: Some(10.0), ..FilterOptions::default() };
    let grid = Grid { cost_bins: 0, return_bins: 5, most: 5, least: 2 };
    let cases: [(&str, FilterOptions); 9] = [
        ("cost_limit: -1 is not allowed", FilterOptions { cost_limit: Some(-1.0), ..base.clone() }),
        ("outliers: 0 is not allowed", FilterOptions { outliers: Some(0.0), ..base.clone() }),
        ("outliers: NaN is not allowed", FilterOptions { outliers: Some(f64::NAN), ..base.clone() }),
        ("epsilon: inf is not allowed", FilterOptions { epsilon: Some(f64::INFINITY), ..base.clone() }),
        ("noise: -0.5 is not allowed", FilterOptions { noise: Some(-0.5), ..base.clone() }),
        ("inpaint: [0.5, 0.2", FilterOptions { inpaint: vec![[0.5, 0.2, 0.0, 1.0]], ..base.clone() }),
        ("density: 0 x 5 bins", FilterOptions { density: Some(grid), ..base.clone() }),
        ("epsilon: depends on which", FilterOptions { epsilon: Some(1.0), cost_limit: None, ..base.clone() }),
        ("is left after epsilon", FilterOptions { epsilon: Some(1e9), ..base }),
    ];
    for (text, options) in cases {
        let error = filter(columns(&[(0.0, 1.0)]), &options, &Watch::default()).unwrap_err();
        assert!(error.message.contains(text), "{error}");
    }
}
