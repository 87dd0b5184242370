import { estimateChart, estimateTable, estimatesOf, policyEstimates } from './estimates.js'
import { formatFixed, formatNumber, formatValue, words } from './format.js'
import { factTable, section } from './page.js'
import { type Json, type RunData, at, isObject, numberAt, textsAt } from './run-data.js'
import { escape } from './svg.js'

/** Keys of a certificate that this page lays out itself; any other is listed as it stands. */
const KNOWN = new Set([
  'verdict',
  'reasons',
  'notes',
  'cost_limit',
  'gate',
  'estimates',
  'validity',
  'branches',
  'policy_distance',
  'policies',
  'environment_steps',
])

/** What the offline data say about the policy, and why the verdict is what it is. */
export function certificateSection(run: RunData, limit: number | null): string {
  const { certificate, evaluation } = run
  if (certificate === null) {
    const why = run.result === null ? 'training has not ended' : `${run.record.algorithm} gives none`
    return section('Certificate', `<p class="sub">No certificate: ${escape(why)}.</p>`)
  }
  const estimates = estimatesOf(at(certificate, 'estimates'))
  const measured =
    evaluation === null
      ? null
      : { cost: { mean: evaluation.cost.mean, ci95: evaluation.cost.ci95 }, episodes: evaluation.episodes }
  const explain =
    'Every estimate is made from the dataset alone. Dots are means over states or rollouts, bars reach to the upper bound' +
    (measured === null ? '.' : '; the square is what evaluation measured afterwards, with its 95 % interval.')
  return section(
    'Certificate',
    verdictBox(certificate),
    estimates.length > 0 ? `<figure class="card">${estimateChart(estimates, limit, measured)}</figure>` : '',
    estimates.length > 0 ? `<p class="note">${explain}</p>` : '',
    estimates.length > 0 ? estimateTable(estimates, limit) : '',
    `<div class="columns">${[gate(certificate), validity(certificate), distance(certificate)].join('')}</div>`,
    branches(certificate),
    ...policyEstimates(certificate).map(
      ({ policy, estimates: own }) =>
        `<details><summary>Estimates of the ${escape(words(policy))} policy</summary>${estimateTable(own, limit)}</details>`,
    ),
    rest(certificate),
  )
}

/** The verdict in words, with its reasons and whatever else the core noted. */
export function verdictBox(certificate: Json): string {
  const verdict = String(at(certificate, 'verdict') ?? 'no verdict')
  const good = verdict === 'certified'
  const reasons = textsAt(certificate, 'reasons').map((reason) => `<li>${escape(reason)}</li>`)
  const list = reasons.length > 0 ? `<ul>${reasons.join('')}</ul>` : ''
  const notes = textsAt(certificate, 'notes').map((note) => `<p class="note">${escape(note)}</p>`)
  const sign = good ? '✓' : '✕'
  return `<div class="verdict ${good ? 'ok' : 'bad'}"><strong>${sign} ${escape(capital(verdict))}</strong>${list}${notes.join('')}</div>`
}

const capital = (sentence: string): string => sentence.charAt(0).toUpperCase() + sentence.slice(1)

function gate(certificate: Json): string {
  const found = at(certificate, 'gate')
  if (!isObject(found)) return ''
  const rows = entries(found, ([name, value]) => [words(name), formatValue(value)])
  return `<div><h3>Gate</h3>${factTable(rows)}</div>`
}

function validity(certificate: Json): string {
  const found = at(certificate, 'validity')
  if (!isObject(found)) return ''
  const rows = entries(found, ([name, value]) => [words(name), describeValidity(name, value)])
  return `<div><h3>Dynamics model, on held-out episodes</h3>${factTable(rows)}</div>`
}

function describeValidity(name: string, value: unknown): string {
  if (name === 'valid') return value === true ? 'yes' : 'no'
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map(formatValue).join('; ')
  return typeof value === 'number' && !Number.isInteger(value) ? formatFixed(value, 3) : formatValue(value)
}

function distance(certificate: Json): string {
  const found = at(certificate, 'policy_distance')
  if (!isObject(found)) return ''
  const rows = entries(found, ([name, value]) => [
    words(name),
    typeof value === 'number' ? formatNumber(value) : formatValue(value),
  ])
  return `<div><h3>Distance of the policy to the data</h3>${factTable(rows)}</div>`
}

function entries(object: Json, format: (entry: [string, unknown]) => [string, string]): [string, string][] {
  return Object.entries(object).map(format)
}

/** How often each branch of Safe Adaptation ran. */
function branches(certificate: Json): string {
  const found = at(certificate, 'branches')
  if (!isObject(found)) return ''
  const counts = Object.keys(found).map((name) => ({ name, count: numberAt(found, name) ?? 0 }))
  const total = counts.reduce((sum, { count }) => sum + count, 0)
  if (total === 0) return ''
  const share = (count: number): string => `${((100 * count) / total).toFixed(1)} %`
  const bars = counts.map(
    ({ name, count }, index) =>
      `<span class="s${index % 5}" style="width:${share(count).replace(' ', '')}" title="${escape(`${name} ${count}`)}"></span>`,
  )
  const legend = counts.map(({ name, count }, index) => {
    const key = `<svg viewBox="0 0 16 16" aria-hidden="true"><rect x="2" y="2" width="12" height="12" rx="2" class="mark mean s${index % 5}"/></svg>`
    return `<li>${key}${escape(`${words(name)}: ${formatNumber(count)} steps, ${share(count)}`)}</li>`
  })
  return `<h3>Branches of Safe Adaptation</h3><div class="bar">${bars.join('')}</div><ul class="legend">${legend.join('')}</ul>`
}

function rest(certificate: Json): string {
  const unknown = Object.entries(certificate).filter(([name]) => !KNOWN.has(name))
  const rows = unknown.map(([name, value]): [string, string] => [words(name), formatValue(value)])
  return rows.length === 0 ? '' : `<h3>Also recorded</h3>${factTable(rows)}`
}
