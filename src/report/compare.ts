import { knownSchema } from '../config/schema.js'
import { formatSeconds } from '../train/progress.js'
import { verdictBox } from './certificate.js'
import { formatFixed, formatSpread } from './format.js'
import { linkToReport, page, section } from './page.js'
import type { RunData } from './run-data.js'
import { scatterChart } from './scatter.js'
import { limitOf, pointsOf, policyGroups } from './sections.js'
import { escape } from './svg.js'
import { own } from '../base/own.js'

/** One run in a comparison: the columns of the terminal table and of the page. */
export interface ComparisonRow {
  algorithm: string
  return: string
  cost: string
  normalized_reward: string
  /** DSRL's convention. */
  normalized_cost: string
  within_limit: string
  training_environment_steps: string
  verdict: string
  /** Mean cost <= limit; null where nothing was measured. */
  safe: boolean | null
}

export const COMPARISON_HEADER = [
  'algorithm',
  'return',
  'cost',
  'norm. reward',
  'norm. cost',
  'within limit',
  'env. steps',
  'certificate',
] as const

/**
 * An algorithm's name as papers write it. A report must open without the package's schema: then it is the plain name.
 */
export const labelOf = (algorithm: string): string =>
  own(knownSchema()?.algorithms ?? {}, algorithm)?.label ?? algorithm

/** The measured cost, or every one of several by its name. */
function costsOf(evaluation: RunData['evaluation']): string {
  const costs = evaluation?.costs
  if (!costs) return formatSpread(evaluation?.cost.mean, evaluation?.cost.std)
  return costs.map(({ name, cost }) => `${name} ${formatSpread(cost.mean, cost.std)}`).join('; ')
}

export function comparisonRow({ record, evaluation, certificate, result }: RunData): ComparisonRow {
  const within = evaluation?.within_limit ?? null
  return {
    algorithm: labelOf(record.algorithm),
    return: formatSpread(evaluation?.return.mean, evaluation?.return.std),
    cost: costsOf(evaluation),
    normalized_reward: formatFixed(evaluation?.normalized_reward, 3),
    normalized_cost: formatFixed(evaluation?.normalized_cost?.dsrl, 3),
    within_limit: within === null ? '–' : `${within.episodes}/${evaluation?.episodes}`,
    training_environment_steps: String(result?.environment_steps?.training ?? '–'),
    verdict: certificate?.verdict ?? 'none given',
    safe: evaluation?.costs?.every((one) => one.safe) ?? evaluation?.safe ?? null,
  }
}

/** Runs side by side: table, all policies in one scatter over the data, certificates. */
export function comparisonPage(runs: readonly RunData[], out: string): string {
  const first = runs[0]
  const task = first?.record.task?.task ?? first?.record.dataset.source ?? ''
  const limit = first === undefined ? null : limitOf(first)
  const groups = runs.flatMap((run) => policyGroups(run, labelOf(run.record.algorithm)))
  const data = runs.map((run) => pointsOf(run)).find((points) => points.length > 0) ?? []
  const episodes = first?.evaluation?.episodes
  const facts = [
    ...(limit === null ? [] : [`cost limit ${limit}`]),
    ...(first?.record.preset ? [`preset ${first.record.preset}`] : []),
    ...(episodes === undefined ? [] : [`${episodes} evaluation episodes each, the same seeds`]),
  ]
  const chart =
    data.length + groups.length === 0 ? '' : `<figure class="card">${scatterChart(data, groups, limit)}</figure>`
  const title = `${runs.map((run) => labelOf(run.record.algorithm)).join(', ')} on ${task}`
  return page(`drcorl: ${title}`, [
    `<header><h1>${escape(title)}</h1><p class="sub">${escape(facts.join(' · '))}</p></header>`,
    section('Result', table(runs, out), NOTE),
    section('Return against cost', chart),
    section('Certificates', ...runs.map(certificate)),
    `<footer>Made by drcorl ${escape(first?.record.versions.drcorl ?? '')} from the files of ${runs.length} run folders.</footer>`,
  ])
}

const NOTE =
  '<p class="note">Mean ± standard deviation over episodes. Normalised reward is (R − Rmin) / (Rmax − Rmin); normalised cost is (C + e) / (l + e), e = 1 only at limit 0 (DSRL). Within the limit means raw cost at most the limit. Env. steps are those used in training.</p>'

function table(runs: readonly RunData[], out: string): string {
  const head = [...COMPARISON_HEADER, 'training', 'report'].map((name) => `<th scope="col">${name}</th>`).join('')
  const rows = runs.map((run) => {
    const { algorithm, verdict, safe, ...cells } = comparisonRow(run)
    const tone = safe === true ? 'within' : safe === false ? 'over' : ''
    const numbers = Object.entries(cells).map(
      ([name, cell]) => `<td${name === 'cost' && tone ? ` class="${tone}"` : ''}>${escape(cell)}</td>`,
    )
    const seconds = run.result?.wall_seconds
    const reused = run.record.reused?.seconds ?? null
    const more = reused === null ? '' : ` + ${formatSeconds(reused)} reused`
    const time = seconds === undefined ? '–' : `${formatSeconds(seconds)}${more}`
    return `<tr><th scope="row">${escape(algorithm)}</th>${numbers.join('')}<td>${escape(verdict)}</td><td>${time}</td><td>${linkToReport(run.folder, out)}</td></tr>`
  })
  return `<div class="scroll"><table class="numbers"><thead><tr>${head}</tr></thead><tbody>${rows.join('\n')}</tbody></table></div>`
}

function certificate(run: RunData): string {
  if (run.certificate === null) return ''
  return `<h3>${escape(labelOf(run.record.algorithm))}</h3>${verdictBox(run.certificate, run.provenance)}`
}
