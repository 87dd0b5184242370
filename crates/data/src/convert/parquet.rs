//! Parquet: scalars as plain columns, vectors as a list column or as several plain ones;
//! or an episode per row, as lists of lists.

mod footer;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{get_column_reader, ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;

use super::assemble::{Assembler, Block};
use super::csv::hash;
use super::episode::{self, Array};
use super::mapping::{Extra, Field, Mapping, Origin};
use super::BLOCK_ROWS;
use crate::budget::Budget;
use crate::error::{Error, Result};

pub(super) fn read(
    path: &Path,
    name: &str,
    budget: &Budget,
    mapping: &Mapping,
    out: &mut Assembler,
) -> Result<&'static str> {
    let file = File::open(path).map_err(|e| crate::hdf5::io_error(name, None, &e))?;
    let bytes = file.metadata().map_or(0, |m| m.len());
    // Pages are read by themselves: the readers of whole files bring those of single records into the addon.
    let metadata = &footer::read(&file, name, bytes, budget)?;
    let schema = metadata.file_metadata().schema_descr();
    let table: Vec<String> = schema.columns().iter().map(|c| name_of(c)).collect();
    let nested = schema.columns().iter().any(|c| c.max_rep_level() == 2 && number(c));
    let exists = |key: &str| table.iter().any(|name| name == key);
    let mut origins = Vec::new();
    for &field in mapping.fields() {
        let absent = mapping.absent(field, exists, nested);
        origins.push(match absent {
            Some(value) => Some(Origin::Constant(value)),
            // Rows of episodes may hold one observation more instead.
            None if nested && field == Field::NextObservations && !mapping.shift => mapping.columns(field, &table).ok(),
            None => Some(mapping.columns(field, &table)?),
        });
    }
    let (episode, time) = match nested {
        true => (None, None),
        false => (mapping.episode(&table)?, mapping.time(&table)?),
    };
    let parquet = Parquet { name, file: Arc::new(file), table: &table, origins, episode, time, mapping };
    let total = metadata.file_metadata().num_rows().max(1) as u64;
    let mut done = 0;
    for group in metadata.row_groups() {
        budget.check(name, None, parquet.memory(group, nested))?;
        let mut columns = parquet.open(group)?;
        let mut left = group.num_rows().max(0) as usize;
        while left > 0 {
            let rows = if nested { 1 } else { left.min(BLOCK_ROWS) };
            match nested {
                true => {
                    let (block, ended) = columns.episode()?;
                    out.push_episode(block, ended)?;
                }
                false => out.push(columns.block(rows)?)?,
            }
            left -= rows;
            done += rows as u64;
            out.progress((u128::from(bytes) * u128::from(done) / u128::from(total)) as u64)?;
        }
        columns.check_end()?;
    }
    Ok("parquet")
}

/// What is read of a file, whichever the row group.
struct Parquet<'a> {
    name: &'a str,
    file: Arc<File>,
    table: &'a [String],
    /// In the order of [`Mapping::fields`]; none for successors that are observations.
    origins: Vec<Option<Origin>>,
    episode: Option<Extra>,
    time: Option<Extra>,
    mapping: &'a Mapping<'a>,
}

impl Parquet<'_> {
    /// Bytes of a block: 4096 rows, or the largest episode there can be.
    fn memory(&self, group: &RowGroupMetaData, nested: bool) -> u64 {
        let rows = group.num_rows().max(1) as u64;
        let positions = self.origins.iter().flatten().filter_map(|origin| match origin {
            Origin::Columns(positions) => Some(positions),
            _ => None,
        });
        let values = positions.flatten().map(|&position| {
            let values = group.column(position).num_values().max(0) as u64;
            if nested {
                values
            } else {
                values.div_ceil(rows).saturating_mul(BLOCK_ROWS as u64)
            }
        });
        // A value, its two levels, and the value among those of its row.
        values.fold(0_u64, u64::saturating_add).saturating_mul(16)
    }

    fn open<'b>(&'b self, group: &RowGroupMetaData) -> Result<Columns<'b>> {
        let mut fields = Vec::new();
        for origin in &self.origins {
            let mut columns = Vec::new();
            if let Some(Origin::Columns(positions)) = origin {
                for &position in positions {
                    columns.push(self.column(group, position)?);
                }
            }
            fields.push(columns);
        }
        let extra = |extra: &Option<Extra>| -> Result<Option<(Extra, Column<'b>)>> {
            let Some(extra) = extra else { return Ok(None) };
            let position = self.table.iter().position(|column| *column == extra.name).unwrap_or_default();
            match self.extra(group, position) {
                Ok(column) => Ok(Some((extra.clone(), column))),
                Err(_) if !extra.asked => Ok(None),
                Err(error) => Err(error),
            }
        };
        Ok(Columns { parquet: self, fields, episode: extra(&self.episode)?, time: extra(&self.time)? })
    }

    fn column<'b>(&'b self, group: &RowGroupMetaData, position: usize) -> Result<Column<'b>> {
        let kind = group.column(position).column_descr();
        if !number(kind) || kind.max_rep_level() > 2 {
            let problem = format!("has the type {}", type_name(kind));
            let remedy = "store it as float, double, an integer or bool, or as a list of one of these";
            return Err(Error::data(self.name, Some(&self.table[position]), &problem, remedy));
        }
        self.reader(group, position)
    }

    fn extra<'b>(&'b self, group: &RowGroupMetaData, position: usize) -> Result<Column<'b>> {
        let kind = group.column(position).column_descr();
        let known = number(kind) || kind.physical_type() == Type::BYTE_ARRAY;
        if !known || kind.max_rep_level() > 0 {
            let problem = format!("has the type {}", type_name(kind));
            return Err(Error::data(
                self.name,
                Some(&self.table[position]),
                &problem,
                "name a column of numbers or texts",
            ));
        }
        self.reader(group, position)
    }

    fn reader<'b>(&'b self, group: &RowGroupMetaData, position: usize) -> Result<Column<'b>> {
        let name = &self.table[position];
        let rows = usize::try_from(group.num_rows()).unwrap_or_default();
        let pages = SerializedPageReader::new(Arc::clone(&self.file), group.column(position), rows, None);
        let pages = pages.map_err(|e| parquet_error(self.name, Some(name), &e))?;
        let reader = get_column_reader(group.column(position).column_descr_ptr(), Box::new(pages));
        let kind = group.column(position).column_descr();
        let seconds = match kind.logical_type_ref() {
            Some(LogicalType::Timestamp(kind)) => Some(match kind.unit {
                TimeUnit::MILLIS => 1e-3,
                TimeUnit::MICROS => 1e-6,
                TimeUnit::NANOS => 1e-9,
            }),
            Some(LogicalType::Date) => Some(86_400.0),
            _ => None,
        };
        let lists = kind.max_rep_level();
        let full = kind.max_def_level();
        Ok(Column { file: self.name, name, reader, lists, full, seconds, row: 0, dim: None })
    }
}

/// The columns of one row group, each at the next row to read.
struct Columns<'a> {
    parquet: &'a Parquet<'a>,
    fields: Vec<Vec<Column<'a>>>,
    episode: Option<(Extra, Column<'a>)>,
    time: Option<(Extra, Column<'a>)>,
}

impl Columns<'_> {
    fn block(&mut self, rows: usize) -> Result<Block> {
        let Parquet { name, origins, mapping, .. } = self.parquet;
        let mut block = Block::default();
        for (index, (&field, origin)) in mapping.fields().iter().zip(origins).enumerate() {
            let (dim, values) = match origin {
                Some(Origin::Columns(_)) => {
                    let missing = mapping.missing_cost.filter(|_| field == Field::Costs);
                    let parts = self.fields[index].iter_mut().map(|column| column.take(rows, missing));
                    // Each has `rows` rows.
                    super::join(parts.collect::<Result<Vec<_>>>()?).unwrap_or_default()
                }
                Some(Origin::Constant(value)) => (1, vec![*value; rows]),
                _ => (1, Vec::new()),
            };
            if dim != 1 && !field.is_vector() {
                let problem = format!("has {dim} entries a row, expected one");
                return Err(Error::data(name, Some(mapping.key(field)), &problem, "map it to a column of numbers"));
            }
            block.set(field, dim, values);
        }
        if let Some((extra, column)) = &mut self.episode {
            block.episodes = Some((extra.clone(), column.episodes(rows)?));
        }
        let times = self.time.as_mut().map(|(extra, column)| (extra.clone(), column.times(rows)));
        match times {
            Some((extra, Ok(values))) => block.times = Some((extra, values)),
            Some((extra, Err(error))) if extra.asked => return Err(error),
            Some(_) => self.time = None,
            None => {}
        }
        Ok(block)
    }

    /// A damaged footer may state fewer rows than there are.
    fn check_end(&mut self) -> Result<()> {
        let all = self.fields.iter_mut().flatten().chain(self.episode.iter_mut().map(|(_, column)| column));
        for column in all {
            if column.has_more()? {
                let problem = format!("has more rows than the {} of its row group", column.row);
                return Err(column.error(&problem, "write the file again"));
            }
        }
        Ok(())
    }

    /// The next row, which is an episode.
    fn episode(&mut self) -> Result<(Block, bool)> {
        let Parquet { name, origins, mapping, .. } = self.parquet;
        let fields = &mut self.fields;
        let get = |field: Field, steps: usize| -> Result<Array> {
            match &origins[field.index()] {
                Some(Origin::Columns(_)) => {
                    let parts = fields[field.index()].iter_mut().map(Column::take_list).collect::<Result<Vec<_>>>()?;
                    let joined = super::join(parts).filter(|(dim, _)| field.is_vector() || *dim == 1);
                    joined.ok_or_else(|| {
                        let problem = "is made of lists of unequal length, or of more entries than one a step";
                        Error::data(name, Some(mapping.key(field)), problem, "give each list one entry per step")
                    })
                }
                Some(Origin::Constant(value)) => Ok((1, vec![*value; steps])),
                _ => {
                    let problem = "is not there, and observations is not one row longer than actions";
                    let remedy = "map it, or have it taken from the next row with --shift";
                    Err(Error::data(name, Some(mapping.key(field)), problem, remedy))
                }
            }
        };
        episode::assemble(name, str::to_owned, mapping, get)
    }
}

/// True for a number that is one as stored: no decimal.
fn number(kind: &ColumnDescriptor) -> bool {
    let stored = matches!(kind.physical_type(), Type::BOOLEAN | Type::INT32 | Type::INT64 | Type::FLOAT | Type::DOUBLE);
    stored
        && !matches!(kind.logical_type_ref(), Some(LogicalType::Decimal { .. }))
        && kind.converted_type() != ConvertedType::DECIMAL
}

/// A list column is called as its outermost part: `observations` for `observations.list.element`.
fn name_of(column: &ColumnDescriptor) -> String {
    let parts = column.path().parts();
    let lists = 2 * column.max_rep_level().max(0) as usize;
    parts[..parts.len().saturating_sub(lists).max(1)].join("/")
}

struct Column<'a> {
    file: &'a str,
    name: &'a str,
    reader: ColumnReader,
    /// How deep lists are nested in a row: 0 for a number.
    lists: i16,
    /// The definition level of a value that is there.
    full: i16,
    /// Unit of a time, if the type states one.
    seconds: Option<f64>,
    /// Rows read so far, in this row group.
    row: usize,
    /// Entries of a list, once one was read.
    dim: Option<usize>,
}

impl Column<'_> {
    fn error(&self, problem: &str, remedy: &str) -> Error {
        Error::data(self.file, Some(self.name), problem, remedy)
    }

    fn numbers(&mut self, rows: usize) -> Result<Levels<f32>> {
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
        self.rows_there(rows, levels.records)?;
        Ok(levels)
    }

    fn has_more(&mut self) -> Result<bool> {
        let mut levels = Levels::<()>::default();
        let read = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => levels.fill(reader, 1, drop),
            ColumnReader::Int32ColumnReader(reader) => levels.fill(reader, 1, drop),
            ColumnReader::Int64ColumnReader(reader) => levels.fill(reader, 1, drop),
            ColumnReader::FloatColumnReader(reader) => levels.fill(reader, 1, drop),
            ColumnReader::DoubleColumnReader(reader) => levels.fill(reader, 1, drop),
            ColumnReader::ByteArrayColumnReader(reader) => levels.fill(reader, 1, drop),
            _ => Ok(()),
        };
        read.map_err(|e| parquet_error(self.file, Some(self.name), &e))?;
        Ok(levels.count > 0)
    }

    /// Numbers or names of episodes; texts by their hash.
    fn episodes(&mut self, rows: usize) -> Result<Vec<u64>> {
        let mut levels = Levels::default();
        let read = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => levels.fill(reader, rows, u64::from),
            ColumnReader::Int32ColumnReader(reader) => levels.fill(reader, rows, |v| v as u64),
            ColumnReader::Int64ColumnReader(reader) => levels.fill(reader, rows, |v| v as u64),
            ColumnReader::FloatColumnReader(reader) => levels.fill(reader, rows, |v| f64::from(v).to_bits()),
            ColumnReader::DoubleColumnReader(reader) => levels.fill(reader, rows, f64::to_bits),
            ColumnReader::ByteArrayColumnReader(reader) => levels.fill(reader, rows, |v| hash(v.data())),
            _ => Ok(()),
        };
        read.map_err(|e| parquet_error(self.file, Some(self.name), &e))?;
        self.rows_there(rows, levels.records)?;
        self.complete(rows, levels)
    }

    /// Times in seconds.
    fn times(&mut self, rows: usize) -> Result<Vec<f64>> {
        let mut levels = Levels::default();
        let read = match &mut self.reader {
            ColumnReader::Int32ColumnReader(reader) => levels.fill(reader, rows, |v| Some(f64::from(v))),
            ColumnReader::Int64ColumnReader(reader) => levels.fill(reader, rows, |v| Some(v as f64)),
            ColumnReader::FloatColumnReader(reader) => levels.fill(reader, rows, |v| Some(f64::from(v))),
            ColumnReader::DoubleColumnReader(reader) => levels.fill(reader, rows, Some),
            ColumnReader::ByteArrayColumnReader(reader) => {
                levels.fill(reader, rows, |v| super::time::parse(std::str::from_utf8(v.data()).ok()?))
            }
            _ => Ok(()),
        };
        read.map_err(|e| parquet_error(self.file, Some(self.name), &e))?;
        self.rows_there(rows, levels.records)?;
        let first = self.row - rows;
        let times = self.complete(rows, levels)?.into_iter().enumerate();
        let mut times: Vec<f64> = times
            .map(|(row, time)| {
                let problem = || format!("row {} of its row group is no time", first + row);
                time.ok_or_else(|| self.error(&problem(), "write times as timestamps, numbers or ISO 8601"))
            })
            .collect::<Result<_>>()?;
        match self.seconds {
            Some(unit) => times.iter_mut().for_each(|t| *t *= unit),
            None => super::time::to_seconds(&mut times),
        }
        Ok(times)
    }

    fn rows_there(&mut self, rows: usize, records: usize) -> Result<()> {
        if records < rows {
            let problem = format!("ends after {} rows of its row group", self.row + records);
            return Err(self.error(&problem, "write the file again"));
        }
        self.row += rows;
        Ok(())
    }

    /// The values, of which none may be null.
    fn complete<O>(&self, rows: usize, levels: Levels<O>) -> Result<Vec<O>> {
        if levels.values.len() < levels.count {
            let problem = format!("has a null or an empty list among the rows {} to {}", self.row - rows, self.row - 1);
            return Err(self.error(&problem, "fill or remove those rows"));
        }
        Ok(levels.values)
    }

    /// Entries per row, and the next `rows` rows. `missing` stands for nulls.
    fn take(&mut self, rows: usize, missing: Option<f32>) -> Result<Array> {
        if self.lists > 1 {
            return Err(self
                .error("holds lists of lists, other columns do not", "give all columns an episode per row, or none"));
        }
        let mut levels = self.numbers(rows)?;
        if let (Some(value), 0, true) = (missing, self.lists, levels.values.len() < levels.count) {
            levels.fill_nulls(self.full, value);
        }
        let starts: Vec<usize> = (0..levels.repetition.len()).filter(|&i| levels.repetition[i] == 0).collect();
        let ends: Vec<usize> = starts.iter().skip(1).copied().chain([levels.repetition.len()]).collect();
        let values = self.complete(rows, levels)?;
        if self.lists == 0 {
            return Ok((1, values));
        }
        for (row, (start, end)) in starts.into_iter().zip(ends).enumerate() {
            let dim = *self.dim.get_or_insert(end - start);
            if end - start != dim {
                let row = self.row - rows + row;
                let problem = format!("row {row} of its row group has {} entries, {dim} before", end - start);
                return Err(self.error(&problem, "give all rows the same shape"));
            }
        }
        Ok((self.dim.unwrap_or(1), values))
    }

    /// The next row, a list of numbers or of lists: an array of a row per entry.
    fn take_list(&mut self) -> Result<Array> {
        if self.lists == 0 {
            return Err(self.error(
                "has one number per row, other columns a list of lists",
                "give it a list with an entry per step",
            ));
        }
        let levels = self.numbers(1)?;
        let starts: Vec<usize> = (0..levels.repetition.len()).filter(|&i| levels.repetition[i] < 2).collect();
        let ends: Vec<usize> = starts.iter().skip(1).copied().chain([levels.repetition.len()]).collect();
        let values = self.complete(1, levels)?;
        if self.lists == 1 {
            return Ok((1, values));
        }
        for (start, end) in starts.into_iter().zip(ends) {
            let dim = *self.dim.get_or_insert(end - start);
            if end - start != dim {
                let problem =
                    format!("row {} of its row group has lists of {} and of {dim} entries", self.row - 1, end - start);
                return Err(self.error(&problem, "give all observations, and all actions, the same shape"));
            }
        }
        Ok((self.dim.unwrap_or(1), values))
    }
}

/// Values with what tells rows and nulls apart.
struct Levels<O> {
    values: Vec<O>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
    records: usize,
    /// Values, nulls included.
    count: usize,
}

impl<O> Default for Levels<O> {
    fn default() -> Self {
        Levels { values: Vec::new(), definition: Vec::new(), repetition: Vec::new(), records: 0, count: 0 }
    }
}

impl<O> Levels<O> {
    fn fill<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        rows: usize,
        narrow: fn(T::T) -> O,
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
        if self.values.try_reserve(values.len()).is_err() {
            return Err(ParquetError::General(format!("no memory for {} values", values.len())));
        }
        self.values.extend(values.into_iter().map(narrow));
        Ok(())
    }
}

impl Levels<f32> {
    /// `value` where the definition level tells a null.
    fn fill_nulls(&mut self, full: i16, value: f32) {
        let mut there = std::mem::take(&mut self.values).into_iter();
        self.values = self
            .definition
            .iter()
            .map(|&level| if level == full { there.next() } else { None }.unwrap_or(value))
            .collect();
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
