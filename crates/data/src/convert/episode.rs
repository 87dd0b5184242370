//! An episode that comes as one piece: a group of Minari's HDF5, or a row of lists.

use super::assemble::Block;
use super::mapping::{Field, Mapping};
use crate::error::{Error, Result};

/// Entries per row, and all values.
pub(super) type Array = (usize, Vec<f32>);

/// T steps: T or T + 1 observations, T or T + 1 costs of any name (the first is that of the reset), T of the rest. True
/// if it had no end flag: a recording that was cut off ends here all the same.
///
/// `get` reads a field; `rows` is T once it is known. `path` names a field in errors.
pub(super) fn assemble(
    file: &str,
    path: impl Fn(&str) -> String,
    mapping: &Mapping,
    mut get: impl FnMut(Field, usize) -> Result<Array>,
) -> Result<(Block, bool)> {
    let (mut block, shift) = (Block::default(), mapping.shift);
    let (act_dim, actions) = get(Field::Actions, 0)?;
    let rows = actions.len() / act_dim.max(1);
    block.set(Field::Actions, act_dim, actions);
    let (obs_dim, mut observations) = get(Field::Observations, 0)?;
    let states = observations.len() / obs_dim.max(1);
    if states == rows + 1 && !shift {
        block.set(Field::NextObservations, obs_dim, observations[obs_dim..].to_vec());
        observations.truncate(rows * obs_dim);
    } else if !shift {
        let (dim, values) = get(Field::NextObservations, 0)?;
        block.set(Field::NextObservations, dim, values);
    }
    block.set(Field::Observations, obs_dim, observations);
    for &field in mapping.fields().iter().filter(|field| !field.is_vector()) {
        let (dim, mut values) = get(field, rows)?;
        if matches!(field, Field::Costs | Field::Further(_)) && values.len() == rows + 1 {
            values.remove(0);
        }
        block.set(field, dim, values);
    }
    for &field in mapping.fields() {
        let (values, dim) = block.get(field);
        if values.len() != rows * dim && !(shift && field == Field::NextObservations) {
            let problem = format!("has {} rows, actions has {rows}", values.len() / dim.max(1));
            let remedy = "give one row per step (observations one more, or --shift)";
            return Err(Error::data(file, Some(&path(mapping.key(field))), &problem, remedy));
        }
    }
    let ends = [Field::Terminals, Field::Timeouts].map(|field| block.get(field).0.last() == Some(&1.0));
    let ended = rows > 0 && ends == [false, false];
    if ended {
        block.values[Field::Timeouts.index()][rows - 1] = 1.0;
    }
    Ok((block, ended))
}
