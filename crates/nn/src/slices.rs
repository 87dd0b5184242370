//! The one place where tensors become slices: what kernels are given.

use drcorl_kernels::gemm::{Matrix, MatrixMut};
use std::marker::PhantomData;
use tch::{Device, Kind, Tensor};

/// True where kernels can be used: elsewhere the same formulas are tensor operations.
pub(crate) fn host(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu
}

/// The elements of a contiguous f32 CPU tensor.
pub(crate) fn elements(tensor: &Tensor) -> &[f32] {
    assert_contiguous(tensor);
    // SAFETY: kind, device and density were just established, and the tensor outlives the borrow.
    // Without elements it has no memory.
    match tensor.numel() {
        0 => &[],
        len => unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const f32, len) },
    }
}

/// As [`elements`], for writing. The caller must not hold another slice of the same storage.
#[allow(clippy::mut_from_ref)]
pub(crate) fn elements_mut(tensor: &Tensor) -> &mut [f32] {
    assert_contiguous(tensor);
    // SAFETY: as in `elements`; every caller passes distinct storages for the tensors it reads and writes.
    match tensor.numel() {
        0 => &mut [],
        len => unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, len) },
    }
}

/// A two-dimensional f32 CPU tensor, whose rows and columns may lie any distance apart.
pub(crate) fn matrix(tensor: &Tensor) -> Matrix<'_> {
    let (len, size, strides) = layout(tensor);
    // SAFETY: `layout` has established the kind and the device,
    // and counted the floats from the first element to the last.
    let values = match len {
        0 => &[][..],
        len => unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const f32, len) },
    };
    Matrix::new(values, size, strides)
}

/// As [`matrix`], for writing. The caller must not read or write the same elements by another one; those between the
/// rows of a strided tensor are not touched, and may be another thread's.
pub(crate) fn matrix_mut(tensor: &Tensor) -> MatrixMut<'_> {
    let (_, size, strides) = layout(tensor);
    // SAFETY: `layout` has established the kind and the device; the elements are the caller's.
    unsafe { MatrixMut::among(tensor.data_ptr() as *mut f32, size, strides) }
}

/// Column `column` of a matrix, as [`matrix`]; others may write the columns beside it meanwhile.
pub(crate) fn column(tensor: &Tensor, column: i64) -> Matrix<'_> {
    let (first, size, strides) = column_of(tensor, column);
    // SAFETY: the column is there, and every caller reads what nobody writes meanwhile.
    unsafe { Matrix::among(first, size, strides) }
}

/// As [`column`], for writing.
pub(crate) fn column_mut(tensor: &Tensor, column: i64) -> MatrixMut<'_> {
    let (first, size, strides) = column_of(tensor, column);
    // SAFETY: the column is there; the elements are the caller's, as in `matrix_mut`.
    unsafe { MatrixMut::among(first, size, strides) }
}

/// Where a column begins, its size and its distances.
fn column_of(tensor: &Tensor, column: i64) -> (*mut f32, [usize; 2], [usize; 2]) {
    let (_, [rows, columns], strides) = layout(tensor);
    let column = column as usize;
    assert!(column < columns, "no column {column} of {columns}");
    ((tensor.data_ptr() as *mut f32).wrapping_add(column * strides[1]), [rows, 1], strides)
}

/// The elements of a contiguous f32 CPU tensor, for passes over parts of them: what is asked of libtorch is asked once.
#[derive(Clone, Copy)]
pub(crate) struct Flat<'a> {
    first: *mut f32,
    len: usize,
    tensor: PhantomData<&'a Tensor>,
}

impl<'a> Flat<'a> {
    pub fn of(tensor: &'a Tensor) -> Flat<'a> {
        assert_contiguous(tensor);
        Flat { first: tensor.data_ptr() as *mut f32, len: tensor.numel(), tensor: PhantomData }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// `len` of them from `at` on, which nobody writes meanwhile.
    pub fn part(&self, at: usize, len: usize) -> &'a [f32] {
        self.check(at, len);
        // SAFETY: there are so many elements; without any, there is no memory.
        match len {
            0 => &[],
            len => unsafe { std::slice::from_raw_parts(self.first.add(at), len) },
        }
    }

    /// As [`Flat::part`], for writing. The caller must not read or write them by another slice; those around them may
    /// be others'.
    #[allow(clippy::mut_from_ref)]
    pub fn part_mut(&self, at: usize, len: usize) -> &'a mut [f32] {
        self.check(at, len);
        // SAFETY: as in `part`; the elements are the caller's.
        match len {
            0 => &mut [],
            len => unsafe { std::slice::from_raw_parts_mut(self.first.add(at), len) },
        }
    }

    fn check(&self, at: usize, len: usize) {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "a part of a tensor");
    }
}

/// Floats from the first element of a matrix to the last, numbers of rows and columns, and distances between them.
fn layout(tensor: &Tensor) -> (usize, [usize; 2], [usize; 2]) {
    assert!(tensor.kind() == Kind::Float && host(tensor), "a kernel needs a f32 CPU tensor, got {:?}", tensor.kind());
    let of = |list: Vec<i64>| match list[..] {
        [rows, columns] => [rows as usize, columns as usize],
        _ => panic!("a matrix has two dimensions, not {}", list.len()),
    };
    let (size, strides) = (of(tensor.size()), of(tensor.stride()));
    let last: usize = size.iter().zip(strides).map(|(&count, stride)| count.saturating_sub(1) * stride).sum();
    let len = if size.contains(&0) { 0 } else { last + 1 };
    (len, size, strides)
}

fn assert_contiguous(tensor: &Tensor) {
    assert!(
        tensor.kind() == Kind::Float && host(tensor) && tensor.is_contiguous(),
        "a kernel needs a contiguous f32 CPU tensor, got {:?} {:?}",
        tensor.kind(),
        tensor.size()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strided_tensor_is_the_same_matrix() {
        let tensor = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([4, 6]);
        for view in [tensor.narrow(1, 2, 3), tensor.tr(), tensor.narrow(0, 3, 1), tensor.narrow(1, 0, 0)] {
            let matrix = matrix(&view);
            assert_eq!(matrix.size().map(|n| n as i64)[..], view.size()[..]);
            for (i, j) in (0..matrix.size()[0]).flat_map(|i| (0..matrix.size()[1]).map(move |j| (i, j))) {
                assert_eq!(f64::from(matrix.at(i, j)), view.double_value(&[i as i64, j as i64]));
            }
        }
    }

    #[test]
    fn no_elements_are_an_empty_slice() {
        let tensor = Tensor::empty([0, 3], (Kind::Float, Device::Cpu));
        assert!(elements(&tensor).is_empty() && elements_mut(&tensor).is_empty());
    }

    #[test]
    #[should_panic(expected = "contiguous f32 CPU tensor, got Float [3, 2]")]
    fn a_strided_tensor_is_no_slice() {
        elements(&Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).tr());
    }
}
