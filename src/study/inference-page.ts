/** The times of decisions as CSV, Markdown, a page and the figure in the paper's form. */
import { published } from '../benchmark/published.js'
import { csvText, markdownTable } from '../benchmark/tables.js'
import { htmlTable, page, section, svgFile } from '../report/page.js'
import { formatFixed } from '../report/format.js'
import {
  type Frame,
  type Marker,
  axes,
  escape,
  extent,
  line,
  linearScale,
  logScale,
  marker,
  svg,
  text,
} from '../report/svg.js'
import type { InferenceResult, InferenceRow } from './inference.js'
import { DECISIONS, type Timing } from './timing.js'

const HEADER = [
  'system',
  'kind',
  '1,000 one by one',
  'fastest',
  'target',
  'one batch of 1,000',
  'published (GPU)',
  'score',
] as const

export const INFERENCE_LEGEND =
  'one by one: 1,000 sequential decisions of one row, called from JavaScript, warm, median of three rounds; batch: the same for 1,000 rows in one call; target: what one core may take for the sequential ones; ~: scaled from fewer decisions, which took long enough'

export const UNTRAINED =
  'The policies have the published sizes and are untrained: each was made by one step of every phase on made-up data. Times do not depend on what was learnt.'

const nameOf = ({ label, plan }: InferenceRow): string => (plan === null ? label : `${label}, ${plan}`)

/** Seconds to three digits, whatever their size. */
function secondsText(seconds: number): string {
  if (seconds >= 100) return `${Math.round(seconds).toLocaleString('en-US')} s`
  return seconds >= 1e-3 ? `${Number(seconds.toPrecision(3))} s` : `${Number((1000 * seconds).toPrecision(3))} ms`
}

const timeText = ({ decisions }: Timing, seconds: number): string =>
  `${decisions < DECISIONS ? '~' : ''}${secondsText(seconds)}`

function scoreText({ score }: InferenceRow): string {
  if (score === null) return '–'
  return `${formatFixed(score.score, score.normalized ? 2 : 1)} ${score.safe ? 'safe' : 'unsafe'} (${score.runs} runs)`
}

/** The rows for a terminal or a table. */
export const inferenceTable = (rows: readonly InferenceRow[]): { header: string[]; rows: string[][] } => ({
  header: [...HEADER],
  rows: rows.map((row) => [
    nameOf(row),
    row.kind,
    timeText(row.sequential, row.sequential.seconds),
    timeText(row.sequential, row.sequential.fastest),
    row.target === null ? '–' : `<= ${secondsText(row.target)}: ${row.met ? 'met' : 'NOT met'}`,
    timeText(row.batch, row.batch.seconds),
    row.published === null ? '–' : secondsText(row.published.seconds),
    scoreText(row),
  ]),
})

export function inferenceCsv({ rows }: InferenceResult): string {
  const columns = [
    'algorithm',
    'plan',
    'preset',
    'kind',
    'runtime',
    'sequential_seconds',
    'sequential_fastest',
    'sequential_decisions',
    'batch_seconds',
    'batch_fastest',
    'batch_rows',
    'target_seconds',
    'met',
    'published_gpu_seconds',
    'published_score',
    'score',
    'score_runs',
    'safe',
  ]
  return csvText(
    columns,
    rows.map(({ sequential, batch, published: printed, score, ...row }) => [
      row.algorithm,
      row.plan,
      row.preset,
      row.kind,
      row.runtime,
      sequential.seconds,
      sequential.fastest,
      sequential.decisions,
      batch.seconds,
      batch.fastest,
      batch.decisions,
      row.target,
      row.met,
      printed?.seconds ?? null,
      printed?.score ?? null,
      score?.score ?? null,
      score?.runs ?? null,
      score?.safe ?? null,
    ]),
  )
}

interface Head {
  command: string
  picture: string
}

const factsOf = ({ machine, sizes }: InferenceResult): string =>
  `${sizes.obs_dim} observations, ${sizes.act_dim} actions; ${machine}.`

const publishedText = (): string =>
  `Published: the paper's Figure 2a (${published().source}): ${published().figure_2a.about}. It is another machine and another task: a number to stand beside, not to be compared digit by digit.`

export function inferenceMarkdown(result: InferenceResult, { command, picture }: Head): string {
  const { header, rows } = inferenceTable(result.rows)
  return `${[
    '# Time of a decision',
    `Made by \`${command}\`. ${factsOf(result)}`,
    UNTRAINED,
    markdownTable(header, rows),
    `${INFERENCE_LEGEND}.`,
    publishedText(),
    `![seconds of 1,000 decisions, ours and published](${picture})`,
  ].join('\n\n')}\n`
}

export function inferencePage(result: InferenceResult, { command }: Head): string {
  const { header, rows } = inferenceTable(result.rows)
  const { frame, label, body } = drawing(result.rows)
  return page('drcorl: time of a decision', [
    `<header><h1>Time of a decision</h1><p class="sub">${escape(factsOf(result))} Made by <code>${escape(command)}</code></p></header>`,
    section('Figure', `<figure class="card">${svg(frame, label, body)}</figure>`),
    section('Times', htmlTable(header, rows, 'numbers'), `<p class="note">${escape(INFERENCE_LEGEND)}.</p>`),
    `<p class="note">${escape(UNTRAINED)}</p><p class="note">${escape(publishedText())}</p>`,
  ])
}

export function inferenceSvg({ rows }: InferenceResult): string {
  const { frame, label, body } = drawing(rows)
  return svgFile(frame, label, body)
}

interface Drawing {
  frame: Frame
  label: string
  body: string[]
}

/** With scores the paper's plane of time and score; without, a line for each system. */
const drawing = (rows: readonly InferenceRow[]): Drawing =>
  rows.some(({ score }) => score !== null) ? plane(rows) : ladder(rows)

const KEYS = [
  { css: 'mark s0 mean', shape: 'circle', name: 'ours, one by one' },
  { css: 'mark s2 mean', shape: 'square', name: 'ours, one batch' },
  { css: 'mark hollow', shape: 'diamond', name: 'published, GPU' },
] as const
const AXIS = 'seconds for 1,000 decisions'

function keyMarks(keys: readonly { css: string; shape: Marker; name: string }[]): string[] {
  return keys.map(({ css, shape, name }, index) => {
    const x = 20 + 190 * index
    return marker(shape, x, 18, 5, css) + text(x + 11, 22, name, 'tick')
  })
}

/** Powers of ten around what is shown. */
function decades(values: readonly number[]): [number, number] {
  const [low, high] = extent(values)
  return [10 ** Math.floor(Math.log10(low) - 0.05), 10 ** Math.ceil(Math.log10(high) + 0.05)]
}

const secondsTick = (value: number): string =>
  value < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(1)))

function ladder(rows: readonly InferenceRow[]): Drawing {
  const frame: Frame = { width: 1000, height: 70 + 26 * rows.length + 50, left: 150, right: 40, top: 60, bottom: 50 }
  const all = rows.flatMap(({ sequential, batch, published: printed, target }) => [
    sequential.seconds,
    batch.seconds,
    ...(printed === null ? [] : [printed.seconds]),
    ...(target === null ? [] : [target]),
  ])
  const floor = frame.height - frame.bottom
  const x = logScale(decades(all), [frame.left, frame.width - frame.right], 8)
  const y = Object.assign(linearScale([-0.5, rows.length - 0.5], [frame.top, floor]), { ticks: [] as number[] })
  const body = rows.flatMap((row, place) => {
    const at = y(place)
    const { sequential, batch, published: printed, target, met } = row
    return [
      line(frame.left, at, frame.width - frame.right, at, 'grid'),
      text(frame.left - 10, at + 4, nameOf(row), 'tick', 'end'),
      target === null ? '' : line(x(target), at - 9, x(target), at + 9, 'limit'),
      printed === null
        ? ''
        : marker('diamond', x(printed.seconds), at, 5, KEYS[2].css, `published: ${printed.seconds} s`),
      marker('square', x(batch.seconds), at, 5, KEYS[1].css, `batch: ${secondsText(batch.seconds)}`),
      marker('circle', x(sequential.seconds), at, met === false ? 7 : 5, KEYS[0].css, secondsText(sequential.seconds)),
    ]
  })
  const targetKey = [line(590, 10, 590, 26, 'limit'), text(600, 22, 'target, one core', 'tick')]
  return {
    frame,
    label: 'Seconds for 1,000 decisions of every system, ours and published',
    body: [
      ...keyMarks(KEYS),
      ...targetKey,
      ...axes(frame, x, y, secondsTick),
      ...x.ticks.map((tick) => line(x(tick), frame.top - 12, x(tick), floor, 'grid')),
      ...body,
      text((frame.left + frame.width - frame.right) / 2, frame.height - 8, AXIS, 'axis-name', 'middle'),
    ],
  }
}

/** Time against score: filled ours, blue where safe; hollow what the paper plotted. */
function plane(rows: readonly InferenceRow[]): Drawing {
  const frame: Frame = { width: 1000, height: 480, left: 64, right: 90, top: 56, bottom: 50 }
  const ours = rows.flatMap((row) => (row.score === null ? [] : [{ row, x: row.sequential.seconds, ...row.score }]))
  const printed = ours.every(({ normalized }) => normalized)
    ? rows.flatMap((row) => (row.published === null ? [] : [{ row, x: row.published.seconds, ...row.published }]))
    : []
  const points = [...ours, ...printed]
  const x = logScale(decades(points.map((point) => point.x)), [frame.left, frame.width - frame.right], 8)
  const [low, high] = extent(points.map(({ score }) => score))
  const room = (high - low) * 0.08 || 0.1
  const y = linearScale([low - room, high + room], [frame.height - frame.bottom, frame.top])
  const keys = [
    { css: 'mark s0 mean', shape: 'circle', name: 'ours, safe' },
    { css: 'mark s1 mean', shape: 'square', name: 'ours, over the limit' },
    { css: 'mark hollow', shape: 'diamond', name: 'published, GPU, its own task' },
  ] as const
  return {
    frame,
    label: 'Score against seconds for 1,000 decisions',
    body: [
      ...keyMarks(keys),
      ...axes(frame, x, y, secondsTick),
      text(frame.left - 46, frame.top - 10, 'score', 'axis-name'),
      ...printed.map((point) => named(x(point.x), y(point.score), keys[2], `${point.row.label}`, 'tick')),
      ...ours.map((point) => named(x(point.x), y(point.score), keys[point.safe ? 0 : 1], nameOf(point.row), '')),
      text(
        (frame.left + frame.width - frame.right) / 2,
        frame.height - 8,
        `${AXIS}, one by one`,
        'axis-name',
        'middle',
      ),
    ],
  }
}

const named = (
  x: number,
  y: number,
  { css, shape }: { css: string; shape: Marker },
  name: string,
  words: string,
): string => marker(shape, x, y, 6, css, name) + text(x + 9, y + 4, name, words)
