//! Matrices in slices, with any distance between rows and columns, and what becomes of a product before it is stored.

use std::marker::PhantomData;

/// A matrix that is read: element (i, j) is at `i * down + j * across` of a slice.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) raw: Raw,
    slice: PhantomData<&'a [f32]>,
}

/// A matrix that is written.
pub struct MatrixMut<'a> {
    pub(super) raw: Raw,
    slice: PhantomData<&'a mut [f32]>,
}

/// A matrix without its slice.
#[derive(Clone, Copy)]
pub(super) struct Raw {
    pub data: *mut f32,
    pub rows: usize,
    pub columns: usize,
    pub down: usize,
    pub across: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` by `columns` elements, from row to row `down` floats of `values`, from column to column `across`.
    ///
    /// # Panics
    /// If the last element is not in the slice.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2], [down, across]: [usize; 2]) -> Matrix<'a> {
        let raw = Raw { data: values.as_ptr().cast_mut(), rows, columns, down, across };
        assert!(raw.span() <= values.len(), "a matrix reaches beyond its slice");
        Matrix { raw, slice: PhantomData }
    }

    /// As [`Matrix::new`], of elements among others that may be written meanwhile.
    ///
    /// # Safety
    /// Nobody writes the elements, and they stay where they are, while the matrix is used.
    pub unsafe fn among(first: *const f32, [rows, columns]: [usize; 2], [down, across]: [usize; 2]) -> Matrix<'a> {
        Matrix { raw: Raw { data: first.cast_mut(), rows, columns, down, across }, slice: PhantomData }
    }

    /// Rows of `columns` floats, one after the other.
    pub fn dense(values: &'a [f32], columns: usize) -> Matrix<'a> {
        Matrix::new(values, [values.len() / columns.max(1), columns], [columns, 1])
    }

    /// Rows become columns.
    pub fn transposed(self) -> Matrix<'a> {
        let Raw { data, rows, columns, down, across } = self.raw;
        Matrix { raw: Raw { data, rows: columns, columns: rows, down: across, across: down }, ..self }
    }

    /// Number of rows and of columns.
    pub fn size(&self) -> [usize; 2] {
        [self.raw.rows, self.raw.columns]
    }

    /// An element.
    ///
    /// # Panics
    /// If there is no such row or column.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        // SAFETY: the element is in the slice, as `new` has found, or by the promise to `among` not written.
        unsafe { *self.raw.at(row, column) }
    }
}

impl<'a> MatrixMut<'a> {
    /// As [`Matrix::new`].
    pub fn new(values: &'a mut [f32], [rows, columns]: [usize; 2], [down, across]: [usize; 2]) -> MatrixMut<'a> {
        let raw = Raw { data: values.as_mut_ptr(), rows, columns, down, across };
        assert!(raw.span() <= values.len(), "a matrix reaches beyond its slice");
        MatrixMut { raw, slice: PhantomData }
    }

    /// As [`MatrixMut::new`], of elements among others that may be read or written meanwhile.
    ///
    /// # Safety
    /// Nobody else reads or writes the elements, and they stay where they are, while the matrix is used.
    pub unsafe fn among(first: *mut f32, [rows, columns]: [usize; 2], [down, across]: [usize; 2]) -> MatrixMut<'a> {
        MatrixMut { raw: Raw { data: first, rows, columns, down, across }, slice: PhantomData }
    }

    /// As [`Matrix::dense`].
    pub fn dense(values: &'a mut [f32], columns: usize) -> MatrixMut<'a> {
        let rows = values.len() / columns.max(1);
        MatrixMut::new(values, [rows, columns], [columns, 1])
    }

    /// Number of rows and of columns.
    pub fn size(&self) -> [usize; 2] {
        [self.raw.rows, self.raw.columns]
    }

    /// Overwrites an element of the first column.
    ///
    /// # Safety
    /// There is such a row.
    #[inline(always)]
    pub(crate) unsafe fn set(&mut self, row: usize, value: f32) {
        // SAFETY: the element is in the slice, or by the promise to `among` nobody else's.
        unsafe { *self.raw.data.add(row * self.raw.down) = value };
    }
}

impl Raw {
    /// Where an element lies.
    ///
    /// # Panics
    /// If there is no such row or column.
    fn at(&self, row: usize, column: usize) -> *mut f32 {
        let Raw { data, rows, columns, down, across } = *self;
        assert!(row < rows && column < columns, "no element ({row}, {column}) in a matrix of {rows} by {columns}");
        data.wrapping_add(row * down + column * across)
    }

    /// Floats from the first element to the last, both counted.
    fn span(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.down + (self.columns - 1) * self.across + 1
    }

    pub fn transposed(self) -> Raw {
        Raw { rows: self.columns, columns: self.rows, down: self.across, across: self.down, ..self }
    }

    pub fn has_dense_rows(&self) -> bool {
        self.across == 1 || self.columns == 1
    }

    pub fn is_dense(&self) -> bool {
        self.across == 1 || self.down == 1
    }
}

/// What becomes of a product `[m,n]` before it is stored.
#[derive(Clone, Copy)]
pub enum Finish<'a> {
    Nothing,
    /// It is added to what is there.
    Add,
    /// A row `[n]` is added, negative values become 0.
    BiasRelu(&'a [f32]),
    /// It becomes 0 where the output of a ReLU is 0.
    Relu(Active<'a>),
    /// The same, and a row is multiplied by its element of `[m]`.
    ScaledRelu(&'a [f32], Active<'a>),
}

/// The output `[m,n]` of a ReLU.
#[derive(Clone, Copy)]
pub enum Active<'a> {
    /// In memory of its own.
    Apart(Matrix<'a>),
    /// Where the product goes: it is overwritten. See [`Kernel::overwrites`](super::Kernel::overwrites).
    InPlace,
}

/// A [`Finish`] without slices.
#[derive(Clone, Copy)]
pub(super) enum RawFinish {
    Nothing,
    Add,
    BiasRelu(*const f32),
    Relu(Raw),
    ScaledRelu(*const f32, Raw),
}

impl Finish<'_> {
    /// For a product that goes to `out`; none where the rows of a ReLU's output are not dense.
    ///
    /// # Panics
    /// If sizes disagree.
    pub(super) fn raw(self, out: Raw) -> Option<RawFinish> {
        let of = |active: Active| {
            let active = match active {
                Active::Apart(matrix) => matrix.raw,
                Active::InPlace => out,
            };
            assert_eq!((active.rows, active.columns), (out.rows, out.columns), "size of a ReLU's output");
            active.has_dense_rows().then_some(active)
        };
        Some(match self {
            Finish::Nothing => RawFinish::Nothing,
            Finish::Add => RawFinish::Add,
            Finish::BiasRelu(bias) => {
                assert_eq!(bias.len(), out.columns, "size of a bias");
                RawFinish::BiasRelu(bias.as_ptr())
            }
            Finish::Relu(active) => RawFinish::Relu(of(active)?),
            Finish::ScaledRelu(scale, active) => {
                assert_eq!(scale.len(), out.rows, "size of a scale");
                RawFinish::ScaledRelu(scale.as_ptr(), of(active)?)
            }
        })
    }

    /// True if the output of a ReLU is overwritten.
    pub(super) fn is_in_place(self) -> bool {
        matches!(self, Finish::Relu(Active::InPlace) | Finish::ScaledRelu(_, Active::InPlace))
    }
}
