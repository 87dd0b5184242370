/**
 * Solves A X = B by Gaussian elimination with row pivots; both are overwritten, B by X. `a` is [n*n], `b` is
 * [n*columns], by rows. The systems here have at most some tens of rows and are diagonally dominant (I - gamma P),
 * so nothing finer is needed.
 */
export function solve(a: Float64Array, b: Float64Array, n: number, columns: number): void {
  for (let pivot = 0; pivot < n; pivot++) {
    let best = pivot
    for (let row = pivot + 1; row < n; row++) {
      if (Math.abs(a[row * n + pivot]!) > Math.abs(a[best * n + pivot]!)) best = row
    }
    if (best !== pivot) {
      swap(a, best * n, pivot * n, n)
      swap(b, best * columns, pivot * columns, columns)
    }
    const lead = a[pivot * n + pivot]!
    for (let row = 0; row < n; row++) {
      const factor = row === pivot ? 0 : a[row * n + pivot]! / lead
      if (factor === 0) continue
      for (let k = pivot; k < n; k++) a[row * n + k] = a[row * n + k]! - factor * a[pivot * n + k]!
      for (let k = 0; k < columns; k++) b[row * columns + k] = b[row * columns + k]! - factor * b[pivot * columns + k]!
    }
  }
  for (let row = 0; row < n; row++) {
    for (let k = 0; k < columns; k++) b[row * columns + k] = b[row * columns + k]! / a[row * n + row]!
  }
}

function swap(x: Float64Array, from: number, to: number, length: number): void {
  for (let k = 0; k < length; k++) {
    const kept = x[from + k]!
    x[from + k] = x[to + k]!
    x[to + k] = kept
  }
}
