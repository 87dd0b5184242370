/** The page of `drcorl theory`: a verdict for each statement, and the figures behind Theorem 3.1. */
import { htmlTable, page, section } from '../report/page.js'
import { type Frame, axes, escape, line, linearScale, logScale, marker, polyline, svg, text } from '../report/svg.js'
import { CASES } from './adaptation.js'
import type { Run } from './runs.js'
import type { TheoryResult } from './theory.js'

const FRAME: Frame = { width: 480, height: 300, left: 58, right: 28, top: 26, bottom: 46 }

/** One line of a figure. */
interface Line {
  name: string
  points: [x: number, y: number][]
}

export function theoryPage(result: TheoryResult, command: string): string {
  const { options, statements, infeasible } = result
  const about =
    `Finite decision processes with exact values; discount ${options.gamma}, seed ${options.seed}. ` +
    `${result.runs.length} of them have a safe policy${infeasible.length > 0 ? `, ${infeasible.length} have none and are left out` : ''}.`
  return page('The theory, checked by number', [
    '<h1>The theory, checked by number</h1>',
    `<p class="sub">${escape(about)}</p>`,
    section(
      'Statements',
      htmlTable(
        ['statement', 'claim', 'verdict', 'found', 'remark'],
        statements.map(({ name, claim, verdict, found, remark }) => [name, claim, verdict, found, remark]),
      ),
    ),
    section('Theorem 3.1', `<div class="panels">${figures(result).join('')}</div>`),
    section('Which steps were taken', htmlTable(...casesTable(result.runs), 'numbers')),
    section('The band and what may stand in its place', htmlTable(...variantsTable(result), 'numbers')),
    `<footer>made by <code>${escape(command)}</code></footer>`,
  ])
}

function figures({ options, runs, errors }: TheoryResult): string[] {
  const lines = (of: (one: Run) => number | null): Line[] =>
    runs.map((row) => ({
      name: row[0]!.instance.cmdp.name,
      points: row.flatMap((one, k): [number, number][] => {
        const y = of(one)
        return y !== null && y > 0 ? [[options.iterations[k]!, y]] : []
      }),
    }))
  const changes: Line[] = errors.map((row) => {
    const exact = row[options.critic_errors.indexOf(0)]?.gap ?? 0
    const points = row.map(({ gap }, k): [number, number] => [options.critic_errors[k]!, (gap ?? 0) - exact])
    return { name: row[0]!.instance.cmdp.name, points }
  })
  return [
    figure(
      'gap V_r* - V_r of the mixture',
      'iterations T',
      lines((one) => one.gap),
      true,
    ),
    figure(
      'what (40) allows of the gap',
      'iterations T',
      lines((one) => one.bound),
      true,
    ),
    figure(
      'cost of the mixture above the limit',
      'iterations T',
      lines((one) => one.violation),
      true,
    ),
    figure('change of the gap by wrong critics', 'error of critics', changes, false),
  ]
}

/** Lines on logarithmic axes with the slope -1/2 dashed, or on plain ones. */
function figure(title: string, xName: string, lines: readonly Line[], logarithmic: boolean): string {
  const drawn = lines.filter(({ points }) => points.length > 0)
  const all = drawn.flatMap(({ points }) => points)
  const caption = `<figcaption>${escape(title)}</figcaption>`
  if (all.length === 0) return `<figure>${caption}<p class="note">Nothing above 0.</p></figure>`
  const xs = all.map(([x]) => x)
  const ys = all.map(([, y]) => y)
  const [left, right] = [Math.min(...xs), Math.max(...xs)]
  const [low, high] = [Math.min(...ys), Math.max(...ys)]
  const across: [number, number] = [FRAME.left, FRAME.width - FRAME.right]
  const up: [number, number] = [FRAME.height - FRAME.bottom, FRAME.top]
  const x = logarithmic ? logScale([left, right], across) : linearScale([left, right], across)
  const y = logarithmic ? logScale([low * 0.8, high * 1.25], up) : linearScale([low, high], up)
  const slope = high * Math.sqrt(left)
  const guide = logarithmic
    ? [line(x(left), y(high), x(right), y(Math.max(low * 0.8, slope / Math.sqrt(right))), 'limit')]
    : []
  const body = [
    ...axes(FRAME, x, y, (value, digits = 3) => String(Number(value.toPrecision(digits)))),
    ...guide,
    ...drawn.map(({ points }, k) =>
      polyline(
        points.map(([a, b]): [number, number] => [x(a), y(b)]),
        `curve s${k % 4}`,
      ),
    ),
    ...drawn.flatMap(({ name, points }, k) =>
      points.map(([a, b]) => marker('circle', x(a), y(b), 3, `mark s${k % 4} mean`, `${name}: ${b.toPrecision(3)}`)),
    ),
    text((FRAME.left + FRAME.width) / 2, FRAME.height - 8, xName, 'axis-name', 'middle'),
    ...(logarithmic ? [text(FRAME.width - FRAME.right, FRAME.top - 8, 'dashed: 1/sqrt(T)', 'axis-name', 'end')] : []),
  ]
  return `<figure>${caption}${svg(FRAME, title, body)}</figure>`
}

/** Header and rows: shares of the four cases in the longest runs. */
function casesTable(runs: readonly Run[][]): [string[], string[][]] {
  const rows = runs.map((row) => {
    const { instance, settings, course } = row.at(-1)!
    const shares = CASES.map((name) => `${((100 * course.counts[name]) / settings.iterations).toFixed(1)} %`)
    return [instance.cmdp.name, String(settings.iterations), ...shares, course.weight.toFixed(2)]
  })
  return [['process', 'iterations', ...CASES, 'largest weight'], rows]
}

function variantsTable({ variants }: TheoryResult): [string[], string[][]] {
  const names = Object.values(variants)[0]?.map(({ instance }) => instance.cmdp.name) ?? []
  const number = (value: number | null): string => (value === null ? 'no step' : value.toFixed(3))
  const rows = Object.entries(variants).flatMap(([variant, runs]) => [
    [`${variant}: gap`, ...runs.map(({ gap }) => number(gap))],
    [`${variant}: above the limit`, ...runs.map(({ violation }) => number(violation))],
  ])
  return [['variant', ...names], rows]
}
