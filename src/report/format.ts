/** How numbers and names are written in tables and reports. */

const MISSING = '–'

/** Three significant digits, whole numbers with thousands marks; a dash where there is no number. */
export function formatNumber(value: unknown, digits = 3): string {
  if (typeof value !== 'number' || Number.isNaN(value)) return MISSING
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '-∞'
  if (value === 0) return '0'
  const size = Math.abs(value)
  if (size >= 1e7 || size < 1e-3) return value.toExponential(1).replace('e+', 'e')
  if (Number.isInteger(value) || size >= 10 ** (digits - 1)) return Math.round(value).toLocaleString('en-US')
  return String(Number(value.toPrecision(digits)))
}

/** Numbers of one axis, with as many digits as write them exactly, or else tell each from the next. */
export function formatTicks(
  ticks: readonly number[],
  format: (value: number, digits?: number) => string = formatNumber,
): string[] {
  const written = [3, 4, 5, 6].map((digits) => ticks.map((tick) => format(tick, digits)))
  const exact = (labels: string[]): boolean =>
    labels.every((label, i) => Number(label.replaceAll(',', '')) === ticks[i])
  const distinct = (labels: string[]): boolean => new Set(labels).size === labels.length
  return written.find(exact) ?? written.find(distinct) ?? written[0]!
}

/** `12.3 ± 4.5`, or the mean alone where there is no spread. */
export function formatSpread(mean: unknown, std: unknown, digits = 1): string {
  if (typeof mean !== 'number') return MISSING
  return typeof std === 'number' ? `${mean.toFixed(digits)} ± ${std.toFixed(digits)}` : mean.toFixed(digits)
}

/** Fixed decimals, or a dash. */
export function formatFixed(value: unknown, digits: number): string {
  return typeof value === 'number' && Number.isFinite(value) ? value.toFixed(digits) : MISSING
}

/** Any JSON value on one line, for tables of parameters. */
export function formatValue(value: unknown): string {
  if (value === null || value === undefined) return MISSING
  if (typeof value === 'number') return String(value)
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** `reward_loss` as `reward loss`. */
export const words = (name: string): string => name.replaceAll('_', ' ')
