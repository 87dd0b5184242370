//! What Minari says about a dataset beside its arrays.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// Spaces whose elements are names, not amounts.
const DISCRETE: [&str; 3] = ["Discrete", "MultiDiscrete", "MultiBinary"];

/// Refuses a dataset whose `metadata.json`, beside the file, states an action space that is not continuous.
pub(super) fn check_spaces(path: &Path, name: &str) -> Result<()> {
    let Some(metadata) = path.parent().and_then(|folder| std::fs::read(folder.join("metadata.json")).ok()) else {
        return Ok(());
    };
    let parsed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let space = parsed(&metadata).and_then(|v| parsed(v.get("action_space")?.as_str()?.as_bytes()));
    let Some(space) = space else { return Ok(()) };
    let kind = space.get("type").and_then(Value::as_str).unwrap_or_default();
    if !DISCRETE.contains(&kind) {
        return Ok(());
    }
    let size = space.get("n").or(space.get("nvec")).map_or(String::new(), |n| format!("({n})"));
    let problem = format!(
        "the action space is {kind}{size} by metadata.json: its numbers are names of choices, and policies here give amounts"
    );
    let remedy = "record with a Box action space; if the numbers are amounts all the same, convert a copy of the file without its metadata.json";
    Err(Error::data(name, Some("actions"), &problem, remedy))
}
