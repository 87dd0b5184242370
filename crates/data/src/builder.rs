//! Columns that are filled block by block, in memory that is asked for once.

use crate::budget::refused;
use crate::columns::{Columns, COSTS, FURTHER};
use crate::error::{Error, Result};

/// Values of a column in memory that was asked for in advance.
trait Column {
    fn room(&self) -> usize;
    fn take(&mut self, values: &[f32]);
}

impl Column for Vec<f32> {
    fn room(&self) -> usize {
        self.capacity() - self.len()
    }

    fn take(&mut self, values: &[f32]) {
        self.extend_from_slice(values);
    }
}

impl Column for Vec<bool> {
    fn room(&self) -> usize {
        self.capacity() - self.len()
    }

    fn take(&mut self, values: &[f32]) {
        self.extend(values.iter().map(|&value| value != 0.0));
    }
}

/// A dataset under way.
#[derive(Debug)]
pub struct ColumnsBuilder {
    columns: Columns,
    bytes: usize,
}

impl ColumnsBuilder {
    /// Room for `rows` transitions of that shape; `costs` are names as [`Columns::with_costs`] takes them, none for the
    /// own costs.
    ///
    /// # Errors
    /// `Data` where the memory is not there.
    pub fn new(obs_dim: usize, act_dim: usize, rows: usize, costs: &[String], source: &str) -> Result<Self> {
        let signals = 1 + costs.len().max(1);
        let floats = obs_dim.saturating_mul(2).saturating_add(act_dim).saturating_add(signals);
        let bytes = floats.saturating_mul(size_of::<f32>()).saturating_add(2).saturating_mul(rows);
        let mut names = costs.iter().cloned();
        let cost_name = names.next().filter(|name| name != COSTS);
        let further = names.map(|name| (name, Vec::new())).collect();
        let source_name = source.to_owned();
        let mut columns = Columns { obs_dim, act_dim, cost_name, further, source: source_name, ..Columns::default() };
        if columns.reserve(rows).is_none() {
            return Err(refused(source, None, bytes as u64));
        }
        Ok(ColumnsBuilder { columns, bytes })
    }

    /// Bytes of the columns once they are full.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds values to the end of a column; a flag is any number but 0.
    ///
    /// # Errors
    /// `Data` for a name that is none and for more values than there is room for.
    pub fn push(&mut self, column: &str, values: &[f32]) -> Result<()> {
        let source = self.columns.source.clone();
        let wrong = |problem: &str| Error::data(&source, Some(column), problem, "give each column once, as it is");
        let c = &mut self.columns;
        let column: &mut dyn Column = match column {
            "observations" => &mut c.observations,
            "next_observations" => &mut c.next_observations,
            "actions" => &mut c.actions,
            "rewards" => &mut c.rewards,
            "costs" => &mut c.costs,
            "terminals" => &mut c.terminals,
            "timeouts" => &mut c.timeouts,
            name => match c.further.iter_mut().find(|(known, _)| name.strip_prefix(FURTHER) == Some(known)) {
                Some((_, values)) => values,
                None => return Err(wrong("is no column of the dataset")),
            },
        };
        if values.len() > column.room() {
            return Err(wrong(&format!("has room for {} values, {} were given", column.room(), values.len())));
        }
        column.take(values);
        Ok(())
    }

    /// The columns, checked as [`Columns::validate`] does.
    ///
    /// # Errors
    /// `Data`, naming the column and the value.
    pub fn finish(self) -> Result<Columns> {
        self.columns.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_make_the_columns_and_no_more_than_was_asked_for() {
        let mut builder = ColumnsBuilder::new(1, 2, 3, &[], "memory").unwrap();
        assert_eq!(builder.bytes(), 3 * (6 * 4 + 2));
        for values in [[0.0, 1.0].as_slice(), &[2.0]] {
            for column in ["observations", "next_observations", "rewards", "costs", "terminals", "timeouts"] {
                builder.push(column, values).unwrap();
            }
        }
        builder.push("actions", &[0.0; 6]).unwrap();
        let error = builder.push("actions", &[0.0; 200]).unwrap_err();
        assert!(error.message.contains("memory: actions: has room for"), "{error}");
        assert!(builder.push("speed", &[]).unwrap_err().message.contains("is no column"));
        let columns = builder.finish().unwrap();
        assert_eq!((columns.terminals, columns.costs), (vec![false, true, true], vec![0.0, 1.0, 2.0]));
    }

    #[test]
    fn further_columns_have_room_of_their_own() {
        let names = ["energy".to_owned(), "costs".to_owned()];
        let mut builder = ColumnsBuilder::new(1, 1, 1, &names, "memory").unwrap();
        assert_eq!(builder.bytes(), 6 * 4 + 2);
        for (column, value) in [("costs", 2.0), ("further/costs", 3.0), ("observations", 0.0), ("actions", 0.0)] {
            builder.push(column, &[value]).unwrap();
        }
        for column in ["next_observations", "rewards", "terminals", "timeouts"] {
            builder.push(column, &[0.0]).unwrap();
        }
        assert!(builder.push("further/energy", &[1.0]).is_err());
        let columns = builder.finish().unwrap();
        assert_eq!(
            (columns.cost_name(), columns.costs[0], columns.further("costs")),
            ("energy", 2.0, Some(&[3.0][..]))
        );
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        for rows in [usize::MAX, usize::MAX / 1000, 1 << 50] {
            let error = ColumnsBuilder::new(60, 2, rows, &[], "memory").unwrap_err();
            assert!(error.message.contains("of memory, which the system refused"), "{error}");
        }
        let error = ColumnsBuilder::new(1, 1, 1, &[], "memory").unwrap().finish().unwrap_err();
        assert!(error.message.contains("the dataset is empty"), "{error}");
    }
}
