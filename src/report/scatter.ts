import { formatNumber, formatSpread } from './format.js'
import { svgFile } from './page.js'
import {
  type Frame,
  MARKERS,
  type Scale,
  axes,
  dots,
  escape,
  extent,
  line,
  linearScale,
  marker,
  rect,
  svg,
  text,
} from './svg.js'

/** One episode in the plane of cost and return. */
export interface ScatterPoint {
  cost: number
  return: number
}

/** The evaluated episodes of one policy. */
export interface ScatterGroup {
  name: string
  points: readonly ScatterPoint[]
  mean: { cost: number; return: number; cost_std: number | null; return_std: number | null }
}

/** More points than this are thinned evenly: beyond it they only add weight to the file. */
const MOST_POINTS = 2500

const FRAME: Frame = { width: 1000, height: 430, left: 58, right: 22, top: 26, bottom: 48 }

/**
 * Return against cost: episodes of the dataset, episodes of each policy with mean and standard deviation, the limit.
 */
export function scatterChart(
  data: readonly ScatterPoint[],
  groups: readonly ScatterGroup[],
  limit: number | null,
): string {
  const label = `Return against cost of ${data.length} dataset episodes and ${groups.length} evaluated policies`
  return svg(FRAME, label, marks(data, groups, limit)) + legend(data.length, groups, limit)
}

/** The episodes of a dataset as an SVG file of its own. */
export function scatterFile(data: readonly ScatterPoint[], limit: number | null, title: string): string {
  return svgFile(FRAME, `Return against cost of ${data.length} episodes: ${title}`, [
    text(FRAME.width - FRAME.right, FRAME.top - 10, title, 'axis-name', 'end'),
    ...marks(data, [], limit),
  ])
}

function marks(data: readonly ScatterPoint[], groups: readonly ScatterGroup[], limit: number | null): string[] {
  const all = [...data, ...groups.flatMap((group) => group.points)]
  const most = Math.max(extent(all.map((point) => point.cost))[1], limit ?? 0)
  const [low, high] = extent(all.map((point) => point.return))
  const spread = high - low || 1
  const x = linearScale([-0.012 * most, most * 1.02 || 1], [FRAME.left, FRAME.width - FRAME.right], 10)
  const y = linearScale([low - 0.04 * spread, high + 0.05 * spread], [FRAME.height - FRAME.bottom, FRAME.top])
  const thin = Math.ceil(data.length / MOST_POINTS) || 1
  const place = (point: ScatterPoint): [number, number] => [x(point.cost), y(point.return)]
  const safe = (point: ScatterPoint): boolean => limit !== null && point.cost <= limit
  const drawn = data.filter((_, index) => index % thin === 0)
  return [
    ...(limit === null ? [] : safeZone(x(limit), limit)),
    ...axes(FRAME, x, y, formatNumber),
    dots(drawn.filter((point) => !safe(point)).map(place), 'data'),
    dots(drawn.filter(safe).map(place), 'data safe'),
    // The first group is the one that matters most: it is drawn last, over the others.
    ...groups.map((group, index) => groupMarks(group, index, x, y).join('')).toReversed(),
    text((FRAME.left + FRAME.width - FRAME.right) / 2, FRAME.height - 8, 'episodic cost', 'axis-name', 'middle'),
    text(FRAME.left - 44, FRAME.top - 10, 'return', 'axis-name'),
  ]
}

function safeZone(x: number, limit: number): string[] {
  const floor = FRAME.height - FRAME.bottom
  return [
    rect(FRAME.left, FRAME.top, x - FRAME.left, floor - FRAME.top, 'safe-zone'),
    line(x, FRAME.top, x, floor, 'limit'),
    text(x + 6, FRAME.top + 11, `limit ${formatNumber(limit)}`, 'limit-name'),
  ]
}

function groupMarks(group: ScatterGroup, index: number, x: Scale, y: Scale): string[] {
  const shape = shapeOf(index)
  const css = `mark s${index % 4}`
  const episodes = group.points.map((point, episode) => {
    const title = `${group.name}, episode ${episode}: return ${formatNumber(point.return)}, cost ${formatNumber(point.cost)}`
    return marker(shape, x(point.cost), y(point.return), 3.5, css, title)
  })
  const { cost, return: ret, cost_std, return_std } = group.mean
  const cross = [
    line(x(Math.max(0, cost - (cost_std ?? 0))), y(ret), x(cost + (cost_std ?? 0)), y(ret), `spread s${index % 4}`),
    line(x(cost), y(ret - (return_std ?? 0)), x(cost), y(ret + (return_std ?? 0)), `spread s${index % 4}`),
  ]
  const title = `${group.name}, mean: return ${formatSpread(ret, return_std)}, cost ${formatSpread(cost, cost_std)}`
  return [...episodes, ...cross, marker(shape, x(cost), y(ret), 8, `${css} mean`, title)]
}

/** Beyond four groups the colours come again with other shapes. */
const shapeOf = (index: number): (typeof MARKERS)[number] => MARKERS[(index + Math.floor(index / 4)) % MARKERS.length]!

function legend(episodes: number, groups: readonly ScatterGroup[], limit: number | null): string {
  const key = (content: string, label: string): string =>
    `<li><svg viewBox="0 0 16 16" aria-hidden="true">${content}</svg>${escape(label)}</li>`
  const policies = groups.map((group, index) =>
    key(marker(shapeOf(index), 8, 8, 5.5, `mark s${index % 4} mean`), group.name),
  )
  const data =
    episodes === 0
      ? []
      : limit === null
        ? [key(dots([[8, 8]], 'data'), `${episodes} dataset episodes`)]
        : [
            key(dots([[8, 8]], 'data safe'), 'dataset episodes within the limit'),
            key(dots([[8, 8]], 'data'), 'dataset episodes over it'),
          ]
  const sizes = groups.length === 0 ? '' : '<li>small marks: episodes; large marks: mean ± standard deviation</li>'
  return `<ul class="legend">${[...policies, ...data].join('')}${sizes}</ul>`
}
