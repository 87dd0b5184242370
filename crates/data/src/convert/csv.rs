//! CSV with a header line.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::assemble::{Assembler, Block};
use super::mapping::{Mapping, Origin, FIELDS};
use super::BLOCK_ROWS;
use crate::error::{Error, Result};

pub(super) fn read(
    path: &Path,
    name: &str,
    delimiter: u8,
    mapping: &Mapping,
    out: &mut Assembler,
) -> Result<&'static str> {
    let bad = |e: csv::Error| csv_error(name, &e);
    let mut reader = ReaderBuilder::new().delimiter(delimiter).trim(Trim::All).from_path(path).map_err(bad)?;
    let table: Vec<String> = reader.headers().map_err(bad)?.iter().map(str::to_owned).collect();
    let origins = FIELDS.map(|field| mapping.columns(field, &table));
    let mut columns = Vec::new();
    for origin in origins {
        columns.push(origin?);
    }
    let mut record = StringRecord::new();
    loop {
        let mut block = empty(&columns);
        let mut rows = 0;
        while rows < BLOCK_ROWS && reader.read_record(&mut record).map_err(bad)? {
            rows += 1;
            for (field, origin) in columns.iter().enumerate() {
                match origin {
                    Origin::Columns(positions) => {
                        for &position in positions {
                            block.values[field].push(number(name, &table[position], &record, position)?);
                        }
                    }
                    Origin::Constant(value) => block.values[field].push(*value),
                    Origin::NextRow => {}
                }
            }
        }
        out.progress(reader.position().byte())?;
        if rows == 0 {
            return Ok("csv");
        }
        out.push(block)?;
    }
}

fn empty(columns: &[Origin]) -> Block {
    let mut block = Block::default();
    for (dim, origin) in block.dims.iter_mut().zip(columns) {
        *dim = match origin {
            Origin::Columns(positions) => positions.len(),
            _ => 1,
        };
    }
    block
}

fn number(name: &str, column: &str, record: &StringRecord, position: usize) -> Result<f32> {
    let text = record.get(position).unwrap_or_default();
    let value = match text {
        "true" | "True" | "TRUE" => 1.0,
        "false" | "False" | "FALSE" => 0.0,
        _ => text.parse::<f64>().map_or(f32::NAN, |v| v as f32),
    };
    if value.is_finite() {
        return Ok(value);
    }
    let line = record.position().map_or(0, csv::Position::line);
    let problem = format!("line {line} is \"{text}\", not a finite float32");
    Err(Error::data(name, Some(column), &problem, "remove or repair that line"))
}

fn csv_error(name: &str, error: &csv::Error) -> Error {
    if let csv::ErrorKind::Io(error) = error.kind() {
        return crate::hdf5::io_error(name, None, error);
    }
    let text = error.to_string();
    let problem = text.strip_prefix("CSV error: ").unwrap_or(&text);
    Error::data(name, None, problem, "repair that line")
}
