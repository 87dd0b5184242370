//! CSV with a header line.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::assemble::{Assembler, Block};
use super::mapping::{Extra, Field, Mapping, Origin};
use super::BLOCK_ROWS;
use crate::budget::{refused, Budget};
use crate::error::{Error, Result};

pub(super) fn read(
    path: &Path,
    name: &str,
    budget: &Budget,
    mapping: &Mapping,
    out: &mut Assembler,
) -> Result<&'static str> {
    let bad = |e: csv::Error| csv_error(name, &e);
    let delimiter = delimiter(path, name)?;
    let mut reader = ReaderBuilder::new().delimiter(delimiter).trim(Trim::All).from_path(path).map_err(bad)?;
    let table: Vec<String> = reader.headers().map_err(bad)?.iter().map(str::to_owned).collect();
    budget.check(name, None, (table.len() as u64).saturating_mul(4 * BLOCK_ROWS as u64))?;
    let mut origins = Vec::new();
    for &field in mapping.fields() {
        origins.push(mapping.columns(field, &table)?);
    }
    let cells = Cells {
        name,
        table: &table,
        // Where a semicolon separates, a comma is the decimal point of half of the world.
        comma: delimiter == b';',
        missing_cost: mapping.missing_cost,
    };
    let position = |extra: &Extra| table.iter().position(|column| *column == extra.name).unwrap_or_default();
    let episode = mapping.episode(&table)?.map(|extra| (position(&extra), extra));
    let mut time = mapping.time(&table)?.map(|extra| (position(&extra), extra));
    let mut record = StringRecord::new();
    loop {
        let mut block = empty(&origins, name)?;
        let (mut numbers, mut times) = (Vec::new(), Vec::new());
        let mut rows = 0;
        while rows < BLOCK_ROWS && reader.read_record(&mut record).map_err(bad)? {
            rows += 1;
            for (&field, origin) in mapping.fields().iter().zip(&origins) {
                let values = &mut block.values[field.index()];
                match origin {
                    Origin::Columns(positions) => {
                        for &position in positions {
                            values.push(cells.number(field, &record, position)?);
                        }
                    }
                    Origin::Constant(value) => values.push(*value),
                    Origin::NextRow => {}
                }
            }
            if let Some((position, _)) = &episode {
                numbers.push(cells.episode(&record, *position)?);
            }
            if let Some((position, extra)) = &time {
                match cells.time(&record, *position) {
                    Ok(seconds) => times.push(seconds),
                    Err(error) if extra.asked => return Err(error),
                    Err(_) => time = None,
                }
            }
        }
        out.progress(reader.position().byte())?;
        if rows == 0 {
            return Ok("csv");
        }
        block.episodes = episode.as_ref().map(|(_, extra)| (extra.clone(), numbers));
        block.times = time.as_ref().map(|(_, extra)| (extra.clone(), times));
        out.push(block)?;
    }
}

/// The most frequent of comma, tab and semicolon in the header line.
fn delimiter(path: &Path, name: &str) -> Result<u8> {
    /// A header line of this many bytes names thousands of columns.
    const HEADER_BYTES: u64 = 1 << 20;
    let failed = |e: std::io::Error| crate::hdf5::io_error(name, None, &e);
    let mut line = Vec::new();
    let file = std::io::Read::take(File::open(path).map_err(failed)?, HEADER_BYTES);
    BufReader::new(file).read_until(b'\n', &mut line).map_err(failed)?;
    let count = |delimiter: u8| line.iter().filter(|&&byte| byte == delimiter).count();
    // The last of equals wins: a comma, where there is a single column.
    Ok([b';', b'\t', b','].into_iter().max_by_key(|&delimiter| count(delimiter)).unwrap_or(b','))
}

/// A block with room for all its rows, so that none of their numbers is one too many.
fn empty(columns: &[Origin], name: &str) -> Result<Block> {
    let mut block = Block::default();
    for origin in columns {
        let (entries, stored) = match origin {
            Origin::Columns(positions) => (positions.len(), positions.len()),
            Origin::Constant(_) => (1, 1),
            Origin::NextRow => (1, 0),
        };
        let mut values = Vec::new();
        let bytes = (BLOCK_ROWS * stored * size_of::<f32>()) as u64;
        values.try_reserve(BLOCK_ROWS * stored).map_err(|_| refused(name, None, bytes))?;
        block.values.push(values);
        block.dims.push(entries);
    }
    Ok(block)
}

struct Cells<'a> {
    name: &'a str,
    table: &'a [String],
    comma: bool,
    missing_cost: Option<f32>,
}

impl Cells<'_> {
    fn number(&self, field: Field, record: &StringRecord, position: usize) -> Result<f32> {
        let text = record.get(position).unwrap_or_default();
        if let (Field::Costs, "" | "nan" | "NaN" | "None" | "null", Some(value)) = (field, text, self.missing_cost) {
            return Ok(value);
        }
        // An array of one number, as pandas writes it.
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).trim();
        let value = match inner {
            "true" | "True" | "TRUE" => 1.0,
            "false" | "False" | "FALSE" => 0.0,
            _ => match inner.parse::<f64>() {
                Err(_) if self.comma => inner.replacen(',', ".", 1).parse::<f64>(),
                parsed => parsed,
            }
            .map_or(f32::NAN, |v| v as f32),
        };
        if value.is_finite() {
            return Ok(value);
        }
        let is_list = inner.len() < text.len() && inner.contains([' ', ',']);
        let (wanted, remedy) = match is_list {
            true => ("not one number but a list", "write a column for each entry (obs_0, obs_1, ..), or Parquet"),
            false => ("not a finite float32", "remove or repair that line"),
        };
        Err(self.error(record, position, wanted, remedy))
    }

    /// Texts are told apart by their hash: 64 bits, so that two never meet.
    fn episode(&self, record: &StringRecord, position: usize) -> Result<u64> {
        let text = record.get(position).unwrap_or_default();
        if text.is_empty() {
            return Err(self.error(record, position, "no number or name of an episode", "fill or remove that line"));
        }
        Ok(hash(text.as_bytes()))
    }

    fn time(&self, record: &StringRecord, position: usize) -> Result<f64> {
        let text = record.get(position).unwrap_or_default();
        super::time::parse(text).ok_or_else(|| {
            let remedy = "write times as numbers or as ISO 8601 (2026-01-31 12:00:00)";
            self.error(record, position, "no time", remedy)
        })
    }

    fn error(&self, record: &StringRecord, position: usize, wanted: &str, remedy: &str) -> Error {
        let line = record.position().map_or(0, csv::Position::line);
        let text: String = record.get(position).unwrap_or_default().chars().take(60).collect();
        let problem = format!("line {line} is \"{text}\", {wanted}");
        Error::data(self.name, Some(&self.table[position]), &problem, remedy)
    }
}

/// Of an episode's name; the same on every machine.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn csv_error(name: &str, error: &csv::Error) -> Error {
    if let csv::ErrorKind::Io(error) = error.kind() {
        return crate::hdf5::io_error(name, None, error);
    }
    let text = error.to_string();
    let problem = text.strip_prefix("CSV error: ").unwrap_or(&text);
    Error::data(name, None, problem, "repair that line")
}
