import type { Metric } from '../config/results.js'
import { limitsOf } from '../config/limits.js'
import { costColumn } from '../data/episodes.js'
import { type MonitorPoint, type MonitorValue, monitorSteps } from '../train/monitor-file.js'
import { RUN_FILES } from '../train/run-folder.js'
import { formatSeconds } from '../train/progress.js'
import { type Phase, type Series, estimateCurve, phasesOf, seriesOf, smallCurve } from './curves.js'
import { formatFixed, formatNumber, formatSpread, formatValue, words } from './format.js'
import { panelsChart } from './lines.js'
import { type Tile, factTable, htmlTable, section, tiles } from './page.js'
import { type RunData, measuredPolicies } from './run-data.js'
import { type ScatterGroup, type ScatterPoint, scatterChart } from './scatter.js'
import { escape } from './svg.js'

/** The cost limit of a run, or null for an algorithm without one. */
export function limitOf(run: RunData): number | null {
  const limit = run.record.run['cost_limit']
  return typeof limit === 'number' ? limit : (run.certificate?.cost_limit ?? null)
}

/** The numbers a reader looks for first. */
export function headline(run: RunData): string {
  const { certificate, evaluation, result } = run
  const limit = limitOf(run)
  const entries: Tile[] = []
  const verdict = certificate?.verdict
  if (verdict !== undefined) {
    const good = verdict === 'certified'
    entries.push({
      name: 'Offline verdict',
      value: verdict,
      tone: good ? 'ok' : 'bad',
      more: reasonCount(run),
    })
  }
  if (evaluation !== null) {
    const { cost, return: ret, within_limit: within, safe, normalized_reward: score } = evaluation
    const normalised = score === null ? '' : `normalised ${score.toFixed(3)}`
    entries.push({ name: 'Return', value: formatSpread(ret.mean, ret.std), more: normalised })
    const first = evaluation.costs?.[0]?.name
    const against = limit === null ? {} : { more: `limit ${limit}`, tone: safe ? ('ok' as const) : ('bad' as const) }
    const name = first === undefined ? 'Cost' : `Cost ${first}`
    entries.push({ name, value: formatSpread(cost.mean, cost.std), ...against })
    for (const one of evaluation.costs?.slice(1) ?? []) {
      const tone = one.safe ? 'ok' : 'bad'
      const value = formatSpread(one.cost.mean, one.cost.std)
      entries.push({ name: `Cost ${one.name}`, value, more: `limit ${one.cost_limit}`, tone })
    }
    if (within !== null) {
      const more = `episodes; largest cost ${formatNumber(cost.max)}`
      entries.push({ name: 'Within the limit', value: `${within.episodes}/${evaluation.episodes}`, more })
    }
  }
  const steps = result?.environment_steps?.training
  if (steps !== undefined) {
    const seconds = result?.wall_seconds
    const after = run.record.reused ? `, after the pretraining of ${run.record.reused.run}` : ''
    const more = seconds === undefined ? '' : `${formatSeconds(seconds)} of training${after}`
    entries.push({ name: 'Env. steps in training', value: String(steps), more })
  }
  return entries.length === 0 ? '' : tiles(entries)
}

function reasonCount(run: RunData): string {
  const count = run.certificate?.reasons?.length ?? 0
  return count === 0 ? '' : `${count} ${count === 1 ? 'reason' : 'reasons'} below`
}

/**
 * A cost that a run bounds: `further` is its name in tables, of all but the first; `caption` where there are several.
 */
interface Bounded {
  further?: string
  caption?: string
  limit: number | null
}

function boundedCosts(run: RunData): Bounded[] {
  const [first, ...others] = limitsOf(run.record.run)
  const limit = limitOf(run)
  if (first === undefined || others.length === 0) return [{ limit }]
  return [{ caption: first[0], limit }, ...others.map(([name, own]) => ({ further: name, caption: name, limit: own }))]
}

/** Episodes of dataset and policies in the plane of cost and return, one picture for each cost that is bounded. */
export function scatterSection(run: RunData): string {
  if (pointsOf(run).length + policyGroups(run).length === 0) return ''
  const missing = run.evaluation === null ? '<p class="note">Not evaluated yet: <code>drcorl evaluate</code>.</p>' : ''
  const figures = boundedCosts(run).map(({ further, caption, limit }) => {
    const head = caption === undefined ? '' : `<figcaption>Cost ${escape(caption)}</figcaption>`
    const chart = scatterChart(pointsOf(run, further), policyGroups(run, undefined, further), limit)
    return `<figure class="card">${head}${chart}</figure>`
  })
  return section('Return against cost', ...figures, missing)
}

/**
 * Episodes of the dataset, where training wrote them; `cost` is the further cost they are shown by, default the first.
 */
export function pointsOf({ dataset }: RunData, cost?: string): ScatterPoint[] {
  const column = costColumn(cost)
  // Folders of an earlier version have the first cost alone.
  if (dataset === null || !dataset.names.includes(column)) return []
  const costs = dataset.numbers(column)
  return dataset.numbers('return').map((ret, index) => ({ return: ret, cost: costs[index]! }))
}

/**
 * One group a policy of episodes.csv; `rename` gives it another name when several runs are shown together, `cost` is
 * the further cost they are shown by.
 */
export function policyGroups(run: RunData, rename?: string, cost?: string): ScatterGroup[] {
  const { episodes, evaluation } = run
  const column = costColumn(cost)
  if (episodes === null || evaluation === null || !episodes.names.includes(column)) return []
  const policies = episodes.text('policy')
  const returns = episodes.numbers('return')
  const costs = episodes.numbers(column)
  const measured = measuredPolicies(evaluation)
  const shown = rename === undefined ? measured : measured.slice(0, 1)
  return shown.map((policy) => {
    const rows = policies.flatMap((name, row) => (name === policy.policy ? [row] : []))
    const measuredCost = policy.costs?.find(({ name }) => name === cost)?.cost ?? policy.cost
    return {
      name: rename ?? policyName(policy.policy),
      points: rows.map((row) => ({ return: returns[row]!, cost: costs[row]! })),
      mean: {
        cost: measuredCost.mean,
        cost_std: measuredCost.std,
        return: policy.return.mean,
        return_std: policy.return.std,
      },
    }
  })
}

/** What a file of a run holds, for a reader. */
function policyName(file: string): string {
  if (file === RUN_FILES.selected) return 'offline-selected candidate'
  return file === RUN_FILES.mixture ? 'mixture of iterates' : 'the policy to use'
}

/**
 * Curves of training by the roles of the metrics: estimates of the cost first and large, then losses, then the rest.
 */
export function trainingSection(run: RunData): string {
  if (run.metrics === null || run.metrics.rows === 0) return ''
  const phases = phasesOf(run.metrics)
  const roles = new Map(run.declared.map(({ name, role }) => [name, role]))
  const series = seriesOf(run.metrics)
  const costs = series.filter(({ name }) => roles.get(name) === 'estimate')
  const losses = series.filter(({ name }) => roles.get(name) === 'loss')
  const others = series.filter((one) => !costs.includes(one) && !losses.includes(one))
  const large = costs.map(
    (one) =>
      `<figure class="card"><figcaption>${caption(one, run)}, means over stretches of steps</figcaption>${estimateCurve(one, phases, limitOf(run))}</figure>`,
  )
  return section(
    'Training',
    phaseTable(phases),
    ...large,
    losses.length > 0 ? `<h3>Losses</h3>${panels(losses, phases, run)}` : '',
    others.length > 0
      ? `<details><summary>${others.length} other metrics</summary>${panels(others, phases, run)}</details>`
      : '',
  )
}

/** A metric's name with what it means, and its unit, behind it. */
function caption({ name }: Series, { declared }: RunData): string {
  const metric = declared.find((one) => one.name === name)
  if (metric === undefined) return escape(words(name))
  const unit = metric.unit === '1' ? '' : ` (${metric.unit})`
  return `<span title="${escape(metric.meaning)}">${escape(words(name) + unit)}</span>`
}

function panels(series: readonly Series[], phases: readonly Phase[], run: RunData): string {
  const figures = series.map(
    (one) => `<figure><figcaption>${caption(one, run)}</figcaption>${smallCurve(one, phases)}</figure>`,
  )
  return `<div class="panels">${figures.join('\n')}</div>`
}

function phaseTable(phases: readonly Phase[]): string {
  const rows = phases.map(({ name, from, to, seconds }) => [
    words(name),
    formatNumber(to - from),
    formatSeconds(seconds),
    seconds > 0 ? formatNumber((to - from) / seconds) : '–',
  ])
  return htmlTable(['phase', 'steps', 'time', 'steps per second'], rows, 'numbers')
}

/** What each policy measured, with intervals, scores and the formulas behind them. */
export function evaluationSection(run: RunData): string {
  const { evaluation } = run
  if (evaluation === null) return ''
  const rows = measuredPolicies(evaluation).map((policy) => [
    policyName(policy.policy),
    formatSpread(policy.return.mean, policy.return.std),
    formatSpread(policy.cost.mean, policy.cost.std, 2),
    formatNumber(policy.cost.max),
    policy.within_limit === null ? '–' : `${policy.within_limit.episodes}/${policy.episodes}`,
    formatFixed(policy.normalized_reward, 3),
    formatFixed(policy.normalized_cost?.dsrl, 3),
    formatFixed(policy.normalized_cost?.paper, 3),
    formatFixed(policy.normalized_cost?.release, 3),
  ])
  const header = [
    'policy',
    'return',
    'cost',
    'max cost',
    'within limit',
    'norm. reward',
    'cost: DSRL',
    'paper',
    'release',
  ]
  const costs = measuredPolicies(evaluation).flatMap((policy) =>
    (policy.costs ?? []).map((one) => [
      policyName(policy.policy),
      one.name,
      formatNumber(one.cost_limit),
      formatSpread(one.cost.mean, one.cost.std, 2),
      `${one.within_limit.episodes}/${policy.episodes}`,
      one.safe ? 'kept' : 'not kept',
    ]),
  )
  const every = ['policy', 'cost', 'limit', 'measured', 'within limit', 'limit on the mean']
  return section(
    'Evaluation',
    `<p class="sub">${escape(`${evaluation.episodes} episodes in ${evaluation.env}, seeds ${evaluation.seed} to ${evaluation.seed + evaluation.episodes - 1}; mean ± standard deviation.`)}</p>`,
    htmlTable(header, rows, 'numbers'),
    costs.length === 0 ? '' : htmlTable(every, costs, 'numbers'),
    '<p class="note">Normalised reward is (R − Rmin) / (Rmax − Rmin). Normalised cost is (C + e) / (l + e) with e = 1 only at limit 0 (DSRL), (C + 0.1) / (l + 0.1) (paper) or C / (l + 0.1) (the paper’s released code). Within the limit means raw cost at most the limit.</p>',
  )
}

/** Hybrid modes: what the environment said at each visit, beside the offline estimate that was logged next. */
export function visitsSection(run: RunData): string {
  const visits = run.certificate?.visits ?? []
  if (visits.length === 0) return ''
  const estimates = estimatesAfter(run)
  const [, ...others] = boundedCosts(run)
  const further = others.flatMap(({ further: name }) => (name === undefined ? [] : [name]))
  const rows = visits.map(({ step = 0, cost, costs, return: ret, episodes, environment_steps: steps }) =>
    [formatNumber(step), formatFixed(cost, 2), formatFixed(estimates(step), 2)].concat(
      further.map((name) => formatFixed(costs?.[name], 2)),
      [formatFixed(ret, 1), formatNumber(episodes), formatNumber(steps)],
    ),
  )
  const header = ['step', 'measured cost', 'offline estimate'].concat(
    further.map((name) => `measured ${name}`),
    ['measured return', 'episodes', 'environment steps'],
  )
  return section('Visits of the environment', htmlTable(header, rows, 'numbers'))
}

/** The first offline estimate logged at or after a step of the phase that visits. */
function estimatesAfter({ metrics, declared }: RunData): (step: number) => number | null {
  const named = (role: Metric['role']): string | undefined =>
    declared.find((one) => one.role === role && metrics?.names.includes(one.name))?.name
  const [measured, estimate] = [named('measured'), named('estimate')]
  if (metrics === null || measured === undefined || estimate === undefined) return () => null
  const [steps, seen, estimates] = [metrics.numbers('phase_step'), metrics.numbers(measured), metrics.numbers(estimate)]
  return (step) => {
    const row = steps.findIndex((at, index) => at > step && Number.isFinite(seen[index]!))
    return row < 0 ? null : (estimates[row] ?? null)
  }
}

/** What the policy did in the environment while it was trained: watched, and read by nobody but the reader. */
export function monitorSection(run: RunData): string {
  const { monitor } = run
  if (monitor === null || monitor.points.length === 0) return ''
  const lines = (of: (point: MonitorPoint) => MonitorValue) => [
    { name: 'policy', points: monitor.points.map((point) => ({ x: point.update, ...of(point) })) },
  ]
  const valueOf = ({ cost, costs }: MonitorPoint, further?: string): MonitorValue | undefined =>
    further === undefined ? cost : costs?.[further]
  const watched = boundedCosts(run).filter(({ further }) => monitor.points.every((point) => valueOf(point, further)))
  const x_name = 'updates of the algorithm'
  const chart = panelsChart(
    [
      { title: 'return', x_name, lines: lines((point) => point.return) },
      ...watched.map(({ further, caption, limit }) => ({
        title: caption === undefined ? 'cost' : `cost ${caption}`,
        x_name,
        lines: lines((point) => valueOf(point, further)!),
        limit,
      })),
    ],
    { marks: false },
  )
  const about = `${monitor.episodes} episodes at each point, mean and standard deviation, in ${monitor.environment ?? 'an environment of the caller'}. Training never read them; evaluation plays others.`
  return section(
    'While it was trained',
    `<p class="sub">${escape(about)}</p>`,
    `<figure class="card">${chart}</figure>`,
  )
}

/** Interactions with an environment, by purpose. */
export function ledgerSection(run: RunData): string {
  const { evaluation, result } = run
  const rows: [string, string, string][] = []
  const training = result?.environment_steps?.training ?? run.certificate?.environment_steps
  if (typeof training === 'number')
    rows.push([
      'training and selection',
      formatNumber(training),
      training === 0 ? 'data only' : `visits, mode ${formatValue(run.record.run['mode'])}`,
    ])
  if (run.monitor !== null) {
    rows.push([
      'monitor, beside training',
      formatNumber(monitorSteps(run.monitor)),
      'watched; training never read them',
    ])
  }
  if (evaluation !== null) {
    const total = measuredPolicies(evaluation).reduce((sum, { environment_steps: steps }) => sum + steps, 0)
    rows.push(['evaluation, after training', formatNumber(total), 'measures; nothing is chosen by it'])
  }
  return rows.length === 0 ? '' : section('Environment steps', htmlTable(['purpose', 'steps', ''], rows, 'ledger'))
}

/** Resolved parameters and where they came from, the data, the versions. */
export function configSection(run: RunData): string {
  const { record } = run
  const { dataset, versions } = record
  const origins = new Map(Object.entries(record.origins ?? {}))
  const changed = new Set(origins.keys())
  const parameters = (group: Record<string, unknown>): string =>
    factTable(
      Object.entries(group).map(([name, value]) => [name, describeParameter(value, origins.get(name))]),
      changed,
    )
  const facts: [string, string][] = [
    ['dataset', dataset.source],
    ['sha256', dataset.sha256],
    ['transitions', formatNumber(dataset.transitions)],
    ['episodes', formatNumber(dataset.episodes)],
    ['dimensions', `${dataset.obs_dim} observations, ${dataset.act_dim} actions`],
    [
      'versions',
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(', '),
    ],
    ['created', record.created],
  ]
  return section(
    'Configuration',
    `<h3>Data and versions</h3>${factTable(facts)}`,
    `<div class="columns"><div><h3>Run</h3>${parameters(record.run)}</div><div><h3>${escape(record.algorithm)}</h3>${parameters(record.config)}</div></div>`,
    '<p class="note">• is no default: preset, file or flag.</p>',
  )
}

function describeParameter(value: unknown, origin: string | undefined): string {
  return origin === undefined ? formatValue(value) : `${formatValue(value)}  (${formatValue(origin)})`
}
