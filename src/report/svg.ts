/** Charts as SVG text: scales, axes and marks. All colours are CSS classes, so light and dark share one drawing. */

import { formatTicks } from './format.js'

export type Scale = ((value: number) => number) & { ticks: number[]; domain: [number, number] }

export interface Frame {
  width: number
  height: number
  left: number
  right: number
  top: number
  bottom: number
}

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** Makes any text safe inside HTML and SVG, attribute values included. */
export const escape = (text: unknown): string => String(text).replace(/[&<>"']/g, (c) => ESCAPES[c]!)

/** Coordinates to a tenth of a unit: invisible, and half the file. */
export const coordinate = (value: number): string => String(Math.round(value * 10) / 10)

/** Round tick values (1, 2, 5 times a power of ten) inside the domain. */
export function niceTicks(low: number, high: number, count: number): number[] {
  const span = high - low || 1
  const raw = span / Math.max(1, count)
  const power = 10 ** Math.floor(Math.log10(raw))
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw) ?? raw
  // Counted beforehand: from 2^53 on, adding 1 changes nothing, and a loop that waits for `high` never ends.
  const first = Math.ceil(low / step)
  const ticks = Math.max(0, Math.floor(high / step + 1e-9) - first + 1) || 0
  return Array.from({ length: ticks }, (_, i) => Number(((first + i) * step).toPrecision(12)))
}

/** Smallest and largest of many values; spreading them into `Math.min` overflows the stack at some 100,000. */
export function extent(values: readonly number[]): [number, number] {
  return values.reduce<[number, number]>(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  )
}

/** Values that differ in their last digits only are one value with room around it. */
function widened([low, high]: [number, number]): [number, number] {
  const size = Math.max(Math.abs(low), Math.abs(high))
  if (high - low > size * 1e-9) return [low, high]
  const room = Math.max(0.5, size * 1e-3)
  return [low - room, high + room]
}

export function linearScale(domain: [number, number], range: [number, number], count = 5): Scale {
  const [low, high] = widened(domain)
  const map = (value: number): number => range[0] + ((value - low) / (high - low)) * (range[1] - range[0])
  return Object.assign(map, { ticks: niceTicks(low, high, count), domain: [low, high] as [number, number] })
}

/** Ticks at powers of ten, thinned where there are many; domain above 0. */
export function logScale(domain: [number, number], range: [number, number], count = 5): Scale {
  const [low, high] = [Math.log10(domain[0]), Math.log10(domain[1])]
  const inner = linearScale([low, high], range)
  const every = Math.max(1, Math.ceil((high - low) / count))
  const exponents: number[] = []
  for (let e = Math.ceil(low); e <= high + 1e-9; e += every) exponents.push(e)
  const ticks = exponents.length > 1 ? exponents.map((e) => 10 ** e) : [domain[0], domain[1]]
  return Object.assign((value: number) => inner(Math.log10(value)), { ticks, domain })
}

/** A chart with its accessible name. */
export function svg(frame: Pick<Frame, 'width' | 'height'>, label: string, body: readonly string[]): string {
  const { width, height } = frame
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)}">${body.join('')}</svg>`
}

export function text(x: number, y: number, content: string, css = '', anchor = 'start'): string {
  const at = `x="${coordinate(x)}" y="${coordinate(y)}"`
  return `<text ${at} text-anchor="${anchor}"${css && ` class="${css}"`}>${escape(content)}</text>`
}

export function line(x1: number, y1: number, x2: number, y2: number, css: string): string {
  const [a, b, c, d] = [x1, y1, x2, y2].map(coordinate)
  return `<line x1="${a}" y1="${b}" x2="${c}" y2="${d}" class="${css}"/>`
}

export function rect(x: number, y: number, width: number, height: number, css: string, title = ''): string {
  const at = `x="${coordinate(x)}" y="${coordinate(y)}"`
  const size = `width="${coordinate(Math.max(0, width))}" height="${coordinate(Math.max(0, height))}"`
  return `<rect ${at} ${size} class="${css}">${title && `<title>${escape(title)}</title>`}</rect>`
}

/** A line through points already in pixels. */
export function polyline(points: readonly (readonly [number, number])[], css: string): string {
  const joined = points.map(([x, y]) => `${coordinate(x)},${coordinate(y)}`).join(' ')
  return `<polyline points="${joined}" class="${css}"/>`
}

/** Many small dots as one path: zero-length strokes with round caps. */
export function dots(points: readonly (readonly [number, number])[], css: string): string {
  if (points.length === 0) return ''
  const path = points.map(([x, y]) => `M${coordinate(x)} ${coordinate(y)}h0`).join('')
  return `<path d="${path}" class="${css}"/>`
}

/** Shapes differ as well as colours, for readers who cannot tell the colours apart. */
export const MARKERS = ['circle', 'square', 'triangle', 'diamond'] as const

export type Marker = (typeof MARKERS)[number]

/** One mark of the given shape and radius, with a tooltip. */
export function marker(shape: Marker, x: number, y: number, r: number, css: string, title = ''): string {
  const outline: Record<Marker, [number, number][]> = {
    circle: [],
    square: [
      [-1, -1],
      [1, -1],
      [1, 1],
      [-1, 1],
    ],
    triangle: [
      [0, -1.25],
      [1.15, 0.85],
      [-1.15, 0.85],
    ],
    diamond: [
      [0, -1.35],
      [1.35, 0],
      [0, 1.35],
      [-1.35, 0],
    ],
  }
  const inside = title && `<title>${escape(title)}</title>`
  if (shape === 'circle') {
    return `<circle cx="${coordinate(x)}" cy="${coordinate(y)}" r="${r}" class="${css}">${inside}</circle>`
  }
  const scale = shape === 'square' ? 0.88 * r : r
  const points = outline[shape].map(([dx, dy]) => `${coordinate(x + dx * scale)},${coordinate(y + dy * scale)}`)
  return `<polygon points="${points.join(' ')}" class="${css}">${inside}</polygon>`
}

/** Grid lines and labels of both axes. */
export function axes(frame: Frame, x: Scale, y: Scale, format: (value: number, digits?: number) => string): string[] {
  const [across, up] = [formatTicks(x.ticks, format), formatTicks(y.ticks, format)]
  const right = frame.width - frame.right
  const floor = frame.height - frame.bottom
  return [
    ...y.ticks.map((tick) => line(frame.left, y(tick), right, y(tick), 'grid')),
    ...y.ticks.map((tick, i) => text(frame.left - 7, y(tick) + 4, up[i]!, 'tick', 'end')),
    line(frame.left, floor, right, floor, 'axis'),
    ...x.ticks.map((tick) => line(x(tick), floor, x(tick), floor + 4, 'axis')),
    ...x.ticks.map((tick, i) => text(x(tick), floor + 17, across[i]!, 'tick', 'middle')),
  ]
}
