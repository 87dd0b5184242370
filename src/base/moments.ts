/** Mean and standard deviation of some numbers. */
export interface Moments {
  mean: number
  /** Of a sample, by n - 1; null for a single number. */
  std: number | null
}

/** @param values at least one. */
export function meanAndStd(values: readonly number[]): Moments {
  const n = values.length
  const mean = values.reduce((sum, value) => sum + value, 0) / n
  if (n < 2) return { mean, std: null }
  return { mean, std: Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1)) }
}
