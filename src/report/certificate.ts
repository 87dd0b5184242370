import type { BranchCounts, Certificate } from '../config/results.js'
import type { Stored } from '../config/stored.js'
import { type Provenance, provenanceNote } from '../policy/provenance.js'
import { estimateChart, estimateTable, estimatesOf, policyEstimates } from './estimates.js'
import { formatFixed, formatNumber, formatValue, words } from './format.js'
import { factTable, section } from './page.js'
import type { RunData } from './run-data.js'
import { escape } from './svg.js'

/** Keys of a certificate that this page lays out itself; any other is listed as it stands. */
const KNOWN = new Set<string>([
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
  'policy_files',
  'environment_steps',
  'visits',
] satisfies (keyof Certificate)[])

/** What the offline data say about the policy, and why the verdict is what it is. */
export function certificateSection(run: RunData, limit: number | null): string {
  const { certificate, evaluation } = run
  if (certificate === null) {
    const why = run.result === null ? 'training has not ended' : `${run.record.algorithm} gives none`
    return section('Certificate', `<p class="sub">No certificate: ${escape(why)}.</p>`)
  }
  const estimates = estimatesOf(certificate.estimates)
  const measured =
    evaluation === null
      ? null
      : { cost: { mean: evaluation.cost.mean, ci95: evaluation.cost.ci95 }, episodes: evaluation.episodes }
  const explain =
    'Every estimate is made from the dataset alone. Dots are means over states or rollouts, bars reach to the upper bound' +
    (measured === null ? '.' : '; the square is what evaluation measured afterwards, with its 95 % interval.')
  return section(
    'Certificate',
    verdictBox(certificate, run.provenance),
    estimates.length > 0 ? `<figure class="card">${estimateChart(estimates, limit, measured)}</figure>` : '',
    estimates.length > 0 ? `<p class="note">${explain}</p>` : '',
    estimates.length > 0 ? estimateTable(estimates, limit) : '',
    `<div class="columns">${[gate(certificate), validity(certificate), distance(certificate)].join('')}</div>`,
    branches(certificate),
    ...policyEstimates(certificate).map(
      ({ policy, estimates: own }) =>
        `<details><summary>Estimates of the ${escape(words(policy))} policy</summary>${estimateTable(own, limit)}</details>`,
    ),
    files(certificate),
    rest(certificate),
  )
}

/** The verdict in words, with its reasons and whatever else the core noted. */
export function verdictBox(
  { verdict, reasons = [], notes = [] }: Stored<Certificate>,
  provenance: Provenance | null,
): string {
  const good = verdict === 'certified'
  const items = reasons.map((reason) => `<li>${escape(reason)}</li>`)
  const list = items.length > 0 ? `<ul>${items.join('')}</ul>` : ''
  const unsure = provenanceNote(provenance)
  const more = [...(unsure === null ? [] : [capital(unsure)]), ...notes].map(
    (note) => `<p class="note">${escape(note)}</p>`,
  )
  const sign = good ? '✓' : '✕'
  return `<div class="verdict ${good ? 'ok' : 'bad'}"><strong>${sign} ${escape(capital(verdict ?? 'no verdict'))}</strong>${list}${more.join('')}</div>`
}

const capital = (sentence: string): string => sentence.charAt(0).toUpperCase() + sentence.slice(1)

function gate({ gate: found }: Stored<Certificate>): string {
  if (!found) return ''
  const rows = entries(found, ([name, value]) => [words(name), formatValue(value)])
  return `<div><h3>Gate</h3>${factTable(rows)}</div>`
}

function validity({ validity: found }: Stored<Certificate>): string {
  if (!found) return ''
  const rows = entries(found, ([name, value]) => [words(name), describeValidity(name, value)])
  return `<div><h3>Dynamics model, on held-out episodes</h3>${factTable(rows)}</div>`
}

function describeValidity(name: string, value: unknown): string {
  if (name === 'valid') return value === true ? 'yes' : 'no'
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map(formatValue).join('; ')
  return typeof value === 'number' && !Number.isInteger(value) ? formatFixed(value, 3) : formatValue(value)
}

function distance({ policy_distance: found }: Stored<Certificate>): string {
  if (!found) return ''
  const rows = entries(found, ([name, value]) => [
    words(name),
    typeof value === 'number' ? formatNumber(value) : formatValue(value),
  ])
  return `<div><h3>Distance of the policy to the data</h3>${factTable(rows)}</div>`
}

function entries(object: object, format: (entry: [string, unknown]) => [string, string]): [string, string][] {
  return Object.entries(object).map(format)
}

/** Every step of Safe Adaptation is one of these; the other counts are of steps in the band. */
const BRANCHES = ['reward', 'band', 'cost'] as const satisfies (keyof BranchCounts)[]

/** How often each branch of Safe Adaptation ran. */
function branches({ branches: found }: Stored<Certificate>): string {
  if (!found) return ''
  const counts = BRANCHES.map((name) => ({ name, count: found[name] ?? 0 }))
  const total = counts.reduce((sum, { count }) => sum + count, 0)
  if (total === 0) return ''
  const share = (count: number): string => `${((100 * count) / total).toFixed(1)} %`
  const bars = counts.map(
    ({ name, count }, index) =>
      `<span class="s${index}" style="width:${share(count).replace(' ', '')}" title="${name} ${count}"></span>`,
  )
  const legend = counts.map(({ name, count }, index) => {
    const key = `<svg viewBox="0 0 16 16" aria-hidden="true"><rect x="2" y="2" width="12" height="12" rx="2" class="mark mean s${index}"/></svg>`
    return `<li>${key}${escape(`${name}: ${formatNumber(count)} steps, ${share(count)}`)}</li>`
  })
  const { capped, stalled } = found
  const band =
    capped === undefined && stalled === undefined
      ? ''
      : `<p class="note">In the band a weight of the combination met its cap in ${formatNumber(capped)} steps, and the gradients cancelled in ${formatNumber(stalled)}.</p>`
  return `<h3>Branches of Safe Adaptation</h3><div class="bar">${bars.join('')}</div><ul class="legend">${legend.join('')}</ul>${band}`
}

/** The files that were judged, by their hashes. */
function files({ policy_files: found = [] }: Stored<Certificate>): string {
  const rows = found.map(({ file, sha256 }): [string, string] => [file ?? '–', `sha256 ${sha256 ?? '–'}`])
  return rows.length === 0 ? '' : `<h3>Policy files</h3>${factTable(rows)}`
}

function rest(certificate: Stored<Certificate>): string {
  const unknown = Object.entries(certificate).filter(([name]) => !KNOWN.has(name))
  const rows = unknown.map(([name, value]): [string, string] => [words(name), formatValue(value)])
  return rows.length === 0 ? '' : `<h3>Also recorded</h3>${factTable(rows)}`
}
