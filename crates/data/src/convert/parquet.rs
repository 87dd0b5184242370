//! Parquet: scalars as plain columns, vectors as a list column or as several plain ones.

use std::fs::File;
use std::path::Path;

use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::assemble::{Assembler, Block};
use super::mapping::{Mapping, Origin, FIELDS};
use super::BLOCK_ROWS;
use crate::error::{Error, Result};

pub(super) fn read(path: &Path, name: &str, mapping: &Mapping, out: &mut Assembler) -> Result<&'static str> {
    let file = File::open(path).map_err(|e| crate::hdf5::io_error(name, None, &e))?;
    let bytes = file.metadata().map_or(0, |m| m.len());
    let reader = SerializedFileReader::new(file).map_err(|e| parquet_error(name, None, &e))?;
    let metadata = reader.metadata();
    let table: Vec<String> = metadata.file_metadata().schema_descr().columns().iter().map(|c| name_of(c)).collect();
    let mut origins = Vec::new();
    for field in FIELDS {
        origins.push(mapping.columns(field, &table)?);
    }
    let total = metadata.file_metadata().num_rows().max(1) as u64;
    let mut done = 0;
    for group in 0..metadata.num_row_groups() {
        let group = reader.get_row_group(group).map_err(|e| parquet_error(name, None, &e))?;
        let mut fields = Vec::new();
        for origin in &origins {
            let Origin::Columns(positions) = origin else {
                fields.push(Vec::new());
                continue;
            };
            let mut columns = Vec::new();
            for &position in positions {
                let reader = group.get_column_reader(position);
                let reader = reader.map_err(|e| parquet_error(name, Some(&table[position]), &e))?;
                let descriptor = group.metadata().column(position).column_descr();
                columns.push(Column::new(name, &table[position], descriptor, reader)?);
            }
            fields.push(columns);
        }
        let mut left = group.metadata().num_rows().max(0) as usize;
        while left > 0 {
            let rows = left.min(BLOCK_ROWS);
            let mut block = Block::default();
            for (index, (field, origin)) in FIELDS.into_iter().zip(&origins).enumerate() {
                let (dim, values) = match origin {
                    Origin::Columns(_) => join(&mut fields[index], rows)?,
                    Origin::Constant(value) => (1, vec![*value; rows]),
                    Origin::NextRow => (1, Vec::new()),
                };
                if dim != 1 && !field.is_vector() {
                    let problem = format!("has {dim} entries a row, expected one");
                    return Err(Error::data(name, Some(field.key()), &problem, "map it to a column of numbers"));
                }
                block.set(field, dim, values);
            }
            out.push(block)?;
            left -= rows;
            done += rows as u64;
            out.progress((u128::from(bytes) * u128::from(done) / u128::from(total)) as u64)?;
        }
    }
    Ok("parquet")
}

/// A list column is called as its outermost part: `observations` for `observations.list.element`.
fn name_of(column: &ColumnDescriptor) -> String {
    let parts = column.path().parts();
    let named = if column.max_rep_level() > 0 { parts.len().saturating_sub(2).max(1) } else { parts.len() };
    parts[..named].join("/")
}

/// Rows of several columns side by side.
fn join(columns: &mut [Column], rows: usize) -> Result<(usize, Vec<f32>)> {
    let mut parts = Vec::new();
    for column in columns {
        parts.push(column.take(rows)?);
    }
    if let [_] = parts.as_slice() {
        return Ok(parts.remove(0));
    }
    let dim = parts.iter().map(|(dim, _)| dim).sum();
    let row = |row: usize| parts.iter().flat_map(move |(dim, values)| &values[row * dim..(row + 1) * dim]);
    Ok((dim, (0..rows).flat_map(row).copied().collect()))
}

struct Column<'a> {
    file: &'a str,
    name: &'a str,
    reader: ColumnReader,
    list: bool,
    /// Rows read so far, in this row group.
    row: usize,
    /// Entries of a list, once one was read.
    dim: Option<usize>,
}

impl<'a> Column<'a> {
    fn new(file: &'a str, name: &'a str, kind: &ColumnDescriptor, reader: ColumnReader) -> Result<Self> {
        let number =
            matches!(kind.physical_type(), Type::BOOLEAN | Type::INT32 | Type::INT64 | Type::FLOAT | Type::DOUBLE);
        let plain = !matches!(kind.logical_type_ref(), Some(LogicalType::Decimal { .. }))
            && kind.converted_type() != ConvertedType::DECIMAL;
        if !number || !plain || kind.max_rep_level() > 1 {
            let problem = format!("has the type {}", type_name(kind));
            let remedy = "store it as float, double, an integer or bool, or as a list of one of these";
            return Err(Error::data(file, Some(name), &problem, remedy));
        }
        Ok(Column { file, name, reader, list: kind.max_rep_level() == 1, row: 0, dim: None })
    }

    /// Entries per row, and the next `rows` rows.
    fn take(&mut self, rows: usize) -> Result<(usize, Vec<f32>)> {
        let mut levels = Levels::default();
        let read = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => levels.fill(reader, rows, |v| f32::from(u8::from(v))),
            ColumnReader::Int32ColumnReader(reader) => levels.fill(reader, rows, |v| v as f32),
            ColumnReader::Int64ColumnReader(reader) => levels.fill(reader, rows, |v| v as f32),
            ColumnReader::FloatColumnReader(reader) => levels.fill(reader, rows, |v| v),
            ColumnReader::DoubleColumnReader(reader) => levels.fill(reader, rows, |v| v as f32),
            _ => Ok(()),
        };
        read.map_err(|e| parquet_error(self.file, Some(self.name), &e))?;
        let dim = self.check(rows, &levels)?;
        self.row += rows;
        Ok((dim, levels.values))
    }

    fn check(&mut self, rows: usize, levels: &Levels) -> Result<usize> {
        let error = |problem: &str, remedy: &str| Error::data(self.file, Some(self.name), problem, remedy);
        if levels.records < rows {
            let problem = format!("ends after {} rows of its row group", self.row + levels.records);
            return Err(error(&problem, "write the file again"));
        }
        if levels.values.len() < levels.count {
            let problem = format!("has a null or an empty list among the rows {} to {}", self.row, self.row + rows - 1);
            return Err(error(&problem, "fill or remove those rows"));
        }
        if !self.list {
            return Ok(1);
        }
        let starts: Vec<usize> = (0..levels.repetition.len()).filter(|&i| levels.repetition[i] == 0).collect();
        let ends = starts.iter().skip(1).copied().chain([levels.repetition.len()]);
        for (row, (start, end)) in starts.iter().zip(ends).enumerate() {
            let dim = *self.dim.get_or_insert(end - start);
            if end - start != dim {
                let problem =
                    format!("row {} of its row group has {} entries, {dim} before", self.row + row, end - start);
                return Err(error(&problem, "give all rows the same shape"));
            }
        }
        Ok(self.dim.unwrap_or(1))
    }
}

/// Values with what tells rows and nulls apart.
#[derive(Default)]
struct Levels {
    values: Vec<f32>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
    records: usize,
    /// Values, nulls included.
    count: usize,
}

impl Levels {
    fn fill<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        rows: usize,
        narrow: fn(T::T) -> f32,
    ) -> std::result::Result<(), ParquetError> {
        let mut values: Vec<T::T> = Vec::new();
        while self.records < rows {
            let (definition, repetition) = (&mut self.definition, &mut self.repetition);
            let (records, _, levels) =
                reader.read_records(rows - self.records, Some(definition), Some(repetition), &mut values)?;
            if records == 0 && levels == 0 {
                break;
            }
            self.records += records;
            self.count += levels;
        }
        self.values.extend(values.into_iter().map(narrow));
        Ok(())
    }
}

fn type_name(kind: &ColumnDescriptor) -> String {
    let logical = kind.logical_type_ref().map(|logical| format!(" ({logical:?})"));
    format!("{}{}", kind.physical_type(), logical.unwrap_or_default())
}

fn parquet_error(file: &str, column: Option<&str>, error: &ParquetError) -> Error {
    let text = error.to_string();
    let text = text.strip_prefix("Parquet error: ").unwrap_or(&text);
    let remedy = "write it again, compressed with snappy, gzip, zstd or not at all";
    Error::data(file, column, &format!("cannot be read: {text}"), remedy)
}
