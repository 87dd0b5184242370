//! What tests of whole runs share: a small dataset, a run of few small steps for any algorithm, a folder.

use drcorl_data::Columns;
use drcorl_nn::rng::Rng;
use serde_json::{json, Map, Value};
use std::path::PathBuf;

/// 400 transitions of three observations and two actions in episodes of 40, every other one ended by a terminal.
pub fn columns() -> Columns {
    let mut rng = Rng::new(21, 0);
    let mut columns = Columns { obs_dim: 3, act_dim: 2, source: "toy".into(), ..Columns::default() };
    for row in 0..400 {
        let mut draw = |n: usize| (0..n).map(|_| 2.0 * rng.unit() - 1.0).collect::<Vec<f32>>();
        columns.observations.extend(draw(3));
        columns.next_observations.extend(draw(3));
        columns.actions.extend(draw(2));
        columns.rewards.extend(draw(1));
        columns.costs.push(f32::from(u8::from(row % 7 == 0)));
        columns.terminals.push(row % 40 == 39 && row % 80 == 79);
        columns.timeouts.push(row % 40 == 39);
    }
    columns
}

/// Values of the parameters of `schema` that make `steps` small steps a phase, by the endings of their names.
pub fn shrunk(schema: &Value, steps: u64, batch: u64) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, property) in schema["properties"].as_object().unwrap() {
        let default = &property["default"];
        let small = match key.as_str() {
            _ if key.ends_with("_steps") && default.as_u64().is_some_and(|steps| steps > 0) => json!(steps),
            _ if key.ends_with("_hidden") && default.is_array() => json!([16, 16]),
            _ if key.ends_with("_hidden") => json!(16),
            _ if key.ends_with("batch") || key.ends_with("batch_size") => json!(batch),
            "horizon" => json!(8),
            "noise_levels" => json!(3),
            "candidates" | "plans" => json!(2),
            _ => continue,
        };
        out.insert(key.clone(), small);
    }
    out
}

/// A folder of this process.
pub fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("drcorl-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
