//! The footer of a Parquet file: where its columns lie. The library's own reader of footers brings the decoder of page
//! indexes into the addon, which nothing here asks for.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use parquet::file::metadata::{ColumnChunkMetaData, FooterTail, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::FOOTER_SIZE;

use super::parquet_error;
use crate::budget::Budget;
use crate::error::{Error, Result};

/// The metadata of `file` of `bytes`.
///
/// Errs with `Data` where the footer is cut off, encrypted, damaged, or larger than `budget`.
pub(super) fn read(file: &File, name: &str, bytes: u64, budget: &Budget) -> Result<ParquetMetaData> {
    let damaged = |problem: &str| Error::data(name, None, problem, "write the file again");
    let io = |e: io::Error| crate::hdf5::io_error(name, None, &e);
    let mut tail = [0; FOOTER_SIZE];
    let Some(end) = bytes.checked_sub(FOOTER_SIZE as u64) else {
        return Err(damaged("is too short for a Parquet file"));
    };
    read_at(file, end, &mut tail).map_err(io)?;
    let tail = FooterTail::try_new(&tail).map_err(|e| parquet_error(name, None, &e))?;
    if tail.is_encrypted_footer() {
        return Err(Error::data(name, None, "is encrypted", "write it without encryption"));
    }
    let Some(start) = end.checked_sub(tail.metadata_length() as u64) else {
        return Err(damaged("has a damaged footer: it states more bytes than the file has"));
    };
    let length = tail.metadata_length();
    budget.check(name, None, length as u64)?;
    let mut footer = Vec::new();
    footer.try_reserve_exact(length).map_err(|_| budget.refused(name, None, length as u64))?;
    footer.resize(length, 0);
    read_at(file, start, &mut footer).map_err(io)?;
    let metadata = ParquetMetaDataReader::decode_metadata(&footer).map_err(|e| parquet_error(name, None, &e))?;
    check(&metadata).map_err(damaged)?;
    Ok(metadata)
}

fn read_at(mut file: &File, place: u64, into: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(into)
}

/// Counts and places that a damaged footer states; no checksum covers it, and the decoder panics at some.
fn check(metadata: &ParquetMetaData) -> std::result::Result<(), &'static str> {
    let groups = metadata.row_groups();
    let rows = groups.iter().try_fold(0_i64, |sum, group| sum.checked_add(group.num_rows()));
    if rows != Some(metadata.file_metadata().num_rows()) {
        return Err("has a damaged footer: it states another number of rows than its row groups");
    }
    let numbers = |column: &ColumnChunkMetaData| {
        let places =
            [column.data_page_offset(), column.dictionary_page_offset().unwrap_or(0), column.compressed_size()];
        places.into_iter().chain([column.num_values(), column.uncompressed_size()]).all(|number| number >= 0)
    };
    if !groups.iter().all(|group| group.num_rows() >= 0 && group.columns().iter().all(numbers)) {
        return Err("has a damaged footer: it states negative numbers");
    }
    Ok(())
}
