import { LiveLine, type ProgressStream } from '../base/live-line.js'
import type { Metric } from '../config/results.js'
import { describeFinding } from '../data/checks.js'
import type { EndEvent, MonitorEvent, ProgressEvent, StartEvent, TrainEvent, VisitEvent } from './events.js'

const BAR_WIDTH = 20
const MOST_LOSSES = 4

/** Shows training events: one line rewritten in place on a terminal, a line every few seconds elsewhere. */
export class Progress {
  private readonly line: LiveLine
  private phase = ''
  private reading: Reading = NOTHING_KNOWN

  constructor(stream: ProgressStream, now?: () => number) {
    this.line = new LiveLine(stream, now)
  }

  show(event: TrainEvent): void {
    if (event.type === 'start') this.start(event)
    else if (event.type === 'progress') this.progress(event)
    else if (event.type === 'visit') this.note(visitLine(event))
    else if (event.type === 'monitor') this.note(monitorLine(event, this.reading.cost_limit))
    else if (event.type === 'end') this.note(endLine(event))
  }

  /** A line of its own, which the live one makes room for. */
  note(text: string): void {
    this.line.note(text)
  }

  /** Ends a line left open, so that what is printed next starts on its own. */
  close(): void {
    this.line.close()
  }

  private start(event: StartEvent): void {
    const limit = event.run['cost_limit']
    this.reading = { metrics: event.metrics, cost_limit: typeof limit === 'number' ? limit : null }
    event.findings.forEach((finding) => this.note(describeFinding(finding)))
    this.note(startLine(event))
  }

  private progress(event: ProgressEvent): void {
    const first = event.phase !== this.phase
    if (first) this.line.close()
    // The last line of a phase is always shown: it holds the losses the phase ended with.
    this.line.update(
      progressLine(event, this.line.isTerminal, this.reading),
      first || event.phase_step >= event.phase_steps,
    )
    this.phase = event.phase
  }
}

/** What a reader of progress has to know of the run: its metrics in their order, and the limit of the episodic cost. */
export interface Reading {
  metrics: readonly Metric[]
  cost_limit: number | null
}

const NOTHING_KNOWN: Reading = { metrics: [], cost_limit: null }

/**
 * The first losses and every estimate or measurement of the cost, by the roles of the metrics:
 * `critics     3,200/9,500  34 %  412 steps/s  ETA 1m 20s  q_loss 0.12  cost estimate 8.2 (limit 10)`
 */
export function progressLine(event: ProgressEvent, bar: boolean, reading: Reading): string {
  const { phase_step, phase_steps, step, steps } = event
  const share = steps > 0 ? step / steps : 1
  const filled = Math.round(share * BAR_WIDTH)
  const parts = [
    event.phase.padEnd(10),
    `${phase_step}/${phase_steps}`,
    ...(bar ? [`[${'#'.repeat(filled)}${'-'.repeat(BAR_WIDTH - filled)}]`] : []),
    `${Math.floor(share * 100)} %`,
    `${formatRate(event.steps_per_second)} steps/s`,
    `ETA ${formatSeconds(event.eta_seconds)}`,
    ...told(event, reading),
  ]
  return parts.join('  ')
}

export function formatSeconds(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds)) return '?'
  const whole = Math.round(seconds)
  const days = Math.floor(whole / 86400)
  const hours = Math.floor((whole % 86400) / 3600)
  const minutes = Math.floor((whole % 3600) / 60)
  if (days > 0) return `${days}d ${hours}h`
  if (hours > 0) return `${hours}h ${minutes}m`
  return minutes > 0 ? `${minutes}m ${whole % 60}s` : `${whole}s`
}

function startLine(event: StartEvent): string {
  const { dataset, run, steps, phases } = event
  const limit = run['cost_limit']
  const parts = [
    `${event.algorithm}${event.preset === null ? '' : ` (preset ${event.preset})`}`,
    `${dataset.transitions} transitions, ${dataset.episodes} episodes of ${dataset.source}`,
    ...(typeof limit === 'number' ? [`cost limit ${limit}`] : []),
    `${steps} steps: ${phases.map((phase) => `${phase.name} ${phase.steps}`).join(', ')}`,
    `device ${event.device.device} (${event.device.why})`,
    `run folder ${event.run_dir}`,
  ]
  if (event.reused !== null)
    parts.push(`goes on from the pretraining of ${event.reused.run}: ${event.reused.step} steps`)
  if (event.resumed) parts.push(`resumed at step ${event.step}`)
  return parts.join('\n  ')
}

function visitLine({ number, episodes, step, ...found }: VisitEvent): string {
  const named = Object.entries(found.costs ?? {}).map(([name, mean]) => `cost ${name} ${formatNumber(mean)}`)
  const cost = named.length === 0 ? `cost ${formatNumber(found.cost)}` : named.join(', ')
  const means = `${cost}, return ${formatNumber(found.return)}`
  return `visit ${number} before step ${step}: ${means} over ${episodes} episodes, ${found.environment_steps} environment steps`
}

function monitorLine({ update, episodes, environment_steps, ...found }: MonitorEvent, limit: number | null): string {
  const against = limit === null ? '' : ` (limit ${formatNumber(limit)})`
  const means = `cost ${formatNumber(found.cost.mean)}${against}, return ${formatNumber(found.return.mean)}`
  return `monitor after ${update} updates: ${means} over ${episodes} episodes, ${environment_steps} environment steps, none read by training`
}

function endLine(event: EndEvent): string {
  const time = formatSeconds(event.wall_seconds)
  if (event.status === 'interrupted') return `interrupted at step ${event.step} of ${event.steps} after ${time}`
  return `done: ${event.steps} steps in ${time}`
}

/** The metrics worth a glance, in their order: the first losses are the ones that matter most. */
function told({ metrics }: ProgressEvent, { metrics: declared, cost_limit }: Reading): string[] {
  const present = declared.flatMap(({ name, role }) => {
    const value = metrics[name]
    return typeof value === 'number' ? [{ name, role, value }] : []
  })
  const losses = present.filter(({ role }) => role === 'loss').slice(0, MOST_LOSSES)
  const costs = present.filter(({ role }) => role === 'estimate' || role === 'measured')
  const against = cost_limit === null ? '' : ` (limit ${formatNumber(cost_limit)})`
  return [
    ...losses.map(({ name, value }) => `${name} ${formatNumber(value)}`),
    ...costs.map(({ name, value }) => `${name.replaceAll('_', ' ')} ${formatNumber(value)}${against}`),
  ]
}

function formatNumber(value: number): string {
  if (value === 0) return '0'
  const size = Math.abs(value)
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)))
}

function formatRate(rate: number): string {
  return rate >= 10 ? rate.toFixed(0) : rate.toFixed(1)
}
