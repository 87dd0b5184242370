import { formatNumber } from './format.js'
import type { ScatterPoint } from './scatter.js'
import { extent, linearScale } from './svg.js'

/** Dots of a Braille character: two columns of four, by their bit. */
const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const
const EMPTY = 0x2800

/** Size in characters; each holds 2 x 4 dots. */
const SIZE = { columns: 60, rows: 16 }

/**
 * Return against cost in Braille dots, for terminals.
 *
 * @param limit drawn as a line, if given.
 */
export function terminalScatter(points: readonly ScatterPoint[], limit?: number, size = SIZE): string {
  const { columns, rows } = size
  const costs = extent(points.map((point) => point.cost))
  const [left, right] = [Math.min(costs[0], 0), Math.max(costs[1], limit ?? 0)]
  const [low, high] = extent(points.map((point) => point.return))
  const x = linearScale([left, right], [0, columns * 2 - 1])
  const y = linearScale([low, high], [rows * 4 - 1, 0])
  const cells = Array.from({ length: rows }, () => Array.from<number>({ length: columns }).fill(0))
  for (const point of points) {
    const [column, row] = [Math.round(x(point.cost)), Math.round(y(point.return))]
    cells[row >> 2]![column >> 1]! |= DOTS[column & 1]![row & 3]!
  }
  const line = limit === undefined ? -1 : Math.round(x(limit)) >> 1
  const labels = [formatNumber(high), formatNumber(low)]
  const width = Math.max(...labels.map((label) => label.length))
  const body = cells.map((cell, row) => {
    const label = row === 0 ? labels[0]! : row === rows - 1 ? labels[1]! : ''
    const dots = cell.map((bits, column) => (bits === 0 && column === line ? '|' : String.fromCodePoint(EMPTY | bits)))
    return `${label.padStart(width)} ┤${dots.join('')}`.trimEnd()
  })
  const [start, end] = [formatNumber(left), formatNumber(right)]
  const middle = limit === undefined ? 'cost' : `cost (| limit ${formatNumber(limit)})`
  const gap = columns - start.length - end.length - middle.length
  const axis = `${start}${' '.repeat(Math.max(1, Math.floor(gap / 2)))}${middle}${' '.repeat(Math.max(1, Math.ceil(gap / 2)))}${end}`
  const margin = ' '.repeat(width + 1)
  return [`${'return'.padStart(width)}`, ...body, `${margin}└${'─'.repeat(columns)}`, `${margin} ${axis}`].join('\n')
}
