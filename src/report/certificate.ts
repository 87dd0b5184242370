import type { BranchCounts, Certificate, Tried } from '../config/results.js'
import type { Stored } from '../config/stored.js'
import { type Provenance, provenanceNote } from '../policy/provenance.js'
import { estimateChart, estimateTable, estimatesOf, policyEstimates } from './estimates.js'
import { formatFixed, formatNumber, formatSpread, formatValue, words } from './format.js'
import { factTable, htmlTable, section } from './page.js'
import type { RunData } from './run-data.js'
import { escape } from './svg.js'

/** Keys of a certificate that this page lays out itself; any other is listed as it stands. */
const KNOWN = new Set<string>([
  'verdict',
  'reasons',
  'refusals',
  'notes',
  'cost_limit',
  'margin',
  'decision',
  'thresholds',
  'data',
  'self_test',
  'gate',
  'feasibility',
  'estimates',
  'validity',
  'branches',
  'policy_distance',
  'policies',
  'costs',
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
    everyCost(run),
    estimates.length > 0
      ? `<figure class="card">${estimateChart(estimates, limit, measured, threshold(certificate))}</figure>`
      : '',
    estimates.length > 0 ? `<p class="note">${explain}</p>` : '',
    estimates.length > 0 ? estimateTable(estimates, limit) : '',
    decision(certificate),
    ladder(certificate),
    selfTest(certificate),
    `<div class="columns">${[facts('Gate', certificate.gate), facts('Feasibility', certificate.feasibility, rounded), facts('What the data can show', certificate.data), facts('Thresholds', certificate.thresholds), facts('Distance of the policy to the data', certificate.policy_distance, rounded)].join('')}</div>`,
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
  { verdict, reasons = [], refusals = [], notes = [] }: Stored<Certificate>,
  provenance: Provenance | null,
): string {
  const good = verdict === 'certified'
  const remedies = new Map(refusals.map(({ reason, remedy }) => [reason, remedy]))
  const items = reasons.map((reason) => {
    const remedy = remedies.get(reason)
    const advice = remedy === undefined ? '' : `<br><span class="note">What to do: ${escape(remedy)}.</span>`
    return `<li>${escape(reason)}${advice}</li>`
  })
  const list = items.length > 0 ? `<ul>${items.join('')}</ul>` : ''
  const unsure = provenanceNote(provenance)
  const more = [...(unsure === null ? [] : [capital(unsure)]), ...notes].map(
    (note) => `<p class="note">${escape(note)}</p>`,
  )
  const sign = good ? '✓' : '✕'
  return `<div class="verdict ${good ? 'ok' : 'bad'}"><strong>${sign} ${escape(capital(verdict ?? 'no verdict'))}</strong>${list}${more.join('')}</div>`
}

/** Every one of several costs: its verdict, estimates, and what was measured. */
function everyCost({ certificate, evaluation }: RunData): string {
  const costs = certificate?.costs ?? []
  if (costs.length === 0) return ''
  const rows = costs.map(({ name = '', cost_limit, verdict, estimates, validity }) => {
    const { mean, std, upper } = estimates?.model_rollout?.cost ?? {}
    const measured = evaluation?.costs?.find((one) => one.name === name)
    return [
      name,
      formatNumber(cost_limit ?? null),
      formatSpread(mean ?? null, std ?? null, 2),
      formatFixed(upper, 2),
      verdict ?? '–',
      formatNumber(validity?.horizon ?? null),
      measured === undefined ? '–' : formatSpread(measured.cost.mean, measured.cost.std, 2),
      measured === undefined ? '–' : measured.safe ? 'kept' : 'not kept',
    ]
  })
  const header = [
    'cost',
    'limit',
    'estimate',
    'upper',
    'verdict',
    'models believed over',
    'measured',
    'limit on the mean',
  ]
  return (
    `<h3>Every cost</h3>${htmlTable(header, rows, 'numbers')}` +
    `<p class="note">The verdict is on all of them together. What follows is about ${escape(costs[0]?.name ?? '')}, the first.</p>`
  )
}

const capital = (sentence: string): string => sentence.charAt(0).toUpperCase() + sentence.slice(1)

/** The upper cost that still certifies, where a cost decides. */
function threshold({ decision: found }: Stored<Certificate>): number | null {
  return found?.certify === 'chance' ? null : (found?.threshold ?? null)
}

/** What is certified, at which level, and the numbers that decided. */
function decision({ decision: found, estimates }: Stored<Certificate>): string {
  if (!found) return ''
  const { certify = 'mean', level, bound, threshold: bar } = found
  const model = estimates?.model_rollout
  const share = (value: number | null | undefined): string =>
    typeof value === 'number' ? `${(100 * value).toFixed(1)} %` : 'not known'
  const number = (value: number | null | undefined): string =>
    typeof value === 'number' ? formatFixed(value, 2) : 'not known'
  const of = certify === 'chance' ? share : number
  const worst = typeof level === 'number' ? `the worst ${(100 * (1 - level)).toFixed(1)} %` : 'the worst'
  const played =
    typeof model?.horizon === 'number' ? `stretches of ${model.horizon} steps, then a learnt value` : 'whole episodes'
  const goals = {
    mean: 'mean cost of an episode',
    chance: 'share of episodes within the limit',
    cvar: `mean cost of ${worst} episodes (CVaR)`,
  }
  const deciding = (goal: keyof typeof goals): string => (goal === certify ? `${goals[goal]} (decides)` : goals[goal])
  return `<h3>What is certified</h3>${factTable([
    ['decides', goals[certify] ?? certify],
    [certify === 'chance' ? 'lower bound' : 'upper bound', of(bound)],
    [certify === 'chance' ? 'must be at least' : 'must be at most', of(bar)],
    ['estimated over', played],
    [deciding('mean'), number(model?.cost?.mean)],
    [deciding('chance'), share(model?.within_limit)],
    [deciding('cvar'), number(model?.worst)],
  ])}`
}

/** How far the models were believed: every stretch that was tried. */
function ladder({ validity: found }: Stored<Certificate>): string {
  if (!found) return ''
  const { ladder: rungs = [], horizon = 0, held_out_episodes: episodes = 0, reasons = [] } = found
  const rows = rungs.map((rung) => {
    const cells = [
      rung.cost_correlation,
      rung.cost_bias,
      rung.cost_bias_near_limit,
      rung.false_cost,
      rung.return_correlation,
      rung.return_bias,
    ].map((value) => `<td>${formatFixed(value ?? null, 2)}</td>`)
    const used = rung.horizon === horizon && found.valid === true
    const tone = rung.passed === true ? 'within' : 'over'
    const verdict = rung.passed === true ? (used ? 'passed, used' : 'passed') : (rung.reasons ?? []).join('; ')
    return `<tr${used ? ' class="deciding"' : ''}><th scope="row">${formatNumber(rung.horizon)}</th>${cells.join('')}<td class="${tone}">${escape(verdict)}</td></tr>`
  })
  const head = ['steps', 'cost corr.', 'bias', 'near the limit', 'false cost', 'return corr.', 'bias', 'result']
  const why = reasons.length === 0 ? '' : `<p class="note">${escape(reasons.join('; '))}</p>`
  return (
    `<h3>Dynamics models, replayed on ${formatNumber(episodes)} held-out episodes</h3>` +
    `<p class="note">Logged actions, restarted at logged states every so many steps. The longest stretch that passes is the one estimates are made of.</p>${why}` +
    table(head, rows)
  )
}

/** The estimator tried where the truth is known. */
function selfTest({ self_test: found }: Stored<Certificate>): string {
  if (!found) return ''
  const rows = (found.behaviors ?? []).map((behavior) => {
    const numbers = [behavior.logged, behavior.estimated, behavior.shortfall, behavior.distance]
    const cells = numbers.map((value) => `<td>${formatFixed(value ?? null, 2)}</td>`)
    return `<tr><th scope="row">${formatNumber(behavior.episodes)} episodes</th>${cells.join('')}</tr>`
  })
  const head = ['logged behavior', 'logged', 'its clone, estimated', 'shortfall', 'distance to the next']
  return (
    `<h3>The estimator, tried on clones of logged behavior</h3>` +
    `<p class="note">${escape(estimator(found))}</p>` +
    `<p class="note">Estimates are widened by a shortfall of ${formatFixed(found.shortfall ?? null, 2)}, or by what held-out episodes are read too low where that is more; a policy further than ${formatFixed(found.reach ?? null, 2)} from the nearest behavior is refused.</p>` +
    table(head, rows)
  )
}

/** Which way of estimating was used, and how wrong each was on the clones. */
function estimator({ estimator: used, others = [] }: NonNullable<Stored<Certificate>['self_test']>): string {
  if (!used) return ''
  const way = ({ horizon, error }: Stored<Tried>): string => {
    const what = horizon ? `stretches of ${horizon} steps with a learnt tail` : 'whole episodes'
    return `${what} (${formatFixed(100 * (error ?? Number.NaN), 0)} % off)`
  }
  const rest = others.map(way).join(' and ')
  return `The policy is judged by ${way(used)}${rest === '' ? '' : `; tried beside it: ${rest}`}.`
}

function table(head: readonly string[], rows: readonly string[]): string {
  return (
    `<div class="scroll"><table class="numbers"><thead><tr>${head.map((name) => `<th scope="col">${name}</th>`).join('')}` +
    `</tr></thead><tbody>${rows.join('')}</tbody></table></div>`
  )
}

function facts(title: string, found: object | null | undefined, format = formatValue): string {
  if (!found) return ''
  const rows = entries(found, ([name, value]) => [words(name), format(value)])
  return `<div><h3>${title}</h3>${factTable(rows)}</div>`
}

/** Numbers to three digits. */
const rounded = (value: unknown): string => (typeof value === 'number' ? formatNumber(value) : formatValue(value))

function entries(object: object, format: (entry: [string, unknown]) => [string, string]): [string, string][] {
  return Object.entries(object).map(format)
}

/** Every step of Safe Adaptation is one of these; the other counts are of steps in the band. */
const BRANCHES = ['reward', 'band', 'cost'] as const satisfies (keyof BranchCounts)[]

/** How often each branch of Safe Adaptation ran. */
function branches({ branches: found, feasibility: states }: Stored<Certificate>): string {
  if (!found) return ''
  const counts = BRANCHES.map((name) => ({ name, count: found[name] ?? 0 }))
  const total = counts.reduce((sum, { count }) => sum + count, 0)
  if (total === 0) return ''
  const unit = states ? 'states' : 'steps'
  const share = (count: number): string => `${((100 * count) / total).toFixed(1)} %`
  const bars = counts.map(
    ({ name, count }, index) =>
      `<span class="s${index}" style="width:${share(count).replace(' ', '')}" title="${name} ${count}"></span>`,
  )
  const legend = counts.map(({ name, count }, index) => {
    const key = `<svg viewBox="0 0 16 16" aria-hidden="true"><rect x="2" y="2" width="12" height="12" rx="2" class="mark mean s${index}"/></svg>`
    return `<li>${key}${escape(`${name}: ${formatNumber(count)} ${unit}, ${share(count)}`)}</li>`
  })
  const { capped, stalled } = found
  const band =
    states || (capped === undefined && stalled === undefined)
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
