//! The raw bytes of a dataset, put together from its chunks.
//!
//! `hdf5-reader` does this too, but element by element with checked arithmetic: 55 % of the time to read a DSRL file,
//! whose chunks are one or two columns wide. Here whole runs are copied.

use std::ops::Range;

use hdf5_reader::error::Error as H5Error;
use hdf5_reader::{Dataset, DatasetChunk};

type Result<T> = std::result::Result<T, H5Error>;

/// Fills `bytes` with all elements of a dataset of rank 1 or 2, in the file's byte order, row-major. Its length must be
/// the dataset's `raw_byte_len`. Some rows if they were never written: their chunk is missing.
pub(super) fn read_raw(dataset: &Dataset, bytes: &mut [u8]) -> Result<Option<Range<usize>>> {
    let Some(grid) = Grid::of(dataset)? else {
        return dataset.read_raw_bytes_into(bytes).map(|()| None);
    };
    let mut seen = vec![false; grid.chunks];
    let mut regular = true;
    for chunk in dataset.iter_chunks()? {
        match grid.place(&chunk?, bytes) {
            Some(index) if !seen[index] => seen[index] = true,
            _ => regular = false,
        }
    }
    if let Some(index) = seen.iter().position(|seen| !seen) {
        return Ok(Some(grid.rows_of(index)));
    }
    if !regular {
        // What is odd about the chunks, the decoder says better.
        dataset.read_raw_bytes_into(bytes)?;
    }
    Ok(None)
}

/// How the chunks cover a matrix; a vector is a matrix of one column.
struct Grid {
    rows: usize,
    columns: usize,
    chunk_rows: usize,
    chunk_columns: usize,
    element: usize,
    chunks: usize,
}

impl Grid {
    fn of(dataset: &Dataset) -> Result<Option<Grid>> {
        let Some(chunk) = dataset.chunks() else {
            return Ok(None);
        };
        let (shape, chunk) = match (dataset.shape(), chunk.as_slice()) {
            (&[rows], &[chunk_rows]) => ([rows, 1], [chunk_rows, 1]),
            (&[rows, columns], &[chunk_rows, chunk_columns]) => ([rows, columns], [chunk_rows, chunk_columns]),
            _ => return Ok(None),
        };
        let size = |n: u64| usize::try_from(n).ok().filter(|&n| n > 0);
        let sizes = (size(shape[0]), size(shape[1]), size(chunk[0].into()), size(chunk[1].into()));
        let (Some(rows), Some(columns), Some(chunk_rows), Some(chunk_columns)) = sizes else {
            return Ok(None);
        };
        let element = dataset.raw_element_size()?;
        let chunks = rows.div_ceil(chunk_rows).checked_mul(columns.div_ceil(chunk_columns));
        Ok(chunks.map(|chunks| Grid { rows, columns, chunk_rows, chunk_columns, element, chunks }))
    }

    /// Rows of the chunk with that number.
    fn rows_of(&self, index: usize) -> Range<usize> {
        let start = index / self.columns.div_ceil(self.chunk_columns) * self.chunk_rows;
        start..(start + self.chunk_rows).min(self.rows)
    }

    /// Copies a chunk to its place in the matrix and returns its number in the grid; none if it does not belong.
    fn place(&self, chunk: &DatasetChunk, matrix: &mut [u8]) -> Option<usize> {
        let (row, column) = match *chunk.offsets() {
            [row] => (usize::try_from(row).ok()?, 0),
            [row, column] => (usize::try_from(row).ok()?, usize::try_from(column).ok()?),
            _ => return None,
        };
        let on_grid = row % self.chunk_rows == 0 && column % self.chunk_columns == 0;
        if !on_grid || row >= self.rows || column >= self.columns {
            return None;
        }
        let height = self.chunk_rows.min(self.rows - row);
        let run = self.chunk_columns.min(self.columns - column) * self.element;
        let (from, to) = (self.chunk_columns * self.element, self.columns * self.element);
        let source = chunk.bytes().get(..height * from)?;
        let target = matrix.get_mut(row * to + column * self.element..)?;
        let rows = source.chunks_exact(from).zip(target.chunks_mut(to));
        match run {
            4 => rows.for_each(|(from, to)| copy::<4>(from, to)),
            8 => rows.for_each(|(from, to)| copy::<8>(from, to)),
            _ => rows.for_each(|(from, to)| to[..run].copy_from_slice(&from[..run])),
        }
        let across = self.columns.div_ceil(self.chunk_columns);
        Some(row / self.chunk_rows * across + column / self.chunk_columns)
    }
}

/// One or two columns of float32: a length known when compiling makes this one move instead of a call.
fn copy<const RUN: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(from), Some(to)) = (from.first_chunk::<RUN>(), to.first_chunk_mut::<RUN>()) {
        *to = *from;
    }
}
