/** The result of a benchmark as text: terminal, Markdown, LaTeX and CSV. */
import { formatFixed } from '../report/format.js'
import { type Cell as TerminalCell, terminalTable } from '../report/terminal.js'
import type { Measurement, Score } from './summary.js'

/** One algorithm on one target, or nothing where it has no result. */
export interface Grid {
  targets: string[]
  algorithms: { algorithm: string; label: string }[]
  at(target: string, algorithm: string): Score | undefined
  /** Mean over targets; only where every target has a result. */
  average(algorithm: string): { reward: number | null; cost: number; safe: boolean } | undefined
}

/** The scores of one policy as targets by algorithms. */
export function gridOf(scores: readonly Score[], policy: Score['policy'] = 'used'): Grid {
  const own = scores.filter((one) => one.policy === policy)
  const targets = [...new Set(own.map((one) => one.target))]
  const algorithms = [...new Map(own.map(({ algorithm, label }) => [algorithm, { algorithm, label }])).values()]
  const at: Grid['at'] = (target, algorithm) => own.find((one) => one.target === target && one.algorithm === algorithm)
  return {
    targets,
    algorithms,
    at,
    average(algorithm) {
      const row = targets.map((target) => at(target, algorithm)).filter((one) => one !== undefined)
      if (row.length < targets.length || row.length === 0) return undefined
      const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
      const rewards = row.map((one) => one.reward).filter((value) => value !== null)
      const cost = mean(row.map((one) => one.cost))
      // A mean over targets says nothing of the ones that only models judged.
      const safe = cost <= 1 && row.every((one) => one.judge === 'environment' || one.safe)
      return { reward: rewards.length === row.length ? mean(rewards) : null, cost, safe }
    },
  }
}

const ROUND = 2

interface Style {
  safe(text: string): string
  best(text: string): string
}

const rewardText = (one: { reward: number | null; return?: number }): string =>
  one.reward === null ? formatFixed(one.return, 1) : formatFixed(one.reward, ROUND)

/** Reward and cost of one cell, bold where safe, marked where it is the best safe one. */
function pair(one: { reward: number | null; cost: number; safe: boolean; best?: boolean }, style: Style): string[] {
  const texts = [rewardText(one), formatFixed(one.cost, ROUND)]
  const shown = one.safe ? texts.map(style.safe) : texts
  return one.best ? [style.best(shown[0]!), shown[1]!] : shown
}

/** Rows of the paper's table: a target a line, reward and cost of every algorithm. */
function paperRows(grid: Grid, style: Style): string[][] {
  const missing = ['–', '–']
  const rows = grid.targets.map((target) => [
    target,
    ...grid.algorithms.flatMap(({ algorithm }) => {
      const one = grid.at(target, algorithm)
      return one === undefined ? missing : pair(one, style)
    }),
  ])
  if (grid.targets.length < 2) return rows
  const average = grid.algorithms.flatMap(({ algorithm }) => {
    const one = grid.average(algorithm)
    return one === undefined ? missing : pair(one, style)
  })
  return [...rows, ['Average', ...average]]
}

export const DETAILS = [
  'algorithm',
  'norm. reward',
  'norm. cost',
  'return',
  'safe',
  'certified',
  'updates',
  'training',
] as const

/** What follows an algorithm's name for a policy beside the one that ships. */
const suffixOf = ({ policy }: Pick<Score, 'policy'>): string => (policy === 'used' ? '' : `, ${policy}`)

export function detailRow(one: Score): string[] {
  const spread = (mean: number | null, std: number | null): string =>
    std === null ? formatFixed(mean, ROUND) : `${formatFixed(mean, ROUND)} ± ${formatFixed(std, ROUND)}`
  return [
    `${one.label}${suffixOf(one)}${one.best ? ' *' : ''}`,
    spread(one.reward, one.reward_std),
    spread(one.cost, one.cost_std),
    formatFixed(one.return, 1),
    safeText(one),
    certifiedText(one),
    one.update_steps === null ? '–' : Math.round(one.update_steps).toLocaleString('en-US'),
    trainingText(one),
  ]
}

/** `47 s (127 s alone)`: what several runs share counts once, in brackets for each. */
function trainingText({ training_seconds: own, training_seconds_alone: alone }: Score): string {
  if (own === null) return '–'
  return `${Math.round(own)} s${alone === null ? '' : ` (${Math.round(alone)} s alone)`}`
}

/** Without an environment nobody has seen that a policy is safe: there is only whether its runs are certified. */
function safeText({ judge, safe, policy }: Score): string {
  if (judge === 'environment') return safe ? 'yes' : 'no'
  return policy !== 'used' ? '–' : safe ? 'certified' : 'not certified'
}

/** `9/10, 9 safe`: certificates given, and how many of them the environment bore out. */
function certifiedText({ policy, judge, certified, certified_safe: safe, runs }: Score): string {
  if (policy !== 'used') return '–'
  return judge === 'environment' && certified > 0 ? `${certified}/${runs}, ${safe} safe` : `${certified}/${runs}`
}

const targetsOf = (scores: readonly Score[]): string[] => [...new Set(scores.map((one) => one.target))]

/** Who judged, in words. */
export const judgeWords = (scores: readonly Score[]): string =>
  scores.every((one) => one.judge === 'environment')
    ? 'measured in the environment'
    : scores.every((one) => one.judge === 'model')
      ? `estimated by rollouts of the certificate’s dynamics models (no environment was used): ${UPPER}`
      : `measured in the environment where there is one, estimated by model rollouts elsewhere: there ${UPPER}`

const UPPER = 'the cost is the upper value that the certificate goes by, and safe says whether every run is certified'

export const LEGEND =
  'norm. reward (R - Rmin) / (Rmax - Rmin); norm. cost C / limit, each run by its own limit, then averaged; ± over runs; safe: norm. cost at most 1; * best reward among the safe'

/** Every target's algorithms, for a terminal. */
export function terminalTables(scores: readonly Score[], stream?: NodeJS.WriteStream): string {
  const tables = targetsOf(scores).map((target) => {
    const rows = scores
      .filter((one) => one.target === target)
      .map((one): TerminalCell[] =>
        detailRow(one).map((text, column) =>
          column === 2
            ? { text, style: one.safe ? 'green' : 'red' }
            : one.best && column === 0
              ? { text, style: 'bold' }
              : { text },
        ),
      )
    return `${target}\n${terminalTable(DETAILS, rows, stream)}`
  })
  return [...tables, `${LEGEND}\n${judgeWords(scores)}`].join('\n\n')
}

const markdownLine = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`

export function markdownTable(header: readonly string[], rows: readonly string[][]): string {
  return [header, header.map((_, column) => (column === 0 ? '---' : '---:')), ...rows].map(markdownLine).join('\n')
}

/** The paper's table and the details of each target. Bold: safe; asterisk: best reward among the safe. */
export function markdown(
  scores: readonly Score[],
  measurements: readonly Measurement[],
  heading: string,
  more: readonly string[] = [],
): string {
  const grid = gridOf(scores)
  const style: Style = { safe: (text) => `**${text}**`, best: (text) => `${text}*` }
  const header = ['task', ...grid.algorithms.flatMap(({ label }) => [`${label} reward`, `${label} cost`])]
  const details = targetsOf(scores).map(
    (target) =>
      `## ${target}\n\n${markdownTable(DETAILS, scores.filter((one) => one.target === target).map(detailRow))}`,
  )
  return `${[
    heading,
    `Normalised reward and cost, ${judgeWords(scores)}. **Bold**: safe. *: best reward among the safe. ${LEGEND}.`,
    markdownTable(header, paperRows(grid, style)),
    ...details,
    ...more,
    `## Runs\n\nThe offline columns were written before an episode was played.\n\n${runsTable(measurements)}`,
  ].join('\n\n')}\n`
}

const RUNS = [
  'target',
  'algorithm',
  'limit',
  'seed',
  'certificate',
  'offline cost (upper)',
  'cost',
  'within limit',
  'offline return',
  'return',
  'training',
] as const

function runsTable(measurements: readonly Measurement[]): string {
  const rows = measurements.map((one) => [
    one.target,
    `${one.label}${suffixOf(one)}`,
    String(one.cost_limit),
    String(one.seed),
    one.policy === 'used' ? (one.verdict ?? '–') : '–',
    `${formatFixed(one.model_cost, 2)} (${formatFixed(one.model_cost_upper, 2)})`,
    one.judge === 'environment' ? formatFixed(one.cost, 2) : '–',
    one.within_limit === null ? '–' : `${one.within_limit}/${one.episodes}`,
    formatFixed(one.model_return, 1),
    one.judge === 'environment' ? formatFixed(one.return, 1) : '–',
    one.training_seconds === null ? '–' : `${Math.round(one.training_seconds)} s`,
  ])
  return markdownTable(RUNS, rows)
}

const latexText = (text: string): string =>
  text.replace(/[\\&%$#_{}~^]/g, (c) => (c === '\\' ? '\\textbackslash{}' : `\\${c}`))

/** The paper's table as a `tabular` with booktabs rules. */
export function latex(scores: readonly Score[]): string {
  const grid = gridOf(scores)
  const style: Style = { safe: (text) => `\\textbf{${text}}`, best: (text) => `\\underline{${text}}` }
  const columns = `l${'rr'.repeat(grid.algorithms.length)}`
  const names = grid.algorithms.map(({ label }) => `\\multicolumn{2}{c}{${latexText(label)}}`)
  const body = paperRows(grid, style).map(([target = '', ...cells]) => {
    const rule = target === 'Average' ? '\\midrule\n' : ''
    return `${rule}${[latexText(target), ...cells].join(' & ')} \\\\`
  })
  return `% bold: safe (normalised cost at most 1); underlined: best reward among the safe; ${judgeWords(scores)}
\\begin{tabular}{${columns}}
\\toprule
Task & ${names.join(' & ')} \\\\
 & ${grid.algorithms.map(() => 'reward & cost').join(' & ')} \\\\
\\midrule
${body.join('\n')}
\\bottomrule
\\end{tabular}
`
}

/** How a run ended, the last columns of a CSV of runs. */
export const ENDING_COLUMNS = [
  'normalized_reward',
  'normalized_cost',
  'within_limit',
  'episodes',
  'verdict',
  'update_steps',
  'training_seconds',
  'reused_seconds',
  'training_environment_steps',
] as const satisfies readonly (keyof Measurement)[]

const CSV_COLUMNS = [
  'target',
  'algorithm',
  'policy',
  'cost_limit',
  'seed',
  'judge',
  'return',
  'cost',
  'model_return',
  'model_cost',
  'model_cost_upper',
  'fqe_return',
  'fqe_cost',
  ...ENDING_COLUMNS,
] as const satisfies readonly (keyof Measurement)[]

/** One line a run and policy, so that any statistic can be computed again. */
export const csv = (measurements: readonly Measurement[]): string => csvOf(CSV_COLUMNS, measurements)

/** CSV of these properties of some objects. */
export const csvOf = <Row>(columns: readonly (keyof Row & string)[], rows: readonly Row[]): string =>
  csvText(
    columns,
    rows.map((row) => columns.map((name) => row[name])),
  )

/** CSV of any cells; null is an empty one. */
export function csvText(header: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const cell = (value: unknown): string => {
    const plain = value === null ? '' : String(value)
    // A spreadsheet takes text that begins so for a formula.
    const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  }
  return `${[header, ...rows.map((row) => row.map(cell))].map((row) => row.join(',')).join('\n')}\n`
}
