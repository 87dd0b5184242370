//! The one place where tensors become slices: what kernels are given.

use drcorl_kernels::gemm::{Matrix, MatrixMut};
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
/// rows of a strided tensor are not touched.
pub(crate) fn matrix_mut(tensor: &Tensor) -> MatrixMut<'_> {
    let (len, size, strides) = layout(tensor);
    // SAFETY: as in `matrix`.
    let values = match len {
        0 => &mut [][..],
        len => unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, len) },
    };
    MatrixMut::new(values, size, strides)
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
