//! One dataset of a file, with the names that its errors need.

use hdf5_reader::Dataset;

use super::chunks::read_raw;
use super::file::{h5_error, NEVER_WRITTEN};
use super::number::{type_name, Number};
use super::DAMAGED;
use crate::budget::{human, zeroed};
use crate::columns::place;
use crate::error::{Error, Result};

/// A dataset of numbers: a vector, or a matrix of one row per transition.
pub(crate) struct Column<'a> {
    file: &'a str,
    key: String,
    dataset: Dataset,
}

impl<'a> Column<'a> {
    pub(super) fn new(file: &'a str, key: &str, dataset: Dataset) -> Self {
        Column { file, key: key.to_owned(), dataset }
    }

    /// Name of the file.
    pub fn file(&self) -> &'a str {
        self.file
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn error(&self, problem: &str, remedy: &str) -> Error {
        Error::data(self.file, Some(&self.key), problem, remedy)
    }

    /// True if its elements are numbers that are read.
    pub fn is_number(&self) -> bool {
        self.number().is_ok()
    }

    /// `(N, dim)` of a dataset of rank 2 with at least one entry per row.
    pub fn matrix(&self) -> Result<(usize, usize)> {
        match self.shape()?.as_slice() {
            &[rows, dim] if dim > 0 => Ok((rows, dim)),
            shape => {
                let problem = format!("has shape {shape:?}, expected [N, entries]");
                Err(self.error(&problem, "store one row per transition, rank 2"))
            }
        }
    }

    /// `N` of a dataset of shape `[N]` or `[N, 1]`.
    pub fn scalar_rows(&self) -> Result<usize> {
        match self.shape()?.as_slice() {
            &[rows] | &[rows, 1] => Ok(rows),
            shape => {
                let problem = format!("has shape {shape:?}, expected [N] or [N, 1]");
                Err(self.error(&problem, "store one value per transition"))
            }
        }
    }

    /// `(N, dim)` of a dataset of shape `[N]` or `[N, dim]`.
    pub fn rows_and_dim(&self) -> Result<(usize, usize)> {
        match self.shape()?.as_slice() {
            &[rows] => Ok((rows, 1)),
            &[rows, dim] if dim > 0 => Ok((rows, dim)),
            shape => {
                let problem = format!("has shape {shape:?}, expected [N] or [N, entries]");
                Err(self.error(&problem, "flatten each observation or action"))
            }
        }
    }

    fn shape(&self) -> Result<Vec<usize>> {
        let dims = self.dataset.shape().iter();
        let sizes: std::result::Result<Vec<usize>, _> = dims.map(|&d| usize::try_from(d)).collect();
        sizes.map_err(|_| self.error("has more entries than memory has addresses", DAMAGED))
    }

    pub fn check_rows(&self, rows: usize, expected: usize) -> Result<()> {
        if rows == expected {
            return Ok(());
        }
        let problem = format!("has {rows} rows, observations has {expected}");
        Err(self.error(&problem, "store all columns equally long"))
    }

    /// Bytes that [`Column::floats`] holds at its height: the values, and those of the file where they are not float32.
    pub fn memory(&self) -> u64 {
        let raw = match Number::of(self.dataset.dtype()) {
            Some(number) if !number.is_f32() => number.size() as u64,
            _ => 0,
        };
        let elements = self.dataset.shape().iter().try_fold(1_u64, |n, &d| n.checked_mul(d));
        elements.map_or(u64::MAX >> 8, |n| n.saturating_mul(4 + raw).min(u64::MAX >> 8))
    }

    /// All values as `f32`, row-major.
    pub fn floats(&self) -> Result<Vec<f32>> {
        let number = self.number()?;
        if number.is_f32() {
            // Read in place: a second copy of the observations can be half a gigabyte.
            let mut values = self.zeroed(self.elements())?;
            self.read(bytemuck::cast_slice_mut(&mut values))?;
            if !number.is_native() {
                let swap = |v: &mut f32| *v = f32::from_bits(v.to_bits().swap_bytes());
                values.iter_mut().for_each(swap);
            }
            return Ok(values);
        }
        let dim = self.dataset.shape().get(1).map_or(1, |&d| d as usize);
        let bytes = self.raw(number)?;
        let mut values = self.zeroed(self.elements())?;
        for (index, (to, from)) in values.iter_mut().zip(bytes.chunks_exact(number.size())).enumerate() {
            let wide = number.widen(from);
            *to = wide as f32;
            if !to.is_finite() && wide.is_finite() {
                let problem = format!("{} is {wide}, too large for float32", place(index, dim));
                return Err(self.error(&problem, "remove or rescale that value"));
            }
        }
        Ok(values)
    }

    /// All values as `f64`: times and numbers of episodes, which float32 would blur.
    pub fn doubles(&self) -> Result<Vec<f64>> {
        let number = self.number()?;
        let bytes = self.raw(number)?;
        let mut values = self.zeroed(self.elements())?;
        values.iter_mut().zip(bytes.chunks_exact(number.size())).for_each(|(to, from)| *to = number.widen(from));
        Ok(values)
    }

    /// All values as flags; anything but 0 and 1 is an error.
    pub fn flags(&self) -> Result<Vec<bool>> {
        let number = self.number()?;
        let bytes = self.raw(number)?;
        let mut flags = self.zeroed(self.elements())?;
        for (row, (flag, bytes)) in flags.iter_mut().zip(bytes.chunks_exact(number.size())).enumerate() {
            let value = number.widen(bytes);
            if value != 0.0 && value != 1.0 {
                let problem = format!("row {row} is {value}, expected 0 or 1");
                return Err(self.error(&problem, "store flags as 0 and 1, or as bool"));
            }
            *flag = value == 1.0;
        }
        Ok(flags)
    }

    /// Bounded by the budget, as are the bytes of that many numbers.
    fn elements(&self) -> usize {
        self.dataset.shape().iter().product::<u64>() as usize
    }

    fn number(&self) -> Result<Number> {
        let number = Number::of(self.dataset.dtype()).filter(|number| number.size() != 2 || self.is_ieee(*number));
        number.ok_or_else(|| {
            let problem = format!("has the type {}", type_name(self.dataset.dtype()));
            self.error(&problem, "store it as float16, float32, float64, an integer or bool")
        })
    }

    /// False for a float of two bytes that is not IEEE's (bfloat16). The decoder keeps its size only; the fields are in
    /// the stored message from its ninth byte on: offset, precision (both u16),
    /// and place and size of exponent and mantissa.
    fn is_ieee(&self, number: Number) -> bool {
        let fields = || self.dataset.raw_datatype().ok()?.get(8..16).map(<[u8]>::to_vec);
        !number.is_float() || fields().is_some_and(|fields| fields == [0, 0, 16, 0, 10, 5, 0, 10])
    }

    /// All elements in the file's byte order, row-major.
    fn raw(&self, number: Number) -> Result<Vec<u8>> {
        let mut bytes = self.zeroed(self.elements() * number.size())?;
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn zeroed<T: Clone + Default>(&self, n: usize) -> Result<Vec<T>> {
        zeroed(n).ok_or_else(|| {
            let bytes = n as u64 * size_of::<T>() as u64;
            let problem = format!("needs {} of memory, which the system refused", human(bytes));
            self.error(&problem, "free some memory, or split the file")
        })
    }

    fn read(&self, bytes: &mut [u8]) -> Result<()> {
        match read_raw(&self.dataset, bytes) {
            Ok(None) => Ok(()),
            Ok(Some(rows)) => {
                let problem = format!("rows {} to {} were never written: a chunk is missing", rows.start, rows.end - 1);
                Err(self.error(&problem, NEVER_WRITTEN))
            }
            Err(e) => Err(h5_error(self.file, Some(&self.key), &e)),
        }
    }
}
