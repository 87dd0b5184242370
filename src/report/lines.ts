/**
 * Lines over a common axis, several panels side by side: what varies against return and cost, or both over training.
 */
import { formatNumber } from './format.js'
import {
  type Frame,
  MARKERS,
  type Scale,
  axes,
  coordinate,
  escape,
  extent,
  line,
  linearScale,
  marker,
  polyline,
  svg,
  text,
} from './svg.js'

/** One value of a line: mean and standard deviation over what was averaged. */
export interface LinePoint {
  x: number
  mean: number
  std: number | null
}

/** A line; it may be absent from a panel, and then has no points there. */
export interface ChartLine {
  name: string
  points: readonly LinePoint[]
}

export interface Panel {
  /** Of the vertical axis. */
  title: string
  /** Of the horizontal axis. */
  x_name: string
  /** The same lines in the same order in every panel. */
  lines: readonly ChartLine[]
  /** Drawn where it is: a level, or `x` where the horizontal axis is the limit itself. */
  limit?: number | 'x' | null
  /** Names of the places 0, 1, .. of the horizontal axis, where it holds no numbers. */
  names?: readonly string[] | undefined
}

export interface PanelsOptions {
  /** Marks at the points, and bars for their spread; otherwise plain lines in a band. */
  marks: boolean
}

const WIDTH = 1000
const PANEL = { height: 330, left: 62, right: 26, top: 30, bottom: 50 }
const LEGEND_ROW = 19
/** Room for one name of the legend; longer ones take two places. */
const LEGEND_PLACE = 245
const COLORS = 5
/** Between the marks of two lines, and their bars. */
const ASIDE = 3

/** How line `index` is told from the others: by colour, then by dashes, and by the shape of its marks. */
const css = (index: number): string => `s${index % COLORS}`
const dashes = (index: number): string => `d${Math.floor(index / COLORS) % 3}`

/** The drawing without its frame, for a page or a file. */
export function panelsDrawing(
  panels: readonly Panel[],
  options: PanelsOptions,
): { frame: Pick<Frame, 'width' | 'height'>; label: string; body: string[] } {
  const [first] = panels
  const width = WIDTH / Math.max(1, panels.length)
  const legend = legendOf(first?.lines.map(({ name }) => name) ?? [], options)
  const body = panels.flatMap((panel, index) => {
    const frame: Frame = {
      width: width * (index + 1),
      height: legend.height + PANEL.height,
      left: width * index + PANEL.left,
      right: PANEL.right,
      top: legend.height + PANEL.top,
      bottom: PANEL.bottom,
    }
    return panelBody(frame, panel, options)
  })
  const label = panels.map(({ title, x_name }) => `${title} against ${x_name}`).join('; ')
  return { frame: { width: WIDTH, height: legend.height + PANEL.height }, label, body: [...legend.body, ...body] }
}

/** The same as SVG text. */
export function panelsChart(panels: readonly Panel[], options: PanelsOptions): string {
  const { frame, label, body } = panelsDrawing(panels, options)
  return svg(frame, label, body)
}

function legendOf(names: readonly string[], { marks }: PanelsOptions): { height: number; body: string[] } {
  let [column, row] = [0, 0]
  const columns = Math.floor(WIDTH / LEGEND_PLACE)
  const body = names.flatMap((name, index) => {
    const places = Math.min(columns, Math.ceil((name.length * 6.4 + 40) / LEGEND_PLACE))
    if (column + places > columns) [column, row] = [0, row + 1]
    const [x, y] = [14 + column * LEGEND_PLACE, 14 + row * LEGEND_ROW]
    column += places
    return [
      polyline(
        [
          [x, y],
          [x + 24, y],
        ],
        `curve ${css(index)} ${dashes(index)}`,
      ),
      marks ? marker(MARKERS[index % MARKERS.length]!, x + 12, y, 4, `mark mean ${css(index)}`) : '',
      text(x + 31, y + 4, name, 'tick'),
    ]
  })
  return { height: names.length === 0 ? 0 : (row + 1) * LEGEND_ROW, body }
}

function panelBody(frame: Frame, panel: Panel, { marks }: PanelsOptions): string[] {
  const all = panel.lines.flatMap(({ points }) => points)
  const middle = (frame.left + frame.width - frame.right) / 2
  const titles = [
    text(frame.left - 46, frame.top - 12, panel.title, 'axis-name'),
    text(middle, frame.height - 8, panel.x_name, 'axis-name', 'middle'),
  ]
  if (all.length === 0) return [...titles, text(middle, frame.height / 2, 'nothing was measured', 'tick', 'middle')]
  const x = xScale(frame, panel)
  const y = yScale(frame, panel)
  const limit = limitLine(frame, panel, x, y)
  // Marks and bars of several lines at one place stand beside each other.
  const aside = (index: number): number => (marks ? ASIDE * (index - (panel.lines.length - 1) / 2) : 0)
  return [
    ...titles,
    ...(panel.names === undefined
      ? axes(frame, x, y, formatNumber)
      : [...axes(frame, Object.assign(x, { ticks: [] }), y, formatNumber), ...nameTicks(frame, x, panel.names)]),
    ...limit.slice(0, 1),
    ...panel.lines.map((one, index) => lineMarks(one, index, { x, y, marks, aside: aside(index) })),
    ...limit.slice(1),
  ]
}

function xScale(frame: Frame, { lines, names }: Panel): Scale {
  const places = lines.flatMap(({ points }) => points.map((point) => point.x))
  const [low, high] = names === undefined ? extent(places) : [-0.35, names.length - 0.65]
  const room = names === undefined ? (high - low) * 0.03 : 0
  return linearScale([low - room, high + room], [frame.left, frame.width - frame.right], 6)
}

function yScale(frame: Frame, { lines, limit }: Panel): Scale {
  const points = lines.flatMap((one) => one.points)
  const values = points.flatMap(({ x, mean, std }) => [
    mean - (std ?? 0),
    mean + (std ?? 0),
    ...(limit === 'x' ? [x] : []),
    ...(typeof limit === 'number' ? [limit] : []),
  ])
  const [low, high] = extent(values)
  const room = (high - low) * 0.06
  // A cost has a floor, and a band below it would be of episodes that cannot be.
  const floor = limit === undefined || limit === null ? low - room : Math.min(0, ...points.map(({ mean }) => mean))
  return linearScale([floor, high + room], [frame.height - frame.bottom, frame.top])
}

function nameTicks(frame: Frame, x: Scale, names: readonly string[]): string[] {
  const most = Math.floor((x(1) - x(0)) / 6.2)
  const shown = (name: string): string => (name.length <= most ? name : `${name.slice(0, Math.max(1, most - 1))}…`)
  return names.map((name, place) => {
    const label = text(x(place), frame.height - frame.bottom + 17, shown(name), 'tick', 'middle')
    return label.replace('</text>', `<title>${escape(name)}</title></text>`)
  })
}

function limitLine(frame: Frame, { limit }: Panel, x: Scale, y: Scale): string[] {
  if (limit === undefined || limit === null) return []
  const [low, high] = x.domain
  const right = frame.width - frame.right
  const from = limit === 'x' ? Math.max(low, y.domain[0]) : low
  const [start, end] = limit === 'x' ? [y(from), y(high)] : [y(limit), y(limit)]
  const name = limit === 'x' ? 'the limit' : `limit ${formatNumber(limit)}`
  return [line(x(from), start, right, end, 'limit'), text(right - 4, end - 6, name, 'limit-name', 'end')]
}

function lineMarks(
  { name, points }: ChartLine,
  index: number,
  { x: place, y, marks, aside }: { x: Scale; y: Scale; marks: boolean; aside: number },
): string {
  const x = (value: number): number => place(value) + aside
  const [floor, top] = y.domain
  const inside = (value: number): number => y(Math.min(top, Math.max(floor, value)))
  const curve = polyline(
    points.map((point) => [x(point.x), y(point.mean)] as const),
    `curve ${css(index)} ${dashes(index)}`,
  )
  const spread = points.filter((point): point is LinePoint & { std: number } => point.std !== null)
  if (!marks) {
    const upper = spread.map((point) => [x(point.x), inside(point.mean + point.std)] as const)
    const lower = spread.map((point) => [x(point.x), inside(point.mean - point.std)] as const).toReversed()
    const outline = [...upper, ...lower].map((at) => at.map(coordinate).join(',')).join(' ')
    const band = spread.length < 2 ? '' : `<polygon points="${outline}" class="area ${css(index)}"/>`
    const lone =
      points.length === 1 ? marker('circle', x(points[0]!.x), y(points[0]!.mean), 4, `mark mean ${css(index)}`) : ''
    return band + curve + lone
  }
  const bars = spread.map((point) =>
    line(
      x(point.x),
      inside(point.mean - point.std),
      x(point.x),
      inside(point.mean + point.std),
      `spread ${css(index)}`,
    ),
  )
  const dots = points.map((point) => {
    const value =
      point.std === null ? formatNumber(point.mean) : `${formatNumber(point.mean)} ± ${formatNumber(point.std)}`
    return marker(
      MARKERS[index % MARKERS.length]!,
      x(point.x),
      y(point.mean),
      5,
      `mark mean ${css(index)}`,
      `${name}: ${value}`,
    )
  })
  return [...bars, curve, ...dots].join('')
}
